"""Every command once over the wire, with the errors that its documentation lists."""

import os
import subprocess

import pytest

MIB = 1 << 20


@pytest.fixture
def disk(qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=MIB, read_zeroes=True)
    return "disk"


def nodes_of(qmp, **arguments):
    return {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", **arguments)}


# The interface itself ---------------------------------------------------------------------------------------------

def test_query_commands_and_the_schema_tell_of_the_same(qmp):
    schema = qmp.execute("query-qmp-schema")
    commands = {entity["name"] for entity in schema if entity["meta-type"] == "command"}
    events = {entity["name"] for entity in schema if entity["meta-type"] == "event"}
    assert {command["name"] for command in qmp.execute("query-commands")} == commands
    assert {"quit", "blockdev-add", "query-block-status", "nbd-server-start"} <= commands
    assert {"JOB_STATUS_CHANGE", "BLOCK_EXPORT_DELETED"} <= events


# Nodes ------------------------------------------------------------------------------------------------------------

def test_blockdev_add_and_del(qmp, disk):
    assert qmp.error("blockdev-add", driver="null-co", node_name=disk).desc == \
        "Duplicate nodes with node-name='disk'"
    assert qmp.execute("blockdev-del", node_name=disk) == {}
    assert qmp.error("blockdev-del", node_name=disk).desc == "Failed to find node with node-name='disk'"


def test_blockdev_del_names_who_uses_the_node(qmp, disk):
    qmp.execute("blockdev-add", driver="raw", node_name="upper", file=disk)
    error = qmp.error("blockdev-del", node_name=disk)
    assert "in use" in error.desc and "upper" in error.desc


def test_query_named_block_nodes(qmp, tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 8192)
    os.truncate(path, MIB)
    qmp.execute("blockdev-add", driver="raw", node_name="top", read_only=True,
                file={"driver": "file", "node-name": "file", "filename": str(path)})
    nodes = nodes_of(qmp, flat=True)
    assert list(nodes) == ["file", "top"]
    top, below = nodes["top"], nodes["file"]
    assert top["drv"] == "raw" and below["drv"] == "file"
    assert top["ro"] and top["children"] == [{"child": "file", "node-name": "file"}]
    assert below["file"] == str(path) and below["image"]["filename"] == str(path)
    assert below["image"]["virtual-size"] == MIB
    assert below["image"]["actual-size"] == os.stat(path).st_blocks * 512 == top["image"]["actual-size"]
    assert below["children"] == [] and below["backing_file_depth"] == 0


def test_query_named_block_nodes_tells_the_options(qmp, tmp_path):
    path = tmp_path / "disk.raw"
    path.touch()
    os.truncate(path, MIB)
    qmp.execute("blockdev-add", driver="raw", node_name="top", discard="unmap", detect_zeroes="unmap",
                cache={"direct": False, "no-flush": True}, file={"driver": "file", "node-name": "file",
                                                                 "filename": str(path)})
    nodes = nodes_of(qmp, flat=True)
    assert nodes["top"]["detect_zeroes"] == "unmap" and nodes["file"]["detect_zeroes"] == "off"
    for name in ("top", "file"):  # the child takes over what it does not say itself
        assert nodes[name]["cache"] == {"writeback": True, "direct": False, "no-flush": True}


def test_a_damaged_image_is_told_once(qmp, tmp_path):
    path = tmp_path / "damaged.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    subprocess.run(["qemu-io", "-c", "write 0 64k", path], check=True, capture_output=True)
    with open(path, "r+b") as image:
        image.seek(40)
        l1 = int.from_bytes(image.read(8), "big")
        image.seek(l1)
        image.write((1 << 63 | 1 << 40).to_bytes(8, "big"))  # an L2 table far behind the end
    qmp.execute("blockdev-add", driver="qcow2", node_name="image", file={"driver": "file", "filename": str(path)})
    for _ in range(2):
        assert "Input/output error" in qmp.error("query-block-status", node_name="image").desc
    told = qmp.wait_event("BLOCK_IMAGE_CORRUPTED")["data"]
    assert told["node-name"] == "image" and told["fatal"] and hex(1 << 40) in told["msg"]
    qmp.expect_silence()


def test_an_overlap_is_told_with_its_place(qmp, tmp_path):
    path = tmp_path / "damaged.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16M"], check=True)
    subprocess.run(["qemu-io", "-c", "write 0 128k", path], check=True, capture_output=True)
    with open(path, "r+b") as image:
        image.seek(40)
        l1 = int.from_bytes(image.read(8), "big")
        image.seek(l1)
        l2 = int.from_bytes(image.read(8), "big") & ~(1 << 63)
        image.seek(l2 + 8)
        image.write((1 << 63 | l1).to_bytes(8, "big"))  # the second cluster lies on the L1 table
    qmp.execute("blockdev-add", driver="qcow2", node_name="image", discard="unmap",
                file={"driver": "file", "filename": str(path)})
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "nbd")}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name="image", writable=True)
    failed = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 64k 4k", f"nbd+unix:///image?socket={tmp_path}/nbd"],
                            capture_output=True, text=True, check=False)
    assert "Input/output error" in failed.stdout + failed.stderr
    told = qmp.wait_event("BLOCK_IMAGE_CORRUPTED")["data"]
    assert told["offset"] == l1 and told["size"] == 4096 and "active L1 table" in told["msg"] and told["fatal"]
    info = subprocess.run(["qemu-img", "info", "-U", path], capture_output=True, text=True, check=True)
    assert "corrupt: true" in info.stdout


