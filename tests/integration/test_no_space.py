"""A file system that is full: the write that finds no space fails and says so, nothing is corrupt, whatever was written
before is there, and service goes on when there is space again. The file system is a tmpfs of a few MiB; where we may not
mount one, the test is skipped."""

import errno
import os
import random
import subprocess

import nbd
import pytest

import nbd_client
from images import KIB, MIB, check, create, rng_of
from qmp import QMPError

SPACE = 24 * MIB
SIZE = 64 * MIB
BLOCK = 64 * KIB
FILLER = 8 * MIB

IMAGES = {
    "fresh": {},
    "smallest-clusters": {"cluster_size": "512"},
    "large-clusters": {"cluster_size": "2M"},
    "subclusters": {"extended_l2": "on"},
    "v2": {"compat": "0.10"},
    "lazy-refcounts": {"lazy_refcounts": "on"},
    "compressed": {},
    "compressed-zstd": {"compression_type": "zstd", "cluster_size": "16k"},
    "data-file": {"data_file": "data"},
    "raw-data-file": {"data_file": "data", "data_file_raw": "on"},
}


@pytest.fixture
def small(tmp_path):
    """A directory with little space."""
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", directory], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def block(number, mark):
    """Half of it is noise, so it can be compressed, but not away."""
    return random.Random(1000 * number + mark).randbytes(BLOCK // 2) + bytes([mark]) * (BLOCK // 2)


class Disk:
    """Writes blocks that say what they are, and knows which of them were answered with success."""

    def __init__(self, handle):
        self.handle, self.written = handle, {}

    def write(self, number, mark):
        data = block(number, mark)
        try:
            self.handle.pwrite(data, number * BLOCK)
        except nbd.Error as error:
            assert error.errnum == errno.ENOSPC, error
            self.written.pop(number, None)  # in any state
            return False
        self.written[number] = data
        return True

    def flush(self):
        try:
            self.handle.flush()
        except nbd.Error as error:
            assert error.errnum == errno.ENOSPC, error
            return False
        return True

    def check(self):
        for number, data in self.written.items():
            assert self.handle.pread(BLOCK, number * BLOCK) == data, number


def fill_up(disk, numbers):
    """Until a write fails."""
    for at, number in enumerate(numbers):
        if not disk.write(number, 1 + number % 250):
            return at
    raise AssertionError("there was no end of space")


def fill_the_rest(directory):
    """Not a byte is left."""
    rest = os.open(directory / "rest", os.O_WRONLY)
    try:
        while True:
            os.write(rest, bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC
    finally:
        os.close(rest)


def make_image(small, name):
    (small / "rest").touch()
    with open(small / "filler", "wb") as file:
        file.write(os.urandom(FILLER))
    options = dict(IMAGES[name])
    if "data_file" in options:
        options["data_file"] = small / "data"
    return create(small / "disk.qcow2", SIZE, **options)


def open_disk(qmp, path, name):
    """With a filter that compresses, where the image is to be compressed; it is what is exported as "disk"."""
    compressed = name.startswith("compressed")
    qmp.execute("blockdev-add", driver="qcow2", node_name="image" if compressed else "disk",
                file={"driver": "file", "filename": str(path)})
    if compressed:
        qmp.execute("blockdev-add", driver="compress", node_name="disk", file="image")
    nbd_client.export(qmp, "disk", writable=True)


def close_disk(qmp, name):
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("blockdev-del", node_name="disk")
    if name.startswith("compressed"):
        qmp.execute("blockdev-del", node_name="image")


@pytest.fixture
def served(start_daemon):
    daemon = start_daemon()
    qmp = daemon.connect()
    return daemon, qmp, nbd_client.start_server(qmp, daemon.directory)


@pytest.mark.parametrize("name", IMAGES)
def test_space_ends_and_comes_back(served, small, name):
    _, qmp, socket = served
    path = make_image(small, name)
    open_disk(qmp, path, name)
    disk = Disk(nbd_client.connect(socket, "disk"))

    numbers = list(range(SIZE // BLOCK))
    rng_of(name).shuffle(numbers)
    failed = fill_up(disk, numbers)
    disk.check()
    for number in numbers[failed : failed + 5]:  # those that fail again do no harm
        disk.write(number, 251)
    disk.flush()
    disk.check()

    os.unlink(small / "filler")
    for number in numbers[failed : failed + 20]:
        assert disk.write(number, 252), "there is space"
    assert disk.flush()
    disk.check()
    close_disk(qmp, name)
    check(path)

    open_disk(qmp, path, name)
    disk.handle = nbd_client.connect(socket, "disk")
    disk.check()


def test_internal_snapshots(served, small):
    """One that finds no space is not made; what was made before is whole, and can be deleted without space."""
    _, qmp, socket = served
    path = make_image(small, "fresh")
    open_disk(qmp, path, "fresh")
    disk = Disk(nbd_client.connect(socket, "disk"))
    for number in range(32):
        assert disk.write(number, 1)
    qmp.execute("blockdev-snapshot-internal-sync", device="disk", name="then")
    for number in range(16):
        assert disk.write(number, 2), "what the snapshot has is kept, so this takes space"
    fill_up(disk, range(32, SIZE // BLOCK))
    fill_the_rest(small)
    failures = 0
    for i in range(40):  # each needs a table of its own; the file may have had some room left
        try:
            qmp.execute("blockdev-snapshot-internal-sync", device="disk", name=f"late{i}")
        except QMPError:
            failures += 1
    assert failures > 0
    disk.check()
    qmp.execute("blockdev-snapshot-delete-internal-sync", device="disk", name="then")
    disk.check()
    os.unlink(small / "filler")
    os.unlink(small / "rest")
    qmp.execute("blockdev-snapshot-internal-sync", device="disk", name="again")
    assert disk.write(0, 3) and disk.flush()
    disk.check()
    close_disk(qmp, "fresh")
    check(path)


def test_a_bitmap_that_cannot_be_stored(served, small):
    """The image is closed without it, and is whole; a bitmap that was stored before is not believed any more."""
    daemon, qmp, socket = served
    daemon.expected_status = 1  # at the end it says that something was lost
    path = make_image(small, "fresh")
    open_disk(qmp, path, "fresh")
    for name in ("first", "second"):
        qmp.execute("block-dirty-bitmap-add", node="disk", name=name, persistent=True, granularity=512)
    disk = Disk(nbd_client.connect(socket, "disk"))
    fill_up(disk, range(SIZE // BLOCK))
    fill_the_rest(small)
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("blockdev-del", node_name="disk")
    check(path, leaks_allowed=True)
    os.unlink(small / "filler")
    os.unlink(small / "rest")
    open_disk(qmp, path, "fresh")
    disk.handle = nbd_client.connect(socket, "disk")
    disk.check()
    nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", {"flat": True})}
    for bitmap in nodes["disk"].get("dirty-bitmaps", []):
        assert bitmap.get("inconsistent") or bitmap["count"] > 0, "nothing is said to be clean that is not"
    assert disk.write(1, 9) and disk.flush()
    close_disk(qmp, "fresh")
    check(path, leaks_allowed=True)
