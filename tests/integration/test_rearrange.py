"""Overlays, filters and replacements that come and go under exports: blockdev-snapshot, blockdev-snapshot-sync,
blockdev-insert-filter, blockdev-remove-filter, blockdev-replace, change-backing-file, x-blockdev-change."""

import random
import threading

import pytest
from graphs import add_image, children, node
from images import MIB, check, content, create, qemu_io, run
from nbd_client import connect, export, start_server
from qmp import QMPError


def refused(qmp, message, command, **arguments):
    with pytest.raises(QMPError, match=message):
        qmp.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()})


def test_an_overlay_goes_under_a_running_export(daemon, qmp, tmp_path):
    """     export --> base        export --> overlay --> base                                                      """
    add_image(qmp, create(tmp_path / "base", MIB), "base")
    socket = start_server(qmp, tmp_path)
    export(qmp, "base", writable=True)
    handle = connect(socket, "base")
    handle.pwrite(b"a" * 65536, 0)

    add_image(qmp, create(tmp_path / "overlay", MIB, backing=tmp_path / "base"), "overlay", backing=None)
    qmp.execute("blockdev-snapshot", node="base", overlay="overlay")
    assert children(qmp, "overlay")["backing"] == "base"
    assert handle.pread(65536, 0) == b"a" * 65536
    handle.pwrite(b"b" * 4096, 0)
    handle.flush()
    refused(qmp, "already has a backing image", "blockdev-snapshot", node="base", overlay="overlay")
    refused(qmp, "in use by node 'overlay'", "blockdev-del", node_name="base")
    daemon.stop()
    assert content(tmp_path / "base")[:65536] == b"a" * 65536
    assert content(tmp_path / "overlay")[:8192] == b"b" * 4096 + b"a" * 4096
    check(tmp_path / "overlay")


def test_overlays_that_cannot_be(qmp, tmp_path):
    add_image(qmp, create(tmp_path / "base", MIB), "base")
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "null"})
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "gate", "file": "base"})
    add_image(qmp, create(tmp_path / "used", MIB), "used")
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "user", "file": "used"})
    snapshot = {"command": "blockdev-snapshot", "node": "base"}
    refused(qmp, "The overlay does not support backing images", overlay="null", **snapshot)
    refused(qmp, "already in use by node 'user'", overlay="used", **snapshot)
    refused(qmp, "cannot be its own overlay", overlay="base", **snapshot)
    refused(qmp, "Failed to find node with node-name='nobody'", overlay="nobody", **snapshot)


@pytest.mark.parametrize("mode", ["absolute-paths", "existing"])
def test_an_overlay_is_made_on_the_way(daemon, qmp, tmp_path, mode):
    add_image(qmp, create(tmp_path / "base", MIB), "base")
    socket = start_server(qmp, tmp_path)
    export(qmp, "base", writable=True)
    handle = connect(socket, "base")
    handle.pwrite(b"a" * 65536, 0)
    if mode == "existing":
        create(tmp_path / "overlay", MIB, backing=tmp_path / "base")
    sync = {"node-name": "base", "snapshot-file": str(tmp_path / "overlay"), "mode": mode}
    refused(qmp, "New overlay node-name missing", "blockdev-snapshot-sync", **sync)
    refused(qmp, "already in use", "blockdev-snapshot-sync", snapshot_node_name="base", **sync)
    refused(qmp, "Unknown driver 'x'", "blockdev-snapshot-sync", snapshot_node_name="o", format="x", **sync)
    refused(qmp, "Cannot find device='d' nor node-name='base'", "blockdev-snapshot-sync", device="d", **sync)
    qmp.execute("blockdev-snapshot-sync", {**sync, "snapshot-node-name": "overlay"})
    handle.pwrite(b"b" * 4096, 0)
    info = run("qemu-img", "info", "-U", tmp_path / "overlay").stdout
    assert f"backing file: {tmp_path}/base" in info and "backing file format: qcow2" in info
    daemon.stop()
    assert content(tmp_path / "overlay")[:8192] == b"b" * 4096 + b"a" * 4096
    assert content(tmp_path / "base")[:8192] == b"a" * 8192


