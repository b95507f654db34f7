"""The driver nbd: nodes whose bytes a server has. Servers are qemu-nbd, nbdkit, a second daemon, the daemon itself, and
some that do not answer."""

import os
import shutil
import signal
import socket as sockets
import subprocess
import threading
import time

import nbd
import pytest

import nbd_client
from images import KIB, MIB, create, qemu_io, rng_of, run
from qmp import DEADLINE

SIZE = 4 * MIB


def qemu_nbd(serve, tmp_path, image, *options, fmt="raw"):
    return serve("qemu-nbd", "-k", tmp_path / "server.sock", "-t", "-e", "8", "-f", fmt, "-x", "disk", "--discard=unmap",
                 *options, image)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "server.raw"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        file.seek(1 * MIB)
        file.write(b"\x11" * (512 * KIB))
    return path


def unix(path):
    return {"type": "unix", "path": str(path)}


def add_client(qmp, server, **options):
    qmp.execute("blockdev-add", {"driver": "nbd", "node-name": "remote", "server": server, "export": "disk",
                                 "discard": "unmap", **options})


def export_client(qmp, daemon):
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "remote", writable=True)
    return socket


@pytest.fixture(params=["qemu-nbd", "nbdkit", "cairnd"])
def server(request, serve, tmp_path, image, start_daemon):
    """Any server of the export "disk" on server.sock, which serves server.raw."""
    path = tmp_path / "server.sock"
    if request.param == "qemu-nbd":
        qemu_nbd(serve, tmp_path, image)
    elif request.param == "nbdkit":
        if not shutil.which("nbdkit"):
            pytest.skip("there is no nbdkit")
        serve("nbdkit", "-f", "-U", path, "file", image)
    else:
        other = tmp_path / "other"
        other.mkdir()
        daemon = start_daemon("--blockdev", f"driver=file,node-name=disk,filename={image},discard=unmap",
                              "--nbd-server", f"addr.type=unix,addr.path={path}",
                              "--export", "type=nbd,id=disk,node-name=disk,name=disk,writable=on")
        assert daemon.process.poll() is None
    return path


@pytest.fixture
def second(start_daemon, tmp_path):
    """The daemon with the client; in a directory of its own."""
    return start_daemon()


def write_at_random(disk, model, seed, count=150):
    rng = rng_of(seed)
    for _ in range(count):
        length = rng.choice([512, 4 * KIB, 100 * KIB])
        offset = rng.randrange(0, SIZE - length, 512)
        kind = rng.randrange(3)
        if kind == 0:
            disk.zero(length, offset)
            model[offset:offset + length] = bytes(length)
        else:
            data = rng.randbytes(length)
            disk.pwrite(data, offset)
            model[offset:offset + length] = data


def test_what_is_written_is_with_the_server(server, second, image):
    qmp = second.connect()
    model = bytearray(image.read_bytes())
    add_client(qmp, unix(server))
    socket = export_client(qmp, second)
    disk = nbd_client.connect(socket, "remote")
    assert nbd_client.read_all(disk) == model
    write_at_random(disk, model, 1)
    assert nbd_client.read_all(disk) == model
    disk.flush()
    assert image.read_bytes() == model
    disk.pwrite(b"f" * 4096, 0, nbd.CMD_FLAG_FUA)
    disk.trim(64 * KIB, 64 * KIB)
    assert disk.pread(4096, 0) == b"f" * 4096


def test_many_requests_at_once(server, second, image):
    qmp = second.connect()
    add_client(qmp, unix(server))
    socket = export_client(qmp, second)
    data = image.read_bytes()
    outcomes = []

    def read(seed):
        rng = rng_of(seed)
        disk = nbd_client.connect(socket, "remote")
        requests = []
        for _ in range(64):
            offset = rng.randrange(0, SIZE - 64 * KIB, 512)
            buffer = nbd.Buffer(64 * KIB)
            requests.append((disk.aio_pread(buffer, offset), offset, buffer))
        for cookie, offset, buffer in requests:
            while not disk.aio_command_completed(cookie):
                disk.poll(-1)
            outcomes.append(buffer.to_bytearray() == data[offset:offset + 64 * KIB])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * (4 * 64)


