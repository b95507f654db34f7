"""The sandbox: the kernel refuses what the daemon was told to give up, the daemon's own policy aside."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess

import nbd
import pytest
from images import create
from inside import make_world, start_inside
from pki import Pki
from process import BUILD, run_cairnd
from test_hung import wait_until
from test_log import connect_patiently
from test_metrics import Metrics

MIB = 1 << 20
# LeakSanitizer starts a process at the end, which the sandbox forbids.
ENV = {"ASAN_OPTIONS": "detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", "")}
HAS_LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) > 0
pytestmark = [
    pytest.mark.skipif(BUILD.name == "tsan", reason="ThreadSanitizer has a thread of its own before main()"),
    pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock"),
]


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def start(start_daemon, world):
    def start(text, *args):
        return start_inside(start_daemon, world, text, *args, env=ENV)
    return start


def test_the_kernel_refuses_paths_that_no_policy_forbids(world, start):
    create(world / "out" / "base.qcow2", "1M")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", world / "out" / "base.qcow2", "-F", "qcow2",
                    world / "in" / "overlay.qcow2"], check=True)
    daemon, qmp = start(f"policy: {{paths: [ / ]}}\nsandbox: {{paths: [ {world}/in ]}}")
    qmp.execute("blockdev-add", driver="file", node_name="good", filename=f"{world}/in/disk.raw")
    for path in ("out/disk.raw", "in/link"):
        error = qmp.error("blockdev-add", driver="file", node_name="no", filename=str(world / path))
        assert error.desc.endswith("Permission denied") and "policy" not in error.desc
    error = qmp.error("blockdev-add", driver="qcow2", node_name="no",
                      file={"driver": "file", "filename": f"{world}/in/overlay.qcow2"})
    assert "base.qcow2" in error.desc and error.desc.endswith("Permission denied")
    error = qmp.error("object-add", qom_type="secret", id="s", file=f"{world}/out/disk.raw")
    assert error.desc.endswith("Permission denied")
    error = qmp.error("nbd-server-start", {"addr": {"type": "unix", "data": {"path": f"{world}/out/nbd"}}})
    assert error.desc.endswith("Permission denied") and not (world / "out" / "nbd").exists()
    qmp.close()


SYSTEM = ("/etc/passwd", "/usr/bin/env", "/proc/self/environ", "/sys/kernel/uevent_seqnum")


@pytest.mark.parametrize("more", ["", ", landlock: false", ", mode: auto, seccomp: false"])
def test_clients_cannot_read_what_the_process_may(world, start, more):
    """The paths of the sandbox are those of the policy, if that names none."""
    daemon, qmp = start(f"sandbox: {{paths: [ {world}/in ]{more}}}")
    for path in SYSTEM:
        for error in (qmp.error("blockdev-add", driver="file", node_name="no", filename=path, read_only=True),
                      qmp.error("object-add", qom_type="secret", id="no", file=path)):
            assert "the policy does not allow" in error.desc and path in error.desc
    error = qmp.error("config-apply", path="/etc/hostname")
    assert "the policy does not allow" in error.desc
    qmp.execute("blockdev-add", driver="file", node_name="good", filename=f"{world}/in/disk.raw")
    qmp.close()


@pytest.mark.parametrize("text", ["policy: {{paths: [ {}, /etc ]}}\nsandbox: {{paths: [ {} ]}}",
                                  "sandbox: {{mode: off, paths: [ {} ]}}"])
def test_paths_that_the_policy_names_count(world, start, text):
    daemon, qmp = start(text.format(f"{world}/in", f"{world}/in"))
    qmp.execute("blockdev-add", driver="file", node_name="etc", filename="/etc/passwd", read_only=True)
    qmp.close()


def test_all_threads_are_confined(world, start):
    daemon, qmp = start(f"policy: {{paths: [ {world}/in ]}}\nsandbox: {{}}")
    qmp.execute("blockdev-add", driver="file", node_name="a", filename=f"{world}/in/disk.raw")
    threads = list(pathlib.Path(f"/proc/{daemon.pid}/task").iterdir())
    assert len(threads) > 1
    for thread in threads:
        status = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    qmp.close()


def test_work_goes_on(world, start, tmp_path):
    """Images made, opened, grown, copied and served, with TLS, whose library is loaded late."""
    pki = Pki(world / "in" / "pki")
    pki.authority("ca")
    pki.issue("server", "/CN=localhost", by="ca", kind="server")
    tls = pki.directory("tls", ca="ca", server="server")
    daemon, qmp = start(f"policy: {{paths: [ {world}/in ]}}\nsandbox: {{}}", "--pidfile", world / "daemon.pid",
                        "--audit", f"path={world}/audit.log")
    for driver, options in (("file", {"filename": f"{world}/in/new.qcow2", "size": 0}),
                            ("qcow2", {"file": "new-file", "size": MIB})):
        if driver == "qcow2":
            qmp.execute("blockdev-add", driver="file", node_name="new-file", filename=f"{world}/in/new.qcow2")
        qmp.execute("blockdev-create", job_id="j", options={"driver": driver, **options})
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")
        assert "error" not in qmp.execute("query-jobs")[0]
        qmp.execute("job-dismiss", id="j")
    qmp.execute("blockdev-add", driver="qcow2", node_name="new", file="new-file")
    qmp.execute("block_resize", node_name="new", size=2 * MIB)
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=f"{world}/in/disk.raw")
    qmp.execute("blockdev-snapshot-internal-sync", device="new", name="s")
    qmp.execute("object-add", qom_type="tls-creds-x509", id="tls", endpoint="server", dir=str(tls), verify_peer=False)
    qmp.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": f"{world}/in/nbd"}}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name="disk", writable=True)
    client = nbd.NBD()
    client.connect_uri(f"nbd+unix:///disk?socket={world}/in/nbd")
    assert client.pread(2, 0) == b"in"
    client.pwrite(b"x" * 4096, 8192)
    client.flush()
    client.shutdown()
    (world / "audit.log").rename(world / "audit.log.1")  # logrotate
    qmp.execute("block-export-del", id="e", mode="hard")
    wait_until(lambda: (world / "audit.log").exists() and "block-export-del" in (world / "audit.log").read_text())
    qmp.execute("quit")
    qmp.close()
    assert daemon.wait() == 0
    assert not (world / "daemon.pid").exists() and not (world / "in" / "qmp.sock").exists()
    assert [json.loads(line)["command"] for line in (world / "audit.log").read_text().splitlines()][-1] == "quit"


def test_signals_still_end_it(world, start):
    daemon, qmp = start(f"sandbox: {{paths: [ {world}/in ]}}")
    qmp.close()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait() == 0


def test_halves_can_be_left_out(world, start):
    daemon, qmp = start("sandbox: {landlock: false}")
    qmp.execute("blockdev-add", driver="file", node_name="a", filename=f"{world}/out/disk.raw")
    assert "\nSeccomp:\t2\n" in pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    qmp.close()


def test_without_the_option_nothing_is_given_up(daemon):
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    assert "\nNoNewPrivs:\t0\n" in status and "\nSeccomp:\t0\n" in status


@pytest.mark.parametrize("args,message", [
    (["--sandbox", "on"], "sandbox: it is not said which paths shall remain reachable: give 'paths' here or in the policy"),
    (["--sandbox", "paths.0=/nowhere"], "sandbox: paths[0]: cannot look up '/nowhere'"),
    (["--sandbox", "maybe"], "'maybe' is not a SandboxMode"),
])
def test_mistakes_end_the_start(args, message):
    told = run_cairnd(*args)
    assert told.returncode == 1 and message in told.stderr, told.stderr


def test_a_kernel_that_cannot_ends_the_start_unless_it_is_asked_gently(world, start_daemon):
    """Landlock can be stacked 16 times: a process to which that has been done cannot confine itself any further."""
    inner = world / "stack.py"
    inner.write_text("""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
