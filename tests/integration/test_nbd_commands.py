"""NBD transmission at the level of bytes: every command, flag and error, with simple, structured and extended replies.
Source: NetworkBlockDevice/nbd, doc/proto.md, "Transmission", "Request types" and "Error values"; its branch
extension-ext-header."""

import os
import pathlib
import re
import struct

import pytest

import nbd_client
from images import KIB, MIB, create, qemu_io
from nbd_raw import (CHUNK_ERROR_OFFSET, CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLUSH, CMD_READ, CMD_RESIZE, CMD_TRIM,
                     CMD_WRITE, CMD_WRITE_ZEROES, DF, EINVAL, EIO, ENOSPC, ENOTSUP, EOVERFLOW, EPERM, EXTENDED,
                     FAST_ZERO, FUA, MODES, NO_HOLE, NONE, OFFSET_DATA, OFFSET_HOLE, PAYLOAD_LEN, REQ_ONE, SIMPLE,
                     STRUCTURED, Closed, Raw, enter)
from process import BUILD

SIZE = 8 << 30
NAMES = {CMD_READ: "read", CMD_WRITE: "write", CMD_FLUSH: "flush", CMD_TRIM: "trim", CMD_CACHE: "cache",
         CMD_WRITE_ZEROES: "write-zeroes", CMD_BLOCK_STATUS: "block-status"}
CONTEXTS = ["base:allocation"]


@pytest.fixture
def server(qmp, tmp_path):
    """A sparse file of 8 GiB as "disk", with a second export that is read-only: "locked"."""
    with open(tmp_path / "disk.raw", "wb") as file:
        file.truncate(SIZE)
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(tmp_path / "disk.raw"), discard="unmap")
    path = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    qmp.execute("block-export-add", type="nbd", id="locked", node_name="disk", name="locked")
    return path


def contexts_of(mode):
    return CONTEXTS if mode != SIMPLE else []


def alive(client):
    assert client.ask(CMD_READ, 0, 1).error == 0
    return True


def data(length, seed=1):
    return bytes((seed + index * 7) % 251 for index in range(256)) * (length // 256 + 1)


def pattern(length, seed=1):
    return data(length, seed)[:length]


# What commands do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_what_is_written_is_read(server, mode):
    client = enter(server, "disk", mode)
    for offset, length in ((0, 1), (511, 2), (4096, 65536), (12345, 100_000), (SIZE - 7, 7), (5 << 30, 3 * MIB)):
        assert client.ask(CMD_WRITE, offset, payload=pattern(length, offset % 13)).error == 0
        assert client.ask(CMD_READ, offset, length).data == pattern(length, offset % 13)


@pytest.mark.parametrize("mode", MODES)
def test_write_zeroes_and_trim(server, mode):
    client = enter(server, "disk", mode)
    for command, flags in ((CMD_WRITE_ZEROES, 0), (CMD_WRITE_ZEROES, NO_HOLE), (CMD_WRITE_ZEROES, FAST_ZERO),
                           (CMD_WRITE_ZEROES, NO_HOLE | FUA), (CMD_TRIM, 0), (CMD_TRIM, FUA)):
        assert client.ask(CMD_WRITE, 0, payload=pattern(256 * KIB)).error == 0
        reply = client.ask(command, 64 * KIB, 128 * KIB, flags)
        assert reply.error == 0 or (flags & FAST_ZERO and reply.error == ENOTSUP)
        if reply.error == 0:
            assert client.ask(CMD_READ, 64 * KIB, 128 * KIB).data == bytes(128 * KIB)
        assert client.ask(CMD_READ, 0, 64 * KIB).data == pattern(64 * KIB)
        assert client.ask(CMD_READ, 192 * KIB, 64 * KIB).data == pattern(256 * KIB)[192 * KIB:]


@pytest.mark.parametrize("mode", MODES)
def test_no_hole_keeps_the_space_and_without_it_a_hole_may_be(server, mode, tmp_path):
    client = enter(server, "disk", mode)
    client.ask(CMD_WRITE, 0, payload=pattern(1 * MIB))
    client.ask(CMD_FLUSH)
    assert client.ask(CMD_WRITE_ZEROES, 0, 1 * MIB, NO_HOLE).error == 0
    assert os.stat(tmp_path / "disk.raw").st_blocks * 512 >= 1 * MIB
    assert client.ask(CMD_WRITE_ZEROES, 0, 1 * MIB).error == 0
    assert os.stat(tmp_path / "disk.raw").st_blocks * 512 < 1 * MIB


@pytest.mark.parametrize("mode", MODES)
def test_zeroes_trim_and_cache_reach_as_far_as_a_length_can(server, mode):
    """There is no payload, so the limit of payloads does not hold."""
    client = enter(server, "disk", mode)
    length = SIZE if mode == EXTENDED else 2 ** 32 - 4096
    assert client.ask(CMD_WRITE, length - 4096, payload=pattern(4096)).error == 0
    for command in (CMD_TRIM, CMD_WRITE_ZEROES):
        assert client.ask(command, 0, length).error == 0
        assert client.ask(CMD_READ, length - 4096, 4096).data == bytes(4096)
    assert client.ask(CMD_CACHE, 0, 256 * MIB).error == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES])
