"""Mirrors and backups that go on after the daemon was killed: what was copied is not copied again, what was written meanwhile
is, and the target is right byte by byte. CAIRN_TEST_SEEDS=n: n times."""

import os
import signal

import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, check, compare, create, rng_of, run, seeds
from test_bitmaps import bitmaps
from test_write_ahead import SIZE, Writer

SLOW = 12 * MIB  # bytes per second: a checkpoint comes after a second, long before the end
NAME = "copying"


class Site:
    """A source that guests write, a target, and a daemon that is killed again and again."""

    def __init__(self, start_daemon, directory, seed, target="raw", cluster_size="64k", source="qcow2"):
        self.start_daemon = start_daemon
        self.directory = directory
        self.rng = rng_of(seed)
        self.data_file = None
        self.target_format = target
        self.target = directory / "target"
        if target == "raw":
            self.target.write_bytes(b"\xee" * SIZE)  # whatever it held before is gone afterwards
        else:
            create(self.target, SIZE)
        (directory / "content").write_bytes(self.rng.randbytes(SIZE - 4 * MIB))
        if source == "raw":
            self.make_beside(directory / "disk.raw")
            return
        self.source = create(directory / "source.qcow2", SIZE, cluster_size=cluster_size)
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", str(directory / "content"), str(self.source))

    def make_beside(self, disk):
        """An image that keeps the bitmaps of a raw one, which there is already."""
        self.data_file, self.source = (self.directory / "content").rename(disk), self.directory / "beside.qcow2"
        os.truncate(disk, SIZE)
        before = disk.read_bytes()
        self.source.touch()
        daemon = self.start_daemon()
        qmp = daemon.connect()
        for name, path in (("data", disk), ("beside", self.source)):
            qmp.execute("blockdev-add", driver="file", node_name=name, filename=str(path))
        qmp.execute("blockdev-create", job_id="make", options={
            "driver": "qcow2", "file": "beside", "data-file": "data", "data-file-raw": True, "size": SIZE,
            "preallocation": "metadata"})
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")
        daemon.stop()
        assert disk.read_bytes() == before

    def start(self, target=None, **options):
        self.daemon = self.start_daemon()
        self.qmp = self.daemon.connect()
        if self.data_file:
            options["data-file"] = {"driver": "file", "filename": str(self.data_file), "discard": "unmap"}
        self.qmp.execute("blockdev-add", {
            "driver": "qcow2", "node-name": "disk", "write-ahead-bitmaps": True, "discard": "unmap",
            "file": {"driver": "file", "filename": str(self.source), "discard": "unmap"}, **options})
        self.qmp.execute("blockdev-add", {
            "driver": self.target_format, "node-name": "target", "discard": "unmap",
            "file": {"driver": "file", "filename": str(target or self.target), "discard": "unmap"}})
        self.socket = nbd_client.start_server(self.qmp, self.daemon.directory)
        nbd_client.export(self.qmp, "disk", writable=True)

    def connect(self):
        return nbd_client.connect(self.socket, "disk")

    def kill(self):
        self.daemon.expected_status = -signal.SIGKILL
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.daemon.process.wait()

    def copy(self, kind, **options):
        arguments = {"job-id": "job", "device": "disk", "target": "target", "sync": "full", "progress": NAME, **options}
        self.qmp.execute(f"blockdev-{kind}", arguments)

    def wait_copied(self, count):
        """Until the job has copied so many bytes more."""
        job, = self.qmp.execute("query-block-jobs")
        wanted = job["offset"] + count
        while job["offset"] < wanted:
            jobs = self.qmp.execute("query-block-jobs")
            if not jobs or jobs[0].get("ready"):
                return
            job = jobs[0]

    def bitmap(self):
        return next((bitmap for bitmap in bitmaps(self.qmp) if bitmap["name"].startswith(NAME)), None)

    def work_until_killed(self, kind):
        """Guests write while the job runs, until at a random moment everything is gone."""
        writers = [Writer(self, f"{self.rng.random()}") for _ in range(2)]
        for writer in writers:
            writer.start()
        writers[0].wait(self.rng.randrange(1, 20))
        self.wait_copied(self.rng.randrange(1, 20 * MIB))
        self.kill()
        for writer in writers:
            writer.join()

    def write_until_killed(self):
        """Without a job."""
        writer = Writer(self, f"{self.rng.random()}")
        writer.start()
        writer.wait(self.rng.randrange(1, 20))
        self.kill()
        writer.join()

    def content(self):
        client = self.connect()
        data = nbd_client.read_all(client)
        client.shutdown()
        return data

    def assert_target_is(self, content):
        (self.directory / "model").write_bytes(content)
        compare(self.target, self.directory / "model", fmt=self.target_format)
        if self.target_format == "qcow2":
            check(self.target, leaks_allowed=True)


