"""transaction: several actions at one moment, all of them or none."""

import errno
import time

import pytest

import nbd_client
from images import MIB, check, content, create, run
from ordered import BLOCK, SIZE, OrderedGuests, dirty_blocks, holds
from qmp import QMPError

DISKS = ["a", "b", "c", "d", "e"]


def act(kind, **arguments):
    return {"type": kind, "data": {name.replace("_", "-"): value for name, value in arguments.items()}}


def transaction(qmp, *actions, **properties):
    arguments = {"actions": list(actions)}
    if properties:
        arguments["properties"] = {name.replace("_", "-"): value for name, value in properties.items()}
    return qmp.execute("transaction", arguments)


def refused(qmp, message, *actions, **properties):
    arguments = {"actions": list(actions)}
    if properties:
        arguments["properties"] = {name.replace("_", "-"): value for name, value in properties.items()}
    error = qmp.error("transaction", arguments)
    assert message in error.desc, error.desc
    return error


def backup(job, device, target, sync="full", **arguments):
    return act("blockdev-backup", job_id=job, device=device, target=target, sync=sync, auto_dismiss=False, **arguments)


def add_bitmap(node, name="new", **arguments):
    return act("block-dirty-bitmap-add", node=node, name=name, granularity=BLOCK, **arguments)


def bitmap(kind, node, name):
    return act(f"block-dirty-bitmap-{kind}", node=node, name=name)


ABORT = act("abort")


def add_image(qmp, path, name, **options):
    qmp.execute("blockdev-add", driver="qcow2", node_name=name, discard="unmap",
                file={"driver": "file", "filename": str(path)}, **options)


def add_disk(qmp, directory, name):
    create(directory / name, SIZE)
    add_image(qmp, directory / name, name)


@pytest.fixture
def disks(daemon, qmp, tmp_path):
    """Five disks that guests can write, the second with a bitmap of old; returns the socket."""
    socket = nbd_client.start_server(qmp, tmp_path)
    for disk in DISKS:
        add_disk(qmp, tmp_path, disk)
        nbd_client.export(qmp, disk, writable=True)
    for disk in ("a", "b"):
        add_disk(qmp, tmp_path, f"copy-{disk}")
    for disk in ("b", "e"):
        qmp.execute("block-dirty-bitmap-add", node=disk, name="old", granularity=BLOCK)
    return socket


def everything(directory):
    """A bit of everything, over all disks."""
    return [
        add_bitmap("a"),
        backup("job-a", "a", "copy-a", speed=1),
        bitmap("clear", "b", "old"),
        backup("job-b", "b", "copy-b", speed=1),
        act("blockdev-snapshot-sync", node_name="c", snapshot_file=str(directory / "c-overlay"),
            snapshot_node_name="c-overlay"),
        act("blockdev-snapshot-internal-sync", device="d", name="moment"),
        bitmap("disable", "e", "old"),
        add_bitmap("e"),
    ]


def nodes(qmp):
    return {node["node-name"] for node in qmp.execute("query-named-block-nodes")}


def bitmaps(qmp):
    found = {}
    for node in qmp.execute("query-named-block-nodes"):
        for info in node.get("dirty-bitmaps", []):
            found[node["node-name"], info["name"]] = (info["recording"], info["busy"])
    return found


def until(reached):
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


def let_jobs_finish(qmp, *jobs):
    for job in jobs:
        try:
            qmp.execute("block-job-set-speed", device=job, speed=0)
        except QMPError as error:  # a quick one
            assert "cannot accept command verb" in error.desc
    for job in jobs:
        assert qmp.wait_job(job) is None


# One moment -----------------------------------------------------------------------------------------------------

