"""Copies that the file system does itself: they are the same as others, and only taken where nothing is in the way."""

import os
import subprocess

import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, rng_of, run
from jobs import wait_status
from test_backup import backup, finished

SIZE = 8 * MIB
WINDOW = 64 * KIB  # what windows of raw leave out at the begin


def add_file(qmp, name, path, **options):
    qmp.execute("blockdev-add", driver="file", node_name=name, filename=str(path), discard="unmap", **options)


def used(path):
    return path.stat().st_blocks * 512


@pytest.fixture
def source(tmp_path):
    """Noise, and zeroes that are written out as data, which an ordinary copy finds."""
    path = tmp_path / "source"
    path.write_bytes(rng_of("offload").randbytes(2 * MIB) + bytes(SIZE - 2 * MIB))
    return path


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "target"
    path.touch()
    os.truncate(path, SIZE)
    return path


def over(qmp, name, graph, file):
    """A node on top of a file node that lets requests through as they are, or does not."""
    if graph == "raw":
        qmp.execute("blockdev-add", driver="raw", node_name=name, file=file, discard="unmap")
    elif graph == "window":
        qmp.execute("blockdev-add", driver="raw", node_name=name, file=file, discard="unmap", offset=WINDOW,
                    size=SIZE - 3 * WINDOW)
    elif graph == "blkdebug":
        qmp.execute("blockdev-add", driver="blkdebug", node_name=name, image=file, discard="unmap")
    elif graph == "detect-zeroes":
        qmp.execute("blockdev-add", driver="raw", node_name=name, file=file, detect_zeroes="unmap", discard="unmap")


@pytest.mark.parametrize("use", [True, False])
@pytest.mark.parametrize("graph", ["raw", "window"])
def test_use_copy_range(daemon, qmp, source, target, graph, use):
    """The kernel does not look for zeroes, we do: so what the target occupies tells who has copied."""
    for name, path in (("source", source), ("target", target)):
        add_file(qmp, f"{name}-file", path)
        over(qmp, name, graph, f"{name}-file")
    qmp.execute("block-dirty-bitmap-add", node="target", name="bits")
    begin, end = (0, SIZE) if graph == "raw" else (WINDOW, SIZE - 2 * WINDOW)
    backup(qmp, "source", x_perf={"use-copy-range": use})
    assert finished(qmp) is None
    assert target.read_bytes() == bytes(begin) + source.read_bytes()[begin:end] + bytes(SIZE - end)
    assert used(target) >= end - begin if use else used(target) < 3 * MIB
    nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes")}
    assert nodes["target"]["dirty-bitmaps"][0]["count"] >= 2 * MIB - begin
    stats = {entry["node-name"]: entry["stats"] for entry in qmp.execute("query-blockstats", query_nodes=True)}
    assert stats["target-file"]["wr_bytes"] >= 2 * MIB - begin and stats["source-file"]["rd_bytes"] >= 2 * MIB - begin


def mirror(qmp):
    qmp.execute("blockdev-mirror", job_id="b0", device="source", target="target", sync="full", auto_dismiss=False)
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("block-job-complete", device="b0")


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("job", ["mirror", "backup"])
@pytest.mark.parametrize("size", [SIZE, SIZE - 512])
def test_plain_files(daemon, qmp, source, target, size, job, cold):
    """Data among zeroes and holes, in the page cache or on the disk: the copy is the same, and as sparse as can be."""
    rng = rng_of("plain files")
    model = bytearray(size)
    with open(source, "r+b") as file:
        file.truncate(0)
        file.truncate(size)
        for at in range(0, size - MIB, 512 * KIB):
            data = rng.choice([rng.randbytes(256 * KIB), bytes(192 * KIB), rng.randbytes(70_000) + bytes(64 * KIB)])
            file.seek(at)
            file.write(data)
            model[at:at + len(data)] = data
        file.flush()
        os.fsync(file.fileno())
        if cold:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.truncate(target, size)
    add_file(qmp, "source", source)
    add_file(qmp, "target", target)
    mirror(qmp) if job == "mirror" else backup(qmp, "source")
    assert finished(qmp) is None
    assert target.read_bytes() == bytes(model)
    dense = sum(any(model[at:at + 64 * KIB]) for at in range(0, size, 64 * KIB)) * 64 * KIB
    assert used(target) <= dense + 64 * KIB
    stats = {entry["node-name"]: entry["stats"] for entry in qmp.execute("query-blockstats", query_nodes=True)}
    assert dense - 64 * KIB <= stats["target"]["wr_bytes"] and stats["source"]["rd_bytes"] <= 2 * size


@pytest.mark.parametrize("side, graph", [("source", "blkdebug"), ("target", "blkdebug"), ("target", "detect-zeroes")])
def test_what_looks_at_the_data_sees_them(daemon, qmp, source, target, side, graph):
    for name, path in (("source", source), ("target", target)):
        add_file(qmp, f"{name}-file", path)
        over(qmp, name, graph if name == side else "raw", f"{name}-file")
    backup(qmp, "source", x_perf={"use-copy-range": True})
    assert finished(qmp) is None
    assert target.read_bytes() == source.read_bytes()
    assert used(target) < 3 * MIB


