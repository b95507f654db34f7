"""jobs - mirror, backup, commit and stream, measured against qemu-storage-daemon and against tools that copy without a daemon

All of them copy the same images, with the same defaults, in turns. The images are random data in runs of 1 MiB with holes
between. What a target occupies is measured too: it should be as sparse as its source. The first round of each is compared
with the source, so that nobody is quick and wrong.
"""

import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from servers import MIB, Daemon, cpu_seconds

GIB, TIB = 1 << 30, 1 << 40
RUN = MIB
SECONDS_MAX = 60
TOOLS = ["qemu-img", "nbdcopy", "cp"]


class Shape:
    """An image with a run of data at the begin of every @stride bytes."""

    def __init__(self, name, size, stride):
        self.name, self.size, self.stride = name, size, stride
        self.bytes_max = 2 * (size // stride) * RUN + 256 * MIB  # that a target may occupy

    def write(self, path):
        with open(path, "wb") as file:
            file.truncate(self.size)
            for offset in range(0, self.size, self.stride):
                file.seek(offset)
                file.write(os.urandom(RUN))


SHAPES = [Shape("4 GiB, half of it data", 4 * GIB, 2 * MIB), Shape("1 TiB, 256 MiB of it data", TIB, 4 * GIB)]
QUICK_SHAPES = [Shape("64 MiB, half of it data", 64 * MIB, 2 * MIB)]


def empty(path, size, fmt="raw", backing=None, backing_fmt="raw"):
    path.unlink(missing_ok=True)
    options = ["-b", backing, "-F", backing_fmt] if backing else []
    subprocess.run(["qemu-img", "create", "-q", "-f", fmt, *options, str(path), str(size)], check=True)


def node(name, path, fmt="raw", **options):
    file = {"driver": "file", "filename": str(path), "discard": "unmap"}
    return {"driver": fmt, "node-name": name, "file": file, "discard": "unmap", **options}


class Copy:
    """From one image to another that is empty: mirror and backup, and the tools."""

    def __init__(self, job, fmt="raw"):
        self.job, self.fmt = job, fmt
        self.name = f"{job}, {fmt} to {fmt}"
        self.arguments = {"device": "source", "target": "target", "sync": "full"}

    def prepare(self, directory, shape):
        self.source, self.target, self.size = directory / "source", directory / "target", shape.size
        shape.write(self.source)
        self.bytes_max = shape.bytes_max
        if self.fmt != "raw":
            raw = self.source.rename(directory / "raw")
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", self.fmt, raw, self.source], check=True)
            raw.unlink()

    def reset(self):
        empty(self.target, self.size, self.fmt)

    def nodes(self):
        return [node("source", self.source, self.fmt), node("target", self.target, self.fmt)]

    def tool(self, name):
        self.target.unlink(missing_ok=True)
        commands = {"qemu-img": ["qemu-img", "convert", "-f", self.fmt, "-O", self.fmt, self.source, self.target],
                    "nbdcopy": ["nbdcopy", self.source, self.target], "cp": ["cp", self.source, self.target]}
        return commands[name] if self.fmt == "raw" or name == "qemu-img" else None

    def check(self):
        same(self.source, self.fmt, self.target, self.fmt)


class Chain:
    """base <- layer, and for what is not to be the active layer, one more above."""

    def prepare(self, directory, shape):
        self.base, self.layer, self.top = directory / "base", directory / "layer", directory / "top"
        self.size = shape.size
        self.data, self.target = (self.layer, self.base) if self.job == "commit" else (self.base, self.layer)
        shape.write(self.base)
        self.bytes_max = shape.bytes_max
        if self.job == "commit":
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.base, self.layer], check=True)
            empty(self.base, self.size)
            subprocess.run(["qemu-img", "rebase", "-u", "-b", self.base, "-F", "raw", self.layer], check=True)

    def reset(self):
        if self.job == "commit":
            empty(self.base, self.size)
        else:
            empty(self.layer, self.size, "qcow2", self.base)
        empty(self.top, self.size, "qcow2", self.layer, "qcow2")

    def nodes(self):
        return [node("base", self.base), node("layer", self.layer, "qcow2", backing="base"),
                node("top", self.top, "qcow2", backing="layer")]


class Commit(Chain):
    job, name = "commit", "commit, qcow2 to raw"
    arguments = {"device": "top", "top-node": "layer", "base-node": "base"}

    def tool(self, name):
        return ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", self.layer] if name == "qemu-img" else None

    def check(self):
        same(self.base, "raw", self.layer, "qcow2")


class Stream(Chain):
    job, name = "stream", "stream, raw to qcow2"
    arguments = {"device": "layer"}

    def tool(self, name):
        return ["qemu-img", "rebase", "-f", "qcow2", "-b", "", self.layer] if name == "qemu-img" else None

    def check(self):
        same(self.base, "raw", self.layer, "qcow2")


WORKS = [Copy("mirror"), Copy("backup"), Copy("mirror", "qcow2"), Copy("backup", "qcow2"), Commit(), Stream()]


