"""An NBD client that knows the bytes of the protocol and nothing else: what libnbd would not let a test do, this sends.

    client = Raw(path)                                    # greeting and client flags
    client.option(OPT_EXTENDED_HEADERS)                   # [(REP_ACK, b"")]
    client.go("disk")                                     # transmission
    reply = client.ask(CMD_READ, 0, 4096)                 # waits for the whole reply and checks its form
    reply.error, reply.data, reply.chunks

Every reply is checked for what the specification says of its form, whoever asks for it.
"""

import socket
import struct
from dataclasses import dataclass, field

DEADLINE = 20.0

MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC, EXTENDED_REQUEST_MAGIC = 0x25609513, 0x21E41C71
SIMPLE_MAGIC, STRUCTURED_MAGIC, EXTENDED_MAGIC = 0x67446698, 0x668E33EF, 0x6E8A278C

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_PEEK_EXPORT, OPT_STARTTLS, OPT_INFO, OPT_GO = 1, 2, 3, 4, 5, 6, 7
OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_EXTENDED_HEADERS = 8, 9, 10, 11

REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = 1, 2, 3, 4
ERROR = 1 << 31
REP_ERR_UNSUP, REP_ERR_POLICY, REP_ERR_INVALID, REP_ERR_TLS_REQD = ERROR + 1, ERROR + 2, ERROR + 3, ERROR + 5
REP_ERR_UNKNOWN, REP_ERR_SHUTDOWN, REP_ERR_TOO_BIG, REP_ERR_EXT_HEADER_REQD = ERROR + 6, ERROR + 7, ERROR + 9, ERROR + 10

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM = 1, 2, 4, 8, 16, 32
SEND_WRITE_ZEROES, SEND_DF, MULTI_CONN, SEND_RESIZE, SEND_CACHE, SEND_FAST_ZERO = 64, 128, 256, 512, 1024, 2048
BLOCK_STATUS_PAYLOAD = 4096

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = 1, 2, 4, 8, 16, 32

NONE, OFFSET_DATA, OFFSET_HOLE, BLOCK_STATUS, BLOCK_STATUS_EXT = 0, 1, 2, 5, 6
CHUNK_ERROR, CHUNK_ERROR_OFFSET = 0x8001, 0x8002
DONE = 1

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108

SIMPLE, STRUCTURED, EXTENDED = "simple", "structured", "extended"
MODES = (SIMPLE, STRUCTURED, EXTENDED)


class Closed(Exception):
    """The server ended the connection."""


@dataclass
class Reply:
    error: int = 0
    message: str = ""
    error_offset: int = None
    data: bytes = b""
    chunks: list = field(default_factory=list)  # (type, what it says), in the order of their coming
    status: dict = field(default_factory=dict)  # context id: [(bytes, flags)]


def counted(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">I", len(data)) + data


def info_query(name, infos=()):
    return counted(name) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def context_query(name, queries=()):
    return counted(name) + struct.pack(">I", len(queries)) + b"".join(counted(query) for query in queries)


