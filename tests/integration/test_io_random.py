"""Random reads and writes through NBD, mirrored in memory: what is read is what was written, and in the end QEMU finds the
image sound and the same.

Each run is OPERATIONS long, or CAIRN_TEST_SECONDS if that is set.
"""

import os
import threading
import time

import nbd
import pytest

import nbd_client
from images import KIB, MIB, check, compare, content, create, qemu_io, rng_of

OPERATIONS = 1500
SECONDS = float(os.environ.get("CAIRN_TEST_SECONDS", 0))
SIZE = 8 * MIB
LENGTH_MAX = 192 * KIB
CONNECTIONS = 4


class Budget:
    """How long a run may go on."""

    def __init__(self, operations):
        self.left = operations
        self.end = time.monotonic() + SECONDS

    def goes_on(self):
        self.left -= 1
        return time.monotonic() < self.end if SECONDS else self.left >= 0


def make_image(kind, directory):
    path = directory / "disk.qcow2"
    if kind == "fresh":
        return create(path, SIZE)
    if kind == "small-clusters":
        return create(path, SIZE, cluster_size=512)
    if kind == "v2":
        return create(path, SIZE, compat="0.10", cluster_size="4k")
    if kind == "odd-size":
        return create(path, SIZE - 1536)
    if kind == "preallocated":
        return create(path, SIZE, preallocation="metadata")
    if kind == "falloc":
        return create(path, SIZE, preallocation="falloc", cluster_size="2M")
    base = create(directory / "base.qcow2", SIZE if kind == "backing" else SIZE // 2 + 512, cluster_size="4k")
    qemu_io(base, "write -P 17 0 1m", "write -P 18 3m 300k", "write -z 2m 64k", "write -P 19 3584k 1k")
    return create(path, SIZE, backing=base)


KINDS = ["fresh", "small-clusters", "v2", "odd-size", "preallocated", "falloc", "backing", "short-backing"]


def random_range(rng, begin, end):
    """Any alignment, most of them short, inside [begin, end)."""
    longest = min(rng.choice([512, 4 * KIB, 64 * KIB, LENGTH_MAX]), end - begin)
    length = rng.randrange(1, longest + 1)
    offset = rng.randrange(begin, end - length + 1)
    if rng.random() < 0.5:
        offset -= offset % 512 if offset - offset % 512 >= begin else 0
        length = min((length + 511) // 512 * 512, end - offset)
    return offset, length


def step(client, rng, model, begin, end):
    """One random request inside [begin, end), which nobody else touches meanwhile; the model follows."""
    offset, length = random_range(rng, begin, end)
    kind = rng.choice(["read"] * 4 + ["write"] * 5 + ["fua", "zero", "zero-no-hole", "trim", "flush", "cache"])
    if kind == "read":
        assert client.pread(length, offset) == bytes(model[offset:offset + length]), f"read {offset} {length}"
    elif kind in ("write", "fua"):
        data = rng.randbytes(length) if rng.random() < 0.9 else bytes(length)
        client.pwrite(data, offset, FUA if kind == "fua" else 0)
        model[offset:offset + length] = data
    elif kind in ("zero", "zero-no-hole"):
        client.zero(length, offset, NO_HOLE if kind == "zero-no-hole" else 0)
        model[offset:offset + length] = bytes(length)
    elif kind == "trim":
        before = bytes(model[offset:offset + length])
        client.trim(length, offset)
        after = client.pread(length, offset)
        assert all(new in (0, old) for new, old in zip(after, before)), f"trim {offset} {length} made up data"
        model[offset:offset + length] = after
    elif kind == "flush":
        client.flush()
    else:
        client.cache(length, offset)


FUA = nbd.CMD_FLAG_FUA
NO_HOLE = nbd.CMD_FLAG_NO_HOLE


def serve(qmp, directory, path, above="qcow2"):
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
                file={"driver": "file", "filename": str(path), "discard": "unmap"})
    name = "disk"
    if above == "raw":
        qmp.execute("blockdev-add", driver="raw", node_name="above", file="disk", discard="unmap")
        name = "above"
    if above == "4k-units":  # what is smaller is read, changed and written back: with what a neighbour has in the unit
        qmp.execute("blockdev-add", driver="blkdebug", node_name="above", image="disk", align=4096, discard="unmap")
        name = "above"
    socket = nbd_client.start_server(qmp, directory)
    nbd_client.export(qmp, name, writable=True)
    return socket, name


def judge(daemon, path, model):
    """After the daemon has ended: the witnesses."""
    daemon.stop()
    check(path)
    mirror = path.parent / "mirror.raw"
    mirror.write_bytes(model)
    compare(path, mirror)


@pytest.mark.parametrize("kind", KINDS)
def test_one_connection(daemon, qmp, tmp_path, kind):
    path = make_image(kind, tmp_path)
    model = bytearray(content(path))
    socket, name = serve(qmp, tmp_path, path)
    client = nbd_client.connect(socket, name)
    rng, budget = rng_of(kind), Budget(OPERATIONS)

    while budget.goes_on():
        step(client, rng, model, 0, len(model))

    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    judge(daemon, path, model)


def test_a_kernel_that_refuses_io_uring(start_daemon, tmp_path):
    """The pool of threads serves instead."""
    daemon = start_daemon(env={"CAIRN_NO_IO_URING": "1"})
    path = make_image("backing", tmp_path)
    model = bytearray(content(path))
    socket, name = serve(daemon.connect(), tmp_path, path)
    client = nbd_client.connect(socket, name)
    rng, budget = rng_of("pool"), Budget(OPERATIONS)

    while budget.goes_on():
        step(client, rng, model, 0, len(model))

    client.shutdown()
    judge(daemon, path, model)


@pytest.mark.parametrize("kind", ["fresh", "small-clusters", "backing"])
@pytest.mark.parametrize("above", ["qcow2", "raw", "4k-units"])
def test_many_connections(daemon, qmp, tmp_path, kind, above):
    """Each connection owns every fourth stripe. The stripes' borders lie anywhere, so neighbours share clusters and
    tables, but no byte."""
    path = make_image(kind, tmp_path)
    model = bytearray(content(path))
    socket, name = serve(qmp, tmp_path, path, above)
    borders = [0] + sorted(rng_of("stripes").sample(range(1, len(model)), 199)) + [len(model)]
    stripes = list(zip(borders, borders[1:]))
    failures = []

    def work(number):
        rng, budget = rng_of(f"{kind} {number}"), Budget(OPERATIONS // 2)
        try:
            client = nbd_client.connect(socket, name)
            client.set_strict_mode(client.get_strict_mode() & ~nbd.STRICT_ALIGN)
            while budget.goes_on() and not failures:
                begin, end = rng.choice(stripes[number::CONNECTIONS])
                step(client, rng, model, begin, end)
            client.shutdown()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]

    client = nbd_client.connect(socket, name)
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    judge(daemon, path, model)


@pytest.mark.parametrize("kind", ["fresh", "backing"])
def test_neighbours_in_one_unit(daemon, qmp, tmp_path, kind):
    """Units of 4 KiB, of which each connection owns some sectors. What one of them writes back with its own bytes must not
    undo what a neighbour has written meanwhile."""
    path = make_image(kind, tmp_path)
    model = bytearray(content(path))
    socket, name = serve(qmp, tmp_path, path, "4k-units")
    failures = []

    def work(number):
        client = nbd_client.connect(socket, name)
        client.set_strict_mode(client.get_strict_mode() & ~nbd.STRICT_ALIGN)
        rng = rng_of(f"neighbour {number}")
        for _ in range(60):
            pending = set()
            for unit in range(16):
                offset = unit * 4 * KIB + rng.choice([number, number + CONNECTIONS]) * 512
                data = rng.randbytes(512)
                pending.add(client.aio_pwrite(data, offset))
                model[offset:offset + 512] = data
            while pending:
                client.poll(-1)
                pending -= {cookie for cookie in pending if client.aio_command_completed(cookie)}
        client.shutdown()

    def guarded(number):
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    judge(daemon, path, model)


def test_requests_in_flight_that_overlap_leave_one_of_both(daemon, qmp, tmp_path):
    """Writes of the same unaligned range from several connections: afterwards every byte is of one of them, and reads
    agree with each other."""
    path = make_image("fresh", tmp_path)
    socket, name = serve(qmp, tmp_path, path)
    clients = [nbd_client.connect(socket, name) for _ in range(CONNECTIONS)]
    rng = rng_of("overlap")

    for _ in range(100):
        offset, length = random_range(rng, 0, 256 * KIB)
        cookies = [(client, client.aio_pwrite(bytes([number + 1]) * length, offset))
                   for number, client in enumerate(clients)]
        for client, cookie in cookies:
            while not client.aio_command_completed(cookie):
                client.poll(-1)
        data = clients[0].pread(length, offset)
        assert set(data) <= {1, 2, 3, 4}
        assert all(client.pread(length, offset) == data for client in clients)

    for client in clients:
        client.shutdown()
    daemon.stop()
    check(path)


def test_a_disk_that_grows(daemon, qmp, tmp_path):
    """What is added reads as zero, what was there stays."""
    path = make_image("fresh", tmp_path)
    socket, name = serve(qmp, tmp_path, path)
    client = nbd_client.connect(socket, name)
    client.pwrite(b"a" * 1000, SIZE - 1000)
    client.shutdown()

    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("block_resize", node_name="disk", size=SIZE + 1 * MIB)
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, name)
    assert client.get_size() == SIZE + 1 * MIB
    assert client.pread(1000, SIZE - 1000) == b"a" * 1000
    assert client.pread(1 * MIB, SIZE) == bytes(1 * MIB)
    client.pwrite(b"b" * 512, SIZE + 1 * MIB - 512)
    client.shutdown()
    daemon.stop()
    check(path)
    assert content(path)[SIZE - 1000:] == b"a" * 1000 + bytes(1 * MIB - 512) + b"b" * 512
