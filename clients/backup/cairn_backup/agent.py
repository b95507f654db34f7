"""What a backup does, step by step.

Bitmaps make sure that no write is missed, whatever dies and whenever:

    bitmap of point n      |------------------------------------------------>  removed when point n+1 has succeeded
    bitmap of point n+1                    |--------------------------------   made before the moment of point n+1
                                             ^ moment        ^ success

 1. The bitmap of a point was made before its moment, so it has all that was written since.
 2. The bitmap of the last point that succeeded goes on recording until the next one has succeeded, which is when
    chain.json names that. If the next one does not succeed, its bitmap is removed, and nothing has changed.
 3. A bitmap of the chain that belongs to no point, or to an older one, is left from a backup that died: it is removed.
 4. After a crash of the daemon bitmaps are inconsistent: writes may be missing. Then a full backup is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import cairn

from .chain import Chain, ChainError, Point, PointWriter
from .moment import Names, bitmaps_of, clear_away, find_node, moment
from .pull import pull

Report = Callable[[str], None]


class Backup:
    """One backup of one disk into one chain."""

    def __init__(self, client: cairn.Client, chain: Chain, names: Names, report: Report):
        self._client = client
        self._chain = chain
        self._names = names
        self._report = report

    async def _disk_bytes(self) -> int:
        node = await find_node(self._client, self._names.disk)
        if node is None:
            raise ChainError(f"there is no node '{self._names.disk}'")
        if self._chain.points and self._chain.disk != self._names.disk:
            raise ChainError(f"'{self._chain.folder}' holds backups of '{self._chain.disk}', not of '{self._names.disk}'; "
                             "use another folder")
        return node.image.virtual_size

    async def _remove_bitmaps(self, keep: str | None) -> None:
        """All of this chain but one."""
        for name in await bitmaps_of(self._client, self._names.disk):
            if self._chain.owns_bitmap(name) and name != keep:
                await self._client.block_dirty_bitmap_remove(node=self._names.disk, name=name)

    async def _why_full(self, size: int) -> str:
        """Empty: what was written since the last point is known."""
        if not self._chain.points:
            return "it is the first backup"
        last = self._chain.points[-1]
        bitmap = (await bitmaps_of(self._client, self._names.disk)).get(last.bitmap)
        if bitmap is None:
            return f"bitmap '{last.bitmap}' is gone"
        if bitmap.inconsistent:
            return f"bitmap '{last.bitmap}' is inconsistent: the disk was not closed properly"
        if not bitmap.recording:
            return f"bitmap '{last.bitmap}' did not record"
        if last.size != size:
            return f"the disk has {size} bytes now, and had {last.size}"
        return ""

    async def _store(self, writer: PointWriter, incremental: bool) -> str:
        """Blocking calls, on a thread of their own."""
        def work() -> str:
            pull(self._names.socket, self._names.export, self._names.changed if incremental else None, writer)
            return writer.finish()

        return await asyncio.to_thread(work)

    async def _make_point(self, number: int, size: int, since: str | None) -> Point:
        bitmap = self._chain.bitmap_name(number)
        await self._client.block_dirty_bitmap_add(node=self._names.disk, name=bitmap, persistent=True)
        self._report(f"bitmap {bitmap}")
        async with moment(self._client, self._names, size, since):
            self._report("moment")
            writer = PointWriter(self._chain.folder, number)
            try:
                checksum = await self._store(writer, incremental=since is not None)
            except BaseException:
                writer.give_up()
                raise
            self._report(f"stored {writer.data_bytes} bytes of data")
        return Point(number=number, kind="incremental" if since else "full", size=size, bitmap=bitmap, sha256=checksum)

    async def run(self, full: bool) -> Point:
        size = await self._disk_bytes()
        reason = "it was asked for" if full else await self._why_full(size)
        since = None if reason else self._chain.points[-1].bitmap
        await clear_away(self._client, self._names)
        last = self._chain.points[-1].bitmap if self._chain.points else None
        if last is None:
            self._chain.disk = self._names.disk
            self._chain.store()  # its id, before there are bitmaps of that name
        await self._remove_bitmaps(keep=last if full or not reason else None)
        self._report(f"full backup, since {reason}" if reason else f"incremental backup, since {since}")
        number = self._chain.next_number
        try:
            point = await self._make_point(number, size, since)
        except Exception:
            with contextlib.suppress(cairn.ConnectionClosed):
                await self._remove_bitmaps(keep=last)
            raise
        self._chain.append(point)
        self._report(f"point {number}")
        await self._remove_bitmaps(keep=point.bitmap)
        return point