@pytest.mark.parametrize("how", ["blockdev-snapshot", "blockdev-snapshot-sync", "transaction"])
def test_others_may_copy_what_a_snapshot_keeps(qmp, tmp_path, how):
    """It is read-only from then on, as in QEMU, so that other programs can open it; a job can still write it."""
    add_image(qmp, create(tmp_path / "base", MIB), "base")
    socket = start_server(qmp, tmp_path)
    export(qmp, "base", writable=True)
    handle = connect(socket, "base")
    handle.pwrite(b"a" * 65536, 0)
    refused_by_locks = run("qemu-img", "check", "-f", "qcow2", tmp_path / "base", check=False)
    assert "lock" in refused_by_locks.stderr
    if how == "blockdev-snapshot-sync":
        qmp.execute(how, node_name="base", snapshot_file=str(tmp_path / "overlay"), snapshot_node_name="overlay")
    else:
        add_image(qmp, create(tmp_path / "overlay", MIB, backing=tmp_path / "base"), "overlay", backing=None)
        snapshot = {"node": "base", "overlay": "overlay"}
        qmp.execute(how, snapshot if how == "blockdev-snapshot"
                    else {"actions": [{"type": "blockdev-snapshot", "data": snapshot}]})
    assert node(qmp, "base")["ro"] and node(qmp, "base-file")["ro"]
    handle.pwrite(b"b" * 4096, 0)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", tmp_path / "base", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes()[:65536] == b"a" * 65536

    qmp.execute("block-commit", job_id="j", device="overlay", auto_dismiss=False)
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("block-job-complete", device="j")
    assert qmp.wait_job("j") is None
    assert not node(qmp, "base")["ro"]
    handle.pwrite(b"c" * 4096, 4096)
    handle.flush()
    assert handle.pread(12288, 0) == b"b" * 4096 + b"c" * 4096 + b"a" * 4096


def test_a_filter_under_one_export_of_two(qmp, tmp_path):
    """     one --> disk      one --> gate --> disk
            two --'           two -------------'                                                                    """
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "disk", "size": MIB})
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "gate", "file": "disk"})
    socket = start_server(qmp, tmp_path)
    for name in ("one", "two"):
        qmp.execute("block-export-add", {"type": "nbd", "id": name, "node-name": "disk", "name": name})
    insert = {"command": "blockdev-insert-filter", "node": "disk"}
    refused(qmp, "Export 'three' is not found", filter="gate", export="three", **insert)
    refused(qmp, "node 'disk' .* is not a filter", filter="disk", **insert)
    refused(qmp, "filter 'gate' stands on node 'disk', not on node 'gate'", "blockdev-insert-filter", node="gate",
            filter="gate")
    qmp.execute("blockdev-insert-filter", node="disk", filter="gate", export="one")
    names = {info["id"]: info["node-name"] for info in qmp.execute("query-block-exports")}
    assert names == {"one": "gate", "two": "disk"}

    qmp.execute("x-gate-hold", node_name="gate", operation="read")
    held, free = connect(socket, "one"), connect(socket, "two")
    assert free.pread(512, 0) == bytes(512)
    thread = threading.Thread(target=held.pread, args=(512, 0))
    thread.start()
    qmp.execute("x-gate-release", node_name="gate")
    thread.join()
    refused(qmp, "export 'two' does not use node 'gate' directly", "blockdev-remove-filter", filter="gate", export="two")
    qmp.execute("blockdev-remove-filter", filter="gate", export="one")
    assert {info["node-name"] for info in qmp.execute("query-block-exports")} == {"disk"}
    qmp.execute("blockdev-del", node_name="gate")


def test_a_filter_under_all_users(qmp, tmp_path):
    add_image(qmp, create(tmp_path / "base", MIB), "base", **{"read-only": True})
    add_image(qmp, create(tmp_path / "top", MIB, backing=tmp_path / "base"), "top", backing="base")
    qmp.execute("blockdev-add", {"driver": "blkdebug", "node-name": "filter", "image": "base", "read-only": True})
    qmp.execute("blockdev-insert-filter", node="base", filter="filter")
    assert children(qmp, "top")["backing"] == "filter"
    qmp.execute("blockdev-remove-filter", filter="filter")
    assert children(qmp, "top")["backing"] == "base"


