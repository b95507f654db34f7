"""The NBD server, used by programs that were not written here: fio, qemu-io, qemu-img, nbdcopy, nbdinfo and libnbd. What
they send is checked by what they find."""

import json
import re
import shutil

import nbd
import pytest

import nbd_client
from images import KIB, MIB, compare, content, create, qemu_io, run

SIZE = 32 * MIB


@pytest.fixture
def disk(qmp, tmp_path):
    path = create(tmp_path / "disk.qcow2", SIZE)
    qemu_io(path, "write -P 1 0 1m", "write -P 2 5m 300k", "write -z 6m 64k")
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
                file={"driver": "file", "filename": str(path)})
    qmp.execute("block-dirty-bitmap-add", node="disk", name="b")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["b"])
    return path, socket


@pytest.mark.skipif(not shutil.which("fio"), reason="fio is not installed")
@pytest.mark.parametrize("jobs", [1, 4])
def test_fio_finds_what_it_wrote(disk, tmp_path, jobs):
    """Random writes of all lengths, deeply queued, on several connections with areas of their own; then all is read and
    its checksums compared."""
    _, socket = disk
    result = run("fio", "--name=job", "--ioengine=nbd", f"--uri=nbd+unix:///disk?socket={socket}", "--rw=randwrite",
                 "--bsrange=512-256k", "--blockalign=512", "--iodepth=32", f"--numjobs={jobs}", f"--size={SIZE // jobs}",
                 f"--offset_increment={SIZE // jobs}", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
                 "--serialize_overlap=1", "--group_reporting", "--output-format=json", "--randseed=7", cwd=tmp_path)
    job = json.loads(result.stdout[result.stdout.index("{"):])["jobs"][0]
    assert job["error"] == 0 and job["write"]["io_bytes"] >= SIZE and job["read"]["io_bytes"] >= SIZE


@pytest.mark.skipif(not shutil.which("fio"), reason="fio is not installed")
def test_fio_trims(disk, tmp_path):
    _, socket = disk
    run("fio", "--name=job", "--ioengine=nbd", f"--uri=nbd+unix:///disk?socket={socket}", "--rw=randtrim",
        "--bs=64k", "--iodepth=16", f"--size={SIZE}", cwd=tmp_path)
    client = nbd_client.connect(socket, "disk")
    assert client.pread(1 * MIB, 0) == bytes(1 * MIB)
    client.shutdown()


def test_qemu_io(disk):
    path, socket = disk
    uri = nbd_client.uri(socket, "disk")
    qemu_io(uri, "read -P 1 0 1m", "read -P 2 5m 300k", "read -P 0 6m 64k", "write -P 7 10m 1m", "write -z 12m 1m",
            "write -z -u 13m 1m", "write -f -P 8 15000001 12345", "discard 20m 1m", "flush", "read -P 7 10m 1m",
            "read -P 0 12m 2m", "read -P 8 15000001 12345", "aio_write -P 9 30m 64k", "aio_read -P 7 10m 64k",
            "aio_flush", "read -P 9 30m 64k", fmt="raw")


def test_qemu_img_maps_and_compares(disk, tmp_path):
    path, socket = disk
    uri = nbd_client.uri(socket, "disk")
    mapped = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", uri).stdout)
    data = [(extent["start"], extent["length"]) for extent in mapped if not extent["zero"]]
    assert data == [(0, 1 * MIB), (5 * MIB, 300 * KIB)]
    run("qemu-img", "compare", "-U", "-f", "qcow2", "-F", "raw", path, uri)
    info = json.loads(run("qemu-img", "info", "--output=json", "-f", "raw", uri).stdout)
    assert info["virtual-size"] == SIZE


