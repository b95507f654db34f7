"""Dirty bitmaps of layers that jobs write: what changed is noted, what only moved is not, and all of it survives the job, the
reopening of its layers and a restart."""

import pytest

import chains
import nbd_client
from guests import Guests
from images import KIB, MIB, check
from jobs import wait_status

CLUSTER = 64 * KIB


def bitmap_of(qmp, node, name="bits"):
    nodes = {info["node-name"]: info for info in qmp.execute("query-named-block-nodes")}
    return {info["name"]: info for info in nodes[node].get("dirty-bitmaps", [])}.get(name)


def dirty(qmp, directory, node, name="bits"):
    """The clusters that are dirty, as a client of an export sees them."""
    qmp.execute("block-dirty-bitmap-add", node=node, name="copy", granularity=CLUSTER, disabled=True)
    qmp.execute("block-dirty-bitmap-merge", node=node, target="copy", bitmaps=[name])
    qmp.execute("block-export-add", type="nbd", id="look", node_name=node, name="look", bitmaps=["copy"])
    context = "qemu:dirty-bitmap:copy"
    client = nbd_client.connect(directory, "look", contexts=[context])
    found = []
    client.block_status(chains.SIZE, 0, lambda metacontext, offset, extents, error: found.extend(extents))
    client.shutdown()
    qmp.execute("block-export-del", id="look", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "look")
    qmp.execute("block-dirty-bitmap-remove", node=node, name="copy")
    clusters, at = set(), 0
    for length, flags in zip(found[::2], found[1::2]):
        if flags & 1:
            clusters |= set(range(at // CLUSTER, -(-(at + length) // CLUSTER)))
        at += length
    return clusters


def differences(one, two):
    """The clusters in which two contents differ; the shorter one reads as zero behind its end."""
    one, two = bytes(one).ljust(chains.SIZE, b"\0"), bytes(two).ljust(chains.SIZE, b"\0")
    return {at // CLUSTER for at in range(0, chains.SIZE, CLUSTER) if one[at:at + CLUSTER] != two[at:at + CLUSTER]}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("top", ["l2", "l3"])
def test_a_persistent_bitmap_of_the_base_notes_a_commit(start_daemon, tmp_path, top, read_only):
    daemon = start_daemon()
    qmp = daemon.connect()
    paths = chains.make(tmp_path, "plain")
    before = chains.model_of(paths[:1])
    model = chains.model_of(paths)
    after = chains.model_of(paths[:3])
    chains.add(qmp, paths[:1], read_only_below=False)
    qmp.execute("block-dirty-bitmap-add", node="l0", name="bits", granularity=CLUSTER, persistent=True)
    qmp.execute("blockdev-del", node_name="l0")  # stored
    chains.add(qmp, paths, read_only_below=read_only)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    with Guests(socket, "l3", model) as guests:
        guests.let_work(5)
        qmp.execute("block-commit", job_id="c", device="l3", top_node=top, auto_dismiss=False)
        if top == "l3":
            qmp.wait_event("BLOCK_JOB_READY")
            qmp.execute("block-job-complete", device="c")
        assert qmp.wait_job("c") is None
        guests.let_work(5)
    assert bitmap_of(qmp, "l0")["recording"]
    qmp.close()
    daemon.stop()
    check(paths[0][0])
    daemon = start_daemon()
    qmp = daemon.connect()
    chains.add(qmp, paths[:1], read_only_below=False)
    socket = nbd_client.start_server(qmp, tmp_path / "daemon1")
    changed = differences(before, model if top == "l3" else after)
    assert changed <= dirty(qmp, socket, "l0")
    assert not bitmap_of(qmp, "l0").get("inconsistent")


def test_a_stream_changes_nothing_that_a_bitmap_would_note(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths)
    qmp.execute("block-dirty-bitmap-add", node="l3", name="bits", granularity=CLUSTER, persistent=True)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    client = nbd_client.connect(socket, "l3")
    qmp.execute("block-stream", job_id="s", device="l3", auto_dismiss=False, auto_finalize=False)
    client.pwrite(b"\x11" * CLUSTER, 2 * MIB)
    wait_status(qmp, "s", "pending")
    qmp.execute("job-finalize", id="s")
    assert qmp.wait_job("s") is None
    assert dirty(qmp, socket, "l3") == {2 * MIB // CLUSTER}
    client.shutdown()
    daemon.stop()
    check(paths[3][0])


@pytest.mark.parametrize("switch", ["snapshot", "mirror", "commit"])
def test_a_bitmap_of_a_node_that_its_users_leave_is_stored_with_it(start_daemon, tmp_path, switch):
    """It stays with its node, and says what was written there."""
    daemon = start_daemon()
    qmp = daemon.connect()
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths)
    qmp.execute("block-dirty-bitmap-add", node="l3", name="bits", granularity=CLUSTER, persistent=True)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    client = nbd_client.connect(socket, "l3")
    client.pwrite(b"\x11" * CLUSTER, 2 * MIB)
    if switch == "snapshot":
        chains.create(tmp_path / "new", chains.SIZE)
        qmp.execute("blockdev-add", driver="qcow2", node_name="new", backing=None,
                    file={"driver": "file", "filename": str(tmp_path / "new")})
        qmp.execute("blockdev-snapshot", node="l3", overlay="new")
    elif switch == "mirror":
        chains.create(tmp_path / "new", chains.SIZE)
        qmp.execute("blockdev-add", driver="qcow2", node_name="new",
                    file={"driver": "file", "filename": str(tmp_path / "new")})
        qmp.execute("blockdev-mirror", job_id="j", device="l3", target="new", sync="full", auto_dismiss=False)
    else:
        qmp.execute("block-commit", job_id="j", device="l3", auto_dismiss=False)
    if switch != "snapshot":
        qmp.wait_event("BLOCK_JOB_READY")
        qmp.execute("block-job-complete", device="j")
        assert qmp.wait_job("j") is None
    client.pwrite(b"\x12" * CLUSTER, 4 * MIB)
    assert dirty(qmp, socket, "l3") == {2 * MIB // CLUSTER}
    client.shutdown()
    qmp.close()
    daemon.stop()
    daemon = start_daemon()
    qmp = daemon.connect()
    chains.add(qmp, paths)
    socket = nbd_client.start_server(qmp, tmp_path / "daemon1")
    assert dirty(qmp, socket, "l3") == {2 * MIB // CLUSTER}
