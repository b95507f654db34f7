"""What goes wrong while a job of any kind runs: storage that fails again and again, on either side or on both; a file
system that is full; a server that dies; the daemon that is killed. The job ends or pauses as its policies say, what it
copied from is as it was, the images are in order, and another try goes well."""

import errno
import signal
import time

import nbd
import pytest

import chains
import nbd_client
from images import KIB, MIB, check, content, create, rng_of, run, seeds
from jobs import wait_status
from test_job_cancels import try_command
from test_nbd_client import qemu_nbd
from test_no_space import SPACE, small  # noqa: F401 (a fixture)

SIZE = chains.SIZE
JOBS = ["mirror", "backup", "stream", "commit", "active commit"]
TRIES = 30
CLEAN = 2 * MIB  # what is copied until the daemon is killed


class Scene:
    """l0 to l3, of which the jobs read l2 and below; and "target". Files may stand behind filters.

        mirror, backup: l3 --> target     stream: l1, l2 --> l3     commit: l2 --> l0     active commit: l3 --> l0
    """

    def __init__(self, qmp, directory, job, rules=lambda file: None, paths=None, target_in=None, remote=None):
        self.qmp, self.directory, self.job = qmp, directory, job
        self.paths = paths or chains.make(directory, "plain")
        self.model = chains.model_of(self.paths)
        self.target = (target_in or directory) / "target.img"
        if not self.target.exists():
            create(self.target, SIZE)
        below = {}
        for number, (path, _) in enumerate(self.paths):
            self.add(f"l{number}", path, rules(f"l{number}"), (remote or {}).get(number), **below)
            below = {"backing": f"l{number}"}
        self.add("target", self.target, rules("target"), backing=None)

    def add(self, name, path, rules, socket=None, **options):
        file = {"driver": "file", "filename": str(path), "discard": "unmap"}
        if socket:  # of a server that has the file
            file = {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}, "export": "disk",
                    "reconnect-delay": 1, "discard": "unmap"}
        if rules:
            file = {"driver": "blkdebug", "image": file, "inject-error": rules, "discard": "unmap"}
        self.qmp.execute("blockdev-add", driver="qcow2", node_name=name, file=file, discard="unmap", **options)

    def start(self, policy="report", **options):
        common = {"job-id": "j", "auto-dismiss": False} | {name.replace("_", "-"): value for name, value in options.items()}
        both = {"on-source-error": policy, "on-target-error": policy, "device": "l3", "target": "target", "sync": "full"}
        if self.job == "mirror":
            self.qmp.execute("blockdev-mirror", common | both)
        elif self.job == "backup":
            self.qmp.execute("blockdev-backup", common | both)
        elif self.job == "stream":
            self.qmp.execute("block-stream", common | {"device": "l3", "on-error": policy})
        else:
            top = "l2" if self.job == "commit" else "l3"
            self.qmp.execute("block-commit", common | {"device": "l3", "top-node": top, "base-node": "l0",
                                                       "on-error": policy})

    def drive(self):
        """To its end, past all errors: resumes it, and completes it. Its error, or None."""
        completing = False
        while True:
            jobs = self.qmp.execute("query-jobs")
            if jobs[0]["status"] == "concluded":
                self.qmp.execute("job-dismiss", id="j")
                self.qmp.events.clear()
                return jobs[0].get("error")
            if jobs[0]["status"] in ("paused", "standby"):
                self.qmp.execute("block-job-resume", device="j")
            elif jobs[0]["status"] == "ready" and not completing:
                self.qmp.execute("block-job-complete", device="j")
                completing = True
            self.qmp.wait_event("JOB_STATUS_CHANGE")

    def result(self):
        """The image that the job made, or made complete."""
        number = {"stream": 3, "commit": 3, "active commit": 0}.get(self.job)
        return self.target if number is None else self.paths[number][0]

    def judge(self, daemon):
        daemon.stop()
        assert content(self.result()) == bytes(self.model)
        for path in [path for path, _ in self.paths] + [self.target]:
            check(path, leaks_allowed=True)


def export(qmp, directory):
    """A guest that looks at l3."""
    socket = nbd_client.start_server(qmp, directory)
    nbd_client.export(qmp, "l3")
    return nbd_client.connect_plainly(socket, "l3")


