"""cairnctl save and query-config: what runs, as the configuration that would make it again."""

import http.server
import json
import textwrap
import threading

import images
import pytest
import yaml
from cairnctl import cairnctl
from process import run_cairnd
from qmp import QMP
from test_config_files import write

CONFIG = """\
    io-threads: 1
    objects:
    - {qom-type: secret, id: key0, file: @/key}
    - {qom-type: throttle-group, id: limits0, limits: {iops-total: 100000, bps-total: 1000000000}}
    - {qom-type: iothread, id: thread0, poll-max-ns: 1000}
    - {qom-type: authz-list, id: authz0, policy: deny, rules: [{match: "CN=a,*", policy: allow, format: glob}]}
    monitors:
    - {path: qmp.sock, pretty: true}
    - {path: read.sock, role: read}
    nodes:
    - {driver: file, node-name: file0, filename: "@/disk $$ 'x'.qcow2", discard: unmap}
    - {driver: null-co, node-name: base, size: 1048576, read-zeroes: on}
    - {driver: qcow2, node-name: disk0, file: file0, backing: base, l2-cache-size: 131072, cache: {no-flush: true}}
    - driver: throttle
      node-name: slow0
      throttle-group: limits0
      file: {driver: raw, node-name: inner, offset: 0, file: {driver: null-co, size: 65536, latency-ns: 5}}
    - {driver: quorum, node-name: q0, vote-threshold: 1, children: [base, {driver: null-co, size: 1048576}]}
    bitmaps:
    - {node: disk0, name: kept, persistent: true, granularity: 65536}
    - {node: disk0, name: second, granularity: 32768, disabled: true}
    - {node: inner, name: inside, granularity: 65536}
    nbd-server: {addr: {type: unix, path: nbd.sock}, max-connections: 7}
    nbd-servers:
    - {id: other, addr: {type: unix, path: other.sock}}
    exports:
    - {type: nbd, id: e0, node-name: disk0, writable: true, bitmaps: [kept]}
    - {type: nbd, id: e1, node-name: slow0, name: "a name: with # marks", servers: [other], description: "on"}
    - {type: nbd, id: e2, node-name: slow0, name: "1", description: "two\\nlines, \\"a\\" $$ \\\\ 'b' \\x01 \u00e9"}
    """


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "key").write_text("hunter2")
    images.create(tmp_path / "disk $ 'x'.qcow2", "1M")
    return tmp_path


def start(start_daemon, directory, text):
    write(directory / "cairn.yaml", text.replace("@", str(directory)))
    daemon = start_daemon("--config", directory / "cairn.yaml", monitor=False)
    daemon.wait_for_socket(daemon.directory / "qmp.sock")
    while not daemon.connect().execute("query-block-exports"):
        pass
    return daemon


def saved(daemon):
    return cairnctl(daemon.socket, "save").stdout


def test_what_is_saved_is_what_was_described(start_daemon, directory):
    daemon = start(start_daemon, directory, CONFIG)
    text = saved(daemon)
    assert text.startswith("# yaml-language-server: $schema=")
    described = yaml.safe_load(textwrap.dedent(CONFIG).replace("$$", "$").replace("@", str(directory)))
    for server in (described["nbd-server"], *described["nbd-servers"]):
        server["addr"]["path"] = f"{directory}/{server['addr']['path']}"
    assert yaml.safe_load(text.replace("$$", "$")) == described  # which stands for a dollar in double quotes


def test_saved_and_started_and_saved_is_the_same(start_daemon, directory):
    daemon = start(start_daemon, directory, CONFIG)
    cairnctl(daemon.socket, "save", directory / "saved.yaml")
    assert (directory / "saved.yaml").read_text() == saved(daemon)
    assert (directory / "saved.yaml").stat().st_mode & 0o077 == 0
    text = saved(daemon)
    daemon.stop()
    assert saved(start(start_daemon, directory, text)) == text


def test_secrets_are_never_written(start_daemon, directory):
    daemon = start_daemon("--object", "secret,id=s0,data=hunter2", "--object", f"secret,id=s1,file={directory}/key")
    info = daemon.connect().execute("query-config")
    assert "hunter2" not in json.dumps(info)
    assert info["config"] == {"objects": [{"qom-type": "secret", "id": "s1", "file": f"{directory}/key"}]}
    assert "secret 's0': its content is not in a file" in info["left-out"]
    assert "# - secret 's0': its content is not in a file\n" in saved(daemon)


