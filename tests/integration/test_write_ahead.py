"""Bitmaps that survive kill -9 (write-ahead-bitmaps): whatever was written, the bitmap says so when the image is opened again,
and it is one that other programs can use."""

import json
import os
import signal
import threading

import nbd
import pytest

import nbd_client
from images import KIB, MIB, check, create, rng_of, run, seeds
from test_bitmaps import add, bitmaps

SIZE = 32 * MIB
REGION = 64 * KIB  # of a disk of this size, see write_ahead.h


class Disk:
    """A disk in a daemon that gets killed again and again."""

    def __init__(self, start_daemon, directory, **options):
        self.start_daemon = start_daemon
        self.path = create(directory / "disk.qcow2", SIZE, **options)

    def open(self, **options):
        self.daemon = self.start_daemon()
        self.qmp = self.daemon.connect()
        self.qmp.execute("blockdev-add", {
            "driver": "qcow2", "node-name": "disk", "write-ahead-bitmaps": True, "discard": "unmap",
            "file": {"driver": "file", "node-name": "file", "filename": str(self.path), "discard": "unmap"}, **options})
        self.socket = nbd_client.start_server(self.qmp, self.daemon.directory)
        nbd_client.export(self.qmp, "disk", writable=True)
        return self.qmp

    def kill(self):
        self.daemon.expected_status = -signal.SIGKILL
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.process.wait()

    def connect(self, contexts=()):
        return nbd_client.connect(self.socket, "disk", contexts)

    def content(self):
        client = self.connect()
        data = nbd_client.read_all(client)
        client.shutdown()
        return data

    def dirty(self, name):
        """(begin, end) of what a bitmap says, of a copy that does not change."""
        self.qmp.execute("block-dirty-bitmap-add", node="disk", name="copy", disabled=True, granularity=65536)
        self.qmp.execute("block-dirty-bitmap-merge", node="disk", target="copy", bitmaps=[name])
        self.qmp.execute("block-export-add", type="nbd", id="copy", node_name="disk", name="copy", writable=True,
                         bitmaps=["copy"])
        text = run("nbdinfo", "--json", "--map=qemu:dirty-bitmap:copy", nbd_client.uri(self.socket, "copy")).stdout
        self.qmp.execute("block-export-del", id="copy", mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED")
        self.qmp.execute("block-dirty-bitmap-remove", node="disk", name="copy")
        return [(run["offset"], run["offset"] + run["length"]) for run in json.loads(text) if run["type"] & 1]


class Writer(threading.Thread):
    """Writes at random until the daemon is gone."""

    def __init__(self, disk, seed):
        super().__init__()
        self.client = disk.connect()
        self.rng = rng_of(seed)
        self.done = 0
        self.progress = threading.Condition()

    def run(self):
        try:
            while True:
                length = self.rng.choice([512, 4 * KIB, 70 * KIB])
                offset = self.rng.randrange((SIZE - length) // 512) * 512
                kind = self.rng.randrange(8)
                if kind == 0:
                    self.client.zero(length, offset)
                elif kind == 1:
                    self.client.trim(length, offset)
                elif kind == 2:
                    self.client.flush()
                else:
                    self.client.pwrite(self.rng.randbytes(length), offset)
                with self.progress:
                    self.done += 1
                    self.progress.notify_all()
        except nbd.Error:
            return

    def wait(self, count):
        with self.progress:
            assert self.progress.wait_for(lambda: self.done >= count, timeout=60)


def write_until_killed(disk, rng):
    writers = [Writer(disk, f"{rng.random()}") for _ in range(2)]
    for writer in writers:
        writer.start()
    writers[0].wait(rng.randrange(1, 60))
    disk.kill()
    for writer in writers:
        writer.join()


def assert_says_what_changed(old, new, dirty):
    for begin in range(0, SIZE, 4 * KIB):
        if old[begin:begin + 4 * KIB] != new[begin:begin + 4 * KIB]:
            assert any(first <= begin < last for first, last in dirty), f"bytes at {begin} changed silently"


def stored(path):
    info = json.loads(run("qemu-img", "info", "-U", "--output=json", str(path)).stdout)
    return {bitmap["name"]: bitmap["flags"] for bitmap in info["format-specific"]["data"].get("bitmaps", [])}


@pytest.mark.parametrize("seed", seeds(2))
@pytest.mark.parametrize("granularity", [4 * KIB, 64 * KIB, 256 * KIB])
def test_killed_again_and_again(start_daemon, tmp_path, granularity, seed):
    print("seed", seed)
    rng = rng_of(f"{granularity} {seed}")
    disk = Disk(start_daemon, tmp_path, cluster_size=rng.choice(["4k", "64k"]))
    qmp = disk.open()
    add(qmp, "b", persistent=True, granularity=granularity)
    before = disk.content()
    for round_ in range(3):
        write_until_killed(disk, rng)
        assert stored(disk.path) == {"b": ["auto"]}
        check(disk.path, leaks_allowed=True)
        qmp = disk.open()
        bitmap, = bitmaps(qmp)
        assert bitmap["recording"] and not bitmap.get("inconsistent", False)
        after = disk.content()
        assert_says_what_changed(before, after, disk.dirty("b"))
        if round_ == 1:
            qmp.execute("block-dirty-bitmap-clear", node="disk", name="b")
            before = after
    disk.daemon.stop()
    assert stored(disk.path) == {"b": ["auto"]}
    check(disk.path, leaks_allowed=True)


def test_only_what_was_near_a_write_is_dirty(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "b", persistent=True)
    client = disk.connect()
    client.pwrite(b"x" * 512, 3 * MIB + 512)
    disk.kill()
    disk.open()
    assert disk.dirty("b") == [(3 * MIB, 3 * MIB + REGION)]


def test_what_was_cleared_stays_clear(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "b", persistent=True)
    add(qmp, "other", persistent=True)
    client = disk.connect()
    client.pwrite(b"x" * 512, MIB)
    qmp.execute("block-dirty-bitmap-clear", node="disk", name="b")
    client.pwrite(b"x" * 512, 2 * MIB)
    disk.kill()
    disk.open()
    assert disk.dirty("b") == [(2 * MIB, 2 * MIB + REGION)]
    assert disk.dirty("other") == [(MIB, MIB + 64 * KIB), (2 * MIB, 2 * MIB + REGION)]


def test_what_was_merged_is_there_after_a_crash(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "a")
    disk.connect().pwrite(b"x" * 512, 5 * MIB)
    add(qmp, "b", persistent=True)
    qmp.execute("block-dirty-bitmap-merge", node="disk", target="b", bitmaps=["a"])
    disk.kill()
    disk.open()
    assert disk.dirty("b") == [(5 * MIB, 5 * MIB + 64 * KIB)]


def test_a_disk_that_grows_and_shrinks(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "b", persistent=True)
    disk.connect().pwrite(b"x" * 512, 0)
    qmp.execute("block_resize", node_name="disk", size=SIZE + 8 * MIB)
    client = disk.connect()
    client.pwrite(b"y" * 512, SIZE + 7 * MIB)
    disk.kill()
    qmp = disk.open()
    assert disk.dirty("b") == [(0, REGION), (SIZE + 7 * MIB, SIZE + 7 * MIB + REGION)]
    qmp.execute("block_resize", node_name="disk", size=MIB)
    disk.kill()
    disk.open()
    assert disk.dirty("b") == [(0, REGION)]
    disk.daemon.stop()
    check(disk.path, leaks_allowed=True)


def test_several_bitmaps_and_one_that_goes(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "old", persistent=True)
    client = disk.connect()
    client.pwrite(b"x" * 512, MIB)
    add(qmp, "gone", persistent=True)
    add(qmp, "new", persistent=True)
    client.pwrite(b"x" * 512, 2 * MIB)
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="gone")
    client.pwrite(b"x" * 512, 4 * MIB)
    disk.kill()
    assert stored(disk.path) == {"old": ["auto"], "new": ["auto"]}
    disk.open()
    two, four = (2 * MIB, 2 * MIB + REGION), (4 * MIB, 4 * MIB + REGION)
    assert disk.dirty("old") == [(MIB, MIB + REGION), two, four]
    assert set(disk.dirty("new")) >= {two, four}  # and what had been armed when it was made


def test_it_begins_again_when_the_image_can_be_written_again(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "b", persistent=True)
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    for active in (False, True):
        qmp.execute("blockdev-set-active", node_name="disk", active=active)
        assert stored(disk.path) == {"b": ["auto"]}
    for read_only in (True, False):
        qmp.execute("blockdev-reopen", options=[{
            "driver": "qcow2", "node-name": "disk", "write-ahead-bitmaps": True, "discard": "unmap",
            "read-only": read_only, "file": {"driver": "file", "node-name": "file", "filename": str(disk.path),
                                             "discard": "unmap", "read-only": read_only}}])
        assert stored(disk.path) == {"b": ["auto"]}
    nbd_client.export(qmp, "disk", writable=True)
    disk.connect().pwrite(b"x" * 512, MIB)
    disk.kill()
    assert stored(disk.path) == {"b": ["auto"]}
    disk.open()
    assert disk.dirty("b") == [(MIB, MIB + REGION)]


def test_qemu_goes_on_with_it(start_daemon, tmp_path):
    disk = Disk(start_daemon, tmp_path)
    add(disk.open(), "b", persistent=True)
    disk.connect().pwrite(b"x" * 512, MIB)
    disk.kill()
    run("qemu-io", "-f", "qcow2", "-c", "write 2m 512", str(disk.path))
    check(disk.path, leaks_allowed=True)
    disk.open()
    assert disk.dirty("b") == [(MIB, MIB + REGION), (2 * MIB, 2 * MIB + 64 * KIB)]


def test_a_write_whose_bits_cannot_be_written_fails(start_daemon, tmp_path):
    """Flushes fail: the bits may not be stable, so the first write to a region must not happen."""
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "b", persistent=True)
    client = disk.connect()
    client.pwrite(b"x" * 512, 0)
    qmp.execute("blockdev-add", {"driver": "blkdebug", "node-name": "broken", "image": "file",
                                 "inject-error": [{"event": "none", "iotype": "flush", "errno": 5}]})
    qmp.execute("blockdev-insert-filter", node="file", filter="broken")
    client.pwrite(b"y" * 512, 512)  # its region is armed
    with pytest.raises(nbd.Error):
        client.pwrite(b"x" * 512, MIB)
    assert client.pread(1024, MIB) == bytes(1024)
    qmp.execute("blockdev-remove-filter", filter="broken")
    client.pwrite(b"x" * 512, MIB)
    disk.kill()
    disk.open()
    assert disk.dirty("b") == [(0, REGION), (MIB, MIB + REGION)]


