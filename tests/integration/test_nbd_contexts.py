"""NBD block status: base:allocation, qemu:allocation-depth and dirty bitmaps, as raw bytes, and as nbdinfo and libnbd see
them. Sources: NetworkBlockDevice/nbd, doc/proto.md, "Metadata querying"; QEMU, docs/interop/nbd.txt."""

import json
import struct

import pytest

import nbd_client
from images import KIB, MIB, create, qemu_io, run
from nbd_raw import (CMD_BLOCK_STATUS, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, EXTENDED, INFO_BLOCK_SIZE,
                     OPT_EXTENDED_HEADERS, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_STRUCTURED_REPLY, PAYLOAD_LEN,
                     REQ_ONE, STRUCTURED, Raw, enter)

SIZE = 64 * MIB
HOLE, ZERO = 1, 2
DIRTY = 1
BASE, DEPTH = "base:allocation", "qemu:allocation-depth"
CHUNKS = [STRUCTURED, EXTENDED]


def dirty(name):
    return f"qemu:dirty-bitmap:{name}"


@pytest.fixture
def server(qmp, tmp_path):
    """ "disk": a qcow2 overlay of 64 MiB over a base of 32 MiB; both with some data."""
    base = create(tmp_path / "base.qcow2", 32 * MIB)
    qemu_io(base, "write -P 1 0 4m")
    path = create(tmp_path / "disk.qcow2", SIZE, backing=base)
    qemu_io(path, "write -P 2 2m 1m", "write -P 2 40m 64k")
    qmp.execute("blockdev-add", driver="qcow2", node_name="base", file={"driver": "file", "filename": str(base)})
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap", backing="base",
                file={"driver": "file", "filename": str(path)})
    return nbd_client.start_server(qmp, tmp_path)


def add_bitmap(qmp, name, node="disk", **options):
    qmp.execute("block-dirty-bitmap-add", node=node, name=name, **options)


def nbdinfo_map(server, context, export="disk"):
    text = run("nbdinfo", "--json", f"--map={context}", nbd_client.uri(server, export)).stdout
    return [(extent["offset"], extent["length"], extent["type"]) for extent in json.loads(text)]


# base:allocation and qemu:allocation-depth ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHUNKS)
def test_allocation_and_depth(qmp, server, mode):
    nbd_client.export(qmp, "disk", allocation_depth=True)
    client = enter(server, "disk", mode, [BASE, DEPTH])
    assert client.ask_status(0, SIZE) == {
        BASE: [(4 * MIB, 0), (36 * MIB, HOLE | ZERO), (64 * KIB, 0), (24 * MIB - 64 * KIB, HOLE | ZERO)],
        DEPTH: [(2 * MIB, 2), (1 * MIB, 1), (1 * MIB, 2), (36 * MIB, 0), (64 * KIB, 1), (24 * MIB - 64 * KIB, 0)]}
    assert client.ask_status(3 * MIB - 512, 1024) == {BASE: [(1024, 0)], DEPTH: [(512, 1), (512, 2)]}
    assert client.ask_status(SIZE - 1, 1) == {BASE: [(1, HOLE | ZERO)], DEPTH: [(1, 0)]}


@pytest.mark.parametrize("mode", CHUNKS)
def test_one_extent_for_who_asks_for_one(qmp, server, mode):
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["b"])
    client = enter(server, "disk", mode, [BASE, DEPTH, dirty("b")])
    client.ask(CMD_WRITE, 1 * MIB, payload=bytes(64 * KIB))
    assert client.ask_status(0, SIZE, flags=REQ_ONE) == {BASE: [(4 * MIB, 0)], DEPTH: [(1 * MIB, 2)],
                                                        dirty("b"): [(1 * MIB, 0)]}
    assert client.ask_status(1 * MIB + 512, 4096, flags=REQ_ONE) == {BASE: [(4096, 0)], DEPTH: [(4096, 1)],
                                                                    dirty("b"): [(4096, DIRTY)]}


