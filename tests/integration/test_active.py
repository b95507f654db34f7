"""blockdev-set-active: an image goes from one daemon to another and back, as when a virtual machine migrates."""

import pytest
from images import MIB, check, content, create
from nbd_client import connect, export, start_server
from qmp import QMPError


def add(qmp, path, **options):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "disk", **options, "file": {
        "driver": "file", "node-name": "disk-file", "filename": str(path)}})


def is_active(qmp):
    return {info["node-name"]: info["active"] for info in qmp.execute("query-named-block-nodes", {"flat": True})}


def write(qmp, socket, fill):
    export(qmp, "disk", writable=True)
    handle = connect(socket, "disk")
    handle.pwrite(fill * 65536, 0)
    handle.pwrite(fill * 65536, ord(fill) * 65536)  # the file grows, on this side only
    handle.flush()
    handle.shutdown()
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")


def test_an_image_wanders(start_daemon, tmp_path):
    path = create(tmp_path / "image", 16 * MIB)
    source, target = start_daemon(), start_daemon()
    one, two = source.connect(), target.connect()
    sockets = [start_server(one, source.directory), start_server(two, target.directory)]
    add(one, path)
    write(one, sockets[0], b"a")
    with pytest.raises(QMPError, match="is in use"):
        add(two, path)
    add(two, path, active=False)
    assert is_active(two) == {"disk": False, "disk-file": False}
    with pytest.raises(QMPError, match="is in use"):
        two.execute("blockdev-set-active", node_name="disk", active=True)
    assert is_active(two) == {"disk": False, "disk-file": False}

    for i in range(3):
        here, there, socket = (one, two, sockets[1]) if i % 2 == 0 else (two, one, sockets[0])
        here.execute("blockdev-set-active", active=False)
        there.execute("blockdev-set-active", node_name="disk", active=True)
        assert not any(is_active(here).values()) and all(is_active(there).values())
        write(there, socket, bytes([ord("b") + i]))
    source.stop()
    target.stop()
    check(path)
    whole = content(path)
    assert whole[:65536] == b"d" * 65536
    for fill in b"abcd":
        assert whole[fill * 65536:fill * 65536 + 65536] == bytes([fill]) * 65536


def test_who_needs_it_is_named(qmp, tmp_path):
    add(qmp, create(tmp_path / "image", MIB))
    with pytest.raises(QMPError, match="Node 'disk-file' has active parent node 'disk'"):
        qmp.execute("blockdev-set-active", node_name="disk-file", active=False)
    start_server(qmp, tmp_path)
    export(qmp, "disk")
    with pytest.raises(QMPError, match="export 'export-disk' needs it"):
        qmp.execute("blockdev-set-active", active=False)
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    export(qmp, "disk", **{"allow-inactive": True})
    qmp.execute("blockdev-set-active", active=False)
    with pytest.raises(QMPError, match="node 'disk' is inactive"):
        qmp.execute("block_resize", node_name="disk", size=2 * MIB)
    with pytest.raises(QMPError, match="Inactive 'disk' can't be a file child of active 'top'"):
        qmp.execute("blockdev-add", {"driver": "raw", "node-name": "top", "file": "disk"})
    with pytest.raises(QMPError, match="Failed to find node"):
        qmp.execute("blockdev-set-active", node_name="nobody", active=False)
    qmp.execute("blockdev-set-active", active=False)
    qmp.execute("blockdev-set-active", active=True)
    assert all(is_active(qmp).values())


def test_an_export_takes_an_inactive_node_back(qmp, tmp_path):
    add(qmp, create(tmp_path / "image", MIB), active=False)
    socket = start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    assert all(is_active(qmp).values())
    connect(socket, "disk").pwrite(b"x" * 512, 0)
