"""Configurations that are applied while guests write: nodes are reopened, replaced, added and removed below their exports.
Clients see no error, and what they have written is there."""

import copy
import signal
import subprocess

import images
import pytest
from cairnctl import cairnctl
from guests import Guests
from images import MIB, check, content
from qmp import QMPError
from terminal import Terminal
from test_config_files import write
from test_hung import wait_until


def in_flight(qmp, command):
    return [found for found in qmp.execute("query-commands-in-flight") if found["command"] == command]


NODES = [
    {"driver": "file", "node-name": "base-file", "filename": "base.qcow2", "read-only": True},
    {"driver": "qcow2", "node-name": "base", "file": "base-file", "read-only": True},
    {"driver": "qcow2", "node-name": "disk", "backing": "base", "file": {"driver": "file", "filename": "disk.qcow2"}},
    {"driver": "raw", "node-name": "top", "file": "disk"},
]
CONFIG = {
    "nodes": NODES,
    "nbd-server": {"addr": {"type": "unix", "path": "nbd.sock"}},
    "exports": [{"type": "nbd", "id": "e", "node-name": "top", "name": "disk", "writable": True}],
}


def with_nodes(*changes):
    """CONFIG where the node of each change has these options."""
    config = copy.deepcopy(CONFIG)
    for change in changes:
        for node in config["nodes"]:
            if node["node-name"] == change["node-name"]:
                node.update(change)
    return config


CHANGES = [
    with_nodes({"node-name": "disk", "discard": "unmap", "cache": {"no-flush": True}}),  # reopened
    with_nodes({"node-name": "disk", "file": {"driver": "file", "filename": "disk.qcow2", "aio": "threads"}}),  # replaced
    with_nodes({"node-name": "base-file", "discard": "unmap", "locking": "off"}),  # two levels below the export
    with_nodes({"node-name": "top", "offset": 0}, {"node-name": "base", "lazy-refcounts": False}),
    CONFIG,
]


def test_guests_write_while_their_nodes_change(daemon, qmp, tmp_path):
    images.create(tmp_path / "base.qcow2", "2M")
    images.create(tmp_path / "disk.qcow2", "2M", backing=tmp_path / "base.qcow2")
    qmp.execute("config-apply", config=CONFIG)
    model = bytearray(2 * MIB)
    kinds = set()
    with Guests(tmp_path / "nbd.sock", "disk", model, count=2, seed="reconcile") as guests:
        for number in range(10):
            guests.let_work(20)
            plan = qmp.execute("config-apply", config=CHANGES[number % len(CHANGES)])
            kinds |= {step["action"] for step in plan["steps"]}
        guests.let_work(20)
        broken = with_nodes({"node-name": "disk", "file": {"driver": "file", "filename": "no-such-file"}})
        assert qmp.error("config-apply", config=broken).desc.endswith("; all is as it was before")
        guests.let_work(20)
    assert not guests.failures, guests.failures
    assert kinds == {"reopen", "replace"}
    assert qmp.execute("config-apply", config=CONFIG)["steps"] == []
    daemon.stop()
    assert content(tmp_path / "disk.qcow2") == bytes(model)
    check(tmp_path / "disk.qcow2")


