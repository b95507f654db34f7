"""Storage that never answers stalls the command that touches it, and no other.

While one client waits on it, another one sends commands of all kinds and looks at the clock.
"""

import os
import signal
import subprocess
import time

import nbd
import pytest

import nbd_client
from images import MIB, create
from process import BUILD
from qmp import QMP

LIMIT = 0.005  # seconds for a command of a client that has nothing to do with it
SLOW_BUILD = 10 if "san" in BUILD.name else 1  # sanitizers
COMMANDS = 150
ROUNDS_MAX = 8
HUNG_FS = BUILD / "tests" / "hung_fs"


class Echo:
    """How long another process takes to answer at all, on this machine, just now."""

    def __init__(self):
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.times = []

    def ask(self):
        begin = time.perf_counter()
        self.process.stdin.write(b"x")
        assert self.process.stdout.read(1) == b"x"
        self.times.append(time.perf_counter() - begin)

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)
        return at_99_percent(sorted(self.times))


def at_99_percent(times):
    return times[len(times) * 99 // 100 - 1]


def time_commands(daemon, image):
    """Commands of two clients, which open, ask and close a file meanwhile: their times in ascending order, and how long
    the machine keeps 1 of 100 waiting meanwhile."""
    first, second = daemon.connect(), daemon.connect()
    echo = Echo()
    times = []

    def timed(client, command, **arguments):
        begin = time.perf_counter()
        client.execute(command, **arguments)
        times.append((time.perf_counter() - begin, command))
        echo.ask()

    for number in range(COMMANDS // 3):
        timed(first, "query-version")
        timed(second, "query-jobs")
        timed(first, "query-named-block-nodes", flat=True)
        if number % 5 == 0:
            timed(second, "blockdev-add", driver="null-co", node_name="quick", size=1 * MIB)
            timed(first, "query-block-status", node_name="quick")
            timed(second, "blockdev-del", node_name="quick")
            timed(second, "blockdev-add", driver="file", node_name="quick", filename=str(image))
            timed(first, "query-block-status", node_name="quick")
            timed(second, "blockdev-del", node_name="quick")
    first.close()
    second.close()
    return sorted(times), echo.stop()


def assert_others_are_quick(daemon, tmp_path):
    """99 of 100 commands keep the limit. A machine with other things to do lets everybody wait, and may spoil a round, or
    two; a daemon that waits for the hung storage spoils every one."""
    image = tmp_path / "quick.raw"
    image.write_bytes(bytes(1 * MIB))
    for _ in range(ROUNDS_MAX):
        times, delay = time_commands(daemon, image)
        if at_99_percent(times)[0] < LIMIT * SLOW_BUILD + 4 * delay:
            return
    raise AssertionError(f"slow in {ROUNDS_MAX} rounds, the last one: {times[-5:]}")


@pytest.fixture
def hung_fs(daemon, tmp_path):
    """A mounted file system that stops answering; unmounted (what hangs then fails) when the test has ended, before the
    daemon ends, which could not."""
    if not HUNG_FS.exists() or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("FUSE cannot be used here")
    mountpoint = tmp_path / "hung"
    mountpoint.mkdir()
    server = subprocess.Popen([str(HUNG_FS), str(mountpoint)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if server.stdout.readline() != b"ready\n":
        server.wait(10)
        pytest.skip(f"cannot mount: {server.stderr.read().decode()}")

    class Mounted:
        def __truediv__(self, name):
            return str(mountpoint / name)

        @staticmethod
        def wait_for_call():
            """Until one more call hangs."""
            assert server.stdout.readline() == b"hangs\n"

        @staticmethod
        def release():
            """From now on what hangs fails."""
            server.terminate()
            server.wait(20)

    yield Mounted()
    Mounted.release()
    server.stdout.close()
    server.stderr.close()


@pytest.fixture
def victim(daemon):
    """The client whose command hangs."""
    return daemon.connect()


@pytest.mark.parametrize("call", ["hang-lookup", "hang-open", "hang-read"])
def test_opening_a_file_that_never_answers(hung_fs, daemon, victim, tmp_path, call):
    """A qcow2 node reads the header of its file, so that it hangs in whichever call does."""
    command = victim.start("blockdev-add", driver="qcow2", node_name="hung",
                           file={"driver": "file", "filename": hung_fs / call})
    assert_others_are_quick(daemon, tmp_path)
    victim.expect_silence(0.05)

    hung_fs.release()
    reply = victim.receive_reply()
    assert reply["id"] == command and call in reply["error"]["desc"]


def test_reading_a_file_that_never_answers(hung_fs, daemon, victim, tmp_path):
    """The node opens, a client of its export waits for data: others and the monitor go on, the export can be removed."""
    victim.execute("blockdev-add", driver="file", node_name="hung", read_only=True, filename=hung_fs / "hang-read")
    victim.execute("blockdev-add", driver="null-co", node_name="well", size=1 * MIB, read_zeroes=True)
    socket = nbd_client.start_server(victim, tmp_path)
    nbd_client.export(victim, "hung")
    nbd_client.export(victim, "well")
    stuck = nbd_client.connect(socket, "hung")
    stuck.aio_pread(nbd.Buffer(4096), 0)
    well = nbd_client.connect(socket, "well")

    assert_others_are_quick(daemon, tmp_path)
    begin = time.perf_counter()
    for _ in range(100):
        assert well.pread(512, 0) == bytes(512)
    assert time.perf_counter() - begin < 100 * LIMIT * SLOW_BUILD
    well.shutdown()

    hung_fs.release()
    daemon.connect().execute("block-export-del", id="export-hung", mode="hard")


def test_an_nbd_server_that_is_stopped(daemon, victim, tmp_path, start_daemon):
    """A node on it, whose client waits for data, and commands that wait for a handshake, which can be cancelled."""
    server = start_daemon("--blockdev", f"null-co,node-name=n,size={MIB}", "--nbd-server",
                          "addr.type=unix,addr.path=remote.sock", "--export", "nbd,id=e,node-name=n,name=e,writable=on")
    remote = {"driver": "nbd", "export": "e", "server": {"type": "unix", "path": server.path("remote.sock")}}
    victim.execute("blockdev-add", {**remote, "node-name": "stopped"})
    socket = nbd_client.start_server(victim, tmp_path)
    nbd_client.export(victim, "stopped")
    server.process.send_signal(signal.SIGSTOP)
    try:
        stuck = nbd_client.connect_plainly(socket, "stopped")
        stuck.aio_pread(nbd.Buffer(4096), 0)
        command = victim.start("blockdev-add", {**remote, "node-name": "waits"})
        assert_others_are_quick(daemon, tmp_path)
        victim.expect_silence(0.01)

        control = daemon.connect()
        waiting, = control.execute("query-commands-in-flight")
        assert waiting["id"] == command and waiting["waits-for"].startswith("opening node 'waits'")
        control.execute("cancel-command", number=waiting["number"])
        assert "was cancelled" in victim.receive_reply()["error"]["desc"]
        assert_others_are_quick(daemon, tmp_path)
        control.execute("block-export-del", id="export-stopped", mode="hard")
    finally:
        server.process.send_signal(signal.SIGCONT)
    wait_until(lambda: not control.execute("query-commands-in-flight"))
    assert "waits" not in {node["node-name"] for node in control.execute("query-named-block-nodes", flat=True)}


def test_many_files_that_never_answer(hung_fs, daemon, tmp_path):
    """More of them than any pool has threads to spare for one."""
    victims = []
    for number in range(40):
        victims.append(daemon.connect())
        victims[-1].start("blockdev-add", driver="file", node_name=f"hung{number}", filename=hung_fs / "hang-open")
    assert_others_are_quick(daemon, tmp_path)

    hung_fs.release()
    for victim in victims:
        assert "error" in victim.receive_reply()


def test_a_fifo_nobody_writes_to(daemon, victim, tmp_path):
    """Opening a FIFO waits for the other end. It is refused or waits: either way nobody else does."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = victim.start("blockdev-add", driver="file", node_name="fifo", read_only=True, filename=str(fifo))
    assert_others_are_quick(daemon, tmp_path)

    # The other end comes and goes; then the open has ended in any case.
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
    reply = victim.receive_reply()
    assert reply["id"] == command and "fifo" in reply["error"]["desc"]


def test_a_gate_that_holds_requests(daemon, victim, tmp_path):
    """A command that waits for I/O that another request holds back."""
    path = create(tmp_path / "disk.qcow2", 16 * MIB)
    victim.execute("blockdev-add", driver="qcow2", node_name="disk",
                   file={"driver": "gate", "node-name": "gate", "file": {"driver": "file", "filename": str(path)}})
    control = daemon.connect()
    control.execute("x-gate-hold", node_name="gate")
    command = victim.start("block_resize", node_name="disk", size=32 * MIB)
    wait_until(lambda: control.execute("x-gate-query", node_name="gate")["held"] > 0)

    assert_others_are_quick(daemon, tmp_path)
    victim.expect_silence(0.01)

    control.execute("x-gate-release", node_name="gate")
    assert victim.finish(command) == {}


def test_a_client_that_leaves_while_its_command_hangs(daemon, tmp_path):
    """Nobody gets its reply; the daemon goes on."""
    path = create(tmp_path / "disk.qcow2", 16 * MIB)
    control = daemon.connect()
    control.execute("blockdev-add", driver="qcow2", node_name="disk",
                    file={"driver": "gate", "node-name": "gate", "file": {"driver": "file", "filename": str(path)}})
    control.execute("x-gate-hold", node_name="gate")
    leaving = QMP(daemon.socket)
    leaving.start("block_resize", node_name="disk", size=32 * MIB)
    wait_until(lambda: control.execute("x-gate-query", node_name="gate")["held"] > 0)
    leaving.close()
    assert_others_are_quick(daemon, tmp_path)
    control.execute("x-gate-release", node_name="gate")
    control.expect_silence(0.05)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.002)
