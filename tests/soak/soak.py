#!/usr/bin/python3
"""soak - random I/O from many connections, each answer checked, while everything around it changes

    tests/soak/soak.py [--seconds N] [--seed N] [--connections N] [--build DIR]

A qcow2 disk is exported by two NBD servers. nbd_verify writes and reads it from 8 connections; meanwhile its export and
servers are taken away and made again, filters are put above it and removed, overlays are put on top of it, other nodes and
exports come and go with clients of their own, options change, and connections are cut on both sides. At the end: no block read
wrong, the image is sound, the daemon ended with status 0 and without a word, and its memory did not grow. Prints a verdict;
the exit status is 0 if all is well.
"""

import argparse
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import process  # noqa: E402 (the path above comes first)
from images import KIB, MIB, check, create, run  # noqa: E402
from raw_nbd import CMD_READ, CMD_WRITE, RawClient, request  # noqa: E402

BLOCKS = 1024  # of 4 KiB, of each connection
OVERLAYS_MAX = 6
# Of resident memory, from the first quarter to the last: spare buffers, of which each loop keeps 32 MiB at most, become more with
# each new peak of requests in flight. A leak of a hundred bytes with each request would be ten times that in an hour.
GROWTH_MAX = 24 * MIB
COMMAND_MAX_S = 60  # for any command, on a machine with other work