def test_extents_are_multiples_of_the_block_that_was_advertised(qmp, tmp_path):
    """What is data or dirty in part of a block is so in all of it."""
    with open(tmp_path / "disk.raw", "wb") as file:
        file.truncate(1 * MIB)
        file.seek(4 * KIB)
        file.write(b"x" * 4 * KIB)
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(tmp_path / "disk.raw"))
    qmp.execute("blockdev-add", driver="blkdebug", node_name="disk", image="file", align=64 * KIB)
    add_bitmap(qmp, "b", granularity=512)
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["b"])
    client = enter(server, "disk", EXTENDED, [BASE, dirty("b")], [INFO_BLOCK_SIZE])
    client.ask(CMD_WRITE, 512 * KIB + 512, payload=b"x" * 512)
    expected = [(64 * KIB, 0), (448 * KIB, 3), (64 * KIB, 0), (448 * KIB, 3)]
    assert client.ask_status(0, 1 * MIB) == {
        BASE: expected, dirty("b"): [(512 * KIB, 0), (64 * KIB, DIRTY), (448 * KIB, 0)]}
    assert client.ask_status(64 * KIB, 64 * KIB, flags=REQ_ONE) == {BASE: [(64 * KIB, 3)], dirty("b"): [(64 * KIB, 0)]}


def test_extents_stay_in_blocks_when_the_graph_changes(qmp, tmp_path):
    """A node of finer blocks is put on top: a client goes by what it was told."""
    (tmp_path / "disk.raw").write_bytes(bytes(1 * MIB))
    qmp.execute("blockdev-add", driver="blkdebug", node_name="disk", align=64 * KIB,
                image={"driver": "file", "filename": str(tmp_path / "disk.raw")})
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True)
    client = enter(server, "disk", STRUCTURED, [BASE, DEPTH], [INFO_BLOCK_SIZE])
    top = create(tmp_path / "top.qcow2", 1 * MIB, cluster_size=4096)
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", backing=None,
                file={"driver": "file", "filename": str(top)})
    qmp.execute("blockdev-snapshot", node="disk", overlay="top")
    client.ask(CMD_WRITE_ZEROES, 0, 1 * MIB)
    for offset in (68 * KIB, 124 * KIB, 1020 * KIB):
        client.ask(CMD_WRITE, offset, payload=b"x" * 4 * KIB)
    assert client.ask_status(0, 1 * MIB)[BASE] == [(64 * KIB, 3), (64 * KIB, 0), (832 * KIB, 3), (64 * KIB, 0)]
    assert client.ask_status(68 * KIB, 256 * KIB)[BASE] == [(60 * KIB, 0), (196 * KIB, 3)]
    assert client.ask_status(64 * KIB, 128 * KIB, flags=REQ_ONE) == {BASE: [(64 * KIB, 0)], DEPTH: [(128 * KIB, 1)]}


def test_depth_is_offered_only_if_the_export_says_so(qmp, server):
    nbd_client.export(qmp, "disk")
    client = Raw(server)
    client.result(OPT_STRUCTURED_REPLY)
    assert set(client.meta_context(OPT_LIST_META_CONTEXT, "disk", [])) == {BASE}
    assert client.meta_context(OPT_SET_META_CONTEXT, "disk", [DEPTH]) == {}


def test_nbdinfo_sees_the_same(qmp, server):
    nbd_client.export(qmp, "disk", allocation_depth=True)
    assert nbdinfo_map(server, BASE) == [(0, 4 * MIB, 0), (4 * MIB, 36 * MIB, 3), (40 * MIB, 64 * KIB, 0),
                                         (40 * MIB + 64 * KIB, 24 * MIB - 64 * KIB, 3)]
    assert nbdinfo_map(server, DEPTH) == [(0, 2 * MIB, 2), (2 * MIB, 1 * MIB, 1), (3 * MIB, 1 * MIB, 2),
                                          (4 * MIB, 36 * MIB, 0), (40 * MIB, 64 * KIB, 1),
                                          (40 * MIB + 64 * KIB, 24 * MIB - 64 * KIB, 0)]


