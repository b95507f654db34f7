"""A moment of one disk or of several, shown over NBD while their guests go on writing.

    guest  --NBD--> DISK.backup-cbw --file----> DISK
    backup --NBD--> DISK.backup-snap  target--> DISK.backup-temp (old data of what is overwritten)

The filter of one disk is a node of ours, which limits how long a guest waits for the scratch file. Several disks have one moment
by a transaction: there the filters belong to backup jobs, which copy nothing but what guests overwrite.

Whatever is left of an earlier one, whose maker died, is cleared away first: all names come from the disk's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
from collections.abc import AsyncIterator, Sequence

import cairn

WAIT_SECONDS = 60.0  # for what the daemon has been told to end


class Names:
    def __init__(self, disk: str, scratch: pathlib.Path):
        self.disk = disk
        self.filter = f"{disk}.backup-cbw"
        self.temp = f"{disk}.backup-temp"
        self.snap = f"{disk}.backup-snap"
        self.export = f"{disk}.backup"
        self.job = f"{disk}.backup"
        self.server = f"{disk}.backup"
        self.changed = f"{disk}.backup-changed"  # the bitmap that is shown
        self.socket = scratch / f"{disk}.backup.sock"
        self.scratch_file = scratch / f"{disk}.backup-scratch"


@dataclasses.dataclass
class Shown:
    """A disk whose moment is shown."""

    names: Names
    size: int
    bitmap: str  # records what is written from the moment on
    since: str | None  # a bitmap of the disk: what is dirty there is told as the context of names.changed


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


async def _end_job(client: cairn.Client, job: str) -> None:
    async with client.events(cairn.JobStatusChangeEvent) as changes:
        if all(info.id != job for info in await client.query_jobs()):
            return
        with contextlib.suppress(cairn.CommandError):  # it is on its way already
            await client.block_job_cancel(device=job, force=True)

        async def wait() -> None:
            async for event in changes:
                if event.id == job and event.status == cairn.JobStatus.NULL:
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
    await _end_job(client, names.job)
    nodes = {node.node_name for node in await client.query_named_block_nodes(flat=True)}
    if names.filter in nodes:
        with contextlib.suppress(cairn.CommandError):  # it is not in its place
            await client.blockdev_remove_filter(filter=names.filter)
        await client.blockdev_del(node_name=names.filter)
    if names.temp in nodes:
        await client.blockdev_del(node_name=names.temp)
    if names.changed in await bitmaps_of(client, names.disk):
        await client.block_dirty_bitmap_remove(node=names.disk, name=names.changed)
    names.scratch_file.unlink(missing_ok=True)


async def _add_scratch(client: cairn.Client, shown: Shown) -> None:
    names = shown.names
    descriptor = os.open(names.scratch_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.truncate(descriptor, shown.size)
    finally:
        os.close(descriptor)
    await client.blockdev_add(cairn.BlockdevOptions_file(
        node_name=names.temp, filename=str(names.scratch_file), discard=cairn.BlockdevDiscardOptions.UNMAP))


async def _granularity(client: cairn.Client, shown: Shown, since: str) -> int:
    return (await bitmaps_of(client, shown.names.disk))[since].granularity


async def _begin_one(client: cairn.Client, shown: Shown) -> None:
    """After this, what the filter showed is kept. There is a bitmap that has recorded since before that.

    The bitmap that is shown is a copy, which does not change any more. It is made after the moment, so it has all that was
    written before; what was written since is there too, and does no harm."""
    names = shown.names
    await _add_scratch(client, shown)
    # Guests go on when the scratch file cannot take more; the backup fails then.
    await client.blockdev_add(cairn.BlockdevOptions_copy_before_write(
        node_name=names.filter, file=names.disk, target=names.temp,
        on_cbw_error=cairn.OnCbwError.BREAK_SNAPSHOT, cbw_timeout=45))
    await client.blockdev_insert_filter(node=names.disk, filter=names.filter)
    if shown.since:
        granularity = await _granularity(client, shown, shown.since)
        await client.block_dirty_bitmap_add(node=names.disk, name=names.changed, granularity=granularity, disabled=True)
        await client.block_dirty_bitmap_merge(node=names.disk, target=names.changed, bitmaps=[shown.since])


async def _actions(client: cairn.Client, shown: Shown) -> list[cairn.TransactionAction]:
    """What happens to one disk at the moment. Guests go on when the scratch file cannot take more."""
    names = shown.names
    actions: list[cairn.TransactionAction] = [cairn.TransactionAction_block_dirty_bitmap_add(
        data=cairn.BlockDirtyBitmapAdd(node=names.disk, name=shown.bitmap, persistent=True))]
    if shown.since:
        granularity = await _granularity(client, shown, shown.since)
        actions += [
            cairn.TransactionAction_block_dirty_bitmap_add(data=cairn.BlockDirtyBitmapAdd(
                node=names.disk, name=names.changed, granularity=granularity, disabled=True)),
            cairn.TransactionAction_block_dirty_bitmap_merge(data=cairn.BlockDirtyBitmapMerge(
                node=names.disk, target=names.changed, bitmaps=[shown.since]))]
    actions.append(cairn.TransactionAction_blockdev_backup(data=cairn.BlockdevBackup(
        job_id=names.job, device=names.disk, target=names.temp, sync=cairn.MirrorSyncMode.NONE,
        filter_node_name=names.filter, on_cbw_error=cairn.OnCbwError.BREAK_SNAPSHOT)))
    return actions


async def _begin_together(client: cairn.Client, disks: Sequence[Shown]) -> None:
    """One moment for all: no write of one disk is kept without what was written before it on another."""
    actions = []
    for shown in disks:
        await _add_scratch(client, shown)
        actions += await _actions(client, shown)
    await client.transaction(actions=actions)


async def _show(client: cairn.Client, shown: Shown) -> None:
    names = shown.names
    bitmaps: list[cairn.BlockDirtyBitmapOrStr] = []
    if shown.since:
        bitmaps.append(cairn.BlockDirtyBitmap(node=names.disk, name=names.changed))
    await client.blockdev_add(cairn.BlockdevOptions_snapshot_access(node_name=names.snap, file=names.filter))
    names.socket.unlink(missing_ok=True)
    address = cairn.SocketAddressLegacy_unix(data=cairn.UnixSocketAddress(path=str(names.socket)))
    await client.nbd_server_start(id=names.server, addr=address)
    await client.block_export_add(cairn.BlockExportOptions_nbd(
        id=names.export, node_name=names.snap, name=names.export, bitmaps=bitmaps, servers=[names.server]))


@contextlib.asynccontextmanager
async def moment(client: cairn.Client, disks: Sequence[Shown]) -> AsyncIterator[None]:
    """The content of now of each disk, as the export names.export on names.socket. The bitmap of a single disk is there already;
    those of several are made at the moment."""
    for shown in disks:
        await clear_away(client, shown.names)
    try:
        if len(disks) == 1:
            await _begin_one(client, disks[0])
        else:
            await _begin_together(client, disks)
        for shown in disks:
            await _show(client, shown)
        yield
    finally:
        with contextlib.suppress(cairn.ConnectionClosed):  # everything has gone with the daemon
            for shown in disks:
                await clear_away(client, shown.names)
        for shown in disks:
            shown.names.scratch_file.unlink(missing_ok=True)
