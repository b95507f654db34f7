"""blockdev-reopen: other options, children and backing files for nodes in use, all of them or none, under I/O."""

import os
import random
import threading

import pytest
from graphs import add_image, children, node
from images import MIB, check, compare, content, create, qemu_io
from nbd_client import connect, export, start_server
from qmp import QMPError


def reopen(qmp, *options):
    qmp.execute("blockdev-reopen", {"options": list(options)})


def refused(qmp, message, *options):
    with pytest.raises(QMPError, match=message):
        reopen(qmp, *options)


def open_flags(daemon, path):
    """Access modes of the daemon's descriptors of a file."""
    found = []
    for fd in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            if os.readlink(f"/proc/{daemon.pid}/fd/{fd}") == str(path):
                info = open(f"/proc/{daemon.pid}/fdinfo/{fd}", encoding="ascii").read()
                found.append(int(info.split("flags:")[1].split()[0], 8))
        except FileNotFoundError:
            pass
    return found


def test_what_is_left_out_gets_its_default(qmp, tmp_path):
    add_image(qmp, create(tmp_path / "a", MIB), **{"discard": "unmap", "detect-zeroes": "unmap"})
    assert node(qmp, "disk")["detect_zeroes"] == "unmap"
    reopen(qmp, {"driver": "qcow2", "node-name": "disk", "file": "disk-file"})
    assert node(qmp, "disk")["detect_zeroes"] == "off"
    reopen(qmp, {"driver": "qcow2", "node-name": "disk", "file": "disk-file", "detect-zeroes": "on"})
    assert node(qmp, "disk")["detect_zeroes"] == "on"


def test_what_cannot_change_is_named(qmp, tmp_path):
    path = create(tmp_path / "a", MIB)
    add_image(qmp, path)
    disk = {"driver": "qcow2", "node-name": "disk", "file": "disk-file"}
    refused(qmp, "node-name not specified", {"driver": "qcow2", "file": "disk-file"})
    refused(qmp, "Failed to find node with node-name='nobody'", {**disk, "node-name": "nobody"})
    refused(qmp, "Cannot change the option 'driver'", {**disk, "driver": "raw"})
    refused(qmp, "given twice", disk, disk)
    refused(qmp, "file: Cannot change the option 'filename'",
            {**disk, "file": {"driver": "file", "filename": str(tmp_path / "b")}})
    refused(qmp, "file: Cannot change the option 'node-name'",
            {**disk, "file": {"driver": "file", "filename": str(path), "node-name": "other"}})
    refused(qmp, "Cannot change the option 'locking'",
            {"driver": "file", "node-name": "disk-file", "filename": str(path), "locking": "off"})
    refused(qmp, "Failed to find node with node-name='nobody'", {**disk, "file": "nobody"})
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "other", "filename": str(create(tmp_path / "b", MIB))})
    refused(qmp, "'file' cannot become node 'other'", {**disk, "file": "other"})
    refused(qmp, "a loop", {**disk, "file": "disk"})
    reopen(qmp, {**disk, "l2-cache-size": 131072, "discard-no-unref": True})
    reopen(qmp, {**disk, "lazy-refcounts": True, "l2-cache-entry-size": 4096, "overlap-check": "all"})
    reopen(qmp, disk)