def test_no_bytes_are_no_error(server, mode, command):
    client = enter(server, "disk", mode)
    for offset in (0, 4096, SIZE):
        assert client.ask(command, offset, 0).error == 0
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
def test_disconnect_has_no_reply(server, mode):
    client = enter(server, "disk", mode)
    client.send(client.request(CMD_DISC))
    assert client.is_closed()


def test_a_disconnect_with_a_payload_is_one(server):
    client = enter(server, "disk", EXTENDED)
    client.send(client.request(CMD_DISC, PAYLOAD_LEN, 0, 4) + b"next")
    assert client.is_closed()


@pytest.mark.parametrize("mode", MODES)
def test_replies_carry_the_cookies_of_their_requests(server, mode):
    client = enter(server, "disk", mode)
    client.send(b"".join(client.request(CMD_READ, 0, index * 512, 512) for index in range(100)))
    cookies = {client.reply()[0] for _ in range(100)}
    assert cookies == {client.cookie - index for index in range(100)}


def test_the_cookie_is_the_clients_business(server):
    client = enter(server, "disk", EXTENDED)
    for cookie in (0, 2 ** 64 - 1, 0x8000000000000000):
        client.cookie = cookie - 1
        client.send(struct.pack(">IHHQQQ", 0x21E41C71, 0, CMD_FLUSH, cookie, 0, 0))
        client.asked[cookie] = (CMD_FLUSH, 0, 0, 0, set())
        assert client.reply()[0] == cookie


# How replies look ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [STRUCTURED, EXTENDED])
def test_holes_are_told_and_not_sent(server, mode):
    client = enter(server, "disk", mode)
    client.ask(CMD_WRITE, 1 * MIB, payload=pattern(1 * MIB))
    reply = client.ask(CMD_READ, 0, 4 * MIB)
    assert reply.data == bytes(1 * MIB) + pattern(1 * MIB) + bytes(2 * MIB)
    assert [(kind, what[0], len(what[1])) for kind, what in reply.chunks] == [
        (OFFSET_HOLE, 0, 1 * MIB), (OFFSET_DATA, 1 * MIB, 1 * MIB), (OFFSET_HOLE, 2 * MIB, 2 * MIB)]
    reply = client.ask(CMD_READ, 5 << 30, 32 * MIB)
    assert [(kind, len(what[1])) for kind, what in reply.chunks] == [(OFFSET_HOLE, 32 * MIB)]


@pytest.mark.parametrize("mode", [STRUCTURED, EXTENDED])
def test_a_read_that_must_not_be_cut_is_one_chunk(server, mode):
    client = enter(server, "disk", mode)
    client.ask(CMD_WRITE, 1 * MIB, payload=pattern(1 * MIB))
    reply = client.ask(CMD_READ, 0, 4 * MIB, DF)
    assert [(kind, what[0], len(what[1])) for kind, what in reply.chunks] == [(OFFSET_DATA, 0, 4 * MIB)]
    assert reply.data == bytes(1 * MIB) + pattern(1 * MIB) + bytes(2 * MIB)
    assert len(client.ask(CMD_READ, 0, 65536, DF).chunks) == 1


