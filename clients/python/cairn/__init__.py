"""A client of cairnd, by its management interface (QMP).

    async with cairn.connect("/run/cairn/qmp.sock") as client:
        await client.blockdev_add(cairn.BlockdevOptions_null_co(node_name="disk0", size=1 << 30))
        for node in await client.query_named_block_nodes(flat=True):
            print(node.node_name, node.image.virtual_size)

Commands are methods of Client, what they take and return are data classes, events are data classes that Client.events()
yields, and error replies are exceptions named after their class. All of these are generated from cairnd's schema.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

from . import api, runtime
from .api import *  # noqa: F401,F403
from .api import Client
from .runtime import ABSENT, CommandError, ConnectionClosed, Event, EventsLost, ProtocolError  # noqa: F401


def connect(path: Any) -> AbstractAsyncContextManager[Client]:
    """A context manager that yields a Client of the Unix socket at @path, ready for commands."""
    return Client.connect(path)


__all__ = [name for name in dir(api) if not name.startswith("_") and name not in ("annotations", "runtime")]
__all__ += ["ABSENT", "CommandError", "ConnectionClosed", "Event", "EventsLost", "ProtocolError", "connect"]
