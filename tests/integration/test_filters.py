"""Filters over the wire: each is transparent to block status, to random I/O and to changes of the graph, and does what it is
for. QEMU's tools make the images and judge them."""

import os
import random
import threading

import nbd
import pytest

from images import KIB, MIB, check, compare, content, create, qemu_io, qemu_map, random_chain, rng_of, seeds
from nbd_client import connect, connect_plainly, read_all, start_server
from test_block_status import add_image, assert_complete, extents_of, shape

FILTERS = {
    "throttle": {"throttle-group": "unlimited"},
    "compress": {},
    "copy-on-read": {},
    "preallocate": {},
    "blkdebug": {"align": 512},
}


@pytest.fixture
def group(qmp):
    qmp.execute("object-add", qom_type="throttle-group", id="unlimited")


def add_filter(qmp, kind, name, below, **options):
    child = "image" if kind == "blkdebug" else "file"
    qmp.execute("blockdev-add", {"driver": kind, "node-name": name, child: below, **FILTERS[kind], **options})


def export(qmp, directory, node):
    socket = start_server(qmp, directory)
    qmp.execute("block-export-add", type="nbd", id="e", node_name=node, name=node, writable=True)
    return socket


class Disk:
    """An export, and what it must hold."""

    def __init__(self, socket, name, data):
        self.handle = connect(socket, name)
        self.data = bytearray(data)
        self.unit = max(self.handle.get_block_size(nbd.SIZE_MINIMUM), 1)

    def step(self, rng):
        size = len(self.data)
        length = rng.randrange(1, 100 * KIB) // self.unit * self.unit
        offset = rng.randrange(size - length) // self.unit * self.unit
        if length == 0:
            return
        kind = rng.choice(["read", "read", "read", "write", "zero", "trim"])
        if kind == "read":
            assert self.handle.pread(length, offset) == self.data[offset:offset + length]
        elif kind == "write":
            byte = rng.randrange(1, 256)
            self.handle.pwrite(bytes([byte]) * length, offset)
            self.data[offset:offset + length] = bytes([byte]) * length
        elif kind == "zero":
            self.handle.zero(length, offset)
            self.data[offset:offset + length] = bytes(length)
        else:  # ignored, since no node says discard=unmap
            self.handle.trim(length, offset)

    def check(self):
        assert read_all(self.handle) == self.data


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("seed", seeds(3))
def test_block_status_is_that_of_the_node_below(qmp, group, tmp_path, kind, seed):
    top, *_ = random_chain(rng_of(seed), tmp_path, 3)
    add_image(qmp, top, "image")
    add_filter(qmp, kind, "filter", "image")
    add_filter(qmp, "throttle", "upper", "filter")
    below = extents_of(qmp, "image")
    for node in ("filter", "upper"):
        extents = extents_of(qmp, node)
        assert_complete(extents, 0, 1 * MIB)
        assert shape(extents) == shape(below)
        assert [extent.get("depth") for extent in extents] == [extent.get("depth") for extent in below]


@pytest.mark.parametrize("kind", FILTERS)
def test_filters_between_overlay_and_backing_file(qmp, group, tmp_path, kind):
    top, *_ = random_chain(rng_of(7), tmp_path, 2)
    add_image(qmp, tmp_path / "level0.qcow2", "base", read_only=kind != "copy-on-read")
    add_filter(qmp, kind, "filter", "base")
    add_image(qmp, top, "overlay", backing="filter")
    extents = extents_of(qmp, "overlay")
    assert_complete(extents, 0, 1 * MIB)
    qmp.execute("blockdev-del", node_name="overlay")
    add_image(qmp, top, "overlay", backing="base")
    assert shape(extents) == shape(extents_of(qmp, "overlay"))


@pytest.mark.parametrize("kind", FILTERS)
def test_random_io(qmp, daemon, group, tmp_path, kind):
    top, *_ = random_chain(rng_of(1), tmp_path, 3)
    data = content(top)
    add_image(qmp, top, "image")
    add_filter(qmp, kind, "filter", "image")
    disk = Disk(export(qmp, tmp_path, "filter"), "filter", data)
    rng = random.Random(1)
    for _ in range(300):
        disk.step(rng)
    disk.check()
    disk.handle.shutdown()
    quit_and_check(qmp, daemon, top, disk.data)


