"""The audit log: a JSON line for each command that may change something, in a file or in the journal."""

import json
import os
import re
import socket
import subprocess
import threading

import pytest
from images import create
from process import BUILD, run_cairnd
from qmp import QMP, QMPError
from test_hung import hung_fs, wait_until  # noqa: F401 (hung_fs is a fixture)

KIB = 1024
MIB = 1024 * KIB


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def waits_for_lines(path, count):
    """Replies do not wait for their lines."""
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= count)
    return lines_of(path)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "audit.log"


def test_a_line_has_who_what_and_what_became_of_it(start_daemon, log):
    daemon = start_daemon("--audit", f"path={log}")
    with daemon.connect() as qmp:
        qmp.execute("query-version")  # asks, and changes nothing
        qmp.send({"execute": "blockdev-add", "id": {"my": 1},
                  "arguments": {"driver": "null-co", "node-name": "disk", "size": 4096}})
        qmp.receive_reply()
        qmp.error("blockdev-del", node_name="nobody")
    add, delete = waits_for_lines(log, 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", add["time"])
    assert add["client"].startswith(f"monitor '{daemon.socket}' client ") and add["role"] == "admin"
    assert (add["uid"], add["pid"], add["id"]) == (os.getuid(), os.getpid(), {"my": 1})
    assert add["command"] == "blockdev-add" and add["result"] == "success" and "class" not in add
    assert add["arguments"] == {"driver": "null-co", "node-name": "disk", "size": 4096}
    assert 0 < add["seconds"] < 10
    assert (delete["result"], delete["class"]) == ("error", "GenericError") and delete["number"] > add["number"]
    assert delete["desc"] == "Failed to find node with node-name='nobody'"
    assert os.stat(log).st_mode & 0o777 == 0o600


def test_what_was_refused_is_there_too(start_daemon, log, tmp_path):
    (tmp_path / "c.yaml").write_text(f"audit: {{path: {log}}}\nmonitors:\n- {{path: r.sock, role: read}}\n")
    daemon = start_daemon("--config", "c.yaml")
    with QMP(daemon.path("r.sock")) as reader:
        reader.error("quit")
        reader.error("blockdev-del", node_name=7)
        reader.error("no-such-command")
    first, second = waits_for_lines(log, 2)
    assert first["command"] == "quit" and first["role"] == "read" and "needs the role 'admin'" in first["desc"]
    assert second["command"] == "blockdev-del" and "arguments" not in second  # they were not understood


def test_secrets_are_not(start_daemon, log):
    daemon = start_daemon("--audit", f"path={log}")
    with daemon.connect() as qmp:
        qmp.execute("object-add", qom_type="secret", id="s", data="hunter2")
        qmp.error("qom-set", path="/objects/s", property="data", value="hunter3")
        qmp.error("blockdev-add", driver="https", node_name="web", url="https://me:hunter4@127.0.0.1:1/a", cookie="hunter5")
    written = json.dumps(waits_for_lines(log, 3))
    assert "hunter" not in written and written.count("(secret)") == 4 and "https://(secret)@127.0.0.1:1/a" in written


def test_the_order_is_that_in_which_commands_ended_and_quit_is_the_last(start_daemon, log):
    daemon = start_daemon("--audit", f"path={log}")
    with daemon.connect() as one, daemon.connect() as two:
        for i in range(200):
            client = one if i % 2 else two
            client.execute("blockdev-add", driver="null-co", node_name=f"node{i}")
        one.execute("quit")
    assert daemon.wait() == 0
    lines = lines_of(log)
    assert [line["arguments"]["node-name"] for line in lines[:-1]] == [f"node{i}" for i in range(200)]
    assert lines[-1]["command"] == "quit"


def test_a_command_that_was_cancelled_has_a_line_when_it_has_ended(start_daemon, log, tmp_path):
    daemon = start_daemon("--audit", f"path={log}", "--blockdev",
                          f"gate,node-name=gate,file.driver=file,file.filename={create(tmp_path / 'disk.qcow2', MIB)}")
    stuck = daemon.connect()
    with daemon.connect() as qmp:
        qmp.execute("x-gate-hold", node_name="gate")
        stuck.start("blockdev-add", driver="qcow2", node_name="held", file="gate")
        wait_until(lambda: qmp.execute("x-gate-query", node_name="gate")["held"] > 0)
        qmp.execute("cancel-command", number=qmp.execute("query-commands-in-flight")[0]["number"])
        with pytest.raises(QMPError, match="cancelled"):
            stuck.finish(2)
        assert [line["command"] for line in waits_for_lines(log, 2)] == ["x-gate-hold", "cancel-command"]
        qmp.execute("x-gate-release", node_name="gate")
        line = next(line for line in waits_for_lines(log, 4) if line["command"] == "blockdev-add")
    assert line["command"] == "blockdev-add" and line["cancelled"] and line["result"] == "error"


def test_long_arguments_are_shortened(start_daemon, log):
    daemon = start_daemon("--audit", f"path={log}")
    with daemon.connect() as qmp:
        qmp.error("blockdev-del", node_name="n" * (256 * KIB))
    line, = waits_for_lines(log, 1)
    assert line["arguments"].startswith('{"node-name": "nnnn') and len(line["arguments"]) == 64 * KIB
    assert line["arguments-bytes"] > 256 * KIB


def test_after_logrotate_lines_go_to_a_new_file(start_daemon, log, tmp_path):
    daemon = start_daemon("--audit", f"path={log}")
    with daemon.connect() as qmp:
        qmp.error("blockdev-del", node_name="a")
        waits_for_lines(log, 1)
        log.rename(tmp_path / "audit.log.1")
        qmp.error("blockdev-del", node_name="b")
        assert waits_for_lines(log, 1)[0]["arguments"] == {"node-name": "b"}
        log.unlink()
        qmp.error("blockdev-del", node_name="c")
        assert waits_for_lines(log, 1)[0]["arguments"] == {"node-name": "c"}
    assert len(lines_of(tmp_path / "audit.log.1")) == 1


def test_the_journal(start_daemon, tmp_path):
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "journal"))
    daemon = start_daemon("--audit", f"journal={tmp_path}/journal")
    with daemon.connect() as qmp:
        qmp.error("blockdev-del", node_name="a")
        fields = dict(line.split("=", 1) for line in journal.recv(65536).decode().splitlines())
        assert fields["SYSLOG_IDENTIFIER"] == "cairnd" and fields["CAIRN_AUDIT"] == "1"
        assert json.loads(fields["MESSAGE"])["arguments"] == {"node-name": "a"}
        journal.close()
        os.unlink(tmp_path / "journal")  # it is started again
        journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        journal.bind(str(tmp_path / "journal"))
        qmp.error("blockdev-del", node_name="b")
        assert b'"node-name": "b"' in journal.recv(65536)
    journal.close()


