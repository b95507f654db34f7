"""The agent in clients/backup: a chain of incremental backups, pulled over NBD while guests write. Each point holds the disk
as it was at its moment, byte by byte, whoever dies in between."""

import os
import signal
import subprocess
import sys

import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, check, create, qemu_io
from ordered import SIZE as ORDERED_SIZE
from ordered import OrderedGuests, holds
from process import BUILD, ROOT

SIZE = 8 * MIB
PACKAGES = os.pathsep.join(str(path) for path in (BUILD / "clients" / "python", ROOT / "clients" / "backup"))
PATIENCE = 120  # seconds, where many tests run at once
STEPS = ["bitmap", "moment", "stored", "point"]


class Agent:
    """A run of the agent, which tells each step as a line of text."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "cairn_backup", *map(str, args)], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": PACKAGES})

    def read_until(self, step):
        for line in self.process.stdout:
            if line.startswith(step):
                return line
        raise AssertionError(f"the agent ended before '{step}': {self.process.stderr.read()}")

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def end(self, status=0):
        """What it says, after what was read before."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == status, errors
        return output if status == 0 else errors


class Site:
    """A daemon with a disk that is written through NBD, and a chain of its backups."""

    def __init__(self, start_daemon, directory):
        self.start_daemon = start_daemon
        self.directory = directory
        self.chain = directory / "chain"
        self.path = create(directory / "disk.qcow2", SIZE)
        qemu_io(self.path, "write -P 17 0 1m", "write -P 18 3m 300k", "write -z 2m 64k", "write -P 19 7m 1000k")
        self.restored = 0

    def start(self, **options):
        self.daemon = self.start_daemon()
        self.qmp = self.daemon.connect()
        self.qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
                         file={"driver": "file", "filename": str(self.path), "discard": "unmap"}, **options)
        self.socket = nbd_client.start_server(self.qmp, self.daemon.directory)
        nbd_client.export(self.qmp, "disk", writable=True)
        client = nbd_client.connect(self.socket, "disk")
        self.model = bytearray(nbd_client.read_all(client))
        client.shutdown()

    def kill_daemon(self):
        self.daemon.expected_status = -signal.SIGKILL
        self.daemon.process.kill()
        self.daemon.process.wait()

    def guests(self, seed="backup"):
        return Guests(self.socket, "disk", self.model, seed=seed)

    def agent(self, *args):
        return Agent("backup", "--chain", self.chain, "--qmp", self.daemon.socket, "--disk", "disk", *args)

    def backup_under_load(self, guests):
        """Returns what the disk held at the moment, and what the agent said of its kind."""
        guests.let_work(20)
        with guests.held():
            agent = self.agent()
            kind = agent.read_until("")
            agent.read_until("moment")
            content = bytes(self.model)
        guests.let_work(20)
        agent.end()
        return content, kind

    def restore(self, point=None):
        self.restored += 1
        image = self.directory / f"restored{self.restored}"
        Agent("restore", "--chain", self.chain, *(("--point", point) if point else ()), image).end()
        return image.read_bytes()

    def bitmaps(self):
        nodes = self.qmp.execute("query-named-block-nodes")
        disk, = (node for node in nodes if node["node-name"] == "disk")
        return {bitmap["name"]: bitmap for bitmap in disk.get("dirty-bitmaps", [])}

    def assert_nothing_is_left(self):
        """Nothing but the disk and one bitmap, of the last point."""
        names = {node["node-name"] for node in self.qmp.execute("query-named-block-nodes")}
        assert not {name for name in names if "backup" in name}
        assert [export["id"] for export in self.qmp.execute("query-block-exports")] == ["export-disk"]
        bitmap, = self.bitmaps().values()
        assert bitmap["recording"] and bitmap["persistent"] and not bitmap["busy"]
        assert {path.suffix for path in self.chain.iterdir()} == {".json", ".data"}


@pytest.fixture
def site(start_daemon, tmp_path):
    site = Site(start_daemon, tmp_path)
    site.start()
    return site


def test_a_chain_under_load(site):
    with site.guests() as guests:
        points = [site.backup_under_load(guests) for _ in range(4)]
    assert [kind.split()[0] for _, kind in points] == ["full", "incremental", "incremental", "incremental"]
    for number, (content, _) in enumerate(points, 1):
        assert site.restore(number) == content, f"point {number}"
    assert site.restore() == points[-1][0]
    Agent("check", "--chain", site.chain).end()
    listed = Agent("list", "--chain", site.chain).end().splitlines()
    assert listed == [f"{i} {'full' if i == 1 else 'incremental'} {SIZE}" for i in range(1, 5)]
    site.assert_nothing_is_left()
    site.daemon.stop()
    check(site.path)


def test_an_incremental_backup_holds_what_was_written(site):
    site.agent().end()
    client = nbd_client.connect(site.socket, "disk")
    client.pwrite(b"a" * 4 * KIB, 5 * MIB)
    client.zero(64 * KIB, 0)
    client.pwrite(b"b" * 512, 6 * MIB + 512)
    expected = nbd_client.read_all(client)
    client.shutdown()
    site.agent().end()
    assert (site.chain / "0002.data").stat().st_size <= 2 * 64 * KIB
    assert site.restore() == expected
    site.agent().end()
    assert (site.chain / "0003.data").stat().st_size == 0
    assert site.restore() == expected