def test_between_file_systems_bytes_are_copied(daemon, qmp, tmp_path, source, target):
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no other file system")
    other = f"/dev/shm/cairn-{os.getpid()}"
    try:
        os.close(os.open(other, os.O_CREAT | os.O_RDWR, 0o600))
        os.truncate(other, SIZE)
        add_file(qmp, "source", source)
        add_file(qmp, "target", other)
        backup(qmp, "source", x_perf={"use-copy-range": True})
        assert finished(qmp) is None
        with open(other, "rb") as file:
            assert file.read() == source.read_bytes()
    finally:
        os.unlink(other)


def test_min_cluster_size_and_max_chunk_rule_the_requests(daemon, qmp, source, target):
    """One piece of data is one read of the source and, being noise, one write of the target."""
    add_file(qmp, "source", source)
    add_file(qmp, "target", target)

    def pieces(**perf):
        before = {entry["node-name"]: entry["stats"] for entry in qmp.execute("query-blockstats", query_nodes=True)}
        backup(qmp, "source", x_perf=perf)
        assert finished(qmp) is None
        after = {entry["node-name"]: entry["stats"] for entry in qmp.execute("query-blockstats", query_nodes=True)}
        return after["source"]["rd_operations"] - before["source"]["rd_operations"]

    assert pieces(**{"max-chunk": 64 * KIB}) == SIZE // (64 * KIB)
    assert pieces(**{"max-chunk": 256 * KIB}) == SIZE // (256 * KIB)
    assert pieces(**{"min-cluster-size": 256 * KIB, "max-chunk": 256 * KIB}) == SIZE // (256 * KIB)
    error = qmp.error("blockdev-backup", {"job-id": "b", "device": "source", "target": "target", "sync": "full",
                                          "x-perf": {"min-cluster-size": 1 * MIB, "max-chunk": 256 * KIB}})
    assert "less than backup cluster size (1048576)" in str(error)


# Shared blocks --------------------------------------------------------------------------------------------------

@pytest.fixture
def btrfs(tmp_path):
    """A directory on a file system where files can share blocks."""
    image, directory = tmp_path / "btrfs.img", tmp_path / "btrfs"
    image.touch()
    os.truncate(image, 256 * MIB)
    directory.mkdir()
    try:
        subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, directory], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no btrfs can be mounted here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def space(directory):
    run("sync", "-f", directory)
    fs = os.statvfs(directory)
    return (fs.f_blocks - fs.f_bfree) * fs.f_frsize


@pytest.mark.parametrize("graph", ["file", "raw", "window", "blkdebug"])
@pytest.mark.parametrize("job", ["mirror", "backup"])
def test_blocks_are_shared(daemon, qmp, btrfs, job, graph):
    source, target = btrfs / "source", btrfs / "target"
    size = 32 * MIB
    source.write_bytes(rng_of("shared").randbytes(size))
    target.touch()
    os.truncate(target, size)
    for name, path in (("source", source), ("target", target)):
        add_file(qmp, name if graph == "file" else f"{name}-file", path)
        over(qmp, name, graph, f"{name}-file")
    before = space(btrfs)
    if job == "mirror":
        qmp.execute("blockdev-mirror", job_id="b0", device="source", target="target", sync="full", auto_dismiss=False)
        qmp.wait_event("BLOCK_JOB_READY")
        qmp.execute("block-job-complete", device="b0")
    else:
        backup(qmp, "source", x_perf={"use-copy-range": True})
    assert finished(qmp) is None
    if graph == "window":
        assert target.read_bytes()[WINDOW:SIZE - 2 * WINDOW] == source.read_bytes()[WINDOW:SIZE - 2 * WINDOW]
    else:
        assert target.read_bytes() == source.read_bytes()
    grown = space(btrfs) - before
    assert grown > size // 2 if graph == "blkdebug" else grown < 4 * MIB


def test_shared_blocks_under_load(daemon, qmp, btrfs):
    """A guest that writes both while blocks are shared between them, and one that writes what it has got afterwards."""
    source, target = btrfs / "source", btrfs / "target"
    model = bytearray(rng_of("shared load").randbytes(SIZE))
    source.write_bytes(model)
    target.touch()
    os.truncate(target, SIZE)
    add_file(qmp, "source", source)
    add_file(qmp, "target", target)
    socket = nbd_client.start_server(qmp, btrfs.parent)
    nbd_client.export(qmp, "source", writable=True)
    with Guests(socket, "source", model, count=3) as guests:
        guests.let_work()
        for device, other in (("source", "target"), ("target", "source")):
            qmp.execute("blockdev-mirror", job_id="m0", device=device, target=other, sync="full", granularity=64 * KIB)
            qmp.wait_event("BLOCK_JOB_READY", lambda data: data["device"] == "m0")
            guests.let_work()
            qmp.execute("block-job-complete", device="m0")
            wait_status(qmp, "m0", "null")
            qmp.events.clear()
            guests.let_work()
    client = nbd_client.connect(socket, "source")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    assert source.read_bytes() == bytes(model)