def test_all_disks_show_one_moment(daemon, qmp, tmp_path, disks):
    """Whatever keeps what was before, or tells what came after, draws the line between the same two writes."""
    with OrderedGuests(disks, DISKS) as guests:
        guests.let_write()
        transaction(qmp, *everything(tmp_path))
        guests.let_write()
        let_jobs_finish(qmp, "job-a", "job-b")
        guests.let_write(5)
    after = {"a": dirty_blocks(qmp, disks, "a", "new"), "b": dirty_blocks(qmp, disks, "b", "old"),
             "e": dirty_blocks(qmp, disks, "e", "new")}
    before_e = dirty_blocks(qmp, disks, "e", "old")
    daemon.stop()
    run("qemu-img", "convert", "-l", "snapshot.name=moment", "-O", "raw", tmp_path / "d", tmp_path / "d-moment")
    kept = {"a": holds(content(tmp_path / "copy-a")), "b": holds(content(tmp_path / "copy-b")),
            "c": holds(content(tmp_path / "c")), "d": holds((tmp_path / "d-moment").read_bytes()),
            "e": lambda block: block in before_e}
    moments = guests.assert_one_moment(kept)
    recorded = {disk: (lambda block, disk=disk: block not in after[disk]) if disk in after else kept[disk]
                for disk in DISKS}
    assert guests.assert_one_moment(recorded) == moments
    assert after["e"] & before_e == set()
    guests.assert_complete({disk: content(tmp_path / ("c-overlay" if disk == "c" else disk)) for disk in DISKS})
    for image in ("a", "b", "c", "c-overlay", "d", "e", "copy-a", "copy-b"):
        check(tmp_path / image)


def test_snapshots_of_all_disks(daemon, qmp, tmp_path, disks):
    for disk in DISKS:
        create(tmp_path / f"over-{disk}", SIZE, backing=tmp_path / disk)
        add_image(qmp, tmp_path / f"over-{disk}", f"over-{disk}", backing=None)
    with OrderedGuests(disks, DISKS, count=3) as guests:
        guests.let_write()
        transaction(qmp, *(act("blockdev-snapshot", node=disk, overlay=f"over-{disk}") for disk in DISKS))
        guests.let_write()
    daemon.stop()
    guests.assert_one_moment({disk: holds(content(tmp_path / disk)) for disk in DISKS})
    guests.assert_complete({disk: content(tmp_path / f"over-{disk}") for disk in DISKS})


def test_incremental_backups_of_several_disks(daemon, qmp, tmp_path, disks):
    """As docs/interop/bitmaps.rst of QEMU has it: anchored by a full backup, then what was written since."""
    pair = ["a", "b"]
    with OrderedGuests(disks, pair) as guests:
        guests.let_write()
        transaction(qmp, *(action for disk in pair for action in (
            add_bitmap(disk, "chain"), backup(f"full-{disk}", disk, f"copy-{disk}"))))
        guests.let_write()
        let_jobs_finish(qmp, "full-a", "full-b")
        for disk in pair:
            create(tmp_path / f"next-{disk}", SIZE, backing=tmp_path / f"copy-{disk}")
            qmp.execute("blockdev-del", node_name=f"copy-{disk}")
            add_image(qmp, tmp_path / f"next-{disk}", f"next-{disk}")
        transaction(qmp, *(backup(f"next-{disk}", disk, f"next-{disk}", sync="incremental", bitmap="chain")
                           for disk in pair), completion_mode="grouped")
        guests.let_write()
        let_jobs_finish(qmp, "next-a", "next-b")
    after = {disk: dirty_blocks(qmp, disks, disk, "chain") for disk in pair}
    daemon.stop()
    moment = guests.assert_one_moment({disk: holds(content(tmp_path / f"next-{disk}")) for disk in pair})
    assert moment == guests.assert_one_moment({disk: lambda block, disk=disk: block not in after[disk]
                                               for disk in pair})