@pytest.mark.parametrize("mode", CHUNKS)
def test_lengths_beyond_32_bits(qmp, tmp_path, mode):
    """One extent of 1 TiB with extended headers; what fits into a length without."""
    qmp.execute("blockdev-add", driver="null-co", node_name="huge", size=1 << 40, read_zeroes=True)
    add_bitmap(qmp, "b", node="huge", granularity=65536)
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "huge", writable=True, bitmaps=["b"])
    client = enter(server, "huge", mode, [BASE, dirty("b")])
    if mode == EXTENDED:
        assert client.ask(CMD_WRITE_ZEROES, 0, 1 << 39).error == 0
        assert client.ask_status(0, 1 << 40) == {BASE: [(1 << 40, HOLE | ZERO)],
                                                dirty("b"): [(1 << 39, DIRTY), (1 << 39, 0)]}
    else:
        assert client.ask_status(0, 2 ** 32 - 1) == {BASE: [(2 ** 32 - 1, HOLE | ZERO)], dirty("b"): [(2 ** 32 - 1, 0)]}


@pytest.mark.parametrize("mode", CHUNKS)
def test_an_answer_has_as_many_extents_as_fit(qmp, tmp_path, mode):
    """The client goes on where it ends."""
    with open(tmp_path / "disk.raw", "wb") as file:
        file.truncate(512 * MIB)
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(tmp_path / "disk.raw"))
    for name in ("a", "b", "c", "d", "e", "f", "g"):
        add_bitmap(qmp, name, granularity=512)
    server = nbd_client.start_server(qmp, tmp_path)
    names = [dirty(name) for name in "abcdefg"]
    nbd_client.export(qmp, "disk", writable=True, bitmaps=list("abcdefg"))
    client = enter(server, "disk", mode, names)
    for index in range(10_000):
        client.send(client.request(CMD_WRITE, PAYLOAD_LEN if mode == EXTENDED else 0, index * 1024, 512) + bytes(512))
        if index % 100 == 99:
            for _ in range(100):
                assert client.reply()[1].error == 0
    status = client.ask_status(0, 512 * MIB)
    assert set(status) == set(names)
    for name in names:
        assert 1000 < len(status[name]) < 20_000
        at, extents = 0, []
        while at < 512 * MIB:
            piece = client.ask_status(at, 512 * MIB - at)[name]
            at += sum(length for length, _ in piece)
            extents += piece
        assert extents == [(512, 1), (512, 0)] * 9_999 + [(512, 1), (512 * MIB - 9_999 * 1024 - 512, 0)]
        break


def test_many_bitmaps(qmp, tmp_path):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=1 * MIB)
    server = nbd_client.start_server(qmp, tmp_path)
    for index in range(63):
        add_bitmap(qmp, f"b{index}")
    assert "at most 62" in qmp.error("block-export-add", type="nbd", id="e", node_name="disk", writable=True,
                                     bitmaps=[f"b{index}" for index in range(63)]).desc
    names = [f"b{index}" for index in range(62)]
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=names)
    client = enter(server, "disk", EXTENDED, [BASE, DEPTH] + [dirty(name) for name in names])
    client.ask(CMD_WRITE, 0, payload=bytes(512))
    status = client.ask_status(0, 1 * MIB)
    assert len(status) == 64
    assert all(status[dirty(name)] == [(64 * KIB, DIRTY), (1 * MIB - 64 * KIB, 0)] for name in names)


# Filters of contexts -------------------------------------------------------------------------------------------------


def test_a_payload_says_which_contexts_are_asked_about(qmp, server):
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["b"])
    client = enter(server, "disk", EXTENDED, [BASE, DEPTH, dirty("b")])
    ids = {name: number for number, name in client.contexts.items()}
    for wanted in ([BASE], [DEPTH], [dirty("b")], [dirty("b"), BASE], [DEPTH, dirty("b"), BASE]):
        status = client.ask_status(0, SIZE, only=[ids[name] for name in wanted])
        assert set(status) == set(wanted)
    assert client.ask_status(2 * MIB, 1 * MIB, only=[ids[DEPTH]]) == {DEPTH: [(1 * MIB, 1)]}
    assert client.ask_status(0, SIZE, only=[ids[BASE]], flags=REQ_ONE) == {BASE: [(4 * MIB, 0)]}


