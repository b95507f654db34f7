"""A file system that is full: the write that finds no space fails and says so, nothing is corrupt, whatever was written
before is there, and service goes on when there is space again. The file system is a tmpfs of a few MiB; where we may not
mount one, the test is skipped."""

import errno
import os
import subprocess

import nbd
import pytest

import nbd_client
from images import KIB, MIB, check, create, rng_of

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


class Disk:
    """Writes blocks that say what they are, and knows which of them were answered with success."""

    def __init__(self, handle):
        self.handle, self.written = handle, {}

    def write(self, number, mark):
        data = bytes([mark]) * BLOCK
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


@pytest.mark.parametrize("name", IMAGES)
def test_space_ends_and_comes_back(start_daemon, small, name):
    with open(small / "filler", "wb") as file:
        file.write(os.urandom(FILLER))
    path = create(small / "disk.qcow2", SIZE, **IMAGES[name])
    daemon = start_daemon()
    qmp = daemon.connect()
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "disk", writable=True)
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
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("blockdev-del", node_name="disk")
    check(path)

    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    nbd_client.export(qmp, "disk")
    disk.handle = nbd_client.connect(socket, "disk")
    disk.check()
