"""The NBD handshake at the level of bytes: what each option answers, in which order, and with which errors.
Source: NetworkBlockDevice/nbd, doc/proto.md, "Handshake" and "Option types"."""

import re
import struct

import pytest

import nbd_client
from images import KIB, MIB
from nbd_raw import (BLOCK_STATUS_PAYLOAD, CMD_FLUSH, CMD_READ, EINVAL, EXTENDED, HAS_FLAGS, INFO_BLOCK_SIZE,
                     INFO_DESCRIPTION, INFO_EXPORT, INFO_NAME, MODES, MULTI_CONN, OPT_ABORT, OPT_EXPORT_NAME,
                     OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT, OPT_PEEK_EXPORT,
                     OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, READ_ONLY, REP_ACK,
                     REP_ERR_EXT_HEADER_REQD, REP_ERR_INVALID, REP_ERR_POLICY, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN,
                     REP_ERR_UNSUP, REP_SERVER, SEND_CACHE, SEND_DF, SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA, SEND_TRIM,
                     SEND_WRITE_ZEROES, SIMPLE, STRUCTURED, Closed, Raw, context_query, enter, info_query)
from process import ROOT

READ_FLAGS = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_CACHE | MULTI_CONN
WRITE_FLAGS = SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO


@pytest.fixture
def server(qmp, tmp_path):
    """Exports "disk" (writable, 1 MiB, described) and "tape" (read-only, allocation-depth)."""
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=1 * MIB, read_zeroes=True)
    qmp.execute("blockdev-add", driver="null-co", node_name="tape", size=2 * MIB, read_zeroes=True)
    path = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True, description="für Leute")
    nbd_client.export(qmp, "tape", allocation_depth=True)
    return path


def alive(client):
    """Haggling goes on."""
    assert client.result(4711) == REP_ERR_UNSUP
    return True


# Client flags -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [4, 1 << 31, 7, 3 | 1 << 16])
def test_client_flags_that_are_unknown_end_the_session(server, flags):
    assert Raw(server, flags).is_closed()


@pytest.mark.parametrize("flags,zeroes", [(3, False), (1, True), (2, False), (0, True)])
def test_export_name_ends_with_124_zeroes_unless_agreed_otherwise(server, flags, zeroes):
    client = Raw(server, flags)
    assert client.no_zeroes == (not zeroes)
    assert client.export_name("disk") == (1 * MIB, READ_FLAGS | WRITE_FLAGS)
    assert client.ask(CMD_READ, 0, 512).data == bytes(512)


def test_export_name_goes_with_structured_replies_and_contexts(server):
    client = Raw(server)
    assert client.result(OPT_STRUCTURED_REPLY) == REP_ACK
    client.meta_context(OPT_SET_META_CONTEXT, "disk", ["base:allocation"])
    assert client.export_name("disk") == (1 * MIB, READ_FLAGS | WRITE_FLAGS | SEND_DF)
    assert client.ask(CMD_READ, 0, 512).data == bytes(512)
    assert client.ask_status(0, 512) == {"base:allocation": [(512, 3)]}


@pytest.mark.parametrize("option", [OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, 4711])
def test_without_fixed_newstyle_there_is_only_export_name(server, option):
    client = Raw(server, 2)
    client.send_option(option)
    assert client.is_closed()


# Options, one by one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [0, OPT_PEEK_EXPORT, 12, 4711, 2 ** 32 - 1])
def test_unknown_options_are_skipped_whatever_their_length(server, option):
    client = Raw(server)
    for length in (0, 1, 4096, 65536, 65537, 1 << 20):
        assert client.result(option, bytes(length)) == REP_ERR_UNSUP
    assert alive(client)


def test_a_wrong_magic_ends_the_session(server):
    client = Raw(server)
    client.send_option(OPT_LIST, magic=0x1234567812345678)
    assert client.is_closed()


