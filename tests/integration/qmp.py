"""A QMP client for tests: blocking, with a deadline on everything.

It speaks the wire and nothing else, so it serves cairnd and qemu-storage-daemon alike:

    with QMP(path) as qmp:                       # connects, checks the greeting, negotiates
        qmp.execute("blockdev-add", driver="null-co", node_name="disk0", size=1 << 20)
        error = qmp.error("blockdev-del", node_name="nobody")
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")

Keyword arguments have '_' turned into '-'; names that hold '_' or '.' on the wire go in a dict: execute("x", {...}).
"""

import itertools
import json
import socket
import time

DEADLINE = 20.0  # seconds; far above what anything here takes, also under sanitizers


class QMPError(Exception):
    """The error reply to a command."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error['class']}: {error['desc']}")
        self.error_class = error["class"]
        self.desc = error["desc"]


class Closed(Exception):
    """The server closed the connection."""


class QMP:
    def __init__(self, path, negotiate=True, deadline=DEADLINE):
        self.deadline = deadline
        self.events = []
        self._ids = itertools.count(1)
        self._input = b""
        self.socket = None
        try:
            self.connect(path)
            self.greeting = self.receive()["QMP"]
            if negotiate:
                self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def connect(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(self.deadline)
        self.socket.connect(str(path))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        if self.socket:
            self.socket.close()

    def flood(self, text, most, patience):
        """Sends it again and again and reads nothing, until nothing more is taken for @patience seconds; returns the bytes sent."""
        self.socket.settimeout(patience)
        sent = 0
        try:
            while sent < most:
                sent += self.socket.send(text)
        except TimeoutError:
            pass
        return sent

    # The wire ---------------------------------------------------------------------------------------------------

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, message):
        self.send_bytes(json.dumps(message).encode())

    def receive_line(self, deadline=None):
        """The bytes of the next message, without its CR LF."""
        end = time.monotonic() + (self.deadline if deadline is None else deadline)
        while b"\r\n" not in self._input:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no message from the server; it sent {self._input!r} so far")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 20)
            except (ConnectionResetError, BrokenPipeError):
                data = b""
            finally:
                self.socket.settimeout(self.deadline)
            if not data:
                raise Closed(f"the server closed the connection after {self._input!r}")
            self._input += data
        line, _, self._input = self._input.partition(b"\r\n")
        return line

    def receive(self, deadline=None):
        """The next message of any kind, parsed."""
        return json.loads(self.receive_line(deadline))

    def receive_reply(self, deadline=None):
        """The next message that is no event; events that come before it are kept in self.events."""
        while True:
            message = self.receive(deadline)
            if "event" not in message:
                return message
            self.events.append(message)

    def expect_silence(self, seconds=0.1):
        try:
            line = self.receive_line(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"unexpected message: {line!r}")

    def expect_closed(self, deadline=None):
        """Reads until the server closes the connection."""
        while True:
            try:
                self.receive_line(deadline)
            except Closed:
                return

    # Commands ---------------------------------------------------------------------------------------------------

    def start(self, command, arguments=None, **keywords):
        """Sends a command without waiting for its reply; returns its id."""
        arguments = dict(arguments or {})
        arguments.update({name.replace("_", "-"): value for name, value in keywords.items()})
        message = {"execute": command, "id": next(self._ids)}
        if arguments:
            message["arguments"] = arguments
        self.send(message)
        return message["id"]

    def finish(self, command_id, command="command", deadline=None):
        """Waits for the reply to start(); returns its value or raises QMPError."""
        reply = self.receive_reply(deadline)
        assert reply.get("id") == command_id, f"reply out of order: {reply}"
        if "error" in reply:
            raise QMPError(command, reply["error"])
        return reply["return"]

    def execute(self, command, arguments=None, **keywords):
        return self.finish(self.start(command, arguments, **keywords), command)

    def error(self, command, arguments=None, **keywords):
        """The command must fail: returns the QMPError."""
        try:
            value = self.execute(command, arguments, **keywords)
        except QMPError as error:
            return error
        raise AssertionError(f"{command} succeeded: {value}")

    def wait_event(self, name, matches=lambda data: True, deadline=None):
        """Takes the first event of that name whose data matches out of what came or comes; others are kept."""
        end = time.monotonic() + (self.deadline if deadline is None else deadline)
        seen = 0
        while True:
            while seen < len(self.events):
                event = self.events[seen]
                if event["event"] == name and matches(event.get("data", {})):
                    return self.events.pop(seen)
                seen += 1
            message = self.receive(max(end - time.monotonic(), 0.001))
            assert "event" in message, f"a reply while waiting for event {name}: {message}"
            self.events.append(message)

    def wait_job(self, job_id):
        """Waits until a job has concluded, dismisses it, and returns its error text or None."""
        while True:
            jobs = {job["id"]: job for job in self.execute("query-jobs")}
            job = jobs[job_id]
            if job["status"] == "concluded":
                self.execute("job-dismiss", id=job_id)
                return job.get("error")
            self.wait_event("JOB_STATUS_CHANGE", lambda data: data["id"] == job_id)


def connect_patiently(path):
    """A client of a daemon that is about to listen."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return QMP(path)
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < end, "the daemon does not listen"
            time.sleep(0.002)
