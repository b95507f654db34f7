"""A service manager that speaks as systemd does: it is told of readiness and the end, it watches over the loops, and it
brings sockets that listen already."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time

import nbd_client
import pytest
from process import BUILD, CAIRND, assert_no_sanitizer_output
from qmp import DEADLINE, QMP, connect_patiently

MONITOR = ["--chardev", "socket,id=m,path=qmp.sock,server=on,wait=off", "--monitor", "m"]


class Manager:
    """The side of systemd: a socket for notifications, and a process with some variables and sockets."""

    def __init__(self, directory, address=None):
        self.directory = pathlib.Path(directory)
        self.address = address or str(self.directory / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address.replace("@", "\0", 1))
        self.socket.settimeout(DEADLINE)
        self.process = None

    def start(self, *args, sockets=(), names=None, pid="$$", env=None):
        """@sockets become descriptors 3, 4, ...; as systemd does, the variables say for which process they are."""
        variables = {"NOTIFY_SOCKET": self.address, **(env or {})}
        script = f"export WATCHDOG_PID=$$ LISTEN_PID={pid}; " if sockets else ""
        for number, one in enumerate(sockets):
            script += f"exec {number + 3}<&{one.fileno()}; "
        if sockets:
            variables |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
        self.log = open(self.directory / "cairnd.log", "w+")
        self.process = subprocess.Popen(["bash", "-c", script + 'exec "$@"', "bash", str(CAIRND), *map(str, args)],
                                        cwd=self.directory, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
                                        stderr=self.log, pass_fds=[one.fileno() for one in sockets])

    def hear(self):
        return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().splitlines())

    def text(self):
        return (self.directory / "cairnd.log").read_text()

    def stop(self, status=0):
        self.process.terminate()
        assert self.process.wait(DEADLINE) == status, self.text()
        assert_no_sanitizer_output(self.text())

    def close(self):
        self.socket.close()
        if self.process:
            self.process.kill()
            self.process.wait()
            self.log.close()


@pytest.fixture
def manager(tmp_path):
    with contextlib.closing(Manager(tmp_path)) as manager:
        yield manager


def with_high_number(one):
    """None of those that the process shall have."""
    with one:
        return socket.socket(fileno=fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 100))


def listener(path):
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    one.listen()
    return with_high_number(one)


# Telling ----------------------------------------------------------------------------------------------------------


def test_readiness_and_the_end_are_told(manager, tmp_path):
    manager.start(*MONITOR)
    assert manager.hear() == {"READY": "1", "STATUS": "In service"}
    with QMP(tmp_path / "qmp.sock"):
        manager.stop()
    assert manager.hear() == {"STOPPING": "1", "STATUS": "Flushing and closing"}


def test_an_abstract_address(tmp_path):
    with contextlib.closing(Manager(tmp_path, f"@cairn-test-{os.getpid()}")) as manager:
        manager.start(*MONITOR)
        assert manager.hear()["READY"] == "1"
        manager.stop()


def test_nobody_is_told_of_readiness_when_something_cannot_be_made(manager):
    manager.start("--blockdev", "file,node-name=n,filename=missing")
    assert manager.process.wait(DEADLINE) == 1
    assert "READY" not in manager.hear()


def test_an_address_that_is_none(manager):
    manager.start(*MONITOR, env={"NOTIFY_SOCKET": "relative"})
    end = time.monotonic() + DEADLINE
    while "cairnd: warning: NOTIFY_SOCKET 'relative' is not understood" not in manager.text():
        assert time.monotonic() < end, manager.text()
        time.sleep(0.002)


# The watchdog -----------------------------------------------------------------------------------------------------

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


@contextlib.contextmanager
def one_thread_held(pid, name):
    """As if it hung; skips where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    thread = next(int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
                  if (task / "comm").read_text() == f"{name}\n")
    if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
        pytest.skip(f"this machine does not let us trace: {os.strerror(ctypes.get_errno())}")
    assert libc.ptrace(PTRACE_INTERRUPT, thread, None, None) == 0
    os.waitpid(thread, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(PTRACE_DETACH, thread, None, None)


def hear_watchdog(manager):
    while "WATCHDOG" not in manager.hear():
        pass


def test_the_watchdog_is_told_while_all_loops_turn(manager):
    manager.start(*MONITOR, env={"WATCHDOG_USEC": "200000"})
    for _ in range(4):
        hear_watchdog(manager)
    with one_thread_held(manager.process.pid, "io-0"):
        hear_what_is_left = time.monotonic() + 0.2  # a message, and that of the round that was under way
        while select.select([manager.socket], [], [], max(0, hear_what_is_left - time.monotonic()))[0]:
            manager.hear()
        assert not select.select([manager.socket], [], [], 0.4)[0], "a loop hangs, and the watchdog is content"
    hear_watchdog(manager)
    manager.stop()


def test_a_watchdog_of_another_process_is_none_of_ours(manager):
    manager.start(*MONITOR, env={"WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"})
    assert "READY" in manager.hear()
    assert not select.select([manager.socket], [], [], 0.2)[0]
    manager.stop()


# Sockets ----------------------------------------------------------------------------------------------------------


def test_a_monitor_at_the_path_of_a_socket_that_was_brought(manager, tmp_path):
    """A client may come before the daemon does, and the file is left to the one who made it."""
    with listener(tmp_path / "qmp.sock") as early:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "qmp.sock"))
        (tmp_path / "c.yaml").write_text(f"monitors:\n- path: {tmp_path}/qmp.sock\n")
        manager.start("--config", "c.yaml", sockets=[early], names="qmp")
        client.settimeout(DEADLINE)
        assert b"QMP" in client.recv(4096)
        client.close()
        manager.stop()
        assert (tmp_path / "qmp.sock").exists()
        assert manager.text() == ""


