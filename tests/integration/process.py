"""A cairnd process under test: started in a directory of its own, ended and judged at the end.

Whatever a test does, the process must end with status 0 when asked to, and must not have said anything that a sanitizer
says. The binary is $CAIRN_BUILD_DIR/bin/cairnd (default: build/ of the tree).
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

from qmp import DEADLINE, QMP

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CAIRN_BUILD_DIR", ROOT / "build")).resolve()
CAIRND = BUILD / "bin" / "cairnd"

SANITIZER = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:|WARNING: .*[sS]anitizer")


def run_cairnd(*args, cwd=None, deadline=DEADLINE):
    """Runs cairnd to its end: for --help, --check and for command lines that must fail."""
    result = subprocess.run([CAIRND, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=deadline,
                            stdin=subprocess.DEVNULL)
    assert_no_sanitizer_output(result.stderr)
    return result


def assert_no_sanitizer_output(text):
    assert not SANITIZER.search(text), f"a sanitizer complained:\n{text}"


def wait_unlocked(inodes, deadline=DEADLINE):
    """The kernel ends the io_uring of a process that was killed a moment after the process, and the locks on its files
    with it."""
    end = time.monotonic() + deadline
    locks = pathlib.Path("/proc/locks")
    while locks.exists() and any(line.split()[-3].rpartition(":")[2] in inodes for line in locks.read_text().splitlines()):
        assert time.monotonic() < end, "files of a process that has ended are locked"
        time.sleep(0.002)


class Daemon:
    """Started with a monitor on self.socket unless @monitor is false; @args are further command line options."""

    def __init__(self, directory, *args, monitor=True, env=None, pass_fds=()):
        self.directory = pathlib.Path(directory)
        self.socket = self.directory / "qmp.sock"
        self.expected_status = 0
        self._clients = []
        self._log = open(self.directory / "cairnd.log", "w+")
        command = [str(CAIRND)] + [str(argument) for argument in args]
        if monitor:  # last: whoever can connect finds everything made that the other options ask for
            command += ["--chardev", f"socket,id=monitor,path={self.socket},server=on,wait=off",
                        "--monitor", "chardev=monitor"]
        self.process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=self._log,
                                        stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, pass_fds=pass_fds)
        if monitor:
            try:
                self.wait_for_socket(self.socket)
            except BaseException:
                self.kill()
                raise

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        """What the daemon wrote to stdout and stderr so far."""
        return (self.directory / "cairnd.log").read_text(errors="replace")

    def wait_for_log(self, text, count=1, deadline=DEADLINE):
        """Other threads than the one that answers write it, and may do so a moment later."""
        end = time.monotonic() + deadline
        while self.log.count(text) < count:
            assert time.monotonic() < end, f"'{text}' is not {count} times in the log:\n{self.log}"
            time.sleep(0.002)

    def path(self, name):
        return str(self.directory / name)

    def wait_for_socket(self, path):
        """Until somebody listens there: the daemon listens as soon as it can serve."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                QMP(path, negotiate=False).close()
                return
            except (FileNotFoundError, ConnectionRefusedError):
                assert self.process.poll() is None, f"cairnd ended at once:\n{self.log}"
                assert time.monotonic() < end, f"cairnd does not listen:\n{self.log}"
                time.sleep(0.002)

    def connect(self, negotiate=True):
        """A further QMP client; closed at the end of the test."""
        client = QMP(self.socket, negotiate=negotiate)
        self._clients.append(client)
        return client

    def rss_bytes(self):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the daemon has no memory")

    def _open_files(self):
        """Numbers of inodes."""
        inodes = set()
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):  # it has been closed meanwhile
                inodes.add(str(os.stat(f"/proc/{self.pid}/fd/{fd}").st_ino))
        return inodes

    def cpu_seconds(self):
        fields = open(f"/proc/{self.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self, deadline=DEADLINE):
        """Until the process has ended; its exit status."""
        return self.process.wait(deadline)

    def stop(self, signum=signal.SIGTERM):
        """Asks the daemon to end unless it has, and judges it."""
        for client in self._clients:
            client.close()
        try:
            if self.process.poll() is None:
                self.process.send_signal(signum)
            status = self.wait()
        except subprocess.TimeoutExpired as expired:
            raise AssertionError(f"cairnd does not end:\n{self.log}") from expired
        finally:
            self.kill()
        log = self.log
        assert_no_sanitizer_output(log)
        assert ": mistake: " not in log, f"cairnd found a mistake in itself:\n{log}"
        assert status == self.expected_status, f"exit status {status}, expected {self.expected_status}:\n{log}"

    def kill(self):
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            files = self._open_files()
            self.process.kill()
            self.process.wait()
            wait_unlocked(files)
        self._log.close()
