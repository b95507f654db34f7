"""The process: command line, readiness, background, pid file, sockets, signals, its end."""

import json
import os
import signal
import socket
import stat
import subprocess
import time

import nbd_client
import pytest
from process import CAIRND, Daemon, run_cairnd
from qmp import DEADLINE, QMP, Closed


def fails(*args, cwd=None):
    """Runs cairnd, which must exit with status 1; its message without the program's name."""
    result = run_cairnd(*args, cwd=cwd)
    assert result.returncode == 1, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("cairnd: "), result.stderr
    return lines[0].removeprefix("cairnd: ")


# Options ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option):
    result = run_cairnd(option)
    assert result.returncode == 0 and result.stderr == ""
    for name in ("--blockdev", "--chardev", "--monitor", "--nbd-server", "--export", "--config", "--check", "--pidfile",
                 "--daemonize", "--version"):
        assert name in result.stdout


@pytest.mark.parametrize("option", ["--version", "-V", "--vers"])
def test_version(option):
    result = run_cairnd(option)
    assert result.returncode == 0 and result.stdout.startswith("cairn ")


def test_help_for_chardev():
    result = run_cairnd("--chardev", "help")
    assert result.returncode == 0 and "socket" in result.stdout


@pytest.mark.parametrize("args, message", [
    (["--blockdev"], "option '--blockdev' requires an argument"),
    (["--bogus"], "unrecognized option '--bogus'"),
    (["-x"], "invalid option -- 'x'"),
    (["extra"], "extra: Unexpected argument"),
    (["--object", "iothread"], "--object iothread: id: missing"),
    (["--blockdev", "help"], "--blockdev help: Help is not available for this option"),
    (["--blockdev", "driver=null-co"], "--blockdev driver=null-co: 'node-name' must be specified for the root node"),
    (["--blockdev", "null-co,node-name=a,a.b=1,a=2"],
     "--blockdev null-co,node-name=a,a.b=1,a=2: Parameters 'a.*' used inconsistently"),
    (["--blockdev", "null-co,node-name"], "--blockdev null-co,node-name: Expected '=' after parameter 'node-name'"),
    (["--blockdev", "null-co,1a.=3"], "--blockdev null-co,1a.=3: Invalid parameter '1a.'"),
    (["--blockdev", "null-co,node-name=a,,b"], "--blockdev null-co,node-name=a,,b: node-name: 'a,b' "
     "does not match the pattern '[A-Za-z][A-Za-z0-9._-]*'"),
    (["--monitor", "foo"], '--monitor foo: chardev "foo" not found'),
    (["--nbd-server", "addr.type=unix"], "--nbd-server addr.type=unix: addr.path: missing"),
    (["--export", "nbd,id=e,node-name=x"], None),
    (["--export", "fuse,id=e"], "--export fuse,id=e: exports of type 'fuse' are not built in, only 'nbd' is"),
    (["--chardev", "socket,path=/tmp/x"], None),
    (["--chardev", "socket,id=x,path=/tmp/x"], None),
    (["--chardev", "pipe,id=x,path=/tmp/x"], None),
    (["--monitor", "chardev=x,mode=readline"], None),
    (["--blockdev", "{bad"], None),
    (["--blockdev", '{"driver":"null-co","node-name":"a","size":"1"}'], None),
    (["--blockdev", "null-co,node-name=a,size=abc"], None),
    (["--blockdev", "null-co,node-name=a,read-only=maybe"], None),
    (["--blockdev", "nul-co,node-name=a"], None),
    (["--pidfile", "/nonexistent/x"], None),
    (["--log-level", "loud"], None),
    (["--config", "/nonexistent/x.yaml"], None),
])
def test_mistakes_on_the_command_line(args, message):
    told = fails(*args)
    if message:
        assert told == message
    assert args[0].strip("-") in told or "/nonexistent/x" in told


def test_a_message_names_the_option_and_the_value(tmp_path):
    told = fails("--blockdev", f"file,node-name=a,filename={tmp_path}/missing")
    assert told.startswith("--blockdev file,node-name=a,filename=") and "missing': No such file or directory" in told


def test_options_are_processed_in_order(start_daemon):
    assert "Failed to find node" in fails("--blockdev", "raw,node-name=r,file=n", "--blockdev", "null-co,node-name=n")
    daemon = start_daemon("--blockdev", "null-co,node-name=n,size=65536", "--blockdev", "raw,node-name=r,file=n",
                          "--blockdev", '{"driver":"raw","node-name":"j","file":{"driver":"null-co","node-name":"i"}}',
                          "--blockdev", "driver=raw,node-name=d,file.driver=null-co,file.size=1048576,file.read-zeroes=on")
    with daemon.connect() as qmp:
        nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", flat=True)}
    assert {"n", "r", "j", "i", "d"} <= set(nodes)
    assert nodes["r"]["image"]["virtual-size"] == 65536
    assert nodes["d"]["image"]["virtual-size"] == 1 << 20


