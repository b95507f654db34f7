"""transaction, when storage does not answer: who has nothing to do with it goes on."""

import nbd
import pytest

import nbd_client
from ordered import BLOCK, OrderedGuests, dirty_blocks
from qmp import QMPError
from test_hung import assert_others_are_quick, hung_fs  # noqa: F401 (a fixture)
from test_transaction import DISKS, act, add_bitmap, add_disk, bitmap, bitmaps, disks, everything  # noqa: F401


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
