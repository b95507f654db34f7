"""kill -9 in the middle of writes: the image is not corrupt (leaks are allowed), and what was flushed is there.

A write fills its block with its own number. For each block we keep the numbers that may be found in it: a flush that is
answered leaves only the last one, a write that is sent adds one.
"""

import itertools
import struct
import threading

import nbd
import pytest

import nbd_client
from images import KIB, MIB, check, content, create, qemu_io, rng_of

BLOCK = 4 * KIB
SIZE = 16 * MIB
BLOCKS = SIZE // BLOCK
CONNECTIONS = 3
ROUNDS = 3
WRITES_BEFORE_KILL = (30, 900)

IMAGES = {
    "fresh": {},
    "small-clusters": {"cluster_size": "512"},
    "large-clusters": {"cluster_size": "2M"},
    "v2": {"compat": "0.10"},
    "lazy-refcounts": {"lazy_refcounts": "on"},
    "preallocated": {"preallocation": "metadata"},
    "backing": {"backing": True},
}


def make_image(directory, options):
    options = dict(options)
    if options.pop("backing", False):
        base = create(directory / "base.qcow2", SIZE)
        qemu_io(base, "write -P 17 0 4m", "write -P 18 9m 300k")
        options["backing"] = base
    return create(directory / "disk.qcow2", SIZE, **options)


def numbers_in(data, block):
    """The different numbers that stand in a block: one, unless a write was cut in two."""
    return set(struct.unpack(f"<{BLOCK // 8}Q", data[block * BLOCK:(block + 1) * BLOCK]))


class Writer(threading.Thread):
    """Writes its own blocks, and flushes now and then, one request after the other, until the daemon is gone."""

    def __init__(self, index, socket, rng, numbers, enough):
        super().__init__()
        self.own = range(index, BLOCKS, CONNECTIONS)
        self.client = nbd_client.connect(socket, "disk")
        self.rng = rng
        self.numbers = numbers
        self.enough = enough
        self.possible = {}  # block -> numbers that were sent and not flushed over
        self.flushed = {}  # block -> the number that a flush has made last
        self.failure = None

    def run(self):
        try:
            while True:
                self.write()
                self.enough.count()
                if self.rng.random() < 0.05:
                    self.flush()
        except nbd.Error:
            pass  # the daemon is gone, as planned; what was lost before that shows in the image
        except BaseException as failure:
            self.failure = failure

    def write(self):
        block = self.rng.choice(self.own)
        zero = self.rng.random() < 0.1
        number = 0 if zero else next(self.numbers)
        self.possible.setdefault(block, []).append(number)
        if zero:
            self.client.zero(BLOCK, block * BLOCK)
        else:
            self.client.pwrite(struct.pack("<Q", number) * (BLOCK // 8), block * BLOCK)

    def flush(self):
        self.client.flush()
        for block, numbers in self.possible.items():
            self.flushed[block] = numbers[-1]
        self.possible.clear()

    def allowed(self, block, before):
        base = {self.flushed[block]} if block in self.flushed else before
        return base | set(self.possible.get(block, ()))


class Enough:
    """Tells when so many writes were answered."""

    def __init__(self, writes):
        self.left = writes
        self.lock = threading.Lock()
        self.reached = threading.Event()

    def count(self):
        with self.lock:
            self.left -= 1
            if self.left <= 0:
                self.reached.set()


def run_until_killed(daemon, qmp, path, directory, rng, numbers):
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
                file={"driver": "file", "filename": str(path)})
    socket = nbd_client.start_server(qmp, directory)
    nbd_client.export(qmp, "disk", writable=True)
    enough = Enough(rng.randrange(*WRITES_BEFORE_KILL))
    writers = [Writer(index, socket, rng_of(rng.random()), numbers, enough) for index in range(CONNECTIONS)]
    for writer in writers:
        writer.start()
    assert enough.reached.wait(60), "the writers do not get on"
    daemon.kill()
    daemon.expected_status = -9
    for writer in writers:
        writer.join(60)
        if writer.failure:
            raise writer.failure
    return writers


@pytest.mark.parametrize("kind", IMAGES)
def test_killed_while_writing(start_daemon, tmp_path, kind):
    """Several times in a row, on the same image: it must also be writable after each."""
    path = make_image(tmp_path, IMAGES[kind])
    rng, numbers = rng_of(f"crash {kind}"), itertools.count(1)
    for _ in range(ROUNDS):
        before = content(path)
        daemon = start_daemon()
        writers = run_until_killed(daemon, daemon.connect(), path, daemon.directory, rng, numbers)

        check(path, leaks_allowed=True, repair_first=kind == "lazy-refcounts")
        after = content(path)
        for block in range(BLOCKS):
            writer = writers[block % CONNECTIONS]
            allowed = writer.allowed(block, numbers_in(before, block))
            assert numbers_in(after, block) <= allowed, f"block {block} holds what nobody wrote last, or lost a flush"


def test_a_forced_unit_access_write_needs_no_flush(start_daemon, tmp_path):
    path = create(tmp_path / "disk.qcow2", SIZE)
    daemon = start_daemon()
    qmp = daemon.connect()
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, "disk")
    for offset in (0, 5 * MIB, 15 * MIB):
        client.pwrite(b"fua!" * 1024, offset, nbd.CMD_FLAG_FUA)
    daemon.kill()
    daemon.expected_status = -9

    check(path, leaks_allowed=True)
    data = content(path)
    assert all(data[offset:offset + 4096] == b"fua!" * 1024 for offset in (0, 5 * MIB, 15 * MIB))