@pytest.mark.parametrize("length", [0, 3, 100_000])
def test_abort_is_acknowledged_and_its_data_are_ignored(server, length):
    client = Raw(server)
    assert client.result(OPT_ABORT, bytes(length)) == REP_ACK
    assert client.is_closed()


def test_list_names_all_exports(server):
    client = Raw(server)
    *servers, end = client.option(OPT_LIST)
    assert end == (REP_ACK, b"")
    texts = [(data[4:4 + struct.unpack(">I", data[:4])[0]], data[4 + struct.unpack(">I", data[:4])[0]:])
             for kind, data in servers if kind == REP_SERVER]
    assert texts == [(b"disk", "für Leute".encode()), (b"tape", b"")]
    assert alive(client)


@pytest.mark.parametrize("option", [OPT_LIST, OPT_STARTTLS, OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS])
def test_options_that_have_no_data_are_invalid_with_some(server, option):
    client = Raw(server)
    for length in (1, 65536, 65537):
        assert client.result(option, bytes(length)) == REP_ERR_INVALID
    assert alive(client)
    assert client.go("disk")[1] & SEND_DF == 0, "what was refused is not agreed on"


def test_starttls_is_against_the_policy_of_a_server_without_credentials(server):
    client = Raw(server)
    assert client.result(OPT_STARTTLS) == REP_ERR_POLICY
    assert alive(client)


def test_an_export_that_does_not_exist_is_unknown(server):
    for name in ("nobody", "dis", "disks", "DISK", "x" * 4096, "\u2603"):
        client = Raw(server)
        for option in (OPT_INFO, OPT_GO):
            assert client.info(name, option=option) == REP_ERR_UNKNOWN
        assert client.result(OPT_STRUCTURED_REPLY) == REP_ACK
        for option in (OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT):
            assert client.meta_context(option, name, ["base:allocation"]) == REP_ERR_UNKNOWN
        assert alive(client)
        client.send_option(OPT_EXPORT_NAME, name.encode())
        assert client.is_closed()


def test_the_empty_name_means_the_only_export(server, qmp):
    client = Raw(server)
    assert client.info("") == REP_ERR_UNKNOWN
    qmp.execute("block-export-del", id="export-tape")
    assert client.info("", [INFO_NAME])[INFO_NAME] == b"disk"
    assert client.go("")[0] == 1 * MIB


@pytest.mark.parametrize("infos", [(), (INFO_NAME,), (INFO_DESCRIPTION,), (INFO_BLOCK_SIZE,), (INFO_EXPORT,),
                                   (INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE, INFO_EXPORT), (4711, 4, 65535),
                                   (INFO_NAME,) * 20])
def test_info_tells_what_was_asked_and_go_tells_the_same(server, infos):
    client = Raw(server)
    told = client.info("disk", infos)
    assert struct.unpack(">QH", told[INFO_EXPORT]) == (1 * MIB, READ_FLAGS | WRITE_FLAGS)
    assert told.get(INFO_NAME) == (b"disk" if INFO_NAME in infos else None)
    assert told.get(INFO_DESCRIPTION) == ("für Leute".encode() if INFO_DESCRIPTION in infos else None)
    assert set(told) <= {INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE}
    assert client.info("disk", infos, OPT_GO) == told
    assert client.ask(CMD_READ, 0, 512).error == 0


def test_go_sends_no_zeroes_even_where_they_were_not_declined(server):
    client = Raw(server, 1)
    client.go("disk")
    assert client.ask(CMD_FLUSH).error == 0