def test_payloads_that_ask_for_nothing_are_consumed_and_refused(qmp, server):
    nbd_client.export(qmp, "disk", allocation_depth=True)
    client = enter(server, "disk", EXTENDED, [BASE])
    whole = struct.pack(">Q", SIZE)
    for payload in (b"x", whole, whole[:7], whole + b"\0", whole + b"\0\0\0", whole + bytes(5), whole + bytes(8),
                    whole + struct.pack(">I", 1), whole + struct.pack(">II", 0, 7), whole + b"\xff\xff\xff\xff",
                    struct.pack(">QI", 0, 0), struct.pack(">QI", SIZE + 1, 0), struct.pack(">QI", 2 ** 64 - 1, 0),
                    whole + bytes(4 * 65), whole + bytes(4096), whole + bytes(1 * MIB)):
        client.send(client.request(CMD_BLOCK_STATUS, PAYLOAD_LEN, 0, len(payload)) + payload)
        assert client.reply()[1].error == EINVAL
    assert client.ask_status(0, 4 * MIB) == {BASE: [(4 * MIB, 0)]}


def test_a_filter_without_contexts_is_refused(qmp, server):
    nbd_client.export(qmp, "disk")
    client = enter(server, "disk", EXTENDED)
    client.send(client.request(CMD_BLOCK_STATUS, PAYLOAD_LEN, 0, 12) + struct.pack(">QI", SIZE, 0))
    assert client.reply()[1].error == EINVAL


# Dirty bitmaps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", CHUNKS)
def test_a_bitmap_says_what_was_written(qmp, server, mode):
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["b"])
    client = enter(server, "disk", mode, [dirty("b")])
    context = dirty("b")
    assert client.ask_status(0, SIZE) == {context: [(SIZE, 0)]}
    client.ask(CMD_WRITE, 1 * MIB + 1, payload=b"x")
    client.ask(CMD_WRITE_ZEROES, 10 * MIB, 1 * MIB)
    client.ask(CMD_TRIM, 20 * MIB, 1 * MIB)
    client.ask(CMD_WRITE, SIZE - 1, payload=b"x")
    assert client.ask_status(0, SIZE) == {context: [
        (1 * MIB, 0), (64 * KIB, 1), (9 * MIB - 64 * KIB, 0), (1 * MIB, 1), (9 * MIB, 0), (1 * MIB, 1),
        (43 * MIB - 64 * KIB, 0), (64 * KIB, 1)]}
    assert client.ask_status(1 * MIB + 100, 64 * KIB) == {context: [(64 * KIB - 100, 1), (100, 0)]}
    assert nbdinfo_map(server, context) == [
        (0, 1 * MIB, 0), (1 * MIB, 64 * KIB, 1), (1 * MIB + 64 * KIB, 9 * MIB - 64 * KIB, 0), (10 * MIB, 1 * MIB, 1),
        (11 * MIB, 9 * MIB, 0), (20 * MIB, 1 * MIB, 1), (21 * MIB, 43 * MIB - 64 * KIB, 0), (SIZE - 64 * KIB, 64 * KIB, 1)]


def test_several_bitmaps_at_once(qmp, server):
    add_bitmap(qmp, "fine", granularity=512)
    add_bitmap(qmp, "coarse", granularity=1 * MIB)
    add_bitmap(qmp, "stopped", disabled=True)
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["fine", "coarse", "stopped"])
    client = enter(server, "disk", STRUCTURED, [dirty("fine"), dirty("coarse"), dirty("stopped")])
    client.ask(CMD_WRITE, 1 * MIB + 512, payload=bytes(512))
    assert client.ask_status(0, 4 * MIB) == {
        dirty("fine"): [(1 * MIB + 512, 0), (512, 1), (3 * MIB - 1024, 0)],
        dirty("coarse"): [(1 * MIB, 0), (1 * MIB, 1), (2 * MIB, 0)], dirty("stopped"): [(4 * MIB, 0)]}


def test_libnbd_gets_all_contexts_of_one_request(qmp, server):
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["b"])
    client = nbd_client.connect(server, "disk", [BASE, DEPTH, dirty("b")])
    client.pwrite(b"x" * 512, 0)
    seen = {}
    client.block_status(SIZE, 0, lambda context, offset, entries, error: seen.setdefault(context, entries) and 0)
    assert set(seen) == {BASE, DEPTH, dirty("b")}
    assert seen[dirty("b")] == [64 * KIB, 1, SIZE - 64 * KIB, 0]
    client.shutdown()


def test_nbdinfo_lists_bitmaps(qmp, server):
    add_bitmap(qmp, "b")
    add_bitmap(qmp, "with:colon")
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["b", "with:colon"])
    exports = json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={server}").stdout)["exports"]
    assert set(exports[0]["contexts"]) == {BASE, DEPTH, dirty("b"), dirty("with:colon")}