def test_an_export_moves_and_its_clients_stay(daemon, qmp, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(MIB))
    nodes = [{"driver": "file", "node-name": name, "filename": name} for name in ("a", "b")]
    config = {"nodes": nodes, "nbd-server": CONFIG["nbd-server"],
              "exports": [{"type": "nbd", "id": "e", "node-name": "a", "name": "disk", "writable": True}]}
    qmp.execute("config-apply", config=config)
    other = copy.deepcopy(config)
    other["exports"][0]["node-name"] = "b"
    del other["nodes"][0]
    with subprocess.Popen(["qemu-io", "-f", "raw", f"nbd+unix:///disk?socket={tmp_path}/nbd.sock"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        def run(command):
            client.stdin.write(command + "\n")
            client.stdin.flush()
            while "ops;" not in (line := client.stdout.readline()):
                assert line, "the client has ended"
        run("write -P 1 0 4096")
        steps = qmp.execute("config-apply", config=other)["steps"]
        assert [step["text"] for step in steps] == ["move export 'e': node-name: \"a\" -> \"b\"", "remove node 'a'"]
        run("write -P 2 4096 4096")
        client.stdin.close()
        assert client.wait(20) == 0
    daemon.stop()
    assert (tmp_path / "a").read_bytes()[:8192] == b"\1" * 4096 + bytes(4096)
    assert (tmp_path / "b").read_bytes()[:8192] == bytes(4096) + b"\2" * 4096


HELD = {
    "nodes": [{"driver": "null-co", "node-name": "n", "size": MIB}, {"driver": "gate", "node-name": "gate", "file": "n"},
              {"driver": "raw", "node-name": "top", "file": "gate"}],
    "nbd-server": CONFIG["nbd-server"],
    "exports": CONFIG["exports"],
}


@pytest.mark.parametrize("change", [("nodes", 2, {"discard": "unmap"}), ("nodes", 2, {"driver": "copy-on-read"}),
                                    ("exports", 0, {"node-name": "n"})], ids=["reopen", "replace", "move"])
def test_requests_that_do_not_end_hold_nobody_whose_command_is_cancelled(daemon, qmp, tmp_path, change):
    changed = copy.deepcopy(HELD)
    changed[change[0]][change[1]].update(change[2])
    qmp.execute("config-apply", config=HELD)
    qmp.execute("x-gate-hold", node_name="gate")
    guest = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "write 0 4k", f"nbd+unix:///disk?socket={tmp_path}/nbd.sock"])
    wait_until(lambda: qmp.execute("x-gate-query", node_name="gate")["held"])
    first, second = daemon.connect(), daemon.connect()
    changing = first.start("config-apply", config=changed)
    wait_until(lambda: in_flight(qmp, "config-apply"))
    waiting = second.start("config-apply", config=HELD)
    wait_until(lambda: "another configuration" in in_flight(qmp, "config-apply")[-1]["waits-for"])
    for command in reversed(in_flight(qmp, "config-apply")):
        qmp.execute("cancel-command", number=command["number"])
    for client, command in ((first, changing), (second, waiting)):
        with pytest.raises(QMPError, match="was cancelled while it waited"):
            client.finish(command)
    assert qmp.execute("config-apply", config=HELD)["steps"] == []  # requests wait still, and nobody for them
    qmp.execute("x-gate-release", node_name="gate")
    assert guest.wait(20) == 0


def test_an_export_whose_requests_do_not_end_is_said_to_be_gone(daemon, qmp, tmp_path):
    qmp.execute("config-apply", config=HELD)
    qmp.execute("x-gate-hold", node_name="gate")
    guest = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "write 0 4k", f"nbd+unix:///disk?socket={tmp_path}/nbd.sock"])
    wait_until(lambda: qmp.execute("x-gate-query", node_name="gate")["held"])
    error = qmp.error("config-apply", config={**HELD, "exports": []}).desc
    assert error.endswith("have not ended in time; it is gone when they have; all else is as it was before"), error
    qmp.execute("x-gate-release", node_name="gate")
    guest.wait(20)
    wait_until(lambda: not qmp.execute("query-block-exports"))
    steps = qmp.execute("config-apply", config=HELD)["steps"]
    assert [step["text"] for step in steps] == ["add export 'e'"]


# By hand and by signal ------------------------------------------------------------------------------------------------

BEFORE = """\
    nodes:
    - {driver: null-co, node-name: a, size: "${SIZE:-65536}"}
    """
AFTER = """\
    nodes:
    - {driver: null-co, node-name: a, size: "${SIZE:-65536}"}
    - {driver: raw, node-name: b, file: a}
    """


def nodes_of(qmp):
    return [node["node-name"] for node in qmp.execute("query-config")["config"].get("nodes", [])]


