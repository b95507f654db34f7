"""The NBD server, as clients see it that were not written here: libnbd, nbdinfo, nbdcopy, qemu-img."""

import json
import os
import socket as sockets
import struct

import nbd
import pytest

import nbd_client
from images import KIB, MIB, compare, content, create, qemu_io, run
from process import BUILD

SIZE = 16 * MIB


@pytest.fixture
def disk(qmp, tmp_path):
    """A qcow2 image with some content, exported writable; path and socket."""
    path = create(tmp_path / "disk.qcow2", SIZE)
    qemu_io(path, "write -P 1 0 1m", "write -P 2 5m 300k", "write -z 6m 64k")
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
                file={"driver": "file", "filename": str(path)})
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    return path, socket


def test_nbdinfo_sees_the_export(qmp, disk, tmp_path):
    path, socket = disk
    qmp.execute("blockdev-add", driver="null-co", node_name="other", size=1 * MIB)
    qmp.execute("block-export-add", type="nbd", id="e1", node_name="other", name="named", description="for people")

    listed = {export["export-name"]: export for export in
              json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={socket}").stdout)["exports"]}
    assert set(listed) == {"disk", "named"}
    assert listed["named"]["description"] == "for people" and listed["named"]["is_read_only"]
    info = listed["disk"]
    assert info["export-size"] == SIZE and not info["is_read_only"]
    for ability in ("can_cache", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"):
        assert info[ability], ability
    assert "base:allocation" in info["contexts"]


def test_nbdcopy_and_qemu_img_read_the_content(disk, tmp_path):
    path, socket = disk
    raw = tmp_path / "copy.raw"
    run("nbdcopy", nbd_client.uri(socket, "disk"), raw)
    assert raw.read_bytes() == content(path)
    raw.unlink()
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", nbd_client.uri(socket, "disk"), raw)
    assert raw.read_bytes() == content(path)


def test_nbdcopy_writes_the_content(daemon, disk, tmp_path):
    path, socket = disk
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(3 * MIB) + bytes(SIZE - 4 * MIB) + os.urandom(1 * MIB))
    run("nbdcopy", "--flush", "--connections=4", source, nbd_client.uri(socket, "disk"))
    daemon.stop()
    compare(path, source)


def test_sparse_copies_stay_sparse(disk, tmp_path):
    """What is a hole is told, so that a copy has it too."""
    _, socket = disk
    copy = tmp_path / "copy.raw"
    run("nbdcopy", nbd_client.uri(socket, "disk"), copy)
    assert os.stat(copy).st_blocks * 512 < 3 * MIB


def test_what_one_connection_writes_another_reads(disk):
    _, socket = disk
    clients = [nbd_client.connect(socket, "disk") for _ in range(8)]
    assert all(client.can_multi_conn() for client in clients)
    for number, writer in enumerate(clients):
        data = bytes([number + 1]) * 5000
        writer.pwrite(data, number * 100_003)
        assert all(client.pread(5000, number * 100_003) == data for client in clients)
    for client in clients:
        client.shutdown()


def test_many_requests_in_flight(disk):
    """More than a connection may have at once; replies come in any order, each with its own data."""
    _, socket = disk
    client = nbd_client.connect(socket, "disk")
    for index in range(512):
        client.pwrite(struct.pack(">Q", index) * 512, index * 4096)
    buffers = [nbd.Buffer(4096) for _ in range(512)]
    pending = {client.aio_pread(buffer, index * 4096) for index, buffer in enumerate(buffers)}
    while pending:
        client.poll(-1)
        pending -= {cookie for cookie in pending if client.aio_command_completed(cookie)}
    for index, buffer in enumerate(buffers):
        assert bytes(buffer.to_bytearray()) == struct.pack(">Q", index) * 512
    client.shutdown()


def test_a_read_only_export_cannot_be_written(qmp, disk):
    qmp.execute("block-export-add", type="nbd", id="ro", node_name="disk", name="ro")
    client = nbd_client.connect(disk[1], "ro")
    client.set_strict_mode(0)
    assert client.is_read_only()
    for write in (lambda: client.pwrite(b"x" * 512, 0), lambda: client.zero(512, 0), lambda: client.trim(512, 0)):
        with pytest.raises(nbd.Error) as failure:
            write()
        assert failure.value.errno in ("EPERM", "EINVAL")  # the second from libnbd, if trim was not even offered
    assert client.pread(512, 0) == b"\x01" * 512
    client.shutdown()


def test_requests_outside_of_the_export_fail_alone(disk):
    client = nbd_client.connect(disk[1], "disk")
    client.set_strict_mode(0)
    for request, expected in ((lambda: client.pread(512, SIZE), "EINVAL"), (lambda: client.pread(1024, SIZE - 512), "EINVAL"),
                              (lambda: client.pwrite(bytes(1024), SIZE - 512), "ENOSPC"),
                              (lambda: client.zero(1024, SIZE - 512), "ENOSPC"),
                              (lambda: client.trim(1024, SIZE - 512), "EINVAL"),
                              (lambda: client.pread(512, 2 ** 63 - 512), "EINVAL")):
        with pytest.raises(nbd.Error) as failure:
            request()
        assert failure.value.errno in (expected, "EINVAL")
        assert client.pread(512, 0) == b"\x01" * 512
    client.shutdown()


def test_an_io_error_is_one_requests_error(qmp, tmp_path):
    """One bad sector is not the end of the connection."""
    path = tmp_path / "disk.raw"
    path.write_bytes(b"d" * MIB)
    qmp.execute("blockdev-add", driver="blkdebug", node_name="bad", image={"driver": "file", "filename": str(path)},
                inject_error=[{"event": "none", "iotype": "read", "errno": 5, "sector": 64}])
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "bad")
    client = nbd_client.connect(socket, "bad")
    for _ in range(3):
        with pytest.raises(nbd.Error) as failure:
            client.pread(4096, 64 * 512)
        assert failure.value.errno == "EIO"
        assert client.pread(4096, 0) == b"d" * 4096
    client.shutdown()