class Raw:
    def __init__(self, path, flags=3):
        self.mode = SIMPLE
        self.cookie = 0x1122334455667788
        self.asked = {}  # cookie: (command, flags, offset, length, contexts)
        self.contexts = {}  # id: name, as selected
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(path))
        assert self.receive(18) == struct.pack(">QQH", MAGIC, OPTION_MAGIC, 3)
        self.no_zeroes = bool(flags & 2)
        self.send(struct.pack(">I", flags))

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed() from None

    def receive(self, count):
        data = bytearray()
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed(bytes(data))
            data += piece
        return bytes(data)

    def is_closed(self):
        """Nothing more comes but the end."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    # Handshake ------------------------------------------------------------------------------------------------------

    def send_option(self, option, data=b"", magic=OPTION_MAGIC):
        self.send(struct.pack(">QII", magic, option, len(data)) + data)

    def option_reply(self, option):
        magic, number, kind, length = struct.unpack(">QIII", self.receive(20))
        assert magic == OPTION_REPLY_MAGIC and number == option
        data = self.receive(length)
        if kind & ERROR:
            assert data.decode("utf-8"), "an error has a message"
        if kind == REP_ACK:
            assert data == b""
        return kind, data

    def option(self, option, data=b""):
        """All replies up to the one that ends them."""
        self.send_option(option, data)
        replies = [self.option_reply(option)]
        while replies[-1][0] != REP_ACK and not replies[-1][0] & ERROR:
            replies.append(self.option_reply(option))
        kind = replies[-1][0]
        if kind == REP_ACK and option == OPT_STRUCTURED_REPLY:
            self.mode = STRUCTURED
        if kind == REP_ACK and option == OPT_EXTENDED_HEADERS:
            self.mode = EXTENDED
        return replies

    def result(self, option, data=b""):
        """How the option ended."""
        return self.option(option, data)[-1][0]

    def info(self, name, infos=(), option=OPT_INFO):
        """What INFO or GO says, by number; or how it failed."""
        *told, (end, _) = self.option(option, info_query(name, infos))
        if end != REP_ACK:
            assert told == [], "nothing is told of what is refused"
            return end
        assert all(kind == REP_INFO for kind, _ in told)
        numbers = [struct.unpack(">H", data[:2])[0] for _, data in told]
        assert len(set(numbers)) == len(numbers) and INFO_EXPORT in numbers
        return {number: data[2:] for number, (_, data) in zip(numbers, told)}

    def go(self, name, infos=()):
        """Enters transmission; the size and the transmission flags."""
        told = self.info(name, infos, OPT_GO)
        assert isinstance(told, dict), f"{told:#x}"
        return struct.unpack(">QH", told[INFO_EXPORT])

    def export_name(self, name):
        self.send_option(OPT_EXPORT_NAME, name.encode())
        size, flags = struct.unpack(">QH", self.receive(10))
        if not self.no_zeroes:
            assert self.receive(124) == bytes(124)
        return size, flags

    def meta_context(self, option, name, queries=()):
        """Names of the contexts with their ids; or how the option failed."""
        *told, (end, _) = self.option(option, context_query(name, queries))
        if end != REP_ACK:
            return end
        assert all(kind == REP_META_CONTEXT for kind, _ in told)
        found = {data[4:].decode(): struct.unpack(">I", data[:4])[0] for _, data in told}
        assert len(found) == len(told)
        if option == OPT_LIST_META_CONTEXT:
            assert all(number == 0 for number in found.values())
        else:
            assert len(set(found.values())) == len(found)
            self.contexts = {number: context for context, number in found.items()}
        return found

    # Transmission ---------------------------------------------------------------------------------------------------

    def request(self, command, flags=0, offset=0, length=0, magic=None):
        self.cookie += 1
        self.asked[self.cookie] = (command, flags, offset, length, set(self.contexts))
        if self.mode == EXTENDED:
            return struct.pack(">IHHQQQ", magic or EXTENDED_REQUEST_MAGIC, flags, command, self.cookie, offset, length)
        return struct.pack(">IHHQQI", magic or REQUEST_MAGIC, flags, command, self.cookie, offset, length)

    def ask(self, command, offset=0, length=0, flags=0, payload=b""):
        """One request and its reply. A write's flag about its payload is added where it belongs."""
        if command == CMD_WRITE:
            length = len(payload)
            flags |= PAYLOAD_LEN if self.mode == EXTENDED else 0
        self.send(self.request(command, flags, offset, length) + payload)
        cookie, reply = self.reply()
        assert cookie == self.cookie
        return reply

    def ask_status(self, offset, length, only=None, flags=0):
        """Status by the name of its context; @only: ids, as a filter in the request's payload."""
        if only is None:
            reply = self.ask(CMD_BLOCK_STATUS, offset, length, flags)
        else:
            payload = struct.pack(f">Q{len(only)}I", length, *only)
            self.send(self.request(CMD_BLOCK_STATUS, flags | PAYLOAD_LEN, offset, len(payload)) + payload)
            self.asked[self.cookie] = (CMD_BLOCK_STATUS, flags, offset, length, set(only))
            _, reply = self.reply()
        assert reply.error == 0, reply
        return {self.contexts[number]: extents for number, extents in reply.status.items()}

    def reply(self):
        """The next reply, all of it, and its cookie. Nobody has asked for two at once, so chunks do not mix."""
        reply = Reply()
        magic = struct.unpack(">I", self.receive(4))[0]
        if magic == SIMPLE_MAGIC:
            return self.simple_reply(reply)
        while True:
            cookie, done = self.chunk(magic, reply)
            if done:
                break
            magic = struct.unpack(">I", self.receive(4))[0]
        self.check_chunks(self.asked.pop(cookie), reply)
        return cookie, reply

    def simple_reply(self, reply):
        assert self.mode != EXTENDED, "extended headers have no simple replies"
        reply.error, cookie = struct.unpack(">IQ", self.receive(12))
        command, _, _, length, _ = self.asked.pop(cookie)
        assert command not in (CMD_READ, CMD_BLOCK_STATUS) or self.mode == SIMPLE or reply.error
        assert command != CMD_READ or self.mode == SIMPLE, "a read is answered in chunks"
        if command == CMD_READ and reply.error == 0:
            reply.data = self.receive(length)
        return cookie, reply

    def chunk(self, magic, reply):
        if self.mode == EXTENDED:
            flags, kind, cookie, offset, length = struct.unpack(">HHQQQ", self.receive(28))
            assert magic == EXTENDED_MAGIC and offset == self.asked[cookie][2]
        else:
            flags, kind, cookie, length = struct.unpack(">HHQI", self.receive(16))
            assert magic == STRUCTURED_MAGIC and self.mode == STRUCTURED
        assert flags & ~DONE == 0 and length <= (32 << 20) + 8
        payload = self.receive(length)
        if kind & 0x8000:
            self.error_chunk(kind, payload, reply)
        elif kind == OFFSET_DATA:
            assert length > 8
            reply.chunks.append((kind, (struct.unpack(">Q", payload[:8])[0], payload[8:])))
        elif kind == OFFSET_HOLE:
            start, size = struct.unpack(">QI", payload)
            assert size > 0
            reply.chunks.append((kind, (start, bytes(size))))
        elif kind in (BLOCK_STATUS, BLOCK_STATUS_EXT):
            self.status_chunk(kind, payload, reply)
        else:
            assert kind == NONE and flags == DONE and payload == b""
            reply.chunks.append((kind, None))
        return cookie, flags & DONE

    def error_chunk(self, kind, payload, reply):
        assert kind in (CHUNK_ERROR, CHUNK_ERROR_OFFSET) and reply.error == 0
        error, length = struct.unpack(">IH", payload[:6])
        reply.error, reply.message = error, payload[6:6 + length].decode("utf-8")
        assert error in (EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN) and reply.message
        rest = payload[6 + length:]
        if kind == CHUNK_ERROR_OFFSET:
            reply.error_offset = struct.unpack(">Q", rest)[0]
        else:
            assert rest == b""
        reply.chunks.append((kind, error))

    def status_chunk(self, kind, payload, reply):
        assert (kind == BLOCK_STATUS_EXT) == (self.mode == EXTENDED)
        number = struct.unpack(">I", payload[:4])[0]
        if kind == BLOCK_STATUS_EXT:
            count = struct.unpack(">I", payload[4:8])[0]
            assert len(payload) == 8 + 16 * count
            extents = list(struct.iter_unpack(">QQ", payload[8:]))
        else:
            extents = list(struct.iter_unpack(">II", payload[4:]))
        assert extents and all(length > 0 for length, _ in extents) and number not in reply.status
        reply.status[number] = extents
        reply.chunks.append((kind, number))

    def check_chunks(self, request, reply):
        """Content of a read lies inside of it, does not overlap, and is all there; status speaks of what was asked."""
        command, flags, offset, length, contexts = request
        assert reply.error_offset is None or offset <= reply.error_offset < offset + length
        content = [what for kind, what in reply.chunks if kind in (OFFSET_DATA, OFFSET_HOLE)]
        assert not content or command == CMD_READ
        assert len(content) <= 1 or not flags & DF
        covered = bytearray(length if content else 0)
        for start, data in content:
            assert offset <= start and start + len(data) <= offset + length
            covered[start - offset:start - offset + len(data)] = b"\1" * len(data)
        if command == CMD_READ and reply.error == 0:
            assert covered.count(1) == length == sum(len(data) for _, data in content)
            pieces = bytearray(length)
            for start, data in content:
                pieces[start - offset:start - offset + len(data)] = data
            reply.data = bytes(pieces)
        if command == CMD_BLOCK_STATUS and reply.error == 0:
            assert set(reply.status) == contexts
            for extents in reply.status.values():
                assert not flags & REQ_ONE or (len(extents) == 1 and extents[0][0] <= length)
                assert sum(size for size, _ in extents[:-1]) < length


def enter(path, name, mode=SIMPLE, contexts=(), infos=()):
    """A client in transmission."""
    client = Raw(path)
    if mode != SIMPLE:
        assert client.result(OPT_STRUCTURED_REPLY if mode == STRUCTURED else OPT_EXTENDED_HEADERS) == REP_ACK
    if contexts:
        found = client.meta_context(OPT_SET_META_CONTEXT, name, contexts)
        assert set(found) == set(contexts), found
    client.size, client.flags = client.go(name, infos)
    return client
