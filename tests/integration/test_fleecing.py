"""Fleecing: a backup program reads what a disk held at one moment, over NBD, while the guest goes on writing.

    guest  --NBD--> cbw --file----> disk (qcow2)
    backup --NBD--> snap  target--> temp (qcow2)
"""

import threading
import time

import nbd
import pytest

import nbd_client
from images import KIB, MIB, content, create, qemu_io, rng_of, run

SIZE = 8 * MIB


@pytest.fixture
def disk(tmp_path):
    path = create(tmp_path / "disk.qcow2", SIZE)
    qemu_io(path, "write -P 17 0 1m", "write -P 18 3m 300k", "write -z 2m 64k", "write -P 19 7000k 1k")
    create(tmp_path / "temp.qcow2", SIZE)
    return path


def add_image(qmp, path, name, **options):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": name, "discard": "unmap",
                                 "file": {"driver": "file", "filename": str(path), "node-name": f"{name}-file"},
                                 **options})


def add_fleecing(qmp, daemon, target="temp", **options):
    """Returns the socket of the server; exports cbw and snap, both writable."""
    qmp.execute("blockdev-add", {"driver": "copy-before-write", "node-name": "cbw", "file": "disk", "target": target,
                                 "discard": "unmap", **options})
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "cbw", writable=True)
    qmp.execute("blockdev-add", {"driver": "snapshot-access", "node-name": "snap", "file": "cbw", "discard": "unmap"})
    nbd_client.export(qmp, "snap", writable=True)
    return socket


@pytest.fixture
def socket(qmp, daemon, tmp_path, disk):
    add_image(qmp, disk, "disk")
    add_image(qmp, tmp_path / "temp.qcow2", "temp")
    return add_fleecing(qmp, daemon)


class Guest(threading.Thread):
    """Writes at random until told to stop."""

    def __init__(self, socket, seed):
        super().__init__()
        self.disk = nbd_client.connect(socket, "cbw")
        self.rng = rng_of(seed)
        self.stop = threading.Event()
        self.writes = 0
        self.failure = None

    def run(self):
        try:
            while not self.stop.is_set():
                length = self.rng.choice([512, 4 * KIB, 100 * KIB])
                offset = self.rng.randrange(0, SIZE - length)
                kind = self.rng.randrange(4)
                if kind == 0:
                    self.disk.zero(length, offset)
                elif kind == 1:
                    self.disk.trim(length, offset)
                else:
                    self.disk.pwrite(self.rng.randbytes(length), offset)
                self.writes += 1
        except nbd.Error as failure:
            self.failure = failure


def test_a_backup_is_what_the_disk_held(socket, tmp_path, disk):
    before = content(disk)
    guests = [Guest(socket, seed) for seed in range(3)]
    for guest in guests:
        guest.start()
    for number in range(3):
        copy = tmp_path / f"copy{number}.raw"
        run("nbdcopy", nbd_client.uri(socket, "snap"), copy)
        assert copy.read_bytes() == before
    for guest in guests:
        guest.stop.set()
        guest.join()
        assert guest.failure is None
        assert guest.writes > 0


def test_it_comes_and_goes_under_a_running_export(qmp, daemon, tmp_path, disk):
    """The moment is inside the stream of writes: each guest's writes up to one of them are there, and no later ones."""
    add_image(qmp, disk, "disk")
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "disk", writable=True)
    guests = [Numbering(socket, number) for number in range(4)]
    for guest in guests:
        guest.start()
    for round_ in range(3):
        wait_for_writes(guests, 100)
        create(tmp_path / "temp.qcow2", SIZE)
        add_image(qmp, tmp_path / "temp.qcow2", "temp")
        qmp.execute("blockdev-add", {"driver": "copy-before-write", "node-name": "cbw", "file": "disk", "target": "temp",
                                     "discard": "unmap"})
        before = [guest.acknowledged for guest in guests]
        qmp.execute("blockdev-insert-filter", node="disk", filter="cbw")
        after = [guest.sent for guest in guests]
        qmp.execute("blockdev-add", {"driver": "snapshot-access", "node-name": "snap", "file": "cbw"})
        nbd_client.export(qmp, "snap")
        wait_for_writes(guests, 100)
        snapshot = nbd_client.read_all(nbd_client.connect(socket, "snap"))
        wait_for_writes(guests, 100)
        assert nbd_client.read_all(nbd_client.connect(socket, "snap")) == snapshot
        for guest, first, last in zip(guests, before, after):
            assert guest.is_a_moment(snapshot, first, last), f"round {round_}"
        qmp.execute("block-export-del", id="export-snap", mode="hard")
        qmp.wait_event("BLOCK_EXPORT_DELETED")
        qmp.execute("blockdev-del", node_name="snap")
        qmp.execute("blockdev-remove-filter", filter="cbw")
        qmp.execute("blockdev-del", node_name="cbw")
        qmp.execute("blockdev-del", node_name="temp")
    for guest in guests:
        guest.stop.set()
        guest.join()
        assert guest.failure is None


