"""Dirty bitmaps in qcow2 images: they go to and fro between cairn, qemu-img and qemu-storage-daemon."""

import json
import os
import signal

import pytest

import nbd_client
from images import KIB, MIB, check, create, rng_of, run, seeds
from oracle import Oracle
from test_bitmaps import add, bitmaps, sha256

SIZE = 8 * MIB


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "disk.qcow2"
    create(path, SIZE)
    return path


def open_disk(qmp, path, **options):
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk",
                file={"driver": "file", "node-name": "file", "filename": str(path)}, **options)


def close_disk(qmp, path):
    qmp.execute("blockdev-del", node_name="disk")
    check(path)


class Writer:
    """The disk through NBD, in a with statement."""

    def __init__(self, qmp, directory):
        self.qmp = qmp
        self.socket = nbd_client.start_server(qmp, directory)

    def __enter__(self):
        nbd_client.export(self.qmp, "disk", writable=True)
        self.client = nbd_client.connect(self.socket, "disk")
        return self.client

    def __exit__(self, *exc):
        self.client.shutdown()
        self.qmp.execute("block-export-del", id="export-disk", mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED")


def stored(path):
    """Flags by name, as qemu-img sees them."""
    info = json.loads(run("qemu-img", "info", "-U", "--output=json", str(path)).stdout)
    found = info["format-specific"]["data"].get("bitmaps", [])
    return {bitmap["name"]: (bitmap["granularity"], bitmap["flags"]) for bitmap in found}


def test_a_bitmap_is_kept(qmp, daemon, path):
    open_disk(qmp, path)
    with Writer(qmp, daemon.directory) as client:
        add(qmp, "kept", persistent=True)
        add(qmp, "off", persistent=True, disabled=True, granularity=512)
        add(qmp, "memory")
        client.pwrite(b"x" * 4096, 3 * MIB)
    assert stored(path) == {}
    before = bitmaps(qmp), sha256(qmp, "kept")
    close_disk(qmp, path)
    assert stored(path) == {"kept": (65536, ["auto"]), "off": (512, [])}
    open_disk(qmp, path)
    assert stored(path) == {"kept": (65536, ["in-use", "auto"]), "off": (512, ["in-use"])}
    assert sha256(qmp, "kept") == before[1]
    assert {bitmap["name"] for bitmap in bitmaps(qmp)} == {"kept", "off"}
    assert all(bitmap in before[0] for bitmap in bitmaps(qmp))
    close_disk(qmp, path)


def test_what_qemu_img_does_to_bitmaps(qmp, daemon, path):
    run("qemu-img", "bitmap", "--add", "-g", "4096", str(path), "a")
    run("qemu-img", "bitmap", "--add", "--disable", str(path), "b")
    open_disk(qmp, path)
    with Writer(qmp, daemon.directory) as client:
        client.pwrite(b"x" * 100 * KIB, 1 * MIB + 300)
    assert [(bitmap["name"], bitmap["recording"]) for bitmap in bitmaps(qmp)] == [("b", False), ("a", True)]
    close_disk(qmp, path)
    run("qemu-img", "bitmap", "--merge", "a", str(path), "b")
    run("qemu-img", "bitmap", "--enable", str(path), "b")
    run("qemu-img", "bitmap", "--clear", str(path), "a")
    check(path)
    open_disk(qmp, path)
    assert [(bitmap["name"], bitmap["recording"], bitmap["count"]) for bitmap in bitmaps(qmp)] == [
        ("b", True, 2 * 65536), ("a", True, 0)]
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="a")
    assert list(stored(path)) == ["b"]
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="b")
    assert stored(path) == {}
    close_disk(qmp, path)


