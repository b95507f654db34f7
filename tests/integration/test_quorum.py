"""Quorum over the wire: exported, with a child that is spoiled or missing; events as QEMU sends them."""

import os
import threading

import nbd
import pytest

import nbd_client
from images import KIB, MIB, rng_of


@pytest.fixture
def disks(qmp, daemon):
    paths = []
    for i in range(3):
        path = daemon.path(f"disk{i}.raw")
        with open(path, "wb") as file:
            file.truncate(1 * MIB)
        qmp.execute("blockdev-add", driver="file", node_name=f"disk{i}", filename=path)
        paths.append(path)
    return paths


def add_quorum(qmp, **options):
    qmp.execute("blockdev-add", {"driver": "quorum", "node-name": "quorum", "vote-threshold": 2,
                                 "children": ["disk0", "disk1", "disk2"], **options})


def spoil(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.fixture
def disk(qmp, daemon, disks):
    add_quorum(qmp)
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "quorum", writable=True)
    return nbd_client.connect(socket, "quorum", ["base:allocation"])


def test_a_spoiled_child_is_outvoted_and_told_of(qmp, disks, disk):
    disk.pwrite(b"x" * 64 * KIB, 0)
    spoil(disks[1], 4096, b"y")
    assert disk.pread(64 * KIB, 0) == b"x" * 64 * KIB
    data = qmp.wait_event("QUORUM_REPORT_BAD")["data"]
    assert data == {"type": "read", "node-name": "disk1", "sector-num": 0, "sectors-count": 128}


def test_without_a_majority_a_request_fails(qmp, disks, disk):
    spoil(disks[1], 4096, b"y")
    spoil(disks[2], 4096, b"z")
    with pytest.raises(nbd.Error) as error:
        disk.pread(512, 4096)
    assert error.value.errno == "EIO"
    data = qmp.wait_event("QUORUM_FAILURE")["data"]
    assert data == {"reference": "quorum", "sector-num": 8, "sectors-count": 1}
    assert disk.pread(512, 0) == bytes(512)


def test_what_was_outvoted_is_written_anew(qmp, daemon, disks):
    add_quorum(qmp, **{"rewrite-corrupted": True})
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "quorum", writable=True)
    disk = nbd_client.connect(socket, "quorum")
    disk.pwrite(b"x" * 64 * KIB, 0)
    spoil(disks[2], 4096, b"y")
    assert disk.pread(64 * KIB, 0) == b"x" * 64 * KIB
    with open(disks[2], "rb") as file:
        assert file.read(64 * KIB) == b"x" * 64 * KIB


def test_the_map_is_what_all_agree_about(qmp, daemon, disks, disk):
    disk.pwrite(b"x" * 64 * KIB, 128 * KIB)
    assert nbd_client.base_allocation(daemon.directory / "nbd.sock", "quorum") == [
        (0, 128 * KIB, True, True), (128 * KIB, 64 * KIB, False, False), (192 * KIB, 832 * KIB, True, True)]


def test_children_come_and_go_under_load(qmp, daemon, disks, disk):
    spare = daemon.path("spare.raw")
    with open(spare, "wb") as file:
        file.truncate(1 * MIB)
    qmp.execute("blockdev-add", driver="file", node_name="spare", filename=spare)
    stop = threading.Event()
    failures = []

    def write():
        guest = nbd_client.connect(daemon.directory / "nbd.sock", "quorum")
        rng = rng_of(1)
        try:
            while not stop.is_set():
                guest.pwrite(rng.randbytes(4 * KIB), rng.randrange(0, 1 * MIB, 4 * KIB))
        except nbd.Error as failure:
            failures.append(failure)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        qmp.execute("x-blockdev-change", parent="quorum", node="spare")
        assert "spare" in [child["node-name"] for child in children(qmp)]
        name = next(child["child"] for child in children(qmp) if child["node-name"] == "spare")
        qmp.execute("x-blockdev-change", parent="quorum", child=name)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    disk.flush()
    for block in range(0, 1 * MIB, 64 * KIB):
        disk.pread(64 * KIB, block)
    assert not [event for event in qmp.events if event["event"].startswith("QUORUM")]
    qmp.execute("x-blockdev-change", parent="quorum", child="children.0")
    error = qmp.error("x-blockdev-change", parent="quorum", child="children.1")
    assert "cannot be lower than the vote threshold 2" in error.desc


def children(qmp):
    nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", flat=True)}
    return nodes["quorum"]["children"]


def test_options_and_children_are_checked(qmp, daemon, disks):
    assert "may not exceed the number of children" in qmp.error(
        "blockdev-add", {"driver": "quorum", "node-name": "q", "vote-threshold": 2, "children": ["disk0"]}).desc
    os.truncate(disks[0], 512)
    qmp.execute("blockdev-del", node_name="disk0")
    qmp.execute("blockdev-add", driver="file", node_name="disk0", filename=disks[0])
    assert "is 1048576 bytes long, but node 'disk0' is 512" in qmp.error(
        "blockdev-add", {"driver": "quorum", "node-name": "q", "vote-threshold": 1,
                         "children": ["disk0", "disk1"]}).desc