@pytest.mark.parametrize("direct,minimum", [(False, 1), (True, None)])
def test_block_sizes_are_those_of_the_node_for_who_asks(qmp, server, tmp_path, direct, minimum):
    """A client that does not ask need not keep to them."""
    (tmp_path / "disk.raw").write_bytes(bytes(1 * MIB))
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(tmp_path / "disk.raw"),
                cache={"direct": direct})
    nbd_client.export(qmp, "file", writable=True)
    client = Raw(server)
    sizes = struct.unpack(">III", client.info("file", [INFO_BLOCK_SIZE])[INFO_BLOCK_SIZE])
    assert sizes[0] == minimum or (minimum is None and sizes[0] in (1, 512, 4096))
    assert sizes[1] >= max(512, sizes[0]) and sizes[1] & (sizes[1] - 1) == 0
    assert sizes[2] == 32 * MIB
    unasked = client.info("file")
    assert struct.unpack(">III", unasked[INFO_BLOCK_SIZE])[0] == 1
    client.go("file")
    assert client.ask(CMD_READ, 1, 3).data == bytes(3)


def test_block_sizes_are_within_what_the_protocol_allows(qmp, server):
    """The minimum is at most 64 KiB, and the size of the export is a multiple of it; the maximum is that of the node."""
    client = Raw(server)
    for size, align, transfer, told in (
            (1 * MIB, 65536, 0, (65536, 65536, 32 * MIB)), (1 * MIB, 128 * KIB, 0, (65536, 65536, 32 * MIB)),
            (1 * MIB + 1536, 4096, 0, (512, 4096, 32 * MIB)), (1 * MIB + 1, 4096, 0, (1, 4096, 32 * MIB)),
            (0, 4096, 0, (4096, 4096, 32 * MIB)), (1 * MIB, 512, 96 * KIB, (512, 4096, 96 * KIB)),
            (1 * MIB, 512, 1024, (512, 4096, 4096)), (1 * MIB, 512, 64 * MIB, (512, 4096, 32 * MIB))):
        name = f"n-{size}-{align}-{transfer}"
        limits = {"max-transfer": transfer} if transfer else {}
        qmp.execute("blockdev-add", driver="blkdebug", node_name=name, image={"driver": "null-co", "size": size},
                    align=align, **limits)
        nbd_client.export(qmp, name)
        assert struct.unpack(">III", client.info(name, [INFO_BLOCK_SIZE])[INFO_BLOCK_SIZE]) == told
    other = enter(server, "n-1048576-512-98304", STRUCTURED, infos=[INFO_BLOCK_SIZE])
    assert len(other.ask(CMD_READ, 0, 1 * MIB).data) == 1 * MIB, "more than the node takes at once is cut for it"


INFO_OF_WRONG_LENGTH = [
    b"", b"\0\0\0", b"\0\0\0\4", b"\0\0\0\4disk", b"\0\0\0\4disk\0", b"\0\0\0\4disk\0\1", b"\0\0\0\4disk\0\0x",
    b"\0\0\0\4disk\0\1\0\3\0", b"\0\0\0\5disk\0\0", b"\xff\xff\xff\xffdisk\0\0", b"\0\0\0\4di\0k\0\0",
    info_query("n" * 4097), b"\0\0\0\4disk\xff\xff\0\3"]


@pytest.mark.parametrize("option", [OPT_INFO, OPT_GO])
def test_info_of_any_other_length_is_invalid(server, option):
    client = Raw(server)
    for data in INFO_OF_WRONG_LENGTH:
        assert client.result(option, data) == REP_ERR_INVALID
    assert client.go("disk")[0] == 1 * MIB


@pytest.mark.parametrize("option", [OPT_INFO, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT])
def test_more_data_than_anybody_needs_are_too_big(server, option):
    client = Raw(server)
    assert client.result(OPT_STRUCTURED_REPLY) == REP_ACK
    assert client.result(option, bytes(65537)) == REP_ERR_TOO_BIG
    assert client.result(option, bytes(5 * MIB)) == REP_ERR_TOO_BIG
    assert client.go("disk")[0] == 1 * MIB


def test_an_export_name_too_long_for_a_name_ends_the_session(server):
    for data in (b"x" * 4097, b"x" * 100_000, b"di\0k"):
        client = Raw(server)
        client.send_option(OPT_EXPORT_NAME, data)
        assert client.is_closed()