def quit_and_check(qmp, daemon, image, data):
    """Closed cleanly, the image is whole and holds @data."""
    qmp.execute("quit")
    daemon.wait()
    with open(daemon.path("expected"), "wb") as file:
        file.write(data)
    check(image)
    compare(image, daemon.path("expected"))


def by_reopening(qmp, inserted):
    qmp.execute("blockdev-reopen", options=[
        {"driver": "raw", "node-name": "top", "file": "filter" if inserted else "image"}])


def by_commands(qmp, inserted):
    if inserted:
        qmp.execute("blockdev-insert-filter", node="image", filter="filter")
    else:
        qmp.execute("blockdev-remove-filter", filter="filter")


@pytest.mark.parametrize("move", [by_reopening, by_commands])
@pytest.mark.parametrize("kind", FILTERS)
def test_insertion_and_removal_under_io(qmp, group, tmp_path, kind, move):
    """raw --> image becomes raw --> filter --> image and back, while clients write."""
    top, *_ = random_chain(rng_of(2), tmp_path, 3)
    data = content(top)
    add_image(qmp, top, "image")
    add_filter(qmp, kind, "filter", "image")
    qmp.execute("blockdev-add", driver="raw", node_name="top", file="image")
    disk = Disk(export(qmp, tmp_path, "top"), "top", data)
    stop = threading.Event()
    failures = []

    def work():
        rng = random.Random(3)
        try:
            while not stop.is_set():
                disk.step(rng)
        except BaseException as failure:  # noqa: B902 (told in the main thread)
            failures.append(failure)

    worker = threading.Thread(target=work)
    worker.start()
    for i in range(20):
        move(qmp, i % 2 == 0)
    stop.set()
    worker.join()
    assert not failures
    disk.check()


# copy-on-read -----------------------------------------------------------------------------------------------------

def depths(path):
    """(offset, length, depth) of what has data or is zero, as qemu-img tells it."""
    return [(extent["start"], extent["length"], extent["depth"]) for extent in qemu_map(path)]


@pytest.fixture
def chain(tmp_path):
    """base: 1, a zeroed part; mid: 2; top: 3."""
    base = create(tmp_path / "base.qcow2", 1 * MIB)
    qemu_io(base, "write -P 1 0 256k", "write -z 512k 64k")
    mid = create(tmp_path / "mid.qcow2", 1 * MIB, backing=base)
    qemu_io(mid, "write -P 2 128k 64k")
    top = create(tmp_path / "top.qcow2", 1 * MIB, backing=mid)
    qemu_io(top, "write -P 3 64k 4k")
    return top