def test_read_only_and_back_with_the_file_below(daemon, qmp, tmp_path):
    path = create(tmp_path / "a", MIB)
    add_image(qmp, path)
    socket = start_server(qmp, tmp_path)
    disk = {"driver": "qcow2", "node-name": "disk", "file": "disk-file"}

    reopen(qmp, {**disk, "read-only": True})
    assert node(qmp, "disk")["ro"] and node(qmp, "disk-file")["ro"]
    assert [flags & os.O_ACCMODE for flags in open_flags(daemon, path)] == [os.O_RDONLY]
    with pytest.raises(QMPError, match="read-only"):
        export(qmp, "disk", writable=True)

    reopen(qmp, disk)
    assert not node(qmp, "disk")["ro"]
    assert [flags & os.O_ACCMODE for flags in open_flags(daemon, path)] == [os.O_RDWR]
    export(qmp, "disk", writable=True)
    handle = connect(socket, "disk")
    handle.pwrite(b"x" * 4096, 4096)
    handle.flush()
    refused(qmp, "node 'disk' cannot become read-only: export 'export-disk' holds permission 'write'",
            {**disk, "read-only": True})
    assert not node(qmp, "disk-file")["ro"]
    handle.pwrite(b"y" * 4096, 8192)
    handle.shutdown()
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    reopen(qmp, {**disk, "read-only": True})
    daemon.stop()
    check(path)
    assert content(path)[4096:12288] == b"x" * 4096 + b"y" * 4096


def test_several_nodes_all_or_none(qmp, tmp_path):
    for name in ("a", "b"):
        add_image(qmp, create(tmp_path / name, MIB), name)
    both = [{"driver": "qcow2", "node-name": name, "file": f"{name}-file", "detect-zeroes": "on"} for name in "ab"]
    refused(qmp, "Cannot change the option 'driver'", both[0], {**both[1], "driver": "raw"})
    assert node(qmp, "a")["detect_zeroes"] == "off"
    reopen(qmp, *both)
    assert node(qmp, "a")["detect_zeroes"] == node(qmp, "b")["detect_zeroes"] == "on"


def test_cache_direct(daemon, qmp, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(os.urandom(MIB))
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "disk", "filename": str(path)})
    socket = start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    handle = connect(socket, "disk")
    disk = {"driver": "file", "node-name": "disk", "filename": str(path)}
    try:
        reopen(qmp, {**disk, "cache": {"direct": True}})
    except QMPError as error:
        pytest.skip(str(error))
    assert node(qmp, "disk")["cache"]["direct"]
    assert all(flags & os.O_DIRECT for flags in open_flags(daemon, path))
    handle.pwrite(b"x" * 100, 1000)
    handle.flush()
    assert handle.pread(100, 1000) == b"x" * 100
    reopen(qmp, disk)
    assert not any(flags & os.O_DIRECT for flags in open_flags(daemon, path))
    assert handle.pread(100, 1000) == b"x" * 100


def test_auto_read_only_follows_the_writers_after_a_reopen(daemon, qmp, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(65536))
    disk = {"driver": "file", "node-name": "disk", "filename": str(path)}
    qmp.execute("blockdev-add", disk)
    assert [flags & os.O_ACCMODE for flags in open_flags(daemon, path)] == [os.O_RDWR]
    reopen(qmp, {**disk, "auto-read-only": True})
    start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    assert [flags & os.O_ACCMODE for flags in open_flags(daemon, path)] == [os.O_RDWR]
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    assert [flags & os.O_ACCMODE for flags in open_flags(daemon, path)] == [os.O_RDONLY]


def test_another_window(qmp, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a" * 65536 + b"b" * 65536)
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "disk", "offset": 0, "size": 65536,
                                 "file": {"driver": "file", "node-name": "file", "filename": str(path)}})
    disk = {"driver": "raw", "node-name": "disk", "file": "file"}
    socket = start_server(qmp, tmp_path)
    reopen(qmp, {**disk, "offset": 65536})
    export(qmp, "disk")
    assert connect(socket, "disk").pread(65536, 0) == b"b" * 65536
    refused(qmp, "size: 65537 bytes from offset 65536 on are not inside", {**disk, "offset": 65536, "size": 65537})
    reopen(qmp, disk)
    assert node(qmp, "disk")["image"]["virtual-size"] == 131072