def test_old_spellings_of_chardev(start_daemon):
    daemon = start_daemon("--chardev", "socket,id=old,path=old.sock,server,nowait", "--monitor", "old")
    with QMP(daemon.path("old.sock")) as qmp:
        assert qmp.execute("query-version")


def test_several_monitors(start_daemon):
    daemon = start_daemon("--chardev", "socket,id=two,path=two.sock,server=on,wait=off", "--monitor", "chardev=two")
    with daemon.connect() as one, QMP(daemon.path("two.sock")) as two:
        one.execute("blockdev-add", driver="null-co", node_name="n")
        assert [n["node-name"] for n in two.execute("query-named-block-nodes", flat=True)] == ["n"]


def test_a_chardev_has_one_monitor(tmp_path):
    told = fails("--chardev", "socket,id=c,path=s,server=on,wait=off", "--monitor", "c", "--monitor", "c", cwd=tmp_path)
    assert told == "--monitor c: Device 'c' is in use"
    assert not (tmp_path / "s").exists()


def test_a_node_exported_from_the_command_line(start_daemon):
    daemon = start_daemon("--blockdev", "null-co,node-name=n,size=1048576",
                          "--nbd-server", "addr.type=unix,addr.path=nbd.sock,max-connections=3",
                          "--export", "type=nbd,id=e,node-name=n,name=disk,writable=on")
    with daemon.connect() as qmp:
        assert qmp.execute("query-block-exports") == [
            {"id": "e", "type": "nbd", "node-name": "n", "shutting-down": False}]
    size = subprocess.run(["nbdinfo", "--size", f"nbd+unix:///disk?socket={daemon.path('nbd.sock')}"],
                          capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert size.stdout.strip() == str(1 << 20)


# Sockets ----------------------------------------------------------------------------------------------------------

def test_the_socket_is_for_its_owner_only_and_removed_at_the_end(start_daemon):
    daemon = start_daemon()
    assert stat.S_IMODE(os.stat(daemon.socket).st_mode) == 0o600
    daemon.stop()
    assert not daemon.socket.exists()


def test_a_stale_socket_is_replaced(start_daemon, tmp_path):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "qmp.sock"))
    stale.close()
    daemon = start_daemon()
    with daemon.connect() as qmp:
        assert qmp.execute("query-version")


def test_a_socket_where_somebody_listens_is_not_replaced(daemon):
    told = fails("--chardev", f"socket,id=c,path={daemon.socket},server=on,wait=off", "--monitor", "c")
    assert str(daemon.socket) in told
    with daemon.connect() as qmp:
        assert qmp.execute("query-version")


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "file" in fails("--chardev", f"socket,id=c,path={tmp_path}/file,server=on,wait=off", "--monitor", "c")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_path_that_is_too_long(tmp_path):
    assert "too long" in fails("--chardev", f"socket,id=c,path=/{'x' * 200},server=on,wait=off")


# Pid file ---------------------------------------------------------------------------------------------------------

def test_the_pid_file_holds_the_pid_and_is_removed(start_daemon, tmp_path):
    daemon = start_daemon("--pidfile", "pid")
    end = time.monotonic() + DEADLINE
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
    assert (tmp_path / "pid").read_text() == f"{daemon.pid}\n"
    daemon.stop()
    assert not (tmp_path / "pid").exists()


