"""Commands that wait: seen by everybody, overtaken out of band, given up.

What waits here does so for a gate; opens of storage that never answers are in test_open_cancelled.py."""

import nbd
import pytest

import nbd_client
from images import MIB, create
from qmp import QMP
from test_hung import wait_until


@pytest.fixture
def gated(daemon, tmp_path):
    """A qcow2 image over a gate that holds all requests from now on; its client."""
    path = create(tmp_path / "disk.qcow2", 16 * MIB)
    control = daemon.connect()
    control.execute("blockdev-add", driver="qcow2", node_name="disk",
                    file={"driver": "gate", "node-name": "gate", "file": {"driver": "file", "filename": str(path)}})
    control.execute("x-gate-hold", node_name="gate")
    return control


def oob_client(daemon):
    client = daemon.connect(negotiate=False)
    client.execute("qmp_capabilities", enable=["oob"])
    return client


def out_of_band(client, command, **arguments):
    client.send({"exec-oob": command, "arguments": arguments, "id": "oob"})
    reply = client.receive_reply()
    assert reply["id"] == "oob"
    return reply.get("return", reply.get("error"))


def in_flight(client):
    return client.execute("query-commands-in-flight")


def hold(control, gated=1):
    wait_until(lambda: control.execute("x-gate-query", node_name="gate")["held"] >= gated)


def test_a_command_that_waits_can_be_seen_and_cancelled(gated, daemon):
    client = oob_client(daemon)
    resize = client.start("block_resize", node_name="disk", size=32 * MIB)
    queued = client.start("query-version")
    hold(gated)
    running, waiting = in_flight(gated)
    assert (running["command"], running["id"], running["state"]) == ("block_resize", resize, "running")
    assert (waiting["command"], waiting["id"], waiting["state"]) == ("query-version", queued, "queued")
    assert running["client"] == waiting["client"] and waiting["number"] > running["number"]
    assert running["waits-for"] and running["age-ms"] >= 0

    assert [command["number"] for command in out_of_band(client, "query-commands-in-flight")] == [
        running["number"], waiting["number"]]
    client.send({"exec-oob": "cancel-command", "arguments": {"id": resize}})
    cancelled = client.receive_reply()
    assert cancelled["id"] == resize and "was cancelled while it waited for" in cancelled["error"]["desc"]
    assert client.receive_reply() == {"return": {}}
    client.finish(queued)

    left, = in_flight(gated)
    assert (left["number"], left["state"]) == (running["number"], "cancelled")
    gated.execute("cancel-command", number=left["number"])  # again changes nothing
    gated.execute("x-gate-release", node_name="gate")
    wait_until(lambda: in_flight(gated) == [])
    assert "which was cancelled" in daemon.log
    assert "no command" in gated.error("cancel-command", number=left["number"]).desc


def test_many_commands_are_listed(daemon, gated):
    clients = [oob_client(daemon) for _ in range(10)]
    for client in clients:
        client.start("block_resize", node_name="disk", size=32 * MIB)
        for _ in range(15):
            client.start("query-version")
    wait_until(lambda: len(in_flight(gated)) == 10 * 16)
    assert len(out_of_band(clients[0], "query-commands-in-flight")) == 10 * 16
    numbers = [command["number"] for command in in_flight(gated)]
    assert len(set(numbers)) == len(numbers)
    for command in in_flight(gated):
        if command["state"] == "queued":
            gated.execute("cancel-command", number=command["number"])
    gated.execute("x-gate-release", node_name="gate")
    for client in clients:
        replies = [client.receive_reply() for _ in range(16)]
        assert "return" in replies[0] and all("before it began" in reply["error"]["desc"] for reply in replies[1:])
    assert in_flight(gated) == []


def test_what_cannot_be_cancelled(qmp, daemon):
    client = oob_client(daemon)
    assert "no command with number 4711" in qmp.error("cancel-command", number=4711).desc
    assert "no command of this client with id \"x\"" in qmp.error("cancel-command", id="x").desc
    for arguments in ({}, {"number": 1, "id": 1}):
        assert qmp.error("cancel-command", arguments).desc == "one of 'number' and 'id' must be given"
    assert out_of_band(client, "query-version")["desc"] == "The command query-version does not support OOB"
    assert in_flight(qmp) == []


def test_an_open_that_ends_after_all_leaves_no_node(daemon, qmp, tmp_path):
    """The gate lets it read the header late, but nobody wants the node any more."""
    control, victim = qmp, daemon.connect()
    path = create(tmp_path / "late.qcow2", MIB)
    control.execute("blockdev-add", driver="gate", node_name="gate", file={"driver": "file", "filename": str(path)})
    control.execute("x-gate-hold", node_name="gate")
    victim.start("blockdev-add", driver="raw", node_name="top",
                 file={"driver": "qcow2", "node-name": "unwanted", "file": "gate"})
    hold(control)
    control.execute("cancel-command", number=in_flight(control)[0]["number"])
    assert "was cancelled" in victim.receive_reply()["error"]["desc"]
    control.execute("x-gate-release", node_name="gate")
    wait_until(lambda: in_flight(control) == [])
    names = {node["node-name"] for node in control.execute("query-named-block-nodes", flat=True)}
    assert not names & {"top", "unwanted"}