def test_images_behind_images(qmp, tmp_path):
    for name, below in (("base", None), ("middle", "base"), ("top", "middle")):
        backing = ["-b", str(tmp_path / below), "-F", "qcow2"] if below else []
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, tmp_path / name, "1M"], check=True)
    for name, below in (("base", None), ("middle", "base"), ("top", "middle")):
        qmp.execute("blockdev-add", driver="qcow2", node_name=name, backing=below, read_only=True,
                    file={"driver": "file", "filename": str(tmp_path / name)})
    nodes = nodes_of(qmp)
    assert [nodes[name]["backing_file_depth"] for name in ("base", "middle", "top")] == [0, 1, 2]
    image = nodes["top"]["image"]
    assert image["backing-image"]["filename"] == nodes["middle"]["image"]["filename"]
    assert "backing-image" in image["backing-image"] and "backing-image" not in nodes["base"]["image"]
    assert "backing-image" not in nodes_of(qmp, flat=True)["top"]["image"]


def test_a_filter_between_images_hides_none(qmp, tmp_path):
    for name in ("base", "top"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / name, "1M"], check=True)
    qmp.execute("blockdev-add", driver="qcow2", node_name="base",
                file={"driver": "file", "filename": str(tmp_path / "base")})
    qmp.execute("blockdev-add", driver="copy-on-read", node_name="filter", file="base")
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", backing="filter",
                file={"driver": "file", "filename": str(tmp_path / "top")})
    nodes = nodes_of(qmp)
    assert [nodes[name]["backing_file_depth"] for name in ("base", "filter", "top")] == [0, 1, 2]
    filtered = nodes["top"]["image"]["backing-image"]
    assert (filtered["format"], filtered["backing-image"]["format"]) == ("copy-on-read", "qcow2")
    assert filtered["backing-image"] == nodes["base"]["image"]
    assert "backing_file" in nodes["top"] and "backing_file" not in nodes["filter"]


def test_many_nodes_are_listed_whole(qmp):
    for number in range(300):
        qmp.execute("blockdev-add", driver="raw", node_name=f"n{number}", file={"driver": "null-co", "size": number})
    nodes = nodes_of(qmp, flat=True)
    assert len(nodes) == 600
    assert all(nodes[f"n{number}"]["image"]["virtual-size"] == number for number in range(300))
    assert all("actual-size" in node["image"] for node in nodes.values())


def test_block_resize(qmp, tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * 4096)
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(path))
    qmp.execute("block_resize", node_name="file", size=MIB)
    assert path.stat().st_size == MIB and nodes_of(qmp, flat=True)["file"]["image"]["virtual-size"] == MIB
    qmp.execute("block_resize", node_name="file", size=1024)
    assert path.read_bytes() == b"x" * 1024