def test_listing_bitmaps(qmp, server):
    add_bitmap(qmp, "b")
    add_bitmap(qmp, "with:colon")
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["with:colon", "b"])
    client = Raw(server)
    client.result(OPT_EXTENDED_HEADERS)
    both = {dirty("b"), dirty("with:colon")}
    for queries, found in (([], {BASE, DEPTH} | both), (["qemu:"], {DEPTH} | both), (["qemu:dirty-bitmap:"], both),
                           ([dirty("b")], {dirty("b")}), ([dirty("with:")], set()), ([dirty("c")], set()),
                           (["base:", dirty("with:colon")], {BASE, dirty("with:colon")})):
        assert set(client.meta_context(OPT_LIST_META_CONTEXT, "disk", queries)) == found


# Which bitmaps can be exported ----------------------------------------------------------------------------------------


def refused(qmp, **options):
    return qmp.error("block-export-add", type="nbd", id="e", node_name="disk", **options).desc


def test_bitmaps_that_are_not_there(qmp, server):
    add_bitmap(qmp, "b")
    assert refused(qmp, bitmaps=["c"], writable=True) == "Bitmap 'c' is not found"
    assert refused(qmp, bitmaps=["b", "c"], writable=True) == "Bitmap 'c' is not found"
    assert refused(qmp, bitmaps=[{"node": "nobody", "name": "b"}], writable=True) == "Node 'nobody' not found"
    assert refused(qmp, bitmaps=[{"node": "base", "name": "b"}], writable=True) == "Dirty bitmap 'b' not found"
    assert "in use" in refused(qmp, bitmaps=["b", "b"], writable=True)
    add_bitmap(qmp, "b", node="base", disabled=True)
    assert "two bitmaps" in refused(qmp, bitmaps=["b", {"node": "base", "name": "b"}], writable=True)
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["b"])  # nothing was left busy


def test_a_recording_bitmap_does_not_go_with_a_read_only_export(qmp, server):
    add_bitmap(qmp, "b")
    assert refused(qmp, bitmaps=["b"]) == "Enabled bitmap 'b' incompatible with readonly export"
    qmp.execute("block-dirty-bitmap-disable", node="disk", name="b")
    nbd_client.export(qmp, "disk", bitmaps=["b"])
    assert enter(server, "disk", EXTENDED, [dirty("b")]).ask_status(0, SIZE) == {dirty("b"): [(SIZE, 0)]}


def test_an_exported_bitmap_is_busy(qmp, server):
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["b"])
    busy = "Bitmap 'b' is currently in use by another operation and cannot be used"
    for command in ("remove", "clear", "disable", "enable"):
        assert qmp.error(f"block-dirty-bitmap-{command}", node="disk", name="b").desc == busy
    assert refused(qmp, name="again", bitmaps=["b"], writable=True) == busy
    qmp.execute("block-export-del", id="export-disk")
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="b")


def test_a_bitmap_is_found_in_the_layers_below(qmp, server):
    qmp.execute("blockdev-add", driver="blkdebug", node_name="filter", image="disk")
    add_bitmap(qmp, "low", node="base", granularity=64 * KIB, disabled=True)
    add_bitmap(qmp, "mid", node="disk")
    qmp.execute("block-export-add", type="nbd", id="e", node_name="filter", writable=True, name="disk",
                bitmaps=["low", "mid"])
    client = enter(server, "disk", STRUCTURED, [dirty("low"), dirty("mid")])
    client.ask(CMD_WRITE, 0, payload=b"x")
    assert client.ask_status(0, SIZE) == {dirty("low"): [(SIZE, 0)], dirty("mid"): [(64 * KIB, 1), (SIZE - 64 * KIB, 0)]}


