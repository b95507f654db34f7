"""Character devices and monitors: on the command line and at run time."""

import json
import os
import socket
import subprocess
import time

import pytest

from process import CAIRND, run_cairnd
from qmp import DEADLINE, QMP
from test_hung import wait_until


def unix(path, **options):
    return {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": str(path)}}, **options}}


def inet(port, **options):
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}
    return {"type": "socket", "data": {"addr": address, **options}}


def listener(path=None):
    sock = socket.socket(socket.AF_UNIX) if path else socket.socket()
    sock.bind(str(path) if path else ("127.0.0.1", 0))
    sock.listen()
    sock.settimeout(DEADLINE)
    return sock


class Reversed(QMP):
    """A client to whom the daemon connects."""

    def __init__(self, sock):
        self.deadline, self.events, self._input = DEADLINE, [], b""
        self._ids = iter(range(1, 1000))
        self.socket = sock
        self.socket.settimeout(DEADLINE)
        self.greeting = self.receive()["QMP"]
        self.execute("qmp_capabilities")


def devices(qmp):
    return {info["label"]: info for info in qmp.execute("query-chardev")}


def fails(*args, cwd=None):
    result = run_cairnd(*args, cwd=cwd)
    assert result.returncode == 1 and result.stderr.startswith("cairnd: "), result
    return result.stderr.removeprefix("cairnd: ").strip()


# The command line -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, message", [
    ("socket,id=c", "one of 'path', 'host' and 'fd' must be given"),
    ("socket,id=c,path=a,fd=3", "one of 'path', 'host' and 'fd' must be given"),
    ("socket,id=c,host=a", "'port' must be given with 'host'"),
    ("socket,id=c,path=a,wait=off", "'wait' is for sockets that listen: add server=on"),
    ("socket,id=c,path=a,server=on,wait=off,reconnect=1", "'reconnect' is for sockets that connect, not for server=on"),
    ("socket,id=c,path=a,server=on,wait=off,telnet=on", "telnet, tn3270, websocket and mux are not supported"),
    ("socket,id=c,path=a,reconnect=1,reconnect-ms=5", "'reconnect' and 'reconnect-ms' are mutually exclusive"),
    ("socket,id=c,path=/nonexistent/a", "Failed to connect to '/nonexistent/a': No such file or directory"),
    ("socket,id=c,fd=0", "descriptor 0 is not a socket: Socket operation on non-socket"),
])
def test_mistakes(text, message):
    assert fails("--chardev", text) == f"--chardev {text}: {message}"


def test_a_duplicate(tmp_path):
    told = fails("--chardev", "socket,id=c,path=a,server=on,wait=off", "--chardev", "socket,id=c,path=b,server=on,wait=off",
                 cwd=tmp_path)
    assert told.endswith("Chardev with id 'c' already exists")
    assert not os.listdir(tmp_path)


def test_a_tcp_socket(start_daemon):
    daemon = start_daemon("--chardev", "socket,id=tcp,host=127.0.0.1,port=0,server=on,wait=off", "--monitor", "tcp")
    with daemon.connect() as qmp:
        name = devices(qmp)["tcp"]["filename"]
    assert name.startswith("disconnected:tcp:127.0.0.1:") and name.endswith(",server=on")
    port = int(name.split(":")[-1].split(",")[0])
    with Reversed(socket.create_connection(("127.0.0.1", port), DEADLINE)) as qmp:
        assert devices(qmp)["tcp"]["filename"].startswith("tcp:127.0.0.1:")


def test_a_descriptor_that_listens(start_daemon, tmp_path):
    with listener(tmp_path / "fd.sock") as sock:
        daemon = start_daemon("--chardev", f"socket,id=c,fd={sock.fileno()},server=on,wait=off", "--monitor", "c",
                              pass_fds=[sock.fileno()])
        with QMP(tmp_path / "fd.sock") as one, QMP(tmp_path / "fd.sock") as two:
            assert one.execute("query-version") == two.execute("query-version")
    daemon.stop()
    assert (tmp_path / "fd.sock").exists()  # who made it removes it


def test_a_descriptor_that_is_connected(start_daemon):
    ours, theirs = socket.socketpair()
    with theirs:
        start_daemon("--chardev", f"socket,id=c,fd={theirs.fileno()}", "--monitor", "c", pass_fds=[theirs.fileno()])
    with Reversed(ours) as qmp:
        qmp.execute("query-version")


def test_the_daemon_connects(start_daemon, tmp_path):
    with listener(tmp_path / "client.sock") as sock:
        daemon = start_daemon("--chardev", "socket,id=c,path=client.sock", "--monitor", "c,mode=control,pretty=on")
        connection, _ = sock.accept()
        with Reversed(connection) as qmp:
            assert devices(qmp)["c"] == {"label": "c", "filename": "unix:client.sock", "frontend-open": True}
        with daemon.connect() as control:
            wait_until(lambda: devices(control)["c"]["filename"] == "disconnected:unix:client.sock")


