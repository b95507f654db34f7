"""Servers of NBD that are other processes."""

import pathlib
import socket as sockets
import subprocess
import time

from qmp import DEADLINE


def wait_for_server(path, process):
    end = time.monotonic() + DEADLINE
    while True:
        assert process.poll() is None, "the server ended at once"
        assert time.monotonic() < end
        probe = sockets.socket(sockets.AF_UNIX)
        try:
            probe.connect(str(path))
            return
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.005)
        finally:
            probe.close()


class Server:
    """A process that serves on a Unix socket; can be stopped, continued, killed and started again."""

    def __init__(self, path, *command):
        self.path = pathlib.Path(path)
        self.command = [str(word) for word in command]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        wait_for_server(self.path, self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.path.unlink(missing_ok=True)

    def signal(self, number):
        self.process.send_signal(number)
