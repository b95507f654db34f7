#!/usr/bin/python3
"""How long requests of ten disks are held back together by one transaction, under load.

usage: transactions.py [BUILD_DIR]

Ten qcow2 images are exported, and each is written by a client of its own, 8 requests of 4 KiB in flight at random places. After each
transaction the daemon says how long it has held requests back (query-drains). Prints a table for docs/performance.md: medians and
the longest of all; and how long merging a bitmap of 16 TiB, all of it dirty, holds them."""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from images import create  # noqa: E402
from nbd_client import connect, start_server  # noqa: E402
from process import BUILD, Daemon  # noqa: E402

SIZE = 64 << 20
DISKS = [f"disk{number}" for number in range(10)]
ROUNDS = 20


class Bench:
    def __init__(self, directory):
        self.directory = directory
        self.daemon = Daemon(directory)
        self.qmp = self.daemon.connect()
        self.tops = {disk: disk for disk in DISKS}
        self.overlays = 0
        self.socket = start_server(self.qmp, directory)
        for disk in DISKS:
            self.add(create(directory / disk, SIZE, preallocation="metadata"), disk)
            self.qmp.execute("block-export-add", {"type": "nbd", "id": disk, "node-name": disk, "name": disk,
                                                  "writable": True})

    def add(self, path, name, **options):
        self.qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": name, **options, "file": {
            "driver": "file", "filename": str(path)}})

    def load(self, disk):
        build = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD
        return subprocess.Popen([next(build.rglob("nbd_load")), "--socket", self.socket, "--export", disk, "--write",
                                 "--connections", "1", "--depth", "8", "--seconds", "300"], stdout=subprocess.DEVNULL)

    def transaction(self, actions):
        begin = time.monotonic()
        self.qmp.execute("transaction", {"actions": [{"type": kind, "data": data} for kind, data in actions]})
        wall = time.monotonic() - begin
        return self.qmp.execute("query-drains")["last-ns"] / 1e9, wall

    def bitmaps(self):
        result = self.transaction([("block-dirty-bitmap-add", {"node": self.tops[disk], "name": "bits"}) for disk in DISKS])
        self.transaction([("block-dirty-bitmap-remove", {"node": self.tops[disk], "name": "bits"}) for disk in DISKS])
        return result

    def backups(self):
        for disk in DISKS:
            self.qmp.execute("blockdev-add", {"driver": "null-co", "node-name": f"copy-{disk}", "size": SIZE})
        result = self.transaction([("blockdev-backup", {"job-id": f"job-{disk}", "device": self.tops[disk],
                                                        "target": f"copy-{disk}", "sync": "none"}) for disk in DISKS])
        for disk in DISKS:
            self.qmp.execute("block-job-cancel", {"device": f"job-{disk}"})
        while self.qmp.execute("query-jobs"):
            time.sleep(0.01)
        for disk in DISKS:
            self.qmp.execute("blockdev-del", {"node-name": f"copy-{disk}"})
        return result

    def snapshots(self):
        self.overlays += 1
        over = {disk: f"{disk}-{self.overlays}" for disk in DISKS}
        for disk in DISKS:
            self.add(create(self.directory / over[disk], SIZE, backing=self.directory / self.tops[disk]), over[disk], backing=None)
        result = self.transaction([("blockdev-snapshot", {"node": self.tops[disk], "overlay": over[disk]}) for disk in DISKS])
        self.tops = over
        return result

    def measure(self, what, change, rounds):
        results = []
        for _ in range(rounds):
            results.append(change())
            time.sleep(0.05)  # the load, not the test, is what is measured
        holds, walls = zip(*results)
        print(f"| {what} | {statistics.median(holds) * 1e3:.2f} ms | {max(holds) * 1e3:.1f} ms | "
              f"{statistics.median(walls) * 1e3:.1f} ms |", flush=True)

    def big_bitmap(self):
        size = 16 << 40
        self.qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "big", "size": size})
        self.qmp.execute("block-export-add", {"type": "nbd", "id": "big", "node-name": "big", "name": "big", "writable": True})
        for name in ("a", "b"):
            self.qmp.execute("block-dirty-bitmap-add", {"node": "big", "name": name})
        self.qmp.execute("block-dirty-bitmap-disable", {"node": "big", "name": "b"})
        client = connect(self.socket, "big")
        for offset in range(0, size, 2 << 30):
            client.zero(2 << 30, offset)
        client.shutdown()
        self.measure("merge of a bitmap of 16 TiB, all of it dirty", lambda: self.transaction(
            [("block-dirty-bitmap-clear", {"node": "big", "name": "b"}),
             ("block-dirty-bitmap-merge", {"node": "big", "target": "b", "bitmaps": ["a"]})]), 5)

    def run(self):
        print("| transaction of ten disks | requests held: median | longest | whole command: median |")
        print("|---|---:|---:|---:|")
        loads = [self.load(disk) for disk in DISKS]
        time.sleep(1)
        self.measure("ten bitmaps are made", self.bitmaps, ROUNDS)
        self.measure("ten backups begin", self.backups, ROUNDS)
        self.measure("ten overlays", self.snapshots, ROUNDS // 4)
        for load in loads:
            load.kill()
            load.wait()
        self.big_bitmap()
        self.daemon.stop()


def main():
    with tempfile.TemporaryDirectory() as directory:
        Bench(pathlib.Path(directory)).run()


if __name__ == "__main__":
    main()