def test_the_chain_goes_on_after_the_daemon_was_restarted(site):
    with site.guests() as guests:
        first, _ = site.backup_under_load(guests)
        guests.let_work(20)
    site.daemon.stop()
    check(site.path)
    site.start()
    with site.guests("after") as guests:
        second, kind = site.backup_under_load(guests)
    assert kind.startswith("incremental")
    assert site.restore(1) == first and site.restore(2) == second


@pytest.mark.parametrize("stored, reason", [(False, "is gone"), (True, "is inconsistent")])
def test_after_a_crash_of_the_daemon_a_full_backup_is_made(site, stored, reason):
    """Whether the bitmap was ever in the image or not."""
    with site.guests() as guests:
        site.backup_under_load(guests)
    if stored:
        site.daemon.stop()
        site.start()
    site.kill_daemon()
    site.start()
    with site.guests("after") as guests:
        content, kind = site.backup_under_load(guests)
        assert kind.startswith("full") and reason in kind
        later, kind = site.backup_under_load(guests)
    assert kind.startswith("incremental")
    assert site.restore(2) == content and site.restore(3) == later
    site.assert_nothing_is_left()


def test_with_bitmaps_ahead_the_chain_goes_on_after_a_crash(start_daemon, tmp_path):
    site = Site(start_daemon, tmp_path)
    site.start(write_ahead_bitmaps=True)
    with site.guests() as guests:
        first, _ = site.backup_under_load(guests)
        guests.let_work(20)
    site.kill_daemon()
    site.start(write_ahead_bitmaps=True)
    with site.guests("after") as guests:
        second, kind = site.backup_under_load(guests)
        assert kind.startswith("incremental")
    assert site.restore(1) == first and site.restore(2) == second
    site.assert_nothing_is_left()


@pytest.mark.parametrize("step", STEPS)
def test_an_agent_that_is_killed_loses_nothing(site, step):
    """Killed in the first backup and in the second one, at the same step."""
    with site.guests() as guests:
        for _ in range(2):
            agent = site.agent()
            agent.read_until(step)
            agent.kill()
            content, _ = site.backup_under_load(guests)
    assert site.restore() == content
    site.assert_nothing_is_left()


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("step", ["bitmap", "moment", "stored"])
def test_a_daemon_that_is_killed_in_the_middle(start_daemon, tmp_path, step, ahead):
    site = Site(start_daemon, tmp_path)
    site.start(write_ahead_bitmaps=ahead)
    with site.guests() as guests:
        content, _ = site.backup_under_load(guests)
        guests.let_work(20)
    agent = site.agent()
    agent.read_until(step)
    site.kill_daemon()
    agent.process.communicate(timeout=PATIENCE)
    assert agent.process.returncode in (0, 1)  # it may have been faster
    site.start(write_ahead_bitmaps=ahead)
    with site.guests("after") as guests:
        later, kind = site.backup_under_load(guests)
        guests.let_work(20)
    assert kind.startswith("incremental" if ahead else "full")
    assert site.restore(1) == content
    assert site.restore() == later
    site.assert_nothing_is_left()


def test_a_moment_that_is_lost_changes_nothing(site):
    """Its export is taken away while the agent reads, or just before: the next backup has it all."""
    with site.guests() as guests:
        first, _ = site.backup_under_load(guests)
        with guests.held():
            agent = site.agent()
            agent.read_until("moment")
            os.kill(agent.process.pid, signal.SIGSTOP)
            site.qmp.execute("block-export-del", id="disk.backup", mode="hard")
            os.kill(agent.process.pid, signal.SIGCONT)
        agent.process.communicate(timeout=PATIENCE)
        content, kind = site.backup_under_load(guests)
        assert kind.startswith("incremental")
    assert site.restore(1) == first and site.restore() == content


def test_two_chains_of_one_disk(site, tmp_path):
    with site.guests() as guests:
        site.backup_under_load(guests)
        other = Agent("backup", "--chain", tmp_path / "other", "--qmp", site.daemon.socket, "--disk", "disk")
        assert other.read_until("").startswith("full")
        other.end()
        content, kind = site.backup_under_load(guests)
    assert kind.startswith("incremental") and site.restore() == content
    assert len(site.bitmaps()) == 2


def test_what_is_refused(site, tmp_path):
    def run(*args):
        return Agent("backup", "--qmp", site.daemon.socket, *args).end(status=1)

    assert "there is no node 'nobody'" in run("--chain", tmp_path / "new", "--disk", "nobody")
    site.agent().end()
    (tmp_path / "raw").write_bytes(bytes(MIB))
    site.qmp.execute("blockdev-add", driver="file", node_name="raw", filename=str(tmp_path / "raw"))
    assert "holds backups of 'disk', not of 'raw'" in run("--chain", site.chain, "--disk", "raw")
    assert "Can't store persistent bitmaps to raw" in run("--chain", tmp_path / "new", "--disk", "raw")
    (site.chain / "0001.data").write_bytes(b"x")
    assert "point 1 is damaged" in Agent("check", "--chain", site.chain).end(status=1)
    (site.chain / "chain.json").write_text("{}")
    assert "cannot be read" in run("--chain", site.chain, "--disk", "disk")


