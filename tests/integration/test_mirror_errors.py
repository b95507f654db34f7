"""Mirrors when storage fails or does not answer: the job does what its policies say, can be steered at any
moment, and the guest goes on."""

import time

import pytest

import nbd_client
from images import KIB, MIB, rng_of
from jobs import AT_ONCE, Request, until_allowed, wait_held, wait_status
from process import BUILD
from qmp import QMPError

SIZE = 4 * MIB
def add_raw(qmp, directory, name, byte, filter_driver=None, size=SIZE, **options):
    path = directory / name
    path.write_bytes(bytes([byte]) * size)
    file = {"driver": "file", "filename": str(path), "discard": "unmap"}
    if filter_driver == "gate":
        qmp.execute("blockdev-add", driver="gate", node_name=f"{name}-gate", file=file, discard="unmap")
        qmp.execute("blockdev-add", driver="raw", node_name=name, file=f"{name}-gate", discard="unmap")
    elif filter_driver == "blkdebug":
        qmp.execute("blockdev-add", driver="blkdebug", node_name=f"{name}-debug", image=file, discard="unmap", **options)
        qmp.execute("blockdev-add", driver="raw", node_name=name, file=f"{name}-debug", discard="unmap")
    else:
        qmp.execute("blockdev-add", driver="raw", node_name=name, file=file, discard="unmap")
    return path


def deleted(qmp, name):
    return until_allowed(lambda: qmp.execute("blockdev-del", node_name=name))


@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
@pytest.mark.parametrize("hung", ["target write", "target flush", "source read"])
def test_a_job_whose_storage_hangs_is_cancelled_at_once_and_the_guest_goes_on(daemon, qmp, tmp_path, hung, copy_mode):
    side, operation = hung.split()
    add_raw(qmp, tmp_path, "source", 1, "gate" if side == "source" else None)
    add_raw(qmp, tmp_path, "target", 2, "gate" if side == "target" else None)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "source", writable=True)
    client = nbd_client.connect(socket, "source")
    gate = f"{side}-gate"
    qmp.execute("x-gate-hold", node_name=gate, operation=operation)
    qmp.execute("blockdev-mirror", job_id="m0", device="source", target="target", sync="full", copy_mode=copy_mode)
    wait_held(qmp, gate)
    writes = Request(lambda: (client.pwrite(b"\x03" * 64 * KIB, 0), client.flush()))
    if copy_mode == "background":
        writes.wait()

    begin = time.monotonic()
    qmp.execute("block-job-set-speed", device="m0", speed=1000)
    qmp.execute("block-job-cancel", device="m0", force=True)
    qmp.wait_event("BLOCK_JOB_CANCELLED")
    wait_status(qmp, "m0", "null")
    assert time.monotonic() - begin < AT_ONCE
    writes.wait()
    client.pwrite(b"\x04" * 64 * KIB, MIB)
    client.flush()
    if side == "target":
        assert client.pread(1, 0) == b"\x03"
    error = str(qmp.error("blockdev-mirror", job_id="m1", device="source", target="target", sync="full"))
    assert "block job 'm0'" in error  # what hangs could still come upon its copy

    qmp.execute("x-gate-release", node_name=gate)
    deleted(qmp, "target")
    assert client.pread(64 * KIB, 0) == b"\x03" * 64 * KIB
    assert client.pread(64 * KIB, MIB) == b"\x04" * 64 * KIB
    client.shutdown()
    names = {node["node-name"] for node in qmp.execute("query-named-block-nodes")}
    assert not any(name.startswith("#block") and "mirror" in name for name in names)


