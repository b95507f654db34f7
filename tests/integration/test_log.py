"""The log: levels, forms, systemd's journal, and what happens when it is not read or comes too fast."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

import pytest
from process import CAIRND, run_cairnd
from qmp import DEADLINE, connect_patiently

def without_clients(lines):
    return [line for line in lines if "comes in with the role" not in line]


def start_job_that_fails(qmp):
    """A line of level "info" about a job."""
    qmp.execute("blockdev-add", driver="null-co", node_name="n", size=4096)
    qmp.execute("blockdev-create", job_id="make", options={"driver": "luks", "file": "n", "size": 1 << 40})
    qmp.wait_job("make")


class Journal:
    """Reads entries in the native form."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(DEADLINE)

    def entry(self):
        data, fields = self.socket.recv(65536), {}
        while data:
            name, _, rest = data.partition(b"\n")
            if b"=" in name:
                key, _, value = name.partition(b"=")
                data = rest
            else:
                key, (length,) = name, struct.unpack("<Q", rest[:8])
                value, data = rest[8:8 + length], rest[9 + length:]
            fields[key.decode()] = value.decode()
        return fields

    def entry_with(self, text):
        while text not in (entry := self.entry())["MESSAGE"]:
            pass
        return entry


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    with contextlib.closing(journal.socket):
        yield journal


# Levels and forms -------------------------------------------------------------------------------------------------


def test_what_is_not_urgent_is_left_out(start_daemon):
    daemon = start_daemon()
    start_job_that_fails(daemon.connect())
    daemon.stop()
    assert daemon.log == ""


def test_what_happened(start_daemon):
    daemon = start_daemon("--log", "info")
    start_job_that_fails(daemon.connect())
    daemon.stop()
    lines = without_clients(daemon.log.splitlines())
    assert lines[0] == "cairnd: info: in service"
    assert lines[1].startswith("cairnd: info: job 'make' (create) has failed: ")
    assert lines[2:] == ["cairnd: info: ending on signal 15"]


def test_lines_with_what_they_are_about(start_daemon):
    daemon = start_daemon("--log", "level=debug,fields=on")
    qmp = daemon.connect()
    start_job_that_fails(qmp)
    assert re.search(r"^cairnd: info: job 'make' .* job=make message-id=[0-9a-f]{32}$", daemon.log, re.MULTILINE)
    assert re.search(r"^cairnd: debug: .* <-- blockdev-create.* client=\"monitor '.*' client \d+\" "
                     r"command=blockdev-create command-id=\d+$", daemon.log, re.MULTILINE)


def test_lines_of_json(start_daemon):
    daemon = start_daemon("--log", "info,target=json")
    start_job_that_fails(daemon.connect())
    daemon.stop()
    lines = [json.loads(line) for line in without_clients(daemon.log.splitlines())]
    assert [line["level"] for line in lines] == ["info"] * 3
    assert lines[0]["message"] == "in service" and lines[1]["job"] == "make"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[0]["time"])


def test_yaml(start_daemon, tmp_path):
    (tmp_path / "c.yaml").write_text("log: { level: info, target: json }\n")
    daemon = start_daemon("--config", "c.yaml")
    daemon.wait_for_log("in service")
    assert "in service" in [json.loads(line)["message"] for line in daemon.log.splitlines()]


def test_a_stranger_cannot_forge_lines(tmp_path):
    result = run_cairnd("--trace", "x\ncairnd: all is well", "--check", cwd=tmp_path)
    assert result.stderr == "cairnd: warning: trace event 'x cairnd: all is well' does not exist\n"


@pytest.mark.parametrize("option, message", [
    ("loud", "--log loud: level: "), ("target=printer", "--log target=printer: target: "), ("x=1", "--log x=1: x: ")])
def test_mistakes(option, message):
    result = run_cairnd("--log", option)
    assert result.returncode == 1 and result.stderr.startswith("cairnd: " + message), result


def test_the_level_changes_at_run_time(daemon, qmp):
    assert qmp.execute("query-log") == {"level": "warning", "target": "auto", "left-out": 0, "lost": 0}
    qmp.execute("set-log-level", level="debug")
    qmp.execute("query-version")
    assert qmp.execute("query-log")["target"] == "stderr"
    qmp.execute("set-log-level", level="warning")
    qmp.execute("query-commands")
    assert "--> {\"execute\": \"query-version\"" in daemon.log and "<-- query-version" in daemon.log
    assert "query-commands" not in daemon.log
    assert qmp.error("set-log-level", level="loud").error_class == "GenericError"


def test_secrets_are_in_no_form_of_it(start_daemon, journal, tmp_path):
    daemon = start_daemon("--log", f"debug,target=journal,journal-socket={tmp_path}/journal")
    daemon.connect().execute("object-add", qom_type="secret", id="s", data="very-secret")
    entry = journal.entry_with("--> {\"execute\": \"object-add\"")
    assert "very-secret" not in str(entry) and "(secret)" in entry["MESSAGE"]
    daemon.connect().error("blockdev-add", driver="http", node_name="n", url="http://me:very-secret@127.0.0.1:1/a")
    entry = journal.entry_with("--> {\"execute\": \"blockdev-add\"")
    assert "very-secret" not in str(entry) and "http://(secret)@127.0.0.1:1/a" in entry["MESSAGE"]


# The journal ------------------------------------------------------------------------------------------------------


