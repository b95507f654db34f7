"""A client that sends whatever bytes it likes, for what libnbd is too polite to send."""

import socket as sockets
import struct

OPTION_MAGIC = 0x49484156454F5054  # "IHAVEOPT"
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY = 1, 2, 3, 6, 7, 8
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH = range(4)
HELLO = struct.pack(">I", 3)  # fixed newstyle, no zeroes


def option(number, data=b"", length=None):
    return struct.pack(">QII", OPTION_MAGIC, number, len(data) if length is None else length) + data


def request(command, cookie=0, offset=0, length=0, flags=0, magic=REQUEST_MAGIC):
    return struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length)


def go(name):
    return option(OPT_GO, struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0))


class RawClient:
    """Connected to a Unix socket, or to a local TCP port; nothing sent yet."""

    def __init__(self, path, deadline=60):
        tcp = isinstance(path, int)
        self.socket = sockets.socket(sockets.AF_INET if tcp else sockets.AF_UNIX)
        self.socket.settimeout(deadline)
        self.socket.connect(("127.0.0.1", path) if tcp else str(path))

    def send(self, *pieces):
        self.socket.sendall(b"".join(pieces))
        return self

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError(f"the server left after {len(data)} of {count} bytes")
            data += piece
        return data

    def greeting(self):
        data = self.receive(18)
        assert data == b"NBDMAGICIHAVEOPT\0\3", data
        return self

    def enter(self, name):
        """Chooses an export: simple replies."""
        self.greeting().send(HELLO, option(OPT_EXPORT_NAME, name.encode()))
        self.size, self.flags = struct.unpack(">QH", self.receive(10))
        return self

    def reply(self):
        """Error and cookie of a simple reply."""
        magic, error, cookie = struct.unpack(">IIQ", self.receive(16))
        assert magic == REPLY_MAGIC
        return error, cookie

    def option_reply(self):
        """Option, type of the reply, its data."""
        magic, number, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == 0x3E889045565A9
        return number, kind, self.receive(length)

    def expect_end(self):
        """The server closes; what it still sent is returned."""
        data = b""
        try:
            while piece := self.socket.recv(1 << 20):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def is_silent(self):
        """Nothing can be read now."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, sockets.MSG_PEEK)
            return False
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(60)

    def close(self):
        self.socket.close()
