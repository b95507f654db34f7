"""Mirror, backup, stream and commit on every kind of graph over a chain of layers, while guests write.

    disk (a raw window, filters, ...) --> l3 --backing--> l2 --> l1 --> l0        with filters between, or not

What a job copies is what the guests wrote, byte for byte; of a backup, what they had written when it began. QEMU's tools
judge the images.
"""

import pytest

import chains
import nbd_client
from guests import Guests
from images import KIB, MIB
from test_mirror import add_file

SIZE = chains.SIZE
OFFSET = 192 * KIB
WINDOW = 4 * MIB + 512
SHAPE = "fine-over-coarse"


def add(qmp, driver, name, over, child="file", **options):
    qmp.execute("blockdev-add", {"driver": driver, "node-name": name, child: over, "discard": "unmap"}
                | {key.replace("_", "-"): value for key, value in options.items()})


def throttle_group(qmp):
    if not any(child["name"] == "group" for child in qmp.execute("qom-list", path="/objects")):
        qmp.execute("object-add", qom_type="throttle-group", id="group")


def over_overlay(qmp, graph):
    """Makes "disk" over l3, unless that is the disk; which bytes of l3 it shows."""
    whole = (0, SIZE)
    if graph == "raw":
        add(qmp, "raw", "disk", "l3")
    elif graph == "window":
        add(qmp, "raw", "disk", "l3", offset=OFFSET, size=WINDOW)
        return OFFSET, WINDOW
    elif graph == "from-offset":
        add(qmp, "raw", "disk", "l3", offset=OFFSET)
        return OFFSET, SIZE - OFFSET
    elif graph == "blkdebug":
        add(qmp, "blkdebug", "disk", "l3", child="image")
    elif graph == "throttle":
        throttle_group(qmp)
        add(qmp, "throttle", "disk", "l3", throttle_group="group")
    elif graph == "copy-on-read":
        add(qmp, "copy-on-read", "disk", "l3")
    elif graph == "two-filters":
        throttle_group(qmp)
        add(qmp, "throttle", "inner", "l3", throttle_group="group")
        add(qmp, "blkdebug", "disk", "inner", child="image")
    elif graph == "raw-over-filter":
        add(qmp, "blkdebug", "inner", "l3", child="image")
        add(qmp, "raw", "disk", "inner")
    return whole


GRAPHS = ["qcow2", "raw", "window", "from-offset", "blkdebug", "throttle", "copy-on-read", "two-filters", "raw-over-filter",
          "filters-between"]
ELSEWHERE = ["qcow2", "filters-between"]  # test_stream.py, test_commit.py
FILTERS = ["blkdebug", "throttle", "copy-on-read", "two-filters"]


class Scene:
    """The graph, its export, and what it has to hold: @whole is l3, @model the part that the guests see."""

    def __init__(self, qmp, directory, graph):
        self.qmp, self.directory = qmp, directory
        self.paths = chains.make(directory, SHAPE)
        self.whole = chains.model_of(self.paths)
        chains.add(qmp, self.paths, filters_between=graph == "filters-between")
        self.offset, self.size = over_overlay(qmp, graph)
        self.disk = "l3" if graph in ("qcow2", "filters-between") else "disk"
        self.device = "disk" if graph in FILTERS else "l3"  # for jobs on layers
        self.model = bytearray(self.whole[self.offset:self.offset + self.size])
        self.socket = nbd_client.start_server(qmp, directory)
        nbd_client.export(qmp, self.disk, writable=True)

    def guests(self):
        return Guests(self.socket, self.disk, self.model)

    def add_target(self):
        path = self.directory / "target"
        path.write_bytes(b"\xee" * self.size)
        add_file(self.qmp, "target", path)
        return path

    def assert_guests_see_what_they_wrote(self):
        client = nbd_client.connect(self.socket, self.disk)
        assert nbd_client.read_all(client) == bytes(self.model)
        client.shutdown()
        self.whole[self.offset:self.offset + self.size] = self.model

    def judge(self, daemon, number):
        chains.judge(daemon, self.directory, self.paths[number][0], self.whole, self.paths[number][1])


@pytest.fixture
def scene(daemon, qmp, tmp_path, graph):
    return Scene(qmp, tmp_path, graph)


@pytest.mark.parametrize("graph", GRAPHS)
def test_mirror(daemon, qmp, scene):
    path = scene.add_target()
    with scene.guests() as guests:
        guests.let_work(20)
        qmp.execute("blockdev-mirror", job_id="j", device=scene.disk, target="target", sync="full", auto_dismiss=False)
        qmp.wait_event("BLOCK_JOB_READY")
        guests.let_work(20)
        qmp.execute("block-job-complete", device="j")
        assert qmp.wait_job("j") is None
        guests.let_work(20)
    scene.assert_guests_see_what_they_wrote()
    assert qmp.execute("query-block-exports")[0]["node-name"] == "target"
    assert path.read_bytes() == bytes(scene.model)


@pytest.mark.parametrize("graph", GRAPHS)
def test_backup(daemon, qmp, scene):
    path = scene.add_target()
    with scene.guests() as guests:
        guests.let_work(20)
        with guests.held():
            moment = bytes(scene.model)
            qmp.execute("blockdev-backup", job_id="j", device=scene.disk, target="target", sync="full", speed=1,
                        auto_dismiss=False)
        guests.let_work(20)
        qmp.execute("block-job-set-speed", device="j", speed=0)
        assert qmp.wait_job("j") is None
        guests.let_work(10)
    scene.assert_guests_see_what_they_wrote()
    qmp.execute("blockdev-del", node_name="target")
    assert path.read_bytes() == moment
    scene.judge(daemon, 3)


@pytest.mark.parametrize("base", [None, "l1"])
@pytest.mark.parametrize("graph", [graph for graph in GRAPHS if graph not in ELSEWHERE])
def test_stream(daemon, qmp, scene, base):
    with scene.guests() as guests:
        guests.let_work(20)
        qmp.execute("block-stream", job_id="j", device=scene.device, auto_dismiss=False, auto_finalize=False,
                    **({"base_node": base} if base else {}))
        guests.let_work(20)
        qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "pending")
        qmp.execute("job-finalize", id="j")
        assert qmp.wait_job("j") is None
        guests.let_work(20)
    scene.assert_guests_see_what_they_wrote()
    assert chains.backing_of(scene.paths[3][0])[0] == (str(scene.paths[1][0]) if base else None)
    scene.judge(daemon, 3)


@pytest.mark.parametrize("top, base", [("l3", "l0"), ("l2", "l0")])
@pytest.mark.parametrize("graph", [graph for graph in GRAPHS if graph not in ELSEWHERE])
def test_commit(daemon, qmp, scene, top, base):
    with scene.guests() as guests:
        guests.let_work(20)
        qmp.execute("block-commit", job_id="j", device="l3", top_node=top, base_node=base, auto_dismiss=False)
        guests.let_work(20)
        if top == "l3":
            qmp.wait_event("BLOCK_JOB_READY")
            qmp.execute("block-job-complete", device="j")
        assert qmp.wait_job("j") is None
        guests.let_work(20)
    scene.assert_guests_see_what_they_wrote()
    scene.judge(daemon, 0 if top == "l3" else 3)
