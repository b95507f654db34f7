"""Trace points: the black box that a process prints when it dies, what is shown on standard error or in a file, and the
commands that look at both."""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from cairnctl import cairnctl
from process import CAIRND, run_cairnd
from qmp import DEADLINE

LINE = re.compile(r"\d+@\d+\.\d{6}:")


def wait_for_text(path, text):
    end = time.monotonic() + DEADLINE
    while text not in (content := pathlib.Path(path).read_text()):
        assert time.monotonic() < end, f"'{text}' does not come:\n{content}"
        time.sleep(0.002)
    return content


def is_sanitized():
    return re.search(rb"__(asan|tsan)_init", CAIRND.read_bytes()) is not None


# The black box ----------------------------------------------------------------------------------------------------


def test_a_process_that_dies_tells_what_happened_last(start_daemon):
    daemon = start_daemon()
    qmp = daemon.connect()
    qmp.execute("blockdev-add", driver="null-co", node_name="some-disk")
    qmp.execute("blockdev-add", driver="raw", node_name="top", file="some-disk")
    daemon.expected_status = -signal.SIGABRT
    daemon.process.send_signal(signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    log = daemon.log
    assert "cairnd: dying of SIGABRT; what happened last" in log
    box = log[log.index("what happened last"):].splitlines()[1:]
    assert all(re.match(r"  -\d+\.\d{6} \[\d+\] [a-z0-9_]+ ", line) for line in box), log
    what = [line.split("] ")[1] for line in box]
    added = [line for line in what if line.startswith(("node_open", "qmp_command command blockdev-add"))]
    assert [re.sub(r" client.*", "", line) for line in added] == [
        "qmp_command command blockdev-add", "node_open node some-disk driver null-co",
        "node_opened node some-disk bytes 1073741824", "qmp_command command blockdev-add",
        "node_open node top driver raw", "node_opened node top bytes 1073741824"]
    ages = [float(line.split()[0]) for line in box]
    assert ages == sorted(ages)


@contextlib.contextmanager
def start_with_full_stderr(directory):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    process = subprocess.Popen([CAIRND, "--chardev", "socket,id=m,path=m,server=on,wait=off", "--monitor", "m"],
                               cwd=directory, stderr=writer)
    end = time.monotonic() + DEADLINE
    while not (directory / "m").exists():
        assert time.monotonic() < end
        time.sleep(0.002)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def test_a_reader_that_does_not_read_keeps_nobody_alive(tmp_path):
    """Standard error is a pipe that is full: the process dies all the same, after a second."""
    with start_with_full_stderr(tmp_path) as process:
        process.send_signal(signal.SIGABRT)
        assert process.wait(DEADLINE) == -signal.SIGABRT


def tgkill(pid, thread, signum):
    number = 234 if os.uname().machine == "x86_64" else 131
    assert ctypes.CDLL(None).syscall(number, pid, thread, signum) == 0


def test_neither_does_a_mistake_while_it_is_printed(tmp_path):
    """What broke the process may break that, too. It must not wait for itself."""
    if is_sanitized():
        pytest.skip("the sanitizer takes these signals for itself")
    with start_with_full_stderr(tmp_path) as process:
        process.send_signal(signal.SIGABRT)
        status = pathlib.Path(f"/proc/{process.pid}/status")
        while int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & 1 << (signal.SIGABRT - 1):
            time.sleep(0.002)
        tgkill(process.pid, process.pid, signal.SIGSEGV)
        assert process.wait(DEADLINE) in (-signal.SIGSEGV, -signal.SIGABRT)  # the latter: it has given up by then


def test_a_thread_that_breaks_something_tells_it_too(start_daemon):
    """Signals of mistakes reach the thread that made them."""
    if is_sanitized():
        pytest.skip("the sanitizer takes these signals for itself")
    daemon = start_daemon()
    daemon.connect()
    thread = next(int(task.name) for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir()
                  if (task / "comm").read_text() == "io-0\n")
    daemon.expected_status = -signal.SIGSEGV
    tgkill(daemon.pid, thread, signal.SIGSEGV)
    assert daemon.wait() == -signal.SIGSEGV
    assert "cairnd: dying of SIGSEGV; what happened last" in daemon.log
    assert "qmp_connected" in daemon.log


def test_failed_requests_are_in_the_box(daemon, qmp):
    qmp.execute("blockdev-add", driver="blkdebug", node_name="bad", image={"driver": "null-co"},
             inject_error=[{"event": "none", "iotype": "flush", "errno": 5, "once": False}])
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": daemon.path("nbd.sock")}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name="bad", name="bad", writable=True)
    nbd = pytest.importorskip("nbd")
    client = nbd.NBD()
    client.connect_uri(f"nbd+unix:///bad?socket={daemon.path('nbd.sock')}")
    with pytest.raises(nbd.Error):
        client.flush()
    records = qmp.execute("query-trace-records", name="request_failed")
    assert [record["text"] for record in records] == ["node bad kind flush ret -5"]
    names = [record["name"] for record in qmp.execute("query-trace-records", name="nbd_*", last=1000)]
    assert names[0] == "nbd_connected" and "nbd_option" in names and names[-1] == "nbd_handshake_end"
    client.shutdown()


def test_records_are_asked_for_by_name_and_number(qmp):
    for number in range(5):
        qmp.execute("blockdev-add", driver="null-co", node_name=f"n{number}", size=number)
    opened = qmp.execute("query-trace-records", name="node_opened", last=3)
    assert [record["text"] for record in opened] == [f"node n{number} bytes {number}" for number in (2, 3, 4)]
    assert all(abs(record["seconds"] - time.time()) < DEADLINE for record in opened)
    assert len(qmp.execute("query-trace-records", last=2)) == 2
    assert qmp.execute("query-trace-records", name="nothing_*") == []


def test_drains_and_changes_are_in_the_box(qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="base")
    qmp.execute("blockdev-add", driver="null-co", node_name="other")
    qmp.execute("blockdev-add", driver="raw", node_name="top", file="base")
    qmp.execute("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": "other"}])
    names = [record["name"] for record in qmp.execute("query-trace-records", last=10000)]
    reopen = names[len(names) - names[::-1].index("change_commit") - 1:]
    assert [name for name in reopen if name.startswith(("drain", "change"))] == [
        "change_commit", "drain_begin", "drain_held", "change_edge_of", "change_edge_to", "drain_end", "change_end"]