def test_a_disk_that_was_resized_gets_a_full_backup(site):
    site.agent().end()
    site.qmp.execute("block_resize", node_name="disk", size=SIZE + MIB)
    agent = site.agent()
    assert "bytes now" in agent.read_until("full")
    agent.end()
    assert len(site.restore()) == SIZE + MIB


# Several disks --------------------------------------------------------------------------------------------------

class Disks:
    """Disks whose guests write one after the other, with a chain each."""

    NAMES = ["a", "b", "c"]

    def __init__(self, start_daemon, directory):
        self.start_daemon, self.directory = start_daemon, directory
        for name in self.NAMES:
            create(directory / f"{name}.qcow2", ORDERED_SIZE)

    def start(self):
        self.daemon = self.start_daemon()
        self.qmp = self.daemon.connect()
        self.socket = nbd_client.start_server(self.qmp, self.daemon.directory)
        for name in self.NAMES:
            self.qmp.execute("blockdev-add", driver="qcow2", node_name=name, write_ahead_bitmaps=True,
                             file={"driver": "file", "filename": str(self.directory / f"{name}.qcow2")})
            nbd_client.export(self.qmp, name, writable=True)

    def agent(self):
        disks = [word for name in self.NAMES for word in ("--disk", name, "--chain", self.directory / f"chain-{name}")]
        return Agent("backup", "--qmp", self.daemon.socket, *disks)

    def moments(self, name):
        lines = Agent("list", "--chain", self.directory / f"chain-{name}").end().splitlines()
        return [line.split() for line in lines]

    def restore(self, moment):
        """What each disk was then."""
        contents = {}
        for name in self.NAMES:
            image = self.directory / f"{moment}-{name}"
            Agent("restore", "--chain", self.directory / f"chain-{name}", "--moment", moment, image).end()
            contents[name] = image.read_bytes()
        return contents

    def assert_nothing_is_left(self):
        nodes = {node["node-name"]: node for node in self.qmp.execute("query-named-block-nodes")}
        assert not {name for name in nodes if "backup" in name}
        assert self.qmp.execute("query-jobs") == []
        for name in self.NAMES:
            assert len(nodes[name]["dirty-bitmaps"]) == 1


def back_up(disks, guests):
    """While guests write; returns the name of the moment."""
    guests.let_write(30)
    agent = disks.agent()
    agent.read_until("moment")
    guests.let_write(30)
    agent.end()
    (last, ) = {disks.moments(name)[-1][3] for name in disks.NAMES}
    return last


def test_several_disks_have_one_moment(start_daemon, tmp_path):
    """What the second disk got after the first one had its turn is in the backup only with that; also in later points, and in those
    after a crash."""
    disks = Disks(start_daemon, tmp_path)
    disks.start()
    with OrderedGuests(disks.socket, disks.NAMES) as guests:
        names = [back_up(disks, guests) for _ in range(3)]
        contents = [disks.restore(name) for name in names]
        counts = [guests.assert_one_moment({name: holds(content[name]) for name in disks.NAMES}) for content in contents]
    assert counts[0] < counts[1] < counts[2]
    disks.assert_nothing_is_left()
    disks.daemon.expected_status = -signal.SIGKILL
    disks.daemon.process.kill()
    disks.daemon.process.wait()
    disks.start()
    disks.agent().end()
    for name in disks.NAMES:
        assert [kind for _, kind, *_ in disks.moments(name)] == ["full", "incremental", "incremental", "incremental"]
    last = disks.restore(disks.moments("a")[-1][3])
    for name in disks.NAMES:
        client = nbd_client.connect(disks.socket, name)
        assert nbd_client.read_all(client) == last[name]
        client.shutdown()
    disks.assert_nothing_is_left()


@pytest.mark.parametrize("step", ["moment", "a: stored", "a: point"])
def test_an_agent_of_several_disks_that_is_killed_loses_nothing(start_daemon, tmp_path, step):
    disks = Disks(start_daemon, tmp_path)
    disks.start()
    with OrderedGuests(disks.socket, disks.NAMES) as guests:
        back_up(disks, guests)
        guests.let_write(30)
        agent = disks.agent()
        agent.read_until(step)
        agent.kill()
        guests.let_write(30)
        last = back_up(disks, guests)
        content = disks.restore(last)
        guests.assert_one_moment({name: holds(content[name]) for name in disks.NAMES})
    disks.assert_nothing_is_left()


def test_disks_and_chains_belong_together(site):
    errors = site.agent("--disk", "other").end(status=1)
    assert "each disk takes a chain of its own: there are 2 of --disk, and 1 of --chain" in errors
    errors = site.agent("--disk", "other", "--chain", site.chain).end(status=1)
    assert "each disk takes a chain of its own" in errors
    errors = site.agent("--disk", "other", "--chain", site.directory / "chain-other").end(status=1)
    assert "there is no node 'other'" in errors