def test_the_daemon_connects_again(start_daemon, tmp_path):
    """Nobody is there at first; then somebody is, leaves, and comes back."""
    daemon = start_daemon("--chardev", "socket,id=c,path=client.sock,reconnect-ms=20", "--monitor", "c")
    with daemon.connect() as control:
        wait_until(lambda: "chardev 'c': Failed to connect to 'client.sock'" in daemon.log)
        for _ in range(3):
            with listener(tmp_path / "client.sock") as sock:
                connection, _ = sock.accept()
                with Reversed(connection) as qmp:
                    assert devices(qmp)["c"]["filename"] == "unix:client.sock"
                os.unlink(tmp_path / "client.sock")
        assert control.execute("query-version")


def test_who_waits_for_its_first_client(tmp_path):
    """As in QSD that is the default, and what comes behind has to wait."""
    process = subprocess.Popen([CAIRND, "--chardev", "socket,id=c,path=c.sock,server=on", "--monitor", "c", "--blockdev",
                                "null-co,node-name=late", "--pidfile", "pid"], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        assert b"waits for a client at c.sock" in process.stderr.readline()
        assert not (tmp_path / "pid").exists()
        with QMP(tmp_path / "c.sock") as qmp:
            wait_until((tmp_path / "pid").exists)
            assert [node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)] == ["late"]
            qmp.execute("quit")
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.stderr.close()


def test_waiting_for_a_first_client_can_be_ended(tmp_path):
    process = subprocess.Popen([CAIRND, "--chardev", "socket,id=c,path=c.sock,server=on", "--monitor", "c"], cwd=tmp_path,
                               stderr=subprocess.PIPE)
    try:
        process.stderr.readline()
        process.terminate()
        assert process.wait(DEADLINE) == 0
        assert not (tmp_path / "c.sock").exists()
    finally:
        process.kill()
        process.stderr.close()


def talk(text, *args, cwd):
    """Runs cairnd with a monitor on standard input and output; what it answers."""
    result = subprocess.run([CAIRND, "--chardev", "stdio,id=c", "--monitor", "c", *args], cwd=cwd, input=text, text=True,
                            capture_output=True, timeout=DEADLINE)
    assert result.returncode == 0, result
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_standard_input_and_output(tmp_path):
    greeting, negotiated, devices_, version, quitting = talk(
        '{"execute": "qmp_capabilities"} {"execute": "query-chardev"} {"execute": "query-version"} {"execute": "quit"}',
        cwd=tmp_path)
    assert greeting["QMP"]["capabilities"] == ["oob"] and negotiated == quitting == {"return": {}}
    assert devices_["return"] == [{"label": "c", "filename": "stdio", "frontend-open": True}]
    assert version["return"]["qemu"]["major"] == 10


def test_much_that_goes_out(tmp_path):
    messages = '{"execute": "qmp_capabilities"}' + '{"execute": "query-qmp-schema"}' * 10 + '{"execute": "quit"}'
    assert len(talk(messages, cwd=tmp_path)) == 13


@pytest.mark.parametrize("end", ["file", "null", "closed"])
def test_other_kinds_of_input(tmp_path, end):
    """The end of the input is no end of the daemon, as in QSD."""
    (tmp_path / "in").write_text('{"execute": "qmp_capabilities"}{"execute": "query-version"}')
    stdin = {"file": open(tmp_path / "in"), "null": subprocess.DEVNULL, "closed": subprocess.PIPE}[end]
    process = subprocess.Popen([CAIRND, "--chardev", "stdio,id=c", "--monitor", "c", "--pidfile", "pid"], cwd=tmp_path,
                               stdin=stdin, stdout=subprocess.PIPE)
    try:
        if end == "closed":
            process.stdin.close()
        assert b"QMP" in process.stdout.readline()
        if end == "file":
            assert process.stdout.readline() == b'{"return": {}}\r\n' and b"package" in process.stdout.readline()
        wait_until((tmp_path / "pid").exists)
        assert process.poll() is None
        process.terminate()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.stdout.close()
        if end == "file":
            stdin.close()


