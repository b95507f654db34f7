"""Bad input: each mistake gets an error that names the path and the value, and leaves nothing behind.

The daemon of these tests is looked at afterwards: it serves on, has no nodes, and (with AddressSanitizer) no leaks.
"""

import os
import struct

import pytest

from images import KIB, MIB, create, qemu_io, run
from process import BUILD
from qmp import QMPError

FILE = {"driver": "file", "filename": "/nonexistent"}


@pytest.fixture
def bad(qmp):
    """Sends a blockdev-add that must fail; returns the description. Nothing may be left of it."""

    def add(**arguments):
        before = qmp.execute("query-named-block-nodes", flat=True)
        error = qmp.error("blockdev-add", arguments)
        assert qmp.execute("query-named-block-nodes", flat=True) == before
        assert error.error_class == "GenericError"
        return error.desc

    return add


# What the schema alone can tell ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, words", [
    ({"driver": "qcow3", "node-name": "a"}, ["driver", "qcow3"]),
    ({"driver": "fil", "node-name": "a", "filename": "x"}, ["driver", "fil", "file"]),
    ({"driver": 7, "node-name": "a"}, ["driver"]),
    ({"driver": None, "node-name": "a"}, ["driver"]),
    ({"node-name": "a"}, ["driver"]),
    ({}, ["driver"]),
    ({"driver": "file", "node-name": "a"}, ["filename"]),
    ({"driver": "file", "node-name": "a", "filename": 5}, ["filename"]),
    ({"driver": "file", "node-name": "a", "filename": ["x"]}, ["filename"]),
    ({"driver": "file", "node-name": "a", "filename": "x", "color": "red"}, ["color"]),
    ({"driver": "file", "node-name": "a", "filename": "x", "read-only": "yes"}, ["read-only"]),
    ({"driver": "file", "node-name": "a", "filename": "x", "cache": {"direct": 1}}, ["cache.direct"]),
    ({"driver": "file", "node-name": "a", "filename": "x", "cache": {"indirect": True}}, ["cache.indirect"]),
    ({"driver": "file", "node-name": "a", "filename": "x", "cache": []}, ["cache"]),
    ({"driver": "file", "node-name": "a", "filename": "x", "aio": "fast"}, ["aio", "fast"]),
    ({"driver": "qcow2", "node-name": "a"}, ["file"]),
    ({"driver": "qcow2", "node-name": "a", "file": 1}, ["file"]),
    ({"driver": "qcow2", "node-name": "a", "file": {"driver": "file"}}, ["file.filename"]),
    ({"driver": "qcow2", "node-name": "a", "file": {**FILE, "driver": "flie"}}, ["file.driver", "flie"]),
    ({"driver": "raw", "node-name": "a", "file": FILE, "offset": "0"}, ["offset"]),
    ({"driver": "raw", "node-name": "a", "file": FILE, "size": 1.5}, ["size"]),
    ({"driver": "blkdebug", "node-name": "a", "image": FILE, "inject-error": [{"event": "never"}]},
     ["inject-error[0].event", "never"]),
])
def test_what_the_interface_does_not_allow(bad, arguments, words):
    message = bad(**arguments)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("command, arguments, message", [
    ("blockdev-add", {"driver": "qcow2", "node-name": "a", "file": {"driver": "file", "filename": 5}},
     "arguments.file.filename: expected string, got integer"),
    ("blockdev-add", {"driver": "fil", "node-name": "a"},
     "arguments.driver: 'fil' is not a BlockdevDriver (did you mean 'file'?)"),
    ("nbd-server-start", {"addr": {"type": "inet", "data": {"host": "", "port": "0", "keep-alivee": True}}},
     "arguments.addr.data.keep-alivee: unknown member (did you mean 'keep-alive'?)"),
    ("blockdev-add", {"driver": "qcow2", "node-name": "a", "file": "x", "l2-cache-size": 100},
     "arguments.l2-cache-size: 100 is below the minimum 65536"),
    ("blockdev-add", {"driver": "qcow2", "node-name": "a", "file": "x", "l2-cache-size": 2 ** 70},
     "arguments.l2-cache-size: 1180591620717411303424 is out of range (-9223372036854775808 to 9223372036854775807)"),
    ("blockdev-add", {"driver": "null-co", "node-name": "1a"},
     "arguments.node-name: '1a' does not match the pattern '[A-Za-z][A-Za-z0-9._-]*'"),
    ("blockdev-create", {"job-id": "#j", "options": {"driver": "file", "filename": "x", "size": 0}},
     "arguments.job-id: '#j' does not match the pattern '[A-Za-z][A-Za-z0-9._-]*'"),
    ("block-export-add", {"type": "nbd", "id": "e", "node-name": "a", "name": "x" * 4097},
     "arguments.name: '" + "x" * 64 + "' is longer than 4096 bytes"),
])
def test_the_path_the_value_and_what_would_be_right(qmp, command, arguments, message):
    error = qmp.error(command, arguments)
    assert (error.error_class, error.desc) == ("GenericError", message)


