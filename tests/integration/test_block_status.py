"""Block status: the answers are true, complete where promised, and the same however one asks.

QEMU's tools make the images and know their content; reading proves each claim.
"""

import json

import pytest

import nbd_client
from cairnctl import cairnctl
from graphs import add_image
from images import KIB, MIB, content, create, qemu_io, qemu_map, random_chain, rng_of, run, seeds

OFFSET = 192 * KIB  # of the raw window
WINDOW = 512 * KIB


def extents_of(qmp, node, **arguments):
    """All extents of a node, asked for in as many calls as it takes."""
    extents = []
    offset = arguments.pop("offset", 0)
    while offset is not None:
        reply = qmp.execute("query-block-status", node_name=node, offset=offset, **arguments)
        extents += reply["extents"]
        offset = reply.get("next-offset")
        if offset is not None:
            assert offset == extents[-1]["offset"] + extents[-1]["length"]
            if "length" in arguments:
                arguments["length"] -= sum(extent["length"] for extent in reply["extents"])
    return extents


def merged(extents):
    """Neighbours that are alike as one, so that lists can be compared whatever the calls were."""
    result = []
    for extent in extents:
        last = result[-1] if result else None
        if last and all(last.get(key) == extent.get(key) for key in ALIKE) and goes_on(last, extent):
            last["length"] += extent["length"]
        else:
            result.append(dict(extent))
    return result


ALIKE = ("depth", "present", "node", "zero", "data", "compressed", "file")


def goes_on(last, extent):
    if "file-offset" not in last:
        return "file-offset" not in extent
    return extent.get("file-offset") == last["file-offset"] + last["length"]


def shape(extents):
    """Zero and mapping, without the layer: what must be alike above and below filters and raw nodes."""
    keys = ("offset", "length", "zero", "data", "file", "file-offset")
    plain = [{key: extent[key] for key in keys if key in extent} for extent in extents]
    return merged(plain)


def assert_complete(extents, begin, end):
    """In order, without gaps or overlaps, none empty."""
    for extent in extents:
        assert extent["offset"] == begin
        assert extent["length"] > 0
        begin += extent["length"]
    assert begin == end


def filenames(qmp):
    return {node["node-name"]: node["file"] for node in qmp.execute("query-named-block-nodes", flat=True)}


def assert_true(extents, data, files):
    """Reading proves the claims: zero reads as zero, and the mapped bytes are the bytes."""
    for extent in extents:
        piece = data[extent["offset"]:extent["offset"] + extent["length"]]
        if extent["zero"]:
            assert not any(piece), f"{extent} does not read as zero"
        elif extent.get("file"):
            with open(files[extent["file"]], "rb") as file:
                file.seek(extent["file-offset"])
                stored = file.read(extent["length"])
            assert stored.ljust(len(piece), b"\0") == piece, f"{extent} is not stored there"
        assert extent["data"] or extent["zero"], f"{extent} comes from nowhere"


@pytest.fixture
def overlay(tmp_path):
    """Ranges that the overlay decides, that the backing file decides, that nobody does, zeroes of both kinds."""
    base = create(tmp_path / "base.qcow2", 1 * MIB)
    qemu_io(base, "write -P 1 0 256k", "write -P 2 512k 128k", "write -z 704k 64k")
    top = create(tmp_path / "overlay.qcow2", 1 * MIB, backing=base)
    qemu_io(top, "write -P 3 64k 64k", "write -z 128k 64k", "write -P 4 896k 64k")
    return top


@pytest.fixture
def stack(qmp, overlay):
    """The graphs that QEMU gets wrong.

        blkdebug --> raw ------------> overlay --backing--> base
        window (raw with offset, size) ---'
        two filters ---------------------'
    """
    add_image(qmp, overlay, "overlay")
    qmp.execute("blockdev-add", driver="raw", node_name="raw", file="overlay")
    qmp.execute("blockdev-add", driver="blkdebug", node_name="debug", image="raw")
    qmp.execute("blockdev-add", driver="raw", node_name="window", file="overlay", offset=OFFSET, size=WINDOW)
    qmp.execute("blockdev-add", driver="blkdebug", node_name="inner", image="overlay")
    qmp.execute("blockdev-add", driver="blkdebug", node_name="outer", image="inner")
    return qmp