# Showing ----------------------------------------------------------------------------------------------------------


def test_help_lists_the_names():
    result = run_cairnd("--trace", "help")
    assert result.returncode == 0 and result.stderr == ""
    names = result.stdout.split()
    assert "drain_begin" in names and all(re.fullmatch("[a-z0-9_]+", name) for name in names)


def test_points_are_shown_from_the_start(start_daemon):
    daemon = start_daemon("--trace", "node_op*", "-T", "enable=-node_open", "--blockdev", "null-co,node-name=n,size=1")
    daemon.wait_for_log("node_opened node n bytes 1")
    shown = [line for line in daemon.log.splitlines() if LINE.match(line)]
    assert [line.partition(":")[2] for line in shown] == ["node_opened node n bytes 1"]


def test_a_name_that_is_none_is_told(start_daemon):
    daemon = start_daemon("--trace", "bdrv_open_common", "--trace", "nothing*")
    assert daemon.log == "cairnd: warning: trace event 'bdrv_open_common' does not exist\n"


def test_a_file_of_names_and_a_file_of_lines(start_daemon, tmp_path):
    (tmp_path / "names").write_text("# what matters\n\nnode_opened\nqmp_*\n")
    daemon = start_daemon("--trace", "events=names,file=trace.log", "--blockdev", "null-co,node-name=n,size=1")
    daemon.connect().execute("query-version")
    content = wait_for_text(tmp_path / "trace.log", "qmp_reply command query-version")
    assert "node_opened node n" in content and "node_open node" not in content
    assert all(LINE.match(line) for line in content.splitlines())
    assert daemon.log == ""