def test_a_node_is_replaced(qmp, tmp_path):
    for name, fill in (("a", b"a"), ("b", b"b"), ("short", b"c")):
        (tmp_path / name).write_bytes(fill * (4096 if name == "short" else 8192))
        qmp.execute("blockdev-add", {"driver": "file", "node-name": name, "filename": str(tmp_path / name)})
    socket = start_server(qmp, tmp_path)
    export(qmp, "a")
    handle = connect(socket, "a")
    refused(qmp, "has 8192 bytes and cannot be replaced by node 'short' of 4096", "blockdev-replace", node="a",
            replacement="short")
    refused(qmp, "cannot replace itself", "blockdev-replace", node="a", replacement="a")
    qmp.execute("blockdev-replace", node="a", replacement="b", export="export-a")
    assert handle.pread(8192, 0) == b"b" * 8192
    qmp.execute("blockdev-del", node_name="a")


def test_the_name_in_the_header(daemon, qmp, tmp_path):
    create(tmp_path / "base", MIB)
    create(tmp_path / "top", MIB, backing=tmp_path / "base", lazy_refcounts="on")
    qemu_io(tmp_path / "top", "write -P 5 0 64k")
    add_image(qmp, tmp_path / "top", "top")
    change = {"command": "change-backing-file", "device": "top", "image_node_name": "top"}
    qmp.execute("change-backing-file", device="top", image_node_name="top", backing_file="./base")
    info = run("qemu-img", "info", "-U", tmp_path / "top").stdout
    assert "backing file: ./base" in info and "backing file format: qcow2" in info and "lazy refcounts: true" in info
    refused(qmp, "not fit into the header", backing_file="x" * 1024, **change)
    refused(qmp, "Cannot find device='nobody'", "change-backing-file", device="nobody", image_node_name="top",
            backing_file="")
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "null"})
    refused(qmp, "without a backing file", "change-backing-file", device="null", image_node_name="null", backing_file="")
    refused(qmp, "not in the same chain", "change-backing-file", device="null", image_node_name="top", backing_file="")
    qmp.execute("change-backing-file", device="top", image_node_name="top", backing_file="x" * 1023)
    qmp.execute("change-backing-file", device="top", image_node_name="top", backing_file="")
    daemon.stop()
    assert "backing file" not in run("qemu-img", "info", tmp_path / "top").stdout
    check(tmp_path / "top")
    assert content(tmp_path / "top")[:65536] == b"\x05" * 65536


def test_the_name_in_the_header_of_a_read_only_image(daemon, qmp, tmp_path):
    """It is writable for as long as that takes, if its file can be."""
    create(tmp_path / "base", MIB)
    create(tmp_path / "middle", MIB, backing=tmp_path / "base")
    create(tmp_path / "top", MIB, backing=tmp_path / "middle")
    add_image(qmp, tmp_path / "top", "top", **{"read-only": True})

    def read_only(name):
        nodes = qmp.execute("query-named-block-nodes", {"flat": True})
        return next(info["ro"] for info in nodes if info["node-name"] == name)

    middle = children(qmp, "top")["backing"]
    for image in "top", middle, "top":
        qmp.execute("change-backing-file", device="top", image_node_name=image, backing_file="./" + image.strip("#"))
        assert read_only(image)
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "file", "filename": str(tmp_path / "base"),
                                 "read-only": True})
    create(tmp_path / "other", MIB, backing=tmp_path / "base")
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "locked", "filename": str(tmp_path / "other"),
                                 "read-only": True})
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "other", "file": "locked", "backing": "file",
                                 "read-only": True})
    refused(qmp, "locked", "change-backing-file", device="other", image_node_name="other", backing_file="x")
    assert read_only("other")
    daemon.stop()
    assert "backing file: ./top" in run("qemu-img", "info", tmp_path / "top").stdout
    assert f"backing file: ./{middle.strip('#')}" in run("qemu-img", "info", tmp_path / "middle").stdout
    assert f"backing file: {tmp_path / 'base'}" in run("qemu-img", "info", tmp_path / "other").stdout


