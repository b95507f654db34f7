"""The life of exports under clients that work: removed, stopped, resized, quit, with requests in flight on all threads."""

import struct
import threading

import nbd
import pytest

import nbd_client
from images import KIB, MIB
from raw_nbd import CMD_FLUSH, CMD_READ, CMD_WRITE, REPLY_MAGIC, RawClient, request

SIZE = 16 * MIB
CLIENTS = 6


@pytest.fixture
def gated(qmp, tmp_path):
    """A file under a gate, exported as "disk"; its path and the server's socket."""
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    qmp.execute("blockdev-add", driver="file", node_name="below", filename=str(path))
    qmp.execute("blockdev-add", driver="gate", node_name="disk", file="below")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    return path, socket


def wait_held(qmp, count):
    while qmp.execute("x-gate-query", node_name="disk")["held"] < count:
        pass


def hold_writes(qmp, socket):
    """A write of each of several clients, in flight inside the graph; the clients."""
    clients = [RawClient(socket).enter("disk") for _ in range(CLIENTS)]
    qmp.execute("x-gate-hold", node_name="disk", operation="write")
    for number, client in enumerate(clients):
        client.send(request(CMD_WRITE, number, number * MIB, 64 * KIB), bytes([number + 1]) * 64 * KIB)
    wait_held(qmp, CLIENTS)
    return clients


def assert_written(path):
    data = path.read_bytes()
    for number in range(CLIENTS):
        assert data[number * MIB:number * MIB + 64 * KIB] == bytes([number + 1]) * 64 * KIB


def test_a_removed_export_does_what_was_asked_of_it(qmp, gated):
    """Nobody hears of it, since it takes too long; but what is inside the graph goes on to its end, and only then the id is
    free."""
    path, socket = gated
    clients = hold_writes(qmp, socket)
    assert "still in use" in qmp.error("block-export-del", id="export-disk").desc
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    for client in clients:
        assert client.expect_end() == b""
    assert [export["shutting-down"] for export in qmp.execute("query-block-exports")] == [True]
    assert "already in use" in qmp.error("block-export-add", type="nbd", id="export-disk", node_name="disk").desc
    assert "export 'export-disk'" in qmp.error("blockdev-del", node_name="disk").desc
    qmp.execute("x-gate-release", node_name="disk")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    assert_written(path)
    nbd_client.export(qmp, "disk")


def test_a_stopped_server_does_what_was_asked_of_it(qmp, gated, tmp_path):
    path, socket = gated
    clients = hold_writes(qmp, socket)
    qmp.execute("nbd-server-stop")
    for client in clients:
        assert client.expect_end() == b""
    nbd_client.start_server(qmp, tmp_path)  # the next one need not wait for what the last one left
    qmp.execute("x-gate-release", node_name="disk")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    assert_written(path)


def test_quitting_does_what_was_asked(daemon, qmp, gated):
    path, socket = gated
    clients = hold_writes(qmp, socket)
    qmp.execute("quit")
    assert daemon.wait() == 0
    for client in clients:
        client.expect_end()
    assert_written(path)


@pytest.mark.parametrize("transport", ["unix", "tcp"])
@pytest.mark.parametrize("how", ["remove", "stop", "quit"])
def test_what_was_done_is_answered(daemon, qmp, gated, how, transport):
    """Whatever of their queues was begun when the end came."""
    path, socket = gated
    if transport == "tcp":
        qmp.execute("nbd-server-start", id="tcp", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}})
        servers = {server["id"]: server for server in qmp.execute("query-nbd-servers")}
        socket = int(servers["tcp"]["addresses"][0]["port"])
    clients = [RawClient(socket).enter("disk") for _ in range(CLIENTS)]
    ends = [None] * CLIENTS
    sent = threading.Semaphore(0)

    def write(number, client):
        try:
            for place in range(2048):
                client.send(request(CMD_WRITE, place, number * MIB + place * 512, 512), b"w" * 512)
                sent.release()
        except (BrokenPipeError, ConnectionResetError):
            pass
        ends[number] = client.expect_end()

    writers = [threading.Thread(target=write, args=each) for each in enumerate(clients)]
    for writer in writers:
        writer.start()
    for _ in range(1000):
        sent.acquire()
    if how == "remove":
        qmp.execute("block-export-del", id="export-disk", mode="hard")
    elif how == "stop":
        qmp.execute("nbd-server-stop", id="tcp" if transport == "tcp" else "default")
    else:
        qmp.execute("quit")
    for writer in writers:
        writer.join()
    if how == "quit":
        assert daemon.wait() == 0
    data = path.read_bytes()
    for number, end in enumerate(ends):
        answered = {cookie for magic, error, cookie in struct.iter_unpack(">IIQ", end) if error == 0}
        done = {place for place in range(2048) if data[number * MIB + place * 512] == ord("w")}
        assert answered == done and len(end) == 16 * len(done)


def test_a_late_reply_reaches_who_goes_on_asking(daemon, qmp, gated):
    """Over TCP, where a request that nobody reads any more would throw away what is under way."""
    _, path = gated
    qmp.execute("nbd-server-start", id="tcp", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}})
    servers = {server["id"]: server for server in qmp.execute("query-nbd-servers")}
    client = RawClient(int(servers["tcp"]["addresses"][0]["port"])).enter("disk")
    idle = RawClient(path).enter("disk")
    qmp.execute("x-gate-hold", node_name="disk", operation="read")
    client.send(request(CMD_READ, 1, 0, 1 * MIB))
    wait_held(qmp, 1)
    arguments = {"id": "export-disk", "mode": "hard"}
    removal = threading.Thread(target=daemon.connect().execute, args=("block-export-del", arguments))
    removal.start()
    idle.expect_end()
    client.send(request(CMD_FLUSH, 2))
    qmp.execute("x-gate-release", node_name="disk")
    late, flushed = (struct.pack(">IIQ", REPLY_MAGIC, 0, cookie) for cookie in (1, 2))
    answers = client.expect_end()  # the flush may have come before the end on the client's loop
    assert answers.removeprefix(flushed).removesuffix(flushed) == late + bytes(1 * MIB)
    removal.join()


