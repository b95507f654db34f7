"""query-blockstats, block-set-write-threshold and its event, x-debug-query-block-graph, query-block."""

import nbd
import pytest
from images import MIB, create
from nbd_client import connect, export, serve_disk, start_server
from qmp import QMPError


def stats(qmp, name):
    return {node["node-name"]: node for node in qmp.execute("query-blockstats", {"query-nodes": True})}[name]


@pytest.fixture
def disk(qmp, tmp_path):
    return serve_disk(qmp, tmp_path)


def test_requests_are_counted_at_every_node_and_timed_where_they_enter(qmp, disk):
    for i in range(5):
        disk.pread(4096, i * 4096)
    for i in range(3):
        disk.pwrite(b"y" * 1000, 500_000 + i * 1000)
    disk.flush()
    disk.trim(65536, 0)
    top = stats(qmp, "disk")
    assert top["parent"]["node-name"] == "file" and "backing" not in top and "device" not in top
    for own in (top["stats"], stats(qmp, "file")["stats"]):
        assert (own["rd_operations"], own["rd_bytes"]) == (5, 5 * 4096)
        assert (own["wr_operations"], own["wr_bytes"]) == (3, 3000)
        assert own["flush_operations"] == 1
        assert (own["unmap_operations"], own["unmap_bytes"]) == (1, 65536)
        assert own["wr_highest_offset"] == 503_000
        assert own["failed_rd_operations"] == own["invalid_wr_operations"] == own["zone_append_bytes"] == 0
        assert own["timed_stats"] == [] and not own["account_failed"]
    own = top["stats"]
    assert 0 < own["rd_total_time_ns"] < 5e9 and own["wr_total_time_ns"] > 0 and own["flush_total_time_ns"] > 0
    assert 0 <= own["idle_time_ns"] < 60e9
    assert stats(qmp, "file")["stats"]["rd_total_time_ns"] == 0
    assert stats(qmp, "file")["driver-specific"] == {"driver": "file", "discard-nb-ok": 1, "discard-nb-failed": 0,
                                                    "discard-bytes-ok": 65536}


def test_errors_are_counted(qmp, tmp_path):
    qmp.execute("blockdev-add", {"driver": "blkdebug", "node-name": "bad", "image": {"driver": "null-co", "size": MIB},
                                 "inject-error": [{"event": "none", "iotype": "read"}]})
    socket = start_server(qmp, tmp_path)
    export(qmp, "bad")
    with pytest.raises(nbd.Error):
        connect(socket, "bad").pread(512, 0)
    own = stats(qmp, "bad")["stats"]
    assert own["failed_rd_operations"] == 1 and own["rd_operations"] == 0


def test_there_are_no_devices(qmp, disk):
    assert qmp.execute("query-blockstats") == [] and qmp.execute("query-block") == []


def test_a_write_behind_the_threshold_is_told_once(qmp, disk):
    qmp.execute("block-set-write-threshold", {"node-name": "file", "write-threshold": 524288})
    info = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", {"flat": True})}
    assert info["file"]["write_threshold"] == 524288 and info["disk"]["write_threshold"] == 0
    disk.pwrite(b"z" * 4096, 524288 - 4096)
    disk.pwrite(b"z" * 4096, 524288 - 1000)
    event = qmp.wait_event("BLOCK_WRITE_THRESHOLD")
    assert event["data"] == {"node-name": "file", "amount-exceeded": 3096, "write-threshold": 524288}
    disk.pwrite(b"z" * 4096, 800_000)
    assert stats(qmp, "disk")["stats"]["wr_operations"] == 3
    qmp.execute("block-set-write-threshold", {"node-name": "file", "write-threshold": 1})
    disk.zero(512, 0)
    assert qmp.wait_event("BLOCK_WRITE_THRESHOLD")["data"]["amount-exceeded"] == 511
    with pytest.raises(QMPError, match="Device 'nobody' not found"):
        qmp.execute("block-set-write-threshold", {"node-name": "nobody", "write-threshold": 1})


def test_the_graph_is_drawn(qmp, disk, tmp_path):
    create(tmp_path / "top", MIB)
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "top", "backing": "disk", "read-only": True, "file": {
        "driver": "file", "node-name": "top-file", "filename": str(tmp_path / "top")}})
    graph = qmp.execute("x-debug-query-block-graph")
    points = {point["id"]: point for point in graph["nodes"]}
    assert {(point["type"], point["name"]) for point in points.values()} == {
        ("block-driver", "disk"), ("block-driver", "file"), ("block-driver", "top"), ("block-driver", "top-file"),
        ("block-backend", "export 'export-disk'")}
    edges = {(points[edge["parent"]]["name"], edge["name"], points[edge["child"]]["name"]):
             (edge["perm"], edge["shared-perm"]) for edge in graph["edges"]}
    assert set(edges) == {("disk", "file", "file"), ("top", "file", "top-file"), ("top", "backing", "disk"),
                          ("export 'export-disk'", "root", "disk")}
    assert edges["export 'export-disk'", "root", "disk"] == (
        ["write", "consistent-read"], ["resize", "write-unchanged", "write", "consistent-read"])
