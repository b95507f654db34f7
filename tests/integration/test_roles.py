"""Who may use a command: the role of a monitor, from the command line and from the YAML file."""

import grp
import json
import os
import pathlib
import pwd
import socket
import tempfile

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
        assert error.desc == (f"The command {command} needs the role '{roles[0]}', and this monitor gives '{role}' to "
                              f"uid {os.getuid()}, pid {os.getpid()}")


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


# Who it is ---------------------------------------------------------------------------------------------------------

def monitor(tmp_path, start_daemon, text):
    (tmp_path / "cairn.yaml").write_text(f"monitors:\n- {{path: c.sock, {text}}}\n")
    return start_daemon("--config", "cairn.yaml")


ME = pwd.getpwuid(os.getuid())
OTHER = "65533"  # nobody in particular


@pytest.mark.parametrize("rules,role", [
    (f"[{{user: {ME.pw_name}, role: operate}}]", "operate"),
    (f"[{{user: '{os.getuid()}', role: operate}}]", "operate"),
    (f"[{{group: '{os.getgid()}', role: operate}}]", "operate"),
    (f"[{{group: {grp.getgrgid(os.getgid()).gr_name}, role: operate}}]", "operate"),
    (f"[{{user: '{OTHER}', role: admin}}, {{group: '{OTHER}', role: admin}}, {{tls-name: '*', role: admin}}]", "read"),
    (f"[{{user: '{os.getuid()}', role: operate}}, {{group: '{os.getgid()}', role: admin}}]", "operate"),
])
def test_a_role_by_who_it_is(start_daemon, tmp_path, rules, role):
    daemon = monitor(tmp_path, start_daemon, f"role: read, roles: {rules}")
    with QMP(daemon.path("c.sock")) as client:
        may(client, role)
        assert [session["role"] for session in client.execute("query-sessions") if session["self"]] == [role]


def as_user(path, uid, groups):
    """Connects as somebody else, who then gives up: what the daemon says, until it closes or a moment has passed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            answer = client.recv(65536)
            if b"QMP" in answer:
                client.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-sessions"}')
            while answer.count(b"\n") < 3 and (data := client.recv(65536)):
                answer += data
        except OSError as error:
            answer = error.strerror.encode()
        os.write(write, answer)
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode()


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="becomes other users")


@pytest.fixture
def open_directory(tmp_path):
    """Where other users can reach a socket, too."""
    with tempfile.TemporaryDirectory(prefix="cairn-roles-") as directory:
        os.chmod(directory, 0o755)
        yield pathlib.Path(directory)


@needs_root
def test_users_differ_and_so_do_members_of_groups(start_daemon, tmp_path, open_directory):
    path = open_directory / "c.sock"
    (tmp_path / "cairn.yaml").write_text(f"""monitors:
- path: {path}
  mode: '0666'
  role: none
  roles: [ {{user: '4001', role: operate}}, {{group: '5001', role: read}} ]
