"""cairnctl: what it sends, prints and returns."""

import json
import subprocess

import pytest

from cairnctl import CAIRNCTL, cairnctl
from images import KIB, MIB, add_overlay, check, create
from terminal import Terminal

REFUSED, USAGE = 1, 2


@pytest.fixture
def ctl(daemon):
    return lambda *words, **options: cairnctl(daemon.socket, *words, **options)


def test_help_needs_no_daemon():
    overview = cairnctl(None, "--help").stdout
    for name in ("call", "shell", "map", "graph", "wait-job", "check", "events", "top", "jobs"):
        assert f"\n  {name} " in overview
        text = cairnctl(None, name, "--help").stdout
        assert text.startswith("usage: cairnctl") and len(text.splitlines()) > 4
    assert cairnctl(None, "--version").stdout.startswith("cairnctl ")


@pytest.mark.parametrize("words", [[], ["no-such-subcommand"], ["--no-such-option"], ["call"], ["-t", "x", "call", "a"]])
def test_a_wrong_command_line_is_a_usage_error(words, tmp_path):
    assert cairnctl(tmp_path / "none", *words, status=USAGE).stderr


def test_no_daemon_is_no_refusal(tmp_path):
    assert "CAIRN_SOCKET" in cairnctl(None, "call", "query-version", status=USAGE).stderr
    error = cairnctl(tmp_path / "none.sock", "call", "query-version", status=USAGE).stderr
    assert "none.sock" in error and "No such file or directory" in error


# call ---------------------------------------------------------------------------------------------------------------


def test_values_get_the_type_that_the_interface_says(ctl, qmp, tmp_path):
    path = create(tmp_path / "1", 1 * MIB)
    ctl("call", "blockdev-add", "driver=null-co", "node-name=disk0", "size=3k", "read-zeroes=on")
    ctl("call", "blockdev-add", "driver=qcow2", "node-name=a", "read-only=true", "file.driver=file",
        f"file.filename={path}", "backing=null", "file.cache.direct=off")
    ctl("call", "blockdev-add", "driver=blkdebug", "node-name=bad", "image=a", "inject-error.0.event=none",
        "inject-error.0.errno=28", "inject-error.1.event=read_aio")
    nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", flat=True)}
    assert nodes["disk0"]["image"]["virtual-size"] == 3 * KIB
    assert nodes["a"]["ro"] and nodes["a"]["image"]["virtual-size"] == 1 * MIB
    assert nodes["bad"]["children"] == [{"child": "image", "node-name": "a"}]


def test_arguments_as_json(ctl, qmp):
    ctl("call", "blockdev-add", '{"driver": "null-co", "node-name": "a"}')
    ctl("call", "blockdev-add", "-", stdin='{"driver": "null-co", "node-name": "b"}')
    ctl("call", "blockdev-add", '{"driver": "null-co"}', "node-name=c")
    assert {node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)} == {"a", "b", "c"}


def test_call_prints_what_is_returned(ctl, qmp):
    assert json.loads(ctl("call", "query-version").stdout) == qmp.execute("query-version")
    compact = ctl("call", "--compact", "query-commands").stdout
    assert compact.count("\n") == 1 and json.loads(compact) == qmp.execute("query-commands")


def test_after_quit_the_images_are_free(ctl, daemon, qmp, tmp_path):
    path = create(tmp_path / "disk.qcow2", 1 * MIB)
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    ctl("call", "quit")
    check(path)
    assert daemon.wait() == 0