@pytest.mark.parametrize("node", ["overlay", "raw", "debug", "inner", "outer"])
def test_zero_and_mapping_are_the_same_through_raw_and_filters(stack, overlay, node):
    extents = extents_of(stack, node)
    assert_complete(extents, 0, 1 * MIB)
    assert shape(extents) == shape(extents_of(stack, "overlay"))
    assert_true(extents, content(overlay), filenames(stack))
    assert {"base-file" if "base" in extent["file"] else extent["file"] for extent in extents if "file" in extent}


def test_what_lies_in_the_backing_file_is_data(stack):
    for node in ("overlay", "raw", "debug"):
        first = extents_of(stack, node)[0]
        assert (first["offset"], first["length"]) == (0, 64 * KIB)
        assert first["data"] and not first["zero"], f"{node} hides the backing file"


def test_a_window_shifts_the_answer(stack, overlay):
    extents = extents_of(stack, "window")
    assert_complete(extents, 0, WINDOW)
    assert_true(extents, content(overlay)[OFFSET:OFFSET + WINDOW], filenames(stack))
    whole = [{**extent, "offset": extent["offset"] - OFFSET} for extent in
             extents_of(stack, "overlay", offset=OFFSET, length=WINDOW)]
    assert shape(extents) == shape(whole)


def test_raw_decides_all_of_its_bytes(stack):
    """A data child is not part of the overlay chain."""
    for node in ("raw", "debug", "window"):
        for extent in extents_of(stack, node):
            assert extent["present"] and extent["depth"] == 0, f"{node}: {extent}"


def test_filters_are_transparent_to_the_question_of_layers(stack):
    assert merged(extents_of(stack, "outer")) == merged(extents_of(stack, "overlay"))
    assert {extent["node"] for extent in extents_of(stack, "outer") if extent["present"]} >= {"overlay"}


def add_watcher(qmp, driver, overlay, tmp_path):
    """A filter, or several copies that vote, named "watcher", over the overlay."""
    copy = tmp_path / "copy.raw"
    run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", overlay, copy)
    if driver == "copy-before-write":
        options = {"file": "overlay", "target": {"driver": "null-co", "size": 1 * MIB}}
    elif driver == "blklogwrites":
        (tmp_path / "log").touch()
        options = {"file": "overlay", "log": {"driver": "file", "filename": str(tmp_path / "log")}}
    elif driver == "blkverify":
        options = {"raw": "overlay", "test": {"driver": "file", "filename": str(copy)}}
    elif driver == "snapshot-access":
        options = {"file": {"driver": "copy-before-write", "file": "overlay",
                            "target": {"driver": "null-co", "size": 1 * MIB}}}
    else:
        options = {"children": ["overlay", {"driver": "file", "filename": str(copy)}], "vote-threshold": 1}
    qmp.execute("blockdev-add", {"driver": driver, "node-name": "watcher", **options})


@pytest.mark.parametrize("driver", ["copy-before-write", "blklogwrites", "blkverify"])
def test_filters_that_watch_are_transparent(qmp, overlay, tmp_path, driver):
    add_image(qmp, overlay, "overlay")
    expected = extents_of(qmp, "overlay")
    add_watcher(qmp, driver, overlay, tmp_path)
    assert shape(extents_of(qmp, "watcher")) == shape(expected)
    layers = [(extent["offset"], extent["present"], extent.get("node"), extent["depth"]) for extent in expected]
    assert [(extent["offset"], extent["present"], extent.get("node"), extent["depth"])
            for extent in extents_of(qmp, "watcher")] == layers


@pytest.mark.parametrize("driver", ["snapshot-access", "quorum"])
def test_nodes_with_content_of_their_own_decide_all_of_it(qmp, overlay, tmp_path, driver):
    """Zeroes are known; where bytes lie is not told: they may move, or come out of a vote."""
    add_image(qmp, overlay, "overlay")
    expected = [(extent["offset"], extent["length"]) for extent in
                merged([{key: extent[key] for key in ("offset", "length", "zero")} for extent in
                        extents_of(qmp, "overlay")]) if extent["zero"]]
    add_watcher(qmp, driver, overlay, tmp_path)
    extents = extents_of(qmp, "watcher")
    assert_complete(extents, 0, 1 * MIB)
    assert_true(extents, content(overlay), {})
    assert all(extent["depth"] == 0 and extent["node"] == "watcher" and "file" not in extent for extent in extents)
    told = merged([{key: extent[key] for key in ("offset", "length", "zero")} for extent in extents])
    zero = [(extent["offset"], extent["length"]) for extent in told if extent["zero"]]
    assert zero == expected


