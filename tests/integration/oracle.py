"""qemu-storage-daemon itself, asked the same things: what it answers is what clients know."""

import pathlib
import subprocess

from qmp import DEADLINE, connect_patiently


class Oracle:
    """Started in @directory, with a monitor and an NBD server; use it in a with statement."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.socket = self.directory / "oracle.sock"

    def __enter__(self):
        self.process = subprocess.Popen(
            ["qemu-storage-daemon", "--chardev", f"socket,id=c,path={self.socket},server=on,wait=off", "--monitor",
             "chardev=c"], cwd=self.directory, stdin=subprocess.DEVNULL)
        self.qmp = connect_patiently(self.socket)
        return self

    def __exit__(self, *exc):
        self.qmp.execute("quit")
        self.qmp.close()
        assert self.process.wait(DEADLINE) == 0