# Transmission flags --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name,flags", [("disk", READ_FLAGS | WRITE_FLAGS), ("tape", READ_FLAGS | READ_ONLY)])
def test_transmission_flags_are_exact(server, mode, name, flags):
    assert enter(server, name, mode).flags == flags | (SEND_DF if mode != SIMPLE else 0)


@pytest.mark.parametrize("mode", [STRUCTURED, EXTENDED])
def test_a_filter_of_contexts_is_offered_with_extended_headers_and_contexts_only(server, mode):
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY if mode == STRUCTURED else OPT_EXTENDED_HEADERS)
    client.meta_context(OPT_SET_META_CONTEXT, "disk", ["base:allocation"])
    for name, offered in (("tape", False), ("disk", mode == EXTENDED)):
        flags = struct.unpack(">QH", client.info(name)[INFO_EXPORT])[1]
        assert bool(flags & BLOCK_STATUS_PAYLOAD) == offered
    assert bool(client.go("disk")[1] & BLOCK_STATUS_PAYLOAD) == (mode == EXTENDED)


# Order ---------------------------------------------------------------------------------------------------------------


def test_structured_replies_do_not_follow_extended_headers(server):
    client = Raw(server)
    assert client.result(OPT_EXTENDED_HEADERS) == REP_ACK
    assert client.result(OPT_STRUCTURED_REPLY) == REP_ERR_EXT_HEADER_REQD
    client.mode = EXTENDED
    client.go("disk")
    assert client.ask(CMD_READ, 0, 512).data == bytes(512)


def test_extended_headers_may_follow_structured_replies(server):
    client = Raw(server)
    assert client.result(OPT_STRUCTURED_REPLY) == REP_ACK
    assert client.result(OPT_EXTENDED_HEADERS) == REP_ACK
    client.go("disk")
    assert client.ask(CMD_READ, 0, 512).data == bytes(512)


def test_what_was_agreed_on_may_be_agreed_on_again(server):
    for option in (OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS):
        client = Raw(server)
        assert client.result(option) == REP_ACK
        assert client.result(option) == REP_ACK
        client.go("disk")
        assert client.ask(CMD_FLUSH).error == 0


def test_export_name_ends_a_session_with_extended_headers(server):
    client = Raw(server)
    client.result(OPT_EXTENDED_HEADERS)
    client.send_option(OPT_EXPORT_NAME, b"disk")
    assert client.is_closed()


def test_many_options_in_a_row(server):
    client = Raw(server)
    for _ in range(500):
        assert client.result(OPT_LIST) == REP_ACK
        assert client.info("nobody") == REP_ERR_UNKNOWN
    assert client.go("disk")[0] == 1 * MIB


def test_options_have_an_end(server):
    """A client that haggles for ever is cut off."""
    client = Raw(server)
    with pytest.raises(Closed):
        for _ in range(20_000):
            client.result(4711)


# Contexts ------------------------------------------------------------------------------------------------------------


def test_contexts_need_chunks(server):
    """To be selected; they may be listed, as QEMU has it."""
    client = Raw(server)
    assert client.meta_context(OPT_LIST_META_CONTEXT, "disk", []).keys() == {"base:allocation"}
    assert client.meta_context(OPT_SET_META_CONTEXT, "disk", ["base:allocation"]) == REP_ERR_INVALID
    client.go("disk")
    assert client.ask(7, 0, 512).error == EINVAL


@pytest.mark.parametrize("mode", [OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS])
@pytest.mark.parametrize("queries,found", [
    ([], {"base:allocation", "qemu:allocation-depth"}),
    (["base:"], {"base:allocation"}),
    (["qemu:"], {"qemu:allocation-depth"}),
    (["qemu:dirty-bitmap:"], set()),
    (["base:allocation"], {"base:allocation"}),
    (["qemu:", "base:"], {"base:allocation", "qemu:allocation-depth"}),
    (["base:", "base:allocation", "base:"], {"base:allocation"}),
    (["base:allocation:", "base", "bas", "", ":", "x-mine:", "base:alloc", "BASE:"], set()),
])
def test_listing_contexts(server, mode, queries, found):
    client = Raw(server)
    client.result(mode)
    assert set(client.meta_context(OPT_LIST_META_CONTEXT, "tape", queries)) == found
    client.go("tape")
    assert client.ask(7, 0, 512).error == EINVAL, "listing selects nothing"