def test_old_images_cannot(start_daemon, tmp_path):
    path = create(tmp_path / "old.qcow2", SIZE, compat="0.10")
    error = start_daemon().connect().error("blockdev-add", {
        "driver": "qcow2", "node-name": "disk", "write-ahead-bitmaps": True,
        "file": {"driver": "file", "filename": str(path)}})
    assert "write-ahead-bitmaps: needs an image of version 3" in error.desc


def test_what_a_failed_backup_puts_back_is_there_after_a_crash(start_daemon, tmp_path):
    """Its bitmap says what was not copied, also where nobody has written."""
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    add(qmp, "b", persistent=True)
    (tmp_path / "copy").write_bytes(bytes(SIZE))
    disk.connect().pwrite(b"x" * 2 * MIB, 0)
    qmp.execute("block-dirty-bitmap-clear", node="disk", name="b")
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "copy", "filename": str(tmp_path / "copy")})
    qmp.execute("blockdev-backup", {"job-id": "j", "device": "disk", "target": "copy", "sync": "full", "bitmap": "b",
                                    "bitmap-mode": "always", "speed": 1})
    qmp.execute("block-job-cancel", device="j", force=True)
    qmp.wait_event("BLOCK_JOB_CANCELLED")
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "null")
    before = disk.dirty("b")
    assert before
    disk.kill()
    disk.open()
    after = disk.dirty("b")
    assert all(any(a <= begin and end <= z for a, z in after) for begin, end in before)