def read_through(qmp, daemon, bottom=None):
    for name in ("base", "mid", "top"):
        below = {"top": "mid", "mid": "base", "base": None}[name]
        add_image(qmp, daemon.path(f"{name}.qcow2"), name, read_only=name != "top", backing=below)
    qmp.execute("blockdev-add", driver="copy-on-read", node_name="cor", file="top",
                **({"bottom": bottom} if bottom else {}))
    handle = connect_plainly(export(qmp, daemon.directory, "cor"), "cor")
    data = handle.pread(1 * MIB, 0)
    handle.shutdown()
    depth = [(extent["offset"] // KIB, extent["length"] // KIB, extent.get("depth")) for extent in
             extents_of(qmp, "top") if extent.get("present")]
    qmp.execute("block-export-del", id="e", mode="hard")
    while qmp.execute("query-block-exports"):
        pass
    qmp.execute("blockdev-del", node_name="cor")
    qmp.execute("blockdev-del", node_name="top")
    return data, depth


def test_all_that_was_read_is_in_the_overlay(qmp, daemon, chain):
    expected = content(chain)
    data, depth = read_through(qmp, daemon)
    assert data == expected
    assert {extent[2] for extent in depth} == {0}
    check(chain)
    assert content(chain) == expected
    qemu = [extent for extent in qemu_map(chain) if extent["depth"] == 0]
    assert sum(extent["length"] for extent in qemu if extent["data"]) == 256 * KIB
    zeroes = [extent for extent in qemu if extent["start"] == 512 * KIB]
    assert zeroes and zeroes[0]["zero"] and not zeroes[0]["data"]
    size = os.stat(chain).st_size
    assert size < 1 * MIB  # what no layer has was not copied


def test_zeroes_that_are_stored_as_data_are_not_copied_as_data(qmp, tmp_path):
    (tmp_path / "base.raw").write_bytes(b"\0" * 256 * KIB + b"x" * 64 * KIB + b"\0" * 192 * KIB)
    top = create(tmp_path / "top.qcow2", 512 * KIB, backing=tmp_path / "base.raw", backing_fmt="raw")
    add_image(qmp, top, "image")
    add_filter(qmp, "copy-on-read", "filter", "image")
    handle = connect(export(qmp, tmp_path, "filter"), "filter")
    assert handle.pread(512 * KIB, 0) == (tmp_path / "base.raw").read_bytes()
    handle.shutdown()
    extents = [(extent["offset"] // KIB, extent["length"] // KIB, extent["data"], extent["depth"])
               for extent in extents_of(qmp, "image")]
    assert extents == [(0, 256, False, 0), (256, 64, True, 0), (320, 192, False, 0)]


def test_below_the_bottom_nothing_is_copied(qmp, daemon, chain):
    expected = content(chain)
    data, depth = read_through(qmp, daemon, bottom="mid")
    assert data == expected
    assert depth == [(0, 64, 2), (64, 128, 0), (192, 64, 2), (512, 64, 2)]
    assert content(chain) == expected


def test_the_bottom_must_be_in_the_chain(qmp, daemon, chain):
    add_image(qmp, daemon.path("base.qcow2"), "base", read_only=True)
    add_image(qmp, daemon.path("mid.qcow2"), "mid", backing="base", read_only=True)
    add_image(qmp, chain, "top", backing="mid")
    qmp.execute("blockdev-add", driver="null-co", node_name="other")
    qmp.execute("blockdev-add", driver="raw", node_name="raw", file="base")

    def told(bottom):
        return qmp.error("blockdev-add", driver="copy-on-read", node_name="cor", file="top", bottom=bottom).desc

    assert "Bottom node 'nobody' not found" in told("nobody")
    assert "'other' is not in the backing chain" in told("other")
    assert "'raw' is not in the backing chain" in told("raw")
    qmp.execute("blockdev-add", driver="blkdebug", node_name="debug", image="base")
    assert "Bottom node 'debug' is a filter" in told("debug")
    qmp.execute("blockdev-add", driver="copy-on-read", node_name="cor", file="top", bottom="base")
    qmp.execute("blockdev-del", node_name="cor")


def test_a_copy_that_fails_is_no_failed_read(qmp, daemon, chain):
    expected = content(chain)
    daemon.expected_status = 1  # the image cannot be flushed either
    qmp.execute("blockdev-add", {
        "driver": "copy-on-read", "node-name": "cor", "file": {
            "driver": "qcow2", "file": {
                "driver": "blkdebug", "image": {"driver": "file", "filename": str(chain)},
                "inject-error": [{"event": "cor_write", "iotype": "write", "errno": 28},
                                 {"event": "write_aio", "iotype": "write", "errno": 28}]}}})
    handle = connect_plainly(export(qmp, daemon.directory, "cor"), "cor")
    assert handle.pread(1 * MIB, 0) == expected


@pytest.mark.parametrize("kind", ["compress", "copy-on-read"])
def test_reads_and_writes_of_many_clients_at_once(qmp, daemon, tmp_path, kind):
    """Each client has its own bytes, but clusters are shared, so that copies and writes meet all the time."""
    base = create(tmp_path / "base.qcow2", 1 * MIB)
    qemu_io(base, "write -P 255 0 1M")
    top = create(tmp_path / "top.qcow2", 1 * MIB, backing=base, cluster_size="64k")
    add_image(qmp, top, "image")
    add_filter(qmp, kind, "filter", "image")
    socket = export(qmp, tmp_path, "filter")
    clients, piece = 6, 4 * KIB
    models = [{} for _ in range(clients)]
    failures = []

    def work(number):
        rng = random.Random(number)
        handle = connect(socket, "filter")
        try:
            for _ in range(250):
                index = rng.randrange(1 * MIB // piece // clients) * clients + number
                if rng.random() < 0.4:
                    byte = rng.randrange(1, 255)
                    handle.pwrite(bytes([byte]) * piece, index * piece)
                    models[number][index] = byte
                else:
                    assert handle.pread(piece, index * piece) == bytes([models[number].get(index, 255)]) * piece
        except BaseException as failure:  # noqa: B902 (told in the main thread)
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    expected = bytearray(b"\xff" * MIB)
    for model in models:
        for index, byte in model.items():
            expected[index * piece:(index + 1) * piece] = bytes([byte]) * piece
    assert connect(socket, "filter").pread(MIB, 0) == expected
    quit_and_check(qmp, daemon, top, expected)


# preallocate ------------------------------------------------------------------------------------------------------

PREALLOCATE = {"driver": "preallocate", "prealloc-size": 8 * MIB, "prealloc-align": 4 * MIB}


def add_growing(qmp, path, **options):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "image", "file": {
        **PREALLOCATE, "node-name": "ahead", **options,
        "file": {"driver": "file", "node-name": "file", "filename": str(path)}}})


def test_storage_is_taken_ahead_and_given_back(qmp, daemon):
    path = create(daemon.path("a.qcow2"), 64 * MIB)
    before = os.stat(path).st_size
    add_growing(qmp, path)
    assert os.stat(path).st_size == before
    disk = Disk(export(qmp, daemon.directory, "image"), "image", bytes(64 * MIB))
    disk.handle.pwrite(b"x" * 64 * KIB, 0)
    size = os.stat(path).st_size
    assert size >= 8 * MIB and size % (4 * MIB) == 0
    assert os.stat(path).st_blocks * 512 >= 8 * MIB
    length = next(node["image"]["virtual-size"] for node in qmp.execute("query-named-block-nodes", flat=True)
                  if node["node-name"] == "ahead")
    assert before <= length < 2 * MIB
    assert_complete(extents_of(qmp, "ahead"), 0, length)
    for i in range(1, 300):
        disk.handle.pwrite(bytes([i % 255 + 1]) * 64 * KIB, i * 64 * KIB)
    assert os.stat(path).st_size % (4 * MIB) == 0
    disk.handle.shutdown()
    qmp.execute("block-export-del", id="e", mode="hard")
    while qmp.execute("query-block-exports"):
        pass
    qmp.execute("blockdev-del", node_name="image")
    size = os.stat(path).st_size
    assert 300 * 64 * KIB < size < 300 * 64 * KIB + MIB
    check(path)


def test_the_end_is_cut_off_when_nobody_writes_any_more(qmp, daemon):
    """An export of the raw filter: the end goes with its last user, while the node stays."""
    with open(daemon.path("a.raw"), "wb") as file:
        file.truncate(MIB)
    qmp.execute("blockdev-add", {**PREALLOCATE, "node-name": "ahead",
                                 "file": {"driver": "file", "filename": daemon.path("a.raw")}})
    qmp.execute("block_resize", node_name="ahead", size=2 * MIB)
    assert os.stat(daemon.path("a.raw")).st_size == 2 * MIB
    path = create(daemon.path("b.qcow2"), 64 * MIB)
    qmp.execute("blockdev-add", {**PREALLOCATE, "node-name": "named",
                                 "file": {"driver": "file", "filename": str(path)}})
    qmp.execute("blockdev-add", driver="qcow2", node_name="image", file="named")
    disk = Disk(export(qmp, daemon.directory, "image"), "image", bytes(64 * MIB))
    disk.handle.pwrite(b"x" * MIB, 0)
    assert os.stat(path).st_size >= 8 * MIB
    disk.handle.shutdown()
    qmp.execute("block-export-del", id="e", mode="hard")
    while qmp.execute("query-block-exports"):
        pass
    qmp.execute("blockdev-del", node_name="image")
    assert os.stat(path).st_size < 2 * MIB
    check(path)


def test_preallocate_comes_and_goes_under_io(qmp, daemon, tmp_path):
    path = create(tmp_path / "a.qcow2", 64 * MIB)
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(path))
    qmp.execute("blockdev-add", driver="qcow2", node_name="image", file="file")
    qmp.execute("blockdev-add", {**PREALLOCATE, "node-name": "ahead", "file": "file"})
    disk = Disk(export(qmp, tmp_path, "image"), "image", bytes(64 * MIB))
    rng = random.Random(5)
    for i in range(6):
        for _ in range(30):
            disk.step(rng)
        inserted = i % 2 == 0
        if not inserted:
            qmp.execute("blockdev-reopen", options=[
                {**PREALLOCATE, "node-name": "ahead", "file": "file", "prealloc-size": 0}])
        elif i > 0:
            qmp.execute("blockdev-del", node_name="ahead")
            qmp.execute("blockdev-add", {**PREALLOCATE, "node-name": "ahead", "file": "file"})
        qmp.execute("blockdev-reopen", options=[
            {"driver": "qcow2", "node-name": "image", "file": "ahead" if inserted else "file"}])
        disk.handle.pwrite(b"z" * MIB, (10 + i) * MIB)
        disk.data[(10 + i) * MIB:(11 + i) * MIB] = b"z" * MIB
        assert (os.stat(path).st_size % (4 * MIB) == 0) == inserted
    disk.check()
    disk.handle.shutdown()
    quit_and_check(qmp, daemon, path, disk.data)