def test_status_is_that_of_the_server(server, second):
    qmp = second.connect()
    add_client(qmp, unix(server))
    socket = export_client(qmp, second)
    expected = nbd_client.base_allocation(server, "disk")
    assert nbd_client.base_allocation(socket, "remote") == expected
    assert (0, 1 * MIB, True, True) in expected
    extent = qmp.execute("query-block-status", node_name="remote")["extents"][1]
    assert extent["file"] == "remote" and extent["file-offset"] == extent["offset"] and extent["data"]


def test_an_image_on_it_is_sound(serve, tmp_path, qmp, daemon):
    image = create(tmp_path / "server.raw", SIZE)
    qemu_io(image, "write -P 17 0 1m")
    qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(tmp_path / "server.sock"))
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", file="remote")
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "top", writable=True)
    disk = nbd_client.connect(socket, "top")
    assert disk.pread(1 * MIB, 0) == b"\x11" * MIB
    disk.pwrite(b"\x12" * 100 * KIB, 512)
    disk.flush()
    assert disk.pread(100 * KIB, 512) == b"\x12" * 100 * KIB


def test_an_image_may_name_a_server_if_the_policy_allows_it(serve, tmp_path, image, start_daemon):
    qemu_nbd(serve, tmp_path, image)
    top = tmp_path / "top.qcow2"
    name = f"nbd+unix:///disk?socket={tmp_path}/server.sock"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", name, "-F", "raw", top)
    daemon = start_daemon("--image-policy", "schemes.0=nbd+unix")
    qmp = daemon.connect()
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", file={"driver": "file", "filename": str(top)})
    assert name in [node["file"] for node in qmp.execute("query-named-block-nodes", flat=True)]
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "top", writable=True)
    disk = nbd_client.connect(socket, "top")
    disk.pwrite(b"t" * 4096, 0)
    assert nbd_client.read_all(disk) == b"t" * 4096 + image.read_bytes()[4096:]
    assert image.read_bytes()[:4096] == bytes(4096)


def test_a_size_that_is_no_multiple_of_anything(serve, tmp_path, qmp, daemon):
    image = tmp_path / "server.raw"
    image.write_bytes(b"x" * 100001)
    if not shutil.which("nbdkit"):
        pytest.skip("there is no nbdkit")
    serve("nbdkit", "-f", "-U", tmp_path / "server.sock", "file", image)
    add_client(qmp, unix(tmp_path / "server.sock"))
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    assert disk.get_size() == 100001
    assert disk.pread(100001, 0) == b"x" * 100001
    disk.pwrite(b"y", 100000)
    assert disk.pread(2, 99999) == b"xy"


def test_read_only_servers(serve, tmp_path, image, qmp):
    qemu_nbd(serve, tmp_path, image, "-r")
    server = unix(tmp_path / "server.sock")
    error = qmp.error("blockdev-add", {"driver": "nbd", "node-name": "remote", "server": server, "export": "disk"})
    assert "the server exports it read-only" in error.desc
    add_client(qmp, server, **{"auto-read-only": True})
    nodes = qmp.execute("query-named-block-nodes", flat=True)
    assert nodes[0]["ro"] and nodes[0]["file"] == f"nbd+unix:///disk?socket={tmp_path}/server.sock"
    qmp.execute("blockdev-del", node_name="remote")
    add_client(qmp, server, **{"read-only": True})


