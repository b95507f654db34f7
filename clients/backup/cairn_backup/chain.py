"""A chain of backups in a folder: one full backup, then what changed from each point to the next.

    chain.json     the points, oldest first; replaced in one step, which is when a backup has succeeded
    0001.json      the extents of a point: [offset, bytes, "data" or "zero"], in order, without overlaps
    0001.data      the bytes of its data extents, one behind the other

What is not listed in a full backup is zero; what is not listed in an incremental one is as it was. Files that chain.json
does not name are left from a backup that did not succeed.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import BinaryIO

COPY_BYTES = 1 << 20
VERSION = 1


class ChainError(Exception):
    """The folder does not hold what it should."""


@dataclasses.dataclass
class Point:
    """One moment of the disk."""

    number: int
    kind: str  # "full" or "incremental"
    size: int  # of the disk, in bytes
    bitmap: str  # has recorded what was written from this moment on
    sha256: str  # of the data file
    moment: str = ""  # the same in all chains whose disks had it together

    @property
    def stem(self) -> str:
        return f"{self.number:04}"


@dataclasses.dataclass
class Extent:
    offset: int
    length: int
    zero: bool

    @property
    def end(self) -> int:
        return self.offset + self.length


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_safely(path: pathlib.Path, text: str) -> None:
    """The file has the old content or the new one, whenever the power goes."""
    new = path.with_suffix(".new")
    with open(new, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    _sync_folder(path.parent)


class PointWriter:
    """A point in the making. Extents come in order."""

    def __init__(self, folder: pathlib.Path, number: int):
        self._path = folder / f"{number:04}.data"
        self._file = open(self._path, "wb")
        self._hash = hashlib.sha256()
        self._extents: list[Extent] = []
        self.data_bytes = 0

    def _add(self, offset: int, length: int, zero: bool) -> None:
        last = self._extents[-1] if self._extents else None
        if last and last.end == offset and last.zero == zero:
            last.length += length
        else:
            self._extents.append(Extent(offset, length, zero))

    def add_zero(self, offset: int, length: int) -> None:
        self._add(offset, length, True)

    def add_data(self, offset: int, data: bytes) -> None:
        self._add(offset, len(data), False)
        self._file.write(data)
        self._hash.update(data)
        self.data_bytes += len(data)

    def finish(self) -> str:
        """Everything is on stable storage; returns the checksum."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        extents = [[extent.offset, extent.length, "zero" if extent.zero else "data"] for extent in self._extents]
        _write_safely(self._path.with_suffix(".json"), json.dumps({"extents": extents}))
        return self._hash.hexdigest()

    def give_up(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".json").unlink(missing_ok=True)


class _Covered:
    """Ranges that are disjoint and sorted."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def gaps(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        at = bisect.bisect_right(self._ends, begin)
        while begin < end and at < len(self._begins) and self._begins[at] < end:
            if begin < self._begins[at]:
                yield begin, self._begins[at]
            begin = self._ends[at]
            at += 1
        if begin < end:
            yield begin, end

    def add(self, begin: int, end: int) -> None:
        first = bisect.bisect_left(self._ends, begin)
        last = bisect.bisect_right(self._begins, end)
        if first < last:
            begin, end = min(begin, self._begins[first]), max(end, self._ends[last - 1])
        self._begins[first:last] = [begin]
        self._ends[first:last] = [end]


class Chain:
    """The folder. Its id is in the names of the bitmaps, so chains of one disk do not disturb each other."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.id = uuid.uuid4().hex[:12]
        self.disk = ""
        self.points: list[Point] = []
        if (folder / "chain.json").exists():
            self._load()

    def _load(self) -> None:
        try:
            value = json.loads((self.folder / "chain.json").read_text())
            if value["version"] != VERSION:
                raise ChainError(f"'{self.folder}': expected version {VERSION}, found {value['version']}")
            self.id, self.disk = value["id"], value["disk"]
            self.points = [Point(**point) for point in value["points"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ChainError(f"'{self.folder / 'chain.json'}' cannot be read: {error!r}") from error

    def store(self) -> None:
        points = [dataclasses.asdict(point) for point in self.points]
        value = {"version": VERSION, "id": self.id, "disk": self.disk, "points": points}
        _write_safely(self.folder / "chain.json", json.dumps(value, indent=1))

    @property
    def next_number(self) -> int:
        return self.points[-1].number + 1 if self.points else 1

    def bitmap_name(self, number: int) -> str:
        return f"backup-{self.id}-{number}"

    def owns_bitmap(self, name: str) -> bool:
        return name.startswith(f"backup-{self.id}-")

    def append(self, point: Point) -> None:
        self.points.append(point)
        self.store()

    def find(self, number: int | None) -> Point:
        for point in self.points:
            if point.number == number or (number is None and point is self.points[-1]):
                return point
        raise ChainError(f"'{self.folder}' has no point {number or ''}".rstrip())

    def find_moment(self, name: str) -> Point:
        for point in self.points:
            if name and point.moment == name:
                return point
        raise ChainError(f"'{self.folder}' has no point of moment '{name}'")

    def _needed(self, point: Point) -> list[Point]:
        """What a point is made of: the newest first, a full backup last."""
        needed: list[Point] = []
        for candidate in reversed(self.points[:self.points.index(point) + 1]):
            needed.append(candidate)
            if candidate.kind == "full":
                return needed
        raise ChainError(f"'{self.folder}': point {point.number} has no full backup before it")

    def _extents(self, point: Point) -> list[Extent]:
        try:
            value = json.loads((self.folder / f"{point.stem}.json").read_text())
            return [Extent(offset, length, kind == "zero") for offset, length, kind in value["extents"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ChainError(f"point {point.number} cannot be read: {error}") from error

    def restore(self, point: Point, path: pathlib.Path) -> None:
        """Writes the disk as it was into a new file. Each byte is written once, by the newest point that has it."""
        covered = _Covered()
        with open(path, "xb") as target:
            target.truncate(point.size)
            for source in self._needed(point):
                with open(self.folder / f"{source.stem}.data", "rb") as data:
                    self._restore_one(source, data, target, covered)
            target.flush()
            os.fsync(target.fileno())

    def _restore_one(self, point: Point, data: BinaryIO, target: BinaryIO, covered: _Covered) -> None:
        at = 0  # in the data file
        for extent in self._extents(point):
            if not extent.zero:
                for begin, end in covered.gaps(extent.offset, extent.end):
                    data.seek(at + begin - extent.offset)
                    target.seek(begin)
                    _copy(data, target, end - begin)
                at += extent.length
            covered.add(extent.offset, extent.end)

    def check(self) -> None:
        """Whether the data is what was written."""
        for point in self.points:
            digest = hashlib.sha256()
            bytes_listed = sum(extent.length for extent in self._extents(point) if not extent.zero)
            with open(self.folder / f"{point.stem}.data", "rb") as file:
                while data := file.read(COPY_BYTES):
                    digest.update(data)
                    bytes_listed -= len(data)
            if digest.hexdigest() != point.sha256 or bytes_listed:
                raise ChainError(f"point {point.number} is damaged: '{self.folder / point.stem}.data'")


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length:
        data = source.read(min(length, COPY_BYTES))
        if not data:
            raise ChainError("a data file is too short")
        target.write(data)
        length -= len(data)