@pytest.mark.parametrize("arguments, error_class, words", [
    ({"node-name": "nobody", "size": 1}, "GenericError", ["Cannot find device='' nor node-name='nobody'"]),
    ({"device": "ide0", "size": 1}, "GenericError", ["Cannot find device='ide0' nor node-name=''"]),
    ({"size": 1}, "GenericError", ["Cannot find device='' nor node-name=''"]),
    ({"node-name": "disk", "size": -1}, "GenericError", ["size", "-1"]),
    ({"node-name": "disk", "size": 9223372036854775807}, "GenericError", ["size", "9223372036854775807"]),
    ({"node-name": "disk", "size": "1"}, "GenericError", ["size"]),
    ({"node-name": "disk"}, "GenericError", ["size"]),
])
def test_block_resize_refuses(qmp, disk, arguments, error_class, words):
    error = qmp.error("block_resize", arguments)
    assert error.error_class == error_class and all(word in error.desc for word in words), error


def test_block_resize_of_a_node_that_is_read_only(qmp, tmp_path):
    (tmp_path / "a").write_bytes(bytes(512))
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(tmp_path / "a"), read_only=True)
    assert "file" in qmp.error("block_resize", node_name="file", size=4096).desc
    assert (tmp_path / "a").stat().st_size == 512


# Block status -----------------------------------------------------------------------------------------------------

def test_query_block_status_goes_on_where_it_stopped(qmp, tmp_path):
    path = tmp_path / "holes"
    with open(path, "wb") as file:
        for number in range(64):
            file.seek(number * 2 * 65536)
            file.write(b"x" * 65536)
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(path))
    whole = qmp.execute("query-block-status", node_name="file")
    assert "next-offset" not in whole
    parts, offset = [], 0
    while offset is not None:
        part = qmp.execute("query-block-status", node_name="file", offset=offset, max_extents=3)
        assert 1 <= len(part["extents"]) <= 3
        parts += part["extents"]
        offset = part.get("next-offset")
    assert parts == whole["extents"]


def test_query_block_status_answers_what_is_asked(qmp, disk):
    extent, = qmp.execute("query-block-status", node_name=disk, want=["zero"])["extents"]
    assert extent == {"offset": 0, "length": MIB, "zero": True}
    extent, = qmp.execute("query-block-status", node_name=disk, want=["allocation"], offset=512, length=1024)["extents"]
    assert extent == {"offset": 512, "length": 1024, "depth": 0, "present": True, "node": disk}
    assert qmp.execute("query-block-status", node_name=disk, offset=MIB) == {"extents": []}


@pytest.mark.parametrize("arguments, error_class, words", [
    ({"node-name": "nobody"}, "DeviceNotFound", ["nobody"]),
    ({"node-name": "disk", "base": "nobody"}, "DeviceNotFound", ["nobody"]),
    ({"node-name": "disk", "base": "other"}, "GenericError", ["other", "disk"]),
    ({"node-name": "disk", "offset": MIB + 1}, "GenericError", [str(MIB + 1), "disk"]),
    ({"node-name": "disk", "offset": MIB, "length": 1}, "GenericError", ["disk"]),
    ({"node-name": "disk", "offset": 9223372036854775807, "length": 9223372036854775807}, "GenericError", ["disk"]),
    ({"node-name": "disk", "offset": -1}, "GenericError", ["offset", "-1"]),
    ({"node-name": "disk", "max-extents": 0}, "GenericError", ["max-extents", "0"]),
    ({"node-name": "disk", "max-extents": 65537}, "GenericError", ["max-extents", "65537"]),
    ({"node-name": "disk", "want": ["everything"]}, "GenericError", ["want", "everything"]),
])
def test_query_block_status_refuses(qmp, disk, arguments, error_class, words):
    qmp.execute("blockdev-add", driver="null-co", node_name="other")
    error = qmp.error("query-block-status", arguments)
    assert error.error_class == error_class and all(word in error.desc for word in words), error