def wait_concluded(qmp, job="job"):
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["id"] == job and data["status"] == "null", deadline=60)


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("target", ["raw", "qcow2"])
@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
def test_a_mirror_that_is_killed_again_and_again(start_daemon, tmp_path, copy_mode, target, seed):
    print("seed", seed)
    site = Site(start_daemon, tmp_path, f"{copy_mode} {target} {seed}", target)
    for round_ in range(4):
        site.start()
        if round_ == 2:
            site.write_until_killed()
            site.start()
        site.copy("mirror", **{"copy-mode": copy_mode, "speed": SLOW})
        site.work_until_killed("mirror")
    site.start()
    model = bytearray(site.content())
    with Guests(site.socket, "disk", model, seed=f"last {seed}") as guests:
        site.copy("mirror", **{"copy-mode": copy_mode})
        site.qmp.wait_event("BLOCK_JOB_READY", deadline=60)
        guests.let_work(20)
        site.qmp.execute("block-job-complete", device="job")
        wait_concluded(site.qmp)
        guests.let_work(20)
    assert site.bitmap() is None
    site.daemon.stop()
    site.assert_target_is(model)


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
def test_a_mirror_that_goes_on_is_equal_to_its_source(start_daemon, tmp_path, copy_mode, seed):
    """The source stays after the end, and both can be compared."""
    site = Site(start_daemon, tmp_path, f"equal {copy_mode} {seed}")
    for _ in range(3):
        site.start()
        site.copy("mirror", **{"copy-mode": copy_mode, "speed": SLOW})
        site.work_until_killed("mirror")
    site.start()
    site.copy("mirror", **{"copy-mode": copy_mode})
    site.qmp.wait_event("BLOCK_JOB_READY", deadline=60)
    content = site.content()
    site.qmp.execute("block-job-cancel", device="job")
    wait_concluded(site.qmp)
    site.daemon.stop()
    site.assert_target_is(content)


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("target", ["raw", "qcow2"])
def test_a_backup_that_goes_on_is_of_the_moment_of_the_last_command(start_daemon, tmp_path, target, seed):
    print("seed", seed)
    site = Site(start_daemon, tmp_path, f"backup {target} {seed}", target)
    for round_ in range(3):
        site.start()
        if round_ == 1:
            site.write_until_killed()
            site.start()
        site.copy("backup", speed=SLOW)
        site.work_until_killed("backup")
    site.start()
    content = site.content()
    site.copy("backup")
    guests = [Writer(site, f"last {seed} {number}") for number in range(2)]
    for guest in guests:
        guest.start()
    wait_concluded(site.qmp)
    assert site.bitmap() is None
    site.qmp.execute("block-export-del", id="export-disk", mode="hard")
    for guest in guests:
        guest.join()
    site.daemon.stop()
    site.assert_target_is(content)


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("kind", ["mirror", "backup"])
def test_a_raw_disk_with_an_image_beside_it(start_daemon, tmp_path, kind, seed):
    """The bitmaps of the image beside it are kept right as well, and the disk stays a raw one for everybody else."""
    site = Site(start_daemon, tmp_path, f"beside {kind} {seed}", source="raw")
    for round_ in range(3):
        site.start()
        if round_ == 1:
            site.write_until_killed()
            site.start()
        site.copy(kind, speed=SLOW)
        site.work_until_killed(kind)
    site.start()
    content = site.content()
    site.copy(kind)
    if kind == "mirror":
        site.qmp.wait_event("BLOCK_JOB_READY", deadline=60)
        site.qmp.execute("block-job-complete", device="job")
    wait_concluded(site.qmp)
    site.daemon.stop()
    site.assert_target_is(content)
    assert site.data_file.read_bytes() == content
    check(site.source, leaks_allowed=True)


