"""The policy: what clients may name. Each way on which a client names a file, a socket or a host is tried with something
inside and with something outside."""

import os
import re
import signal
import socket
import subprocess

import pytest
from images import create
from inside import make_world, start_inside
from process import run_cairnd

MIB = 1 << 20


@pytest.fixture
def world(tmp_path):
    """in/ is allowed, out/ is not; links lead from one to the other."""
    make_world(tmp_path)
    for name in ("in", "out"):
        (tmp_path / name / "word").write_text("secret")
    (tmp_path / "in" / "elsewhere").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in" / "disk.raw")
    return tmp_path


@pytest.fixture
def start(start_daemon, world):
    def start(policy, *args):
        return start_inside(start_daemon, world, f"policy: {policy}", *args)
    return start


def refused(world, error, path, real=None):
    leads = f", which leads to '{real}'" if real and str(real) != str(path) else ""
    assert error.desc.endswith(f"the policy does not allow '{path}'{leads} (its 'paths': '{world}/in')"), error.desc


def test_images(world, start):
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")
    for i, path in enumerate(("in/disk.raw", "out/back", "in/../in/disk.raw")):
        qmp.execute("blockdev-add", driver="file", node_name=f"disk{i}", read_only=True, filename=str(world / path))
    for path in ("out/disk.raw", "in/link", "in/elsewhere/disk.raw", "in/../out/disk.raw"):
        error = qmp.error("blockdev-add", driver="file", node_name="no", filename=str(world / path))
        refused(world, error, world / path, world / "out" / "disk.raw")
    refused(world, qmp.error("blockdev-add", driver="host_device", node_name="no", filename="/dev/zero"), "/dev/zero")
    assert "No such file" in qmp.error("blockdev-add", driver="file", node_name="no", filename=f"{world}/in/none").desc
    qmp.close()


def test_what_an_image_names(world, start):
    create(world / "out" / "base.qcow2", "1M")
    create(world / "in" / "base.qcow2", "1M")
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")
    for where in ("in", "out"):
        overlay = world / "in" / f"on-{where}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", world / where / "base.qcow2", "-F", "qcow2", overlay],
                       check=True)
        description = {"driver": "qcow2", "node-name": where, "file": {"driver": "file", "filename": str(overlay)}}
        if where == "in":
            qmp.execute("blockdev-add", description)
        else:
            refused(world, qmp.error("blockdev-add", description), world / "out" / "base.qcow2")
    qmp.close()


def test_configurations_that_clients_name(world, start):
    """Errors tell what is in them. Those that the daemon was started with are its own, wherever they are."""
    for name in ("in", "out"):
        (world / name / "conf.yaml").write_text("word: 7\n")
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")
    for path, real in (("out/conf.yaml", "out/conf.yaml"), ("in/elsewhere/conf.yaml", "out/conf.yaml"), ("out", "out"),
                       ("in/elsewhere", "out")):
        refused(world, qmp.error("config-apply", path=str(world / path), dry_run=True), world / path, world / real)
    for path in ("in/conf.yaml", "in"):
        assert "word: unknown" in qmp.error("config-apply", path=str(world / path)).desc
    daemon.process.send_signal(signal.SIGHUP)
    assert qmp.wait_event("CONFIG_APPLIED")["data"] == {"steps": 0}
    qmp.close()