def test_backing_comes_changes_and_goes(daemon, qmp, tmp_path):
    for name, fill in (("base1", 1), ("base2", 2)):
        qemu_io(create(tmp_path / name, MIB), f"write -P {fill} 0 1M")
        add_image(qmp, tmp_path / name, name, **{"read-only": True})
    create(tmp_path / "top", MIB, backing=tmp_path / "base1")
    qemu_io(tmp_path / "top", "write -P 9 64k 64k")
    add_image(qmp, tmp_path / "top", "top", backing=None)
    socket = start_server(qmp, tmp_path)
    export(qmp, "top")
    handle = connect(socket, "top")
    top = {"driver": "qcow2", "node-name": "top", "file": "top-file"}

    assert handle.pread(1, 0) == b"\0"
    reopen(qmp, {**top, "backing": "base1"})
    assert handle.pread(1, 0) == b"\1" and handle.pread(1, 65536) == b"\x09"
    refused(qmp, "backing is missing for 'top'", top)
    reopen(qmp, {**top, "backing": "base2"})
    assert handle.pread(1, 0) == b"\2"
    assert children(qmp, "top") == {"file": "top-file", "backing": "base2"}
    qmp.execute("blockdev-del", node_name="base1")
    with pytest.raises(QMPError, match="in use by node 'top'"):
        qmp.execute("blockdev-del", node_name="base2")
    reopen(qmp, {**top, "backing": None})
    assert handle.pread(1, 0) == b"\0" and children(qmp, "top") == {"file": "top-file"}
    qmp.execute("blockdev-del", node_name="base2")


def test_a_filter_goes_in_and_out_between_overlay_and_file(qmp, tmp_path):
    path = create(tmp_path / "a", MIB)
    add_image(qmp, path)
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "filter", "file": "disk-file"})
    disk = {"driver": "qcow2", "node-name": "disk"}
    reopen(qmp, {**disk, "file": "filter"})
    assert children(qmp, "disk") == {"file": "filter"} and children(qmp, "filter") == {"file": "disk-file"}
    reopen(qmp, {**disk, "file": "disk-file"})
    assert children(qmp, "disk") == {"file": "disk-file"}
    qmp.execute("blockdev-del", node_name="filter")


def test_under_random_writes(daemon, qmp, tmp_path):
    """Options and filters change while two clients write and check; in the end every byte is there."""
    size = 8 * MIB
    path = create(tmp_path / "a", size)
    add_image(qmp, path)
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "filter", "file": "disk-file"})
    socket = start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    stop = threading.Event()
    model = bytearray(size)
    failures = []

    def guest(half):
        rng = random.Random(half)
        handle = connect(socket, "disk")
        while not stop.is_set():
            length = rng.randrange(1, 70000)
            offset = half * size // 2 + rng.randrange(size // 2 - length)
            data = bytes([rng.randrange(256)]) * length
            try:
                if rng.random() < 0.5:
                    handle.pwrite(data, offset)
                    model[offset:offset + length] = data
                elif handle.pread(length, offset) != model[offset:offset + length]:
                    failures.append(f"wrong bytes at {offset}")
            except Exception as error:  # pylint: disable=broad-except
                failures.append(repr(error))
                return

    guests = [threading.Thread(target=guest, args=(half,)) for half in range(2)]
    for thread in guests:
        thread.start()
    rng = random.Random(7)
    file = {"driver": "file", "node-name": "disk-file", "filename": str(path)}
    for _ in range(150):
        disk = {"driver": "qcow2", "node-name": "disk", "file": rng.choice(["filter", "disk-file"]),
                "detect-zeroes": rng.choice(["on", "off"]), "discard": rng.choice(["unmap", "ignore"]),
                "l2-cache-size": rng.choice([65536, 262144]), "cache-clean-interval": rng.choice([0, 1, 600])}
        file = {**file, "cache": {"no-flush": rng.random() < 0.5}, "auto-read-only": rng.random() < 0.5}
        reopen(qmp, *rng.choice([[disk], [file], [disk, file], [file, disk]]))
    stop.set()
    for thread in guests:
        thread.join()
    assert not failures
    daemon.stop()
    check(path)
    (tmp_path / "model").write_bytes(model)
    compare(path, tmp_path / "model")