def test_sockets_by_their_names(manager, tmp_path):
    with listener(tmp_path / "a") as a, listener(tmp_path / "b") as b, listener(tmp_path / "c") as c:
        manager.start("--blockdev", "null-co,node-name=n,size=4096",
                      "--nbd-server", "addr.type=fd,addr.str=nbd", "--export", "nbd,id=e,node-name=n",
                      "--chardev", "socket,id=m,fd=control,server=on,wait=off", "--monitor", "m",
                      "--chardev", "socket,id=m2,fd=control.2,server=on,wait=off", "--monitor", "m2",
                      sockets=[a, b, c], names="control:nbd:control")
        assert "READY" in manager.hear()
        for path in ("a", "c"):
            with QMP(tmp_path / path) as qmp:
                assert [info["node-name"] for info in qmp.execute("query-named-block-nodes")] == ["n"]
        assert nbd_client.connect(tmp_path / "b", "n").get_size() == 4096
        manager.stop()
        assert manager.text() == ""


def test_sockets_are_used_again(manager, tmp_path):
    """Who brought them listens as well, so they are not closed but kept."""
    with listener(tmp_path / "a") as a, listener(tmp_path / "b") as b:
        manager.start(*MONITOR, sockets=[a, b], names="one:two")
        assert "READY" in manager.hear()
        with QMP(tmp_path / "qmp.sock") as qmp:
            for _ in range(3):
                qmp.execute("nbd-server-start", addr={"type": "fd", "data": {"str": "one"}})
                qmp.execute("nbd-server-stop")
            for _ in range(3):
                qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "b")}})
                qmp.execute("nbd-server-stop")
            for _ in range(2):  # by its number
                qmp.execute("nbd-server-start", addr={"type": "fd", "data": {"str": "3"}})
                qmp.execute("nbd-server-stop")
        assert (tmp_path / "b").exists()
        manager.stop()


def test_the_configuration_is_read_again(manager, tmp_path):
    (tmp_path / "c.yaml").write_text(f"monitors:\n- path: {tmp_path}/qmp.sock\n")
    with listener(tmp_path / "qmp.sock") as early:
        manager.start("--config", "c.yaml", sockets=[early], names="qmp")
        assert manager.hear()["READY"] == "1"
        before = time.monotonic_ns() // 1000
        (tmp_path / "c.yaml").write_text("nodes:\n- { driver: null-co, node-name: n }\n")
        manager.process.send_signal(signal.SIGHUP)
        reloading = manager.hear()
        assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) >= before
        assert manager.hear()["READY"] == "1"
        (tmp_path / "c.yaml").write_text(f"monitors:\n- path: {tmp_path}/qmp.sock\n")
        manager.process.send_signal(signal.SIGHUP)
        assert manager.hear()["RELOADING"] == "1" and manager.hear()["READY"] == "1"
        with QMP(tmp_path / "qmp.sock") as qmp:
            assert qmp.execute("query-named-block-nodes") == []
        manager.stop()


def test_sockets_that_nothing_uses_are_told(manager, tmp_path):
    with listener(tmp_path / "a") as a, listener(tmp_path / "b") as b:
        manager.start(*MONITOR, sockets=[a, b], names="one:two")
        assert "READY" in manager.hear()
        assert manager.text() == "cairnd: warning: sockets of the service manager that nothing uses: 'one', 'two'\n"
        with QMP(tmp_path / "qmp.sock") as qmp:  # but they may be, later
            qmp.execute("nbd-server-start", addr={"type": "fd", "data": {"str": "two"}})
        manager.stop()


def test_sockets_for_another_process_are_left_alone(manager, tmp_path):
    with listener(tmp_path / "a") as a:
        manager.start("--chardev", "socket,id=m,fd=one,server=on,wait=off", sockets=[a], names="one", pid="1")
        assert manager.process.wait(DEADLINE) == 1
        assert "'one' is neither the number of a descriptor nor the name of one that was passed" in manager.text()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_what_does_not_listen(manager, kind):
    with with_high_number(socket.socket(socket.AF_UNIX, kind)) as one:
        manager.start("--nbd-server", "addr.type=fd,addr.str=x", sockets=[one], names="x")
        assert manager.process.wait(DEADLINE) == 1
        assert "descriptor x is not a socket that listens" in manager.text()