@pytest.mark.parametrize("words, message", [
    (["no-such-command"], "no-such-command"),
    (["blockdev-add", "driver=null-co", "node-name=a", "size=big"], "size: expected int, got 'big'"),
    (["blockdev-add", "driver=qcow2", "node-name=a", "file.driver=null-co", "file.size=x"], "file.size: expected int"),
    (["blockdev-add", "driver=null-co", "node-name=a", "read-only=maybe"], "read-only: expected boolean, got 'maybe'"),
    (["blockdev-add", "driver=null-co", "driver.a=file"], "Parameters 'driver.*' used inconsistently"),
    (["blockdev-add", "driver"], "'driver' is neither JSON nor of the form key=value"),
    (["blockdev-add", "{broken"], "{broken"),
    (["blockdev-add", "driver=null-co", "node-name=a", "colour=red"], "colour"),
    (["blockdev-del", "node-name=nobody"], "nobody"),
])
def test_a_refusal_is_printed_and_is_status_1(ctl, words, message):
    assert message in ctl("call", *words, status=REFUSED).stderr


# map, graph ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def overlay(qmp, tmp_path):
    add_overlay(qmp, tmp_path)


def test_map_as_a_table(ctl, overlay):
    lines = [line.split() for line in ctl("map", "overlay").stdout.splitlines()]
    assert lines[0][:4] == ["offset", "length", "depth", "what"]
    assert lines[1][:6] == ["0x0", "64", "KiB", "1", "data", "base"] and lines[1][6] == "base-file"
    assert lines[2][:6] == ["0x10000", "64", "KiB", "0", "data", "overlay"] and lines[2][6] == "overlay-file"
    assert lines[3][:6] == ["0x20000", "64", "KiB", "0", "zero", "overlay"]
    assert lines[4][:5] == ["0x30000", "832", "KiB", "1", "hole"]
    assert len(lines) == 5


def test_map_of_a_part(ctl, overlay):
    whole = json.loads(ctl("map", "--output=json", "overlay").stdout)
    part = json.loads(ctl("map", "--output=json", "-s", "96k", "-l", "64k", "overlay").stdout)
    assert [(extent["start"], extent["length"]) for extent in part] == [(96 * KIB, 32 * KIB), (128 * KIB, 32 * KIB)]
    assert part[0]["offset"] == whole[1]["offset"] + 32 * KIB
    assert "nobody" in ctl("map", "nobody", status=REFUSED).stderr
    assert "--output" not in ctl("map", "--output=yaml", "overlay", status=USAGE).stdout


def test_map_joins_what_the_daemon_sends_in_pieces(ctl, qmp, tmp_path):
    """More extents than one reply holds."""
    path = tmp_path / "comb.raw"
    with open(path, "wb") as file:
        for tooth in range(20_000):
            file.seek(tooth * 8 * KIB)
            file.write(b"x")
        file.truncate(20_000 * 8 * KIB)
    qmp.execute("blockdev-add", driver="file", node_name="comb", filename=str(path))
    extents = json.loads(ctl("map", "--output=json", "comb").stdout)
    end = 0
    for extent, following in zip(extents, extents[1:] + [None]):
        assert extent["start"] == end
        end += extent["length"]
        assert following is None or extent["data"] != following["data"]
    assert end == 20_000 * 8 * KIB


def test_graph_as_a_tree(ctl, qmp, overlay, tmp_path):
    qmp.execute("blockdev-add", driver="raw", node_name="raw", file="overlay")
    qmp.execute("blockdev-add", driver="raw", node_name="second", file="overlay")
    qmp.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": str(tmp_path / "nbd.sock")}}})
    qmp.execute("block-export-add", type="nbd", id="e0", node_name="raw")
    lines = ctl("graph").stdout.splitlines()
    tree = "\n".join(lines)
    assert "└─ file: overlay (qcow2" in tree
    assert "   ├─ file: overlay-file (file" in tree and "   └─ backing: base (qcow2, read-only" in tree
    assert "└─ file: overlay (see above)" in tree
    assert lines[-1] == "export e0 (nbd) -> raw"


def test_graph_for_graphviz(ctl, overlay):
    dot = ctl("graph", "--dot").stdout
    assert dot.startswith("digraph ") and dot.rstrip().endswith("}")
    assert '"node:overlay" -> "node:base" [label="backing"' in dot
    assert '"node:base" -> "node:base-file" [label="file"' in dot