@pytest.mark.parametrize("hung", ["source write", "target write", "target flush"])
def test_a_job_that_hangs_while_it_completes_can_be_cancelled(daemon, qmp, tmp_path, hung):
    """Its last step waits for a request that does not end. The guest keeps the source: not a byte is lost."""
    side, operation = hung.split()
    add_raw(qmp, tmp_path, "source", 1, "gate" if side == "source" else None)
    add_raw(qmp, tmp_path, "target", 2, "gate" if side == "target" else None)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "source", writable=True)
    client = nbd_client.connect(socket, "source")
    gate = f"{side}-gate"
    qmp.execute("blockdev-mirror", job_id="m0", device="source", target="target", sync="full",
                copy_mode="write-blocking")
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("x-gate-hold", node_name=gate, operation=operation)
    write = Request(lambda: (client.pwrite(b"\x05" * 64 * KIB, MIB), client.flush()))
    wait_held(qmp, gate)
    qmp.execute("block-job-complete", device="m0")
    wait_status(qmp, "m0", "pending")

    begin = time.monotonic()
    qmp.execute("block-job-cancel", device="m0", force=True)
    qmp.wait_event("BLOCK_JOB_CANCELLED")
    assert time.monotonic() - begin < AT_ONCE
    if side == "target":
        write.wait()
    qmp.execute("x-gate-release", node_name=gate)
    write.wait()
    deleted(qmp, "target")
    assert client.pread(64 * KIB, MIB) == b"\x05" * 64 * KIB
    client.shutdown()


SIDES = {
    "source": ("read", {"iotype": "read"}),
    "target": ("write", {"iotype": "write"}),
}


def make_failing(qmp, directory, side, error, once=True):
    rules = {"inject-error": [{"event": "none", "iotype": SIDES[side][1]["iotype"], "errno": error, "once": once,
                               "sector": 2048}]}
    for name, byte in (("source", 1), ("target", 2)):
        if name == side:
            add_raw(qmp, directory, name, byte, "blkdebug", **rules)
        else:
            add_raw(qmp, directory, name, byte)


def policy_of(side, policy):
    return {f"on-{side}-error": policy}


@pytest.mark.parametrize("side", ["source", "target"])
def test_report_fails_the_job(daemon, qmp, tmp_path, side):
    make_failing(qmp, tmp_path, side, 5)
    qmp.execute("blockdev-mirror", {"job-id": "m0", "device": "source", "target": "target", "sync": "full"})
    error = qmp.wait_event("BLOCK_JOB_ERROR")["data"]
    assert error == {"device": "m0", "operation": SIDES[side][0], "action": "report"}
    assert "Input/output error" in qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]["error"]
    wait_status(qmp, "m0", "null")
    qmp.execute("blockdev-mirror", {"job-id": "m0", "device": "source", "target": "target", "sync": "full"})
    qmp.wait_event("BLOCK_JOB_READY")  # another try goes well
    qmp.execute("block-job-cancel", device="m0")
    wait_status(qmp, "m0", "null")
    qmp.execute("blockdev-del", node_name="target")
    assert (tmp_path / "target").read_bytes() == b"\x01" * SIZE


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("policy, error", [("stop", 5), ("enospc", 28)])
def test_stop_waits_for_the_client(daemon, qmp, tmp_path, side, policy, error):
    make_failing(qmp, tmp_path, side, error)
    qmp.execute("blockdev-mirror", {"job-id": "m0", "device": "source", "target": "target", "sync": "full"}
                | policy_of(side, policy))
    assert qmp.wait_event("BLOCK_JOB_ERROR")["data"]["action"] == "stop"
    wait_status(qmp, "m0", "paused")
    job = qmp.execute("query-block-jobs")[0]
    assert job["paused"] and job["io-status"] == ("nospace" if error == 28 else "failed") and not job["ready"]
    qmp.execute("block-job-resume", device="m0")
    qmp.wait_event("BLOCK_JOB_READY")
    assert qmp.execute("query-block-jobs")[0]["io-status"] == "ok"
    qmp.execute("block-job-complete", device="m0")
    wait_status(qmp, "m0", "null")
    assert (tmp_path / "target").read_bytes() == b"\x01" * SIZE


@pytest.mark.parametrize("side", ["source", "target"])
def test_enospc_fails_for_other_errors(daemon, qmp, tmp_path, side):
    make_failing(qmp, tmp_path, side, 5)
    qmp.execute("blockdev-mirror", {"job-id": "m0", "device": "source", "target": "target", "sync": "full"}
                | policy_of(side, "enospc"))
    assert qmp.wait_event("BLOCK_JOB_ERROR")["data"]["action"] == "report"
    assert "error" in qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]