- path: mine.sock
""")
    daemon = start_daemon("--config", "cairn.yaml")
    with QMP(daemon.path("mine.sock")) as admin:
        admin.execute("query-version")  # all is made
    answers = [json.loads(line) for line in as_user(str(path), 4001, []).splitlines()]
    me = answers[2]["return"][-1]
    assert me["role"] == "operate" and me["uid"] == 4001 and me["gid"] == 4001 and "user" not in me
    assert me["self"] and me["negotiated"] and me["commands"] == 2
    answers = [json.loads(line) for line in as_user(str(path), 4002, [5000, 5001]).splitlines()]
    assert answers[2]["return"][-1]["role"] == "read" and answers[2]["return"][-1]["uid"] == 4002
    refused = [json.loads(line) for line in as_user(str(path), 4003, []).splitlines()]
    assert [list(answer) for answer in refused] == [["error"]]
    assert refused[0]["error"]["desc"] == "this monitor gives it the role 'none'"
    assert "uid 4003, pid" in daemon.log and "is not let in: this monitor gives it the role 'none'" in daemon.log


@needs_root
@pytest.mark.parametrize("access,allowed", [("", []), ("owner: '4001'", [4001]),
                                            ("group: '4002', mode: '0660'", [4002]), ("mode: '666'", [4001, 4002])])
def test_mode_and_owner_of_a_socket_say_who_may_connect(start_daemon, tmp_path, open_directory, access, allowed):
    path = open_directory / "c.sock"
    (tmp_path / "cairn.yaml").write_text(f"monitors:\n- {{path: {path}, {access}}}\n- {{path: mine.sock}}\n")
    daemon = start_daemon("--config", "cairn.yaml")
    QMP(daemon.path("mine.sock")).close()
    for uid in (4001, 4002):
        answer = as_user(str(path), uid, [])
        assert ("QMP" in answer) == (uid in allowed), answer
        assert uid in allowed or answer == "Permission denied"


def test_the_same_on_the_command_line_and_at_run_time(start_daemon):
    daemon = start_daemon("--chardev", "socket,id=c,path=c.sock,server=on,wait=off,mode=0640",
                          "--monitor", f"chardev=c,role=none,roles.0.user={ME.pw_name},roles.0.role=read")
    assert os.stat(daemon.path("c.sock")).st_mode & 0o777 == 0o640
    with QMP(daemon.path("c.sock")) as reader, daemon.connect() as admin:
        may(reader, "read")
        admin.execute("chardev-add", {"id": "d", "backend": {"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": daemon.path("d.sock")}}, "mode": "0606"}}})
        assert os.stat(daemon.path("d.sock")).st_mode & 0o777 == 0o606
        admin.execute("monitor-add", {"chardev": "d", "role": "none", "roles": [{"user": ME.pw_name, "role": "operate"}]})
        with QMP(daemon.path("d.sock")) as operator:
            may(operator, "operate")


@pytest.mark.parametrize("text,message", [
    ("roles: [{user: nobody-here, role: read}]", "monitors.0: roles[0]: there is no user 'nobody-here'"),
    ("roles: [{group: nobody-here, role: read}]", "monitors.0: roles[0]: there is no group 'nobody-here'"),
    ("roles: [{role: read}]", "monitors.0: roles[0]: one of 'user', 'group' and 'tls-name' must be given"),
    ("roles: [{user: root, group: root, role: read}]", "one of 'user', 'group' and 'tls-name' must be given"),
    ("mode: '0888'", "mode: '0888' does not match"), ("owner: nobody-here", "there is no user 'nobody-here'"),
])
def test_rules_that_mean_nobody_end_the_start(tmp_path, text, message):
    (tmp_path / "cairn.yaml").write_text(f"monitors:\n- {{path: c.sock, {text}}}\n")
    told = run_cairnd("--config", "cairn.yaml", cwd=tmp_path)
    assert told.returncode == 1 and message in told.stderr
    assert not (tmp_path / "c.sock").exists()


def test_sessions_are_listed(daemon, qmp):
    other = daemon.connect(negotiate=False)
    mine, its = qmp.execute("query-sessions")
    assert mine["self"] and not its["self"] and its["number"] > mine["number"]
    for session in (mine, its):
        assert (session["pid"], session["uid"], session["gid"]) == (os.getpid(), os.getuid(), os.getgid())
        assert session["user"] == ME.pw_name and session["role"] == "admin" and session["queued"] == 0
        assert session["client"] == f"monitor '{daemon.socket}' client {session['number']}"
    assert mine["negotiated"] and not its["negotiated"]
    assert mine["executing"] and not its["executing"] and mine["commands"] == 2 and its["commands"] == 0
    other.close()
    while len(qmp.execute("query-sessions")) == 2:
        pass


def test_the_log_tells_who_comes_in(start_daemon):
    daemon = start_daemon("--log-level", "info")
    with daemon.connect():
        daemon.wait_for_log(f"monitor '{daemon.socket}': uid {os.getuid()}, pid {os.getpid()} comes in with the role 'admin'")


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