@pytest.mark.parametrize("mode", [STRUCTURED, EXTENDED])
def test_a_read_of_many_holes_has_a_limited_number_of_chunks(server, mode):
    client = enter(server, "disk", mode)
    for index in range(100):
        client.ask(CMD_WRITE, index * 128 * KIB, payload=pattern(4096, index))
    expected = b"".join(pattern(4096, index) + bytes(124 * KIB) for index in range(100))
    reply = client.ask(CMD_READ, 0, 100 * 128 * KIB)
    assert reply.data == expected
    assert 2 < len(reply.chunks) <= 32
    reply = client.ask(CMD_READ, 1000, 50 * 128 * KIB + 1)
    assert reply.data == expected[1000:1000 + 50 * 128 * KIB + 1]


@pytest.mark.parametrize("mode", MODES)
def test_success_without_data(server, mode):
    """No simple replies with extended headers."""
    client = enter(server, "disk", mode)
    chunks = [(NONE, None)] if mode == EXTENDED else []
    for command in (CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE):
        assert client.ask(command, 0, 0 if command == CMD_FLUSH else 4096).chunks == chunks
    assert client.ask(CMD_READ, 0, 0).chunks == ([(NONE, None)] if mode != SIMPLE else [])


# Flags ---------------------------------------------------------------------------------------------------------------

KNOWN = {CMD_READ: DF, CMD_WRITE: 0, CMD_FLUSH: 0, CMD_TRIM: 0, CMD_CACHE: 0, CMD_WRITE_ZEROES: NO_HOLE | FAST_ZERO,
         CMD_BLOCK_STATUS: REQ_ONE}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", NAMES, ids=NAMES.values())
def test_each_flag_goes_with_its_commands_only(server, mode, command):
    if command == CMD_BLOCK_STATUS and mode == SIMPLE:
        return
    client = enter(server, "disk", mode, contexts_of(mode))
    for bit in range(16):
        flag = 1 << bit
        if mode == EXTENDED and flag == PAYLOAD_LEN:
            continue
        length = 0 if command == CMD_FLUSH else 4096
        reply = client.ask(command, 0, length, flag, payload=pattern(4096) if command == CMD_WRITE else b"")
        known = flag == FUA or (flag & KNOWN[command] and not (flag == DF and mode == SIMPLE))
        assert reply.error == (0 if known else EINVAL) or (known and flag == FAST_ZERO and reply.error == ENOTSUP), bit
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", [CMD_RESIZE, 9, 255, 65535])
def test_unknown_commands_are_invalid(server, mode, command):
    client = enter(server, "disk", mode)
    for flags in (0, FUA):
        assert client.ask(command, 0, 4096, flags).error == EINVAL
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
def test_block_status_needs_a_context(server, mode):
    client = enter(server, "disk", mode)
    assert client.ask(CMD_BLOCK_STATUS, 0, 4096).error == EINVAL
    assert alive(client)


@pytest.mark.parametrize("mode", [STRUCTURED, EXTENDED])
def test_the_status_of_no_bytes_is_invalid(server, mode):
    client = enter(server, "disk", mode, CONTEXTS)
    for flags in (0, REQ_ONE, PAYLOAD_LEN if mode == EXTENDED else FUA):
        assert client.ask(CMD_BLOCK_STATUS, 0, 0, flags).error == EINVAL
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
def test_offset_and_length_of_a_flush_mean_nothing(server, mode):
    client = enter(server, "disk", mode)
    for offset, length in ((0, 1), (12345, 77), (2 ** 64 - 1, 2 ** 32 - 1)):
        assert client.ask(CMD_FLUSH, offset, length).error == 0


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command,error", [(CMD_READ, EINVAL), (CMD_WRITE, ENOSPC), (CMD_TRIM, EINVAL),
                                           (CMD_CACHE, EINVAL), (CMD_WRITE_ZEROES, ENOSPC), (CMD_BLOCK_STATUS, EINVAL)],
                         ids=["read", "write", "trim", "cache", "write-zeroes", "block-status"])
