#!/usr/bin/python3
"""How long commands take while storage hangs.

usage: monitor_latency.py [BUILD_DIR]

A file of a file system that never answers (hung_fs) and an NBD server that is stopped have nodes, with requests and
commands that wait for them. Meanwhile 8 clients at once, a process each, send 10,000 commands of all kinds that need
neither. Prints a table for docs/performance.md: how long they took, as the clients see it, and that the commands that
wait can be cancelled."""

import json
import multiprocessing
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import nbd  # noqa: E402
import nbd_client  # noqa: E402
from process import BUILD, Daemon  # noqa: E402
from qmp import QMP  # noqa: E402

CLIENTS = 8
COMMANDS = 10000
MIB = 1 << 20


def steps(number, directory):
    """What one client sends, over and over: [(command, arguments)]."""
    node, path = f"n{number}", str(directory / f"disk{number}.raw")
    return [
        ("query-version", {}),
        ("query-named-block-nodes", {"flat": True}),
        ("query-blockstats", {"query-nodes": True}),
        ("query-jobs", {}),
        ("query-block-exports", {}),
        ("blockdev-add", {"driver": "file", "node-name": node, "filename": path}),
        ("query-block-status", {"node-name": node}),
        ("block-dirty-bitmap-add", {"node": node, "name": "b"}),
        ("block-export-add", {"type": "nbd", "id": f"e{number}", "node-name": node}),
        ("block-export-del", {"id": f"e{number}", "mode": "hard"}),
        ("blockdev-del", {"node-name": node}),
        ("object-add", {"qom-type": "throttle-group", "id": f"g{number}"}),
        ("qom-get", {"path": f"/objects/g{number}", "property": "limits"}),
        ("object-del", {"id": f"g{number}"}),
        ("query-commands-in-flight", {}),
    ]


def work(number, socket, directory, results):
    times = []
    with QMP(socket) as qmp:
        todo = steps(number, directory)
        for i in range(COMMANDS // CLIENTS):
            command, arguments = todo[i % len(todo)]
            begin = time.perf_counter()
            qmp.execute(command, arguments)
            times.append((time.perf_counter() - begin, command))
    results.put(times)


def measure(socket, directory):
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(i, socket, directory, results)) for i in range(CLIENTS)]
    for worker in workers:
        worker.start()
    times = sorted(time for _ in workers for time in results.get())
    for worker in workers:
        worker.join()
    return times


def show(name, times):
    milliseconds = [took * 1000 for took, _ in times]
    rank = [milliseconds[min(len(times) - 1, len(times) * part // 1000)] for part in (500, 990, 999, 1000)]
    print(f"| {name} | {rank[0]:.2f} | {rank[1]:.2f} | {rank[2]:.2f} | {rank[3]:.2f} ({times[-1][1]}) |")


class Hanging:
    """Nodes on dead storage, with what waits for them."""

    def __init__(self, daemon, directory):
        self.mountpoint = directory / "hung"
        self.mountpoint.mkdir()
        self.fs = subprocess.Popen([BUILD / "tests" / "hung_fs", self.mountpoint], stdout=subprocess.PIPE)
        assert self.fs.stdout.readline() == b"ready\n"
        (directory / "server").mkdir()
        self.server = Daemon(directory / "server", "--blockdev", f"null-co,node-name=n,size={MIB}", "--nbd-server",
                             "addr.type=unix,addr.path=nbd.sock", "--export", "nbd,id=e,node-name=n,name=e,writable=on")
        self.remote = {"driver": "nbd", "export": "e", "server": {"type": "unix", "path": self.server.path("nbd.sock")}}
        with daemon.connect() as qmp:
            qmp.execute("blockdev-add", driver="file", node_name="hung", read_only=True,
                        filename=str(self.mountpoint / "hang-read"))
            qmp.execute("blockdev-add", {**self.remote, "node-name": "stopped"})
            nbd_client.export(qmp, "hung")
            nbd_client.export(qmp, "stopped")
        self.server.process.send_signal(signal.SIGSTOP)
        self.readers = [nbd_client.connect(directory / "nbd.sock", name) for name in ("hung", "stopped")]
        for reader in self.readers:
            for _ in range(16):
                reader.aio_pread(nbd.Buffer(4096), 0)
        self.waiting = [daemon.connect() for _ in range(8)]
        for number, client in enumerate(self.waiting):
            if number % 2:
                client.start("blockdev-add", {**self.remote, "node-name": f"waits{number}"})
            else:
                client.start("blockdev-add", driver="file", node_name=f"waits{number}",
                             filename=str(self.mountpoint / "hang-open"))

    def cancel(self, qmp):
        """How long it takes from asking to the error that the client gets."""
        times = []
        for command in qmp.execute("query-commands-in-flight"):
            begin = time.perf_counter()
            qmp.execute("cancel-command", number=command["number"])
            times.append((time.perf_counter() - begin, command["command"]))
        for client in self.waiting:
            assert "was cancelled" in json.dumps(client.receive_reply())
        return sorted(times)

    def release(self):
        self.server.process.send_signal(signal.SIGCONT)
        self.server.stop()
        self.fs.terminate()
        self.fs.wait()


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        for number in range(CLIENTS):
            (directory / f"disk{number}.raw").write_bytes(bytes(MIB))
        daemon = Daemon(directory)
        with daemon.connect() as qmp:
            nbd_client.start_server(qmp, directory)
        print(f"| {COMMANDS} commands of {CLIENTS} clients, ms | median | 99 % | 99.9 % | longest |\n|---|---|---|---|---|")
        show("nothing hangs", measure(daemon.socket, directory))
        hanging = Hanging(daemon, directory)
        show("storage hangs", measure(daemon.socket, directory))
        with daemon.connect() as qmp:
            show("`cancel-command` of what hangs", hanging.cancel(qmp))
        hanging.release()
        daemon.stop()


if __name__ == "__main__":
    main()