attribute = (ctypes.c_uint64 * 1)(1 << 0)
for _ in range(16):  # LANDLOCK_MAX_NUM_LAYERS
    fd = libc.syscall(444, attribute, 8, 0)
    rule = ctypes.create_string_buffer((1).to_bytes(8, "little") + os.open("/", os.O_PATH).to_bytes(4, "little"))
    libc.syscall(445, fd, 1, rule, 0)
    libc.syscall(446, fd, 0)
    os.close(fd)
os.execv(sys.argv[1], sys.argv[1:])
""")
    command = ["/usr/bin/python3", inner, BUILD / "bin" / "cairnd", "--sandbox"]
    told = subprocess.run([*command, f"on,paths.0={world}"], capture_output=True, text=True, timeout=20, env={**os.environ, **ENV})
    assert told.returncode == 1
    assert "sandbox: Landlock: cannot confine the process: Argument list too long" in told.stderr
    process = subprocess.Popen([*command, f"auto,paths.0={world}", "--chardev", f"socket,id=c,path={world}/q,server=on,wait=off",
                                "--monitor", "c"], stderr=subprocess.PIPE, text=True, env={**os.environ, **ENV})
    try:
        assert "the sandbox is not complete: Landlock: cannot confine the process" in process.stderr.readline()
        with connect_patiently(world / "q") as qmp:
            qmp.execute("quit")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_metrics_are_served_from_a_directory_of_their_own(world, start):
    (world / "run").mkdir()
    _, qmp = start(f"sandbox: {{paths: [ {world}/in ]}}\nmetrics: {{addr: {{type: unix, path: {world}/run/metrics.sock}}}}")
    metrics = Metrics(world / "run" / "metrics.sock")
    assert metrics("cairn_qmp_clients") == 1 and metrics("cairn_resident_memory_bytes") > 1 << 20
    qmp.close()