def test_a_bitmap_of_another_node(qmp, server):
    """It may be shorter than the export; and its node stays while it is exported."""
    qmp.execute("blockdev-add", driver="null-co", node_name="other", size=1 * MIB)
    add_bitmap(qmp, "b", node="other")
    nbd_client.export(qmp, "disk", bitmaps=[{"node": "other", "name": "b"}])
    qmp.execute("block-export-add", type="nbd", id="o", node_name="other", writable=True)
    enter(server, "other").ask(CMD_WRITE, 1 * MIB - 512, payload=bytes(512))
    client = enter(server, "disk", EXTENDED, [dirty("b")])
    assert client.ask_status(0, SIZE) == {dirty("b"): [(960 * KIB, 0), (64 * KIB, 1), (63 * MIB, 0)]}
    assert client.ask_status(2 * MIB, 1 * MIB) == {dirty("b"): [(1 * MIB, 0)]}
    qmp.execute("block-export-del", id="o", mode="hard")
    assert "a bitmap of export 'export-disk'" in qmp.error("blockdev-del", node_name="other").desc
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("blockdev-del", node_name="other")


def test_an_incremental_backup_reads_what_is_dirty(qmp, server):
    """As backup programs do it: the map of the bitmap, and reads of what is dirty."""
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["b"])
    client = nbd_client.connect(server, "disk", [dirty("b")])
    before = bytearray(nbd_client.read_all(client))
    for index in range(20):
        client.pwrite(bytes([index + 1]) * 5000, index * 3_000_017)
    for offset, length, kind in nbdinfo_map(server, dirty("b")):
        if kind == DIRTY:
            for at in range(offset, offset + length, 1 * MIB):
                piece = min(1 * MIB, offset + length - at)
                before[at:at + piece] = client.pread(piece, at)
    assert bytes(before) == nbd_client.read_all(client)
    client.shutdown()


def test_an_overlay_may_be_put_on_a_node_whose_bitmap_is_exported(qmp, server, tmp_path):
    """The bitmap stays that of the node below, which is written no more; the export shows the overlay."""
    add_bitmap(qmp, "b")
    nbd_client.export(qmp, "disk", writable=True, allocation_depth=True, bitmaps=["b"])
    client = enter(server, "disk", EXTENDED, [DEPTH, dirty("b")])
    client.ask(CMD_WRITE, 0, payload=b"x")
    top = create(tmp_path / "top.qcow2", SIZE)
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", backing=None,
                file={"driver": "file", "filename": str(top)})
    qmp.execute("blockdev-snapshot", node="disk", overlay="top")
    client.ask(CMD_WRITE, 1 * MIB, payload=b"x")
    expected = {DEPTH: [(64 * KIB, 2), (1 * MIB - 64 * KIB, 3), (64 * KIB, 1)],
                dirty("b"): [(64 * KIB, 1), (1 * MIB, 0)]}
    assert client.ask_status(0, 1 * MIB + 64 * KIB) == expected
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "export-disk")
    qmp.execute("blockdev-del", node_name="top")
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="b")
    qmp.execute("blockdev-del", node_name="disk")


def test_a_node_whose_bitmap_is_exported_may_grow(qmp, tmp_path):
    """Clients that come later see the new length, in the bitmap too; those that are there see what they were told."""
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 * MIB))
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(path))
    add_bitmap(qmp, "b")
    server = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True, bitmaps=["b"])
    early = enter(server, "disk", STRUCTURED, [dirty("b")])
    qmp.execute("block_resize", node_name="disk", size=2 * MIB)
    late = enter(server, "disk", STRUCTURED, [dirty("b")])
    late.ask(CMD_WRITE, 2 * MIB - 1, payload=b"x")
    early.ask(CMD_WRITE, 0, payload=b"x")
    assert late.ask_status(0, 2 * MIB) == {dirty("b"): [(64 * KIB, 1), (2 * MIB - 128 * KIB, 0), (64 * KIB, 1)]}
    assert early.ask_status(0, 1 * MIB) == {dirty("b"): [(64 * KIB, 1), (1 * MIB - 64 * KIB, 0)]}
    assert early.ask(CMD_BLOCK_STATUS, 0, 2 * MIB).error == EINVAL
    qmp.execute("block_resize", node_name="disk", size=512 * KIB)
    assert late.ask(CMD_BLOCK_STATUS, 0, 512 * KIB).error == 0
    late.ask(CMD_BLOCK_STATUS, 1 * MIB, 512 * KIB)  # an error or clean: anything but the end
    assert late.ask_status(0, 512 * KIB) == {dirty("b"): [(64 * KIB, 1), (448 * KIB, 0)]}
