"""python3 -m cairn_backup: see --help."""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys

import cairn

from .agent import Backup
from .chain import Chain, ChainError
from .moment import Names
from .pull import PullError


def _report(text: str) -> None:
    print(text, flush=True)


async def _backup(arguments: argparse.Namespace) -> None:
    folder: pathlib.Path = arguments.chain
    folder.mkdir(parents=True, exist_ok=True)
    scratch: pathlib.Path = (arguments.scratch or folder).absolute()
    async with cairn.connect(arguments.qmp) as client:
        backup = Backup(client, Chain(folder), Names(arguments.disk, scratch), _report)
        await backup.run(arguments.full)


def _list(arguments: argparse.Namespace) -> None:
    for point in Chain(arguments.chain).points:
        print(point.number, point.kind, point.size)


def _restore(arguments: argparse.Namespace) -> None:
    chain = Chain(arguments.chain)
    chain.restore(chain.find(arguments.point), arguments.image)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cairn_backup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    backup = verbs.add_parser("backup", help="add a point: a full one first, then what has changed")
    backup.add_argument("--qmp", type=pathlib.Path, required=True, help="the daemon's monitor, a Unix socket")
    backup.add_argument("--disk", required=True, help="node name of a qcow2 image")
    backup.add_argument("--scratch", type=pathlib.Path, help="folder for a temporary file (default: the chain's)")
    backup.add_argument("--full", action="store_true", help="copy all of it, whatever is known")
    verbs.add_parser("list", help="number, kind and size of each point")
    restore = verbs.add_parser("restore", help="write a raw image, which must not exist")
    restore.add_argument("--point", type=int, help="its number (default: the last)")
    restore.add_argument("image", type=pathlib.Path)
    verbs.add_parser("check", help="is the data what was written?")
    for verb in verbs.choices.values():
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
