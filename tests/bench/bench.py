#!/usr/bin/python3
"""bench - cairnd, qemu-storage-daemon and nbdkit, measured side by side

Every line is measured with all of them in turns, several rounds, and the median is taken; what counts is the ratio, since
absolute figures do not carry over to other machines. nbdkit has neither monitor nor qcow2: those lines are without it, and
without nbd_minimal, a program that speaks the protocol and does nothing else. Images lie in memory (/dev/shm), so that no disk is measured. Prints
Markdown for docs/performance.md.
"""

import argparse
import os
import pathlib
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import images
import jobs
from servers import KIB, MIB, SIMPLE, Daemon, connect, cpu_seconds, pss_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGE_BYTES = 256 * MIB


# What is measured: functions from a daemon to one or more (line, unit, value); smaller is better ------------------------


def measure_start(daemon):
    yield "start until the first QMP answer", "ms", daemon.start_seconds * 1e3
    yield "memory when idle (PSS)", "MiB", pss_bytes(daemon.pid) / MIB


def measure_round_trips(daemon, bytes_per_command, count):
    command = b'{"execute":"query-version"}'
    if bytes_per_command > len(command) + 2:
        command = b'{"execute":"query-version","id":"%s"}' % (b"x" * (bytes_per_command - 37))
    command = command.ljust(bytes_per_command - 2) + b"\r\n"
    daemon.session.execute(command)
    cpu, begin = cpu_seconds(daemon.pid), time.perf_counter()
    for _ in range(count):
        daemon.session.execute(command)
    wall, cpu = time.perf_counter() - begin, cpu_seconds(daemon.pid) - cpu
    name = f"QMP round trip, {bytes_per_command} bytes"
    yield f"{name}: wall", "us", wall / count * 1e6
    yield f"{name}: server CPU", "us", cpu / count * 1e6


def measure_nodes(daemon, count):
    memory = pss_bytes(daemon.pid)
    cpu, begin = cpu_seconds(daemon.pid), time.perf_counter()
    for number in range(count):
        daemon.session.call("blockdev-add", driver="null-co", node_name=f"node{number}", size=1 << 30)
    yield f"add {count:,} nodes: wall", "s", time.perf_counter() - begin
    yield f"add {count:,} nodes: server CPU", "s", cpu_seconds(daemon.pid) - cpu
    yield "memory of a node", "KiB", (pss_bytes(daemon.pid) - memory) / count / KIB

    begin = time.perf_counter()
    daemon.session.call("query-named-block-nodes", flat=True)
    yield f"list {count:,} nodes: wall", "ms", (time.perf_counter() - begin) * 1e3

    begin = time.perf_counter()
    for number in range(count):
        daemon.session.call("blockdev-del", node_name=f"node{number}")
    yield f"delete {count:,} nodes: wall", "s", time.perf_counter() - begin


def measure_idle(daemon, count):
    """Memory of connections that do nothing."""
    daemon.serve(driver="null-co", size=IMAGE_BYTES)
    clients = [connect(daemon.nbd)]
    memory = pss_bytes(daemon.pid)
    clients += [connect(daemon.nbd) for _ in range(count)]
    yield f"memory of an idle connection, of {count:,}", "KiB", (pss_bytes(daemon.pid) - memory) / count / KIB
    for client in clients:
        client.close()


class Load:
    """Requests of one kind on one kind of node, over one or more connections."""

    def __init__(self, node, kind, connections=1, depth=32, sequential=False, image=None, seconds=None, **options):
        self.node, self.kind, self.connections, self.depth, self.sequential = node, kind, connections, depth, sequential
        self.image = image        # makes an image of its own: a function of the path
        self.options = options    # of the node
        self.seconds = seconds    # instead of what the command line says: for loads that fill memory

    @property
    def name(self):
        if self.sequential:
            return f"{self.node}, 1 MiB sequential {self.kind}"
        many = "" if self.connections == 1 else f", {self.connections} connections"
        return f"{self.node}, 4 KiB random {self.kind}, depth {self.depth}{many}"

    def measure(self, daemon, program, seconds):
        command = [program, "--socket", daemon.nbd, "--pid", daemon.pid, "--export", "disk", "--seconds", seconds,
                   "--connections", self.connections, "--depth", 4 if self.sequential else self.depth,
                   "--bytes", MIB if self.sequential else 4 * KIB]
        command += ["--write"] if self.kind == "write" else []
        command += ["--sequential"] if self.sequential else []
        output = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout
        rate, gib, us, cpu_gib = (float(number) for number in re.findall(r"[\d.]+(?= requests| GiB/s| us| CPU)", output))
        if self.sequential:
            yield f"{self.name}: wall", "s/GiB", 1 / gib
            yield f"{self.name}: server CPU", "s/GiB", cpu_gib
        else:
            yield f"{self.name}: wall", "us", 1e6 / rate
            yield f"{self.name}: server CPU", "us", us


