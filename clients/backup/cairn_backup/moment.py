"""A moment of a disk, shown over NBD while its guests go on writing.

    guest  --NBD--> DISK.backup-cbw --file----> DISK
    backup --NBD--> DISK.backup-snap  target--> DISK.backup-temp (old data of what is overwritten)

Whatever is left of an earlier one, whose maker died, is cleared away first: all names come from the disk's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator

import cairn

WAIT_SECONDS = 60.0  # for what the daemon has been told to end


class Names:
    def __init__(self, disk: str, scratch: pathlib.Path):
        self.disk = disk
        self.filter = f"{disk}.backup-cbw"
        self.temp = f"{disk}.backup-temp"
        self.snap = f"{disk}.backup-snap"
        self.export = f"{disk}.backup"
        self.server = f"{disk}.backup"
        self.changed = f"{disk}.backup-changed"  # the bitmap that is shown
        self.socket = scratch / f"{disk}.backup.sock"
        self.scratch_file = scratch / f"{disk}.backup-scratch"


async def find_node(client: cairn.Client, name: str) -> cairn.BlockDeviceInfo | None:
    nodes = await client.query_named_block_nodes(flat=True)
    return next((node for node in nodes if node.node_name == name), None)


async def bitmaps_of(client: cairn.Client, disk: str) -> dict[str, cairn.BlockDirtyInfo]:
    node = await find_node(client, disk)
    return {bitmap.name: bitmap for bitmap in (node and node.dirty_bitmaps) or [] if bitmap.name}


async def _remove_export(client: cairn.Client, export: str) -> None:
    if all(info.id != export for info in await client.query_block_exports()):
        return
    async with client.events(cairn.BlockExportDeletedEvent) as gone:
        with contextlib.suppress(cairn.CommandError):  # it is on its way already
            await client.block_export_del(id=export, mode=cairn.BlockExportRemoveMode.HARD)

        async def wait() -> None:
            async for event in gone:
                if event.id == export:
                    return

        await asyncio.wait_for(wait(), WAIT_SECONDS)


async def clear_away(client: cairn.Client, names: Names) -> None:
    """Whatever there is of a moment."""
    await _remove_export(client, names.export)
    if any(server.id == names.server for server in await client.query_nbd_servers()):
        await client.nbd_server_stop(id=names.server)
    nodes = {node.node_name for node in await client.query_named_block_nodes(flat=True)}
    if names.snap in nodes:
        await client.blockdev_del(node_name=names.snap)
    if names.filter in nodes:
        with contextlib.suppress(cairn.CommandError):  # it is not in its place
            await client.blockdev_remove_filter(filter=names.filter)
        await client.blockdev_del(node_name=names.filter)
    if names.temp in nodes:
        await client.blockdev_del(node_name=names.temp)
    if names.changed in await bitmaps_of(client, names.disk):
        await client.block_dirty_bitmap_remove(node=names.disk, name=names.changed)
    names.scratch_file.unlink(missing_ok=True)


async def _begin(client: cairn.Client, names: Names, size: int) -> None:
    """After this, what the filter showed is kept."""
    descriptor = os.open(names.scratch_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.truncate(descriptor, size)
    finally:
        os.close(descriptor)
    await client.blockdev_add(cairn.BlockdevOptions_file(
        node_name=names.temp, filename=str(names.scratch_file), discard=cairn.BlockdevDiscardOptions.UNMAP))
    # Guests go on when the scratch file cannot take more; the backup fails then.
    await client.blockdev_add(cairn.BlockdevOptions_copy_before_write(
        node_name=names.filter, file=names.disk, target=names.temp,
        on_cbw_error=cairn.OnCbwError.BREAK_SNAPSHOT, cbw_timeout=45))
    await client.blockdev_insert_filter(node=names.disk, filter=names.filter)


async def _show_changes(client: cairn.Client, names: Names, since: str) -> cairn.BlockDirtyBitmap:
    """A copy of a bitmap, which does not change any more. It is made after the moment, so it has all that was written
    before; what was written since is there too, and does no harm."""
    granularity = (await bitmaps_of(client, names.disk))[since].granularity
    await client.block_dirty_bitmap_add(node=names.disk, name=names.changed, granularity=granularity, disabled=True)
    await client.block_dirty_bitmap_merge(node=names.disk, target=names.changed, bitmaps=[since])
    return cairn.BlockDirtyBitmap(node=names.disk, name=names.changed)


async def _show(client: cairn.Client, names: Names, since: str | None) -> None:
    bitmaps: list[cairn.BlockDirtyBitmapOrStr] = [await _show_changes(client, names, since)] if since else []
    await client.blockdev_add(cairn.BlockdevOptions_snapshot_access(node_name=names.snap, file=names.filter))
    names.socket.unlink(missing_ok=True)
    address = cairn.SocketAddressLegacy_unix(data=cairn.UnixSocketAddress(path=str(names.socket)))
    await client.nbd_server_start(id=names.server, addr=address)
    await client.block_export_add(cairn.BlockExportOptions_nbd(
        id=names.export, node_name=names.snap, name=names.export, bitmaps=bitmaps, servers=[names.server]))


@contextlib.asynccontextmanager
async def moment(client: cairn.Client, names: Names, size: int, since: str | None) -> AsyncIterator[None]:
    """The disk's content of now, as the export names.export on names.socket. @since: a bitmap of the disk; what is dirty
    there is told as the context of names.changed."""
    await clear_away(client, names)
    try:
        await _begin(client, names, size)
        await _show(client, names, since)
        yield
    finally:
        with contextlib.suppress(cairn.ConnectionClosed):  # everything has gone with the daemon
            await clear_away(client, names)
        names.scratch_file.unlink(missing_ok=True)