def test_no_client_can_make_a_line_that_is_too_long_for_the_journal(start_daemon, tmp_path):
    """It would stay at the head of the queue for ever. Each character of these needs several in the line."""
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(tmp_path / "journal"))
    journal.settimeout(20)
    daemon = start_daemon("--audit", f"journal={tmp_path}/journal,on-failure=refuse")
    with daemon.connect() as qmp:
        qmp.send({"execute": "blockdev-del", "arguments": {"node-name": '\x01"' * (100 * KIB)}, "id": '\\"' * (100 * KIB)})
        assert "error" in qmp.receive()
        line = json.loads(journal.recv(MIB).split(b"MESSAGE=")[1])
        assert line["id"].startswith('"\\\\\\"') and len(line["id"]) == KIB and line["id-bytes"] > 400 * KIB
        assert line["desc"].startswith("Failed to find node") and len(line["desc"]) == 4 * KIB
        assert line["desc-bytes"] > 200 * KIB
        qmp.error("blockdev-del", node_name="b")
        assert b'"node-name": "b"' in journal.recv(65536)
        assert "problem" not in qmp.execute("query-audit")
    journal.close()


# When it cannot be written -----------------------------------------------------------------------------------------

@pytest.fixture
def small(tmp_path):
    """A directory with room for a line or two."""
    directory = tmp_path / "small"
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory], capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def fill(directory):
    with open(directory / "filler", "wb", buffering=0) as file:
        file.write(bytes(4 * KIB))


