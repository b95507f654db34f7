"""drive-backup: a backup whose target is only a path."""

import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, check, compare, create, run
from test_mirror import SIZE, make_source


def drive_backup(qmp, path, **arguments):
    qmp.execute("drive-backup", {"job-id": "b0", "device": "top", "target": str(path), "sync": "full",
                                 "auto-dismiss": False}
                | {name.replace("_", "-"): value for name, value in arguments.items()})


def names(qmp):
    return {node["node-name"] for node in qmp.execute("query-named-block-nodes")}


def same(path, fmt, model, directory):
    (directory / "model").write_bytes(model)
    compare(path, directory / "model", fmt=fmt)
    if fmt == "qcow2":
        check(path)


@pytest.mark.parametrize("fmt", [None, "raw", "qcow2"])
@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_it_makes_its_target(daemon, qmp, tmp_path, sync, fmt):
    _, model = make_source(qmp, tmp_path, "qcow2")
    before = names(qmp)
    path = tmp_path / "copy"
    arguments = {"sync": sync} | ({"format": fmt} if fmt else {})
    if fmt == "raw" and sync != "full":
        refused = qmp.error("drive-backup", {"job-id": "b0", "device": "top", "target": str(path)} | arguments)
        assert "'raw' does not support backing" in str(refused)
        return
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "top", writable=True)
    with Guests(socket, "top", model) as guests:
        guests.let_work()
        with guests.held():
            moment = bytes(model)
            drive_backup(qmp, path, speed=1, **arguments)
        guests.let_work()
        if sync == "none":
            qmp.execute("block-job-cancel", device="b0")
        else:
            qmp.execute("block-job-set-speed", device="b0", speed=0)
            assert qmp.wait_job("b0") is None
    if sync == "none":
        qmp.wait_job("b0")
    assert names(qmp) == before
    daemon.stop()
    if sync == "none":  # it has what was overwritten, and names the disk for the rest
        check(path)
        assert str(tmp_path / "top.qcow2") in run("qemu-img", "info", path).stdout
    else:
        same(path, fmt or "qcow2", moment, tmp_path)


@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_to_a_file_that_exists(daemon, qmp, tmp_path, sync):
    _, model = make_source(qmp, tmp_path, "qcow2")
    below = {"full": None, "top": tmp_path / "base.img", "none": tmp_path / "top.qcow2"}[sync]
    path = create(tmp_path / "copy.qcow2", SIZE)
    if below:
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", below, "-F", "raw" if sync == "top" else "qcow2", path)
    drive_backup(qmp, path, sync=sync, mode="existing")
    if sync == "none":
        qmp.execute("block-job-cancel", device="b0")
        qmp.wait_job("b0")
    else:
        assert qmp.wait_job("b0") is None
    daemon.stop()
    same(path, "qcow2", model, tmp_path)


def test_full_and_then_incremental_as_old_clients_do_it(daemon, qmp, tmp_path):
    _, model = make_source(qmp, tmp_path, "qcow2")
    qmp.execute("block-dirty-bitmap-add", node="top", name="bits")
    drive_backup(qmp, tmp_path / "full", bitmap="bits", bitmap_mode="on-success")
    assert qmp.wait_job("b0") is None
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "top", writable=True)
    client = nbd_client.connect(socket, "top")
    client.pwrite(b"\x2a" * 4096, 2 * MIB)
    model[2 * MIB:2 * MIB + 4096] = b"\x2a" * 4096
    client.shutdown()
    create(tmp_path / "next", SIZE, backing=tmp_path / "full")
    drive_backup(qmp, tmp_path / "next", sync="incremental", bitmap="bits", mode="existing", format="qcow2")
    assert qmp.wait_job("b0") is None
    daemon.stop()
    same(tmp_path / "next", "qcow2", model, tmp_path)
    assert (tmp_path / "next").stat().st_blocks * 512 < 600 * KIB


@pytest.mark.parametrize("arguments, message", [
    ({"device": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"format": "nosuch"}, "Unknown driver 'nosuch'"),
    ({"format": "quorum"}, "images of format 'quorum' cannot be made here"),
    ({"bitmap": "nosuch", "sync": "incremental"}, "Bitmap 'nosuch' could not be found"),
    ({"sync": "incremental"}, "must provide a valid bitmap name for 'incremental' sync mode"),
    ({"target": "missing/copy"}, "No such file or directory"),
    ({"mode": "existing"}, "No such file or directory"),
    ({"filter-node-name": "top"}, "top"),
    ({"compress": True, "format": "raw"}, "Compression is not supported for this drive"),
])
def test_one_that_is_refused_leaves_no_nodes(daemon, qmp, tmp_path, arguments, message):
    make_source(qmp, tmp_path, "qcow2")
    before = names(qmp)
    given = {"job-id": "b0", "device": "top", "target": str(tmp_path / "copy"), "sync": "full"} | arguments
    assert message in str(qmp.error("drive-backup", given))
    assert names(qmp) == before
    assert qmp.execute("query-jobs") == []