# Jobs -------------------------------------------------------------------------------------------------------------

def test_blockdev_create_makes_an_image_that_others_read(qmp, tmp_path):
    path = tmp_path / "new.qcow2"
    qmp.execute("blockdev-create", job_id="make-file", options={"driver": "file", "filename": str(path), "size": 0})
    assert qmp.wait_job("make-file") is None
    qmp.execute("blockdev-add", driver="file", node_name="file", filename=str(path))
    qmp.execute("blockdev-create", job_id="format", options={"driver": "qcow2", "file": "file", "size": 64 * MIB})
    assert qmp.wait_job("format") is None
    qmp.execute("blockdev-del", node_name="file")
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=True)


def test_a_job_that_failed_tells_why_until_it_is_dismissed(qmp, tmp_path):
    qmp.execute("blockdev-create", job_id="j", options={
        "driver": "file", "filename": str(tmp_path / "no" / "such"), "size": 0})
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data == {"id": "j", "status": "concluded"})
    job, = qmp.execute("query-jobs")
    assert (job["id"], job["type"], job["status"]) == ("j", "create", "concluded")
    assert "No such file or directory" in job["error"]
    assert "j" in qmp.error("blockdev-create", job_id="j", options={
        "driver": "file", "filename": str(tmp_path / "x"), "size": 0}).desc
    qmp.execute("job-dismiss", id="j")
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data == {"id": "j", "status": "null"})
    assert qmp.execute("query-jobs") == []
    assert "not found" in qmp.error("job-dismiss", id="j").desc


# Exports ----------------------------------------------------------------------------------------------------------

def test_the_nbd_server_starts_and_stops(qmp, disk, tmp_path):
    address = {"type": "unix", "data": {"path": str(tmp_path / "nbd.sock")}}
    assert qmp.error("nbd-server-stop").desc == "NBD server not running"
    assert qmp.error("block-export-add", type="nbd", id="e", node_name=disk).desc == "NBD server not running"
    qmp.execute("nbd-server-start", addr=address)
    assert (tmp_path / "nbd.sock").exists()
    assert "already running" in qmp.error("nbd-server-start", addr=address).desc
    qmp.execute("nbd-server-stop")
    assert not (tmp_path / "nbd.sock").exists()


def test_an_export_comes_and_goes(qmp, disk, tmp_path):
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "nbd.sock")}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name=disk, name="disk")
    assert qmp.execute("query-block-exports") == [
        {"id": "e", "type": "nbd", "node-name": disk, "shutting-down": False}]
    assert "already in use" in qmp.error("block-export-add", type="nbd", id="e", node_name=disk, name="x").desc
    assert "nobody" in qmp.error("block-export-add", type="nbd", id="f", node_name="nobody").desc
    assert "in use" in qmp.error("blockdev-del", node_name=disk).desc
    qmp.execute("block-export-del", id="e")
    assert qmp.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
    assert qmp.execute("query-block-exports") == []
    assert qmp.error("block-export-del", id="e").desc == "Export 'e' is not found"


# Gates ------------------------------------------------------------------------------------------------------------

def test_gates(daemon, qmp, disk):
    qmp.execute("blockdev-add", driver="gate", node_name="gate", file=disk)
    assert qmp.execute("x-gate-query", node_name="gate") == {"held": 0}
    qmp.execute("x-gate-hold", node_name="gate", count=1)
    with daemon.connect() as other:
        command = other.start("query-block-status", node_name="gate")
        while qmp.execute("x-gate-query", node_name="gate") == {"held": 0}:
            pass
        assert qmp.execute("query-block-status", node_name="gate")["extents"]  # the second one passes
        qmp.execute("x-gate-release", node_name="gate", count=1)
        assert other.finish(command)["extents"]


@pytest.mark.parametrize("command", ["x-gate-hold", "x-gate-release", "x-gate-query"])
def test_what_is_no_gate(qmp, disk, command):
    assert qmp.error(command, node_name="nobody").error_class == "DeviceNotFound"
    assert qmp.error(command, node_name=disk).desc == "node 'disk' is not a gate"
