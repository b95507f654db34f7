"""Many clients add, delete, resize, reopen, rearrange, export and question the same few nodes at once, under I/O: whatever the commands
answer, the daemon lives, hangs nowhere and leaves nothing behind, and the images are whole. A sanitizer sees more."""

import random
import threading

import nbd
import pytest
from images import check, create
from nbd_client import start_server, uri
from qmp import QMPError

MIB = 1 << 20
COMMANDS = 1000  # of each client
GROUPS = ["group0", "group1"]
NAMES = [kind + str(i) for kind in ("image", "file", "overlay", "filter") for i in range(3)]


class Client:
    def __init__(self, daemon, directory, seed):
        self.qmp = daemon.connect()
        self.directory = directory
        self.random = random.Random(seed)

    def options(self, name):
        """Of a node of this name; the same name is not always the same node."""
        index, below = name[-1], self.random.choice(NAMES)
        kind = name[:-1]
        if kind == "image":
            return {"driver": "qcow2", "file": {"driver": "file", "filename": f"{self.directory}/image{index}"}}
        if kind == "file":
            return {"driver": "file", "filename": f"{self.directory}/file{index}",
                    "auto-read-only": self.random.random() < 0.5}
        if kind == "overlay":
            file = {"driver": "file", "filename": f"{self.directory}/overlay{index}"}
            return {"driver": "qcow2", "file": file, "backing": below}
        return self.random.choice([
            {"driver": "raw", "file": below},
            {"driver": "raw", "file": below, "offset": 512},
            {"driver": "gate", "file": below},
            {"driver": "blkdebug", "image": below, "align": self.random.choice([1, 512, 4096])},
            {"driver": "throttle", "throttle-group": self.random.choice(GROUPS), "file": below},
            {"driver": "copy-on-read", "file": below},
            {"driver": "compress", "file": below},
            {"driver": "preallocate", "file": below, "prealloc-size": MIB},
        ])

    def reopening(self):
        """New options for one node or two, which may be others by now."""
        options = []
        for name in self.random.sample(NAMES, self.random.choice([1, 1, 2])):
            own = {"node-name": name, **self.options(name)}
            for key in ("file", "image"):
                if isinstance(own.get(key), dict) and self.random.random() < 0.7:
                    own[key] = self.random.choice(NAMES)
            own["read-only"] = self.random.random() < 0.3
            own["detect-zeroes"] = self.random.choice(["on", "off"])
            if own["driver"] == "qcow2" and "backing" in own and self.random.random() < 0.3:
                own["backing"] = None
            options.append(own)
        return {"options": options}

    def command(self):
        name, other = self.random.choice(NAMES), self.random.choice(NAMES)
        discard = self.random.choice(["ignore", "unmap"])
        return self.random.choices([
            ("blockdev-add", {"node-name": name, "discard": discard, **self.options(name)}),
            ("blockdev-del", {"node-name": name}),
            ("block_resize", {"node-name": name, "size": self.random.randrange(1, 32) * MIB // 2}),
            ("block-export-add", {"type": "nbd", "id": f"of-{name}", "node-name": name, "name": name,
                                  "writable": self.random.random() < 0.7}),
            ("block-export-del", {"id": f"of-{name}", "mode": "hard"}),
            ("blockdev-reopen", self.reopening()),
            ("blockdev-snapshot", {"node": name, "overlay": other}),
            ("blockdev-insert-filter", {"node": name, "filter": other}),
            ("blockdev-remove-filter", {"filter": name}),
            ("blockdev-replace", {"node": name, "replacement": other}),
            ("blockdev-check", {"image": name, "repair": self.random.choice(["none", "all"])}),
            ("blockdev-snapshot-internal-sync", {"device": name, "name": self.random.choice("ab")}),
            ("blockdev-snapshot-apply-internal-sync", {"device": name, "name": self.random.choice("ab")}),
            ("blockdev-snapshot-delete-internal-sync", {"device": name, "name": self.random.choice("ab")}),
            ("blockdev-set-active", {"node-name": name, "active": self.random.random() < 0.8}),
            ("change-backing-file", {"device": name, "image-node-name": name, "backing-file": ""}),
            ("block-dirty-bitmap-add", {"node": name, "name": "bitmap", "persistent": self.random.random() < 0.5}),
            ("block-dirty-bitmap-remove", {"node": name, "name": "bitmap"}),
            ("block-dirty-bitmap-merge", {"node": name, "target": "bitmap",
                                          "bitmaps": [{"node": other, "name": "bitmap"}]}),
            ("query-block-status", {"node-name": name, "base": other} if self.random.random() < 0.2
             else {"node-name": name}),
            ("query-blockstats", {"query-nodes": True}),
            ("x-debug-query-block-graph", {}),
            ("query-named-block-nodes", {}),
            ("query-block-exports", {}),
            ("object-add", {"qom-type": "throttle-group", "id": self.random.choice(GROUPS)}),
            ("object-del", {"id": self.random.choice(GROUPS)}),
            ("qom-set", {"path": self.random.choice(GROUPS), "property": "limits",
                         "value": {"iops-total": self.random.choice([0, 10, 1000, 100000])}}),
        ], weights=[8, 6, 3, 3, 2, 6, 2, 2, 2, 2, 2, 1, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 2, 1, 2])[0]

    def run(self):
        for _ in range(COMMANDS):
            try:
                self.qmp.execute(*self.command())
            except QMPError:
                pass  # most names are taken, gone or in use


def some_requests(handle, rng):
    size = handle.get_size()
    for _ in range(rng.randrange(40)):
        length = rng.randrange(1, 100_000)
        offset = rng.randrange(max(1, size - length))
        rng.choice([
            lambda: handle.pread(length, offset),
            lambda: handle.pwrite(bytes([rng.randrange(256)]) * length, offset),
            lambda: handle.zero(length, offset),
            lambda: handle.trim(length, offset),
            lambda: handle.block_status(length, offset, lambda *extents: 0),
            handle.flush,
        ])()


def guest(socket, seed, stop):
    rng = random.Random(seed)
    while not stop.is_set():
        handle = nbd.NBD()
        handle.add_meta_context("base:allocation")
        try:
            handle.connect_uri(uri(socket, rng.choice(NAMES)))
            some_requests(handle, rng)
        except nbd.Error:
            pass  # the export is not there yet, read-only, too small, gone


@pytest.mark.parametrize("seed", [1, 2])
def test_many_clients_and_one_graph(daemon, qmp, tmp_path, seed):
    socket = start_server(qmp, tmp_path)
    for i in range(3):
        create(tmp_path / f"image{i}", 8 * MIB)
        create(tmp_path / f"overlay{i}", 8 * MIB)
        (tmp_path / f"file{i}").write_bytes(bytes(4 * MIB))
    stop = threading.Event()
    guests = [threading.Thread(target=guest, args=(socket, 100 * seed + i, stop)) for i in range(3)]
    clients = [threading.Thread(target=Client(daemon, tmp_path, 200 * seed + i).run) for i in range(4)]
    for thread in guests + clients:
        thread.start()
    for thread in clients:
        thread.join()
    stop.set()
    for thread in guests:
        thread.join()

    assert qmp.execute("query-version")
    daemon.stop()
    for i in range(3):
        check(tmp_path / f"image{i}")