def test_an_image_that_was_not_closed_is_whole(start_daemon, tmp_path):
    daemon = start_daemon()
    qmp = daemon.connect()
    path = create(tmp_path / "a.qcow2", 64 * MIB)
    add_growing(qmp, path)
    handle = connect(export(qmp, tmp_path, "image"), "image")
    handle.pwrite(b"x" * MIB, 0)
    handle.flush()
    daemon.expected_status = -9
    daemon.kill()
    check(path, leaks_allowed=True)
    assert content(path)[:MIB] == b"x" * MIB


def test_without_space_writes_go_on(qmp, daemon):
    path = create(daemon.path("a.qcow2"), 64 * MIB)
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "image", "file": {
        **PREALLOCATE, "file": {
            "driver": "blkdebug", "image": {"driver": "file", "filename": str(path)},
            "inject-error": [{"event": "none", "iotype": "write-zeroes", "errno": 28, "once": True}]}}})
    handle = connect(export(qmp, daemon.directory, "image"), "image")
    handle.pwrite(b"x" * MIB, 0)
    assert os.stat(path).st_size < 2 * MIB
    handle.shutdown()


@pytest.mark.parametrize("option, value", [("prealloc-align", 1536), ("prealloc-align", 100), ("prealloc-align", 0),
                                           ("prealloc-size", -1)])