def test_checkpoints_as_libvirt_makes_them(daemon, qmp, tmp_path, disks):
    """A bitmap for each checkpoint, of which the last one records; a backup merges those since its checkpoint into a
    bitmap of its own."""
    with OrderedGuests(disks, ["a", "b"]) as guests:
        transaction(qmp, add_bitmap("a", "first"), add_bitmap("b", "first"),
                    backup("full-a", "a", "copy-a"), backup("full-b", "b", "copy-b"))
        guests.let_write()
        let_jobs_finish(qmp, "full-a", "full-b")
        transaction(qmp, *(action for disk in ("a", "b") for action in (
            bitmap("disable", disk, "first"), add_bitmap(disk, "second"))))
        guests.let_write()
        for disk in ("a", "b"):
            create(tmp_path / f"next-{disk}", SIZE, backing=tmp_path / f"copy-{disk}")
            qmp.execute("blockdev-del", node_name=f"copy-{disk}")
            add_image(qmp, tmp_path / f"next-{disk}", f"next-{disk}")
        transaction(qmp, *(action for disk in ("a", "b") for action in (
            bitmap("disable", disk, "second"),
            add_bitmap(disk, "third"),
            add_bitmap(disk, "for-backup", disabled=True),
            act("block-dirty-bitmap-merge", node=disk, target="for-backup", bitmaps=["first", "second"]),
            backup(f"next-{disk}", disk, f"next-{disk}", sync="bitmap", bitmap="for-backup", bitmap_mode="never"))))
        guests.let_write()
        let_jobs_finish(qmp, "next-a", "next-b")
        transaction(qmp, bitmap("remove", "a", "for-backup"), bitmap("remove", "b", "for-backup"))
    third = {disk: dirty_blocks(qmp, disks, disk, "third") for disk in ("a", "b")}
    assert set(bitmaps(qmp)) == {("b", "old"), ("e", "old")} | {
        (disk, name) for disk in ("a", "b") for name in ("first", "second", "third")}
    daemon.stop()
    moment = guests.assert_one_moment({disk: holds(content(tmp_path / f"next-{disk}")) for disk in ("a", "b")})
    assert moment == guests.assert_one_moment({disk: lambda block, disk=disk: block not in third[disk]
                                               for disk in ("a", "b")})


# All or nothing -------------------------------------------------------------------------------------------------

def assert_untouched(daemon, qmp, tmp_path, disks, guests, before):
    """Bitmaps have each bit that they had, and those of what was written meanwhile."""
    assert nodes(qmp) == before["nodes"]
    assert bitmaps(qmp) == before["bitmaps"]
    assert qmp.execute("query-jobs") == []
    for disk in ("b", "e"):
        assert dirty_blocks(qmp, disks, disk, "old") == guests.all_blocks(disk)
    daemon.stop()
    guests.assert_complete({disk: content(tmp_path / disk) for disk in DISKS})
    assert "moment" not in run("qemu-img", "snapshot", "-l", tmp_path / "d").stdout
    for disk in DISKS:
        check(tmp_path / disk)


def test_an_abort_undoes_all_that_came_before(daemon, qmp, tmp_path, disks):
    before = {"nodes": nodes(qmp), "bitmaps": bitmaps(qmp)}
    actions = everything(tmp_path)
    with OrderedGuests(disks, DISKS) as guests:
        for position in range(len(actions) + 1):
            guests.let_write(10)
            error = refused(qmp, "Transaction aborted using Abort action",
                            *actions[:position], ABORT, *actions[position:])
            assert error.desc.endswith(f"(action {position + 1} of 9, 'abort')")
            assert (nodes(qmp), bitmaps(qmp)) == (before["nodes"], before["bitmaps"])
    assert_untouched(daemon, qmp, tmp_path, disks, guests, before)


def test_what_fails_at_the_moment_is_undone_before_anything_is_written(daemon, qmp, tmp_path, disks):
    """The second snapshot has the first one's name, which is not known before the moment."""
    before = {"nodes": nodes(qmp), "bitmaps": bitmaps(qmp)}
    with OrderedGuests(disks, DISKS) as guests:
        guests.let_write(20)
        for _ in range(5):
            refused(qmp, "already exists on device 'd' (action 9 of 10, 'blockdev-snapshot-internal-sync')",
                    *everything(tmp_path), act("blockdev-snapshot-internal-sync", device="d", name="moment"),
                    bitmap("clear", "b", "old"))
            guests.let_write(10)
    assert_untouched(daemon, qmp, tmp_path, disks, guests, before)