def test_images_that_are_made(world, start):
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")
    (world / "in" / "dangling").symlink_to(world / "out" / "made")

    def make(path):
        qmp.execute("blockdev-create", job_id="j", options={"driver": "file", "filename": str(path), "size": 4096})
        job = qmp.wait_job("j")
        return job.get("error") if isinstance(job, dict) else None

    jobs = {}
    for path in ("in/new", "out/new", "in/elsewhere/new", "in/dangling"):
        qmp.execute("blockdev-create", job_id="j", options={"driver": "file", "filename": str(world / path), "size": 4096})
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")
        jobs[path] = qmp.execute("query-jobs")[0].get("error")
        qmp.execute("job-dismiss", id="j")
    assert jobs["in/new"] is None and (world / "in" / "new").stat().st_size == 4096
    assert "the policy does not allow" in jobs["out/new"] and f"leads to '{world}/out'" in jobs["in/elsewhere/new"]
    assert jobs["in/dangling"] and not (world / "out" / "new").exists() and not (world / "out" / "made").exists()
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=f"{world}/in/disk.raw")
    for command in ("drive-backup", "drive-mirror"):
        error = qmp.error(command, job_id="b", device="disk", sync="full", target=f"{world}/out/copy", format="raw")
        assert "the policy does not allow" in error.desc
    error = qmp.error("blockdev-snapshot-sync", node_name="disk", snapshot_file=f"{world}/out/s", snapshot_node_name="s")
    assert "the policy does not allow" in error.desc and not (world / "out" / "s").exists()
    qmp.close()


def test_secrets_certificates_and_rules(world, start):
    (world / "out" / "tls").mkdir()
    (world / "out" / "keys").mkdir()
    (world / "out" / "keys" / "keys.psk").write_text("a:00\n")
    (world / "out" / "rules").write_text('{"policy": "allow"}')
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")
    qmp.execute("object-add", qom_type="secret", id="good", file=f"{world}/in/word")
    refused(world, qmp.error("object-add", qom_type="secret", id="s", file=f"{world}/out/word"), world / "out" / "word")
    for kind, name, more in (("tls-creds-x509", "tls", {}), ("tls-creds-psk", "keys", {})):
        error = qmp.error("object-add", qom_type=kind, id="t", dir=f"{world}/out/{name}", endpoint="server", **more)
        assert "the policy does not allow" in error.desc or "No such file" in error.desc, error.desc
        assert name != "keys" or "the policy does not allow" in error.desc
    error = qmp.error("object-add", qom_type="authz-list-file", id="l", filename=f"{world}/out/rules")
    assert "the policy does not allow" in error.desc
    qmp.close()


def test_sockets(world, start):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(world / "out" / "nbd"))
    listener.listen()
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")

    def server(path, **more):
        return {"addr": {"type": "unix", "data": {"path": str(path), **more}}}

    qmp.execute("nbd-server-start", server(world / "in" / "nbd"))
    qmp.execute("blockdev-add", driver="null-co", node_name="null", size=MIB)
    qmp.execute("block-export-add", type="nbd", id="e", node_name="null", writable=True)
    qmp.execute("blockdev-add", driver="nbd", node_name="client", export="null", server={"type": "unix", "path": f"{world}/in/nbd"})
    (world / "in" / "socket-link").symlink_to(world / "out" / "nbd")
    for path in (world / "out" / "nbd", world / "in" / "socket-link"):
        error = qmp.error("blockdev-add", driver="nbd", node_name="no", server={"type": "unix", "path": str(path)})
        refused(world, error, path, world / "out" / "nbd")
    for path in (world / "out" / "s", world / "in" / "elsewhere" / "s"):
        error = qmp.error("chardev-add", {"id": "c", "backend": {"type": "socket", "data": server(path)}})
        assert "the policy does not allow" in error.desc and not (world / "out" / "s").exists()
    error = qmp.error("chardev-add", {"id": "c", "backend": {"type": "socket", "data": {
        **server(world / "out" / "nbd"), "server": False}}})
    refused(world, error, world / "out" / "nbd")
    error = qmp.error("chardev-add", {"id": "c", "backend": {"type": "socket", "data": server("name", abstract=True)}})
    assert "the policy does not allow abstract names, such as 'name'" in error.desc
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()  # nobody came
    listener.close()
    qmp.execute("blockdev-del", node_name="client")
    qmp.close()


def test_descriptors_that_were_passed_are_allowed(world, start):
    daemon, qmp = start(f"{{paths: [ {world}/in ]}}")
    with open(world / "out" / "disk.raw", "r+b") as file:
        message = b'{"execute":"add-fd","arguments":{"fdset-id":1},"id":77}'
        qmp.socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, file.fileno().to_bytes(4, "little"))])
        assert qmp.receive_reply()["return"]["fdset-id"] == 1
    qmp.execute("blockdev-add", driver="file", node_name="passed", filename="/dev/fdset/1")
    qmp.close()