@pytest.mark.parametrize("queries,found", [
    ([], set()),
    (["base:"], set()),
    (["qemu:"], set()),
    (["base:allocation"], {"base:allocation"}),
    (["qemu:allocation-depth", "base:allocation", "base:allocation"], {"base:allocation", "qemu:allocation-depth"}),
    (["qemu:dirty-bitmap:nothing", "x:y", "nbd-server:", "base"], set()),
])
def test_selecting_contexts(server, queries, found):
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY)
    assert set(client.meta_context(OPT_SET_META_CONTEXT, "tape", queries)) == found
    client.go("tape")
    assert (client.ask(7, 0, 512).error == 0) == bool(found)


def test_only_the_last_selection_counts(server):
    for last in (context_query("disk"), context_query("nobody", ["base:allocation"]), b"malformed", bytes(70_000)):
        client = Raw(server)
        client.result(OPT_STRUCTURED_REPLY)
        assert client.meta_context(OPT_SET_META_CONTEXT, "disk", ["base:allocation"])
        client.result(OPT_SET_META_CONTEXT, last)
        client.go("disk")
        assert client.ask(7, 0, 512).error == EINVAL


def test_a_selection_is_for_one_export(server):
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY)
    client.meta_context(OPT_SET_META_CONTEXT, "tape", ["base:allocation"])
    client.go("disk")
    assert client.ask(7, 0, 512).error == EINVAL


def test_a_selection_is_not_for_another_export_of_the_same_name(server, qmp):
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY)
    client.meta_context(OPT_SET_META_CONTEXT, "tape", ["base:allocation"])
    qmp.execute("block-export-del", id="export-tape")
    nbd_client.export(qmp, "tape")
    client.go("tape")
    assert client.ask(7, 0, 512).error == EINVAL


QUERIES_OF_WRONG_LENGTH = [
    b"", b"\0\0\0\4disk", b"\0\0\0\4disk\0\0\0", b"\0\0\0\4disk\0\0\0\1", b"\0\0\0\4disk\0\0\0\0x",
    b"\0\0\0\4disk\0\0\0\1\0\0\0\5base", b"\0\0\0\4disk\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\4disk\0\0\0\1\xff\xff\xff\xff",
    b"\0\0\0\4disk\0\0\0\1\0\0\0\4ba\0e", context_query("disk", ["b" * 4097])]


@pytest.mark.parametrize("option", [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT])
def test_context_queries_of_any_other_length_are_invalid(server, option):
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY)
    for data in QUERIES_OF_WRONG_LENGTH:
        assert client.result(option, data) == REP_ERR_INVALID
    assert client.go("disk")[0] == 1 * MIB


def test_queries_have_a_limit(server):
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY)
    assert client.meta_context(OPT_SET_META_CONTEXT, "disk", ["base:"] * 1025) == REP_ERR_TOO_BIG
    assert client.meta_context(OPT_SET_META_CONTEXT, "disk", ["base:"] * 1023 + ["base:allocation"])


# The table of all of it ----------------------------------------------------------------------------------------------


def test_the_page_about_conformance_names_tests_that_exist():
    page = (ROOT / "docs/nbd-conformance.md").read_text()
    rows = [line.split("|")[-2] for line in page.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    files = [*(ROOT / "tests/integration").glob("test_nbd*.py"), *(ROOT / "tests/unit/export").glob("*.c")]
    there = {name for file in files
             for name in re.findall(r"(?:def |NBD_TEST\(|CO_TEST\(|static void )(\w+)", file.read_text())}
    assert len(named) > 100 and not named - there
