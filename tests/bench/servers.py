"""servers - the programs that bench.py measures, started and asked with as little work on our side as possible"""

import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import time

KIB, MIB = 1 << 10, 1 << 20
GREETING_SECONDS = 5  # qemu-storage-daemon hangs at its start now and then, deaf to SIGTERM
STARTS_MAX = 5
STOP_SECONDS = 30


def cpu_seconds(pid):
    """Processor time of a process so far: all its threads, in nanoseconds' resolution (see clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def pss_bytes(pid):
    """Memory, with what is shared with other processes divided among them."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) * KIB


class Session:
    """A QMP session with as little work on our side as possible."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(GREETING_SECONDS)
        self.receive()
        self.execute(b'{"execute":"qmp_capabilities"}\n')
        self.socket.settimeout(None)

    def receive(self):
        data = b""
        while not data.endswith(b"\n"):
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise RuntimeError(f"the daemon closed the session after {data[:200]!r}")
            data += piece
        return data

    def execute(self, command):
        self.socket.sendall(command)
        reply = self.receive()
        if b'"error"' in reply[:200]:
            raise RuntimeError(f"{command!r}: {reply!r}")
        return reply

    def call(self, command, **arguments):
        message = {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}
        return self.execute(json.dumps(message).encode() + b"\n")


class Daemon:
    """One of the two, started with a monitor and nothing else."""

    def __init__(self, binary, directory):
        self.path = f"{directory}/qmp.sock"
        self.nbd = f"{directory}/nbd.sock"
        self.binary = binary
        for _ in range(STARTS_MAX):
            if self.start():
                return
            print(f"{binary} hangs at its start, once more", file=sys.stderr)
            self.kill()
        raise RuntimeError(f"{binary} hangs at its start")

    def start(self):
        """False when there is no greeting."""
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [self.binary, "--chardev", f"socket,id=c,path={self.path},server=on,wait=off", "--monitor", "chardev=c"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = self.process.pid
        while time.perf_counter() < begin + GREETING_SECONDS:
            try:
                self.session = Session(self.path)
                self.start_seconds = time.perf_counter() - begin
                return True
            except TimeoutError:
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.binary} does not start") from None
                time.sleep(0.0001)
        return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        pathlib.Path(self.path).unlink(missing_ok=True)

    def serve(self, **node):
        """Exports one node as "disk", to any number of clients."""
        self.session.call("blockdev-add", node_name="disk", **node)
        self.session.call("nbd-server-start", addr={"type": "unix", "data": {"path": self.nbd}}, max_connections=0)
        self.session.call("block-export-add", type="nbd", id="e", node_name="disk", writable=True)

    def stop(self):
        self.session.socket.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


class SimpleServer:
    """A server of one disk, without a monitor."""

    def __init__(self, binary, directory):
        self.binary, self.nbd = binary, f"{directory}/nbd.sock"
        self.process = None

    def command(self, filename, size):
        raise NotImplementedError

    @property
    def pid(self):
        return self.process.pid

    def serve(self, driver, filename=None, size=None, **_):
        assert driver == ("file" if filename else "null-co")
        self.process = subprocess.Popen(self.command(filename, size), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while True:
            try:
                connect(self.nbd).close()
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.binary} does not start")
                time.sleep(0.001)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


class NbdKit(SimpleServer):
    def command(self, filename, size):
        plugin = ["file", filename] if filename else ["null", f"size={size}"]
        return [self.binary, "--foreground", "--unix", self.nbd, *plugin]


class Minimal(SimpleServer):
    def command(self, filename, size):
        return [self.binary, self.nbd, *([str(os.path.getsize(filename)), filename] if filename else [str(size)])]


SIMPLE = {"nbdkit": NbdKit, "minimal": Minimal}


def connect(path):
    """A connection to an NBD server past its handshake."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.recv(18, socket.MSG_WAITALL)
    client.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, 4) + b"disk")
    client.recv(10, socket.MSG_WAITALL)
    return client