class Soak:
    def __init__(self, directory, options):
        self.directory, self.options = pathlib.Path(directory), options
        self.random = random.Random(options.seed)
        self.size = options.connections * BLOCKS * 4 * KIB
        self.servers = {"default": self.directory / "nbd.sock", "second": self.directory / "second.sock"}
        self.overlays, self.guests, self.changes = 0, 0, {}
        self.longest = (0, "")
        self.memory = []

    def execute(self, command, arguments=None, **keywords):
        begin = time.monotonic()
        value = self.qmp.execute(command, arguments, **keywords)
        self.longest = max(self.longest, (time.monotonic() - begin, command))
        return value

    def start(self):
        self.daemon = process.Daemon(self.directory)
        self.qmp = self.daemon.connect()
        self.qmp.deadline = COMMAND_MAX_S
        self.execute("object-add", qom_type="throttle-group", id="limits", limits={"iops-total": 1_000_000})
        self.top = self.add_image(None)
        for server in self.servers:
            self.start_server(server)
        self.add_export()

    def add_image(self, backing):
        name = f"image{self.overlays}"
        path = create(self.directory / name, self.size, cluster_size=self.random.choice(["4k", "64k"]),
                      backing=backing and self.directory / backing)
        options = {"backing": None} if backing else {}
        self.execute("blockdev-add", driver="qcow2", node_name=name, discard="unmap",
                     file={"driver": "file", "node-name": f"{name}-file", "filename": str(path)}, **options)
        return name

    def start_server(self, server):
        self.execute("nbd-server-start", id=server, max_connections=0,
                     addr={"type": "unix", "data": {"path": str(self.servers[server])}})

    def add_export(self):
        self.execute("block-export-add", type="nbd", id="disk", node_name=self.top, name="disk", writable=True,
                     allocation_depth=True)

    def remove_export(self):
        self.execute("block-export-del", id="disk", mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "disk")

    # What changes ----------------------------------------------------------------------------------------------------

    def change_export(self):
        self.remove_export()
        self.add_export()

    def change_server(self):
        server = self.random.choice(list(self.servers))
        self.execute("nbd-server-stop", id=server)
        self.start_server(server)

    def change_servers(self):
        """Without any server left, the export goes as well."""
        for server in self.servers:
            self.execute("nbd-server-stop", id=server)
        self.qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == "disk")
        for server in self.servers:
            self.start_server(server)
        self.add_export()

    def change_filter(self):
        driver, options = self.random.choice([("throttle", {"throttle-group": "limits"}), ("copy-on-read", {}),
                                              ("gate", {}), ("preallocate", {})])
        self.execute("blockdev-add", {"driver": driver, "node-name": "filter", "file": self.top, **options})
        self.execute("blockdev-insert-filter", node=self.top, filter="filter")
        self.wait_a_little()
        self.execute("blockdev-remove-filter", filter="filter", export="disk")
        self.execute("blockdev-del", node_name="filter")

    def change_top(self):
        if self.overlays == OVERLAYS_MAX:
            return
        self.overlays += 1
        overlay = self.add_image(self.top)
        self.execute("blockdev-snapshot", node=self.top, overlay=overlay)
        self.top = overlay

    def change_options(self):
        below = {"backing": f"image{self.overlays - 1}"} if self.overlays else {}
        for discard in ("ignore", "unmap"):
            self.execute("blockdev-reopen", {"options": [{"driver": "qcow2", "node-name": self.top, "discard": discard,
                                                          "file": f"{self.top}-file", **below}]})

    def guest(self):
        """Another node with an export and a client, which is cut with a request in flight."""
        name = f"guest{self.guests}"
        self.guests += 1
        self.execute("blockdev-add", driver="null-co", node_name=name, size=64 * MIB, read_zeroes=True)
        self.execute("block-export-add", type="nbd", id=name, node_name=name, writable=True, servers=["second"])
        client = RawClient(self.servers["second"]).enter(name)
        client.send(request(CMD_WRITE, 1, 0, 256 * KIB), bytes(self.random.choice([0, 100, 256 * KIB])))
        if self.random.random() < 0.5:
            client.send(*(request(CMD_READ, i, 0, MIB) for i in range(4)))
        if self.random.random() < 0.5:
            client.close()
        self.execute("block-export-del", id=name, mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == name)
        self.execute("blockdev-del", node_name=name)
        client.close()

    def intruder(self):
        """Breaks off somewhere in the handshake, or talks nonsense."""
        client = RawClient(self.servers["default"])
        client.send(self.random.randbytes(self.random.randrange(40)))
        client.close()

    def look(self):
        for query in ("query-named-block-nodes", "query-block-exports", "query-nbd-servers", "query-blockstats",
                      "query-drains", "query-statistics"):
            self.execute(query)

    def wait_a_little(self):
        self.qmp.events.clear()
        time.sleep(self.random.expovariate(20))  # for the load to run: what the changes hit is left to chance

    # ------------------------------------------------------------------------------------------------------------------

    def change(self):
        change = self.random.choices(
            [self.change_export, self.change_server, self.change_servers, self.change_filter, self.change_top,
             self.change_options, self.guest, self.intruder, self.look], [4, 3, 1, 10, 1, 6, 8, 3, 2])[0]
        change()
        self.changes[change.__name__] = self.changes.get(change.__name__, 0) + 1
        self.wait_a_little()

    def load(self):
        command = [process.BUILD / "tests" / "nbd_verify", "--seconds", self.options.seconds, "--blocks", BLOCKS,
                   "--connections", self.options.connections, "--seed", self.options.seed]
        for path in self.servers.values():
            command += ["--socket", path]
        return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)

    def run(self):
        self.start()
        load = self.load()
        begin = report = time.monotonic()
        end = begin + self.options.seconds
        try:
            while time.monotonic() < end and load.poll() is None:
                self.change()
                self.memory.append((time.monotonic() - begin, self.daemon.rss_bytes()))
                if time.monotonic() - report > 60:
                    report = time.monotonic()
                    print(f"{report - begin:.0f} s: {self.changes}, {self.memory[-1][1] / MIB:.1f} MiB", flush=True)
            output, _ = load.communicate(timeout=300)
        finally:
            load.kill()
        assert load.returncode == 0, "nbd_verify found something wrong"
        self.finish(json.loads(output))

    def expect_nobody(self):
        """All clients have gone, so no connection is left."""
        end = time.monotonic() + COMMAND_MAX_S
        while clients := [client for server in self.execute("query-nbd-servers") for client in server["clients"]]:
            assert time.monotonic() < end, f"connections without a client: {clients}"
            time.sleep(0.1)

    def finish(self, done):
        self.expect_nobody()
        first = max(rss for at, rss in self.memory if at <= self.options.seconds / 4 or rss == self.memory[0][1])
        last = max(rss for at, rss in self.memory if at >= self.options.seconds * 3 / 4 or rss == self.memory[-1][1])
        self.daemon.stop()  # judges status and log
        for number in range(self.overlays + 1):
            check(self.directory / f"image{number}")
        print(f"{done}; changes: {self.changes}; slowest command: {self.longest[1]}, {self.longest[0]:.1f} s; "
              f"memory: {first / MIB:.1f} MiB in the first quarter, {last / MIB:.1f} MiB in the last", flush=True)
        if not self.options.sanitized:
            assert last - first < GROWTH_MAX, "memory grows"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("CAIRN_SOAK_SECONDS", 10)))
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 31))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--build", type=pathlib.Path, default=process.BUILD, help="where the binaries are")
    options = parser.parse_args()
    process.BUILD = options.build.resolve()
    process.CAIRND = process.BUILD / "bin" / "cairnd"
    options.sanitized = process.BUILD.name in ("asan", "tsan")
    print(f"soak: {options.seconds} s, seed {options.seed}, {process.CAIRND}", flush=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="soak-") as directory:
        soak = Soak(directory, options)
        try:
            soak.run()
        except BaseException as failure:
            print(f"soak: FAILED with seed {options.seed}: {failure!r}\nchanges: {soak.changes}\n"
                  f"log of the daemon:\n{soak.daemon.log[-4000:]}", flush=True)
            soak.daemon.kill()
            sys.exit(1)
    print("soak: all is well", flush=True)


if __name__ == "__main__":
    main()
