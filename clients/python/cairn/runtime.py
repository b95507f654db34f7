"""What is the same for every interface: the wire, a session, and the coding of values.

Generated classes carry tables that the coder interprets:

    _members_    (name on the wire, name in Python, type, whether it is optional), without those of base classes
    _tag_        of a union: the discriminator's name on the wire
    _variants_   of a union: which class belongs to which value of it

A type is the name of a built-in or generated type, or a list of one type for an array. A value that comes from the
server may have members and enumeration values that are newer than this client: members are left out, values stay
strings, and a union of an unknown kind becomes the class of what all kinds have in common.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Generic, TypeVar

MESSAGE_BYTES_MAX = 256 << 20  # of one message; query-named-block-nodes of thousands of nodes takes some MiB
EVENTS_MAX = 10_000  # that wait for a reader


class Absent(enum.Enum):
    """The type of ABSENT, which stands for an optional member that is not there, where None means null."""

    ABSENT = enum.auto()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent.ABSENT


class CommandError(Exception):
    """The error reply to a command. Classes that the schema names are subclasses."""

    def __init__(self, command: str, error_class: str, description: str):
        super().__init__(f"{command}: {description}")
        self.command = command
        self.error_class = error_class
        self.description = description


class ConnectionClosed(ConnectionError):
    """The session is over: the server closed it, or close() was called."""


class ProtocolError(Exception):
    """The server sent what this client does not understand."""


class EventsLost(Exception):
    """A reader of events was so slow that some had to be dropped."""


class Struct:
    """The base of all data classes that stand for objects of the wire."""

    _members_: ClassVar[tuple[Any, ...]] = ()


@dataclasses.dataclass(kw_only=True)
class Event:
    """The base of all events. An event that this client does not know comes as UnknownEvent."""

    _event_: ClassVar[str] = ""
    _members_: ClassVar[tuple[Any, ...]] = ()

    timestamp: float  # seconds since 1970, by the server's clock


@dataclasses.dataclass(kw_only=True)
class UnknownEvent(Event):
    name: str
    data: dict[str, Any]


# Values -----------------------------------------------------------------------------------------------------------


class Alternate:
    """Which type belongs to which kind of JSON value: Alternate(string_="str", object_="BlockdevOptions")."""

    def __init__(self, **types: Any):
        self._types = {kind.rstrip("_"): kind_type for kind, kind_type in types.items()}

    def choose(self, value: Any) -> Any:
        kinds = {type(None): ["null"], bool: ["boolean"], int: ["int", "number"], float: ["number"], str: ["string"],
                 dict: ["object"], list: ["array"]}
        return next((self._types[kind] for kind in kinds[type(value)] if kind in self._types), "any")


def _all_members(kind: type) -> list[tuple[Any, ...]]:
    return [member for base in reversed(kind.__mro__) for member in base.__dict__.get("_members_", ())]


def encode(value: Any) -> Any:
    """A value as JSON."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Struct):
        return encode_members([(wire, _given(value, name, optional))
                               for wire, name, _, optional in _all_members(type(value))])
    if isinstance(value, (list, tuple)):
        return [encode(element) for element in value]
    return value


def given(value: Any) -> Any:
    """An optional member for which None means that it is absent."""
    return ABSENT if value is None else value


def _given(struct: Struct, name: str, optional: bool) -> Any:
    value = getattr(struct, name)
    takes_null = type(struct).__dataclass_fields__[name].default is ABSENT  # type: ignore[attr-defined]
    return given(value) if optional and not takes_null else value


def encode_members(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: encode(value) for name, value in members if value is not ABSENT}


def _variant(types: dict[str, Any], kind: type, value: dict[str, Any]) -> type:
    """The class of a union that fits the discriminator; a branch may be a union itself."""
    while tag := kind.__dict__.get("_tag_"):
        name = kind.__dict__["_variants_"].get(value.get(tag))
        if name is None:
            break
        kind = types[name]
    return kind


def _decode_object(types: dict[str, Any], kind: type, value: Any, **more: Any) -> Any:
    if not isinstance(value, dict):
        raise ProtocolError(f"{kind.__name__}: expected an object, got {value!r}")
    kind = _variant(types, kind, value)
    fixed = {field.name for field in dataclasses.fields(kind) if not field.init}
    arguments = dict(more)
    for wire, name, member_type, optional in _all_members(kind):
        if name in fixed:
            continue
        if wire in value:
            arguments[name] = decode(types, member_type, value[wire])
        elif not optional:
            raise ProtocolError(f"{kind.__name__}: '{wire}' is missing in {value!r}")
    return kind(**arguments)


def decode(types: dict[str, Any], wanted: Any, value: Any) -> Any:
    """JSON as a value of the type @wanted."""
    if isinstance(wanted, list):
        if not isinstance(value, list):
            raise ProtocolError(f"expected an array, got {value!r}")
        return [decode(types, wanted[0], element) for element in value]
    kind = types.get(wanted)
    if isinstance(kind, Alternate):
        return decode(types, kind.choose(value), value)
    if kind is None:
        return value
    if issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            return value
    return _decode_object(types, kind, value)


# Sessions ---------------------------------------------------------------------------------------------------------

E = TypeVar("E", bound=Event)
S = TypeVar("S", bound="Session")