class Numbering(threading.Thread):
    """Writes its numbers one after the other, each into the next block of a region of its own, round and round."""

    BLOCKS = 64
    BLOCK = 4 * KIB

    def __init__(self, socket, number):
        super().__init__()
        self.disk = nbd_client.connect(socket, "disk")
        self.begin = number * self.BLOCKS * self.BLOCK
        self.stop = threading.Event()
        self.sent = self.acknowledged = 0
        self.failure = None

    def block(self, write):
        return write.to_bytes(8, "little") * (self.BLOCK // 8)

    def run(self):
        try:
            while not self.stop.is_set():
                self.sent += 1
                self.disk.pwrite(self.block(self.sent), self.begin + self.sent % self.BLOCKS * self.BLOCK)
                self.acknowledged = self.sent
        except nbd.Error as failure:
            self.failure = failure

    def is_a_moment(self, snapshot, first, last):
        region = snapshot[self.begin:self.begin + self.BLOCKS * self.BLOCK]
        blocks = [region[at:at + self.BLOCK] for at in range(0, len(region), self.BLOCK)]
        newest = max(int.from_bytes(block[:8], "little") for block in blocks)
        assert newest >= self.BLOCKS
        return first <= newest <= last and all(
            blocks[write % self.BLOCKS] == self.block(write) for write in range(newest - self.BLOCKS + 1, newest + 1))


def wait_for_writes(guests, more):
    ends = [guest.acknowledged + more for guest in guests]
    while any(guest.acknowledged < end for guest, end in zip(guests, ends)):
        assert all(guest.is_alive() for guest in guests)
        time.sleep(0.001)


def test_the_map_is_that_of_the_moment(socket):
    before = nbd_client.base_allocation(socket, "snap")
    assert before == nbd_client.base_allocation(socket, "cbw")
    guest = nbd_client.connect(socket, "cbw")
    guest.pwrite(b"x" * 512 * KIB, 5 * MIB)
    guest.zero(1 * MIB, 0)
    zero = [(offset, length, zero) for offset, length, _, zero in before]
    assert [(offset, length, zero) for offset, length, _, zero in nbd_client.base_allocation(socket, "snap")] == zero
    snapshot = nbd_client.connect(socket, "snap")
    assert snapshot.pread(512 * KIB, 5 * MIB) == bytes(512 * KIB)
    assert snapshot.pread(1 * MIB, 0) == b"\x11" * MIB


def test_what_was_backed_up_need_not_be_kept(socket, tmp_path):
    guest = nbd_client.connect(socket, "cbw")
    snapshot = nbd_client.connect(socket, "snap")
    guest.pwrite(b"x" * 64 * KIB, 0)
    snapshot.trim(512 * KIB, 0)
    guest.pwrite(b"y" * 512 * KIB, 0)
    with pytest.raises(nbd.Error) as error:
        snapshot.pread(512, 0)
    assert error.value.errno == "EACCES" or error.value.errno == "EPERM"
    assert snapshot.pread(512 * KIB, 512 * KIB) == b"\x11" * 512 * KIB
    assert guest.pread(512 * KIB, 0) == b"y" * 512 * KIB


def test_the_snapshot_cannot_be_written(socket):
    snapshot = nbd_client.connect(socket, "snap")
    with pytest.raises(nbd.Error):
        snapshot.pwrite(b"x" * 512, 0)


@pytest.fixture
def full_target(qmp, disk):
    """One that fails each write."""
    add_image(qmp, disk, "disk")
    qmp.execute("blockdev-add", {"driver": "blkdebug", "node-name": "temp",
                                 "image": {"driver": "null-co", "size": SIZE},
                                 "inject-error": [{"event": "none", "iotype": "write", "errno": 28},
                                                  {"event": "none", "iotype": "write-zeroes", "errno": 28}]})


def test_an_error_of_the_target_breaks_the_write(qmp, daemon, full_target):
    socket = add_fleecing(qmp, daemon)
    guest = nbd_client.connect(socket, "cbw")
    with pytest.raises(nbd.Error) as error:
        guest.pwrite(b"x" * 512, 0)
    assert error.value.errno == "ENOSPC"
    assert guest.pread(512, 0) == b"\x11" * 512
    assert nbd_client.connect(socket, "snap").pread(512, 0) == b"\x11" * 512


def test_an_error_of_the_target_breaks_the_snapshot(qmp, daemon, full_target):
    socket = add_fleecing(qmp, daemon, **{"on-cbw-error": "break-snapshot"})
    guest = nbd_client.connect(socket, "cbw")
    snapshot = nbd_client.connect(socket, "snap")
    assert snapshot.pread(512, 0) == b"\x11" * 512
    guest.pwrite(b"x" * 512, 0)
    assert guest.pread(512, 0) == b"x" * 512
    with pytest.raises(nbd.Error):
        snapshot.pread(512, 4096)
    daemon.wait_for_log("node 'cbw': the point in time is lost: the old bytes of 512 bytes at 0 could not be kept")


def test_a_target_that_hangs_costs_a_write(qmp, daemon, disk):
    add_image(qmp, disk, "disk")
    qmp.execute("blockdev-add", driver="gate", node_name="temp", file={"driver": "null-co", "size": SIZE})
    socket = add_fleecing(qmp, daemon, **{"cbw-timeout": 1})
    guest = nbd_client.connect(socket, "cbw")
    qmp.execute("x-gate-hold", node_name="temp")
    with pytest.raises(nbd.Error):
        guest.pwrite(b"x" * 512, 0)
    assert guest.pread(512, 0) == b"\x11" * 512
    qmp.execute("x-gate-release", node_name="temp")


def test_errors_of_options(qmp, disk):
    add_image(qmp, disk, "disk")
    assert "no copy-before-write filter" in qmp.error("blockdev-add", driver="snapshot-access", node_name="snap",
                                                      file="disk").desc
    error = qmp.error("blockdev-add", driver="copy-before-write", node_name="cbw", file="disk",
                      target={"driver": "null-co", "size": 512})
    assert "is 512 bytes long" in error.desc