def test_tcp(qmp, tmp_path):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=1 * MIB, read_zeroes=True)
    qmp.execute("nbd-server-start", {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}})
    port = qmp.execute("query-nbd-servers")[0]["addresses"][0]["port"]
    nbd_client.export(qmp, "disk")
    client = nbd.NBD()
    client.connect_uri(f"nbd://127.0.0.1:{port}/disk")
    assert client.pread(4096, 0) == bytes(4096)
    client.shutdown()


def test_the_socket_is_private_and_goes_away(qmp, tmp_path):
    socket = nbd_client.start_server(qmp, tmp_path)
    assert os.stat(socket).st_mode & 0o777 == 0o600
    assert "already running" in qmp.error("nbd-server-start",
                                          {"addr": {"type": "unix", "data": {"path": str(socket)}}}).desc
    qmp.execute("nbd-server-stop")
    assert not socket.exists()
    assert "not running" in qmp.error("nbd-server-stop").desc


def test_an_unknown_export_is_refused_and_the_client_may_go_on(disk):
    client = nbd.NBD()
    client.set_opt_mode(True)
    client.set_export_name("nobody")
    client.connect_uri(f"nbd+unix:///nobody?socket={disk[1]}")
    with pytest.raises(nbd.Error):
        client.opt_go()
    client.set_export_name("disk")
    client.opt_go()
    assert client.pread(512, 0) == b"\x01" * 512
    client.shutdown()


# Life of an export -------------------------------------------------------------------------------------------------


def test_an_export_in_use_is_only_removed_by_force(qmp, disk):
    client = nbd_client.connect(disk[1], "disk")
    assert "in use" in qmp.error("block-export-del", id="export-disk").desc
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "export-disk")
    with pytest.raises(nbd.Error):
        client.pread(512, 0)
    assert qmp.execute("query-block-exports") == []
    qmp.execute("blockdev-del", node_name="disk")