class EventStream(Generic[E]):
    """Events of some kinds, from the moment on when the stream was made. Ends when the session does."""

    def __init__(self, session: Session, kinds: tuple[type[E], ...]):
        self._session = session
        self._kinds = kinds
        self._waiting: asyncio.Queue[E | None] = asyncio.Queue(EVENTS_MAX + 1)
        self._lost = False
        session._streams.add(self)

    def _offer(self, event: Event | None) -> None:
        if event is not None and self._kinds and not isinstance(event, self._kinds):
            return
        if self._waiting.qsize() >= EVENTS_MAX and event is not None:
            self._lost = True
        elif not self._waiting.full():
            self._waiting.put_nowait(event)  # type: ignore[arg-type]

    def __aiter__(self) -> EventStream[E]:
        return self

    async def __anext__(self) -> E:
        if self._lost:
            self._lost = False
            raise EventsLost(f"more than {EVENTS_MAX} events waited")
        if self._session.closed and self._waiting.empty():
            raise StopAsyncIteration
        event = await self._waiting.get()
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        self._session._streams.discard(self)

    async def __aenter__(self) -> EventStream[E]:
        return self

    async def __aexit__(self, *exception: Any) -> None:
        self.close()


class Session:
    """One connection. Commands may be executed at the same time; replies find their way back by id."""

    _types_: ClassVar[dict[str, Any]] = {}
    _errors_: ClassVar[dict[str, type[CommandError]]] = {}
    _events_: ClassVar[dict[str, type[Event]]] = {}

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._streams: set[EventStream[Any]] = set()
        self._task: asyncio.Task[None] | None = None
        self._reason: str = ""
        self.closed = False
        self.greeting: dict[str, Any] = {}

    @classmethod
    async def open(cls: type[S], path: Any) -> S:
        """Connects to the Unix socket at @path and negotiates. Whoever opens closes."""
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MESSAGE_BYTES_MAX)
        session = cls(reader, writer)
        try:
            greeting = await session._read()
            if greeting is None or "QMP" not in greeting:
                raise ProtocolError(f"expected a greeting, got {greeting!r}")
            session.greeting = greeting["QMP"]
            session._task = asyncio.create_task(session._receive())
            await session.execute("qmp_capabilities")
        except BaseException:
            await session.close()
            raise
        return session

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls: type[S], path: Any) -> AsyncIterator[S]:
        """The same, as a context manager that closes at its end."""
        session = await cls.open(path)
        try:
            yield session
        finally:
            await session.close()

    async def close(self) -> None:
        """Ends the session. What waits for replies gets ConnectionClosed, streams of events end."""
        self._end("the session was closed")
        if self._task and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def events(self, *kinds: type[E]) -> EventStream[E]:
        """A stream of events of these classes, or of all: async for event in client.events(JobStatusChangeEvent).

        It has all events from this call on, also those that come before the first one is asked for."""
        return EventStream(self, kinds)

    async def execute(self, command: str, arguments: Any = None, answered: bool = True) -> Any:
        """Executes a command by its name on the wire, with JSON arguments; returns JSON. Raises CommandError."""
        if self.closed:
            raise ConnectionClosed(f"{command}: {self._reason}")
        number = next(self._ids)
        message: dict[str, Any] = {"execute": command, "id": number}
        if arguments:
            message["arguments"] = arguments
        reply = asyncio.get_running_loop().create_future()
        self._pending[number] = reply
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
            return await reply if answered else None
        except CommandError as error:
            kind = self._errors_.get(error.error_class, CommandError)
            raise kind(command, error.error_class, error.description) from None
        except ConnectionError as error:
            raise ConnectionClosed(f"{command}: {self._reason or error}") from None
        finally:
            self._pending.pop(number, None)

    async def _read(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        line = await self._reader.readline()
        if not line:
            return None
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ProtocolError(f"expected an object, got {message!r}")
        return message

    async def _receive(self) -> None:
        reason = "the server closed the connection"
        try:
            while (message := await self._read()) is not None:
                self._dispatch(message)
        except (ConnectionError, ProtocolError, ValueError, KeyError, TypeError) as error:
            reason = str(error)
        finally:
            self._end(reason)

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "event" in message:
            event = self._decode_event(message)
            for stream in list(self._streams):
                stream._offer(event)
            return
        reply = self._pending.pop(message.get("id"), None)  # type: ignore[arg-type]
        if reply is None or reply.done():
            return
        if "error" in message:
            error = message["error"]
            reply.set_exception(CommandError("", error["class"], error["desc"]))
        else:
            reply.set_result(message.get("return"))

    def _decode_event(self, message: dict[str, Any]) -> Event:
        time = message["timestamp"]["seconds"] + message["timestamp"]["microseconds"] / 1e6
        data = message.get("data", {})
        kind = self._events_.get(message["event"])
        if kind is None:
            return UnknownEvent(timestamp=time, name=message["event"], data=data)
        if boxed := kind.__dict__.get("_boxed_"):
            return kind(timestamp=time, data=decode(self._types_, boxed, data))  # type: ignore[call-arg]
        event: Event = _decode_object(self._types_, kind, data, timestamp=time)
        return event

    def _end(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._reason = reason
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(ConnectionClosed(reason))
        for stream in self._streams:
            stream._offer(None)