def test_the_journal_gets_fields(start_daemon, journal, tmp_path):
    daemon = start_daemon("--log", f"info,target=journal,journal-socket={tmp_path}/journal")
    ready = journal.entry_with("in service")  # a client that is quick may be told of before
    assert ready == {"PRIORITY": "6", "SYSLOG_IDENTIFIER": "cairnd", "SYSLOG_FACILITY": "3", "MESSAGE": "in service",
                     "MESSAGE_ID": ready["MESSAGE_ID"]}
    qmp = daemon.connect()
    start_job_that_fails(qmp)
    failed = journal.entry_with("job")
    assert failed["CAIRN_JOB"] == "make" and re.fullmatch("[0-9a-f]{32}", failed["MESSAGE_ID"])
    qmp.execute("set-log-level", level="debug")
    qmp.execute("query-version")
    entry = journal.entry_with("<-- query-version")
    assert entry["PRIORITY"] == "7" and entry["CAIRN_COMMAND"] == "query-version"
    assert entry["CAIRN_CLIENT"].startswith("monitor '") and entry["CAIRN_COMMAND_ID"].isdigit()
    assert daemon.log == ""


def test_what_clients_and_exports_do_has_fields(start_daemon, journal, tmp_path):
    daemon = start_daemon("--log", f"info,target=journal,journal-socket={tmp_path}/journal",
                          "--blockdev", "null-co,node-name=n", "--nbd-server", "addr.type=unix,addr.path=nbd",
                          "--export", "nbd,id=some-export,node-name=n")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(daemon.path("nbd"))
        client.sendall(b"\0\0\0\1" + b"x" * 64)  # flags, and then no option
        entry = journal.entry_with("it sent what is no option")
    assert entry["CAIRN_CLIENT"] and entry["PRIORITY"] == "4"
    daemon.connect().execute("block-export-del", id="some-export")
    assert journal.entry_with("is gone")["CAIRN_EXPORT"] == "some-export"


def test_the_black_box_goes_there_too(start_daemon, journal, tmp_path):
    daemon = start_daemon("--log", f"target=journal,journal-socket={tmp_path}/journal")
    daemon.expected_status = -signal.SIGABRT
    daemon.process.send_signal(signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    assert journal.entry()["MESSAGE"].startswith("cairnd: dying of SIGABRT; what happened last")
    entry = journal.entry_with("daemon_state ready")
    assert entry["PRIORITY"] == "2" and entry["SYSLOG_IDENTIFIER"] == "cairnd"
    assert daemon.log == ""


def test_the_journal_is_found_by_itself(journal, tmp_path):
    """Where standard error is what the journal reads."""
    with open(tmp_path / "stderr", "w") as stderr:
        stat = os.fstat(stderr.fileno())
        subprocess.run([CAIRND, "--log", f"journal-socket={tmp_path}/journal", "--trace", "missing", "--check"],
                       env={**os.environ, "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}, stderr=stderr, check=True)
        assert journal.entry()["MESSAGE"] == "trace event 'missing' does not exist"
        assert (tmp_path / "stderr").read_text() == ""
        subprocess.run([CAIRND, "--trace", "missing", "--check"], stderr=stderr, check=True,
                       env={**os.environ, "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino + 1}"})
        assert "missing" in (tmp_path / "stderr").read_text()


def test_a_journal_that_does_not_read_holds_nobody_up(start_daemon, journal, tmp_path):
    daemon = start_daemon("--log", f"debug,target=journal,journal-socket={tmp_path}/journal")
    qmp = daemon.connect()
    while qmp.execute("query-log")["lost"] == 0:
        pass
    lost = qmp.execute("query-log")["lost"]
    messages = []
    while not any("lines of the log were lost: nobody took them" in message for message in messages):
        messages.append(journal.entry()["MESSAGE"])
        if len(messages) > 8:
            qmp.execute("query-version")
    told = next(message for message in messages if "were lost" in message)
    assert int(told.split()[0]) >= lost


def test_a_journal_that_is_begun_anew_is_found_again(start_daemon, tmp_path):
    daemon = start_daemon("--log", f"debug,target=journal,journal-socket={tmp_path}/journal")
    qmp = daemon.connect()
    assert qmp.execute("query-log")["lost"] > 0
    journal = Journal(tmp_path / "journal")
    with contextlib.closing(journal.socket):
        qmp.execute("query-version")
        assert "lines of the log were lost" in journal.entry()["MESSAGE"]
        assert "query-version" in journal.entry()["MESSAGE"]


# Standard error that nobody reads ---------------------------------------------------------------------------------


def test_a_pipe_that_is_full_holds_nobody_up(tmp_path):
    process = subprocess.Popen([CAIRND, "--log", "debug", "--chardev", "socket,id=m,path=m,server=on,wait=off",
                                "--monitor", "m"], cwd=tmp_path, stderr=subprocess.PIPE)
    with connect_patiently(tmp_path / "m") as qmp:
        while qmp.execute("query-log")["lost"] == 0:
            pass
        os.read(process.stderr.fileno(), 1 << 20)
        qmp.execute("query-version")
        text = b""
        while b"lines of the log were lost: nobody took them" not in text or b"<-- query-version" not in text:
            text += os.read(process.stderr.fileno(), 1 << 16)
        qmp.execute("quit")
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def test_a_flood_is_left_out_and_counted(start_daemon, tmp_path):
    """Warnings that come faster than anybody reads them."""
    (tmp_path / "names").write_text("".join(f"missing{number}\n" for number in range(3000)))
    daemon = start_daemon("--trace", "events=names")
    assert daemon.connect().execute("query-log")["left-out"] > 1000
    lines = daemon.log.splitlines()
    assert 1000 <= len(lines) < 2000
    assert lines[999] == "cairnd: warning: trace event 'missing999' does not exist"
