"""Jobs of every kind on a disk whose guests work, one after another, each of them ended at a random moment in a random way.

Whatever the job was doing: it ends, the nodes that it used are free, nothing is left of it, and the guests' disk is what
they wrote. Some jobs are let go to their end, so the graph changes all the time.

CAIRN_TEST_JOBS says how many jobs (thousands are for nights); CAIRN_TEST_SEED adds a seed.
"""

import json
import os
import time

import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, check, compare, create, rng_of, run, seeds
from jobs import until_allowed
from process import BUILD
from qmp import QMPError

SIZE = 4 * MIB
JOBS = int(os.environ.get("CAIRN_TEST_JOBS", 120 if "san" not in BUILD.name else 40))
COMPARE_EVERY = 10
LAYERS_MAX = 5
GROWTH_MAX = 48 * MIB  # of memory, between one quarter of the jobs and the end


class Disk:
    """The layers below the guests' export, the top first; targets beside them."""

    def __init__(self, qmp, directory, rng):
        self.qmp, self.directory, self.rng = qmp, directory, rng
        self.count = 0
        self.layers = [self.add_image("qcow2")]
        self.targets = [self.add_image(fmt) for fmt in ("raw", "qcow2")]

    def add_image(self, fmt, **options):
        self.count += 1
        name = f"n{self.count}"
        options = {} if fmt == "raw" else {"cluster_size": self.rng.choice(["4k", "64k"])} | options
        path = create(self.directory / f"{name}.img", SIZE, fmt=fmt, **options)
        above = {"backing": None} if fmt == "qcow2" else {}
        self.qmp.execute("blockdev-add", driver=fmt, node_name=name, discard="unmap", **above,
                         file={"driver": "file", "filename": str(path), "node-name": f"{name}-file", "discard": "unmap"})
        return name

    def path(self, name):
        return self.directory / f"{name}.img"

    def format(self, name):
        with open(self.path(name), "rb") as file:
            return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"

    def nodes(self):
        return {node["node-name"]: node for node in self.qmp.execute("query-named-block-nodes", flat=True)}

    def snapshot(self):
        """A layer more on top, with the right name in its header."""
        overlay = self.add_image("qcow2")
        self.qmp.execute("blockdev-snapshot", node=self.layers[0], overlay=overlay)
        self.qmp.execute("change-backing-file", device=overlay, image_node_name=overlay,
                         backing_file=str(self.path(self.layers[0])))
        self.layers.insert(0, overlay)

    def remove(self, name):
        """A job that found its requests slow may have left them behind: they end soon."""
        until_allowed(lambda: self.qmp.execute("blockdev-del", node_name=name))
        self.path(name).unlink()

    def look(self):
        """The layers as they are now; what is none any more, goes. Nothing else is left of a job."""
        nodes = self.nodes()
        name = self.qmp.execute("query-block-exports")[0]["node-name"]
        layers = []
        while name:
            layers.append(name)
            name = {child["child"]: child["node-name"] for child in nodes[name]["children"]}.get("backing")
        for gone in self.layers:
            if gone not in layers:
                self.remove(gone)
        self.layers = layers
        self.targets = [target if target not in layers else self.add_image(fmt)
                        for target, fmt in zip(self.targets, ("raw", "qcow2"))]
        until_allowed(self.assert_nothing_is_left)
        assert self.qmp.execute("query-jobs") == []

    def assert_nothing_is_left(self):
        assert set(self.nodes()) == {name for layer in self.layers + self.targets for name in (layer, f"{layer}-file")}


def start(disk, rng):
    """A random job; whether it is a mirror of the kind that can be completed."""
    layers = disk.layers
    kind = rng.choice(["mirror", "backup"] + ["commit", "stream"] * (len(layers) > 1))
    common = {"job-id": "j", "speed": rng.choice([0, 0, 1, MIB, 16 * MIB]), "auto-finalize": rng.random() < 0.5}
    if kind in ("mirror", "backup"):
        common |= {"device": layers[0], "target": rng.choice(disk.targets)}
    if kind == "mirror":
        sync = rng.choice(["full", "full", "none"])
        disk.qmp.execute("blockdev-mirror", common | {
            "sync": sync, "granularity": rng.choice([4 * KIB, 64 * KIB]),
            "copy-mode": rng.choice(["background", "write-blocking"])})
        return sync == "full"
    if kind == "backup":
        disk.qmp.execute("blockdev-backup", common | {
            "sync": rng.choice(["full", "none"]), "x-perf": {"use-copy-range": rng.random() < 0.5}})
        return False
    top, base = sorted(rng.sample(range(len(layers)), 2))
    if kind == "commit":
        disk.qmp.execute("block-commit", common | {
            "device": layers[0], "top-node": layers[top], "base-node": layers[base]})
        return top == 0
    below = {"base-node": layers[base]} if rng.random() < 0.5 and base > top + 1 else {}
    disk.qmp.execute("block-stream", common | {"device": layers[top]} | below)
    return False


def try_command(qmp, command, **arguments):
    try:
        qmp.execute(command, **arguments)
    except QMPError:
        pass  # too early, or too late