def test_requests_beyond_the_end(server, mode, command, error):
    if command == CMD_BLOCK_STATUS and mode == SIMPLE:
        return
    client = enter(server, "disk", mode, contexts_of(mode))
    places = [(SIZE - 1, 2), (SIZE, 1), (SIZE + 4096, 4096), (2 ** 63, 4096), (2 ** 64 - 1, 1), (2 ** 64 - 4096, 4096)]
    if mode == EXTENDED and command not in (CMD_READ, CMD_WRITE):
        places += [(1, SIZE), (0, 2 ** 63), (0, 2 ** 64 - 1), (4096, 2 ** 64 - 4096)]
    for offset, length in places:
        assert client.ask(command, offset, length, payload=bytes(length) if command == CMD_WRITE else b"").error == error
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
def test_a_read_only_export_is_not_written(server, mode):
    client = enter(server, "locked", mode)
    for command in (CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES):
        assert client.ask(command, 0, 4096, payload=bytes(4096) if command == CMD_WRITE else b"").error == EPERM
        assert client.ask(command, 0, 0).error == EPERM
    for command in (CMD_READ, CMD_CACHE, CMD_FLUSH):
        assert client.ask(command, 0, 4096 if command != CMD_FLUSH else 0).error == 0
    large = client.ask(CMD_WRITE, 0, payload=bytes(5 * MIB))
    assert large.error == EPERM
    assert alive(client)


# More data than the maximum --------------------------------------------------------------------------------------------
# INFO_BLOCK_SIZE says 32 MiB. A client that did not ask for it does not know; what it wants is moved in pieces.


@pytest.mark.parametrize("mode", MODES)
def test_more_data_than_the_maximum(server, mode):
    client = enter(server, "disk", mode)
    content = pattern(40 * MIB + 3)
    assert client.ask(CMD_WRITE, 12345, payload=content).error == 0
    reply = client.ask(CMD_READ, 12345, len(content))
    assert reply.error == 0 and reply.data == content
    assert all(kind == OFFSET_HOLE or len(what[1]) <= 32 * MIB for kind, what in reply.chunks)
    assert client.ask(CMD_READ, 12344, 1).data + client.ask(CMD_READ, 12345 + len(content), 1).data == bytes(2)


@pytest.mark.parametrize("mode", MODES)
def test_more_data_than_anybody_gets(server, mode):
    client = enter(server, "disk", mode)
    if mode != SIMPLE:
        assert client.ask(CMD_READ, 0, 32 * MIB, DF).error == 0
        assert client.ask(CMD_READ, 0, 32 * MIB + 1, DF).error == EOVERFLOW
    if mode == EXTENDED:
        assert client.ask(CMD_READ, 0, 1 << 32).error == EINVAL
    assert client.ask(CMD_READ, SIZE - 40 * MIB, 40 * MIB + 1).error == EINVAL
    assert client.ask(CMD_WRITE, SIZE - 40 * MIB, payload=bytes(40 * MIB + 1)).error == ENOSPC
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
def test_a_long_read_among_others(server, mode):
    """The reply of one is whole before that of the next begins, where nothing else could tell them apart."""
    client = enter(server, "disk", mode)
    for index, offset in enumerate((0, 1 << 30, 2 << 30)):
        assert client.ask(CMD_WRITE, offset, payload=pattern(64 * KIB, index)).error == 0
    client.send(b"".join(client.request(CMD_READ, 0, offset, length)
                         for offset, length in ((0, 64 * KIB), (1 << 30, 50 * MIB), (2 << 30, 64 * KIB))))
    replies = dict(client.reply() for _ in range(3))
    for index, (_, reply) in enumerate(sorted(replies.items())):
        assert reply.data[:64 * KIB] == pattern(64 * KIB, index)


def test_a_long_read_holds_little_memory(server, daemon):
    """Nobody takes the data: a part of them waits, the rest has not been read yet."""
    client = enter(server, "disk", SIMPLE)
    client.send(client.request(CMD_READ, 0, 0, 2 << 30))
    assert client.receive(16)
    assert client.receive(100 * MIB) == bytes(100 * MIB)
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{daemon.pid}/status").read_text())[1]) * KIB
    assert peak < (1024 if BUILD.name in ("asan", "tsan") else 128) * MIB
    client.close()
    assert alive(enter(server, "disk", SIMPLE))


@pytest.mark.parametrize("mode", MODES)
def test_a_long_write_that_is_to_last_is_flushed(server, qmp, mode):
    client = enter(server, "disk", mode)
    flushes = lambda: qmp.execute("query-blockstats", query_nodes=True)[0]["stats"]["flush_operations"]
    assert client.ask(CMD_WRITE, 0, payload=bytes(33 * MIB)).error == 0
    before = flushes()
    assert client.ask(CMD_WRITE, 0, flags=FUA, payload=bytes(33 * MIB)).error == 0
    assert flushes() == before + 1


