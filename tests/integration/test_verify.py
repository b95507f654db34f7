"""Filters that watch: blkverify and blklogwrites over the wire, on images of different formats."""

import struct

import nbd
import pytest

import nbd_client
from images import KIB, MIB, content, create, rng_of

SIZE = 4 * MIB


@pytest.fixture
def images(qmp, tmp_path):
    create(tmp_path / "test.qcow2", SIZE)
    with open(tmp_path / "raw.img", "wb") as file:
        file.truncate(SIZE)
    qmp.execute("blockdev-add", driver="qcow2", node_name="test",
                file={"driver": "file", "filename": str(tmp_path / "test.qcow2")})
    qmp.execute("blockdev-add", driver="file", node_name="raw", filename=str(tmp_path / "raw.img"))
    return tmp_path


def exported(qmp, daemon, node):
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, node, writable=True)
    return nbd_client.connect(socket, node)


def write_at_random(disk, seed, count=200):
    rng = rng_of(seed)
    for _ in range(count):
        length = rng.choice([512, 3 * KIB, 64 * KIB])
        offset = rng.randrange(0, SIZE - length, 512)
        if rng.random() < 0.3:
            disk.zero(length, offset)
        else:
            disk.pwrite(rng.randbytes(length), offset)


def test_two_formats_hold_the_same(qmp, daemon, images):
    qmp.execute("blockdev-add", driver="blkverify", node_name="verify", test="test", raw="raw")
    disk = exported(qmp, daemon, "verify")
    write_at_random(disk, 1)
    nbd_client.read_all(disk)
    assert "differ" not in daemon.log


def test_a_difference_is_told_and_others_go_on(qmp, daemon, images):
    qmp.execute("blockdev-add", driver="blkverify", node_name="verify", test="test", raw="raw")
    disk = exported(qmp, daemon, "verify")
    with open(images / "raw.img", "r+b") as file:
        file.seek(100000)
        file.write(b"x")
    with pytest.raises(nbd.Error) as error:
        disk.pread(64 * KIB, 64 * KIB)
    assert error.value.errno == "EIO"
    daemon.wait_for_log("node 'verify': nodes 'test' and 'raw' differ at offset 100000")
    assert disk.pread(64 * KIB, 0) == bytes(64 * KIB)


def replay(path, size):
    data = bytearray(size)
    with open(path, "rb") as log:
        magic, version, records, sector = struct.unpack("<QQQI", log.read(28))
        assert (magic, version) == (0x6a736677736872, 1)
        log.seek(sector)
        for _ in range(records):
            first, count, flags, _ = struct.unpack("<QQQQ", log.read(sector)[:32])
            begin, end = first * sector, (first + count) * sector
            data[begin:end] = bytes(end - begin) if flags & 4 else log.read(end - begin)
    return bytes(data)


def test_a_replay_of_the_log_is_the_image(qmp, daemon, images):
    log = images / "writes.log"
    log.touch()
    qmp.execute("blockdev-add", {"driver": "blklogwrites", "node-name": "logged", "file": "test",
                                 "log": {"driver": "file", "filename": str(log)}})
    disk = exported(qmp, daemon, "logged")
    write_at_random(disk, 2)
    disk.flush()
    assert replay(log, SIZE) == content(images / "test.qcow2")
    disk.pwrite(b"x" * 4096, 0)
    disk.flush()
    assert replay(log, SIZE)[:4096] == b"x" * 4096


def test_errors_of_options(qmp, images):
    add = {"driver": "blklogwrites", "node-name": "logged", "file": "test", "log": "raw"}
    assert "is not a power of two" in qmp.error("blockdev-add", {**add, "log-sector-size": 1000}).desc
    assert "this is no log of writes" in qmp.error("blockdev-add", {**add, "log-append": True}).desc
    assert "bytes long" in qmp.error("blockdev-add", driver="blkverify", node_name="verify", test="test",
                                     raw={"driver": "null-co", "size": 512}).desc
