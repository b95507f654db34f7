"""What cairnctl shows to people who watch: top, jobs, map in colours, graph as a picture, events."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import xml.etree.ElementTree as ElementTree

import pytest
from cairnctl import CAIRNCTL, cairnctl
from images import KIB, MIB, add_overlay, create
from nbd_client import connect, export, start_server
from terminal import Terminal

REFUSED, USAGE = 1, 2
SVG = "{http://www.w3.org/2000/svg}"
COLOR = re.compile("\033\\[[0-9]+m")


@pytest.fixture
def ctl(daemon):
    return lambda *words, **options: cairnctl(daemon.socket, *words, **options)


def add_null(qmp, name, **options):
    qmp.execute("blockdev-add", driver="null-co", node_name=name, size=16 * MIB, **options)


class Reader:
    """Reads an export again and again until the end of the block."""

    def __init__(self, client):
        self.client, self.stop = client, threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        while not self.stop.is_set():
            self.client.pread(4096, 0)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


@pytest.fixture
def busy(qmp, tmp_path):
    """A node "disk" that is read without a pause, and one "calm" that is not."""
    add_null(qmp, "disk", read_zeroes=True)
    add_null(qmp, "calm")
    path = start_server(qmp, tmp_path)
    export(qmp, "disk")
    export(qmp, "calm")
    with Reader(connect(path, "disk")):
        yield


def top_of_busy(ctl, *words):
    """What top says of an interval in which the reader had its turn, which on a busy machine not every one is."""
    for _ in range(50):
        text = ctl("top", "--once", "-i", "0.1", *words).stdout
        if rows(text, "NODE")["disk"][3] != "0":
            return text
    raise AssertionError(text)


# top ----------------------------------------------------------------------------------------------------------------


def rows(text, head):
    """The rows of the table below @head, by their first word."""
    table = text[text.index(f"\n{head} "):].splitlines()[2:]
    return {line.split()[0]: line.split() for line in table[:table.index("") if "" in table else None]}


def test_top_once_shows_rates_and_latencies(ctl, busy):
    text = top_of_busy(ctl)
    assert text.startswith("cairn: up ") and "control" in text.splitlines()[0]
    name, node, queue, reads, writes, others, *_ = rows(text, "EXPORT")["export-disk"]
    assert node == "disk" and reads not in ("0", "-") and (writes, others) == ("0", "0")
    disk, calm = rows(text, "NODE")["disk"], rows(text, "NODE")["calm"]
    assert disk[1] == "null-co" and re.fullmatch(r"[0-9.]+(ns|us|ms)", disk[-1])
    assert calm[2:] == ["0", "0", "0", "0", "-", "-", "-", "-"]
    assert "COMMAND" not in text and "\033" not in text


def test_top_in_its_order(ctl, busy):
    for order in ("iops", "bandwidth", "latency"):
        assert list(rows(top_of_busy(ctl, "--sort", order), "NODE")) == ["disk", "calm"]
    assert list(rows(top_of_busy(ctl, "--sort", "name"), "NODE")) == ["calm", "disk"]
    assert list(rows(top_of_busy(ctl, "-z"), "NODE")) == ["disk"]


def test_top_as_text_goes_on(ctl, busy):
    text = ctl("top", "--batch", "-n", "2", "-i", "0.05", "--clients", "--commands").stdout
    assert text.count("cairn: up") == 2 and text.count("unix:pid=") == 2
    assert rows(text, "COMMAND")["query-statistics"][1] != "0"


@pytest.mark.parametrize("words", [["--interval", "0"], ["--interval", "x"], ["--sort", "size"], ["disk"], ["--color=red"]])
def test_top_with_a_wrong_command_line(ctl, words):
    assert "top" in ctl("top", "--once", *words, status=USAGE).stderr


def test_top_without_a_terminal_says_what_to_do(ctl):
    assert "--once" in ctl("top", status=REFUSED).stderr


def test_top_on_a_terminal(daemon, busy):
    terminal = Terminal(daemon.socket, "top", "-i", "0.1", rows=24, columns=80)
    first = terminal.read_until("\033[24;1H")
    assert "\033[?1049h" in first and "export-disk" in first
    assert not terminal.echoes()
    terminal.read_until("iB/s")  # rates come with the second look
    terminal.type("n")
    terminal.read_until("by name")
    terminal.type("r")
    terminal.read_until("by name upwards")
    terminal.type("m")
    terminal.read_until("query-statistics")
    terminal.type("h")
    terminal.read_until("page up and down")
    terminal.resize(10, 120)
    terminal.read_until("\033[10;1H")
    terminal.read_until("lines from 1 of")
    terminal.type("\033[B")
    terminal.read_until("lines from 2 of")
    terminal.type("\033[6~")
    terminal.read_until("lines from 1")
    terminal.type(" ")
    terminal.read_until("paused")
    terminal.type("q")
    terminal.read_until("\033[?1049l")
    assert terminal.end() == 0


def test_each_frame_fits_the_terminal(daemon, qmp):
    for number in range(60):
        add_null(qmp, f"node{number}")
    terminal = Terminal(daemon.socket, "top", "-i", "0.05", rows=12, columns=70)
    terminal.read_until("\033[12;1H")
    frame = terminal.read_until("\033[12;1H")
    lines = frame[frame.rindex("\033[H"):frame.rindex("\033[12;1H")].split("\r\n")
    assert len(lines) == 12 and "node0" in frame and "node40" not in frame
    terminal.type("q")
    assert terminal.end() == 0


def test_a_signal_gives_the_terminal_back(daemon):
    terminal = Terminal(daemon.socket, "top")
    terminal.read_until("cairn: up")
    assert not terminal.echoes()
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.read_until("\033[?1049l")
    assert terminal.end() == -signal.SIGTERM


def test_top_ends_when_the_daemon_does(daemon, qmp):
    terminal = Terminal(daemon.socket, "top", "-i", "0.05")
    terminal.read_until("cairn: up")
    qmp.execute("quit")
    terminal.read_until("\033[?1049l")
    assert terminal.end() == USAGE
    assert daemon.wait() == 0


def test_names_play_no_tricks_on_a_terminal(daemon, ctl, qmp, tmp_path):
    path = tmp_path / "a\033[2Jb"
    path.write_bytes(b"x" * 512)
    qmp.execute("blockdev-add", driver="file", node_name="disk", filename=str(path))
    terminal = Terminal(daemon.socket, "graph", columns=300)
    assert terminal.end() == 0
    assert "\033" not in terminal.rest and "a?[2Jb" in terminal.rest
    assert "a\033[2Jb" in ctl("graph").stdout  # a script gets what there is


# jobs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_backup(qmp):
    """A backup that goes on until it is told otherwise."""
    add_null(qmp, "source")
    add_null(qmp, "target")
    qmp.execute("blockdev-backup", job_id="copy", device="source", target="target", sync="full", speed=256 * KIB,
                auto_dismiss=False)
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "running")


def test_jobs_as_a_table(ctl, qmp, slow_backup):
    lines = ctl("jobs", "--interval", "0.2").stdout.splitlines()
    assert lines[0].split() == ["JOB", "TYPE", "STATUS", "PROGRESS", "RATE", "REMAINING", "ERROR"] and len(lines) == 2
    assert lines[1].split()[:3] == ["copy", "backup", "running"] and "%" in lines[1]
    assert "'nobody'" in ctl("jobs", "nobody", status=REFUSED).stderr
    qmp.execute("job-cancel", id="copy")


def test_jobs_watch_ends_with_the_jobs(ctl, qmp, slow_backup):
    qmp.execute("block-job-set-speed", device="copy", speed=0)
    text = ctl("jobs", "--watch", "copy").stdout
    assert text.splitlines()[-1].split()[2] == "concluded" and "100.0%" in text.splitlines()[-1]


def test_a_failed_job_is_status_1(ctl, qmp):
    qmp.execute("blockdev-create", {"job-id": "bad", "options": {"driver": "file", "filename": "/nonexistent/x", "size": 1}})
    text = ctl("jobs", "--watch", "bad", status=REFUSED).stdout
    assert "No such file or directory" in text.splitlines()[-1]
    assert "No such file or directory" in ctl("jobs", status=REFUSED).stdout


def test_a_job_that_was_cancelled_and_dismissed_itself_is_status_1(daemon, qmp):
    add_null(qmp, "source")
    add_null(qmp, "target")
    qmp.execute("blockdev-backup", job_id="copy", device="source", target="target", sync="full", speed=256 * KIB)
    watcher = subprocess.Popen([CAIRNCTL, "-s", str(daemon.socket), "jobs", "-w", "copy"], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout.readline().split()[:3] == ["copy", "backup", "running"]
    qmp.execute("job-cancel", id="copy")
    rest, _ = watcher.communicate(timeout=20)
    assert watcher.returncode == REFUSED and rest.splitlines()[-1].split()[2] == "null"


@pytest.mark.parametrize("words, outcome, status", [
    (["jobs", "--watch", "j"], "aborting", REFUSED),
    (["jobs", "--watch", "j"], "waiting", 0),
    (["wait-job", "j"], "aborting", REFUSED),
    (["wait-job", "j"], "waiting", 0),
])
def test_the_end_of_a_job_is_not_missed_however_fast_it_comes(tmp_path, words, outcome, status):
    """All of it between two looks: events come before the answer that does not have the job any more."""
    job = {"id": "j", "type": "backup", "status": "running", "current-progress": 1, "total-progress": 2}
    end = [{"event": "JOB_STATUS_CHANGE", "timestamp": {}, "data": {"id": "j", "status": seen}}
           for seen in ("ready", outcome, "concluded", "null")]
    answers = iter([([], [job]), (end, [])])
    server = FalseDaemon(tmp_path / "false.sock", {"query-jobs": lambda: next(answers, ([], []))})
    cairnctl(server.path, *words, status=status)
    server.close()


def test_jobs_watch_on_a_terminal_draws_in_place(daemon, qmp, slow_backup):
    terminal = Terminal(daemon.socket, "jobs", "--watch", "-i", "0.05", columns=140)
    terminal.read_until("running")
    terminal.read_until("\033[2A")  # back over the head and one job
    terminal.read_until("KiB/s")
    qmp.execute("block-job-set-speed", device="copy", speed=0)
    terminal.read_until("concluded")
    assert terminal.end() == 0


# map ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def overlay(qmp, tmp_path):
    add_overlay(qmp, tmp_path)


def test_the_bar_shows_the_whole_image(daemon, overlay):
    terminal = Terminal(daemon.socket, "map", "overlay", columns=18)
    assert terminal.end() == 0
    plain = COLOR.sub("", terminal.rest)
    assert "[1█░" + "·" * 13 + "]" in plain
    shares = {line.split()[1].rstrip(","): line.split()[-1] for line in plain.splitlines() if line.startswith("  ")}
    assert shares == {"data": "6.2%", "zero": "6.2%", "absent": "81.2%"}
    assert COLOR.search(terminal.rest)


def test_scripts_get_what_they_got(ctl, overlay):
    plain = ctl("map", "overlay").stdout
    assert "[" not in plain and not COLOR.search(plain)
    colored = ctl("map", "--color=always", "overlay").stdout
    assert COLOR.search(colored) and COLOR.sub("", colored) == plain
    with_bar = ctl("map", "--bar=always", "overlay").stdout
    assert with_bar.startswith(plain) and "█" in with_bar and not COLOR.search(with_bar)
    assert "'red'" in ctl("map", "--color=red", "overlay", status=USAGE).stderr
    assert "'big'" in ctl("map", "--bar=big", "overlay", status=USAGE).stderr
    assert json.loads(ctl("map", "--bar=always", "--output=json", "overlay").stdout)


@pytest.mark.parametrize("environment, words, colored", [
    ({}, [], True),
    ({"NO_COLOR": "1"}, [], False),
    ({"NO_COLOR": ""}, [], True),
    ({"TERM": "dumb"}, [], False),
    ({"NO_COLOR": "1"}, ["--color=always"], True),
    ({}, ["--color=never"], False),
])
def test_who_gets_colors(daemon, overlay, environment, words, colored):
    terminal = Terminal(daemon.socket, "map", *words, "overlay", environment=environment)
    assert terminal.end() == 0
    assert bool(COLOR.search(terminal.rest)) == colored and "█" in terminal.rest


# graph --------------------------------------------------------------------------------------------------------------


def picture(ctl):
    root = ElementTree.fromstring(ctl("graph", "--svg").stdout.encode())
    groups = list(root.iter(f"{SVG}g"))
    nodes = {group.get("data-node"): group for group in groups if group.get("data-node") is not None}
    exports = {group.get("data-export"): group for group in groups if group.get("data-export") is not None}
    edges = {(group.get("data-from"), group.get("data-child"), group.get("data-to"))
             for group in groups if group.get("data-to") is not None}
    return root, nodes, exports, edges


def box(group):
    rect = group.find(f"{SVG}rect")
    return [float(rect.get(name)) for name in ("x", "y", "width", "height")]


def test_the_picture_has_all_nodes_exports_and_edges(ctl, qmp, overlay, tmp_path):
    qmp.execute("blockdev-add", driver="raw", node_name="second", file="base-file", read_only=True)
    start_server(qmp, tmp_path)
    export(qmp, "overlay")
    root, nodes, exports, edges = picture(ctl)
    assert set(nodes) == {"overlay", "overlay-file", "base", "base-file", "second"} and set(exports) == {"export-overlay"}
    assert edges == {("export-overlay", "", "overlay"), ("overlay", "file", "overlay-file"), ("overlay", "backing", "base"),
                     ("base", "file", "base-file"), ("second", "file", "base-file")}
    assert "read-only" in nodes["base"].get("class") and "read-only" not in nodes["overlay"].get("class")
    below = [("export-overlay", "overlay"), ("overlay", "base"), ("base", "base-file"), ("second", "base-file")]
    boxes = {**{name: box(group) for name, group in nodes.items()}, "export-overlay": box(exports["export-overlay"])}
    for upper, lower in below:
        assert boxes[upper][1] + boxes[upper][3] < boxes[lower][1]
    width, height = float(root.get("width")), float(root.get("height"))
    places = list(boxes.values())
    for i, (x, y, w, h) in enumerate(places):
        assert 0 <= x and x + w <= width + 1 and 0 <= y and y + h <= height + 1
        for x2, y2, w2, h2 in places[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_a_picture_of_nothing_is_a_picture(ctl):
    _, nodes, exports, edges = picture(ctl)
    assert nodes == {} and exports == {} and edges == set()


def test_hostile_names_are_only_names(tmp_path):
    """A daemon may tell anything."""
    hostile = ['<script>alert("1")</script>', "a&b'c\"d", "tab\tline\nend", "\x01\x1b[31m", "\uffff", "ünï", "-->", "]]>"]
    nodes = [{"node-name": name, "drv": "raw<", "ro": False, "image": {"virtual-size": 1}, "file": "x", "children": []}
             for name in hostile]
    nodes[0]["children"] = [{"child": "fi&le", "node-name": name} for name in hostile[1:]]
    answers = {"query-named-block-nodes": nodes, "query-block-exports": []}
    server = FalseDaemon(tmp_path / "false.sock", answers)
    seen = {name.replace("\x01", "\ufffd").replace("\x1b", "\ufffd").replace("\uffff", "\ufffd") for name in hostile}
    _, nodes, _, edges = picture(lambda *words: cairnctl(server.path, *words))
    assert set(nodes) == seen
    assert {(child, to) for _, child, to in edges} == {("fi&le", name) for name in seen if "script" not in name}
    server.close()
    server = FalseDaemon(tmp_path / "dot.sock", answers)
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', cairnctl(server.path, "graph", "--dot").stdout, re.S)
    names = {re.sub(r"\\(.)", r"\1", string, flags=re.S) for string in strings}
    assert names >= {f"node:{name}" for name in hostile} | {"fi&le"}
    server.close()


def test_a_loop_is_drawn_too(tmp_path):
    nodes = [{"node-name": name, "drv": "raw", "ro": False, "image": {"virtual-size": 1}, "file": "x",
              "children": [{"child": "file", "node-name": child}]} for name, child in (("a", "b"), ("b", "c"), ("c", "a"))]
    server = FalseDaemon(tmp_path / "false.sock", {"query-named-block-nodes": nodes, "query-block-exports": []})
    _, seen, _, edges = picture(lambda *words: cairnctl(server.path, *words))
    assert set(seen) == {"a", "b", "c"} and len(edges) == 3
    server.close()


class FalseDaemon:
    """Speaks QMP, and answers what it was told to: values, or functions that return events and a value."""

    def __init__(self, path, answers):
        self.path, self.answers = path, answers
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rw") as stream:
            stream.write('{"QMP": {"version": {}, "capabilities": []}}\r\n')
            stream.flush()
            decoder, text = json.JSONDecoder(), ""
            while byte := stream.read(1):
                text += byte
                try:
                    message, _ = decoder.raw_decode(text)
                except ValueError:
                    continue
                text = ""
                answer = self.answers.get(message["execute"], {})
                if callable(answer):
                    events, answer = answer()
                    stream.write("".join(json.dumps(event) + "\r\n" for event in events))
                stream.write(json.dumps({"return": answer, "id": message.get("id")}) + "\r\n")
                stream.flush()

    def close(self):
        self.thread.join()
        self.listener.close()


# events -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def listen(daemon, qmp, ctl):
    """Runs `cairnctl events`, makes events until it has ended, and returns its lines."""

    def run(*words):
        listener = subprocess.Popen([CAIRNCTL, "-s", str(daemon.socket), "events", *words], stdout=subprocess.PIPE, text=True)
        number = 0
        while listener.poll() is None and number < 2000:
            qmp.execute("blockdev-create", {"job-id": f"j{number}", "options": {"driver": "file", "filename": "/nonexistent/x",
                                                                                "size": 1}})
            qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")
            qmp.execute("job-dismiss", id=f"j{number}")
            number += 1
        lines = listener.communicate(timeout=20)[0].splitlines()
        assert listener.returncode == 0
        return lines

    return run


def test_events_by_pattern(listen):
    lines = [json.loads(line) for line in listen("-n", "3", "JOB_*")]
    assert [event["event"] for event in lines] == ["JOB_STATUS_CHANGE"] * 3
    assert all(set(event["timestamp"]) == {"seconds", "microseconds"} for event in lines)


def test_events_for_people(listen):
    lines = listen("-n", "2", "--output=human", "JOB_STATUS_CHANGE")
    for line in lines:
        assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}  JOB_STATUS_CHANGE  \{.*"status":.*\}', line)


def test_events_that_do_not_come_in_time(ctl):
    assert ctl("events", "-t", "0", "-n", "1", "JOB_*", status=REFUSED).stdout == ""
    assert ctl("events", "-t", "0").stdout == ""
    assert "'x'" in ctl("events", "-t", "x", status=USAGE).stderr
    assert "'xml'" in ctl("events", "-o", "xml", status=USAGE).stderr