class WebServer(http.server.BaseHTTPRequestHandler):
    """Has a disk of 512 zeroes."""

    def do_GET(self):
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        last = min(last, 511)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/512")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(bytes(last - first + 1))

    def log_message(self, *_):
        pass


def test_neither_are_those_in_options_of_nodes(daemon, qmp):
    """Whoever may read may ask."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WebServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}/a"
    web = {"driver": "http", "url": f"http://me:hunter2@{address}", "cookie": "hunter3", "read-only": True}
    qmp.execute("blockdev-add", node_name="web", **web)
    qmp.execute("blockdev-add", driver="quorum", node_name="q", vote_threshold=1, children=["web", web], read_only=True)
    info = qmp.execute("query-config")
    assert "hunter" not in json.dumps(info)
    assert info["config"]["nodes"][0]["url"] == f"http://{address}"
    assert info["config"]["nodes"][1]["children"][1]["url"] == f"http://{address}"
    for node in ("web", "q"):
        assert {f"node '{node}': its user in url", f"node '{node}': its cookie"} <= set(info["left-out"])
    qmp.execute("config-apply", config={"nodes": [{**web, "node-name": "web"}]})  # what is compared is all there
    assert qmp.execute("config-apply", config={"nodes": [{**web, "node-name": "web"}]})["steps"] == []
    server.shutdown()


def test_changed_properties_are_saved(qmp):
    qmp.execute("object-add", qom_type="throttle-group", id="g", limits={"iops-total": 5, "bps-total": 7})
    qmp.execute("qom-set", path="g", property="limits", value={"iops-total": 6})
    assert qmp.execute("query-config")["config"]["objects"] == [
        {"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": 6, "bps-total": 7}}]


def nodes_of(qmp):
    return qmp.execute("query-config")["config"].get("nodes", [])


def test_the_graph_is_saved_as_it_has_become(daemon, qmp, tmp_path):
    images.create(tmp_path / "overlay.qcow2", "1M")
    qmp.execute("blockdev-add", driver="null-co", node_name="base", size=1 << 20)
    qmp.execute("blockdev-add", driver="raw", node_name="top", file="base")
    overlay = {"driver": "qcow2", "node-name": "overlay", "file": {"driver": "file", "filename": daemon.path("overlay.qcow2")}}
    qmp.execute("blockdev-add", **overlay, backing=None)
    qmp.execute("blockdev-snapshot", node="base", overlay="overlay")
    assert nodes_of(qmp) == [
        {"driver": "null-co", "node-name": "base", "size": 1 << 20},
        {**overlay, "backing": "base"},
        {"driver": "raw", "node-name": "top", "file": "overlay"}]
    qmp.execute("blockdev-reopen", options=[{**overlay, "backing": None, "discard": "unmap"}])
    assert nodes_of(qmp) == [
        {"driver": "null-co", "node-name": "base", "size": 1 << 20},
        {**overlay, "backing": None, "discard": "unmap"},
        {"driver": "raw", "node-name": "top", "file": "overlay"}]


def test_filters_of_jobs_are_looked_through(daemon, qmp):
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": daemon.path("nbd.sock")}})
    qmp.execute("blockdev-add", driver="null-co", node_name="disk0", size=1 << 20)
    qmp.execute("blockdev-add", driver="raw", node_name="top", file="disk0")
    qmp.execute("blockdev-add", driver="null-co", node_name="target", size=1 << 20)
    qmp.execute("block-export-add", type="nbd", id="e", node_name="disk0")
    before = qmp.execute("query-config")
    qmp.execute("blockdev-mirror", job_id="j", device="disk0", target="target", sync="full")
    qmp.wait_event("BLOCK_JOB_READY")
    assert qmp.execute("query-config") == before


# What readers of YAML take for something else, or for the end of a line, and what may not stand in a file at all.
NAMES = ["no", "1e3", "~", "null", "0x10", "a'b", 'a"b', "a\nb", "\n", "\t", " a", "a ", "a: b", "a #b", "- a", "---", "...", "<<",
         "${HOME}", "$$", "\n${HOME}", "\x01\\", "\x7f", "\x80", "\x85", "\xa0", "\u2028", "\u2029", "\ufeff", "\ufffe",
         "\uffff", "\U0001f600", "%a", "@a", "!a", "&a", "*a", "|", "[a]", "{a}", "12:30", ".inf", "\r", "\\x41"]


def test_every_name_is_the_same_in_a_file(daemon, qmp, tmp_path):
    qmp.execute("blockdev-add", driver="null-co", node_name="n", size=65536)
    for name in NAMES:
        qmp.execute("block-dirty-bitmap-add", node="n", name=name)
    text = saved(daemon)
    read = [bitmap["name"] for bitmap in yaml.safe_load(text)["bitmaps"]]
    assert [name for name in read if "$" not in name] == [name for name in NAMES if "$" not in name]
    (tmp_path / "saved.yaml").write_text(text)
    assert cairnctl(daemon.socket, "apply", tmp_path / "saved.yaml").stdout == "nothing to do\n"


RELATIVE = """
policy: {paths: [ . ]}
pidfile: pid
objects:
- {qom-type: secret, id: key0, file: key}
nodes:
- {driver: qcow2, node-name: disk0, file: {driver: file, node-name: file0, filename: a.qcow2}}
- {driver: blkdebug, node-name: debug0, image: disk0, config: rules}
- {driver: raw, node-name: far0, file: {driver: "null-co", size: 512}}
nbd-server: {addr: {type: unix, path: nbd.sock}}
"""


def test_names_of_files_are_saved_in_full(start_daemon, tmp_path):
    """So that a saved configuration means the same elsewhere; and it is no other one than that with the short names."""
    images.create(tmp_path / "a.qcow2", "1M")
    (tmp_path / "key").write_text("hunter2")
    (tmp_path / "rules").write_text("")
    (tmp_path / "cairn.yaml").write_text(RELATIVE)
    first = start_daemon("--config", "cairn.yaml")
    text = cairnctl(first.socket, "save").stdout
    config = yaml.safe_load(text)
    assert config["nodes"][0]["file"]["filename"] == f"{tmp_path}/a.qcow2"
    assert config["nodes"][1]["config"] == f"{tmp_path}/rules"
    assert config["objects"][0]["file"] == f"{tmp_path}/key"
    assert config["nbd-server"]["addr"]["path"] == f"{tmp_path}/nbd.sock"
    assert (config["pidfile"], config["policy"]["paths"]) == (f"{tmp_path}/pid", [f"{tmp_path}/."])
    (tmp_path / "saved.yaml").write_text(text)
    for name in ("cairn.yaml", "saved.yaml"):
        assert cairnctl(first.socket, "apply", tmp_path / name).stdout == "nothing to do\n"

    qmp = first.connect()
    assert "filename" in qmp.error("blockdev-reopen", options=[
        {"driver": "file", "node-name": "file0", "filename": "b.qcow2"}]).desc
    for name in ("a.qcow2", str(tmp_path / "a.qcow2")):
        qmp.execute("blockdev-reopen", options=[{"driver": "file", "node-name": "file0", "filename": name}])
    qmp.execute("quit")
    assert first.wait() == 0
    second = start_daemon("--config", tmp_path / "saved.yaml", "--chardev",
                          f"socket,id=m,path={tmp_path}/m,server=on,wait=off", "--monitor", "m", monitor=False)
    second.wait_for_socket(tmp_path / "m")
    assert second.directory != tmp_path
    assert yaml.safe_load(cairnctl(tmp_path / "m", "save").stdout) == config


def test_names_are_those_of_the_directory_that_the_daemon_came_from(start_daemon, tmp_path):
    """In the background it has left that."""
    (tmp_path / "a.raw").write_bytes(bytes(512))
    run = run_cairnd("--daemonize", "--pidfile", "pid", "--blockdev", "file,node-name=a,filename=a.raw", "--chardev",
                     "socket,id=m,path=m,server=on,wait=off", "--monitor", "m", cwd=tmp_path)
    assert run.returncode == 0
    with QMP(tmp_path / "m") as qmp:
        config = qmp.execute("query-config")["config"]
        assert qmp.execute("config-apply", config={"nodes": config["nodes"]})["steps"] == []
        qmp.execute("quit")
    assert (config["nodes"][0]["filename"], config["pidfile"]) == (f"{tmp_path}/a.raw", f"{tmp_path}/pid")


def test_a_name_in_a_comment_is_no_line_of_its_own(daemon, qmp, tmp_path):
    images.create(tmp_path / "a.qcow2", "1M")
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "a", "file": {"driver": "file", "filename": "a.qcow2"}})
    inner = next(node["node-name"] for node in qmp.execute("query-named-block-nodes") if node["node-name"] != "a")
    qmp.execute("block-dirty-bitmap-add", node=inner, name="x\npidfile: y\u0085")
    assert list(yaml.safe_load(saved(daemon))) == ["nodes"]