@pytest.mark.parametrize("size", [-1, -2 ** 63])
def test_negative_sizes(bad, qmp, size):
    assert "size" in bad(**{"driver": "null-co", "node-name": "a", "size": size})
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=1 * MIB)
    assert "size" in qmp.error("block_resize", node_name="disk", size=size).desc
    qmp.execute("blockdev-del", node_name="disk")


@pytest.mark.parametrize("size", [2 ** 63, 2 ** 64 - 1, 2 ** 64, 10 ** 30])
def test_sizes_no_disk_can_have(qmp, tmp_path, size):
    error = qmp.error("blockdev-add", driver="null-co", node_name="a", size=size)
    assert error.error_class == "GenericError"
    path = create(tmp_path / "a.qcow2", 1 * MIB)
    qmp.execute("blockdev-add", driver="qcow2", node_name="a", file={"driver": "file", "filename": str(path)})
    qmp.error("block_resize", node_name="a", size=size)
    node = next(node for node in qmp.execute("query-named-block-nodes", flat=True) if node["node-name"] == "a")
    assert node["image"]["virtual-size"] == 1 * MIB


@pytest.mark.parametrize("size", [2 ** 63 - 1, 2 ** 62, 2 ** 50])
def test_sizes_that_the_image_cannot_have(qmp, tmp_path, size):
    """An L1 table of that size would be more than the format allows: refused before memory or space is taken."""
    path = create(tmp_path / "a.qcow2", 1 * MIB, cluster_size=512)
    qmp.execute("blockdev-add", driver="qcow2", node_name="a", file={"driver": "file", "filename": str(path)})
    assert qmp.error("block_resize", node_name="a", size=size).error_class == "GenericError"
    assert os.path.getsize(path) < 1 * MIB


@pytest.mark.parametrize("offset, size", [(2 * MIB, None), (-1, None), (0, 2 * MIB), (512 * KIB, 1 * MIB), (0, -512),
                                          (2 ** 63 - 1, 512), (512, 2 ** 63 - 1)])
def test_windows_outside_of_the_file(bad, tmp_path, offset, size):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(1 * MIB))
    window = {"offset": offset, **({"size": size} if size is not None else {})}
    message = bad(**{"driver": "raw", "node-name": "a", "file": {"driver": "file", "filename": str(path)}, **window})
    assert "offset" in message or "size" in message, message


# Files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["file", "raw", "qcow2"])
def test_a_file_that_is_missing(bad, driver):
    file = {"driver": "file", "filename": "/nonexistent/disk.img"}
    message = bad(**{"node-name": "a", **(file if driver == "file" else {"driver": driver, "file": file})})
    assert "/nonexistent/disk.img" in message and "No such file or directory" in message


def test_a_file_without_permission_or_sense(bad, tmp_path):
    message = bad(**{"driver": "file", "node-name": "a", "filename": str(tmp_path)})
    assert str(tmp_path) in message
    for name in ("", "x" * 5000):
        assert bad(**{"driver": "file", "node-name": "a", "filename": name})


def qcow2(path):
    return {"driver": "qcow2", "node-name": "a", "file": {"driver": "file", "filename": str(path)}}


@pytest.mark.parametrize("data", [b"", b"Q", b"QFI\xfb", b"not an image at all" * 100, bytes(1 * MIB)],
                         ids=["empty", "a byte", "only the magic", "text", "zeroes"])
def test_a_file_that_is_no_image(bad, tmp_path, data):
    path = tmp_path / "other.img"
    path.write_bytes(data)
    message = bad(**qcow2(path))
    assert "'a'" in message and "qcow2" in message, message


@pytest.mark.parametrize("length", [4, 71, 72, 104, 512, 64 * KIB, 64 * KIB + 1, 192 * KIB + 7])
def test_a_file_that_is_cut_off(qmp, tmp_path, length):
    """Refused, or opened (the format lets the end of a file be missing) and then no request ends the daemon."""
    path = create(tmp_path / "a.qcow2", 64 * MIB)
    qemu_io(path, "write -P 1 0 1m")
    os.truncate(path, length)
    try:
        qmp.execute("blockdev-add", qcow2(path))
    except QMPError as error:
        assert "node 'a'" in error.desc
        return
    try:
        qmp.execute("query-block-status", node_name="a")
    except QMPError as error:
        assert error.error_class == "GenericError"
    qmp.execute("blockdev-del", node_name="a")