def test_options_of_preallocate(qmp, option, value):
    error = qmp.error("blockdev-add", {"driver": "preallocate", "node-name": "x", option: value,
                                       "file": {"driver": "null-co"}})
    assert option in error.desc


# null-aio ---------------------------------------------------------------------------------------------------------

def test_null_aio(qmp):
    qmp.execute("blockdev-add", driver="null-aio", node_name="null", size=MIB)
    node = qmp.execute("query-named-block-nodes", flat=True)[0]
    assert (node["drv"], node["file"], node["image"]["virtual-size"]) == ("null-aio", "null-aio://", MIB)


# compress ---------------------------------------------------------------------------------------------------------

def test_compress_needs_a_format_that_can(qmp):
    error = qmp.error("blockdev-add", driver="compress", node_name="c", file={"driver": "null-co"})
    assert "does not compress" in error.desc


def test_all_that_is_written_is_compressed(qmp, daemon):
    path = create(daemon.path("a.qcow2"), 4 * MIB)
    add_image(qmp, path, "image")
    add_filter(qmp, "compress", "filter", "image")
    disk = Disk(export(qmp, daemon.directory, "filter"), "filter", bytes(4 * MIB))
    rng = random.Random(1)
    for i in range(40):  # also parts of clusters, which make the whole cluster be written again
        offset, length = rng.randrange(3 * MIB), rng.randrange(1, 200 * KIB)
        disk.handle.pwrite(bytes([i + 1]) * length, offset)
        disk.data[offset:offset + length] = bytes([i + 1]) * length
    disk.check()
    assert {extent.get("compressed", False) for extent in extents_of(qmp, "filter") if extent["data"]} == {True}
    disk.handle.shutdown()
    quit_and_check(qmp, daemon, path, disk.data)
    assert os.stat(path).st_size < 1 * MIB