def read_patiently(client):
    """Errors that were ordered and are left may come upon a guest."""
    for _ in range(TRIES):
        try:
            return nbd_client.read_all(client)
        except nbd.Error as error:
            assert error.errnum in (errno.EIO, errno.ENOSPC), error
    raise AssertionError("there is no end of errors")


# Storage that fails ---------------------------------------------------------------------------------------------

READS, WRITES = {"mirror": ("l2", "target"), "backup": ("l2", "target"), "stream": ("l2", "l3"), "commit": ("l2", "l0"),
                 "active commit": ("l2", "l0")}, ["write_aio", "l2_update", "cluster_alloc", "refblock_alloc"]


def random_rules(rng, job, where):
    """Each of them makes one request fail."""
    source, target = READS[job]

    def rules(name):
        errnum = rng.choice([errno.EIO, errno.ENOSPC])
        if name == source and where in ("source", "both"):
            return [{"event": "read_aio", "errno": errnum, "once": True} for _ in range(rng.randrange(1, 4))]
        if name == target and where in ("target", "both"):
            return [{"event": rng.choice(WRITES), "errno": errnum, "once": True} for _ in range(rng.randrange(1, 6))]
        return None

    return rules


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("policy", ["report", "stop", "enospc", "ignore"])
@pytest.mark.parametrize("where", ["source", "target", "both"])
@pytest.mark.parametrize("job", JOBS)
def test_errors_one_after_another(daemon, qmp, tmp_path, job, where, policy, seed):
    scene = Scene(qmp, tmp_path, job, random_rules(rng_of(f"errors {job} {where} {policy} {seed}"), job, where))
    client = export(qmp, tmp_path)
    for _ in range(TRIES):
        scene.start(policy)
        if scene.drive() is None:
            break
        assert read_patiently(client) == bytes(scene.model)
    else:
        raise AssertionError("there is no end of errors")
    assert read_patiently(client) == bytes(scene.model)
    client.shutdown()
    scene.judge(daemon)


# A file system that is full -------------------------------------------------------------------------------------

@pytest.mark.parametrize("job", JOBS)
def test_no_space(daemon, qmp, tmp_path, small, job):  # noqa: F811 (the same)
    """The image that grows lies there, and everything else does not."""
    grows = {"stream": 3, "commit": 0, "active commit": 0}.get(job)
    paths = chains.make(tmp_path, "plain")
    if grows is not None:
        path = paths[grows][0]
        moved = small / path.name
        moved.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(moved)
    create(small / "target.img", SIZE)
    used = sum(file.stat().st_blocks * 512 for file in small.iterdir())
    (small / "filler").write_bytes(bytes(SPACE - used - 64 * KIB))
    scene = Scene(qmp, tmp_path, job, paths=paths, target_in=small)
    client = export(qmp, tmp_path)
    scene.start("enospc")
    error = qmp.wait_event("BLOCK_JOB_ERROR")["data"]
    assert error["action"] == "stop" and error["operation"] == "write"
    wait_status(qmp, "j", "paused")
    assert qmp.execute("query-block-jobs")[0]["io-status"] == "nospace"
    assert nbd_client.read_all(client) == bytes(scene.model)
    (small / "filler").unlink()
    assert scene.drive() is None
    assert nbd_client.read_all(client) == bytes(scene.model)
    client.shutdown()
    scene.judge(daemon)