def test_cairnctl_applies_files_and_directories(daemon, qmp, tmp_path):
    write(tmp_path / "one.yaml", BEFORE)
    write(tmp_path / "conf.d" / "a.yaml", BEFORE)
    write(tmp_path / "conf.d" / "b.yaml", "nodes:\n- {driver: raw, node-name: b, file: a}\n")
    assert cairnctl(daemon.socket, "apply", "-n", tmp_path / "one.yaml").stdout == "add node 'a'\n"
    assert nodes_of(qmp) == []
    assert cairnctl(daemon.socket, "apply", tmp_path / "one.yaml").stdout == "add node 'a'\n"
    assert cairnctl(daemon.socket, "apply", tmp_path / "conf.d").stdout == "add node 'b'\n"
    assert cairnctl(daemon.socket, "apply", tmp_path / "conf.d").stdout == "nothing to do\n"
    assert nodes_of(qmp) == ["a", "b"]
    assert cairnctl(daemon.socket, "apply", "-", stdin="{}").stdout == "remove node 'b'\nremove node 'a'\n"
    wrong = write(tmp_path / "wrong.yaml", "nodes:\n- {driver: nil}\n")
    error = cairnctl(daemon.socket, "apply", wrong, status=1).stderr
    assert error.startswith(f"cairnctl: {wrong}:2:12: nodes.0.driver: 'nil' is not a BlockdevDriver"), error
    assert "no-such-file" in cairnctl(daemon.socket, "apply", "no-such-file", status=2).stderr


@pytest.mark.parametrize("more, text", [("", "add bitmap 'n/?[2Jx'"), (", granularity: 5", "add bitmap 'n/?[2Jx': ")],
                         ids=["done", "refused"])
def test_names_play_no_tricks_with_a_terminal(daemon, tmp_path, more, text):
    path = write(tmp_path / "tricks.yaml", f"""\
        nodes:
        - {{driver: null-co, node-name: n, size: 65536}}
        bitmaps:
        - {{node: n, name: "\\e[2Jx"{more}}}
        """)
    terminal = Terminal(daemon.socket, "apply", path)
    terminal.end()
    assert text in terminal.rest and "\33[2J" not in terminal.rest


def test_what_was_saved_applies_to_nothing(daemon, qmp, tmp_path):
    images.create(tmp_path / "base.qcow2", "2M")
    images.create(tmp_path / "disk.qcow2", "2M", backing=tmp_path / "base.qcow2")
    qmp.execute("config-apply", config=CONFIG)
    cairnctl(daemon.socket, "save", tmp_path / "saved.yaml")
    assert cairnctl(daemon.socket, "apply", tmp_path / "saved.yaml").stdout == "nothing to do\n"


def test_hangup_reads_the_files_again(start_daemon, tmp_path):
    write(tmp_path / "conf.d" / "a.yaml", BEFORE)
    daemon = start_daemon("--log-level", "info", "--config", "conf.d")
    qmp = daemon.connect()
    write(tmp_path / "conf.d" / "a.yaml", AFTER)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("the configuration was applied: 1 steps")
    assert qmp.wait_event("CONFIG_APPLIED")["data"] == {"steps": 1}
    assert nodes_of(qmp) == ["a", "b"]
    write(tmp_path / "conf.d" / "a.yaml", "nodes: 7\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("the configuration was not applied: conf.d/a.yaml:1:8: nodes: expected array, got string")
    assert qmp.wait_event("CONFIG_APPLIED")["data"] == {
        "steps": 0, "error": "conf.d/a.yaml:1:8: nodes: expected array, got string"}
    assert nodes_of(qmp) == ["a", "b"]
    write(tmp_path / "conf.d" / "a.yaml", BEFORE)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("remove node 'b'")
    daemon.wait_for_log("the configuration was applied: 1 steps", count=2)
    assert nodes_of(qmp) == ["a"]


def test_hangup_ends_a_daemon_without_files(daemon):
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.process.wait(20) == 0


def test_configurations_are_applied_one_at_a_time(daemon, tmp_path):
    clients = [daemon.connect() for _ in range(8)]
    config = {"nodes": [{"driver": "null-co", "node-name": f"n{i}", "size": 65536} for i in range(50)]}
    ids = [client.start("config-apply", config=config if i % 2 else {}) for i, client in enumerate(clients)]
    for client, id_ in zip(clients, ids):
        assert client.finish(id_)["applied"]
    assert len(nodes_of(clients[0])) in (0, 50)  # of whoever came last
