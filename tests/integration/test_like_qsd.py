"""The same said to cairnd and to qemu-storage-daemon: both take it, or both refuse it with an error of the same class.

Texts are compared where clients are known to look at them."""

import json
import shutil
import socket
import subprocess
import time

import pytest

from process import CAIRND
from qmp import DEADLINE, QMP, QMPError

QSD = shutil.which("qemu-storage-daemon")
PATIENCE = 10  # seconds; it sometimes hangs when it starts

pytestmark = pytest.mark.skipif(not QSD, reason="qemu-storage-daemon is not installed")


def status(program, args, directory):
    directory.mkdir()
    try:
        result = subprocess.run([program, *args], cwd=directory, capture_output=True, timeout=PATIENCE,
                                stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        if program == QSD:
            pytest.skip("qemu-storage-daemon hangs")
        raise
    return result.returncode


SOCKET = "socket,id=c,path=c.sock,server=on,wait=off"


@pytest.mark.parametrize("args", [
    ["--help"], ["-h"], ["--version"], ["-V"], ["--object", "help"], ["--object", "iothread,help"],
    ["--object", "tls-creds-x509,help"], ["--object", "throttle-group,help"], ["--object", "nobody,help"],
    ["--chardev", "help"], ["--trace", "help"], ["--help", "--blockdev", "nonsense"],
    ["--blockdev"], ["--nonsense"], ["extra"], ["--blockdev", "help"], ["--monitor", "help"], ["--export", "help"],
    ["--blockdev", "null-co"], ["--blockdev", "nobody,node-name=n"], ["--blockdev", "null-co,node-name=n,bad=1"],
    ["--blockdev", "file,node-name=n,filename=missing"], ["--blockdev", "raw,node-name=n,file=missing"],
    ["--blockdev", "null-co,node-name=n", "--blockdev", "null-co,node-name=n"],
    ["--blockdev", '{"driver": "null-co"}'], ["--blockdev", '{"driver": "null-co",'],
    ["--chardev", "socket,path=a"], ["--chardev", "nobody,id=c"], ["--chardev", "id=c"],
    ["--chardev", "socket,id=c,path=a,host=b,port=1"], ["--chardev", "socket,id=c,host=b"],
    ["--chardev", "socket,id=c,path=missing"], ["--chardev", "socket,id=c,path=a,wait=off"],
    ["--chardev", "socket,id=c,path=missing/a,server=on,wait=off"], ["--chardev", "socket,id=c,path=a,server,nowait,x=1"],
    ["--chardev", "socket,id=c,path=a,server=on,reconnect=1"], ["--chardev", SOCKET, "--chardev", SOCKET],
    ["--monitor", "c"], ["--chardev", SOCKET, "--monitor", "other"],
    ["--chardev", SOCKET, "--monitor", "c", "--monitor", "c"], ["--chardev", SOCKET, "--monitor", "c,mode=readline"],
    ["--chardev", SOCKET, "--monitor", "c,pretty=perhaps"],
    ["--object", "iothread"], ["--object", "nobody,id=o"], ["--object", "iothread,id=o,poll-max-ns=-1"],
    ["--object", "iothread,id=o", "--object", "iothread,id=o"], ["--object", "secret,id=s"],
    ["--object", "secret,id=s,data=x,file=y"], ["--object", "tls-creds-x509,id=t,dir=missing,endpoint=server"],
    ["--nbd-server", "bad=1"], ["--nbd-server", "addr.type=unix"],
    ["--nbd-server", "addr.type=unix,addr.path=missing/a"],
    ["--nbd-server", "addr.type=unix,addr.path=a", "--nbd-server", "addr.type=unix,addr.path=b"],
    ["--nbd-server", "addr.type=unix,addr.path=a,tls-creds=missing"],
    ["--export", "nbd,id=e,node-name=missing"], ["--export", "nobody,id=e,node-name=n"],
    ["--blockdev", "null-co,node-name=n", "--export", "nbd,id=e,node-name=n"],
    ["--blockdev", "null-co,node-name=n", "--export", "fuse,id=e,node-name=n,mountpoint=missing"],
    ["--blockdev", "null-co,node-name=n", "--export", "vhost-user-blk,id=e,node-name=n"],
    ["--pidfile", "missing/a"],
    ["--daemonize", "--blockdev", "file,node-name=n,filename=missing"], ["--daemonize", "--pidfile", "missing/a"],
], ids=" ".join)
def test_command_lines_that_end(tmp_path, args):
    if args[0] == "--daemonize" and status(CAIRND, args, tmp_path / "cairnd") == 1:
        return  # that of version 7.2 hangs
    assert status(CAIRND, args, tmp_path / "cairnd") == status(QSD, args, tmp_path / "qsd")


@pytest.mark.parametrize("kind", ["iothread", "secret", "throttle-group", "tls-creds-x509", "tls-creds-psk",
                                  "tls-creds-anon", "authz-list", "authz-list-file", "authz-simple"])
def test_help_for_an_object(kind):
    told = [subprocess.run([program, "--object", f"{kind},help"], capture_output=True, text=True, timeout=PATIENCE,
                           check=True).stdout for program in (CAIRND, QSD)]
    assert told[0] == told[1]


class Daemon:
    """Either of them, with a monitor."""

    def __init__(self, program, directory):
        directory.mkdir()
        self.process = subprocess.Popen([program, "--chardev", SOCKET, "--monitor", "c", "--object", "iothread,id=io0"],
                                        cwd=directory, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.qmp = self._connect(directory / "c.sock", program)

    def _connect(self, path, program):
        end = time.monotonic() + (PATIENCE if program == QSD else DEADLINE)
        while time.monotonic() < end:
            try:
                return QMP(path)
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.01)
            except (TimeoutError, socket.timeout, AssertionError):  # QSD greets twice now and then
                break
        self.stop()
        if program == QSD:
            pytest.skip("qemu-storage-daemon hangs")
        raise AssertionError("cairnd does not listen")

    def say(self, command, arguments):
        try:
            return "return", self.qmp.execute(command, arguments)
        except QMPError as error:
            return error.error_class, error.desc

    def stop(self):
        if hasattr(self, "qmp"):
            self.qmp.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def both(tmp_path):
    ours = Daemon(CAIRND, tmp_path / "cairnd")
    try:
        theirs = Daemon(QSD, tmp_path / "qsd")
        yield ours, theirs
        theirs.stop()
    finally:
        ours.stop()


UNIX = {"type": "unix", "data": {"path": "nbd.sock"}}
NULL = {"driver": "null-co", "node-name": "n", "size": 1 << 20}
TEXT = True  # compared too

SEQUENCES = {
    "the session": [
        ("nothing", {}, TEXT), ("qmp_capabilities", {}, TEXT), ("query-version", {"x": 1}), ("query-commands", {"x": 1}),
        ("query-kvm", {}, TEXT), ("query-status", {}, TEXT), ("device_add", {}, TEXT), ("human-monitor-command", {}, TEXT),
    ],
    "nodes": [
        ("blockdev-add", NULL), ("blockdev-add", NULL, TEXT), ("blockdev-add", {"driver": "null-co"}, TEXT),
        ("blockdev-add", {"driver": "raw", "node-name": "r", "file": "missing"}),
        ("blockdev-add", {"driver": "raw", "node-name": "r", "file": "n"}), ("blockdev-del", {"node-name": "n"}),
        ("blockdev-del", {"node-name": "missing"}, TEXT), ("blockdev-add", {"driver": "nobody", "node-name": "x"}),
        ("blockdev-add", {"driver": "file", "node-name": "x", "filename": "missing"}),
        ("blockdev-add", {"driver": "null-co", "node-name": "1x"}), ("blockdev-add", {"driver": "null-co", "node-name": 5}),
        ("block_resize", {"node-name": "missing", "size": 1}), ("block_resize", {"node-name": "r", "size": -1}),
        ("blockdev-reopen", {"options": [{"driver": "raw", "node-name": "missing", "file": "n"}]}),
        ("blockdev-snapshot", {"node": "missing", "overlay": "n"}), ("change-backing-file", {
            "device": "missing", "image-node-name": "missing", "backing-file": "x"}),
        ("blockdev-snapshot-internal-sync", {"device": "missing", "name": "x"}, TEXT),
        ("blockdev-snapshot-internal-sync", {"device": "n", "name": ""}),
        ("blockdev-snapshot-delete-internal-sync", {"device": "missing", "name": "x"}, TEXT),
        ("x-blockdev-set-iothread", {"node-name": "n", "iothread": "io0"}),
        ("x-blockdev-set-iothread", {"node-name": "n", "iothread": "missing"}, TEXT),
        ("x-blockdev-set-iothread", {"node-name": "missing", "iothread": None}, TEXT),
        ("blockdev-del", {"node-name": "r"}), ("blockdev-del", {"node-name": "n"}),
    ],
    "jobs": [
        ("blockdev-add", NULL), ("block-job-cancel", {"device": "missing"}, TEXT),
        ("block-job-pause", {"device": "missing"}, TEXT), ("block-job-complete", {"device": "missing"}, TEXT),
        ("block-job-set-speed", {"device": "missing", "speed": 1}, TEXT), ("job-cancel", {"id": "missing"}, TEXT),
        ("job-dismiss", {"id": "missing"}, TEXT), ("job-finalize", {"id": "missing"}, TEXT),
        ("block-commit", {"device": "missing"}), ("block-stream", {"device": "missing"}),
        ("blockdev-mirror", {"job-id": "j", "device": "missing", "target": "n", "sync": "full"}),
        ("blockdev-mirror", {"job-id": "j", "device": "n", "target": "missing", "sync": "full"}),
        ("blockdev-backup", {"job-id": "j", "device": "n", "target": "missing", "sync": "full"}),
        ("query-jobs", {}, TEXT), ("query-block-jobs", {}, TEXT), ("blockdev-del", {"node-name": "n"}),
    ],
    "exports": [
        ("blockdev-add", NULL), ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n"}),
        ("nbd-server-stop", {}), ("nbd-server-start", {"addr": UNIX}), ("nbd-server-start", {"addr": UNIX}, TEXT),
        ("block-export-add", {"type": "nbd", "id": "e", "node-name": "missing"}, TEXT),
        ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n"}),
        ("block-export-add", {"type": "nbd", "id": "e", "node-name": "n"}, TEXT),
        ("block-export-add", {"type": "nbd", "id": "f", "node-name": "n", "name": "n"}),
        ("block-export-add", {"type": "nbd", "id": "f", "node-name": "n", "name": "m", "iothread": "missing"}, TEXT),
        ("block-export-add", {"type": "vhost-user-blk", "id": "g", "node-name": "n"}),
        ("query-block-exports", {}, TEXT), ("blockdev-del", {"node-name": "n"}),
        ("block-export-del", {"id": "missing"}, TEXT), ("block-export-del", {"id": "e"}),
        ("nbd-server-stop", {}), ("blockdev-del", {"node-name": "n"}),
    ],
    "objects": [
        ("object-add", {"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": 10}}),
        ("object-add", {"qom-type": "throttle-group", "id": "g"}, TEXT), ("object-add", {"qom-type": "nobody", "id": "x"}),
        ("object-add", {"qom-type": "iothread", "id": "1x"}), ("object-del", {"id": "missing"}, TEXT),
        ("qom-get", {"path": "/objects/io0", "property": "poll-max-ns"}, TEXT),
        ("qom-set", {"path": "/objects/io0", "property": "poll-max-ns", "value": 5}, TEXT),
        ("qom-get", {"path": "/objects/io0", "property": "poll-max-ns"}, TEXT),
        ("qom-set", {"path": "/objects/io0", "property": "poll-max-ns", "value": -5}),
        ("qom-set", {"path": "/objects/io0", "property": "poll-max-ns", "value": "text"}),
        ("qom-set", {"path": "/objects/io0", "property": "aio-max-batch", "value": 7}, TEXT),
        ("qom-get", {"path": "/objects/io0", "property": "aio-max-batch"}, TEXT),
        ("qom-get", {"path": "/objects/io0", "property": "missing"}, TEXT),
        ("qom-get", {"path": "/objects/missing", "property": "type"}, TEXT),
        ("qom-get", {"path": "io0", "property": "type"}, TEXT), ("qom-list", {"path": "missing"}, TEXT),
        ("qom-get", {"path": "/objects/g", "property": "x-iops-total"}, TEXT),
        ("qom-set", {"path": "/objects/io0", "property": "thread-pool-max", "value": 0}),
        ("qom-list-properties", {"typename": "missing"}),
        ("object-del", {"id": "g"}), ("object-del", {"id": "io0"}),
    ],
    "bitmaps": [
        ("blockdev-add", NULL), ("block-dirty-bitmap-add", {"node": "n", "name": "b"}),
        ("block-dirty-bitmap-add", {"node": "n", "name": "b"}, TEXT), ("block-dirty-bitmap-add", {"node": "n", "name": ""}),
        ("block-dirty-bitmap-add", {"node": "missing", "name": "b"}),
        ("block-dirty-bitmap-add", {"node": "n", "name": "c", "granularity": 513}),
        ("block-dirty-bitmap-remove", {"node": "n", "name": "missing"}, TEXT),
        ("block-dirty-bitmap-remove", {"node": "n", "name": "b"}), ("blockdev-del", {"node-name": "n"}),
    ],
    "character devices": [
        ("query-chardev", {}, TEXT), ("chardev-remove", {"id": "c"}, TEXT), ("chardev-remove", {"id": "missing"}, TEXT),
        ("chardev-add", {"id": "d", "backend": {"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": "d.sock"}}, "server": True}}}, TEXT),
        ("chardev-add", {"id": "d", "backend": {"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": "e.sock"}}, "server": True}}}),
        ("chardev-add", {"id": "e", "backend": {"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": "missing"}}, "server": False}}}, TEXT),
        ("chardev-remove", {"id": "d"}, TEXT),
    ],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(both, name):
    differences = []
    for command, arguments, *text in SEQUENCES[name]:
        ours, theirs = (daemon.say(command, arguments) for daemon in both)
        if isinstance(ours[1], list) and isinstance(theirs[1], list) and command != "query-chardev":
            ours, theirs = ((kind, sorted(json.dumps(item, sort_keys=True) for item in value)) for kind, value in (ours, theirs))
        if ours[0] != theirs[0] or (text and ours != theirs):
            differences.append((command, arguments, ours, theirs))
    assert differences == []