@pytest.mark.parametrize("seed", seeds(4))
def test_there_and_back(qmp, daemon, tmp_path, seed):
    """Both daemons in turn write the image and add, enable, clear bitmaps; the other one finds what was left."""
    rng = rng_of(seed)
    path = tmp_path / "disk.qcow2"
    create(path, SIZE, cluster_size=rng.choice([4 * KIB, 16 * KIB, 64 * KIB]))
    (tmp_path / "theirs").mkdir()
    with Oracle(tmp_path / "theirs") as oracle:
        sides = [(qmp, Writer(qmp, daemon.directory)), (oracle.qmp, Writer(oracle.qmp, tmp_path / "theirs"))]
        left = {}
        for turn in range(8):
            client_qmp, writer = sides[turn % 2]
            open_disk(client_qmp, path)
            assert {info["name"]: (info, sha256(client_qmp, info["name"])) for info in bitmaps(client_qmp)} == left
            with writer as client:
                for _ in range(rng.randrange(8)):
                    offset = rng.randrange(SIZE // 512) * 512
                    client.pwrite(b"x" * min(rng.choice([512, 65536, MIB]), SIZE - offset), offset)
            if rng.randrange(3) == 0:
                size = rng.choice([SIZE, SIZE + 70 * KIB])
                client_qmp.execute("block_resize", node_name="disk", size=size)
            add(client_qmp, f"b{turn}", persistent=True, granularity=rng.choice([512, 4096, 65536]))
            name = rng.choice([info["name"] for info in bitmaps(client_qmp)])
            verb = rng.choice(["enable", "disable", "clear", "remove"])
            client_qmp.execute(f"block-dirty-bitmap-{verb}", node="disk", name=name)
            left = {info["name"]: (info, sha256(client_qmp, info["name"])) for info in bitmaps(client_qmp)}
            close_disk(client_qmp, path)


def test_a_daemon_that_dies_leaves_bitmaps_that_say_so(start_daemon, path):
    run("qemu-img", "bitmap", "--add", str(path), "b")
    first = start_daemon()
    open_disk(first.connect(), path)
    first.expected_status = -signal.SIGKILL
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    assert stored(path) == {"b": (65536, ["in-use", "auto"])}
    qmp = start_daemon().connect()
    open_disk(qmp, path)
    assert bitmaps(qmp) == [{"name": "b", "count": 0, "granularity": 65536, "recording": False, "busy": False,
                             "persistent": True, "inconsistent": True}]
    for verb in ("clear", "enable", "disable"):
        error = qmp.error(f"block-dirty-bitmap-{verb}", node="disk", name="b")
        assert error.desc == "Bitmap 'b' is inconsistent and cannot be used"
    nbd_client.start_server(qmp, path.parent)
    error = qmp.error("block-export-add", type="nbd", id="e", node_name="disk", writable=True, bitmaps=["b"])
    assert error.desc == "Bitmap 'b' is inconsistent and cannot be used"
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="b")
    assert bitmaps(qmp) == [] and stored(path) == {}
    close_disk(qmp, path)


def test_reopened_for_reading_and_for_writing(qmp, daemon, path):
    def reopen(read_only):
        qmp.execute("blockdev-reopen", options=[{
            "driver": "qcow2", "node-name": "disk", "read-only": read_only,
            "file": {"driver": "file", "node-name": "file", "filename": str(path), "read-only": read_only}}])

    open_disk(qmp, path)
    add(qmp, "b", persistent=True)
    with Writer(qmp, daemon.directory) as client:
        client.pwrite(b"x" * 512, 0)
    before = sha256(qmp, "b")
    reopen(True)
    assert stored(path) == {"b": (65536, ["auto"])}
    assert sha256(qmp, "b") == before
    assert qmp.error("block-dirty-bitmap-clear", node="disk", name="b").desc == (
        "Bitmap 'b' is readonly and cannot be modified")
    reopen(False)
    assert stored(path) == {"b": (65536, ["in-use", "auto"])}
    qmp.execute("block-dirty-bitmap-clear", node="disk", name="b")
    close_disk(qmp, path)
    assert stored(path) == {"b": (65536, ["auto"])}


def test_an_image_in_the_hands_of_another_host(qmp, daemon, path):
    open_disk(qmp, path)
    add(qmp, "b", persistent=True)
    with Writer(qmp, daemon.directory) as client:
        client.pwrite(b"x" * 512, 0)
    before = bitmaps(qmp), sha256(qmp, "b")
    qmp.execute("blockdev-set-active", node_name="disk", active=False)
    assert bitmaps(qmp) == [] and stored(path) == {"b": (65536, ["auto"])}
    qmp.execute("blockdev-set-active", node_name="disk", active=True)
    assert stored(path) == {"b": (65536, ["in-use", "auto"])}
    assert (bitmaps(qmp), sha256(qmp, "b")) == before
    close_disk(qmp, path)


def test_what_cannot_be_stored_stays_marked(qmp, daemon, path):
    """Behind a cluster of data and an L2 table there is room for a part of what is to be stored only."""
    run("qemu-img", "bitmap", "--add", str(path), "b")
    full = -(-os.path.getsize(path) // 65536) * 128 + 3 * 128
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk",
                file={"driver": "blkdebug", "image": {"driver": "file", "filename": str(path)},
                      "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "sector": sector}
                                       for sector in range(full, full + 1024, 8)]})
    with Writer(qmp, daemon.directory) as client:
        client.pwrite(b"x" * 65536, 0)
        client.flush()
    qmp.execute("blockdev-del", node_name="disk")
    assert "the dirty bitmaps cannot be stored: No space left on device" in daemon.log
    assert stored(path) == {"b": (65536, ["in-use", "auto"])}
    check(path, leaks_allowed=True)
    daemon.expected_status = 1


