"""What other clients say to a job while its command still sets it up: each word counts, or is refused with the reason."""

import pytest

import chains
import nbd_client
from jobs import Request, wait_held, wait_status
from images import KIB

KINDS = {
    "mirror": ("blockdev-mirror", {"device": "l3", "target": "target", "sync": "full"}, 3),
    "backup": ("blockdev-backup", {"device": "l3", "target": "target", "sync": "full"}, 3),
    "stream": ("block-stream", {"device": "l3"}, 3),
    "commit": ("block-commit", {"device": "l3", "top-node": "l2"}, 2),
    "active": ("block-commit", {"device": "l3"}, 3),
}


class Setup:
    """The command waits for a request of a guest, which hangs: its filter cannot take its place before."""

    def __init__(self, daemon, qmp, directory, kind):
        command, arguments, hung = KINDS[kind]
        self.qmp, self.other, self.kind = qmp, daemon.connect(), kind
        self.paths = chains.make(directory, "plain")
        self.model = chains.model_of(self.paths)
        chains.add_with_gate(qmp, self.paths, hung)
        qmp.execute("blockdev-add", driver="null-co", node_name="target", size=len(self.model))
        socket = nbd_client.start_server(qmp, directory)
        nbd_client.export(qmp, "l3", writable=True)
        self.client = nbd_client.connect(socket, "l3")
        operation = "write" if hung == 3 else "read"
        qmp.execute("x-gate-hold", node_name="gate", operation=operation)
        # l2's own: nobody above has it
        self.guest = Request(lambda: self.client.pwrite(b"\x55" * 4 * KIB, 0) if hung == 3
                             else self.client.pread(4 * KIB, 2 * 300 * KIB))
        wait_held(qmp, "gate")
        self.command = qmp.start(command, {"job-id": "j", "auto-dismiss": False} | arguments)
        wait_status(self.other, "j", "created")
        self.names = None

    def job(self):
        return next(job for job in self.other.execute("query-block-jobs") if job["device"] == "j")

    def go_on(self):
        self.other.execute("x-gate-release", node_name="gate")
        self.qmp.finish(self.command)
        self.guest.wait()

    def end(self):
        if self.kind in ("mirror", "active"):
            wait_status(self.other, "j", "ready")
            self.other.execute("block-job-complete", device="j")
        assert self.other.wait_job("j") is None


@pytest.fixture(params=KINDS)
def setup(daemon, qmp, tmp_path, request):
    setup = Setup(daemon, qmp, tmp_path, request.param)
    yield setup
    setup.client.shutdown()


def test_it_is_listed_and_what_it_cannot_do_yet_is_refused(setup):
    job = setup.job()
    assert (job["status"], job["ready"], job["paused"], job["speed"]) == ("created", False, False, 0)
    assert setup.other.execute("query-jobs")[0]["status"] == "created"
    for command, arguments in (("block-job-complete", {"device": "j"}), ("job-finalize", {"id": "j"}),
                               ("job-dismiss", {"id": "j"})):
        error = str(setup.other.error(command, arguments))
        assert "Job 'j' in state 'created' cannot accept command verb" in error
    setup.go_on()
    setup.end()


def test_its_speed(setup):
    setup.other.execute("block-job-set-speed", device="j", speed=1)
    assert setup.job()["speed"] == 1
    setup.go_on()
    wait_status(setup.other, "j", "running")
    assert setup.job()["speed"] == 1
    setup.other.execute("block-job-set-speed", device="j", speed=0)
    setup.end()


def test_a_pause(setup):
    setup.other.execute("block-job-pause", device="j")
    setup.go_on()
    wait_status(setup.other, "j", "paused")
    setup.other.execute("block-job-resume", device="j")
    setup.end()


def test_a_pause_that_is_taken_back(setup):
    setup.other.execute("block-job-pause", device="j")
    setup.other.execute("block-job-resume", device="j")
    setup.go_on()
    setup.end()


@pytest.mark.parametrize("force", [False, True])
def test_a_cancel(setup, force):
    setup.other.execute("block-job-cancel", device="j", force=force)
    setup.go_on()
    assert setup.other.wait_job("j") == "the job was cancelled"
    assert any(event["event"] == "BLOCK_JOB_CANCELLED" for event in setup.other.events)
    setup.qmp.events.clear()
    setup.qmp.execute("blockdev-del", node_name="target")


def test_a_change(setup):
    change = {"id": "j", "type": "mirror", "copy-mode": "write-blocking"}
    if setup.kind != "mirror":
        assert "not a 'mirror' job" in str(setup.other.error("block-job-change", change))
        setup.go_on()
        setup.end()
        return
    setup.other.execute("block-job-change", change)
    error = str(setup.other.error("block-job-change", change | {"copy-mode": "background"}))
    assert "Change to copy mode 'background' is not implemented" in error
    setup.go_on()
    wait_status(setup.other, "j", "ready")
    assert setup.job()["actively-synced"]
    setup.other.execute("block-job-complete", device="j")
    assert setup.other.wait_job("j") is None
