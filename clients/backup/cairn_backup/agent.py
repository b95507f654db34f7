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
 5. Several disks have one moment, and their points its name. Each chain stands for itself: whoever dies between two of them
    leaves a point of that moment in the one and not in the other, and both go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Sequence

import cairn

from .chain import Chain, ChainError, Point, PointWriter
from .moment import Names, Shown, bitmaps_of, clear_away, find_node, moment
from .pull import pull

Report = Callable[[str], None]


@dataclasses.dataclass
class _Plan:
    """What becomes a point."""

    shown: Shown
    number: int
    last: str | None  # bitmap of the last point


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

    async def prepare(self, full: bool) -> _Plan:
        """What was left of others is gone afterwards."""
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
        return _Plan(Shown(self._names, size, self._chain.bitmap_name(number), since), number, last)

    async def add_bitmap(self, plan: _Plan) -> None:
        """Before the moment."""
        await self._client.block_dirty_bitmap_add(node=self._names.disk, name=plan.shown.bitmap, persistent=True)

    async def store(self, plan: _Plan, name: str) -> Point:
        """Reads the moment, which is shown. Blocking calls are made on a thread of their own. @name: of the moment."""
        shown = plan.shown
        writer = PointWriter(self._chain.folder, plan.number)

        def work() -> str:
            pull(shown.names.socket, shown.names.export, shown.names.changed if shown.since else None, writer)
            return writer.finish()

        try:
            checksum = await asyncio.to_thread(work)
        except BaseException:
            writer.give_up()
            raise
        self._report(f"stored {writer.data_bytes} bytes of data")
        return Point(number=plan.number, kind="incremental" if shown.since else "full", size=shown.size,
                     bitmap=shown.bitmap, sha256=checksum, moment=name)

    async def keep(self, point: Point) -> None:
        """It has succeeded."""
        self._chain.append(point)
        self._report(f"point {point.number}")
        await self._remove_bitmaps(keep=point.bitmap)

    async def give_up(self, plan: _Plan) -> None:
        await self._remove_bitmaps(keep=plan.last)


async def _make_points(client: cairn.Client, backups: Sequence[Backup], plans: Sequence[_Plan],
                       report: Report) -> list[Point]:
    if len(backups) == 1:
        await backups[0].add_bitmap(plans[0])
        report(f"bitmap {plans[0].shown.bitmap}")
    name = uuid.uuid4().hex[:12] if len(backups) > 1 else ""
    async with moment(client, [plan.shown for plan in plans]):
        report("moment")
        # None is left alone with what it reads: all have ended before the moment is over.
        made = await asyncio.gather(*(backup.store(plan, name) for backup, plan in zip(backups, plans)),
                                    return_exceptions=True)
    points = []
    for point in made:
        if isinstance(point, BaseException):
            raise point
        points.append(point)
    return points


async def back_up(client: cairn.Client, backups: Sequence[Backup], full: bool, report: Report) -> None:
    """A point of one moment in each chain."""
    plans = [await backup.prepare(full) for backup in backups]
    try:
        points = await _make_points(client, backups, plans, report)
    except Exception:
        with contextlib.suppress(cairn.ConnectionClosed):
            for backup, plan in zip(backups, plans):
                await backup.give_up(plan)
        raise
    for backup, point in zip(backups, points):
        await backup.keep(point)