def test_a_conflict_in_the_graph_undoes_all(daemon, qmp, tmp_path, disks):
    """Who reads the copy does not let others write it."""
    before = {"nodes": nodes(qmp) | {"reader"}, "bitmaps": bitmaps(qmp)}
    qmp.execute("blockdev-add", driver="copy-before-write", node_name="reader", file="copy-b", target="copy-a")
    with OrderedGuests(disks, DISKS) as guests:
        guests.let_write(20)
        refused(qmp, "copy-a", *everything(tmp_path))
        guests.let_write(20)
    assert_untouched(daemon, qmp, tmp_path, disks, guests, before)


@pytest.mark.parametrize("action, message", [
    (backup("job", "nosuch", "copy-a"), "Cannot find device='nosuch' nor node-name='nosuch'"),
    (backup("job", "a", "nosuch"), "Cannot find device='nosuch' nor node-name='nosuch'"),
    (backup("job", "a", "a"), "Source and target cannot be the same"),
    (act("drive-backup", job_id="job", device="a", target="missing/copy", sync="full"), "No such file or directory"),
    (act("blockdev-snapshot", node="e", overlay="nosuch"), "Failed to find node with node-name='nosuch'"),
    (act("blockdev-snapshot", node="e", overlay="b"), "The overlay is already in use by export 'export-b'"),
    (act("blockdev-snapshot-sync", node_name="e", snapshot_file="missing/x", snapshot_node_name="x"),
     "No such file or directory"),
    (act("blockdev-snapshot-internal-sync", device="a", name=""), "Name is empty"),
    (add_bitmap("nosuch"), "Cannot find device='nosuch' nor node-name='nosuch'"),
    (add_bitmap("b", "old"), "Bitmap already exists: old"),
    (bitmap("clear", "a", "nosuch"), "Dirty bitmap 'nosuch' not found"),
    (bitmap("enable", "nosuch", "old"), "Node 'nosuch' not found"),
    (bitmap("disable", "a", "nosuch"), "Dirty bitmap 'nosuch' not found"),
    (bitmap("remove", "a", "nosuch"), "Dirty bitmap 'nosuch' not found"),
    (act("block-dirty-bitmap-merge", node="b", target="old", bitmaps=["nosuch"]), "Dirty bitmap 'nosuch' not found"),
    (act("block-dirty-bitmap-merge", node="b", target="old", bitmaps=[{"node": "small", "name": "bits"}]),
     "are of different sizes"),
])
def test_an_error_at_each_position(daemon, qmp, tmp_path, disks, action, message):
    create(tmp_path / "small", MIB)
    add_image(qmp, tmp_path / "small", "small")
    qmp.execute("block-dirty-bitmap-add", node="small", name="bits")
    before = nodes(qmp), bitmaps(qmp)
    for position in (0, 4, 8):
        actions = everything(tmp_path)
        actions.insert(position, action)
        error = refused(qmp, message, *actions)
        assert error.desc.endswith(f"(action {position + 1} of 9, '{action['type']}')"), error.desc
        assert (nodes(qmp), bitmaps(qmp)) == before
        assert qmp.execute("query-jobs") == []
    transaction(qmp, *everything(tmp_path))  # nothing is in the way of another try
    let_jobs_finish(qmp, "job-a", "job-b")


def test_texts_of_single_actions_stay(qmp):
    refused(qmp, "nosuch", act("blockdev-snapshot-internal-sync", device="nosuch", name="x"), ABORT)
    assert refused(qmp, "", ABORT).desc == "Transaction aborted using Abort action"
    assert transaction(qmp) == {}


def test_what_needs_a_machine_is_unknown(qmp):
    for command in ("snapshot-save", "snapshot-load", "snapshot-delete"):
        assert qmp.error(command, {"job-id": "job", "tag": "x", "devices": []}).error_class == "CommandNotFound"


