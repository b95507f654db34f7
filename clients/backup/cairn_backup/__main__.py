"""python3 -m cairn_backup: see --help."""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys

import cairn

from .agent import Backup, Report, back_up
from .chain import Chain, ChainError
from .moment import Names
from .pull import PullError


def _report(text: str) -> None:
    print(text, flush=True)


def _report_of(disk: str, several: bool) -> Report:
    return (lambda text: _report(f"{disk}: {text}")) if several else _report


async def _backup(arguments: argparse.Namespace) -> None:
    disks: list[str] = arguments.disk
    folders: list[pathlib.Path] = arguments.chain
    if len(folders) != len(disks) or len(set(disks)) < len(disks) or len({each.resolve() for each in folders}) < len(folders):
        raise ChainError(f"each disk takes a chain of its own: there are {len(disks)} of --disk, and {len(folders)} of --chain")
    async with cairn.connect(arguments.qmp) as client:
        backups = []
        for disk, folder in zip(disks, folders):
            folder.mkdir(parents=True, exist_ok=True)
            names = Names(disk, (arguments.scratch or folder).absolute())
            backups.append(Backup(client, Chain(folder), names, _report_of(disk, len(disks) > 1)))
        await back_up(client, backups, arguments.full, _report)


def _list(arguments: argparse.Namespace) -> None:
    for point in Chain(arguments.chain).points:
        print(point.number, point.kind, point.size, *([point.moment] if point.moment else []))


def _restore(arguments: argparse.Namespace) -> None:
    chain = Chain(arguments.chain)
    point = chain.find_moment(arguments.moment) if arguments.moment else chain.find(arguments.point)
    chain.restore(point, arguments.image)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cairn_backup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    backup = verbs.add_parser("backup", help="add a point: a full one first, then what has changed")
    backup.add_argument("--qmp", type=pathlib.Path, required=True, help="the daemon's monitor, a Unix socket")
    backup.add_argument("--disk", action="append", required=True,
                        help="node name of a qcow2 image; several of them, each with its --chain, have one moment")
    backup.add_argument("--chain", type=pathlib.Path, action="append", required=True, help="the folder of that disk")
    backup.add_argument("--scratch", type=pathlib.Path, help="folder for temporary files (default: the chain's)")
    backup.add_argument("--full", action="store_true", help="copy all of it, whatever is known")
    verbs.add_parser("list", help="number, kind and size of each point; the moment that it shares with other disks")
    restore = verbs.add_parser("restore", help="write a raw image, which must not exist")
    which = restore.add_mutually_exclusive_group()
    which.add_argument("--point", type=int, help="its number (default: the last)")
    which.add_argument("--moment", help="the one that it shares with points of other disks")
    restore.add_argument("image", type=pathlib.Path)
    verbs.add_parser("check", help="is the data what was written?")
    for verb in (verbs.choices[name] for name in ("list", "restore", "check")):
        verb.add_argument("--chain", type=pathlib.Path, required=True, help="the folder")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if arguments.verb == "backup":
            asyncio.run(_backup(arguments))
        elif arguments.verb == "list":
            _list(arguments)
        elif arguments.verb == "restore":
            _restore(arguments)
        else:
            Chain(arguments.chain).check()
    except (ChainError, cairn.CommandError, OSError, PullError) as error:
        print(f"cairn_backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