@pytest.mark.parametrize("node", ["overlay", "raw", "debug", "window", "outer"])
def test_nbd_agrees_with_map_and_content(stack, overlay, tmp_path, node):
    socket = nbd_client.start_server(stack, tmp_path)
    nbd_client.export(stack, node)
    expected = content(overlay)
    if node == "window":
        expected = expected[OFFSET:OFFSET + WINDOW]

    client = nbd_client.connect(socket, node)
    assert nbd_client.read_all(client) == expected
    client.shutdown()

    wanted = []
    for extent in shape(extents_of(stack, node)):
        item = (extent["offset"], extent["length"], not extent["data"], extent["zero"])
        if wanted and wanted[-1][2:] == item[2:]:
            wanted[-1] = (wanted[-1][0], wanted[-1][1] + item[1]) + item[2:]
        else:
            wanted.append(item)
    assert nbd_client.base_allocation(socket, node) == wanted


def test_a_question_about_layers_ends_at_the_base(qmp, overlay):
    add_image(qmp, overlay, "overlay")
    base = backing_of(qmp, "overlay")

    above = extents_of(qmp, "overlay", base=base)
    assert {extent["node"] for extent in above if extent["present"]} == {"overlay"}
    assert [(extent["offset"], extent["length"]) for extent in merged(above) if extent["present"]] \
        == [(64 * KIB, 64 * KIB), (128 * KIB, 64 * KIB), (896 * KIB, 64 * KIB)]

    including = extents_of(qmp, "overlay", include_base=True, base=base)
    assert {extent["node"] for extent in including if extent["present"]} == {"overlay", base}


def backing_of(qmp, name):
    for node in qmp.execute("query-named-block-nodes", flat=True):
        if node["node-name"] == name:
            return next(child["node-name"] for child in node["children"] if child["child"] == "backing")
    raise AssertionError(f"no node {name}")


def test_only_what_is_asked_is_answered(qmp, overlay):
    add_image(qmp, overlay, "overlay")
    members = {"allocation": {"depth", "present", "node"}, "zero": {"zero"},
               "map": {"data", "compressed", "file", "file-offset"}}
    for question, allowed in members.items():
        for extent in extents_of(qmp, "overlay", want=[question]):
            assert set(extent) - {"offset", "length"} <= allowed, extent


def test_a_small_number_of_extents_gives_the_same_answer(stack):
    for node in ("overlay", "raw", "window", "outer"):
        whole = extents_of(stack, node)
        assert merged(extents_of(stack, node, max_extents=1)) == whole == merged(whole)


def test_errors_name_the_node_and_the_range(qmp, overlay):
    add_image(qmp, overlay, "overlay")
    error = qmp.error("query-block-status", node_name="nobody")
    assert error.error_class == "DeviceNotFound" and "nobody" in error.desc
    for arguments in ({"offset": 1 * MIB + 1}, {"offset": 0, "length": 1 * MIB + 1}, {"offset": 2 ** 63},
                      {"offset": 512, "length": 2 ** 64 - 1}):
        assert qmp.error("query-block-status", {"node-name": "overlay", **arguments}).error_class == "GenericError"
    assert "nobody" in qmp.error("query-block-status", node_name="overlay", base="nobody").desc
    qmp.execute("blockdev-add", driver="null-co", node_name="stranger", size=1 * MIB)
    assert "stranger" in qmp.error("query-block-status", node_name="overlay", base="stranger").desc
    for count in (0, 65537):
        assert "max-extents" in qmp.error("query-block-status", {"node-name": "overlay", "max-extents": count}).desc


def test_the_command_line_prints_what_qemu_img_prints(daemon, qmp, overlay):
    """Same form and, where the rules of both agree, the same values."""
    add_image(qmp, overlay, "overlay")
    text = cairnctl(daemon.socket, "map", "--output=json", "overlay").stdout
    assert text == json_form(qemu_map(overlay))
    assert json.loads(text) == qemu_map(overlay)


