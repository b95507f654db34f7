"""Chains with raw nodes: one that stands on the overlay and is none of its layers, and one that shows a window of another
image and is the base."""

import pytest

import chains
import nbd_client
from guests import Guests, writing_to
from images import KIB, MIB, check, create, qemu_io

SIZE = 4 * MIB
OFFSET = 1 * MIB + 64 * KIB


def finish(qmp, job):
    """The job ends well, ready or not."""
    completed = False
    while True:
        info = next(info for info in qmp.execute("query-jobs") if info["id"] == job)
        if info["status"] == "ready" and not completed:
            qmp.execute("job-complete", id=job)
            completed = True
        if info["status"] == "concluded":
            break
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["id"] == job)
    assert qmp.wait_job(job) is None


@pytest.mark.parametrize("command, arguments", [
    ("block-stream", {}), ("block-stream", {"base-node": "l0"}), ("block-commit", {"top-node": "l2"}), ("block-commit", {}),
])
@pytest.mark.parametrize("window", [False, True])
def test_raw_on_the_overlay_never_notices(daemon, qmp, tmp_path, command, arguments, window):
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths)
    part = {"offset": OFFSET, "size": SIZE} if window else {}
    qmp.execute("blockdev-add", driver="raw", node_name="disk", file="l3", discard="unmap", **part)
    model = chains.model_of(paths)
    if window:
        model = model[OFFSET:OFFSET + SIZE]
    with writing_to(qmp, tmp_path, "disk", model):
        qmp.execute(command, {"job-id": "j", "device": "l3", "auto-dismiss": False} | arguments)
        finish(qmp, "j")
    daemon.stop()
    for path, _ in paths:
        check(path)


def test_raw_has_no_layers_of_its_own(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths)
    qmp.execute("blockdev-add", driver="raw", node_name="disk", file="l3")
    error = str(qmp.error("block-commit", job_id="j", device="disk"))
    assert "There is no backing image below node 'disk'" in error
    error = str(qmp.error("block-stream", job_id="j", device="disk", base_node="l0"))
    assert "Node 'l0' is not a backing image of 'disk'" in error


def add_window(qmp, directory):
    """l2 on l1 on base, which is a part of a qcow2 image; as the one that made them would open them."""
    file = {"driver": "qcow2", "node-name": "inner", "discard": "unmap",
            "file": {"driver": "file", "filename": str(directory / "inner.qcow2")}}
    qmp.execute("blockdev-add", driver="raw", node_name="base", offset=OFFSET, size=SIZE, file=file, discard="unmap")
    for name, backing in (("l1", "base"), ("l2", "l1")):
        qmp.execute("blockdev-add", driver="qcow2", node_name=name, backing=backing, discard="unmap",
                    file={"driver": "file", "filename": str(directory / f"{name}.qcow2")})


@pytest.fixture
def window(start_daemon, tmp_path):
    create(tmp_path / "inner.qcow2", 8 * MIB)
    qemu_io(tmp_path / "inner.qcow2", "write -P 1 0 8m", "write -z 2m 256k")
    for number, name in enumerate(("l1", "l2")):
        create(tmp_path / f"{name}.qcow2", SIZE)
        qemu_io(tmp_path / f"{name}.qcow2", f"write -P {number + 2} {number}m 300k", f"write -z {number * 64 + 512}k 20k")
    daemon = start_daemon()
    qmp = daemon.connect()
    add_window(qmp, tmp_path)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l2", writable=True)
    client = nbd_client.connect(socket, "l2")
    model = bytearray(nbd_client.read_all(client))
    assert model[3 * MIB:3 * MIB + 4] == b"\x01" * 4
    client.shutdown()
    return daemon, qmp, socket, model


@pytest.mark.parametrize("command, arguments, remains", [
    ("block-stream", {}, ["l2"]),
    ("block-stream", {"base-node": "base", "backing-file": "what.img"}, ["base", "l2"]),
    ("block-commit", {"top-node": "l1", "backing-file": "what.img"}, ["base", "l2"]),
    ("block-commit", {}, ["base"]),
])
def test_a_window_of_an_image_as_the_base(start_daemon, window, tmp_path, command, arguments, remains):
    daemon, qmp, socket, model = window
    with Guests(socket, "l2", model) as guests:
        guests.let_work(10)
        qmp.execute(command, {"job-id": "j", "device": "l2", "auto-dismiss": False} | arguments)
        finish(qmp, "j")
        guests.let_work(10)
    client = nbd_client.connect(socket, "l2")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    qmp.close()
    daemon.stop()

    daemon = start_daemon()  # what is left alone holds it all
    qmp = daemon.connect()
    below = {"backing": None}
    for name in remains:
        if name == "base":
            file = {"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / "inner.qcow2")}}
            qmp.execute("blockdev-add", driver="raw", node_name="base", offset=OFFSET, size=SIZE, file=file)
        else:
            qmp.execute("blockdev-add", driver="qcow2", node_name=name,
                        file={"driver": "file", "filename": str(tmp_path / f"{name}.qcow2")}, **below)
        below = {"backing": "base"}
    socket = nbd_client.start_server(qmp, tmp_path / "daemon1")
    nbd_client.export(qmp, remains[-1])
    client = nbd_client.connect(socket, remains[-1])
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    daemon.stop()
    check(tmp_path / "inner.qcow2")


@pytest.mark.parametrize("command, arguments", [
    ("block-stream", {"base-node": "base"}), ("block-commit", {"top-node": "l1"}),
])
def test_no_header_names_a_window(window, command, arguments):
    """Whoever opened that file by its name would see something else."""
    daemon, qmp, _, _ = window
    before = chains.names_of(qmp)
    error = str(qmp.error(command, {"job-id": "j", "device": "l2"} | arguments))
    assert "node 'base' is more than a file and its format: 'backing-file' has to say" in error
    assert chains.names_of(qmp) == before