def test_who_does_not_read_delays_the_end_by_a_moment_only(tmp_path):
    process = subprocess.Popen([CAIRND, "--chardev", "stdio,id=c", "--monitor", "c", "--pidfile", "pid"], cwd=tmp_path,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(b'{"execute": "qmp_capabilities"}' + b'{"execute": "query-qmp-schema"}' * 20)
        process.stdin.flush()
        wait_until((tmp_path / "pid").exists)
        process.terminate()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()


def test_mistakes_with_standard_input(tmp_path):
    assert "used by chardev 'c'" in fails("--chardev", "stdio,id=c", "--chardev", "stdio,id=d", cwd=tmp_path)
    assert "--daemonize" in fails("--daemonize", "--chardev", "stdio,id=c", cwd=tmp_path)
    assert "signal=off" in fails("--chardev", "stdio,id=c,signal=off", cwd=tmp_path)


# At run time ------------------------------------------------------------------------------------------------------

def test_a_monitor_comes_and_goes(daemon, qmp, tmp_path):
    path = tmp_path / "second.sock"
    assert qmp.execute("query-chardev-backends") == [{"name": "socket"}, {"name": "stdio"}]
    assert qmp.execute("chardev-add", id="second", backend=unix(path)) == {}
    assert devices(qmp)["second"] == {
        "label": "second", "filename": f"disconnected:unix:{path},server=on", "frontend-open": False}
    waiting = socket.socket(socket.AF_UNIX)
    waiting.settimeout(DEADLINE)
    waiting.connect(str(path))  # before anybody lets it in

    qmp.execute("monitor-add", chardev="second", role="read")
    assert qmp.error("monitor-add", chardev="second").desc == "Device 'second' is in use"
    assert qmp.error("chardev-remove", id="second").desc == "Chardev 'second' is busy"
    with Reversed(waiting) as first, QMP(path) as other:
        assert "needs the role" in first.error("quit").desc
        assert devices(first)["second"]["filename"] == f"unix:{path},server=on"
        qmp.execute("monitor-remove", chardev="second")
        first.expect_closed()
        other.expect_closed()
    assert "no monitor" in qmp.error("monitor-remove", chardev="second").desc
    assert path.exists()
    qmp.execute("chardev-remove", id="second")
    assert not path.exists() and "second" not in devices(qmp)
    for command, arguments in (("chardev-remove", {"id": "second"}), ("monitor-remove", {"chardev": "second"}),
                               ("monitor-add", {"chardev": "second"})):
        assert "not found" in qmp.error(command, arguments).desc


def test_who_removes_its_own_monitor_is_told(daemon, qmp, tmp_path):
    qmp.execute("chardev-add", id="own", backend=unix(tmp_path / "own.sock"))
    qmp.execute("monitor-add", chardev="own")
    with QMP(tmp_path / "own.sock") as client:
        client.execute("monitor-remove", chardev="own")
        client.expect_closed()
    qmp.execute("monitor-add", chardev="own")
    with QMP(tmp_path / "own.sock") as client:
        client.execute("query-version")


def test_a_command_of_a_client_that_is_cut_off(daemon, qmp, tmp_path):
    """It ends, and nobody gets its reply."""
    qmp.execute("blockdev-add", driver="gate", node_name="gate", file={"driver": "null-co"})
    qmp.execute("x-gate-hold", node_name="gate")
    qmp.execute("chardev-add", id="own", backend=unix(tmp_path / "own.sock"))
    qmp.execute("monitor-add", chardev="own")
    with QMP(tmp_path / "own.sock") as client:
        client.start("blockdev-add", driver="qcow2", node_name="late", file="gate")
        wait_until(lambda: qmp.execute("x-gate-query", node_name="gate")["held"])
        qmp.execute("monitor-remove", chardev="own")
        client.expect_closed()
    qmp.execute("chardev-remove", id="own")
    qmp.execute("x-gate-release", node_name="gate")
    wait_until(lambda: not qmp.execute("query-commands-in-flight"))


@pytest.mark.parametrize("backend, message", [
    (unix("/nonexistent/a"), "Failed to listen on socket '/nonexistent/a'"),
    (unix("/nonexistent/a", server=False), "Failed to connect to '/nonexistent/a': No such file or directory"),
    (inet(0, telnet=True), "telnet"),
    (inet(0, reconnect=1), "'reconnect' is for"),
    ({"type": "pty", "data": {}}, "pty"),
])
def test_mistakes_at_run_time(qmp, backend, message):
    error = qmp.error("chardev-add", id="bad", backend=backend)
    assert message in error.desc and error.error_class == "GenericError"
    assert "bad" not in devices(qmp)


def test_connecting_to_who_does_not_answer_holds_up_nobody(daemon, qmp):
    """A backlog that is full: the connection is not refused, it is not made either."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        clients = []
        for _ in range(4):
            clients.append(socket.socket())
            clients[-1].setblocking(False)
            clients[-1].connect_ex(("127.0.0.1", port))
        stuck = daemon.connect()
        stuck.start("chardev-add", id="stuck", backend=inet(port, server=False))
        wait_until(lambda: qmp.execute("query-commands-in-flight"))
        begin = time.monotonic()
        for _ in range(100):
            qmp.execute("query-version")
        assert time.monotonic() - begin < 10
        assert qmp.error("chardev-add", id="stuck", backend=inet(0)).desc.endswith("already exists")
        for client in clients:
            client.close()


def test_the_end_of_a_daemon_that_tries_to_connect(start_daemon, tmp_path):
    daemon = start_daemon("--chardev", "socket,id=c,path=nobody,reconnect-ms=3600000", "--monitor", "c")
    begin = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begin < 10


def test_json_is_not_taken_for_a_chardev(tmp_path):
    """As in QSD: the older syntax only."""
    assert "--chardev" in fails("--chardev", json.dumps({"backend": "socket", "id": "c", "path": "a"}), cwd=tmp_path)