def test_bitmaps_that_are_added_at_once(start_daemon, tmp_path):
    """While the directory with the first is written, others come."""
    disk = Disk(start_daemon, tmp_path)
    disk.open()
    clients = [disk.daemon.connect() for _ in range(8)]
    commands = [client.start("block-dirty-bitmap-add", node="disk", name=f"b{i}", persistent=True)
                for i, client in enumerate(clients)]
    for client, command in zip(clients, commands):
        client.finish(command)
    disk.connect().pwrite(b"x" * 512, MIB)
    disk.kill()
    assert stored(disk.path) == {f"b{i}": ["auto"] for i in range(8)}
    disk.open()
    assert all(disk.dirty(f"b{i}") == [(MIB, MIB + REGION)] for i in range(8))


@pytest.mark.parametrize("size", [SIZE // 2, 2 * SIZE])
def test_a_snapshot_of_another_length(start_daemon, tmp_path, size):
    """All that differs is dirty, and what is written behind the end that the disk had."""
    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    qmp.execute("block_resize", node_name="disk", size=size)
    qmp.execute("blockdev-snapshot-internal-sync", device="disk", name="then")
    qmp.execute("block_resize", node_name="disk", size=SIZE)
    add(qmp, "b", persistent=True)
    disk.connect().pwrite(b"x" * 512, 0)
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("blockdev-snapshot-apply-internal-sync", device="disk", name="then")
    disk.kill()
    assert stored(disk.path) == {"b": ["auto"]}
    disk.open()
    assert disk.dirty("b") == [(0, size)]


@pytest.mark.parametrize("ahead", [True, False])
def test_an_image_that_cannot_become_inactive(start_daemon, tmp_path, ahead):
    """Its bitmaps were stored already, as they were then; it goes on being written."""
    disk = Disk(start_daemon, tmp_path, lazy_refcounts="on")
    qmp = disk.open(**{"write-ahead-bitmaps": ahead}, file={
        "driver": "blkdebug", "image": {"driver": "file", "filename": str(disk.path)},
        "inject-error": [{"event": "refblock_update_part", "iotype": "write", "errno": 5, "once": True}]})
    add(qmp, "b", persistent=True)
    disk.connect().pwrite(b"x" * 512, 0)
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    assert "cannot be flushed" in qmp.error("blockdev-set-active", node_name="disk", active=False).desc
    nbd_client.export(qmp, "disk", writable=True)
    disk.connect().pwrite(b"x" * 512, 2 * MIB)
    disk.kill()
    assert stored(disk.path) == {"b": ["auto"] if ahead else ["in-use", "auto"]}
    qmp = disk.open()
    if ahead:
        assert disk.dirty("b") == [(0, REGION), (2 * MIB, 2 * MIB + REGION)]