# One after the other --------------------------------------------------------------------------------------------

def test_actions_find_what_those_before_have_made(daemon, qmp, tmp_path, disks):
    transaction(
        qmp,
        act("blockdev-snapshot-sync", node_name="a", snapshot_file=str(tmp_path / "o1"), snapshot_node_name="o1"),
        add_bitmap("o1"),
        act("blockdev-snapshot-sync", node_name="o1", snapshot_file=str(tmp_path / "o2"), snapshot_node_name="o2"),
        backup("top", "o2", "copy-a", sync="top", speed=1),
        backup("full", "o2", "copy-b", speed=1),
        act("drive-backup", job_id="deep", device="a", target=str(tmp_path / "deep"), sync="full", auto_dismiss=False))
    exported = {info["node-name"] for info in qmp.execute("query-block-exports")}
    assert "a" not in exported and "o2" not in exported  # the filter of a backup is there
    client = nbd_client.connect(disks, "a")
    client.pwrite(b"\x11" * MIB, 0)
    client.shutdown()
    let_jobs_finish(qmp, "top", "full", "deep")
    until(lambda: "o2" in {info["node-name"] for info in qmp.execute("query-block-exports")})
    daemon.stop()
    for copy in ("copy-a", "copy-b", "deep", "a", "o1"):
        assert content(tmp_path / copy) == bytes(SIZE)
    assert content(tmp_path / "o2") == b"\x11" * MIB + bytes(SIZE - MIB)
    info = run("qemu-img", "info", "--backing-chain", tmp_path / "o2").stdout
    assert info.index("o2") < info.index("o1") < info.index(f"image: {tmp_path / 'a'}")


def test_two_overlays_of_one_node_and_two_backups(daemon, qmp, tmp_path, disks):
    for name in ("o1", "o2"):
        create(tmp_path / name, SIZE, backing=tmp_path / "a")
        add_image(qmp, tmp_path / name, name, backing=None)
    transaction(qmp, act("blockdev-snapshot", node="a", overlay="o1"), act("blockdev-snapshot", node="a", overlay="o2"))
    below = {node["node-name"]: {child["child"]: child["node-name"] for child in node.get("children", [])}
             for node in qmp.execute("query-named-block-nodes")}
    assert below["o1"]["backing"] == "o2" and below["o2"]["backing"] == "a"
    transaction(qmp, backup("one", "b", "copy-a", speed=1), backup("two", "b", "copy-b", speed=1))
    client = nbd_client.connect(disks, "b")
    client.pwrite(b"\x22" * MIB, MIB)
    let_jobs_finish(qmp, "two", "one")
    client.pwrite(b"\x22" * MIB, 2 * MIB)
    client.shutdown()
    daemon.stop()
    assert content(tmp_path / "copy-a") == content(tmp_path / "copy-b") == bytes(SIZE)
    assert content(tmp_path / "b")[MIB:3 * MIB] == b"\x22" * (2 * MIB)


@pytest.mark.parametrize("actions, message", [
    ([backup("one", "b", "copy-a", bitmap="old", bitmap_mode="always"), bitmap("clear", "b", "old")],
     "Bitmap 'old' is currently in use by another operation and cannot be used"),
    ([bitmap("remove", "b", "old"), add_bitmap("b", "old")], "Bitmap already exists: old"),
    ([bitmap("remove", "b", "old"), bitmap("enable", "b", "old")], "currently in use"),
    ([backup("one", "b", "copy-a"), act("blockdev-snapshot-sync", node_name="b", snapshot_node_name="x")],
     "is in use by block job 'one'"),
    ([backup("one", "b", "copy-a"), backup("one", "b", "copy-b")], "Job ID 'one' already in use"),
])
def test_what_an_action_makes_impossible_for_those_after(qmp, tmp_path, disks, actions, message):
    for action in actions:
        if action["type"] == "blockdev-snapshot-sync":
            action["data"]["snapshot-file"] = str(tmp_path / "x")
    before = nodes(qmp), bitmaps(qmp)
    error = refused(qmp, message, *actions)
    assert "(action 2 of 2" in error.desc
    assert (nodes(qmp), bitmaps(qmp)) == before


