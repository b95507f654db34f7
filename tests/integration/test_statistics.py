"""query-statistics: nodes, exports and who uses them, jobs, commands, the process, in one answer."""

import time

import nbd
import pytest
from images import MIB
from nbd_client import connect, export, serve_disk, start_server
from qmp import DEADLINE, QMP, QMPError


def statistics(qmp):
    answer = qmp.execute("query-statistics")
    return answer, {node["node-name"]: node for node in answer["nodes"]}, {
        item["id"].removeprefix("export-"): item for item in answer["exports"]}


def counted(counters):
    return counters["operations"], counters["bytes"], counters["failed"], counters["refused"]


def until(qmp, condition):
    """The first statistics for which it holds: replies are sent before connections have come to rest."""
    end = time.monotonic() + DEADLINE
    while not condition(*(seen := statistics(qmp))):
        assert time.monotonic() < end, f"still {seen[0]}"
    return seen


@pytest.fixture
def disk(qmp, tmp_path):
    return serve_disk(qmp, tmp_path)


def test_requests_are_counted_at_nodes_and_exports_and_timed_where_they_enter(qmp, disk):
    for i in range(5):
        disk.pread(4096, i * 4096)
    for i in range(3):
        disk.pwrite(b"y" * 1000, i * 1000)
    disk.zero(8192, 65536)
    disk.flush()
    disk.trim(65536, 131072)
    answer, nodes, exports = statistics(qmp)
    assert answer["latency-bounds-ns"][:4] == [0, 128, 192, 256]
    assert exports["disk"]["node-name"] == "disk" and exports["disk"]["type"] == "nbd"
    for io in (nodes["disk"]["io"], nodes["file"]["io"], exports["disk"]["io"]):
        assert counted(io["read"]) == (5, 5 * 4096, 0, 0)
        assert counted(io["write"]) == (4, 3000 + 8192, 0, 0)
        assert counted(io["flush"]) == (1, 0, 0, 0)
        assert counted(io["discard"]) == (1, 65536, 0, 0)
    for io in (nodes["disk"]["io"], exports["disk"]["io"]):
        for kind in ("read", "write", "flush", "discard"):
            assert sum(io[kind]["latency"]) == io[kind]["operations"]
            assert 0 < io[kind]["total-time-ns"] < 5e9 and io[kind]["latency"][-1] > 0
    assert nodes["file"]["io"]["read"]["latency"] == [] and nodes["file"]["io"]["read"]["total-time-ns"] == 0


def test_the_bins_agree_with_the_time_in_all(qmp, disk):
    for i in range(200):
        disk.pread(4096, i * 4096)
    answer, nodes, _ = statistics(qmp)
    bounds, read = answer["latency-bounds-ns"], nodes["disk"]["io"]["read"]
    least = sum(count * bounds[bin] for bin, count in enumerate(read["latency"]))
    most = sum(count * bounds[bin + 1] for bin, count in enumerate(read["latency"]))
    assert least * 0.99 <= read["total-time-ns"] <= most * 1.01


def test_what_failed_and_what_was_refused_is_told_apart(qmp, tmp_path):
    qmp.execute("blockdev-add", {"driver": "blkdebug", "node-name": "bad", "image": {"driver": "null-co", "size": MIB},
                                 "inject-error": [{"event": "none", "iotype": "read"}]})
    socket = start_server(qmp, tmp_path)
    export(qmp, "bad")
    with pytest.raises(nbd.Error):
        connect(socket, "bad").pread(512, 0)
    _, nodes, exports = statistics(qmp)
    assert counted(nodes["bad"]["io"]["read"]) == counted(exports["bad"]["io"]["read"]) == (0, 0, 1, 0)
    assert nodes["bad"]["io"]["read"]["latency"] == []


def test_requests_that_wait_are_seen_at_every_layer(qmp, tmp_path):
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "top", "file": {
        "driver": "gate", "node-name": "gate", "file": {"driver": "null-co", "node-name": "null", "size": MIB}}})
    socket = start_server(qmp, tmp_path)
    export(qmp, "top")
    client = connect(socket, "top")
    qmp.execute("x-gate-hold", {"node-name": "gate"})
    buffers = [nbd.Buffer(512) for _ in range(3)]
    cookies = [client.aio_pread(buffer, 0) for buffer in buffers]
    _, nodes, exports = until(qmp, lambda _, nodes, __: nodes["gate"]["in-flight"] == 3)
    assert nodes["top"]["in-flight"] == exports["top"]["in-flight"] == 3 and nodes["null"]["in-flight"] == 0
    assert [(user["in-flight"], user["requests"]) for user in exports["top"]["clients"]] == [(3, 0)]
    assert nodes["top"]["io"] == {}
    qmp.execute("x-gate-release", {"node-name": "gate"})
    for cookie in cookies:
        while not client.aio_command_completed(cookie):
            assert client.poll(int(DEADLINE * 1000)) == 1
    _, nodes, exports = until(qmp, lambda _, __, exports: exports["top"]["clients"][0]["in-flight"] == 0)
    assert [node["in-flight"] for node in nodes.values()] == [0, 0, 0]
    assert nodes["null"]["io"]["read"]["operations"] == 3