def test_an_export_without_clients_is_removed_gently(qmp, disk):
    client = nbd_client.connect(disk[1], "disk")
    client.shutdown()
    while True:  # the server sees a client's leaving a moment after the client
        if not qmp.execute("query-block-exports"):
            break
        try:
            qmp.execute("block-export-del", id="export-disk")
        except Exception as error:
            assert "in use" in error.desc
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "export-disk")


def test_stopping_the_server_cuts_everybody_off(qmp, disk):
    clients = [nbd_client.connect(disk[1], "disk") for _ in range(3)]
    qmp.execute("nbd-server-stop")
    for client in clients:
        with pytest.raises(nbd.Error):
            client.pread(512, 0)
    assert qmp.execute("query-block-exports") == []


def test_quitting_waits_for_no_client(daemon, qmp, disk):
    """Neither for one that is idle, nor for one in the middle of the handshake, nor for one that does not read."""
    idle = nbd_client.connect(disk[1], "disk")
    silent = sockets.socket(sockets.AF_UNIX)
    silent.connect(str(disk[1]))
    deaf = nbd_client.connect(disk[1], "disk")
    for index in range(64):
        deaf.aio_pread(nbd.Buffer(1 * MIB), 0)
    qmp.execute("quit")
    assert daemon.wait(10) == 0
    silent.close()
    del idle, deaf


def test_the_end_of_the_daemon_keeps_what_was_written(daemon, disk):
    path, socket = disk
    client = nbd_client.connect(socket, "disk")
    client.pwrite(b"last words" * 100, 9 * MIB)
    daemon.stop()
    assert content(path)[9 * MIB:9 * MIB + 1000] == b"last words" * 100


def test_the_number_of_clients_is_bounded(qmp, tmp_path):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=1 * MIB)
    socket = nbd_client.start_server(qmp, tmp_path, max_connections=2)
    nbd_client.export(qmp, "disk")
    first, second = nbd_client.connect(socket, "disk"), nbd_client.connect(socket, "disk")
    third = sockets.socket(sockets.AF_UNIX)
    third.settimeout(0.3)
    third.connect(str(socket))
    with pytest.raises((TimeoutError, ConnectionResetError)):  # no greeting while two are in
        if third.recv(8) == b"":
            raise ConnectionResetError
    third.close()
    first.pread(512, 0)
    second.shutdown()
    first.shutdown()


def test_nobody_is_harmed_by_a_client_that_breaks_off(daemon, qmp, disk):
    """At any byte of the handshake and of a request; other clients and the daemon's memory do not notice."""
    watcher = nbd_client.connect(disk[1], "disk")
    hello = struct.pack(">I", 3)
    go = struct.pack(">QII", 0x49484156454F5054, 7, 4 + 4 + 2) + struct.pack(">I", 4) + b"disk" + struct.pack(">H", 0)
    write = struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 12 * MIB, 64 * KIB) + bytes(64 * KIB)
    script = hello + go + write
    cuts = list(range(0, len(hello + go) + 40)) + [len(script) - 1, len(script)]
    for cut in cuts:
        client = sockets.socket(sockets.AF_UNIX)
        client.connect(str(disk[1]))
        client.sendall(script[:cut])
        client.close()
        assert watcher.pread(512, 0) == b"\x01" * 512
    watcher.shutdown()
    assert daemon.process.poll() is None


@pytest.mark.parametrize("length", [2 ** 32 - 1, 256 * MIB])
def test_a_length_that_no_request_may_have(daemon, disk, length):
    """Costs no memory, and nobody else anything."""
    watcher = nbd_client.connect(disk[1], "disk")
    before = daemon.rss_bytes()
    for command in (0, 1):
        client = nbd_client.connect(disk[1], "disk")
        raw = sockets.socket(fileno=os.dup(client.aio_get_fd()))
        raw.setblocking(True)
        raw.sendall(struct.pack(">IHHQQI", 0x25609513, 0, command, 77, 0, length))
        assert watcher.pread(512, 0) == b"\x01" * 512
        raw.close()
    assert daemon.rss_bytes() - before < (512 if BUILD.name == "asan" else 64) * MIB
    watcher.shutdown()