@pytest.mark.parametrize("mode", MODES)
def test_a_long_write_of_which_half_comes(server, mode):
    client = enter(server, "disk", mode)
    flags = PAYLOAD_LEN if mode == EXTENDED else 0
    client.send(client.request(CMD_WRITE, flags, 0, 40 * MIB) + pattern(20 * MIB))
    client.close()
    assert alive(enter(server, "disk", mode))


@pytest.mark.parametrize("mode", MODES)
def test_storage_fails_under_long_requests(qmp, tmp_path, mode):
    """A simple reply that has begun with success can only end with the connection."""
    bad = 34 * MIB
    with open(tmp_path / "disk.raw", "wb") as file:
        file.write(pattern(36 * MIB))
    qmp.execute("blockdev-add", driver="blkdebug", node_name="bad",
                image={"driver": "file", "filename": str(tmp_path / "disk.raw")},
                inject_error=[{"event": "none", "iotype": "read", "errno": 5, "sector": bad // 512},
                              {"event": "none", "iotype": "write", "errno": 28, "sector": bad // 512}])
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "bad", writable=True)
    client = enter(server, "bad", mode)
    assert client.ask(CMD_WRITE, 0, payload=pattern(36 * MIB, 5)).error == ENOSPC
    assert alive(client)
    written = (tmp_path / "disk.raw").read_bytes()
    assert written[:bad - 4 * MIB] == pattern(36 * MIB, 5)[:bad - 4 * MIB]
    assert written[bad:] == pattern(36 * MIB)[bad:]
    if mode == SIMPLE:
        with pytest.raises(Closed):
            client.ask(CMD_READ, 0, 36 * MIB)
        return
    reply = client.ask(CMD_READ, 0, 36 * MIB)
    assert reply.error == EIO and bad - 4 * MIB <= reply.error_offset <= bad
    assert alive(client)


@pytest.mark.parametrize("mode", MODES)
def test_an_io_error_has_a_place_where_that_can_be_told(qmp, tmp_path, mode):
    with open(tmp_path / "disk.raw", "wb") as file:
        file.truncate(1 * MIB)
        for offset in (0, 512 * KIB):
            file.seek(offset)
            file.write(pattern(64 * KIB))
    qmp.execute("blockdev-add", driver="blkdebug", node_name="bad",
                image={"driver": "file", "filename": str(tmp_path / "disk.raw")},
                inject_error=[{"event": "none", "iotype": "read", "errno": 5, "sector": 1024},
                              {"event": "none", "iotype": "write", "errno": 28, "sector": 1024}])
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "bad", writable=True)
    client = enter(server, "bad", mode)
    reply = client.ask(CMD_READ, 512 * KIB, 4096)
    assert reply.error == EIO
    if mode != SIMPLE:
        assert reply.chunks[-1][0] == CHUNK_ERROR_OFFSET and reply.error_offset == 512 * KIB
        assert reply.message == "Input/output error"
    reply = client.ask(CMD_READ, 0, 1 * MIB)
    assert (reply.error, reply.error_offset) == (EIO, None if mode == SIMPLE else 512 * KIB), "behind the hole"
    reply = client.ask(CMD_WRITE, 512 * KIB, payload=bytes(4096))
    assert reply.error == ENOSPC
    assert mode == SIMPLE or reply.message == "No space left on device"
    assert client.ask(CMD_READ, 0, 4096).data == pattern(4096)


@pytest.mark.parametrize("mode", [STRUCTURED, EXTENDED])
def test_messages_say_why(server, mode):
    client = enter(server, "locked", mode)
    for request, words in (((CMD_WRITE_ZEROES, 0, 512), "read-only"), ((CMD_READ, SIZE, 512), "end of the export"),
                           ((4711, 0, 0), "unknown command"), ((CMD_READ, 0, 512, 1 << 14), "flags"),
                           ((CMD_READ, 0, 33 * MIB, DF), "32 MiB"), ((CMD_BLOCK_STATUS, 0, 512), "context")):
        assert words in client.ask(*request).message


def test_fast_zero_fails_fast_where_zeroes_are_not_fast(qmp, tmp_path):
    """An image whose version knows no zero clusters would have to write them all."""
    path = create(tmp_path / "disk.qcow2", 16 * MIB, compat="0.10")
    qemu_io(path, "write -P 7 0 1m")
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    client = enter(server, "disk", STRUCTURED)
    assert client.ask(CMD_WRITE_ZEROES, 0, 4096, FAST_ZERO).error == ENOTSUP
    assert client.ask(CMD_READ, 0, 4096).data == b"\7" * 4096
    assert client.ask(CMD_WRITE_ZEROES, 0, 4096).error == 0
    assert client.ask(CMD_READ, 0, 8192).data == bytes(4096) + b"\7" * 4096


def test_fast_zero_that_fails_has_changed_nothing(qmp, tmp_path):
    """Whole clusters become zero at once, parts of them have to be written."""
    path = create(tmp_path / "disk.qcow2", 1 * MIB)
    qemu_io(path, "write -P 7 0 256k")
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    client = enter(server, "disk", STRUCTURED)
    for offset, length in ((0, 64 * KIB + 512), (512, 128 * KIB), (512, 1024), (64 * KIB - 512, 1024)):
        assert client.ask(CMD_WRITE_ZEROES, offset, length, FAST_ZERO).error == ENOTSUP
        assert client.ask(CMD_READ, 0, 256 * KIB).data == b"\7" * (256 * KIB)
    assert client.ask(CMD_WRITE_ZEROES, 64 * KIB, 64 * KIB, FAST_ZERO).error == 0
    assert client.ask(CMD_READ, 0, 256 * KIB).data == b"\7" * 64 * KIB + bytes(64 * KIB) + b"\7" * 128 * KIB


@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_magic_ends_the_connection(server, mode):
    for magic in (0, 0x25609513 if mode == EXTENDED else 0x21E41C71, 0x67446698):
        client = enter(server, "disk", mode)
        client.send(client.request(CMD_READ, 0, 0, 512, magic=magic) + bytes(64))
        assert client.is_closed()


# Payloads of extended requests -----------------------------------------------------------------------------------------


def test_a_write_without_the_payload_flag_is_invalid_and_has_no_payload(server):
    client = enter(server, "disk", EXTENDED)
    client.send(client.request(CMD_WRITE, 0, 0, 4096))
    assert client.reply()[1].error == EINVAL
    assert alive(client)


@pytest.mark.parametrize("command", [CMD_READ, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_RESIZE, 4711])
def test_a_payload_that_belongs_to_no_command_is_consumed(server, command):
    client = enter(server, "disk", EXTENDED)
    for length in (1, 4096, 1 * MIB, 40 * MIB):
        client.send(client.request(command, PAYLOAD_LEN, 0, length) + bytes(length))
        assert client.reply()[1].error == EINVAL
    assert alive(client)


def test_a_payload_that_nobody_could_send_ends_the_connection(server):
    for length in (2 ** 32, 2 ** 63, 2 ** 64 - 1):
        client = enter(server, "disk", EXTENDED)
        client.send(client.request(CMD_WRITE, PAYLOAD_LEN, 0, length))
        assert client.is_closed()


# A write on one connection, a flush on another -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_write_is_seen_by_all_connections_when_it_is_answered(server, mode):
    clients = [enter(server, "disk", mode) for _ in range(4)]
    for number, client in enumerate(clients):
        assert client.ask(CMD_WRITE, 4096, payload=pattern(4096, number)).error == 0
        for other in clients:
            assert other.ask(CMD_FLUSH).error == 0
            assert other.ask(CMD_READ, 4096, 4096).data == pattern(4096, number)


# Odd pieces ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_requests_may_come_byte_by_byte(server, mode):
    client = enter(server, "disk", mode)
    flags = PAYLOAD_LEN if mode == EXTENDED else 0
    for request, expected in ((client.request(CMD_WRITE, flags, 0, 40) + pattern(40), b""),
                              (client.request(CMD_READ, 0, 0, 40), pattern(40))):
        for byte in request:
            client.send(bytes([byte]))
        assert client.reply()[1].data == expected


@pytest.mark.parametrize("mode", MODES)
def test_large_and_small_requests_in_one_stream(server, mode):
    client = enter(server, "disk", mode)
    flags = PAYLOAD_LEN if mode == EXTENDED else 0
    for length in (1, 300_000, 65_536, 65_535, 4096, 1_000_000, 28, 32, 262_144, 262_112, 3):
        client.send(client.request(CMD_WRITE, flags, 1000, length) + pattern(length, length % 11) +
                    client.request(CMD_CACHE, 0, 0, 100))
        client.reply(), client.reply()
        assert client.ask(CMD_READ, 1000, length).data == pattern(length, length % 11)