def test_what_the_source_forgets_is_not_in_the_target(start_daemon, tmp_path):
    """A guest writes without flushing, it is copied, and the daemon dies with tables that were not written: if the source has lost
    the write, the target must not have it."""
    site = Site(start_daemon, tmp_path, "forgets")
    site.start()
    site.copy("mirror")
    site.qmp.wait_event("BLOCK_JOB_READY", deadline=60)
    client = site.connect()
    client.pwrite(b"x" * 64 * KIB, SIZE - MIB)  # into a new cluster
    for _ in range(4):  # checkpoints, after which it is cool
        client.pwrite(b"y" * 512, 0)
        while site.bitmap()["count"]:
            pass
    site.kill()
    site.start()
    site.copy("mirror")
    site.qmp.wait_event("BLOCK_JOB_READY", deadline=60)
    content = site.content()
    site.qmp.execute("block-job-cancel", device="job")
    wait_concluded(site.qmp)
    site.daemon.stop()
    site.assert_target_is(content)


@pytest.mark.parametrize("source", ["qcow2", "raw"])
@pytest.mark.parametrize("kind", ["mirror", "backup"])
def test_what_was_copied_is_not_copied_again(start_daemon, tmp_path, kind, source):
    site = Site(start_daemon, tmp_path, kind, source=source)
    site.start()
    site.copy(kind, speed=SLOW)
    site.wait_copied(24 * MIB)
    site.kill()
    site.start()
    left = site.bitmap()["count"]
    assert 0 < left < SIZE * 3 // 4
    site.connect().pwrite(b"x" * 512, 0)
    site.copy(kind, speed=SLOW)
    job, = site.qmp.execute("query-block-jobs")
    assert left <= job["len"] <= left + 2 * 64 * KIB
    site.qmp.execute("block-job-cancel", device="job", force=True)
    site.qmp.wait_event("BLOCK_JOB_CANCELLED")


@pytest.mark.parametrize("kind", ["mirror", "backup"])
def test_a_job_that_was_cancelled_goes_on(start_daemon, tmp_path, kind):
    """Also after the daemon was stopped in between, as it should be."""
    site = Site(start_daemon, tmp_path, kind, "qcow2")
    site.start()
    site.copy(kind, speed=SLOW)
    site.wait_copied(20 * MIB)
    site.qmp.execute("block-job-cancel", device="job", force=True)
    site.qmp.wait_event("BLOCK_JOB_CANCELLED")
    wait_concluded(site.qmp)
    left = site.bitmap()
    assert left["recording"] and not left["busy"] and left["count"] < SIZE
    site.connect().pwrite(b"x" * 512, MIB)
    site.daemon.stop()
    site.start()
    assert site.bitmap()["count"] <= left["count"] + 64 * KIB
    content = site.content()
    site.copy(kind)
    if kind == "mirror":
        site.qmp.wait_event("BLOCK_JOB_READY")
        site.qmp.execute("block-job-complete", device="job")
    wait_concluded(site.qmp)
    assert site.bitmap() is None
    site.daemon.stop()
    site.assert_target_is(content)