def empty_image(path):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "16G"], check=True)


def wide_image(path):
    """Has a cluster everywhere, and 2 MiB of L2 tables."""
    images.Image(16 * images.GIB, range(1 << 18), data_bytes=1).write(path)


LOADS = [
    *(Load(node, kind, depth=depth, connections=connections) for node in ("null-co", "raw", "qcow2")
      for kind in ("read", "write") for depth in (1, 32) for connections in (1, 4)),
    Load("qcow2 that allocates", "write", image=empty_image, seconds=1),
    Load("qcow2 that allocates", "write", connections=4, image=empty_image, seconds=1),
    Load("qcow2 that allocates", "write", sequential=True, image=empty_image, seconds=1),
    Load("qcow2, tables in the cache", "read", image=wide_image, l2_cache_size=2 * MIB),
    Load("qcow2, tables not in the cache", "read", image=wide_image, l2_cache_size=64 * KIB),
    Load("raw", "read", sequential=True),
    Load("raw", "write", sequential=True),
]


class Map:
    """Extents of a fragmented image or chain, asked for over NBD by nbdinfo."""

    def __init__(self, name, size, stride, layers=1, **shape):
        self.name, self.size, self.stride, self.layers, self.shape = name, size, stride, layers, shape

    def measure(self, daemon):
        top = images.write_chain(pathlib.Path(daemon.nbd).parent, self.size, self.stride, self.layers, **self.shape)
        daemon.serve(driver="qcow2", file={"driver": "file", "filename": top})
        for which in ("first", "again"):
            cpu, begin = cpu_seconds(daemon.pid), time.perf_counter()
            output = subprocess.run(["nbdinfo", "--map", f"nbd+unix:///disk?socket={daemon.nbd}"],
                                    capture_output=True, check=True).stdout
            extents = round(output.count(b"\n"), -3)
            name = f"map, {self.name}, {extents:,} extents, {which}"
            yield f"{name}: wall", "s", time.perf_counter() - begin
            yield f"{name}: server CPU", "s", cpu_seconds(daemon.pid) - cpu


MAPS = [
    Map("1 TiB", images.TIB, 100),
    Map("1 TiB of 16 KiB clusters, full of data", images.TIB, 400, cluster_bits=14, data_bytes=16 * KIB),
    Map("64 GiB, chain of 10", 64 * images.GIB, 15, layers=10),
    Map("64 GiB, chain of 50", 64 * images.GIB, 15, layers=50),
    Map("64 GiB, chain of 100", 64 * images.GIB, 15, layers=100),
]