def end(qmp, rng, can_complete):
    """In one of the many ways; the job is over afterwards."""
    way = rng.choice(["cancel", "cancel", "force", "force", "job-cancel", "both", "complete", "pause"])
    if way == "complete":
        try_command(qmp, "block-job-set-speed", device="j", speed=0)
        if can_complete:
            qmp.wait_event("BLOCK_JOB_READY")
            try_command(qmp, "block-job-complete", device="j")
        if rng.random() < 0.7:
            time.sleep(rng.choice([0, 0.002, 0.02]))
            try_command(qmp, "job-finalize", id="j")
    if way == "pause":
        try_command(qmp, "block-job-pause", device="j")
    if way in ("cancel", "both"):
        try_command(qmp, "block-job-cancel", device="j")
    if way in ("job-cancel", "both"):
        try_command(qmp, "job-cancel", id="j")
    try_command(qmp, "block-job-cancel", device="j", force=True)
    if not any(event["event"] == "JOB_STATUS_CHANGE" and event["data"]["status"] == "null" for event in qmp.events):
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "null")
    qmp.events.clear()


def open_images(daemon):
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{daemon.pid}/fd")]
    return [link for link in links if ".img" in link]


@pytest.mark.parametrize("seed", seeds(2))
def test_jobs_end_at_any_moment_in_any_way(daemon, qmp, tmp_path, seed):
    rng = rng_of(f"job cancels {seed}")
    socket = nbd_client.start_server(qmp, tmp_path)
    disk = Disk(qmp, tmp_path, rng)
    model = bytearray(SIZE)
    nbd_client.export(qmp, disk.layers[0], writable=True)
    export = f"export-{disk.layers[0]}"
    name = disk.layers[0]
    memory = 0
    with Guests(socket, name, model, seed=f"cancels {seed}") as guests:
        guests.let_work()
        for number in range(JOBS):
            if len(disk.layers) < 2 or (len(disk.layers) < LAYERS_MAX and rng.random() < 0.3):
                disk.snapshot()
            can_complete = start(disk, rng)
            if rng.random() < 0.6:
                guests.let_work(rng.randrange(0, 5))
            time.sleep(rng.choice([0, 0, 0.0005, 0.003, 0.01]))
            end(qmp, rng, can_complete)
            disk.look()
            if number % COMPARE_EVERY == 0:
                with guests.held():
                    client = nbd_client.connect(socket, name)
                    assert nbd_client.read_all(client, MIB) == bytes(model), number
                    client.shutdown()
            if number == JOBS // 4:
                memory = daemon.rss_bytes()
    if "san" not in BUILD.name:
        assert daemon.rss_bytes() - memory < GROWTH_MAX

    qmp.execute("blockdev-backup", job_id="j", device=disk.layers[0], target=disk.targets[1], sync="full",
                auto_dismiss=False)
    assert qmp.wait_job("j") is None
    qmp.execute("block-export-del", id=export, mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    for node in disk.layers + disk.targets:
        until_allowed(lambda: qmp.execute("blockdev-del", node_name=node))
    assert disk.nodes() == {}
    assert open_images(daemon) == []
    (tmp_path / "model").write_bytes(model)
    for image in (disk.layers[0], disk.targets[1]):
        compare(disk.path(image), tmp_path / "model", fmt=disk.format(image))
    for image in disk.layers + disk.targets:
        if disk.format(image) == "qcow2":
            check(disk.path(image))


@pytest.mark.parametrize("kind", ["stream", "commit"])
def test_a_header_does_not_run_ahead_of_the_graph(qmp, tmp_path, kind):
    """Cancelled while the last step writes the header of "top": the chain stays what it was, and so does what the header
    says. Else a later job, which knows the graph, would let go of a layer that the image still names."""
    paths = {name: tmp_path / f"{name}.img" for name in ("base", "middle", "low", "top")}
    below = None
    for name, path in paths.items():
        create(path, SIZE, **({"backing": below} if below else {}))
        below = path
    node = None
    for name, path in paths.items():
        file = {"driver": "file", "filename": str(path)}
        if name == "top":
            file = {"driver": "gate", "node-name": "gate", "file": file}
        qmp.execute("blockdev-add", driver="qcow2", node_name=name, file=file, backing=node)
        node = name
    command = ("block-stream", {"device": "top", "base-node": "middle"}) if kind == "stream" else \
        ("block-commit", {"device": "top", "top-node": "low", "base-node": "middle"})
    qmp.execute(command[0], {"job-id": "j", "auto-finalize": False, **command[1]})
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "pending")
    qmp.execute("x-gate-hold", node_name="gate", operation="write")
    qmp.execute("job-finalize", id="j")
    while qmp.execute("x-gate-query", node_name="gate")["held"] == 0:
        pass
    qmp.execute("job-cancel", id="j")
    qmp.execute("x-gate-release", node_name="gate")
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "null")
    until_allowed(lambda: qmp.execute("blockdev-del", node_name="top"))
    info = json.loads(run("qemu-img", "info", "--output=json", paths["top"]).stdout)
    assert info["full-backing-filename"] == str(paths["low"])