def json_form(extents):
    """As `qemu-img map --output=json` writes it, byte for byte."""
    lines = ["{ " + ", ".join(f'"{key}": {json.dumps(value)}' for key, value in extent.items()) + "}"
             for extent in extents]
    return "[" + ",\n".join(lines) + "]\n"


@pytest.mark.parametrize("seed", seeds(12))
def test_random_chains(qmp, tmp_path, seed):
    """For every extent of a random chain, reading proves the claim; asking in pieces gives the same answer."""
    rng = rng_of(seed)
    paths = random_chain(rng, tmp_path, depth=rng.randrange(1, 5))
    data = content(paths[0])
    add_image(qmp, paths[0], "top")
    qmp.execute("blockdev-add", driver="raw", node_name="raw", file="top")
    names = filenames(qmp)

    extents = extents_of(qmp, "top")
    assert_complete(extents, 0, len(data))
    assert_true(extents, data, names)
    assert_layers(extents, paths)
    assert shape(extents_of(qmp, "raw")) == shape(extents)
    assert merged(extents_of(qmp, "top", max_extents=rng.randrange(1, 4))) == extents
    for _ in range(10):
        offset = rng.randrange(0, len(data))
        length = rng.randrange(1, len(data) - offset + 1)
        part = extents_of(qmp, "top", offset=offset, length=length)
        assert_complete(part, offset, offset + length)
        assert merged(part) == cut(extents, offset, length)


def cut(extents, offset, length):
    result = []
    for extent in extents:
        begin = max(extent["offset"], offset)
        end = min(extent["offset"] + extent["length"], offset + length)
        if begin < end:
            part = {**extent, "offset": begin, "length": end - begin}
            if "file-offset" in part:
                part["file-offset"] += begin - extent["offset"]
            result.append(part)
    return result


def assert_layers(extents, paths):
    """Layer and zero as QEMU has them, where both have the same rules: QEMU counts what lies behind the end of a short
    backing file to nobody."""
    theirs = qemu_map(paths[0])
    for extent in extents:
        if not extent["present"]:
            continue
        for other in theirs:
            begin = max(extent["offset"], other["start"])
            end = min(extent["offset"] + extent["length"], other["start"] + other["length"])
            if begin < end:
                assert other["present"], f"{extent} is in no layer: {other}"
                assert extent["depth"] == other["depth"], f"{extent} is in another layer: {other}"
                assert extent["zero"] or not other["zero"], f"{extent} is zero: {other}"


def test_compressed_clusters_have_no_place(qmp, tmp_path):
    path = create(tmp_path / "a.qcow2", 1 * MIB)
    qemu_io(path, "write -c -P 5 64k 64k")
    add_image(qmp, path, "a")
    compressed = [extent for extent in extents_of(qmp, "a") if extent["compressed"]]
    assert [(extent["offset"], extent["length"], extent["data"]) for extent in compressed] == [(64 * KIB, 64 * KIB, True)]
    assert "file" not in compressed[0] and "file-offset" not in compressed[0]


def test_a_hole_of_the_file_is_zero_through_a_preallocated_cluster(qmp, tmp_path):
    path = create(tmp_path / "a.qcow2", 1 * MIB, preallocation="metadata")
    add_image(qmp, path, "a")
    extents = extents_of(qmp, "a")
    assert all(extent["zero"] and extent["data"] and extent["present"] for extent in extents)


def test_a_raw_file_ends_where_it_ends(qmp, tmp_path):
    """The size is no multiple of a sector."""
    path = tmp_path / "odd.raw"
    path.write_bytes(b"x" * 1000)
    qmp.execute("blockdev-add", driver="file", node_name="odd", filename=str(path))
    extents = extents_of(qmp, "odd")
    assert_complete(extents, 0, 1000)
    assert [extent["data"] for extent in extents] == [True]


def test_a_hundred_layers(qmp, tmp_path):
    """The bottom layer is found through all of them."""
    path = create(tmp_path / "0.qcow2", 1 * MIB)
    qemu_io(path, "write -P 9 0 64k")
    for level in range(1, 100):
        path = create(tmp_path / f"{level}.qcow2", 1 * MIB, backing=path)
    add_image(qmp, path, "top")
    first = extents_of(qmp, "top")[0]
    assert (first["length"], first["depth"], first["data"]) == (64 * KIB, 99, True)