# The units --------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path):
    """What a package brings, below a directory."""
    subprocess.run(["cmake", "--install", BUILD, "--prefix", "/usr", "--component", "daemon"], check=True,
                   env={**os.environ, "DESTDIR": str(tmp_path / "root")}, stdout=subprocess.DEVNULL)
    return tmp_path / "root"


@pytest.fixture
def units(installed, tmp_path):
    """With the daemon of this build."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    for name in ("cairnd.service", "cairnd.socket"):
        text = (installed / "lib/systemd/system" / name).read_text()
        text, count = re.subn(r"^ExecStart=/usr/bin/cairnd --config /etc/cairn/cairn.yaml$",
                              f"ExecStart={CAIRND} --config /etc/cairn/cairn.yaml", text, flags=re.MULTILINE)
        assert count == (name == "cairnd.service")
        (tmp_path / name).write_text(text)
    return [tmp_path / "cairnd.service", tmp_path / "cairnd.socket"]


def analyze(*words):
    return subprocess.run(["systemd-analyze", "--no-pager", *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}, timeout=DEADLINE)


def test_the_units_are_what_systemd_understands(units):
    result = analyze("verify", "--man=no", *units)
    assert result.returncode == 0 and result.stderr == "", result


def test_the_service_is_confined(units):
    """0 is confined completely, 10 not at all."""
    result = analyze("security", "--offline=true", "--threshold=25", units[0])
    assert result.returncode == 0, result.stdout


def test_the_filter_of_system_calls_has_io_uring():
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    assert "@aio" in analyze("syscall-filter", "@system-service").stdout
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= set(analyze("syscall-filter", "@aio").stdout.split())


def test_the_configuration_to_begin_with(installed):
    result = subprocess.run([CAIRND, "--check", "--config", installed / "etc/cairn/cairn.yaml"], capture_output=True,
                            text=True, timeout=DEADLINE)
    assert result.returncode == 0 and result.stderr == "", result


def members_of(group):
    """Names of the system calls of a group of systemd's."""
    words = [line.split()[0] for line in analyze("syscall-filter", group).stdout.splitlines()[1:] if line.strip()]
    names = {word for word in words if word[0].isalpha() or word[0] == "_"}
    return names.union(*(members_of(word) for word in words if word.startswith("@")))


def test_the_filter_allows_what_the_daemon_calls(tmp_path):
    if not shutil.which("systemd-analyze") or not shutil.which("strace") or b"__asan_init" in CAIRND.read_bytes() \
            or b"__tsan_init" in CAIRND.read_bytes():
        pytest.skip("no systemd-analyze or strace here, or a sanitizer with calls of its own")
    if subprocess.run(["strace", "-f", "-o", os.devnull, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("this machine does not let us trace")
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    process = subprocess.Popen(["strace", "-f", "-qq", "-o", "calls", CAIRND, "--trace", "job_*", *MONITOR], cwd=tmp_path)
    try:
        with connect_patiently(tmp_path / "qmp.sock") as qmp:
            qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(tmp_path / "disk"))
            qmp.execute("blockdev-create", job_id="make",
                        options={"driver": "file", "filename": str(tmp_path / "copy"), "size": 1 << 20})
            qmp.wait_job("make")
            qmp.execute("blockdev-add", driver="file", node_name="copy", filename=str(tmp_path / "copy"))
            qmp.execute("blockdev-backup", job_id="save", device="disk", target="copy", sync="full")
            qmp.wait_event("BLOCK_JOB_COMPLETED")
            qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "nbd")}})
            qmp.execute("block-export-add", type="nbd", id="e", node_name="disk", name="disk", writable=True)
            client = nbd_client.connect(tmp_path / "nbd", "disk")
            client.pwrite(b"x" * 4096, 0)
            client.flush()
            client.shutdown()
            qmp.execute("quit")
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
    used = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert "io_uring_enter" in used or os.environ.get("CAIRN_NO_IO_URING") or "preadv2" in used
    assert used <= (members_of("@system-service") - members_of("@privileged")) | members_of("@chown")


def test_with_the_sockets_of_systemd_itself(tmp_path):
    """As cairnd.socket does: the first client starts the daemon."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("no systemd-socket-activate here")
    path = tmp_path / "qmp.sock"
    (tmp_path / "c.yaml").write_text(f"monitors:\n- path: {path}\n")
    process = subprocess.Popen(["systemd-socket-activate", f"--listen={path}", "--fdname=qmp", CAIRND, "--config",
                                "c.yaml"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        with connect_patiently(path) as qmp:
            assert qmp.execute("query-version")["package"].startswith("cairn ")
            qmp.execute("quit")
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
