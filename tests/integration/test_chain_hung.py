"""block-commit and block-stream when storage does not answer: they can be steered at any moment, guests go on, and what
hangs does no harm when it comes back."""

import time

import pytest

import chains
import nbd_client
from chains import judge
from images import KIB, MIB
from jobs import AT_ONCE, Request, until_allowed, wait_held, wait_status

JOBS = {
    "stream": ("block-stream", {"device": "l3"}),
    "commit": ("block-commit", {"device": "l3", "top-node": "l2"}),
    "active": ("block-commit", {"device": "l3"}),
}


class Chain:
    """Layers, a guest, and one file that can be made to hang."""

    def __init__(self, qmp, directory, hung):
        self.qmp = qmp
        self.paths = chains.make(directory, "plain")
        self.model = chains.model_of(self.paths)
        chains.add_with_gate(qmp, self.paths, hung)
        socket = nbd_client.start_server(qmp, directory)
        nbd_client.export(qmp, "l3", writable=True)
        self.client = nbd_client.connect(socket, "l3")
        self.write(0xee, 5 * MIB)  # a cluster of the overlay's own
        self.names = chains.names_of(qmp)

    def hold(self, operation):
        self.qmp.execute("x-gate-hold", node_name="gate", operation=operation)

    def start(self, kind, **arguments):
        command, given = JOBS[kind]
        self.qmp.execute(command, {"job-id": "j", "auto-dismiss": False} | given | arguments)

    def write(self, byte, offset, length=64 * KIB):
        self.client.pwrite(bytes([byte]) * length, offset)
        self.model[offset:offset + length] = bytes([byte]) * length

    def cancel(self):
        """At once, whatever hangs."""
        begin = time.monotonic()
        self.qmp.execute("block-job-cancel", device="j", force=True)
        self.qmp.wait_event("BLOCK_JOB_CANCELLED")
        assert self.qmp.wait_job("j") == "the job was cancelled"
        assert time.monotonic() - begin < AT_ONCE

    def release(self):
        self.qmp.execute("x-gate-release", node_name="gate")

        def is_as_before():
            assert chains.names_of(self.qmp) == self.names

        until_allowed(is_as_before)

    def finish(self, kind):
        """Another try goes well."""
        self.start(kind)
        if kind == "active":
            self.qmp.wait_event("BLOCK_JOB_READY")
            self.qmp.execute("block-job-complete", device="j")
        assert self.qmp.wait_job("j") is None
        assert nbd_client.read_all(self.client) == bytes(self.model)
        self.client.shutdown()


@pytest.mark.parametrize("kind, hung, operation", [
    ("stream", 1, "read"), ("stream", 3, "write"), ("commit", 2, "read"), ("commit", 0, "write"), ("active", 2, "read"),
    ("active", 0, "write"), ("active", 0, "flush"),
])
def test_copies_that_hang_hold_nobody_up(daemon, qmp, tmp_path, kind, hung, operation):
    chain = Chain(qmp, tmp_path, hung)
    chain.hold(operation)
    chain.start(kind)
    wait_held(qmp, "gate")
    begin = time.monotonic()
    qmp.execute("block-job-set-speed", device="j", speed=1000)
    assert time.monotonic() - begin < AT_ONCE
    chain.cancel()
    guest = Request(lambda: (chain.client.pread(64 * KIB, 5 * MIB),
                             hung == 3 or chain.write(0x77, 4 * MIB), hung == 3 or chain.client.flush()))
    guest.wait()
    command, arguments = JOBS[kind]
    error = str(qmp.error(command, {"job-id": "k"} | arguments))
    assert "in use by block job 'j'" in error
    chain.release()
    assert nbd_client.read_all(chain.client) == bytes(chain.model)
    chain.finish(kind)
    judge(daemon, tmp_path, chain.paths[0 if kind == "active" else 3][0], chain.model)


def test_what_a_stream_still_reads_does_not_come_upon_what_a_guest_has_written(daemon, qmp, tmp_path):
    chain = Chain(qmp, tmp_path, 1)
    nbd_client.read_all(chain.client)  # its tables are known: copies hang, not their plan
    chain.hold("read")
    chain.start("stream")
    wait_held(qmp, "gate")
    writes = Request(lambda: [chain.write(0x66, offset) for offset in range(0, 5 * MIB, 64 * KIB)])
    chain.cancel()
    writes.wait()
    chain.release()
    assert nbd_client.read_all(chain.client) == bytes(chain.model)
    chain.finish("stream")
    judge(daemon, tmp_path, chain.paths[3][0], chain.model)


@pytest.mark.parametrize("kind, hung, operation", [
    ("stream", 3, "flush"), ("stream", 3, "write"), ("commit", 0, "flush"), ("commit", 3, "write"),
])
def test_a_last_step_that_hangs_can_be_left(daemon, qmp, tmp_path, kind, hung, operation):
    """The flush, or the header that shall name another backing file. The job has copied all by then."""
    chain = Chain(qmp, tmp_path, hung)
    chain.start(kind, **{"auto-finalize": False})
    qmp.wait_event("BLOCK_JOB_PENDING")
    chain.client.flush()
    chain.hold(operation)
    qmp.execute("job-finalize", id="j")
    wait_held(qmp, "gate")
    begin = time.monotonic()
    assert "cannot accept command verb 'set-speed'" in str(qmp.error("block-job-set-speed", device="j", speed=1000))
    assert time.monotonic() - begin < AT_ONCE
    chain.cancel()
    Request(lambda: chain.client.pread(64 * KIB, 5 * MIB)).wait()
    if operation == "flush":
        Request(lambda: chain.write(0x77, 4 * MIB)).wait()
    chain.release()
    assert nbd_client.read_all(chain.client) == bytes(chain.model)
    chain.finish(kind)
    judge(daemon, tmp_path, chain.paths[3][0], chain.model)


@pytest.mark.parametrize("kind, hung, operation", [("stream", 1, "read"), ("commit", 0, "write"), ("active", 0, "write")])
@pytest.mark.parametrize("cancelled", [False, True])
def test_the_daemon_ends_while_a_job_hangs(daemon, qmp, tmp_path, kind, hung, operation, cancelled):
    chain = Chain(qmp, tmp_path, hung)
    chain.hold(operation)
    chain.start(kind)
    wait_held(qmp, "gate")
    if cancelled:
        chain.cancel()
    chain.client.shutdown()
    judge(daemon, tmp_path, chain.paths[3][0], chain.model)
