"""What language.json describes. Written by schemac: change that instead."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar, Union

from . import runtime

TYPES: dict[str, Any] = {}


class QapiErrorClass(str, enum.Enum):

    GENERICERROR = "GenericError"
    DEVICENOTFOUND = "DeviceNotFound"


class Kind(str, enum.Enum):

    PLAIN = "plain"
    FANCY = "fancy"


@dataclass(kw_only=True)
class Fancy(runtime.Struct):

    key: str | None = field(default=None, repr=False)
    degree: int | None = None
    _members_: ClassVar = (
        ("key", "key", "str", True),
        ("degree", "degree", "uint8", True),
    )


@dataclass(kw_only=True)
class Thing(runtime.Struct):

    kind: Kind | None = None
    owner: str | None | runtime.Absent = runtime.ABSENT
    _members_: ClassVar = (
        ("kind", "kind", "Kind", True),
        ("owner", "owner", "NodeNameOrNull", True),
    )
    _tag_: ClassVar = "kind"
    _variants_: ClassVar = {
        "fancy": "Thing_fancy",
        "plain": "Thing_plain",
    }


@dataclass(kw_only=True)
class Thing_fancy(Thing):
    """Thing with kind "fancy"."""

    kind: Kind = field(default=Kind.FANCY, init=False)

    key: str | None = field(default=None, repr=False)
    degree: int | None = None
    _members_: ClassVar = (
        ("key", "key", "str", True),
        ("degree", "degree", "uint8", True),
    )


@dataclass(kw_only=True)
class Thing_plain(Thing):
    """Thing with kind "plain"."""

    kind: Kind = field(default=Kind.PLAIN, init=False)

    _members_: ClassVar = ()


@dataclass(kw_only=True)
class NameInfo(runtime.Struct):

    name: str
    _members_: ClassVar = (
        ("name", "name", "str", False),
    )


@dataclass(kw_only=True)
class ThingGoneEvent(runtime.Event):

    _event_: ClassVar[str] = "THING_GONE"

    name: str
    _members_: ClassVar = (
        ("name", "name", "str", False),
    )


class GenericError(runtime.CommandError):
    """GenericError"""


class DeviceNotFound(runtime.CommandError):
    """DeviceNotFound"""


TYPES.update({
    "QapiErrorClass": QapiErrorClass,
    "Kind": Kind,
    "Fancy": Fancy,
    "Thing": Thing,
    "Thing_fancy": Thing_fancy,
    "Thing_plain": Thing_plain,
    "NameInfo": NameInfo,
    "NodeNameOrNull": runtime.Alternate(string_="str", null_="null"),
})


class Client(runtime.Session):
    """A session: one method per command. See runtime.Session for how to begin one."""

    _types_: ClassVar = TYPES
    _errors_: ClassVar = {
        "GenericError": GenericError,
        "DeviceNotFound": DeviceNotFound,
    }
    _events_: ClassVar = {
        "THING_GONE": ThingGoneEvent,
    }

    async def thing_add(self, *,
        name: str,
        thing: Thing | None = None,
        password: str | None = None,
    ) -> None:
        await self.execute("thing-add", runtime.encode_members([("name", name), ("thing", runtime.given(thing)), ("password", runtime.given(password))]))

    async def query_names(self) -> list[NameInfo]:
        _reply: list[NameInfo] = runtime.decode(TYPES, ["NameInfo"], await self.execute("query-names"))
        return _reply
