#!/usr/bin/python3
"""What many nodes and exports in one configuration cost: at the start, in memory, in queries, and when one node has changed.

usage: config_scale.py [NODES...]

There is one export for ten nodes. qemu-storage-daemon gets the same nodes and exports as options, as it has no file; up to
QSD_NODES_MAX of them. Prints a table for docs/performance.md: medians of ROUNDS."""

import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from process import CAIRND  # noqa: E402
from qmp import QMP, Closed  # noqa: E402

ROUNDS = 3
QSD_NODES_MAX = 10000


def described(nodes, changed=None):
    """As YAML; JSON would be a part of it, but is read by fewer people."""
    lines = ["nodes:"]
    for number in range(nodes):
        size = (2 if number == changed else 1) << 30
        lines += [f"- node-name: node{number}", "  driver: null-co", f"  size: {size}"]
    lines += ["nbd-server:", "  addr: {type: unix, path: nbd.sock}", "exports:"]
    for number in range(nodes // 10):
        lines += [f"- id: export{number}", "  type: nbd", f"  node-name: node{number * 10}", "  writable: on"]
    return "\n".join(lines) + "\n"


def cairnd(directory, nodes):
    (directory / "cairn.yaml").write_text(described(nodes))
    return [str(CAIRND), "--config", "cairn.yaml"]


def qsd(directory, nodes):
    words = ["qemu-storage-daemon", "--nbd-server", "addr.type=unix,addr.path=nbd.sock"]
    for number in range(nodes):
        words += ["--blockdev", f"null-co,node-name=node{number},size={1 << 30}"]
    for number in range(nodes // 10):
        words += ["--export", f"nbd,id=export{number},node-name=node{number * 10},writable=on"]
    return words


def rss_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connect(path, process):
    while True:
        try:
            return QMP(path, deadline=600)
        except (FileNotFoundError, ConnectionRefusedError, Closed):
            assert process.poll() is None, "it has ended"
            time.sleep(0.0005)


def timed(qmp, command, **arguments):
    begin = time.perf_counter()
    qmp.execute(command, **arguments)
    return (time.perf_counter() - begin) * 1e3


def measure(make, nodes):
    """(line, unit, value)"""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        command = make(directory, nodes) + ["--chardev", "socket,id=m,path=qmp.sock,server=on,wait=off",
                                            "--monitor", "chardev=m"]
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)
        try:
            qmp = connect(directory / "qmp.sock", process)
            yield "start", "s", time.perf_counter() - begin
            yield "start: server CPU", "s", cpu_seconds(process.pid)
            yield "memory", "MiB", rss_mib(process.pid)
            yield "query-named-block-nodes", "ms", timed(qmp, "query-named-block-nodes", flat=True)
            yield "query-block-exports", "ms", timed(qmp, "query-block-exports")
            if make is cairnd:
                changed = [{"name": "cairn.yaml", "text": described(nodes, changed=nodes - 1)}]
                yield "query-config", "ms", timed(qmp, "query-config")
                yield "plan for one changed node", "ms", timed(qmp, "config-apply", files=changed, dry_run=True)
                yield "apply one changed node", "ms", timed(qmp, "config-apply", files=changed)
                yield "apply again, nothing to do", "ms", timed(qmp, "config-apply", files=changed)
            qmp.close()
        finally:
            process.kill()
            process.wait()


def medians(make, nodes):
    values = {}
    for _ in range(ROUNDS):
        for line, unit, value in measure(make, nodes):
            values.setdefault((line, unit), []).append(value)
    return {key: statistics.median(list_) for key, list_ in values.items()}


def main():
    sizes = [int(word) for word in sys.argv[1:]] or [1000, 2000, 5000, 10000]
    columns = [(f"cairnd {nodes:,}", medians(cairnd, nodes)) for nodes in sizes]
    if shutil.which("qemu-storage-daemon"):
        columns += [(f"QSD {nodes:,}", medians(qsd, nodes)) for nodes in sizes if nodes <= QSD_NODES_MAX]
    lines = list(columns[0][1])
    print("| |" + "".join(f" {name} |" for name, _ in columns))
    print("|---|" + "---:|" * len(columns))
    for line in lines:
        cells = [f"{values[line]:,.2f}" if line in values and values[line] < 10 else
                 f"{values[line]:,.0f}" if line in values else "-" for _, values in columns]
        print(f"| {line[0]} ({line[1]}) | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