class Bench:
    def __init__(self, options):
        self.options = options
        self.servers = {"qemu-storage-daemon": shutil.which("qemu-storage-daemon"), "nbdkit": shutil.which("nbdkit"),
                        "minimal": str(options.build / "bench" / "nbd_minimal"),
                        "cairnd": str(options.build / "bin" / "cairnd")}
        self.program = str(options.build / "bench" / "nbd_load")
        self.units = {}
        self.values = {}  # line -> server -> values

    def note(self, server, results):
        for line, unit, value in results:
            self.units[line] = unit
            self.values.setdefault(line, {}).setdefault(server, []).append(value)

    def wanted(self, name):
        return re.search(self.options.only, name)

    def with_daemon(self, server, directory, measure):
        daemon = SIMPLE.get(server, Daemon)(self.servers[server], directory)
        try:
            self.note(server, measure(daemon))
        finally:
            daemon.stop()

    def each_server(self, name, measure, rounds=None, simple=()):
        if not self.wanted(name):
            return
        for _ in range(rounds or self.options.rounds):
            for server in self.servers:
                if server in SIMPLE and not (server in simple and self.servers[server]):
                    continue
                print(f"{name}: {server}", file=sys.stderr)
                with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
                    self.with_daemon(server, directory, measure)

    def measure_load(self, load):
        def measure(daemon):
            directory = pathlib.Path(daemon.nbd).parent
            if load.node == "null-co":
                daemon.serve(driver="null-co", size=IMAGE_BYTES, read_zeroes=True)
            elif load.image:
                path = f"{directory}/disk.qcow2"
                load.image(path)
                options = {name.replace("_", "-"): value for name, value in load.options.items()}
                daemon.serve(driver="qcow2", file={"driver": "file", "filename": path}, **options)
            else:
                path = make_image(directory, load.node)
                file = {"driver": "file", "filename": path}
                daemon.serve(**(file if load.node == "raw" else {"driver": "qcow2", "file": file}))
            yield from load.measure(daemon, self.program, load.seconds or self.options.seconds)

        self.each_server(load.name, measure, simple=SIMPLE if load.node in ("null-co", "raw") else ())

    def run(self):
        quick = self.options.quick
        self.each_server("start", measure_start)
        for size in (29, 340):
            self.each_server(f"QMP {size}", lambda daemon: measure_round_trips(daemon, size, 300 if quick else 3000))
        self.each_server("nodes", lambda daemon: measure_nodes(daemon, 500 if quick else 10_000), rounds=1)
        self.each_server("memory of an idle connection", lambda daemon: measure_idle(daemon, 1000), rounds=1,
                         simple=["nbdkit"])
        for load in LOADS:
            self.measure_load(load)
        for map in MAPS:
            self.each_server(f"map, {map.name}", map.measure, rounds=1 if quick else None)

    def print(self):
        others = [version_of(binary) for binary in list(self.servers.values())[:2] if binary]
        print(f"Linux {platform.release().split('-')[0]}, {os.cpu_count()} cores; "
              f"{'; '.join(others)}; median of {self.options.rounds} rounds. "
              "Smaller is better.\n")
        print("| what | qemu-storage-daemon | nbdkit | minimal | cairnd | cairnd / qemu-storage-daemon | cairnd / nbdkit |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for line, servers in self.values.items():
            medians = [statistics.median(servers[server]) if server in servers else None for server in self.servers]
            cells = ["" if value is None else f"{form(value)} {self.units[line]}" for value in medians]
            cells += [f"{medians[-1] / other:.2f}" if other else "" for other in medians[:2]]
            print(f"| {line} | {' | '.join(cells)} |")


def form(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def version_of(binary):
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def make_image(directory, kind):
    """All of it written, so that reads find data and writes find clusters."""
    path = f"{directory}/disk.{kind}"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, path, str(IMAGE_BYTES)], check=True)
    subprocess.run(["qemu-io", "-f", kind, "-c", f"write -q -P 165 0 {IMAGE_BYTES}", path], check=True)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="where the binaries are")
    parser.add_argument("--only", default="", metavar="REGEX", help="measure only what matches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="length of each NBD measurement")
    parser.add_argument("--directory", default="/dev/shm", help="where the images of jobs lie (default: /dev/shm)")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that all of it works")
    options = parser.parse_args()
    options.build = options.build.resolve()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))  # inherited: for 1,000 connections
    if options.quick:
        options.rounds = options.seconds = 1

    bench = Bench(options)
    if not bench.servers["qemu-storage-daemon"]:
        sys.exit("bench: there is no qemu-storage-daemon to compare with")
    daemons = {name: bench.servers[name] for name in ("qemu-storage-daemon", "cairnd")}
    job_bench = jobs.JobBench(options, daemons)
    bench.run()
    job_bench.run()
    bench.print()
    job_bench.print()


if __name__ == "__main__":
    main()