def test_an_image_that_is_only_read_stays_as_it_is(qmp, path):
    run("qemu-img", "bitmap", "--add", str(path), "b")
    open_disk(qmp, path, read_only=True)
    assert stored(path) == {"b": (65536, ["auto"])}
    error = qmp.error("block-dirty-bitmap-add", node="disk", name="c", persistent=True)
    assert error.desc == "Can't make bitmap 'c' persistent in 'disk': the image is open for reading only"
    close_disk(qmp, path)
    assert stored(path) == {"b": (65536, ["auto"])}


def test_what_cannot_be_kept(qmp, tmp_path):
    path = tmp_path / "old.qcow2"
    create(path, SIZE, compat="0.10")
    open_disk(qmp, path)
    error = qmp.error("block-dirty-bitmap-add", node="disk", name="b", persistent=True)
    assert error.desc == "Can't make bitmap 'b' persistent in 'disk': Cannot store dirty bitmaps in qcow2 v2 files"
    close_disk(qmp, path)


def test_a_disk_of_no_bytes_keeps_none(qmp, path, tmp_path):
    """QEMU would not open the image any more."""
    empty = create(tmp_path / "empty.qcow2", 0)
    open_disk(qmp, empty)
    error = qmp.error("block-dirty-bitmap-add", node="disk", name="b", persistent=True)
    assert error.desc == "Can't make bitmap 'b' persistent in 'disk': a disk of 0 bytes cannot have one in its image"
    close_disk(qmp, empty)
    open_disk(qmp, path)
    add(qmp, "b", persistent=True)
    assert "Operation not supported" in qmp.error("block_resize", node_name="disk", size=0).desc
    close_disk(qmp, path)
    assert list(stored(path)) == ["b"]


@pytest.mark.parametrize("cluster", [512, 1024, 4096])
def test_clusters_of_a_new_image_are_never_too_small(qmp, tmp_path, cluster):
    path = tmp_path / "new.qcow2"
    path.touch()
    qmp.execute("blockdev-create", job_id="job", options={
        "driver": "qcow2", "file": {"driver": "file", "filename": str(path)}, "size": SIZE, "cluster-size": cluster})
    assert qmp.wait_job("job") is None
    open_disk(qmp, path)
    add(qmp, "b", persistent=True)
    close_disk(qmp, path)
    assert stored(path) == {"b": (4096, ["auto"])}


def test_a_header_without_room(qmp, tmp_path):
    """The longest name of a backing file that fits beside the fields and its format."""
    base = create(tmp_path / "base.raw", SIZE, fmt="raw")
    name = "./" * ((368 - len(str(base))) // 2) + str(base)
    path = tmp_path / "full.qcow2"
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", "cluster_size=512", "-b", name, "-F", "raw", path, SIZE)
    open_disk(qmp, path, backing=None)
    error = qmp.error("block-dirty-bitmap-add", node="disk", name="b", persistent=True)
    assert error.desc == ("Can't make bitmap 'b' persistent in 'disk': the header of the image, a cluster of 512 bytes, "
                          "has no room left")
    qmp.execute("blockdev-del", node_name="disk")


def test_a_disk_that_goes_back_to_a_snapshot_is_dirty_all_over(qmp, path):
    open_disk(qmp, path)
    add(qmp, "b", persistent=True)
    qmp.execute("blockdev-snapshot-internal-sync", device="disk", name="s")
    qmp.execute("blockdev-snapshot-apply-internal-sync", device="disk", name="s")
    assert bitmaps(qmp)[0]["count"] == SIZE
    close_disk(qmp, path)
    open_disk(qmp, path)
    assert bitmaps(qmp)[0]["count"] == SIZE
    close_disk(qmp, path)


def test_query_named_block_nodes_tells_what_the_image_has(qmp, path):
    run("qemu-img", "bitmap", "--add", "-g", "4096", str(path), "b")
    open_disk(qmp, path, read_only=True)
    for info in qmp.execute("query-named-block-nodes"):
        if info["node-name"] == "disk":
            assert info["image"]["format-specific"]["data"]["bitmaps"] == [
                {"name": "b", "granularity": 4096, "flags": ["auto"]}]
    close_disk(qmp, path)
