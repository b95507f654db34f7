"""cairnctl on a terminal of its own."""

import fcntl
import os
import pty
import select
import struct
import termios
import time

import pytest
from cairnctl import CAIRNCTL


class Terminal:
    def __init__(self, socket, *words, home="/nonexistent", rows=24, columns=80, environment=None):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:
            pytest.skip(f"there are no terminals here: {error}")
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
            os.execve(str(CAIRNCTL), ["cairnctl", "-s", str(socket), *map(str, words)],
                      {**inherited, "HOME": str(home), "TERM": "xterm", **(environment or {})})

    def read_until(self, text, seconds=20):
        """What was written until @text is there, with it."""
        output = ""
        end = time.monotonic() + seconds
        while text not in output:
            assert select.select([self.fd], [], [], max(end - time.monotonic(), 0))[0], f"no '{text}' in {output!r}"
            output += os.read(self.fd, 65536).decode(errors="replace")
        return output

    def type(self, text):
        os.write(self.fd, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def end(self):
        """Reads to the end; the exit status, and what was written."""
        output = b""
        try:
            while data := os.read(self.fd, 65536):
                output += data
        except OSError:
            pass
        self.rest = output.decode(errors="replace")
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