def test_all_that_was_shown_is_written_before_the_end(start_daemon, tmp_path):
    daemon = start_daemon("--trace", "daemon_state,file=trace.log")
    daemon.stop()
    lines = [line.partition(":")[2] for line in (tmp_path / "trace.log").read_text().splitlines()]
    assert lines == ["daemon_state ready", "daemon_state ending"]


def test_yaml(start_daemon, tmp_path):
    (tmp_path / "cairn.yaml").write_text("trace:\n- enable: node_opened\n- { enable: node_close*, file: trace.log }\n"
                                         "nodes:\n- { driver: null-co, node-name: n, size: 1 }\n")
    start_daemon("--config", "cairn.yaml").stop()
    lines = [line.partition(":")[2] for line in (tmp_path / "trace.log").read_text().splitlines()]
    assert lines == ["node_opened node n bytes 1", "node_close node n", "node_closed node n"]


@pytest.mark.parametrize("option, message", [
    ("events=missing", "--trace events=missing: cannot open 'missing': No such file or directory"),
    ("file=missing/x", "cannot write trace points to 'missing/x': No such file or directory"),
    ("nonsense=1", "--trace nonsense=1: nonsense: "),
])
def test_mistakes(tmp_path, option, message):
    result = run_cairnd("--trace", option, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr


def test_points_are_shown_at_run_time(daemon, qmp):
    assert qmp.execute("trace-event-get-state", name="node_opened") == [{"name": "node_opened", "state": "disabled"}]
    qmp.execute("trace-event-set-state", name="node_*", enable=True)
    states = qmp.execute("trace-event-get-state", name="*")
    assert {state["state"] for state in states if state["name"].startswith("node_")} == {"enabled"}
    assert {state["state"] for state in states if not state["name"].startswith("node_")} == {"disabled"}
    qmp.execute("blockdev-add", driver="null-co", node_name="seen", size=1)
    qmp.execute("trace-event-set-state", name="node_*", enable=False, ignore_unavailable=True)
    qmp.execute("blockdev-add", driver="null-co", node_name="unseen", size=1)
    daemon.wait_for_log("node_opened node seen bytes 1")
    qmp.execute("trace-event-set-state", name="node_*", enable=True)
    qmp.execute("blockdev-del", node_name="seen")
    daemon.wait_for_log("node_closed node seen")
    assert "unseen" not in daemon.log


def test_unknown_points(qmp):
    assert qmp.error("trace-event-get-state", name="nothing").desc == 'unknown event "nothing"'
    assert qmp.error("trace-event-set-state", name="nothing", enable=True).desc == 'unknown event "nothing"'
    assert qmp.execute("trace-event-get-state", name="nothing*") == []
    qmp.execute("trace-event-set-state", name="nothing*", enable=True)


def test_cairnctl(daemon, qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="n", size=1)
    out = cairnctl(daemon.socket, "trace", "node_op*").stdout.splitlines()
    assert [line.partition("] ")[2] for line in out] == ["node_open node n driver null-co", "node_opened node n bytes 1"]
    assert len(cairnctl(daemon.socket, "trace", "-n", "2").stdout.splitlines()) == 2
    cairnctl(daemon.socket, "trace", "--show", "job_*")
    assert re.fullmatch(r"job_status +enabled\n", cairnctl(daemon.socket, "trace", "--list", "job_*").stdout)
    cairnctl(daemon.socket, "trace", "--hide", "*")
    assert "enabled" not in cairnctl(daemon.socket, "trace", "--list").stdout
    assert "unknown event" in cairnctl(daemon.socket, "trace", "--show", "nothing", status=1).stderr
    cairnctl(daemon.socket, "trace", "--show", status=2)
