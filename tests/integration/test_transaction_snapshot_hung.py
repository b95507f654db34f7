"""transaction, when the storage of an internal snapshot does not answer."""

import nbd
import pytest

import nbd_client
from images import check, create
from jobs import wait_held
from ordered import BLOCK, SIZE, dirty_blocks
from qmp import QMPError
from test_transaction import act, add_bitmap, add_disk, bitmap, transaction


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