# jobs, events, shell ------------------------------------------------------------------------------------------------


def test_wait_job(ctl, tmp_path):
    target = tmp_path / "new.img"
    ctl("call", "blockdev-create", "job-id=j", "options.driver=file", f"options.filename={target}", "options.size=1M")
    ctl("wait-job", "--dismiss", "j")
    assert target.stat().st_size == 1 * MIB
    assert "'j'" in ctl("wait-job", "j", status=REFUSED).stderr

    ctl("call", "blockdev-create", "job-id=j", "options.driver=file", "options.filename=/nonexistent/x", "options.size=1M")
    assert "No such file or directory" in ctl("wait-job", "j", status=REFUSED).stderr


def test_events(daemon, ctl, tmp_path):
    listener = subprocess.Popen([str(CAIRNCTL), "-s", str(daemon.socket), "events", "-n", "2", "JOB_STATUS_CHANGE"],
                                stdout=subprocess.PIPE, text=True)
    try:
        # Events are for those who listen: make jobs until the listener has heard of them.
        number = 0
        while listener.poll() is None and number < 200:
            ctl("call", "blockdev-create", f"job-id=j{number}", "options.driver=file",
                f"options.filename={tmp_path}/new.img", "options.size=1M")
            ctl("wait-job", "--dismiss", f"j{number}")
            number += 1
        lines = listener.communicate(timeout=10)[0].splitlines()
        assert listener.returncode == 0
    finally:
        listener.kill()
    assert [json.loads(line)["event"] for line in lines] == ["JOB_STATUS_CHANGE"] * 2


def test_the_shell_reads_commands_from_a_pipe(ctl, qmp):
    script = "# a comment\n\nblockdev-add driver=null-co node-name=a\nblockdev-del {\"node-name\": \"a\"}\nhelp blockdev-del\n"
    output = ctl("shell", stdin=script).stdout
    assert output.startswith("{}\n{}\n") and "node-name: string" in output
    assert "'b'" in ctl("shell", stdin="blockdev-del node-name=b\nquery-version\n", status=REFUSED).stderr
    assert "not closed" in ctl("shell", stdin="blockdev-del 'node\n", status=REFUSED).stderr


def test_the_shell_completes_by_what_the_daemon_knows(daemon, qmp, tmp_path):
    terminal = Terminal(daemon.socket, "shell", home=tmp_path)
    terminal.read_until("cairn> ")
    terminal.type("blockdev-a\t")
    terminal.read_until("d ")
    terminal.type("driver=null-c\t")
    terminal.read_until("o ")
    terminal.type("node-n\t")
    terminal.read_until("=")
    terminal.type("x read-z\t")
    terminal.read_until("=")
    terminal.type("on\n")
    terminal.read_until("{}")
    assert [node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)] == ["x"]

    # What ends the daemon has to be meant.
    terminal.type("quit\n")
    terminal.read_until("'exit' leaves this shell")
    terminal.type("exit\n")
    assert terminal.end() == 0
    assert qmp.execute("query-version")
    assert "blockdev-add" in (tmp_path / ".cairnctl_history").read_text()


def test_the_shell_shows_events_while_one_types(daemon, qmp, tmp_path):
    terminal = Terminal(daemon.socket, "shell", home=tmp_path)
    terminal.read_until("cairn> ")
    qmp.execute("blockdev-create", {"job-id": "j", "options": {
        "driver": "file", "filename": str(tmp_path / "new.img"), "size": 1 * MIB}})
    terminal.read_until("JOB_STATUS_CHANGE")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_daemon_that_ends_ends_the_session(daemon, ctl):
    script = "quit\nquery-version\n"
    result = ctl("shell", stdin=script, status=USAGE)
    assert "the server" in result.stderr
    assert daemon.wait() == 0
