"""blockdev-reopen of filters and quorums: what can change changes under I/O, what cannot is named, and nothing has changed then."""

import struct

import nbd
import pytest

from images import KIB, MIB, content, create
from nbd_client import connect, export, start_server
from test_reopen import children, node, refused, reopen


def add_file(qmp, tmp_path, name, size=MIB):
    path = tmp_path / f"{name}.raw"
    with open(path, "wb") as file:
        file.truncate(size)
    qmp.execute("blockdev-add", driver="file", node_name=name, filename=str(path))
    return path


def exported(qmp, tmp_path, name):
    socket = start_server(qmp, tmp_path)
    export(qmp, name, writable=True)
    return connect(socket, name)


def add(qmp, options):
    qmp.execute("blockdev-add", options)
    return options


QUORUM = {"driver": "quorum", "node-name": "quorum", "vote-threshold": 2, "children": ["a", "b", "c"]}


@pytest.fixture
def quorum(qmp, tmp_path):
    paths = [add_file(qmp, tmp_path, name) for name in "abc"]
    add(qmp, QUORUM)
    return paths, exported(qmp, tmp_path, "quorum")


def test_rules_of_a_quorum(qmp, quorum):
    paths, disk = quorum
    disk.pwrite(b"x" * 64 * KIB, 0)
    with open(paths[0], "r+b") as file:
        file.write(b"y")
    assert disk.pread(4096, 0) == b"x" * 4096
    reopen(qmp, {**QUORUM, "read-pattern": "fifo"})
    assert disk.pread(4096, 0)[:1] == b"y", "the first child is believed"
    reopen(qmp, {**QUORUM, "vote-threshold": 3})
    with pytest.raises(nbd.Error):
        disk.pread(4096, 0)
    reopen(qmp, {**QUORUM, "rewrite-corrupted": True})
    assert disk.pread(4096, 0) == b"x" * 4096
    assert content(paths[0], "raw")[:4096] == b"x" * 4096, "what was outvoted is written anew"