def test_what_cannot_be_opened(serve, tmp_path, image, qmp):
    server = unix(tmp_path / "server.sock")
    add = {"driver": "nbd", "node-name": "remote", "server": server, "export": "disk"}
    assert "cannot connect to 'unix:" in qmp.error("blockdev-add", add).desc
    qemu_nbd(serve, tmp_path, image)
    assert "cannot connect to 'unix:" in qmp.error("blockdev-add", {**add, "export": "other"}).desc
    assert "tls-creds: No TLS credentials with id 'tls0'" in qmp.error("blockdev-add", {**add, "tls-creds": "tls0"}).desc
    assert "does not know 'qemu:dirty-bitmap:b'" in qmp.error(
        "blockdev-add", {**add, "x-dirty-bitmap": "qemu:dirty-bitmap:b"}).desc
    assert "cannot connect to '127.0.0.1:1': connect: Connection refused" in qmp.error(
        "blockdev-add", {**add, "server": {"type": "inet", "host": "127.0.0.1", "port": "1"}}).desc
    assert "server.mptcp" in qmp.error("blockdev-add", {
        **add, "server": {"type": "inet", "host": "127.0.0.1", "port": "1", "mptcp": True}}).desc
    assert "cannot look up" in qmp.error(
        "blockdev-add", {**add, "server": {"type": "inet", "host": "no.such.host.invalid", "port": "1"}}).desc
    qmp.execute("blockdev-add", add)


def test_another_context(serve, tmp_path, qmp, daemon):
    image = create(tmp_path / "server.qcow2", SIZE)
    run("qemu-img", "bitmap", "--add", "-g", "64k", image, "b")
    qemu_io(image, "write -P 1 1m 128k")
    qemu_nbd(serve, tmp_path, image, "-B", "b", "-r", fmt="qcow2")
    add_client(qmp, unix(tmp_path / "server.sock"), **{"read-only": True, "x-dirty-bitmap": "qemu:dirty-bitmap:b"})
    extents = qmp.execute("query-block-status", node_name="remote")["extents"]
    assert [(extent["offset"], extent["length"], extent["data"], extent["zero"]) for extent in extents] == [
        (0, 1 * MIB, True, False), (1 * MIB, 128 * KIB, False, False), (1152 * KIB, SIZE - 1152 * KIB, True, False)]


def test_a_host_by_its_name(tmp_path, image, qmp, daemon, own_name):
    if not shutil.which("nbdkit"):
        pytest.skip("there is no nbdkit")
    listener = sockets.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    process = subprocess.Popen(["nbdkit", "-f", "-p", str(port), "-i", "127.0.0.1", "file", str(image)],
                               stdin=subprocess.DEVNULL)
    try:
        add_client(qmp, {"type": "inet", "host": own_name, "port": str(port), "keep-alive": True},
                   **{"open-timeout": 10})
        disk = nbd_client.connect(export_client(qmp, daemon), "remote")
        assert nbd_client.read_all(disk) == image.read_bytes()
    finally:
        process.kill()
        process.wait()


def test_reopening_makes_it_read_only_and_back(serve, tmp_path, image, qmp):
    qemu_nbd(serve, tmp_path, image)
    options = {"driver": "nbd", "node-name": "remote", "server": unix(tmp_path / "server.sock"), "export": "disk",
               "discard": "unmap"}
    add_client(qmp, options["server"])
    for read_only in (True, False):
        qmp.execute("blockdev-reopen", options=[{**options, "read-only": read_only}])
        assert qmp.execute("query-named-block-nodes", flat=True)[0]["ro"] is read_only
    assert "Cannot change the option 'reconnect-delay'" in qmp.error(
        "blockdev-reopen", options=[{**options, "reconnect-delay": 5}]).desc


# When the server goes away ---------------------------------------------------------------------------------------