def test_no_reply_is_lost_where_the_connection_stays(qmp, gated):
    """While other exports and other clients are removed."""
    path, socket = gated
    qmp.execute("block-export-add", type="nbd", id="other", node_name="disk", name="other", writable=True)
    clients = hold_writes(qmp, socket)
    doomed = RawClient(socket).enter("other").send(request(CMD_WRITE, 99, 9 * MIB, 512), b"d" * 512)
    wait_held(qmp, CLIENTS + 1)
    qmp.execute("block-export-del", id="other", mode="hard")
    assert doomed.expect_end() == b""
    qmp.execute("x-gate-release", node_name="disk")
    for number, client in enumerate(clients):
        assert client.reply() == (0, number)
        client.send(request(CMD_FLUSH, 1000)).reply()
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "other")
    assert_written(path)
    assert path.read_bytes()[9 * MIB:9 * MIB + 512] == b"d" * 512


def test_a_node_that_grows_and_shrinks(qmp, tmp_path):
    """New clients see the new size; those of before go on with the size that they were told."""
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 4 * MIB)
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(path))
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    first = RawClient(socket).enter("disk")
    qmp.execute("block_resize", node_name="disk", size=8 * MIB)
    second = RawClient(socket).enter("disk")
    assert (first.size, second.size) == (4 * MIB, 8 * MIB)

    EINVAL, ENOSPC = 22, 28
    assert first.send(request(CMD_READ, 1, 4 * MIB, 512)).reply() == (EINVAL, 1)
    assert first.send(request(CMD_WRITE, 2, 4 * MIB, 512), bytes(512)).reply() == (ENOSPC, 2)
    assert second.send(request(CMD_READ, 3, 4 * MIB, 512)).reply() == (0, 3)
    assert second.receive(512) == bytes(512)

    qmp.execute("block_resize", node_name="disk", size=2 * MIB)
    third = RawClient(socket).enter("disk")
    assert third.size == 2 * MIB
    for client in (first, second):
        assert client.send(request(CMD_READ, 4, 2 * MIB, 512)).reply()[0] == EINVAL
        assert client.send(request(CMD_READ, 5, 2 * MIB - 512, 1024)).reply()[0] == EINVAL
        assert client.send(request(CMD_WRITE, 6, 2 * MIB, 512), bytes(512)).reply()[0] == EINVAL
        assert client.send(request(CMD_READ, 7, MIB, 512)).reply() == (0, 7)
        assert client.receive(512) == b"x" * 512
    assert path.stat().st_size == 2 * MIB


class Worker(threading.Thread):
    """Writes and reads back its own part of the disk until it is cut off; counts what was answered."""

    def __init__(self, socket, number):
        super().__init__()
        self.client = nbd_client.connect(socket, "disk")
        self.number, self.rounds, self.wrong = number, 0, None

    def run(self):
        try:
            while True:
                data = bytes([(self.number + self.rounds) % 256]) * 4 * KIB
                place = self.number * MIB + self.rounds % 16 * 4 * KIB
                self.client.pwrite(data, place)
                if self.client.pread(len(data), place) != data:
                    self.wrong = f"client {self.number}, round {self.rounds}"
                    return
                self.rounds += 1
        except nbd.Error:
            pass


def work(socket):
    workers = [Worker(socket, number) for number in range(CLIENTS)]
    for worker in workers:
        worker.start()
    while min(worker.rounds for worker in workers) < 20:
        assert all(worker.is_alive() for worker in workers)
    return workers


def end(workers):
    for worker in workers:
        worker.join()
        assert worker.wrong is None
        assert worker.rounds >= 20


@pytest.mark.parametrize("how", ["remove", "stop", "quit"])
def test_everything_ends_under_load(daemon, qmp, gated, how):
    _, socket = gated
    workers = work(socket)
    if how == "remove":
        for _ in range(5):
            qmp.execute("block-export-del", id="export-disk", mode="hard")
            qmp.wait_event("BLOCK_EXPORT_DELETED")
            end(workers)
            nbd_client.export(qmp, "disk", writable=True)
            workers = work(socket)
        qmp.execute("block-export-del", id="export-disk", mode="hard")
    elif how == "stop":
        qmp.execute("nbd-server-stop")
        assert qmp.execute("query-block-exports") == []
        qmp.execute("blockdev-del", node_name="disk")
    else:
        qmp.execute("quit")
        assert daemon.wait() == 0
    end(workers)


def test_resized_under_load(qmp, tmp_path):
    """Requests inside of what stays are answered throughout."""
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(SIZE))
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(path))
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    workers = work(socket)
    for size in (2 * SIZE, SIZE, 3 * SIZE, SIZE + 512, SIZE):
        before = [worker.rounds for worker in workers]
        qmp.execute("block_resize", node_name="disk", size=size)
        while any(worker.rounds < rounds + 5 for worker, rounds in zip(workers, before)):
            assert all(worker.is_alive() for worker in workers)
    qmp.execute("nbd-server-stop")
    end(workers)
