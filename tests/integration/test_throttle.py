"""The filter 'throttle' over the wire: its limits as others see them, and that nobody waits for it who should not."""

import time

import images
import nbd
import pytest
from nbd_client import connect, start_server
from process import run_cairnd

MIB = 1 << 20


@pytest.fixture
def group(qmp):
    qmp.execute("object-add", qom_type="throttle-group", id="g0",
                limits={"iops-total": 1, "bps-read": 4096, "bps-read-max": 8192, "bps-read-max-length": 3,
                        "iops-size": 512})
    return "g0"


@pytest.fixture
def disk(qmp, group):
    qmp.execute("blockdev-add", driver="throttle", node_name="disk", throttle_group=group,
                file={"driver": "null-co", "node-name": "null", "size": MIB, "read-zeroes": True})
    return "disk"


def export(qmp, daemon, node):
    socket = start_server(qmp, daemon.directory)
    qmp.execute("block-export-add", type="nbd", id="e", node_name=node, name=node, writable=True)
    return connect(socket, node)


def start_writes(handle, count):
    """Sends them; none is answered yet, apart from those that pass at once."""
    return [handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(4096)), i * 4096) for i in range(count)]


def wait_for(handle, cookie):
    while not handle.aio_command_completed(cookie):
        handle.poll(1000)


def info_of(qmp, name):
    return next(node for node in qmp.execute("query-named-block-nodes", flat=True) if node["node-name"] == name)


def test_a_node_shows_the_limits_of_its_group(qmp, disk):
    info = info_of(qmp, disk)
    assert (info["group"], info["iops"], info["bps_rd"], info["bps_rd_max"]) == ("g0", 1, 4096, 8192)
    assert (info["bps_rd_max_length"], info["iops_size"], info["bps"], info["bps_wr_max"]) == (3, 512, 0, 0)
    qmp.execute("qom-set", path="g0", property="limits", value={"iops-total": 5})
    assert info_of(qmp, disk)["iops"] == 5
    below = info_of(qmp, "null")
    assert below["iops"] == 0 and "group" not in below


def test_the_group_must_exist_and_stays(qmp, disk):
    error = qmp.error("blockdev-add", driver="throttle", node_name="x", throttle_group="nope", file=disk)
    assert error.desc.endswith("Throttle group 'nope' does not exist")
    error = qmp.error("object-del", id="g0")
    assert error.desc == "object 'g0' is in use, can not be deleted: node 'disk' uses it"
    qmp.execute("blockdev-del", node_name=disk)
    qmp.execute("object-del", id="g0")


def test_another_group(qmp, daemon, disk):
    qmp.execute("object-add", qom_type="throttle-group", id="g1")
    handle = export(qmp, daemon, disk)
    cookies = start_writes(handle, 20)

    def reopen(group):
        return [{"driver": "throttle", "node-name": disk, "throttle-group": group, "file": "null"}]

    assert "Throttle group 'g2' does not exist" in qmp.error("blockdev-reopen", options=reopen("g2")).desc
    qmp.execute("blockdev-reopen", options=reopen("g1"))
    for cookie in cookies:
        wait_for(handle, cookie)
    assert info_of(qmp, disk)["group"] == "g1"
    qmp.execute("object-del", id="g0")
    assert "in use" in qmp.error("object-del", id="g1").desc


def test_check_looks_for_the_group():
    node = ["--blockdev", "throttle,node-name=t,throttle-group=g,file.driver=null-co"]
    for check in ([], ["--check"]):
        result = run_cairnd(*node, *check)
        assert result.returncode == 1 and "Throttle group 'g' does not exist" in result.stderr
    assert run_cairnd("--object", "throttle-group,id=g", *node, "--check").returncode == 0


@pytest.mark.parametrize("way", ["export", "quit", "limits", "client"])
def test_nobody_waits_for_requests_that_are_held_back(qmp, daemon, disk, way):
    handle = export(qmp, daemon, disk)
    cookies = start_writes(handle, 50)  # 400 seconds' worth
    wait_for(handle, cookies[0])
    begin = time.monotonic()
    if way == "export":
        qmp.execute("block-export-del", id="e", mode="hard")
    elif way == "quit":
        qmp.execute("quit")
        daemon.wait()
    elif way == "limits":
        qmp.execute("qom-set", path="g0", property="limits", value={"iops-total": 0, "iops-size": 0})
        for cookie in cookies[1:]:
            wait_for(handle, cookie)
    else:
        del handle  # which leaves
        qmp.execute("block-export-del", id="e", mode="hard")
    while way in ("export", "client") and qmp.execute("query-block-exports"):
        pass
    assert time.monotonic() - begin < 8


def test_a_drain_does_not_wait(qmp, daemon, disk):
    handle = export(qmp, daemon, disk)
    cookies = start_writes(handle, 20)
    wait_for(handle, cookies[0])
    begin = time.monotonic()
    while cookies[1:]:
        # Drains, and then cannot. What the socket still held comes too late for one drain, and waits for the next.
        assert "cannot resize" in qmp.error("block_resize", node_name="null", size=2 * MIB).desc
        handle.poll(10)
        cookies[1:] = [cookie for cookie in cookies[1:] if not handle.aio_command_completed(cookie)]
    assert time.monotonic() - begin < 8


def test_an_image_is_opened_and_closed_without_waiting(qmp, daemon, group):
    images.create(daemon.path("a.qcow2"), "1G")
    begin = time.monotonic()
    for _ in range(3):
        qmp.execute("blockdev-add", driver="qcow2", node_name="image",
                    file={"driver": "throttle", "throttle-group": group,
                          "file": {"driver": "file", "filename": daemon.path("a.qcow2")}})
        handle = export(qmp, daemon, "image")
        start_writes(handle, 3)
        del handle
        qmp.execute("block-export-del", id="e", mode="hard")
        while qmp.execute("query-block-exports"):
            pass
        qmp.execute("blockdev-del", node_name="image")
        qmp.execute("nbd-server-stop")
    assert time.monotonic() - begin < 8
    images.check(daemon.path("a.qcow2"))