def test_qemu_img_sees_the_dirty_bitmap(disk):
    """QEMU shows a bitmap as "data": dirty is not data there."""
    _, socket = disk
    client = nbd_client.connect(socket, "disk")
    client.pwrite(b"x" * 512, 3 * MIB)
    client.shutdown()
    options = (f"driver=nbd,export=disk,server.type=unix,server.path={socket},"
               "x-dirty-bitmap=qemu:dirty-bitmap:b")
    mapped = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", options).stdout)
    assert [(extent["start"], extent["length"]) for extent in mapped if not extent["data"]] == [(3 * MIB, 64 * KIB)]


def test_nbdinfo_says_what_there_is(disk):
    _, socket = disk
    uri = nbd_client.uri(socket, "disk")
    text = run("nbdinfo", uri).stdout
    for words in ("protocol: newstyle-fixed without TLS", f"export-size: {SIZE}", "uri: nbd+unix",
                  "base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b", "can_multi_conn: true",
                  "can_zero: true", "can_fua: true", "is_read_only: false", "is_rotational: false",
                  f"block_size_maximum: {32 * MIB}"):
        assert words in text, words
    assert run("nbdinfo", "--size", uri).stdout == f"{SIZE}\n"
    for ability in ("cache", "df", "fast-zero", "flush", "fua", "multi-conn", "trim", "write", "zero"):
        run("nbdinfo", f"--can={ability}", uri)
    assert run("nbdinfo", "--is=rotational", uri, check=False).returncode == 2
    assert run("nbdinfo", "--is=read-only", uri, check=False).returncode == 2
    totals = run("nbdinfo", "--map", "--totals", uri).stdout
    assert re.search(r"data", totals) and re.search(r"hole,zero", totals)


def test_nbdcopy_both_ways(daemon, disk, tmp_path):
    path, socket = disk
    uri = nbd_client.uri(socket, "disk")
    for options in (["--connections=1", "--requests=1"], ["--connections=4", "--requests=64"], ["--request-size=4194304"],
                    ["--no-extents"]):
        copy = tmp_path / "copy.raw"
        run("nbdcopy", *options, uri, copy)
        assert copy.read_bytes() == content(path)
        copy.unlink()
    source = tmp_path / "source.raw"
    source.write_bytes(b"s" * (8 * MIB) + bytes(SIZE - 9 * MIB) + b"e" * MIB)
    run("nbdcopy", "--flush", "--allocated", source, uri)
    run("nbdcopy", "--flush", source, uri)
    daemon.stop()
    compare(path, source)


def test_libnbd_gets_holes_as_holes(disk):
    _, socket = disk
    client = nbd_client.connect(socket, "disk")
    chunks = []
    data = client.pread_structured(4 * MIB, 0, lambda buffer, offset, status, error: chunks.append(
        (offset, len(buffer), status)) and 0)
    assert data == b"\1" * MIB + bytes(3 * MIB)
    assert chunks == [(0, 1 * MIB, nbd.READ_DATA), (1 * MIB, 3 * MIB, nbd.READ_HOLE)]
    chunks.clear()
    client.pread_structured(4 * MIB, 0, lambda buffer, offset, status, error: chunks.append(
        (offset, len(buffer), status)) and 0, nbd.CMD_FLAG_DF)
    assert chunks == [(0, 4 * MIB, nbd.READ_DATA)]
    client.shutdown()


def test_libnbd_gets_the_place_of_an_error(qmp, tmp_path):
    (tmp_path / "bad.raw").write_bytes(b"d" * MIB)
    qmp.execute("blockdev-add", driver="blkdebug", node_name="bad",
                image={"driver": "file", "filename": str(tmp_path / "bad.raw")},
                inject_error=[{"event": "none", "iotype": "read", "errno": 5, "sector": 64}])
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "bad")
    client = nbd_client.connect(socket, "bad")
    seen = []
    with pytest.raises(nbd.Error) as failure:
        client.pread_structured(4096, 64 * 512, lambda buffer, offset, status, error: seen.append((offset, status)) and 0)
    assert failure.value.errno == "EIO" and seen == [(64 * 512, nbd.READ_ERROR)]
    assert client.pread(4096, 0) == b"d" * 4096
    client.shutdown()
