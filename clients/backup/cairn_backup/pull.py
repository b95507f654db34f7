"""Reading a moment of a disk over NBD: all of it, or what a dirty bitmap says."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import nbd  # type: ignore[import]

from .chain import PointWriter

READ_BYTES = 1 << 20
STATUS_BYTES = 1 << 30  # asked at once; the protocol knows no more than 4 GiB
ALLOCATION = "base:allocation"
ZERO = 2  # NBD protocol, base:allocation
DIRTY = 1  # NBD protocol of QEMU, qemu:dirty-bitmap


@dataclasses.dataclass
class _Run:
    """Bytes of which one context says the same."""

    offset: int
    length: int
    flags: int


class PullError(Exception):
    """The moment cannot be read any more."""


class _Source:
    """The export of a moment. With a bitmap, only what is dirty there counts."""

    def __init__(self, socket: pathlib.Path, export: str, bitmap: str | None):
        self._bitmap = f"qemu:dirty-bitmap:{bitmap}" if bitmap else None
        self._handle = nbd.NBD()
        self._handle.add_meta_context(ALLOCATION)
        if self._bitmap:
            self._handle.add_meta_context(self._bitmap)
        self._handle.set_export_name(export)
        self._handle.connect_unix(str(socket))
        for context in [ALLOCATION, self._bitmap]:
            if context and not self._handle.can_meta_context(context):
                raise PullError(f"the server does not offer '{context}'")
        self.size: int = self._handle.get_size()

    def close(self) -> None:
        self._handle.shutdown()

    def _status(self, offset: int) -> dict[str, list[_Run]]:
        """What each context says from @offset on, as far as it is told."""
        answers: dict[str, list[_Run]] = {}

        def add(context: str, at: int, entries: list[int], _error: object) -> int:
            runs = answers.setdefault(context, [])
            for length, flags in zip(entries[::2], entries[1::2]):
                runs.append(_Run(at, length, flags))
                at += length
            return 0

        self._handle.block_status(min(STATUS_BYTES, self.size - offset), offset, add)
        return answers

    def _wanted(self) -> Iterator[tuple[int, int, bool]]:
        """(offset, length, zero) of what is to be stored, in order."""
        offset = 0
        while offset < self.size:
            answers = self._status(offset)
            end = min(runs[-1].offset + runs[-1].length for runs in answers.values())
            end = min(end, self.size)
            dirty = answers[self._bitmap] if self._bitmap else [_Run(offset, end - offset, DIRTY)]
            for run in dirty:
                if run.flags & DIRTY:
                    yield from _pieces(run.offset, min(run.offset + run.length, end), answers[ALLOCATION])
            offset = end

    def pull(self, writer: PointWriter) -> None:
        for offset, length, zero in self._wanted():
            if zero:
                writer.add_zero(offset, length)
                continue
            for at in range(offset, offset + length, READ_BYTES):
                writer.add_data(at, self._handle.pread(min(READ_BYTES, offset + length - at), at))


def _pieces(begin: int, end: int, allocation: list[_Run]) -> Iterator[tuple[int, int, bool]]:
    for run in allocation:
        first, last = max(begin, run.offset), min(end, run.offset + run.length)
        if first < last:
            yield first, last - first, bool(run.flags & ZERO)


def pull(socket: pathlib.Path, export: str, bitmap: str | None, writer: PointWriter) -> None:
    """Reads what is wanted of an export; blocks. @bitmap: only what is dirty there."""
    try:
        source = _Source(socket, export, bitmap)
        source.pull(writer)
        source.close()
    except nbd.Error as error:
        raise PullError(f"reading export '{export}': {error}") from error