@pytest.mark.parametrize("kind", ["mirror", "backup"])
def test_a_job_that_failed_goes_on(start_daemon, tmp_path, kind):
    """The target has no space for a while; the second command copies the rest."""
    site = Site(start_daemon, tmp_path, f"failed {kind}")
    site.start()
    site.qmp.execute("blockdev-add", {
        "driver": "blkdebug", "node-name": "full", "image": "target",
        "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": True, "sector": 24 * MIB // 512}]})
    site.copy(kind, target="full", speed=SLOW)
    assert "No space left" in site.qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]["error"]
    wait_concluded(site.qmp)
    left = site.bitmap()
    assert 0 < left["count"] < SIZE and not left["busy"]
    with Guests(site.socket, "disk", bytearray(site.content())) as guests:
        guests.let_work(20)
        with guests.held():
            site.copy(kind, target="full")
            content = bytes(guests.model)
        if kind == "mirror":
            site.qmp.wait_event("BLOCK_JOB_READY")
            guests.let_work(20)
            with guests.held():
                site.qmp.execute("block-job-cancel", device="job")
                wait_concluded(site.qmp)
                content = bytes(guests.model)
        else:
            guests.let_work(5)
            wait_concluded(site.qmp)
    site.daemon.stop()
    site.assert_target_is(content)


def test_a_target_that_does_not_belong_is_refused(start_daemon, tmp_path):
    site = Site(start_daemon, tmp_path, "other")
    site.start()
    site.copy("mirror", speed=SLOW)
    site.wait_copied(20 * MIB)
    site.kill()
    other = tmp_path / "other"
    other.write_bytes(bytes(SIZE))
    site.start(target=other)
    error = site.qmp.error("blockdev-mirror", job_id="job", device="disk", target="target", sync="full", progress=NAME)
    assert "tells how far another target has got" in error.desc and "block-dirty-bitmap-remove" in error.desc
    assert site.bitmap()["busy"] is False
    site.daemon.stop()
    with open(site.target, "wb") as file:  # the same file, but not what it was
        file.truncate(SIZE)
    site.start()
    for kind in ("mirror", "backup"):
        error = site.qmp.error(f"blockdev-{kind}", job_id="job", device="disk", target="target", sync="full",
                               progress=NAME)
        assert "does not hold what was copied to it before" in error.desc
    name = site.bitmap()["name"]
    site.qmp.execute("block-dirty-bitmap-remove", node="disk", name=name)
    site.copy("mirror", speed=SLOW)
    assert site.qmp.execute("query-block-jobs")[0]["len"] == SIZE
    assert site.bitmap()["name"] == name
    for command in ("clear", "remove", "disable"):
        assert "in use" in site.qmp.error(f"block-dirty-bitmap-{command}", node="disk", name=name).desc
    site.qmp.execute("block-job-cancel", device="job", force=True)
    site.qmp.wait_event("BLOCK_JOB_CANCELLED")


def test_what_is_refused(start_daemon, tmp_path):
    site = Site(start_daemon, tmp_path, "refused")
    site.start()
    qmp = site.qmp

    def refused(kind, **options):
        return qmp.error(f"blockdev-{kind}", {"job-id": "job", "device": "disk", "target": "target", "sync": "full",
                                              "progress": NAME, **options}).desc

    assert "sync mode 'none'" in refused("mirror", sync="none")
    assert "sync mode 'none'" in refused("backup", sync="none")
    assert "source is discarded" in refused("backup", **{"discard-source": True})
    qmp.execute("block-dirty-bitmap-add", node="disk", name="b")
    assert "together with a bitmap" in refused("backup", bitmap="b", **{"bitmap-mode": "always"})
    assert "name of 1 to" in refused("mirror", progress="")
    assert site.bitmap() is None
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("blockdev-del", node_name="disk")
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "disk",
                                 "file": {"driver": "file", "filename": str(site.source)}})
    for kind in ("mirror", "backup"):
        assert "opened with write-ahead-bitmaps=on" in refused(kind)
        assert "opened with write-ahead-bitmaps=on" in refused(kind, device="target", target="disk")


def test_a_progress_that_other_programs_left_inconsistent_is_refused(start_daemon, tmp_path):
    site = Site(start_daemon, tmp_path, "inconsistent")
    site.start()
    site.copy("mirror", speed=SLOW)
    site.wait_copied(MIB)
    site.kill()
    plain = start_daemon()  # without write-ahead-bitmaps, killed as well
    plain.connect().execute("blockdev-add", {"driver": "qcow2", "node-name": "disk",
                                             "file": {"driver": "file", "filename": str(site.source)}})
    plain.expected_status = -signal.SIGKILL
    os.kill(plain.pid, signal.SIGKILL)
    plain.process.wait()
    site.start()
    error = site.qmp.error("blockdev-mirror", job_id="job", device="disk", target="target", sync="full", progress=NAME)
    assert "remove the bitmap to begin from the start" in error.desc and "inconsistent" in error.desc


def test_after_a_flush_that_failed_nothing_is_said_to_be_copied(start_daemon, tmp_path):
    """Nobody knows what of it is stable, also when the next flush succeeds."""
    site = Site(start_daemon, tmp_path, "flush")
    site.start()
    qmp = site.qmp
    (tmp_path / "bad").write_bytes(bytes(SIZE))
    qmp.execute("blockdev-add", {
        "driver": "blkdebug", "node-name": "bad", "image": {"driver": "file", "filename": str(tmp_path / "bad")},
        "inject-error": [{"event": "none", "iotype": "flush", "errno": 5, "once": True}]})
    mirror = {"device": "disk", "sync": "full", "on-target-error": "ignore"}
    for job, target in (("failed", "bad"), ("clock", "target")):
        qmp.execute("blockdev-mirror", {"job-id": job, "target": target, "progress": job} | mirror)
        qmp.wait_event("BLOCK_JOB_READY", lambda data, job=job: data["device"] == job, deadline=60)

    def left(job):
        return next(bitmap["count"] for bitmap in bitmaps(qmp) if bitmap["name"].startswith(f"{job}@"))

    while left("clock") > 0:
        pass
    assert left("failed") == SIZE