def test_bits_go_from_action_to_action(qmp, disks):
    client = nbd_client.connect(disks, "b")
    client.pwrite(b"\x33" * BLOCK, 7 * BLOCK)
    transaction(qmp, add_bitmap("b", "x", disabled=True),
                act("block-dirty-bitmap-merge", node="b", target="x", bitmaps=["old"]),
                bitmap("clear", "b", "old"),
                add_bitmap("b", "y", disabled=True),
                act("block-dirty-bitmap-merge", node="b", target="y", bitmaps=["x", {"node": "e", "name": "old"}]),
                bitmap("clear", "b", "x"), bitmap("enable", "b", "x"),
                bitmap("remove", "e", "old"))
    client.pwrite(b"\x33" * BLOCK, 9 * BLOCK)
    client.shutdown()
    assert dirty_blocks(qmp, disks, "b", "old") == {9}
    assert dirty_blocks(qmp, disks, "b", "x") == {9}
    assert dirty_blocks(qmp, disks, "b", "y") == {7}
    assert bitmaps(qmp) == {("b", "old"): (True, False), ("b", "x"): (True, False), ("b", "y"): (False, False)}


def test_a_persistent_bitmap_that_is_to_go(start_daemon, tmp_path):
    create(tmp_path / "disk", SIZE)
    for undo in (True, False):
        daemon = start_daemon()
        with daemon.connect() as qmp:
            add_image(qmp, tmp_path / "disk", "disk")
            if undo:
                qmp.execute("block-dirty-bitmap-add", node="disk", name="bits", persistent=True)
                qmp.execute("blockdev-del", node_name="disk")
                add_image(qmp, tmp_path / "disk", "disk")
                refused(qmp, "aborted", bitmap("remove", "disk", "bits"), ABORT)
            else:
                assert bitmaps(qmp) == {("disk", "bits"): (True, False)}
                transaction(qmp, bitmap("remove", "disk", "bits"), add_bitmap("disk", "other", persistent=True))
        daemon.stop()
        check(tmp_path / "disk")
    assert '"name": "other"' in run("qemu-img", "info", "--output=json", tmp_path / "disk").stdout
    assert '"name": "bits"' not in run("qemu-img", "info", "--output=json", tmp_path / "disk").stdout


# Completion -----------------------------------------------------------------------------------------------------

def add_failing(qmp, tmp_path, name):
    """A target that cannot be written."""
    create(tmp_path / name, SIZE)
    qmp.execute("blockdev-add", driver="blkdebug", node_name=name,
                inject_error=[{"event": "none", "iotype": "write", "errno": errno.EIO}],
                image={"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / name)}})


def write(socket, disk, *blocks):
    client = nbd_client.connect(socket, disk)
    for block in blocks:
        client.pwrite(b"\x44" * BLOCK, block * BLOCK)
    client.shutdown()


@pytest.mark.parametrize("end", ["success", "failure", "cancel"])
@pytest.mark.parametrize("mode", ["individual", "grouped"])
def test_completion(qmp, tmp_path, disks, mode, end):
    """Two incremental backups, of which the second one ends as it does."""
    add_failing(qmp, tmp_path, "bad")
    blocks = {16 * number for number in range(40)}  # each in a cluster of its own
    later = {800, 801}
    for disk in ("b", "e"):
        write(disks, disk, *blocks)
    transaction(qmp,
                backup("one", "b", "copy-a", sync="incremental", bitmap="old"),
                backup("two", "e", "bad" if end == "failure" else "copy-b", sync="bitmap", bitmap="old",
                       bitmap_mode="on-success", speed=1 if end == "cancel" else 0),
                completion_mode=mode)
    for disk in ("b", "e"):
        write(disks, disk, *later)
    if end == "cancel":
        if mode == "grouped":
            qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data == {"id": "one", "status": "waiting"})
        qmp.execute("block-job-cancel", device="two")
    errors = {job: qmp.wait_job(job) for job in ("one", "two")}
    assert (errors["two"] is None) == (end == "success")
    together = mode == "grouped" and end != "success"
    assert (errors["one"] is None) == (not together)
    assert dirty_blocks(qmp, disks, "b", "old") == (later | blocks if together else later)
    assert dirty_blocks(qmp, disks, "e", "old") == (later if end == "success" else later | blocks)


def test_grouped_jobs_are_finalized_together(qmp, disks):
    transaction(qmp, backup("one", "a", "copy-a", auto_finalize=False), backup("two", "b", "copy-b"),
                completion_mode="grouped")
    for job in ("one", "two"):
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data, job=job: data == {"id": job, "status": "pending"})
    qmp.execute("job-finalize", id="one")
    assert qmp.wait_job("one") is None and qmp.wait_job("two") is None


