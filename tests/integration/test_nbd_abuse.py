"""Clients that are slow, silent, half-open, malformed or too many: memory and time stay bounded, others do not notice, and
the log names who it was."""

import os
import resource
import struct
import threading

import pytest

import nbd_client
from images import KIB, MIB
from process import BUILD

from raw_nbd import (CMD_DISC, CMD_FLUSH, CMD_READ, CMD_WRITE, HELLO, OPT_GO, OPT_LIST, OPT_STRUCTURED_REPLY, RawClient, go,
                     option, request)

SIZE = 64 * MIB
PEER = f"NBD client unix:pid={os.getpid()}: "
SHADOW = 5 if BUILD.name == "tsan" else 1  # each byte that is touched has four that tell who did
SLACK = (512 if BUILD.name in ("asan", "tsan") else 64) * MIB  # of resident memory


@pytest.fixture
def served(qmp, tmp_path):
    """Starts the server with given options and exports a disk of zeroes; returns the socket."""
    def serve(**options):
        qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=SIZE, read_zeroes=True)
        path = tmp_path / "nbd.sock"
        qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}}, **options)
        nbd_client.export(qmp, "disk", writable=True)
        return path
    return serve


class Watcher:
    """Another client, which must not notice: each look is a request that is answered."""

    def __init__(self, path):
        self.client = nbd_client.connect(path, "disk")

    def look(self):
        assert self.client.pread(4 * KIB, MIB) == bytes(4 * KIB)

    def leave(self):
        self.look()
        self.client.shutdown()


@pytest.fixture
def path(served):
    return served(max_connections=0)


@pytest.fixture
def watcher(path):
    watcher = Watcher(path)
    yield watcher
    watcher.leave()


def connections(qmp):
    return qmp.execute("query-nbd-servers")[0]["connections"]


# Slow, silent, half-open ---------------------------------------------------------------------------------------------


def test_a_handshake_has_an_end(daemon, served, qmp):
    """Of a client that says nothing, and of one that keeps saying a little."""
    path = served(handshake_max_seconds=1)
    watcher = Watcher(path)
    silent, drip, many = (RawClient(path).greeting() for _ in range(3))
    drip.send(HELLO, option(OPT_LIST, length=1000))
    many.send(HELLO)
    for client in (silent, drip, many):
        watcher.look()
    many.send(option(77))
    many.option_reply()
    for client in (silent, drip, many):
        client.expect_end()
    watcher.look()  # whose handshake is over
    daemon.wait_for_log(PEER + "its handshake took too long", 3)
    watcher.leave()


def test_without_a_limit_a_handshake_may_take_any_time(served):
    path = served(handshake_max_seconds=0)
    client = RawClient(path).greeting()
    for byte in HELLO + go("disk"):
        client.send(bytes([byte]))
    while client.option_reply()[1] != 1:  # ACK
        pass
    client.send(request(CMD_DISC)).expect_end()