HEADER_FIELDS = {
    "version": (4, ">I", [0, 1, 4, 2 ** 32 - 1]),
    "backing_file_offset": (8, ">QI", [(64 * KIB + 8, 10), (2 ** 63, 10), (2 ** 64 - 1, 10)]),
    "backing_file_size": (8, ">QI", [(200, 1024), (200, 2 ** 31), (64 * KIB - 8, 100)]),
    "cluster_bits": (20, ">I", [0, 8, 22, 31, 63, 2 ** 32 - 1]),
    "size": (24, ">Q", [2 ** 63, 2 ** 64 - 1, 2 ** 56]),
    "crypt_method": (32, ">I", [3, 2 ** 32 - 1]),
    "l1_size": (36, ">I", [0, 2 ** 32 - 1, 2 ** 28]),
    "l1_table_offset": (40, ">Q", [1, 512, 2 ** 63, 2 ** 64 - 64 * KIB]),
    "refcount_table_offset": (48, ">Q", [1, 2 ** 63, 2 ** 64 - 64 * KIB]),
    "refcount_table_clusters": (56, ">I", [0, 2 ** 32 - 1]),
    "nb_snapshots": (60, ">I", [2 ** 32 - 1]),
    "incompatible_features": (72, ">Q", [1 << 5, 1 << 63]),
    "refcount_order": (96, ">I", [7, 2 ** 32 - 1]),
    "header_length": (100, ">I", [0, 71, 105, 2 ** 31, 2 ** 32 - 1]),
}


@pytest.mark.parametrize("field", HEADER_FIELDS)
def test_headers_that_lie(bad, tmp_path, field):
    """Refused at the moment they are seen, at no cost in memory."""
    offset, form, values = HEADER_FIELDS[field]
    for value in values:
        path = create(tmp_path / "a.qcow2", 64 * MIB)
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(struct.pack(form, *(value if isinstance(value, tuple) else (value,))))
        message = bad(**qcow2(path))
        assert "'a'" in message, message


def test_an_unknown_feature_is_refused_by_its_name(bad, tmp_path):
    path = create(tmp_path / "a.qcow2", 64 * MIB)
    data = bytearray(path.read_bytes())
    data[72:80] = struct.pack(">Q", 1 << 40)
    at = struct.unpack(">I", data[100:104])[0]
    # Header extensions: the table of feature names, then the end.
    name = b"time travel".ljust(46, b"\0")
    entry = bytes([0, 40]) + name
    data[at:at + 8] = struct.pack(">II", 0x6803f857, len(entry))
    data[at + 8:at + 8 + len(entry)] = entry
    data[at + 56:at + 64] = bytes(8)
    path.write_bytes(data)
    assert "time travel" in bad(**qcow2(path))


# Chains ------------------------------------------------------------------------------------------------------------


def test_a_backing_chain_that_loops(bad, tmp_path):
    a, b = create(tmp_path / "a.qcow2", 1 * MIB), tmp_path / "b.qcow2"
    create(b, 1 * MIB, backing=a)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", b, "-F", "qcow2", a)
    message = bad(**qcow2(a))
    assert "a.qcow2" in message or "b.qcow2" in message, message


def test_an_image_that_backs_itself(bad, tmp_path):
    path = create(tmp_path / "a.qcow2", 1 * MIB)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", path, "-F", "qcow2", path)
    assert "a.qcow2" in bad(**qcow2(path))


def test_a_loop_through_a_link(bad, tmp_path):
    """The file counts, not its name."""
    path = create(tmp_path / "a.qcow2", 1 * MIB)
    os.symlink(path, tmp_path / "link.qcow2")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "link.qcow2", "-F", "qcow2", path)
    assert "link.qcow2" in bad(**qcow2(path))


def test_a_backing_file_that_is_missing(bad, tmp_path):
    base = create(tmp_path / "base.qcow2", 1 * MIB)
    path = create(tmp_path / "a.qcow2", 1 * MIB, backing=base)
    base.unlink()
    message = bad(**qcow2(path))
    assert "base.qcow2" in message and "No such file or directory" in message


def test_a_chain_that_is_too_long(qmp, tmp_path):
    """Refused with an error, not by running out of stack."""
    path = create(tmp_path / "0.qcow2", 64 * KIB)
    for level in range(1, 250):
        below = path
        path = create(tmp_path / f"{level}.qcow2", 64 * KIB)
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", below, "-F", "qcow2", path)
    assert qmp.error("blockdev-add", qcow2(path)).error_class == "GenericError"
    assert qmp.execute("query-named-block-nodes", flat=True) == []


# Names and users ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "1disk", "a b", "a/b", "#block0", "-a", "ä", "x" * 256, "a\n"])
def test_a_name_that_is_malformed(bad, name):
    message = bad(**{"driver": "null-co", "node-name": name})
    assert "node-name" in message, message


def test_a_node_without_a_name(bad):
    assert "node-name" in bad(driver="null-co")


