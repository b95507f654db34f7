"""transaction, when storage does not answer: who has nothing to do with it goes on."""

import nbd
import pytest

import nbd_client
from images import check, create
from jobs import wait_held
from ordered import BLOCK, SIZE, OrderedGuests, dirty_blocks
from qmp import QMPError
from test_hung import assert_others_are_quick, hung_fs  # noqa: F401 (a fixture)
from test_transaction import DISKS, act, add_bitmap, add_disk, bitmap, bitmaps, disks, everything, transaction  # noqa: F401


def test_a_disk_that_never_answers(daemon, qmp, tmp_path, hung_fs):  # noqa: F811
    """The transaction waits, and then gives up; the monitor goes on all the time, guests of other disks after that."""
    socket = nbd_client.start_server(qmp, tmp_path)
    add_disk(qmp, tmp_path, "good")
    qmp.execute("blockdev-add", driver="file", node_name="hung", read_only=True, filename=hung_fs / "hang-read")
    nbd_client.export(qmp, "good", writable=True)
    nbd_client.export(qmp, "hung")
    qmp.execute("block-dirty-bitmap-add", node="good", name="bits", granularity=BLOCK)
    stuck = nbd_client.connect(socket, "hung")
    stuck.aio_pread(nbd.Buffer(512), 0)
    client = nbd_client.connect(socket, "good")
    client.pwrite(b"\x55" * BLOCK, 0)
    other = daemon.connect()
    waiting = other.start("transaction", {"actions": [bitmap("clear", "good", "bits"), add_bitmap("hung", "bits"),
                                                      add_bitmap("good", "more")]})
    assert_others_are_quick(daemon, tmp_path)
    client.pwrite(b"\x55" * BLOCK, BLOCK)  # at the latest when it has given up
    with pytest.raises(QMPError, match="requests of export 'export-hung' to node 'hung' have not ended in time"):
        other.finish(waiting, "transaction", deadline=60)
    assert bitmaps(qmp) == {("good", "bits"): (True, False)}
    assert dirty_blocks(qmp, socket, "good", "bits") == {0, 1}
    client.shutdown()
    hung_fs.release()


def test_a_file_that_cannot_be_opened_holds_nobody_up(daemon, qmp, tmp_path, disks, hung_fs):  # noqa: F811
    """What takes long comes before the disks are held: their guests go on while the command hangs."""
    other = daemon.connect()
    with OrderedGuests(disks, DISKS) as guests:
        guests.let_write(10)
        waiting = other.start("transaction", {"actions": everything(tmp_path) + [
            act("drive-backup", job_id="job", device="a", target=hung_fs / "hang-open", sync="full", mode="existing")]})
        guests.let_write(100)
        assert "in use by another operation" in str(qmp.error("block-dirty-bitmap-clear", node="b", name="old"))
        hung_fs.release()
        with pytest.raises(QMPError, match="hang-open"):
            other.finish(waiting, "transaction")
        guests.let_write(10)
    assert dirty_blocks(qmp, disks, "b", "old") == guests.all_blocks("b")
    assert qmp.execute("query-jobs") == []


def test_an_internal_snapshot_that_hangs(daemon, qmp, tmp_path):
    """Guests of other disks wait for ten seconds, those of this disk until its storage answers; then nothing is left of it."""
    socket = nbd_client.start_server(qmp, tmp_path)
    add_disk(qmp, tmp_path, "good")
    create(tmp_path / "bad", SIZE)
    qmp.execute("blockdev-add", driver="gate", node_name="gate",
                file={"driver": "file", "filename": str(tmp_path / "bad")})
    qmp.execute("blockdev-add", driver="qcow2", node_name="bad", file="gate")
    for disk in ("good", "bad"):
        nbd_client.export(qmp, disk, writable=True)
    qmp.execute("block-dirty-bitmap-add", node="good", name="bits", granularity=BLOCK)
    clients = {disk: nbd_client.connect(socket, disk) for disk in ("good", "bad")}
    for client in clients.values():
        client.pwrite(b"\x55" * BLOCK, 0)
    qmp.execute("x-gate-hold", node_name="gate", operation="any")
    other = daemon.connect()
    waiting = other.start("transaction", {"actions": [
        act("blockdev-snapshot-internal-sync", device="good", name="first"), bitmap("clear", "good", "bits"),
        act("blockdev-snapshot-internal-sync", device="bad", name="second")]})
    wait_held(qmp, "gate")
    late = clients["bad"].aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"\x66" * BLOCK)), 0)
    clients["good"].pwrite(b"\x66" * BLOCK, BLOCK)  # when it has given up
    with pytest.raises(QMPError, match="the storage of node 'bad' has not answered for 10 seconds"):
        other.finish(waiting, "transaction", deadline=60)
    assert dirty_blocks(qmp, socket, "good", "bits") == {0, 1}
    assert not clients["bad"].aio_command_completed(late)
    qmp.execute("x-gate-release", node_name="gate", operation="any")
    while not clients["bad"].aio_command_completed(late):
        clients["bad"].poll(1000)
    assert clients["bad"].pread(BLOCK, 0) == b"\x66" * BLOCK
    for disk in ("good", "bad"):
        info = next(node for node in qmp.execute("query-named-block-nodes") if node["node-name"] == disk)["image"]
        assert not info.get("snapshots")
    transaction(qmp, act("blockdev-snapshot-internal-sync", device="bad", name="second"), add_bitmap("good", "more"))
    for client in clients.values():
        client.shutdown()
    daemon.stop()
    check(tmp_path / "bad")
    check(tmp_path / "good")