def test_what_a_quorum_refuses(qmp, quorum, tmp_path):
    _, disk = quorum
    add_file(qmp, tmp_path, "short", MIB // 2)
    refused(qmp, "vote-threshold: 4 may not exceed the number of children, 3", {**QUORUM, "vote-threshold": 4})
    refused(qmp, "children: 2 are given, but there are 3; x-blockdev-change adds and removes them",
            {**QUORUM, "children": ["a", "b"]})
    refused(qmp, "children.2.: node 'short' is 524288 bytes long, but node 'a' is 1048576",
            {**QUORUM, "children": ["a", "b", "short"]})
    refused(qmp, "Failed to find node with node-name='nobody'", {**QUORUM, "children": ["a", "b", "nobody"]})
    assert children(qmp, "quorum") == {"children.0": "a", "children.1": "b", "children.2": "c"}
    disk.pwrite(b"x" * 512, 0)
    assert disk.pread(512, 0) == b"x" * 512


def test_children_of_a_quorum(qmp, quorum, tmp_path):
    paths, disk = quorum
    new = add_file(qmp, tmp_path, "d")
    reopen(qmp, {**QUORUM, "children": ["a", "b", "d"]})
    disk.pwrite(b"x" * 512, 0)
    assert content(new, "raw")[:512] == b"x" * 512
    assert content(paths[2], "raw")[:512] == bytes(512)
    qmp.execute("x-blockdev-change", parent="quorum", child="children.1")
    refused(qmp, "children: 3 are given, but there are 2", {**QUORUM, "children": ["a", "b", "d"]})
    reopen(qmp, {**QUORUM, "children": ["a", "d"], "vote-threshold": 1})
    assert disk.pread(512, 0) == b"x" * 512


def test_a_pair_that_is_verified(qmp, tmp_path):
    for name in ("raw", "test", "other"):
        add_file(qmp, tmp_path, name)
    add_file(qmp, tmp_path, "short", MIB // 2)
    verify = add(qmp, {"driver": "blkverify", "node-name": "verify", "raw": "raw", "test": "test"})
    disk = exported(qmp, tmp_path, "verify")
    reopen(qmp, {**verify, "detect-zeroes": "on"})
    assert node(qmp, "verify")["detect_zeroes"] == "on"
    refused(qmp, "node 'short' is 524288 bytes long, but node 'raw' is 1048576", {**verify, "test": "short"})
    disk.pwrite(b"x" * 512, 0)
    reopen(qmp, {**verify, "test": "other"})
    disk.pwrite(b"y" * 512, 0)
    assert disk.pread(512, 0) == b"y" * 512
    assert content(tmp_path / "other.raw", "raw")[:512] == b"y" * 512
    assert content(tmp_path / "test.raw", "raw")[:512] == b"x" * 512


def test_a_filter_that_verifies_comes_and_goes_under_an_export(qmp, tmp_path):
    add_file(qmp, tmp_path, "raw")
    add_file(qmp, tmp_path, "test")
    disk = exported(qmp, tmp_path, "raw")
    add(qmp, {"driver": "blkverify", "node-name": "verify", "raw": "raw", "test": "test"})
    qmp.execute("blockdev-insert-filter", node="raw", filter="verify")
    disk.pwrite(b"x" * 512, 0)
    qmp.execute("blockdev-remove-filter", filter="verify")
    disk.pwrite(b"y" * 512, 0)
    qmp.execute("blockdev-del", node_name="verify")
    assert content(tmp_path / "raw.raw", "raw")[:512] == b"y" * 512
    assert content(tmp_path / "test.raw", "raw")[:512] == b"x" * 512


def records(path):
    return struct.unpack_from("<QQQL", open(path, "rb").read(28))[2]


def test_a_log_of_writes(qmp, tmp_path):
    add_file(qmp, tmp_path, "file")
    log = add_file(qmp, tmp_path, "log", 0)
    add_file(qmp, tmp_path, "other", 0)
    options = add(qmp, {"driver": "blklogwrites", "node-name": "disk", "file": "file", "log": "log", "read-only": True})
    assert log.stat().st_size == 0
    reopen(qmp, {**options, "read-only": False})
    assert log.stat().st_size == 512 and records(log) == 0, "it begins when it can be written"
    disk = exported(qmp, tmp_path, "disk")
    disk.pwrite(b"x" * 512, 0)
    options["read-only"] = False
    refused(qmp, "Cannot change the option 'log'", {**options, "log": "other"})
    refused(qmp, "Cannot change the option 'log-sector-size'", {**options, "log-sector-size": 4096})
    refused(qmp, "Cannot change the option 'log-append'", {**options, "log-append": True})
    add(qmp, {"driver": "gate", "node-name": "gate", "file": "file"})
    reopen(qmp, {**options, "file": "gate", "detect-zeroes": "on"})
    disk.pwrite(bytes(512), 512)
    disk.flush()
    assert records(log) == 3


def test_a_point_in_time(qmp, tmp_path):
    create(tmp_path / "disk", MIB)
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk",
                file={"driver": "file", "filename": str(tmp_path / "disk")})
    add_file(qmp, tmp_path, "target")
    add_file(qmp, tmp_path, "other")
    add(qmp, {"driver": "blkdebug", "node-name": "full", "image": "target",
              "inject-error": [{"event": "none", "iotype": kind, "errno": 28} for kind in ("write", "write-zeroes")]})
    cbw = add(qmp, {"driver": "copy-before-write", "node-name": "cbw", "file": "disk", "target": "full"})
    snapshot = add(qmp, {"driver": "snapshot-access", "node-name": "snapshot", "file": "cbw"})
    disk = exported(qmp, tmp_path, "cbw")
    with pytest.raises(nbd.Error):
        disk.pwrite(b"y" * 512, 0)

    refused(qmp, "Cannot change the option 'target'", {**cbw, "target": "other"})
    refused(qmp, "Cannot change the option 'min-cluster-size'", {**cbw, "min-cluster-size": 131072})
    refused(qmp, "Cannot change the option 'file'", {**snapshot, "file": "disk"})
    reopen(qmp, {**snapshot, "detect-zeroes": "on"})
    with pytest.raises(nbd.Error):
        disk.pwrite(b"y" * 512, 0)
    reopen(qmp, {**cbw, "on-cbw-error": "break-snapshot", "cbw-timeout": 5})
    disk.pwrite(b"y" * 512, 0)
    assert disk.pread(512, 0) == b"y" * 512


def test_errors_that_are_injected(qmp, tmp_path):
    add_file(qmp, tmp_path, "file")
    rules = [{"event": "none", "iotype": "write", "errno": 28}]
    options = add(qmp, {"driver": "blkdebug", "node-name": "debug", "image": "file", "inject-error": rules})
    refused(qmp, "node 'debug': Cannot change the option 'align'", {**options, "align": 4096})
    refused(qmp, "node 'debug': config: cannot", {**options, "config": str(tmp_path / "missing")})
    reopen(qmp, {**options, "read-only": True})
    assert node(qmp, "debug")["ro"]


def error_of_write(disk):
    try:
        disk.pwrite(b"x" * 512, 0)
        return None
    except nbd.Error as error:
        return error.errno


def test_other_errors_are_injected(qmp, tmp_path):
    add_file(qmp, tmp_path, "file")
    options = add(qmp, {"driver": "blkdebug", "node-name": "debug", "image": "file"})
    disk = exported(qmp, tmp_path, "debug")
    full, broken, once = ({"event": "none", "iotype": "write", **more}
                          for more in ({"errno": 28}, {"errno": 5}, {"errno": 28, "once": True}))
    assert error_of_write(disk) is None
    reopen(qmp, {**options, "inject-error": [full]})
    assert error_of_write(disk) == "ENOSPC"
    reopen(qmp, {**options, "inject-error": [broken]})
    assert error_of_write(disk) == "EIO"
    refused(qmp, "Failed to find node", {**options, "inject-error": [full], "image": "missing"})
    assert error_of_write(disk) == "EIO", "the rules are those of before"

    reopen(qmp, {**options, "inject-error": [once]})
    assert [error_of_write(disk), error_of_write(disk)] == ["ENOSPC", None]
    reopen(qmp, {**options, "inject-error": [once], "detect-zeroes": "on"})
    assert error_of_write(disk) is None, "the same rules go on where they were"

    (tmp_path / "rules").write_text('[inject-error]\nevent = "none"\niotype = "write"\nerrno = "28"\n')
    reopen(qmp, {**options, "config": str(tmp_path / "rules")})
    assert error_of_write(disk) == "ENOSPC"
    reopen(qmp, options)
    assert error_of_write(disk) is None


@pytest.mark.parametrize("driver", ["quorum", "blkverify", "blklogwrites"])
def test_they_follow_the_node_above(qmp, tmp_path, driver):
    """Described inside of an image, they get other settings with it."""
    for name in ("x", "y"):
        create(tmp_path / name, MIB)
    files = [{"driver": "file", "filename": str(tmp_path / name)} for name in ("x", "y")]
    below = {"quorum": {"vote-threshold": 1, "children": files[:1]},
             "blkverify": {"raw": files[0], "test": files[1]},
             "blklogwrites": {"file": files[0], "log": {"driver": "null-co", "size": MIB}}}[driver]
    disk = {"driver": "qcow2", "node-name": "disk", "file": {"driver": driver, "node-name": "below", **below}}
    qmp.execute("blockdev-add", disk)
    reopen(qmp, {**disk, "read-only": True})
    assert node(qmp, "disk")["ro"] and node(qmp, "below")["ro"]
    reopen(qmp, disk)
    assert not node(qmp, "below")["ro"]
