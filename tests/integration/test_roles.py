"""Who may use a command: the role of a monitor, from the command line and from the YAML file."""

import pytest
from process import run_cairnd
from qmp import QMP

ROLES = ["read", "operate", "admin"]
ALLOWED = {"query-version": ROLES, "query-qmp-schema": ROLES, "query-block-exports": ROLES,
           "blockdev-add": ["operate", "admin"], "blockdev-del": ["operate", "admin"],
           "nbd-server-start": ["admin"], "nbd-server-stop": ["admin"]}
ARGUMENTS = {"blockdev-add": {"driver": "null-co", "node-name": "disk"}, "blockdev-del": {"node-name": "disk"},
             "nbd-server-start": {"addr": {"type": "unix", "data": {"path": "nbd.sock"}}}}


def may(client, role):
    for command, roles in ALLOWED.items():
        arguments = ARGUMENTS.get(command, {})
        if role in roles:
            client.execute(command, arguments)
            continue
        error = client.error(command, arguments)
        assert error.error_class == "GenericError"
        assert error.desc == f"The command {command} needs the role '{roles[0]}', and this monitor gives '{role}'"


@pytest.mark.parametrize("role", ROLES)
def test_a_monitor_gives_its_role(start_daemon, role):
    daemon = start_daemon("--chardev", "socket,id=c,path=c.sock,server=on,wait=off", "--monitor", f"c,role={role}")
    with QMP(daemon.path("c.sock")) as client:
        may(client, role)


@pytest.mark.parametrize("role", ROLES)
def test_the_same_from_yaml(start_daemon, tmp_path, role):
    (tmp_path / "cairn.yaml").write_text(f"monitors:\n- {{path: c.sock, role: {role}}}\n")
    daemon = start_daemon("--config", "cairn.yaml")
    with QMP(daemon.path("c.sock")) as client:
        may(client, role)


def test_without_a_role_everything_is_allowed(daemon, qmp):
    may(qmp, "admin")
    qmp.execute("quit")
    assert daemon.wait() == 0


def test_monitors_of_one_daemon_differ(start_daemon, tmp_path):
    (tmp_path / "cairn.yaml").write_text("monitors:\n- {path: r.sock, role: read}\n- {path: a.sock}\n")
    daemon = start_daemon("--config", "cairn.yaml")
    with QMP(daemon.path("r.sock")) as reader, QMP(daemon.path("a.sock")) as admin:
        admin.execute("blockdev-add", driver="null-co", node_name="disk")
        assert [node["node-name"] for node in reader.execute("query-named-block-nodes", flat=True)] == ["disk"]
        assert "role" in reader.error("blockdev-del", node_name="disk").desc
        assert "role" in reader.error("quit").desc
        # Not a word about arguments that it may not give anyway, and none about whether a name exists.
        assert "role" in reader.error("blockdev-del", node_name=7).desc
        assert reader.execute("query-qmp-schema") == admin.execute("query-qmp-schema")
        admin.execute("blockdev-del", node_name="disk")


def test_a_role_that_does_not_exist():
    told = run_cairnd("--chardev", "socket,id=c,path=c.sock,server=on,wait=off", "--monitor", "c,role=admn", "--check")
    assert told.returncode == 1
    assert "--monitor c,role=admn: role: 'admn' is not a MonitorRole (did you mean 'admin'?)" in told.stderr


# What is logged ----------------------------------------------------------------------------------------------------

def test_at_level_debug_each_command_and_its_reply_are_logged(start_daemon):
    daemon = start_daemon("--log-level", "debug")
    with daemon.connect() as qmp:
        qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=4096)
        qmp.error("blockdev-del", node_name="nobody")
    log = daemon.log
    assert ('--> {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "disk", "size": 4096}, '
            '"id": 2}\n') in log
    assert '<-- blockdev-add, ' in log and ' ms: {"return": {}, "id": 2}\n' in log
    assert '{"error": {"class": "GenericError", "desc": "Failed to find node with node-name=\'nobody\'"}, "id": 3}\n' in log
    assert all("client" in line for line in log.splitlines() if "-->" in line or "<--" in line)


def test_otherwise_none_is(daemon, qmp):
    qmp.execute("query-version")
    assert daemon.log == ""