def test_protocols(world, start):
    daemon, qmp = start("{protocols: [ file ]}")
    qmp.execute("blockdev-add", driver="raw", node_name="a", file={"driver": "file", "filename": f"{world}/out/disk.raw"})
    qmp.execute("blockdev-add", driver="null-co", node_name="b")
    for driver, options in (("nbd", {"server": {"type": "inet", "host": "127.0.0.1", "port": "1"}}),
                            ("http", {"url": "http://127.0.0.1:1/"}), ("host_device", {"filename": "/dev/zero"})):
        error = qmp.error("blockdev-add", {"driver": driver, "node-name": "no", **options})
        assert error.desc == f"the policy does not allow the driver '{driver}' (its 'protocols')"
    qmp.close()


@pytest.mark.parametrize("host,allowed", [("127.0.0.1", True), ("localhost", True), ("127.0.0.2", False), ("::1", False)])
def test_hosts(world, start, host, allowed):
    daemon, qmp = start("{hosts: [ localhost, 127.0.0.1 ], listen: [ '127.*' ]}")
    shown = f"[{host}]" if ":" in host else host
    nbd = qmp.error("blockdev-add", driver="nbd", node_name="no", server={"type": "inet", "host": host, "port": "1"})
    http = qmp.error("blockdev-add", driver="http", node_name="no", read_only=True, url=f"http://user:word@{shown}:1/a")
    chardev = qmp.error("chardev-add", {"id": "c", "backend": {"type": "socket", "data": {
        "server": False, "addr": {"type": "inet", "data": {"host": host, "port": "1"}}}}})
    for error in (nbd, http, chardev):
        assert bool(re.search(rf"the policy does not allow connections to '\[?{host}\]?' \(its 'hosts'\)", error.desc)) != allowed
    error = qmp.error("nbd-server-start", {"addr": {"type": "inet", "data": {"host": "0.0.0.0", "port": "0"}}})
    assert "the policy does not allow to listen at '0.0.0.0' (its 'listen')" in error.desc
    error = qmp.error("nbd-server-start", {"addr": {"type": "vsock", "data": {"cid": "1", "port": "1234"}}})
    assert "the policy does not allow to listen at 'vsock:1' (its 'listen')" in error.desc
    qmp.execute("nbd-server-start", {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}})
    qmp.close()


def test_hosts_that_only_look_right(world, start):
    daemon, qmp = start("{hosts: [ good ]}")
    for url in ("http://good@bad/", "http://bad#@good/", "http://bad/@good", "http://good:x@bad:1/", "http:///bad/good"):
        error = qmp.error("blockdev-add", driver="http", node_name="no", read_only=True, url=url)
        assert "connections to 'bad'" in error.desc or "malformed" in error.desc, (url, error.desc)
    qmp.close()


def test_without_a_policy_everything_is_allowed(world, daemon, qmp):
    qmp.execute("blockdev-add", driver="file", node_name="a", filename=str(world / "in" / "link"))
    qmp.execute("blockdev-add", driver="host_device", node_name="b", filename="/dev/zero", read_only=True)


@pytest.mark.parametrize("text,message", [
    ("paths.0=/nowhere", "policy: paths[0]: cannot look up '/nowhere': No such file or directory"),
    ("path=/", "path: unknown"), ("protocols=file", "protocols"),
])
def test_mistakes_end_the_start(text, message):
    told = run_cairnd("--policy", text)
    assert told.returncode == 1 and message in told.stderr, told.stderr


def test_it_holds_for_the_command_line_too(world):
    told = run_cairnd("--policy", f"paths.0={world}/in", "--blockdev", f"driver=file,node-name=d,filename={world}/out/disk.raw")
    assert told.returncode == 1 and "the policy does not allow" in told.stderr
    assert os.listdir(world / "in")