def test_a_client_that_sends_no_more_gets_its_replies(path, watcher):
    """Half-open: its direction is closed, ours is not."""
    client = RawClient(path).enter("disk")
    client.send(*(request(CMD_READ, cookie, 0, 64 * KIB) for cookie in range(20)))
    client.socket.shutdown(1)
    assert sorted(client.reply()[1] * len(client.receive(64 * KIB)) // (64 * KIB) for _ in range(20)) == list(range(20))
    assert client.expect_end() == b""


def test_a_client_that_never_reads_replies(daemon, path, watcher, qmp):
    """It is not read from either: it cannot make us hold more than its share, nor anybody wait."""
    before = daemon.rss_bytes()
    deaf = [RawClient(path).enter("disk") for _ in range(4)]
    for client in deaf:
        client.socket.setblocking(False)
        sent = 0
        while sent < 100_000:
            try:
                sent += client.socket.send(request(CMD_READ, 1, 0, 4 * MIB) * 16)
            except BlockingIOError:
                break
        watcher.look()
    assert daemon.rss_bytes() - before < 4 * 64 * MIB * SHADOW + SLACK
    watcher.look()
    for client in deaf:
        client.close()
    while connections(qmp) > 1:
        pass


# Malformed -----------------------------------------------------------------------------------------------------------


def test_garbage_in_place_of_an_option(daemon, path, watcher):
    client = RawClient(path).greeting().send(HELLO, b"GET / HTTP/1.1\r\n\r\n")
    client.expect_end()
    daemon.wait_for_log(PEER + "it sent what is no option")


def test_garbage_in_place_of_a_request(daemon, path, watcher):
    client = RawClient(path).enter("disk")
    client.send(request(CMD_FLUSH, 7)).reply()
    client.send(request(CMD_FLUSH, 8, magic=0x12345678))
    assert client.expect_end() == b""
    daemon.wait_for_log(PEER + "it sent what is no request")


def test_a_million_options(daemon, path, watcher):
    """There is an end to it, and an answer to each before that."""
    before = daemon.rss_bytes()
    client = RawClient(path).greeting().send(HELLO)
    sender = threading.Thread(target=send_until_refused, args=(client, option(4711) * 1000, 1000))
    sender.start()
    replies = 0
    try:
        while True:
            assert client.option_reply()[:2] == (4711, 0x80000001)  # UNSUP
            replies += 1
            if replies % 1000 == 0:
                watcher.look()
    except (EOFError, ConnectionResetError):
        pass
    sender.join()
    assert 1000 <= replies <= 10_000
    assert daemon.rss_bytes() - before < SLACK
    daemon.wait_for_log(PEER + "it does not come to an end with its options")


def send_until_refused(client, data, times):
    try:
        for _ in range(times):
            client.send(data)
    except OSError:
        pass


@pytest.mark.parametrize("length", [64 * KIB - 4, 2**32 - 1])
def test_names_of_any_length(path, watcher, length):
    """A length inside an option that is longer than the option, and names that no export can have."""
    client = RawClient(path).greeting().send(HELLO)
    client.send(option(OPT_GO, struct.pack(">I", length) + b"n" * (64 * KIB - 6) + b"\0\0"))
    assert client.option_reply()[1] & 0x80000000
    client.send(option(OPT_STRUCTURED_REPLY))
    assert client.option_reply()[1] == 1
    client.close()


def test_an_option_of_four_gigabytes(daemon, served):
    """Nothing is kept of it, and the deadline of the handshake holds for it as well."""
    path = served(handshake_max_seconds=1)
    watcher = Watcher(path)
    before = daemon.rss_bytes()
    client = RawClient(path).greeting().send(HELLO, option(OPT_LIST, length=2**32 - 1))
    send_until_refused(client, bytes(64 * KIB), 64 * KIB)
    client.expect_end()
    assert daemon.rss_bytes() - before < SLACK
    watcher.leave()


def test_lines_in_the_log_are_limited(daemon, path, watcher):
    for _ in range(200):
        RawClient(path).greeting().send(HELLO, bytes(16)).expect_end()
    daemon.wait_for_log(PEER, 10)
    lines = [line for line in daemon.log.splitlines() if PEER in line]
    assert 10 <= len(lines) < 50


# Disconnected --------------------------------------------------------------------------------------------------------


def test_a_disconnect_at_every_byte(daemon, path, watcher, qmp):
    """Of a session with everything in it; several at a time."""
    script = HELLO + option(OPT_STRUCTURED_REPLY) + option(OPT_LIST) + go("disk") + \
        request(CMD_WRITE, 1, 0, 64) + b"w" * 64 + request(CMD_READ, 2, 0, 64 * KIB) + request(CMD_FLUSH, 3) + \
        request(CMD_WRITE, 4, 0, 256 * KIB) + bytes(256 * KIB) + request(CMD_DISC)
    cuts = list(range(400)) + [len(script) - 128 * KIB] + list(range(len(script) - 40, len(script) + 1))
    for cut in cuts:
        client = RawClient(path).send(script[:cut])
        if cut % 3 == 0:
            client.greeting()
        client.close()
        if cut % 10 == 0:
            watcher.look()
    while connections(qmp) > 1:
        pass
    assert "warning" not in daemon.log


# Too many ------------------------------------------------------------------------------------------------------------


def test_more_clients_than_may_be_let_in_in_their_order(daemon, served, qmp):
    path = served(max_connections=10)
    clients = [RawClient(path) for _ in range(300)]
    while connections(qmp) < 10:
        pass
    assert all(client.is_silent() for client in clients[10:])
    daemon.wait_for_log("10 clients are connected, further ones have to wait")
    cpu = daemon.cpu_seconds()
    for first in range(0, 300, 10):
        for client in clients[first:first + 10]:
            client.greeting()
        assert all(client.is_silent() for client in clients[first + 10:first + 30])
        for client in clients[first:first + 10]:
            client.close()
    assert daemon.cpu_seconds() - cpu < 2


def test_a_thousand_clients(daemon, served, qmp):
    path = served(max_connections=0)
    watcher = Watcher(path)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    clients = [RawClient(path).enter("disk") for _ in range(1000)]
    watcher.look()
    assert connections(qmp) == 1001
    for client in clients:
        client.send(request(CMD_READ, 5, 0, 512))
    for client in clients:
        assert client.reply() == (0, 5) and client.receive(512) == bytes(512)
    watcher.look()
    for client in clients:
        client.close()
    while connections(qmp) > 1:
        pass
    watcher.leave()


def test_no_more_descriptors(daemon, served, qmp):
    """The daemon waits until there are some again, without turning in circles; those who are in are served."""
    path = served(max_connections=0)
    watcher = Watcher(path)
    used = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 20, 4096))
    clients = [RawClient(path) for _ in range(100)]
    for client in clients[:20]:
        client.greeting()
    cpu = daemon.cpu_seconds()
    clients[20].socket.settimeout(1)
    with pytest.raises(TimeoutError):
        clients[20].greeting()
    assert daemon.cpu_seconds() - cpu < 0.5
    watcher.look()
    daemon.wait_for_log("cannot accept a connection: Too many open files")
    for client in clients[:20]:
        client.close()
    clients[20].socket.settimeout(60)
    for client in clients[20:40]:
        client.greeting()
    for client in clients[20:]:
        client.close()
    watcher.leave()