def test_a_change_of_the_graph_that_waits_for_requests_is_given_up(daemon, qmp, tmp_path):
    """The drain ends, so that others may go on before the request that is held does; the graph is as it was."""
    control, victim = qmp, daemon.connect()
    (tmp_path / "disk.raw").write_bytes(bytes(MIB))
    create(tmp_path / "top.qcow2", MIB)
    control.execute("blockdev-add", driver="gate", node_name="gate",
                    file={"driver": "file", "filename": daemon.path("disk.raw")})
    control.execute("blockdev-add", driver="qcow2", node_name="top", backing=None,
                    file={"driver": "file", "filename": daemon.path("top.qcow2")})
    socket = nbd_client.start_server(control, tmp_path)
    nbd_client.export(control, "gate")
    client = nbd_client.connect_plainly(socket, "gate")
    control.execute("x-gate-hold", node_name="gate", operation="read")
    client.aio_pread(nbd.Buffer(512), 0)
    client.poll(100)
    hold(control)
    command = victim.start("blockdev-snapshot", node="gate", overlay="top")
    wait_until(lambda: any(running["waits-for"].startswith("holding requests back") for running in in_flight(control)))
    control.execute("cancel-command", number=in_flight(control)[0]["number"])
    reply = victim.receive_reply()
    assert reply["id"] == command and "was cancelled" in reply["error"]["desc"]
    wait_until(lambda: in_flight(control) == [])  # while the gate is closed still
    other = nbd_client.connect_plainly(socket, "gate")
    assert other.get_size() == MIB
    control.execute("x-gate-release", node_name="gate")
    assert other.pread(512, 0) == bytes(512)
    exported, = control.execute("query-block-exports")
    assert exported["node-name"] == "gate"
    control.execute("blockdev-snapshot", node="gate", overlay="top")
    exported, = control.execute("query-block-exports")
    assert exported["node-name"] == "top"


def test_a_job_that_nobody_wants_any_more_ends_as_it_begins(daemon, qmp, tmp_path):
    """The mirror's filter goes into the graph when requests let it; then the job undoes it."""
    control, victim = qmp, daemon.connect()
    (tmp_path / "disk.raw").write_bytes(bytes(MIB))
    control.execute("blockdev-add", driver="gate", node_name="gate",
                    file={"driver": "file", "filename": daemon.path("disk.raw")})
    control.execute("blockdev-add", driver="null-co", node_name="target", size=MIB)
    socket = nbd_client.start_server(control, tmp_path)
    nbd_client.export(control, "gate")
    client = nbd_client.connect_plainly(socket, "gate")
    control.execute("x-gate-hold", node_name="gate", operation="read")
    client.aio_pread(nbd.Buffer(512), 0)
    client.poll(100)
    hold(control)
    victim.start("blockdev-mirror", job_id="mirror", device="gate", target="target", sync="full")
    wait_until(lambda: "requests in flight" in "".join(running["waits-for"] for running in in_flight(control)))
    control.execute("cancel-command", number=in_flight(control)[0]["number"])
    assert "was cancelled" in victim.receive_reply()["error"]["desc"]
    control.execute("x-gate-release", node_name="gate")
    wait_until(lambda: not in_flight(control) and not control.execute("query-jobs"))
    exported, = control.execute("query-block-exports")
    assert exported["node-name"] == "gate"
    control.execute("blockdev-del", node_name="target")


def test_the_commands_of_a_client_that_left_are_listed(daemon, gated):
    leaving = QMP(daemon.socket)
    leaving.start("block_resize", node_name="disk", size=32 * MIB)
    hold(gated)
    leaving.start("query-version")
    leaving.close()
    wait_until(lambda: [command["state"] for command in in_flight(gated)] == ["running"])
    gated.execute("cancel-command", number=in_flight(gated)[0]["number"])
    wait_until(lambda: [command["state"] for command in in_flight(gated)] == ["cancelled"])
    gated.execute("x-gate-release", node_name="gate")
    wait_until(lambda: in_flight(gated) == [])


def test_the_end_waits_for_what_was_cancelled(daemon, gated):
    victim = daemon.connect()
    victim.start("block_resize", node_name="disk", size=32 * MIB)
    hold(gated)
    gated.execute("cancel-command", number=in_flight(gated)[0]["number"])
    gated.execute("quit")
    assert daemon.wait() == 0