@pytest.mark.parametrize("side", ["source", "target"])
def test_ignore_tries_again(daemon, qmp, tmp_path, side):
    make_failing(qmp, tmp_path, side, 5)
    qmp.execute("blockdev-mirror", {"job-id": "m0", "device": "source", "target": "target", "sync": "full"}
                | policy_of(side, "ignore"))
    assert qmp.wait_event("BLOCK_JOB_ERROR")["data"]["action"] == "ignore"
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("block-job-complete", device="m0")
    wait_status(qmp, "m0", "null")
    assert (tmp_path / "target").read_bytes() == b"\x01" * SIZE


@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
@pytest.mark.parametrize("policy", ["stop", "ignore"])
def test_an_error_of_the_target_of_a_ready_job_is_made_good(daemon, qmp, tmp_path, policy, copy_mode):
    """The guest does not hear of it, and the job goes on until both are equal again."""
    add_raw(qmp, tmp_path, "source", 1)
    add_raw(qmp, tmp_path, "target", 1, "blkdebug",
            inject_error=[{"event": "none", "iotype": "write", "errno": 5, "once": True, "sector": 2048}])
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "source", writable=True)
    client = nbd_client.connect(socket, "source")
    qmp.execute("blockdev-mirror", {"job-id": "m0", "device": "source", "target": "target", "sync": "none",
                                    "copy-mode": copy_mode, "on-target-error": policy})
    qmp.wait_event("BLOCK_JOB_READY")
    client.pwrite(b"\x07" * 64 * KIB, MIB)
    if copy_mode == "background" and policy == "stop":
        wait_status(qmp, "m0", "standby")
        qmp.execute("block-job-resume", device="m0")
        wait_status(qmp, "m0", "ready")
    qmp.execute("block-job-complete", device="m0")
    assert "error" not in qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]
    expected = bytearray(b"\x01" * SIZE)
    expected[MIB:MIB + 64 * KIB] = b"\x07" * 64 * KIB
    assert nbd_client.read_all(client) == expected
    assert (tmp_path / "target").read_bytes() == expected
    client.shutdown()


def test_cancelled_at_any_moment(daemon, qmp, tmp_path):
    """Whatever the job is doing: it ends, its nodes are free, and the guest's disk is what the guest wrote."""
    rng = rng_of("cancel")
    add_raw(qmp, tmp_path, "source", 1, size=1 * MIB)
    target = add_raw(qmp, tmp_path, "target", 2, size=1 * MIB)
    model = bytearray(b"\x01" * MIB)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "source", writable=True)
    client = nbd_client.connect(socket, "source")
    for number in range(400 if "san" not in BUILD.name else 80):
        sync = rng.choice(["full", "none"])
        qmp.execute("blockdev-mirror", job_id="m0", device="source", target="target", sync=sync,
                    copy_mode=rng.choice(["background", "write-blocking"]), granularity=4096,
                    speed=rng.choice([0, 100_000, 10_000_000]))
        for _ in range(rng.randrange(4)):
            offset = rng.randrange(256) * 4 * KIB
            model[offset:offset + 4 * KIB] = bytes([number % 256]) * 4 * KIB
            client.pwrite(bytes(model[offset:offset + 4 * KIB]), offset)
        time.sleep(rng.choice([0, 0, 0.0005, 0.003]))
        commands = [("block-job-cancel", {"device": "m0", "force": rng.choice([True, False])})]
        if sync == "full" and rng.randrange(2) == 0:  # the target of the other one has not everything
            commands.insert(0, ("block-job-complete", {"device": "m0"}))
        for command, arguments in commands:
            try:
                qmp.execute(command, arguments)
            except QMPError:
                pass  # too early, or too late
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "null")
        ended = [event["event"] for event in qmp.events if event["event"].startswith("BLOCK_JOB_C")]
        qmp.events.clear()
        assert nbd_client.read_all(client, MIB) == model, number
        switched = qmp.execute("query-block-exports")[0]["node-name"] == "target"
        assert ended == ["BLOCK_JOB_COMPLETED"] or not switched
        if switched:  # and back again
            assert target.read_bytes() == model
            qmp.execute("blockdev-mirror", job_id="back", device="target", target="source", sync="full")
            qmp.wait_event("BLOCK_JOB_READY")
            qmp.execute("block-job-complete", device="back")
            wait_status(qmp, "back", "null")
            qmp.events.clear()
    client.shutdown()