def test_children_of_a_quorum(qmp):
    qmp.execute("blockdev-add", {"driver": "quorum", "node-name": "q", "vote-threshold": 1, "children": [
        {"driver": "null-co", "node-name": f"n{i}"} for i in range(2)]})
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "n2"})
    qmp.execute("x-blockdev-change", parent="q", node="n2")
    assert set(children(qmp, "q").values()) == {"n0", "n1", "n2"}
    qmp.execute("x-blockdev-change", parent="q", child="children.1")
    assert set(children(qmp, "q").values()) == {"n0", "n2"}
    refused(qmp, "Either child or node must be specified", "x-blockdev-change", parent="q")
    refused(qmp, "child and node are in conflict", "x-blockdev-change", parent="q", node="n2", child="children.0")
    refused(qmp, "The node n2 does not support adding a child", "x-blockdev-change", parent="n2", node="n0")


class Guest(threading.Thread):
    """Writes and reads at random in its part of an export, and knows what must be there."""

    def __init__(self, socket, name, size, part, parts):
        super().__init__()
        self.handle = connect(socket, name)
        self.random = random.Random(part)
        self.begin, self.length = part * size // parts, size // parts
        self.model = bytearray(self.length)
        self.stop = threading.Event()
        self.failure = None
        self.requests = 0

    def request(self):
        length = self.random.randrange(1, 70000)
        offset = self.random.randrange(self.length - length)
        kind = self.random.random()
        if kind < 0.4:
            data = self.random.randbytes(16) * (length // 16 + 1)
            self.handle.pwrite(data[:length], self.begin + offset)
            self.model[offset:offset + length] = data[:length]
        elif kind < 0.5:
            self.handle.zero(length, self.begin + offset)
            self.model[offset:offset + length] = bytes(length)
        elif kind < 0.55:
            self.handle.flush()
        else:
            assert self.handle.pread(length, self.begin + offset) == self.model[offset:offset + length], offset
        self.requests += 1

    def run(self):
        try:
            while not self.stop.is_set():
                self.request()
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure


def test_everything_at_once_under_load(daemon, qmp, tmp_path):
    """Snapshots, filters and other options, while four clients write and check what they read."""
    size = 16 * MIB
    add_image(qmp, create(tmp_path / "image0", size), "image0")
    socket = start_server(qmp, tmp_path)
    export(qmp, "image0", writable=True)
    guests = [Guest(socket, "image0", size, part, 4) for part in range(4)]
    for guest in guests:
        guest.start()
    rng = random.Random(3)
    top, count = "image0", 0
    for _ in range(60):
        step = rng.choice(["snapshot", "filter", "reopen"])
        if step == "snapshot" and count < 12:
            count += 1
            name = f"image{count}"
            add_image(qmp, create(tmp_path / name, size, backing=tmp_path / top), name, backing=None)
            qmp.execute("blockdev-snapshot", node=top, overlay=name)
            top = name
        elif step == "filter":
            qmp.execute("blockdev-add", {"driver": "gate", "node-name": "filter", "file": top})
            qmp.execute("blockdev-insert-filter", node=top, filter="filter")
            qmp.execute("blockdev-remove-filter", filter="filter", export="export-image0")
            qmp.execute("blockdev-del", node_name="filter")
        else:
            backing = children(qmp, top).get("backing")
            qmp.execute("blockdev-reopen", {"options": [
                {"driver": "qcow2", "node-name": top, "file": children(qmp, top)["file"], "backing": backing,
                 "detect-zeroes": rng.choice(["on", "off"])}]})
    for guest in guests:
        guest.stop.set()
    for guest in guests:
        guest.join()
        assert guest.failure is None, guest.failure
    drains = qmp.execute("query-drains")
    assert drains["count"] >= 60 and sum(guest.requests for guest in guests) > 100
    daemon.stop()
    whole = content(tmp_path / top)
    for guest in guests:
        assert whole[guest.begin:guest.begin + guest.length] == guest.model
    for i in range(count + 1):
        check(tmp_path / f"image{i}")