# A server that dies ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("policy", ["report", "stop"])
@pytest.mark.parametrize("job", ["mirror", "backup"])
def test_the_server_of_the_target_dies(daemon, qmp, tmp_path, serve, job, policy):
    noise = rng_of("server").randbytes(SIZE)
    (tmp_path / "source").write_bytes(noise)
    (tmp_path / "copy").write_bytes(bytes(SIZE))
    qmp.execute("blockdev-add", driver="file", node_name="source", filename=str(tmp_path / "source"))
    server = qemu_nbd(serve, tmp_path, tmp_path / "copy")
    options = {"driver": "nbd", "node-name": "target", "export": "disk", "reconnect-delay": 20 if policy == "stop" else 0,
               "server": {"type": "unix", "path": str(tmp_path / "server.sock")}}
    qmp.execute("blockdev-add", options)
    arguments = {"job-id": "j", "device": "source", "target": "target", "sync": "full", "auto-dismiss": False,
                 "speed": MIB, "on-target-error": policy}
    qmp.execute(f"blockdev-{job}", arguments)
    server.kill()
    if policy == "report":
        try_command(qmp, "block-job-set-speed", device="j", speed=0)
        assert qmp.wait_job("j")
        qmp.execute("blockdev-del", node_name="target")
    server.start()
    if policy == "report":
        qmp.execute("blockdev-add", options)
        qmp.execute(f"blockdev-{job}", arguments)
    qmp.execute("block-job-set-speed", device="j", speed=0)
    if job == "mirror":
        qmp.wait_event("BLOCK_JOB_READY")
        qmp.execute("block-job-cancel", device="j")
    assert qmp.wait_job("j") is None
    assert (tmp_path / "copy").read_bytes() == noise == (tmp_path / "source").read_bytes()


@pytest.mark.parametrize("job, how, policy", [
    ("stream", "killed", "stop"), ("stream", "disconnected", "report"), ("commit", "killed", "report"),
    ("commit", "disconnected", "stop"), ("active commit", "killed", "stop"), ("mirror", "killed", "report"),
    ("backup", "disconnected", "stop")])
def test_the_server_of_the_source_dies(daemon, qmp, tmp_path, serve, job, how, policy):
    """A layer below lies on a server. @policy report: the job fails, what it read from and wrote to is in order, and another try
    goes well; stop: the job goes on where it was when the server is there again."""
    paths = chains.make(tmp_path, "plain")
    with_noise = rng_of("source").randbytes(2 * MIB)
    (tmp_path / "noise").write_bytes(with_noise)
    run("qemu-io", "-f", "qcow2", "-c", f"write -s {tmp_path / 'noise'} 3m 2m", paths[2][0])
    server = qemu_nbd(serve, tmp_path, paths[2][0])
    scene = Scene(qmp, tmp_path, job, paths=paths, remote={2: tmp_path / "server.sock"})
    scene.start(policy, speed=MIB)
    while qmp.execute("query-block-jobs")[0]["offset"] < 512 * KIB:
        pass
    if how == "killed":
        server.kill()
    else:
        server.signal(signal.SIGTERM)  # it says good-bye
        server.process.wait()
    qmp.execute("block-job-set-speed", device="j", speed=0)
    if policy == "stop":
        told = qmp.wait_event("BLOCK_JOB_ERROR", deadline=60)["data"]
        assert told == {"device": "j", "operation": "read", "action": "stop"}
        wait_status(qmp, "j", "paused")
        server.start()
        assert scene.drive() is None
    else:
        failed = qmp.wait_event("BLOCK_JOB_COMPLETED", deadline=60)["data"]
        assert failed["error"] and failed["offset"] < failed["len"]
        wait_status(qmp, "j", "concluded")
        qmp.execute("job-dismiss", id="j")
        qmp.events.clear()
        server.start()
        failure = "the node has not found the server again"
        end = time.monotonic() + 60
        while failure and time.monotonic() < end:
            scene.start()
            failure = scene.drive()
        assert failure is None
    daemon.stop()
    server.kill()
    scene.judge(daemon)


# The daemon is killed -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("job", JOBS)
def test_the_daemon_is_killed(start_daemon, tmp_path, job):
    daemon = start_daemon()
    qmp = daemon.connect()
    scene = Scene(qmp, tmp_path, job)
    scene.start(speed=4 * MIB)
    while not CLEAN // 2 < qmp.execute("query-jobs")[0]["current-progress"]:
        assert qmp.execute("query-jobs")[0]["status"] == "running"
    daemon.kill()
    daemon.expected_status = -9
    for path, _ in scene.paths:
        check(path, leaks_allowed=True)
    assert content(scene.paths[3][0]) == bytes(scene.model)

    daemon = start_daemon()
    again = Scene(daemon.connect(), tmp_path, job, paths=scene.paths)
    again.start()
    assert again.drive() is None
    again.judge(daemon)
