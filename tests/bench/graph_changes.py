#!/usr/bin/python3
"""How long requests are held back while the graph changes under load.

usage: graph_changes.py [BUILD_DIR]

A qcow2 image is exported and read or written by 4 connections, 32 requests of 4 KiB each in flight, at random places. Meanwhile
nodes are reopened, filters inserted and removed, and overlays put on top. After each change the daemon says how long it has
held requests back (query-drains). Prints a table for docs/performance.md: medians and the longest of all."""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from images import create, run  # noqa: E402
from nbd_client import start_server  # noqa: E402
from process import BUILD, Daemon  # noqa: E402

SIZE = 256 << 20
ROUNDS = 40


class Bench:
    def __init__(self, directory):
        self.directory = directory
        self.daemon = Daemon(directory)
        self.qmp = self.daemon.connect()
        self.overlays = 0
        self.top = "image0"
        self.rows = []
        self.add(create(directory / "image0", SIZE, preallocation="metadata"), "image0")
        self.socket = start_server(self.qmp, directory)
        self.qmp.execute("block-export-add", {"type": "nbd", "id": "e", "node-name": "image0", "name": "e", "writable": True})

    def add(self, path, name, **options):
        self.qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": name, "file": {
            "driver": "file", "node-name": f"{name}-file", "filename": str(path)}, **options})

    def load(self, *words):
        build = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD
        return subprocess.Popen([next(build.rglob("nbd_load")), "--socket", self.socket, "--export", "e", "--connections", "4",
                                 "--depth", "32", "--seconds", "120", *words], stdout=subprocess.DEVNULL)

    def reopen(self):
        options = {"driver": "qcow2", "node-name": self.top, "file": f"{self.top}-file", "discard": "unmap"}
        if self.overlays:
            options["backing"] = f"image{self.overlays - 1}"
        yield "blockdev-reopen", {"options": [options]}

    def filter(self):
        self.qmp.execute("blockdev-add", {"driver": "gate", "node-name": "filter", "file": self.top})
        yield "blockdev-insert-filter", {"node": self.top, "filter": "filter"}
        yield "blockdev-remove-filter", {"filter": "filter", "export": "e"}
        self.qmp.execute("blockdev-del", {"node-name": "filter"})

    def snapshot(self):
        name = f"image{self.overlays + 1}"
        self.add(create(self.directory / name, SIZE, backing=self.directory / self.top), name, backing=None)
        yield "blockdev-snapshot", {"node": self.top, "overlay": name}
        self.top, self.overlays = name, self.overlays + 1

    def measure(self, load, what, changes, rounds):
        holds, walls = [], []
        for _ in range(rounds):
            for command, arguments in changes():
                begin = time.monotonic()
                self.qmp.execute(command, arguments)
                walls.append(time.monotonic() - begin)
                holds.append(self.qmp.execute("query-drains")["last-ns"] / 1e9)
                time.sleep(0.02)  # the load, not the test, is what is measured
        self.rows.append((what, load, statistics.median(holds), max(holds), statistics.median(walls)))

    def run(self):
        for name, words in (("reads", []), ("writes", ["--write"])):
            load = self.load(*words)
            time.sleep(1)
            self.measure(name, "reopen", self.reopen, ROUNDS)
            self.measure(name, "filter in, filter out", self.filter, ROUNDS)
            self.measure(name, "snapshot", self.snapshot, ROUNDS // 4)
            load.kill()
            load.wait()
        self.daemon.stop()


def main():
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(pathlib.Path(directory))
        bench.run()
        for i in range(bench.overlays + 1):
            run("qemu-img", "check", "-q", pathlib.Path(directory) / f"image{i}")
        print("| change | load | requests held: median | longest | whole command: median |")
        print("|---|---|---:|---:|---:|")
        for what, load, median, longest, wall in bench.rows:
            print(f"| {what} | {load} | {median * 1e6:.0f} us | {longest * 1e6:.0f} us | {wall * 1e6:.0f} us |")


if __name__ == "__main__":
    main()