def test_a_full_disk_and_continue(start_daemon, small):
    log = small / "audit.log"
    daemon = start_daemon("--audit", f"path={log}")
    fill(small)
    with daemon.connect() as qmp:
        for i in range(100):
            qmp.execute("blockdev-add", driver="null-co", node_name=f"node{i}")
        daemon.wait_for_log("No space left on device; commands that change something are carried out all the same")
        info = qmp.execute("query-audit")
        assert info["problem"] == "No space left on device" and info["waiting"] == 100 and info["lost"] == 0
        subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
        lines = waits_for_lines(log, 100)
        daemon.wait_for_log("it can be written again")
        wait_until(lambda: qmp.execute("query-audit")["written"] == 100)
    assert [line["arguments"]["node-name"] for line in lines] == [f"node{i}" for i in range(100)]


def test_a_full_disk_and_refuse(start_daemon, small):
    log = small / "audit.log"
    daemon = start_daemon("--audit", f"path={log},on-failure=refuse")
    with daemon.connect() as qmp:
        qmp.execute("blockdev-add", driver="null-co", node_name="before")
        waits_for_lines(log, 1)
        log.rename(small / "old")
        fill_error = None
        try:
            fill(small)
        except OSError as error:
            fill_error = error  # the old line has the only page
        qmp.execute("blockdev-add", driver="null-co", node_name="last")
        daemon.wait_for_log("commands that change something are refused")
        error = qmp.error("blockdev-add", driver="null-co", node_name="refused")
        assert error.desc == (f"the audit log '{log}' cannot be written (No space left on device), and without it commands "
                              "that change something are refused (on-failure: refuse)")
        assert [node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)] == ["last", "before"] or \
            len(qmp.execute("query-named-block-nodes", flat=True)) == 2
        subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
        daemon.wait_for_log("it can be written again")
        qmp.execute("blockdev-add", driver="null-co", node_name="again")
        names = [line["arguments"]["node-name"] for line in waits_for_lines(log, 3)]
    assert names == ["last", "refused", "again"], fill_error


def test_a_disk_that_hangs_and_refuse(hung_fs, start_daemon):  # noqa: F811
    daemon = start_daemon("--audit", f"path={hung_fs / 'hang-read'},on-failure=refuse")
    with daemon.connect() as qmp:
        qmp.execute("blockdev-add", driver="null-co", node_name="first")

        def refused():
            try:
                qmp.execute("object-add", {"qom-type": "iothread", "id": "o", "if-absent": True})
            except QMPError as error:
                assert re.search(r"\(it does not answer, \d+ lines wait\)", error.desc)
                return True
            return False

        wait_until(refused)
        assert qmp.execute("query-audit")["problem"].startswith("it does not answer")
        assert qmp.execute("query-named-block-nodes", flat=True)
        hung_fs.release()
        daemon.wait_for_log("it can be written again")
        qmp.socket.close()


def test_lines_beyond_what_may_wait_are_lost_and_counted(hung_fs, start_daemon):  # noqa: F811
    daemon = start_daemon("--audit", f"path={hung_fs / 'hang-read'}")
    with daemon.connect() as qmp:
        before = daemon.rss_bytes()

        def send():
            for _ in range(400):
                qmp.send({"execute": "blockdev-del", "arguments": {"node-name": "n" * 60 * KIB}})

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(400):
            qmp.receive_reply()
        sender.join()
        info = qmp.execute("query-audit")
        assert info["lost"] > 50 and info["lost"] + info["waiting"] == 400
        print(f"with {info['waiting']} lines waiting and {info['lost']} lost: {(daemon.rss_bytes() - before) >> 20} MiB")
        quarantine = 300 * MIB if BUILD.name == "asan" else 0  # AddressSanitizer keeps freed memory for a while
        assert daemon.rss_bytes() - before < 64 * MIB + quarantine
        assert "lines are lost from now on" in daemon.log
    hung_fs.release()


# Mistakes ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text,message", [
    ("on-failure=refuse", "one of 'path' and 'journal' must be given"),
    ("path=a,journal=b", "one of 'path' and 'journal' must be given"),
    ("path=/nowhere/a", "cannot open the audit log '/nowhere/a': No such file or directory"),
    ("path=/dev/null", "'/dev/null' is no regular file"),
    ("journal=/nowhere/a", "cannot open the audit log '/nowhere/a': No such file or directory"),
])
def test_a_log_that_cannot_be_ends_the_start(text, message):
    told = run_cairnd("--audit", text)
    assert told.returncode == 1 and message in told.stderr


def test_without_one_there_is_none(qmp):
    assert qmp.error("query-audit").desc == "there is no audit log (--audit, or 'audit' in the configuration)"