def test_a_name_that_is_taken(qmp, bad):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk")
    message = bad(**{"driver": "null-co", "node-name": "disk"})
    assert "Duplicate nodes with node-name='disk'" in message
    assert "disk" in bad(**{"driver": "raw", "node-name": "a", "file": {"driver": "null-co", "node-name": "disk"}})
    assert bad(**{"driver": "raw", "node-name": "a", "file": {"driver": "null-co", "node-name": "a"}})


def test_a_child_that_does_not_exist(bad):
    assert "nobody" in bad(**{"driver": "raw", "node-name": "a", "file": "nobody"})


def test_a_node_in_use(qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk")
    qmp.execute("blockdev-add", driver="raw", node_name="top", file="disk")
    message = qmp.error("blockdev-del", node_name="disk").desc
    assert "disk" in message and "top" in message, message
    assert {node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)} == {"disk", "top"}
    qmp.execute("blockdev-del", node_name="top")
    qmp.execute("blockdev-del", node_name="disk")
    assert "disk" in qmp.error("blockdev-del", node_name="disk").desc


def test_a_node_used_by_an_export(qmp, tmp_path):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk")
    error = qmp.error("block-export-add", type="nbd", id="e", node_name="disk")
    assert "NBD server" in error.desc
    qmp.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": str(tmp_path / "nbd.sock")}}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name="disk")
    assert "e" in qmp.error("blockdev-del", node_name="disk").desc
    assert "already in use" in qmp.error("block-export-add", type="nbd", id="e", node_name="disk", name="other").desc
    assert "disk" in qmp.error("block-export-add", type="nbd", id="f", node_name="disk").desc
    assert "nobody" in qmp.error("block-export-add", type="nbd", id="g", node_name="nobody").desc


def test_an_inner_node_cannot_be_deleted_by_itself(qmp):
    qmp.execute("blockdev-add", driver="raw", node_name="top", file={"driver": "null-co", "node-name": "inner"})
    assert "inner" in qmp.error("blockdev-del", node_name="inner").desc


def test_a_file_that_another_program_writes(qmp, tmp_path, start_daemon):
    """Two daemons do not write one image: the locks are those of QEMU."""
    path = create(tmp_path / "a.qcow2", 1 * MIB)
    qmp.execute("blockdev-add", qcow2(path))
    other = start_daemon().connect()
    message = other.error("blockdev-add", qcow2(path)).desc
    assert "a.qcow2" in message and "lock" in message
    result = run("qemu-io", "-f", "qcow2", "-c", "write 0 512", path, check=False)
    assert "lock" in result.stdout + result.stderr


# The wire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [
    b'{"execute": 5}', b'{"execute": "no-such-command"}', b'{"arguments": {}}', b'[]', b'"x"', b"5", b"{}",
    b'{"execute": "query-version", "arguments": []}', b'{"execute": "query-version", "arguments": {"a": 1}}',
    b'{"execute": "query-version", "more": 1}', b'{"execute": "query-version", "id": "a\\u0000b"}', b'{"execute": "query-version", }', b"\xff\xfe", b"}", b"@@@@",
])
def test_garbage_gets_an_error_and_the_session_goes_on(qmp, message):
    qmp.send_bytes(message + b"\r\n")
    assert "error" in qmp.receive_reply()
    assert qmp.execute("query-version")["qemu"]


def test_nothing_of_a_bad_command_is_done(qmp, tmp_path):
    """The last member is wrong: the first ones have made nothing, no file and no node."""
    error = qmp.error("blockdev-create", {"job-id": "j", "options": {
        "driver": "file", "filename": str(tmp_path / "new.img"), "size": 1 * MIB, "preallocation": "some"}})
    assert "preallocation" in error.desc and "some" in error.desc
    assert qmp.execute("query-jobs") == [] and not (tmp_path / "new.img").exists()


def test_a_thousand_mistakes_cost_nothing(daemon, qmp, tmp_path):
    """No memory stays behind."""
    path = tmp_path / "other.img"
    path.write_bytes(b"QFI\xfb" + bytes(1000))

    def mistakes():
        for _ in range(250):
            qmp.error("blockdev-add", qcow2(path))
            qmp.error("blockdev-add", driver="raw", node_name="a", file={**FILE})
            qmp.error("blockdev-add", driver="null-co", node_name="a", size=-1)
            qmp.error("blockdev-add", driver="qcow2", node_name="a", file={"driver": "null-co", "node-name": "a"})

    mistakes()
    before = daemon.rss_bytes()
    mistakes()
    mistakes()
    quarantine = 300 * MIB if BUILD.name == "asan" else 0  # AddressSanitizer keeps freed memory for a while
    assert daemon.rss_bytes() - before < 2 * MIB + quarantine