def same(path, fmt, other, other_fmt):
    subprocess.run(["qemu-img", "compare", "-q", "-f", fmt, "-F", other_fmt, path, other], check=True)


class Monitor:
    """The session of a daemon, with its events."""

    def __init__(self, session):
        self.socket, self.file = session.socket, session.socket.makefile("rb")
        self.events = []

    def read(self):
        message = json.loads(self.file.readline())
        if "event" in message:
            self.events.append(message)
        return message

    def execute(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self.read()
            if "error" in message:
                raise RuntimeError(f"{command}: {message['error']}")
            if "return" in message:
                return

    def wait(self, event):
        while not any(event == seen["event"] for seen in self.events):
            self.read()
        data = next(seen["data"] for seen in self.events if event == seen["event"])
        if "error" in data:
            raise RuntimeError(data["error"])


class Guard:
    """Ends a process that fills its target with what the source does not have, before it fills the memory of the machine;
    and one that goes on for ever."""

    def __init__(self, process, target, bytes_max):
        self.process, self.target, self.bytes_max = process, target, bytes_max
        self.over, self.tripped = threading.Event(), False
        self.thread = threading.Thread(target=self.work)

    def work(self):
        end = time.monotonic() + SECONDS_MAX
        while not self.over.wait(0.02):
            full = self.target.exists() and self.target.stat().st_blocks * 512 > self.bytes_max
            if full or time.monotonic() > end:
                self.tripped = True
                self.process.kill()
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()
        return self.tripped  # what went wrong because of that is no surprise


class JobBench:
    def __init__(self, options, daemons):
        self.options, self.daemons = options, daemons
        tools = [tool for tool in TOOLS if shutil.which(tool)]
        self.columns = [*(name for name in daemons if name != "cairnd"), *tools, "cairnd"]
        self.values = {}  # line -> column -> [(wall, CPU, bytes of the target)]; None: it was ended by the guard

    def run_job(self, column, work, directory):
        daemon = Daemon(self.daemons[column], directory)
        try:
            monitor = Monitor(daemon.session)
            for options in work.nodes():
                monitor.execute("blockdev-add", **options)
            command = f"block{'dev' if isinstance(work, Copy) else ''}-{work.job}"
            cpu, begin = cpu_seconds(daemon.pid), time.perf_counter()
            with Guard(daemon.process, work.target, work.bytes_max) as guard:
                monitor.execute(command, **{"job-id": "job"}, **work.arguments)
                if work.job == "mirror":
                    monitor.wait("BLOCK_JOB_READY")
                    monitor.execute("block-job-complete", device="job")
                monitor.wait("BLOCK_JOB_COMPLETED")
            return None if guard.tripped else (time.perf_counter() - begin, cpu_seconds(daemon.pid) - cpu)
        finally:
            daemon.stop()

    @staticmethod
    def run_tool(command, work):
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with Guard(process, work.target, work.bytes_max) as guard:
            if process.wait() != 0:
                raise RuntimeError(f"{command} failed")
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        return None if guard.tripped else (wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def measure(self, line, column, work, directory):
        columns = self.values.setdefault(line, {})
        if column in columns and columns[column] is None:
            return
        work.reset()
        if column in self.daemons:
            figures = self.run_job(column, work, directory)
        else:
            command = work.tool(column)
            if command is None:
                return
            figures = self.run_tool(command, work)
        if figures is None:
            columns[column] = None
            work.reset()
            return
        print(f"{line}: {column}: {figures[0]:.2f} s, CPU {figures[1]:.2f} s", file=sys.stderr)
        runs = columns.setdefault(column, [])
        runs.append((*figures, work.target.stat().st_blocks * 512))
        if len(runs) == 1:
            work.check()

    def run(self):
        for shape in QUICK_SHAPES if self.options.quick else SHAPES:
            for work in WORKS:
                line = f"{work.name}, {shape.name}"
                if not re.search(self.options.only, line):
                    continue
                with tempfile.TemporaryDirectory(dir=self.options.directory) as name:
                    directory = pathlib.Path(name)
                    work.prepare(directory, shape)
                    for _ in range(self.options.rounds):
                        for column in self.columns:
                            self.measure(line, column, work, directory)

    def print(self):
        if not self.values:
            return
        print("\nWall time, processor time, and what the target occupies; \"given up\": it took a minute, or filled the holes.\n")
        print(f"| what | {' | '.join(self.columns)} |")
        print(f"|---|{'---:|' * len(self.columns)}")
        for line, columns in self.values.items():
            cells = [cell(columns[column]) if column in columns else "" for column in self.columns]
            print(f"| {line} | {' | '.join(cells)} |")


def cell(runs):
    if runs is None:
        return "given up"
    wall, cpu, target = (statistics.median(values) for values in zip(*runs))
    return f"{wall:.2f} s, {cpu:.2f} s, {target / MIB:.0f} MiB"