def test_each_client_of_an_export_has_its_own_count(qmp, tmp_path, disk):
    other = connect(tmp_path / "nbd.sock", "disk")
    disk.pread(4096, 0)
    disk.pwrite(b"z" * 512, 0)
    other.pread(8192, 0)
    _, _, exports = until(qmp, lambda _, __, exports: [user["in-flight"] for user in exports["disk"]["clients"]] == [0, 0])
    clients = exports["disk"]["clients"]
    assert [(user["requests"], user["bytes-read"], user["bytes-written"]) for user in clients] == [(2, 4096, 512),
                                                                                                   (1, 8192, 0)]
    assert all(user["address"].startswith("unix:pid=") for user in clients)
    assert clients[0]["age-ns"] >= clients[1]["age-ns"] > 0
    other.shutdown()
    until(qmp, lambda _, __, exports: len(exports["disk"]["clients"]) == 1)


def test_an_export_that_comes_again_begins_anew_while_its_node_goes_on(qmp, tmp_path, disk):
    disk.pread(4096, 0)
    disk.shutdown()
    qmp.execute("block-export-del", {"id": "export-disk", "mode": "hard"})
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    export(qmp, "disk", writable=True)
    _, nodes, exports = statistics(qmp)
    assert exports["disk"]["io"] == {} and counted(nodes["disk"]["io"]["read"]) == (1, 4096, 0, 0)


def test_jobs_commands_and_the_process_are_in_it(qmp):
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "a", "size": MIB})
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "b", "size": MIB})
    with pytest.raises(QMPError):
        qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "a"})
    qmp.execute("blockdev-backup", {"job-id": "copy", "device": "a", "target": "b", "sync": "full", "auto-dismiss": False})
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")
    answer, _, _ = statistics(qmp)
    assert answer["jobs"] == qmp.execute("query-jobs") and answer["jobs"][0]["id"] == "copy"
    commands = {item["command"]: item for item in answer["commands"]}
    assert list(commands) == sorted(commands)
    add = commands["blockdev-add"]
    assert (add["calls"], add["failed"], sum(add["latency"])) == (3, 1, 3) and add["total-time-ns"] > 0
    assert "query-statistics" not in commands  # it has not ended yet
    process = answer["process"]
    assert process["qmp-clients"] == 1 and 1 << 20 < process["resident-bytes"] < 1 << 33
    assert [loop["name"] for loop in process["loops"]][0] == "io-0" and process["loops"][-1]["name"] == "control"
    assert process["cpu-time-ns"] >= max(loop["cpu-time-ns"] for loop in process["loops"]) > 0
    assert 0 < process["uptime-ns"] < 600e9


def test_storage_that_hangs_delays_no_answer(qmp, tmp_path):
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "gate", "file": {"driver": "null-co", "size": MIB}})
    qmp.execute("x-gate-hold", {"node-name": "gate"})
    socket = start_server(qmp, tmp_path)
    export(qmp, "gate")
    client = connect(socket, "gate")
    client.aio_pread(nbd.Buffer(512), 0)
    until(qmp, lambda _, nodes, __: nodes["gate"]["in-flight"] == 1)
    qmp.start("block-export-del", {"id": "export-gate", "mode": "hard"})
    _, _, exports = statistics_of_other(qmp, tmp_path)
    assert exports["gate"]["in-flight"] == 1


def statistics_of_other(qmp, tmp_path):
    with QMP(tmp_path / "qmp.sock") as other:
        return statistics(other)


def test_many_nodes_are_all_there(qmp):
    for number in range(300):
        qmp.execute("blockdev-add", {"driver": "null-co", "node-name": f"n{number}", "size": MIB})
    _, nodes, _ = statistics(qmp)
    assert list(nodes) == [f"n{number}" for number in range(300)]
    assert nodes["n7"] == {"node-name": "n7", "driver": "null-co", "in-flight": 0, "io": {}}