def test_requests_wait_for_the_server_to_come_back(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": 60})
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    disk.pwrite(b"a" * 512, 0)
    server.kill()
    buffer = nbd.Buffer.from_bytearray(bytearray(b"b" * 4096))
    cookie = disk.aio_pwrite(buffer, 4096)
    disk.poll(100)
    assert not disk.aio_command_completed(cookie)
    server.start()
    while not disk.aio_command_completed(cookie):
        disk.poll(-1)
    assert disk.pread(4096, 4096) == b"b" * 4096
    disk.flush()
    with open(image, "rb") as file:
        assert file.read(512) == b"a" * 512


def test_a_request_in_flight_is_sent_again(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": 60})
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    server.signal(signal.SIGSTOP)
    buffer = nbd.Buffer(512 * KIB)
    cookie = disk.aio_pread(buffer, 1 * MIB)
    disk.poll(100)
    assert not disk.aio_command_completed(cookie)
    server.kill()
    server.start()
    while not disk.aio_command_completed(cookie):
        disk.poll(-1)
    assert buffer.to_bytearray() == b"\x11" * 512 * KIB


def test_a_server_that_dies_again_and_again_loses_nothing(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": 60})
    socket = export_client(qmp, daemon)
    regions = 4
    models = [bytearray(image.read_bytes()[i * SIZE // regions:(i + 1) * SIZE // regions]) for i in range(regions)]
    counts = [0] * regions
    stop = threading.Event()
    outcomes = []

    def work(number):
        disk = nbd_client.connect(socket, "remote")
        rng = rng_of(number)
        begin = number * SIZE // regions
        while not stop.is_set():
            length = rng.choice([512, 4 * KIB, 64 * KIB])
            offset = rng.randrange(0, len(models[number]) - length, 512)
            data = rng.randbytes(length)
            disk.pwrite(data, begin + offset)
            models[number][offset:offset + length] = data
            counts[number] += 1
        outcomes.append(disk.pread(len(models[number]), begin) == models[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(regions)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        enough = [count + 20 for count in counts]
        while any(count < wanted for count, wanted in zip(counts, enough)):
            assert all(thread.is_alive() for thread in threads)
            time.sleep(0.001)
        server.kill()
        server.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * regions


@pytest.mark.parametrize("delay", [0, 1])
def test_requests_fail_when_the_delay_is_over(serve, tmp_path, image, qmp, daemon, delay):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": delay})
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    server.kill()
    for _ in range(2):
        with pytest.raises(nbd.Error) as error:
            disk.pread(512, 0)
        assert error.value.errno == "EIO"
    daemon.wait_for_log("node 'remote': lost the connection to 'unix:")
    server.start()
    end = time.monotonic() + DEADLINE
    while "there is a connection again to" not in daemon.log:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert disk.pread(512, 1 * MIB) == b"\x11" * 512


def test_a_server_that_changed_is_not_taken_back(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path))
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    server.kill()
    os.truncate(image, 1 * MIB)
    server.start()
    end = time.monotonic() + DEADLINE
    while "the export has 1048576 bytes now, not 4194304" not in daemon.log:
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(nbd.Error):
        disk.pread(512, 0)


def test_opening_waits_for_a_server_to_come(serve, tmp_path, image, qmp, daemon):
    command = qmp.start("blockdev-add", {"driver": "nbd", "node-name": "remote", "export": "disk", "open-timeout": 60,
                                         "server": unix(tmp_path / "server.sock")})
    assert daemon.connect().execute("query-named-block-nodes") == []
    qemu_nbd(serve, tmp_path, image)
    qmp.finish(command)


def test_opening_ends_with_its_timeout(tmp_path, qmp):
    begin = time.monotonic()
    error = qmp.error("blockdev-add", {"driver": "nbd", "node-name": "remote", "export": "disk", "open-timeout": 1,
                                       "server": unix(tmp_path / "server.sock")})
    assert "cannot connect to" in error.desc
    assert 0.9 < time.monotonic() - begin < 10


# When it hangs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mute(tmp_path):
    """A server that takes connections and says nothing."""
    listener = sockets.socket(sockets.AF_UNIX)
    listener.bind(str(tmp_path / "mute.sock"))
    listener.listen(16)
    yield tmp_path / "mute.sock"
    listener.close()


def test_a_mute_server_stalls_its_own_command_only(qmp, daemon, mute, image):
    qmp.start("blockdev-add", {"driver": "nbd", "node-name": "remote", "server": unix(mute)})
    other = daemon.connect()
    other.execute("blockdev-add", driver="file", node_name="disk", filename=str(image))
    begin = time.monotonic()
    other.execute("quit")
    assert daemon.wait() == 0
    assert time.monotonic() - begin < 5


def test_a_mute_server_is_given_up(qmp, mute):
    begin = time.monotonic()
    error = qmp.error("blockdev-add", {"driver": "nbd", "node-name": "remote", "server": unix(mute),
                                       "open-timeout": 1})
    assert "does not answer" in error.desc
    assert time.monotonic() - begin < 10


def test_a_node_is_closed_at_once_while_its_server_hangs(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path))
    server.signal(signal.SIGSTOP)
    begin = time.monotonic()
    qmp.execute("blockdev-del", node_name="remote")
    assert time.monotonic() - begin < 5
    server.signal(signal.SIGCONT)


def test_a_server_that_hangs_stalls_its_own_node_only(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path))
    qmp.execute("blockdev-add", driver="null-co", node_name="other", size=SIZE)
    socket = export_client(qmp, daemon)
    nbd_client.export(qmp, "other")
    server.signal(signal.SIGSTOP)
    stalled = nbd_client.connect(socket, "remote")
    buffers = [nbd.Buffer(4096) for _ in range(8)]
    cookies = [stalled.aio_pread(buffer, 0) for buffer in buffers]
    others = [nbd_client.connect(socket, "other") for _ in range(4)]
    for disk in others:
        assert disk.pread(4096, 0) == bytes(4096)
    qmp.execute("query-named-block-nodes", flat=True)
    server.signal(signal.SIGCONT)
    for cookie in cookies:
        while not stalled.aio_command_completed(cookie):
            stalled.poll(-1)


# When nobody wants it any more --------------------------------------------------------------------------------------


def stall(server, how):
    if how == "gone":
        server.kill()
    else:
        server.signal(signal.SIGSTOP)


def start_read(disk, offset=0):
    cookie = disk.aio_pread(nbd.Buffer(4096), offset)
    disk.poll(100)
    assert not disk.aio_command_completed(cookie)
    return cookie


@pytest.mark.parametrize("how", ["gone", "hangs"])
def test_requests_of_an_export_end_with_it(serve, tmp_path, image, qmp, daemon, how):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": 3600})
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    stall(server, how)
    start_read(disk)
    begin = time.monotonic()
    qmp.execute("block-export-del", id="export-remote", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("blockdev-del", node_name="remote")
    assert time.monotonic() - begin < 15
    if how == "hangs":
        daemon.wait_for_log("gave up requests that nobody waits for")


@pytest.mark.parametrize("how", ["gone", "hangs"])
def test_requests_of_others_go_on_waiting(serve, tmp_path, image, qmp, daemon, how):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": 3600})
    socket = export_client(qmp, daemon)
    qmp.execute("block-export-add", type="nbd", id="other", node_name="remote", name="other")
    disk, other = nbd_client.connect(socket, "remote"), nbd_client.connect(socket, "other")
    stall(server, how)
    start_read(disk)
    cookie = start_read(other, 1 * MIB)
    qmp.execute("block-export-del", id="export-remote", mode="hard")
    if how == "gone":
        qmp.wait_event("BLOCK_EXPORT_DELETED")
        server.start()
    else:
        server.signal(signal.SIGCONT)
    while not other.aio_command_completed(cookie):
        other.poll(-1)
    assert other.pread(4096, 1 * MIB) == b"\x11" * 4096


@pytest.mark.parametrize("how", ["gone", "hangs"])
@pytest.mark.parametrize("top", [False, True])
def test_closing_does_not_wait_for_what_cannot_be_flushed(serve, tmp_path, qmp, daemon, how, top):
    image = create(tmp_path / "server.raw", SIZE)
    os.truncate(image, SIZE)
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path), **{"reconnect-delay": 3600})
    nodes = ["remote"]
    if top:
        qmp.execute("blockdev-add", driver="qcow2", node_name="top", file="remote")
        nodes.insert(0, "top")
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, nodes[0], writable=True)
    nbd_client.connect(socket, nodes[0]).pwrite(b"w" * 4096, 64 * KIB)
    stall(server, how)
    qmp.execute("block-export-del", id=f"export-{nodes[0]}", mode="hard")
    begin = time.monotonic()
    for node in nodes:
        qmp.execute("blockdev-del", node_name=node)
    assert time.monotonic() - begin < 20
    daemon.wait_for_log("node 'remote': the last flush failed, data that was written may be lost")
    daemon.expected_status = 1


def test_the_end_does_not_wait_for_a_server_that_hangs(serve, tmp_path, image, qmp, daemon):
    server = qemu_nbd(serve, tmp_path, image)
    add_client(qmp, unix(server.path))
    disk = nbd_client.connect(export_client(qmp, daemon), "remote")
    server.signal(signal.SIGSTOP)
    disk.aio_pread(nbd.Buffer(4096), 0)
    disk.poll(100)
    begin = time.monotonic()
    qmp.execute("quit")
    assert daemon.wait() == 0
    assert time.monotonic() - begin < 15
    assert "did not answer" not in daemon.log
    server.signal(signal.SIGCONT)


def test_an_image_that_needs_more_room_than_its_export_has(server, second, tmp_path, image):
    """As on a disk that is full: the clusters that are there can still be written."""
    made = create(tmp_path / "made.qcow2", 2 * SIZE)
    with open(image, "r+b") as file:
        file.write(made.read_bytes().ljust(2 * MIB, b"\0"))
    qmp = second.connect()
    add_client(qmp, unix(server))
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", file="remote")
    socket = nbd_client.start_server(qmp, second.directory)
    nbd_client.export(qmp, "top", writable=True)
    disk = nbd_client.connect(socket, "top")
    disk.pwrite(b"a" * MIB, 0)
    with pytest.raises(nbd.Error) as failure:
        for offset in range(MIB, 8 * MIB, MIB):
            disk.pwrite(b"b" * MIB, offset)
    assert failure.value.errno == "ENOSPC"
    disk.pwrite(b"c" * MIB, 0)
    assert disk.pread(MIB, 0) == b"c" * MIB
    disk.shutdown()
    qmp.execute("block-export-del", id="export-top", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("blockdev-del", node_name="top")
    qmp.execute("blockdev-del", node_name="remote")
    run("qemu-img", "check", "-q", "-U", "-f", "qcow2", image)


# Client and server in one daemon ---------------------------------------------------------------------------------


def add_itself(qmp, daemon, image, **options):
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(image), discard="unmap")
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "disk", writable=True)
    add_client(qmp, unix(socket), **options)
    nbd_client.export(qmp, "remote", writable=True)
    return socket


def test_a_daemon_may_be_its_own_client(qmp, daemon, image):
    model = bytearray(image.read_bytes())
    socket = add_itself(qmp, daemon, image)
    disk = nbd_client.connect(socket, "remote")
    write_at_random(disk, model, 2)
    assert nbd_client.read_all(disk) == model
    disk.pwrite(b"z" * 4096, 0)  # not flushed: nothing is lost, and nobody waits for anybody
    begin = time.monotonic()
    qmp.execute("quit")
    assert daemon.wait() == 0
    assert time.monotonic() - begin < 5
    assert "flush failed" not in daemon.log
    model[0:4096] = b"z" * 4096
    assert image.read_bytes() == model


def test_its_own_server_may_stop(qmp, daemon, image):
    socket = add_itself(qmp, daemon, image, **{"reconnect-delay": 60})
    disk = nbd_client.connect(socket, "remote")
    assert disk.pread(512, 1 * MIB) == b"\x11" * 512
    begin = time.monotonic()
    qmp.execute("nbd-server-stop")
    qmp.execute("blockdev-del", node_name="remote")
    qmp.execute("blockdev-del", node_name="disk")
    assert time.monotonic() - begin < 10


class Readers:
    """Threads that read at random from an export until they are stopped."""

    def __init__(self, socket, export, data, count=3):
        self.stopping = False
        self.outcomes = []
        self.threads = [threading.Thread(target=self.read, args=(socket, export, data, seed)) for seed in range(count)]
        for thread in self.threads:
            thread.start()

    def read(self, socket, export, data, seed):
        rng = rng_of(seed)
        disk = nbd_client.connect_plainly(socket, export)
        while not self.stopping:
            offset = rng.randrange(0, SIZE - 64 * KIB, 512)
            self.outcomes.append(disk.pread(64 * KIB, offset) == data[offset:offset + 64 * KIB])

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        assert self.outcomes and all(self.outcomes)


@pytest.mark.parametrize("server", ["unix", "inet"])
def test_requests_that_come_back_are_held_from_the_outside_to_the_inside(server, qmp, daemon, image):
    """A change of the disk holds its export and the quorum, whose requests need that export to come to their end."""
    image.write_bytes(rng_of(7).randbytes(SIZE))
    disk = {"driver": "file", "node-name": "disk", "filename": str(image), "read-only": True}
    qmp.execute("blockdev-add", disk)
    socket = nbd_client.start_server(qmp, daemon.directory)
    where = unix(socket)
    if server == "inet":
        qmp.execute("nbd-server-start", id="second", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}})
        servers = qmp.execute("query-nbd-servers")
        where = next(one["addresses"][0] for one in servers if one["id"] == "second")
        where = {"type": "inet", "host": where["host"], "port": where["port"]}
    nbd_client.export(qmp, "disk")
    add_client(qmp, where, **{"read-only": True})
    qmp.execute("blockdev-add", driver="quorum", node_name="both", vote_threshold=2, read_only=True,
                children=["disk", "remote"])
    nbd_client.export(qmp, "both")
    readers = Readers(socket, "both", image.read_bytes())
    for i in range(30):
        qmp.execute("blockdev-reopen", options=[{**disk, "discard": "unmap" if i % 2 else "ignore"}])
        error = qmp.error("blockdev-reopen", options=[
            disk, {"driver": "nbd", "node-name": "remote", "server": where, "export": "disk", "read-only": True}])
        assert "requests to node 'remote' come back to this daemon by export 'export-disk'" in error.desc, error.desc
    readers.stop()


def test_clients_of_clients(qmp, daemon, image):
    """Three times through the socket; all but the innermost are held by one change, or each by one of its own."""
    image.write_bytes(rng_of(8).randbytes(SIZE))
    qmp.execute("blockdev-add", driver="file", node_name="n0", filename=str(image), read_only=True)
    socket = nbd_client.start_server(qmp, daemon.directory)
    for i in range(3):
        nbd_client.export(qmp, f"n{i}")
        qmp.execute("blockdev-add", {"driver": "nbd", "node-name": f"n{i + 1}", "server": unix(socket),
                                     "export": f"n{i}", "read-only": True})
    qmp.execute("blockdev-add", driver="quorum", node_name="all", vote_threshold=4, read_only=True,
                children=["n0", "n1", "n2", "n3"])
    nbd_client.export(qmp, "all")
    readers = Readers(socket, "all", image.read_bytes())
    for i in range(15):
        qmp.execute("blockdev-reopen", options=[{"driver": "file", "node-name": "n0", "filename": str(image),
                                                 "read-only": True, "discard": "unmap" if i % 2 else "ignore"}])
    readers.stop()