@pytest.mark.parametrize("action", [bitmap("clear", "b", "old"), add_bitmap("a"), ABORT])
def test_only_jobs_can_be_grouped(qmp, disks, action):
    refused(qmp, f"Action '{action['type']}' does not support transaction property completion-mode = grouped",
            backup("one", "a", "copy-a"), action, completion_mode="grouped")
    assert qmp.execute("query-jobs") == []


def test_one_job_of_a_group_that_cannot_be_started(qmp, disks):
    before = nodes(qmp)
    refused(qmp, "Source and target cannot be the same", backup("one", "a", "copy-a"), backup("two", "b", "b"),
            completion_mode="grouped")
    assert nodes(qmp) == before
    assert qmp.execute("query-jobs") == []


# Bitmaps that survive a crash -----------------------------------------------------------------------------------

def test_bitmaps_that_are_right_at_every_moment(start_daemon, tmp_path):
    """With write-ahead-bitmaps, a daemon that is killed behind a transaction leaves no bit out."""
    from test_write_ahead import Disk
    from test_write_ahead import stored as stored_bitmaps

    disk = Disk(start_daemon, tmp_path)
    qmp = disk.open()
    create(tmp_path / "other", disk_size := 32 * MIB)
    add_image(qmp, tmp_path / "other", "other")
    nbd_client.export(qmp, "other", writable=True)
    transaction(qmp, add_bitmap("disk", "a", persistent=True), add_bitmap("disk", "b", persistent=True),
                add_bitmap("disk", "gone", persistent=True), add_bitmap("other", "bits"))
    client = nbd_client.connect(disk.socket, "other")
    client.pwrite(b"\x01" * BLOCK, disk_size // 2)
    client.shutdown()
    client = disk.connect()
    client.pwrite(b"\x01" * BLOCK, MIB)
    refused(qmp, "aborted", add_bitmap("disk", "undone", persistent=True), bitmap("remove", "disk", "b"), ABORT)
    transaction(qmp, act("block-dirty-bitmap-merge", node="disk", target="b",
                         bitmaps=[{"node": "other", "name": "bits"}]),
                bitmap("clear", "disk", "a"), bitmap("remove", "disk", "gone"), add_bitmap("disk", "c", persistent=True))
    client.pwrite(b"\x01" * BLOCK, 3 * MIB)
    disk.kill()
    assert stored_bitmaps(disk.path) == {"a": ["auto"], "b": ["auto"], "c": ["auto"]}
    qmp = disk.open()
    assert {name: found for (_, name), found in bitmaps(qmp).items()} == {
        "a": (True, False), "b": (True, False), "c": (True, False)}

    def says(name, offset):
        return any(begin <= offset < end for begin, end in disk.dirty(name))

    assert says("a", 3 * MIB)
    assert says("b", MIB) and says("b", 3 * MIB) and says("b", disk_size // 2)