def test_a_second_daemon_with_the_same_pid_file_refuses(start_daemon, tmp_path):
    start_daemon("--pidfile", "pid")
    end = time.monotonic() + DEADLINE
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
    text = (tmp_path / "pid").read_text()
    assert "Could not lock" in fails("--pidfile", str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == text


def test_a_stale_pid_file_is_taken_over(start_daemon, tmp_path):
    (tmp_path / "pid").write_text("999999999\n")
    daemon = start_daemon("--pidfile", "pid")
    end = time.monotonic() + DEADLINE
    while (tmp_path / "pid").read_text() != f"{daemon.pid}\n":
        assert time.monotonic() < end


def test_qemu_storage_daemon_respects_the_pid_file(start_daemon, tmp_path):
    start_daemon("--pidfile", "pid")
    end = time.monotonic() + DEADLINE
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < end
    result = subprocess.run(["qemu-storage-daemon", "--pidfile", tmp_path / "pid"], capture_output=True, text=True,
                            timeout=DEADLINE)
    assert result.returncode == 1


# Background -------------------------------------------------------------------------------------------------------

def background(tmp_path, *args):
    """Starts a daemon in the background; its pid, once the parent has exited with status 0."""
    result = run_cairnd("--daemonize", "--pidfile", "pid", "--chardev",
                        "socket,id=m,path=qmp.sock,server=on,wait=off", "--monitor", "m", *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    return int((tmp_path / "pid").read_text())


def wait_gone(pid):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z":
            return
        assert time.monotonic() < end, "the daemon does not end"


def test_daemonize_returns_when_ready_and_leaves_nothing_behind(tmp_path):
    pid = background(tmp_path, "--blockdev", "null-co,node-name=n")
    with QMP(tmp_path / "qmp.sock") as qmp:  # at once: it serves already
        assert qmp.execute("query-named-block-nodes")
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/2") == "/dev/null"
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGTERM)
    wait_gone(pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_daemonize_fails_with_the_message_of_the_child(tmp_path):
    told = fails("--daemonize", "--pidfile", "pid", "--blockdev", "file,node-name=a,filename=missing", cwd=tmp_path)
    assert "missing" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_two_in_the_background_do_not_share_a_pid_file(tmp_path):
    pid = background(tmp_path)
    try:
        assert "Could not lock" in fails("--daemonize", "--pidfile", "pid", cwd=tmp_path)
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)


# The end ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(start_daemon, signum):
    daemon = start_daemon("--blockdev", "null-co,node-name=n")
    qmp = daemon.connect()
    daemon.process.send_signal(signum)
    with pytest.raises(Closed):
        qmp.receive()
    assert daemon.wait() == 0
    assert not daemon.socket.exists()


def test_a_signal_while_starting(tmp_path):
    for delay in (0, 1, 2, 4, 8):
        daemon = Daemon(tmp_path, "--blockdev", "null-co,node-name=n", monitor=False)
        time.sleep(delay / 1000)
        daemon.process.send_signal(signal.SIGTERM)
        status = daemon.wait()
        assert status in (0, -signal.SIGTERM)  # the handlers may not be there yet
        daemon.expected_status = status
        daemon.stop()


def test_the_end_does_not_wait_for_commands_at_gates_or_clients(start_daemon):
    daemon = start_daemon("--blockdev", "null-co,node-name=n", "--blockdev", "gate,node-name=g,file=n",
                          "--nbd-server", "addr.type=unix,addr.path=nbd.sock",
                          "--export", "nbd,id=e,node-name=n")
    control = daemon.connect()
    control.execute("x-gate-hold", node_name="g")
    stuck = daemon.connect()
    stuck.start("query-block-status", node_name="g")
    while control.execute("x-gate-query", node_name="g")["held"] == 0:
        pass
    idle = socket.socket(socket.AF_UNIX)
    idle.connect(daemon.path("nbd.sock"))
    begin = time.monotonic()
    control.execute("quit")
    assert daemon.wait() == 0
    assert time.monotonic() - begin < 5
    idle.close()


def failing_flush(start_daemon, tmp_path):
    (tmp_path / "disk.raw").write_bytes(bytes(65536))
    return start_daemon("--blockdev", json.dumps({
        "driver": "blkdebug", "node-name": "failing", "image": {"driver": "file", "filename": "disk.raw"},
        "inject-error": [{"event": "none", "iotype": "flush", "errno": 5}]}),
        "--nbd-server", "addr.type=unix,addr.path=nbd.sock", "--export", "nbd,id=e,node-name=failing,writable=on")


def test_a_last_flush_that_fails_is_said_and_seen_in_the_status(start_daemon, tmp_path):
    daemon = failing_flush(start_daemon, tmp_path)
    daemon.expected_status = 1
    client = nbd_client.connect(daemon.path("nbd.sock"), "failing")
    client.pwrite(b"x" * 512, 0)
    client.shutdown()
    daemon.connect().execute("quit")
    assert daemon.wait() == 1
    assert "node 'failing': the last flush failed" in daemon.log and "Input/output error" in daemon.log


def test_a_last_flush_that_fails_loses_nothing_where_nothing_was_written(start_daemon, tmp_path):
    daemon = failing_flush(start_daemon, tmp_path)
    daemon.connect().execute("quit")
    assert daemon.wait() == 0


def test_an_error_after_some_items_takes_them_back(tmp_path):
    told = fails("--chardev", "socket,id=c,path=s,server=on,wait=off", "--monitor", "c",
                 "--blockdev", "null-co,node-name=n", "--nbd-server", "addr.type=unix,addr.path=nbd",
                 "--blockdev", "null-co,node-name=n", cwd=tmp_path)
    assert told == "--blockdev null-co,node-name=n: Duplicate nodes with node-name='n'"
    assert list(tmp_path.iterdir()) == []


def test_kill_leaves_a_socket_that_the_next_one_replaces(tmp_path):
    first = Daemon(tmp_path)
    first.kill()
    assert first.socket.exists()
    second = Daemon(tmp_path)
    with second.connect() as qmp:
        assert qmp.execute("query-version")
    second.stop()


def test_it_runs_by_its_name_in_any_directory(tmp_path):
    result = subprocess.run([CAIRND, "--version"], cwd="/", capture_output=True, timeout=DEADLINE)
    assert result.returncode == 0