# A manager ----------------------------------------------------------------------------------------------------------

class Manager:
    """Speaks as libvirt does: storage and format nodes by themselves, jobs that are dismissed by hand and driven by
    JOB_STATUS_CHANGE."""

    def __init__(self, daemon, directory):
        self.qmp, self.directory = daemon.qmp, directory
        self.lives = {}

    def say(self, command, **arguments):
        return self.qmp.execute(command, **arguments)

    def path(self, name):
        return str(self.directory / name)

    def wait(self, job, status):
        """Until the job has that status; all that it has on the way there is remembered."""
        while status not in self.lives.setdefault(job, []):
            event = self.qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["id"] == job)
            self.lives[job].append(event["data"]["status"])

    def end(self, job):
        self.wait(job, "concluded")
        told, = [each for each in self.say("query-jobs") if each["id"] == job]
        assert told["status"] == "concluded" and "error" not in told, told
        self.say("job-dismiss", id=job)
        self.wait(job, "null")

    def add_disk(self, number, name, backing=None):
        self.say("blockdev-add", driver="file", filename=self.path(name), node_name=f"libvirt-{number}-storage",
                 auto_read_only=True, discard="unmap")
        self.add_format(number, backing)

    def add_format(self, number, backing=None):
        self.say("blockdev-add", node_name=f"libvirt-{number}-format", read_only=False, discard="unmap", driver="qcow2",
                 file=f"libvirt-{number}-storage", backing=backing)

    def create_disk(self, number, name, **options):
        self.say("blockdev-create", job_id=f"create-{number}-storage",
                 options={"driver": "file", "filename": self.path(name), "size": 0})
        self.end(f"create-{number}-storage")
        self.say("blockdev-add", driver="file", filename=self.path(name), node_name=f"libvirt-{number}-storage",
                 auto_read_only=True, discard="unmap")
        self.say("blockdev-create", job_id=f"create-{number}-format",
                 options={"driver": "qcow2", "file": f"libvirt-{number}-storage", "size": 16 << 20, **options})
        self.end(f"create-{number}-format")
        self.add_format(number)

    def drop_disk(self, number):
        for kind in ("format", "storage"):
            self.say("blockdev-del", node_name=f"libvirt-{number}-{kind}")

    def work(self):
        for query in ("query-version", "query-commands", "query-qmp-schema", "query-chardev", "query-block-jobs"):
            self.say(query)
        self.say("object-add", qom_type="secret", id="libvirt-key", data="aGVsbG8=", format="base64")
        self.add_disk(1, "base.qcow2")
        self.create_disk(2, "overlay.qcow2", **{"backing-file": self.path("base.qcow2"), "backing-fmt": "qcow2"})
        self.say("blockdev-snapshot", node="libvirt-1-format", overlay="libvirt-2-format")
        self.say("block-dirty-bitmap-add", node="libvirt-2-format", name="since", persistent=True)

        self.create_disk(3, "copy.qcow2")
        self.say("blockdev-mirror", job_id="copy", device="libvirt-2-format", target="libvirt-3-format", sync="full",
                 auto_finalize=True, auto_dismiss=False)
        self.wait("copy", "ready")
        self.say("job-complete", id="copy")
        self.end("copy")

        self.say("block-commit", job_id="commit", device="libvirt-2-format", top_node="libvirt-2-format",
                 base_node="libvirt-1-format", auto_finalize=True, auto_dismiss=False)
        self.wait("commit", "ready")
        self.say("job-complete", id="commit")
        self.end("commit")

        self.create_disk(4, "backup.qcow2")
        self.say("blockdev-backup", job_id="backup", device="libvirt-1-format", target="libvirt-4-format", sync="full",
                 auto_finalize=False, auto_dismiss=False)
        self.wait("backup", "pending")
        self.say("job-finalize", id="backup")
        self.end("backup")

        self.say("nbd-server-start", addr={"type": "unix", "data": {"path": self.path("nbd.sock")}})
        self.say("block-export-add", type="nbd", id="pull", node_name="libvirt-4-format", name="sda", writable=False)
        assert [export["id"] for export in self.say("query-block-exports")] == ["pull"]
        self.say("block-export-del", id="pull", mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED")
        self.say("nbd-server-stop")
        for number in (4, 3, 2, 1):
            self.drop_disk(number)
        self.say("object-del", id="libvirt-key")
        assert self.say("query-named-block-nodes") == []
        return self.lives


def without_pauses(statuses):
    """In QSD a job pauses for every change of the graph."""
    kept = [status for status in statuses if status not in ("paused", "standby")]
    return [status for before, status in zip([None, *kept], kept) if status != before]


def test_what_a_manager_does(both, tmp_path):
    lives = []
    for daemon, name in zip(both, ("cairnd", "qsd")):
        directory = tmp_path / name
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", directory / "base.qcow2", "16M"], check=True,
                       timeout=DEADLINE)
        lives.append({job: without_pauses(life) for job, life in Manager(daemon, directory).work().items()})
        daemon.qmp.execute("quit")
        assert daemon.process.wait(DEADLINE) == 0
    assert lives[0] == lives[1]
