"""Dirty bitmaps over the wire: commands and their errors, and the same bits as qemu-storage-daemon for the same writes."""

import pytest

import nbd_client
from images import KIB, MIB, create, rng_of, seeds
from oracle import Oracle

SIZE = 5 * MIB + 512


@pytest.fixture
def disk(qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=1 * MIB)
    return "disk"


def add(qmp, name, node="disk", **options):
    qmp.execute("block-dirty-bitmap-add", node=node, name=name, **options)


def bitmaps(qmp, node="disk"):
    for info in qmp.execute("query-named-block-nodes"):
        if info["node-name"] == node:
            return info.get("dirty-bitmaps", [])
    raise KeyError(node)


def sha256(qmp, name, node="disk"):
    return qmp.execute("x-debug-block-dirty-bitmap-sha256", node=node, name=name)["sha256"]


def test_block_dirty_bitmap_add(qmp, disk):
    assert bitmaps(qmp) == []
    add(qmp, "first")
    add(qmp, "second", granularity=512, disabled=True)
    assert bitmaps(qmp) == [
        {"name": "second", "count": 0, "granularity": 512, "recording": False, "busy": False, "persistent": False},
        {"name": "first", "count": 0, "granularity": 65536, "recording": True, "busy": False, "persistent": False}]


@pytest.mark.parametrize("arguments, message", [
    ({"node": "nope", "name": "b"}, "Cannot find device='nope' nor node-name='nope'"),
    ({"name": ""}, "Bitmap name cannot be empty"),
    ({"name": "b", "granularity": 100}, "Granularity must be power of 2 and at least 512"),
    ({"name": "b", "granularity": 256}, "Granularity must be power of 2 and at least 512"),
    ({"name": "there"}, "Bitmap already exists: there"),
    ({"name": "n" * 1024}, "Bitmap name too long: " + "n" * 1024),
    ({"name": "b", "persistent": True}, "Can't store persistent bitmaps to disk: Operation not supported"),
])
def test_what_block_dirty_bitmap_add_refuses(qmp, disk, arguments, message):
    add(qmp, "there")
    error = qmp.error("block-dirty-bitmap-add", {"node": "disk", **arguments})
    assert (error.error_class, error.desc) == ("GenericError", message)


@pytest.mark.parametrize("verb", ["remove", "clear", "enable", "disable"])
def test_bitmaps_that_are_not_there(qmp, disk, verb):
    command = f"block-dirty-bitmap-{verb}"
    assert qmp.error(command, node="nope", name="b").desc == "Node 'nope' not found"
    assert qmp.error(command, node="disk", name="b").desc == "Dirty bitmap 'b' not found"


def test_the_granularity_follows_the_clusters(qmp, tmp_path):
    for cluster_size, granularity in ((512, 4096), (32768, 32768), (MIB, 65536)):
        path = tmp_path / f"{cluster_size}.qcow2"
        create(path, MIB, cluster_size=cluster_size)
        node = f"disk{cluster_size}"
        qmp.execute("blockdev-add", driver="copy-on-read", node_name=node,
                    file={"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}})
        add(qmp, "b", node)
        assert bitmaps(qmp, node)[0]["granularity"] == granularity


def test_the_life_of_a_bitmap(qmp, daemon, disk):
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, "disk")
    add(qmp, "b", granularity=4096)
    client.pwrite(b"x" * 512, 8192)
    assert bitmaps(qmp)[0]["count"] == 4096
    qmp.execute("block-dirty-bitmap-disable", node="disk", name="b")
    client.pwrite(b"x" * 512, 0)
    assert bitmaps(qmp)[0]["count"] == 4096 and not bitmaps(qmp)[0]["recording"]
    qmp.execute("block-dirty-bitmap-enable", node="disk", name="b")
    client.pwrite(b"x" * 512, 0)
    assert bitmaps(qmp)[0]["count"] == 8192
    qmp.execute("block-dirty-bitmap-clear", node="disk", name="b")
    assert bitmaps(qmp)[0]["count"] == 0
    qmp.execute("block-dirty-bitmap-remove", node="disk", name="b")
    assert bitmaps(qmp) == []


def test_block_dirty_bitmap_merge(qmp, disk):
    qmp.execute("blockdev-add", driver="null-co", node_name="small", size=512)
    add(qmp, "a")
    add(qmp, "b")
    add(qmp, "c", "small")
    merge = "block-dirty-bitmap-merge"

    def refused(target, *sources):
        return qmp.error(merge, node="disk", target=target, bitmaps=list(sources)).desc

    assert refused("nope", "a") == "Dirty bitmap 'nope' not found"
    assert refused("a", "nope") == "Dirty bitmap 'nope' not found"
    assert refused("a", {"node": "nope", "name": "b"}) == "Node 'nope' not found"
    assert refused("a", "b", {"node": "small", "name": "c"}) == (
        "Bitmaps are of different sizes (destination size is 1048576, source size is 512) and can't be merged")
    qmp.execute(merge, node="disk", target="a", bitmaps=["a", "b"])
    qmp.execute(merge, node="disk", target="a", bitmaps=[])


def write_some(rng, client):
    offset = rng.randrange(0, SIZE // 512) * 512
    length = min(rng.choice([512, 4096, 65536, 300 * KIB]), SIZE - offset)
    request = rng.choice([lambda: client.pwrite(b"x" * length, offset), lambda: client.zero(length, offset),
                          lambda: client.trim(length, offset)])
    request()


class Side:
    """One of the two daemons with its own image, and a random sequence that both have."""

    def __init__(self, qmp, directory, seed):
        path = directory / f"{type(self).__name__}{id(self)}.qcow2"
        create(path, SIZE)
        self.qmp, self.rng = qmp, rng_of(seed)
        qmp.execute("blockdev-add", driver="qcow2", node_name="disk", discard="unmap",
                    file={"driver": "file", "filename": str(path)})
        self.socket = nbd_client.start_server(qmp, directory)
        self.export()
        for name, granularity in (("a", 512), ("b", 4096), ("c", 262144)):
            add(qmp, name, granularity=granularity)

    def export(self):
        nbd_client.export(self.qmp, "disk", writable=True)
        self.client = nbd_client.connect(self.socket, "disk")

    def resize(self):
        """There and back. qemu-storage-daemon resizes nothing that is exported."""
        self.client.shutdown()
        self.qmp.execute("block-export-del", id="export-disk", mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED")
        self.qmp.execute("block_resize", node_name="disk", size=SIZE + self.rng.choice([-512 * 4, 0, 512, 65536]))
        self.qmp.execute("block_resize", node_name="disk", size=SIZE)
        self.export()

    def step(self):
        """The same numbers ask the same of both daemons."""
        for _ in range(self.rng.randrange(1, 6)):
            write_some(self.rng, self.client)
        name = self.rng.choice("abc")
        verb = self.rng.choice(["clear", "enable", "disable", "merge", "resize"])
        if verb == "merge":
            self.qmp.execute("block-dirty-bitmap-merge", node="disk", target=name,
                             bitmaps=[self.rng.choice("abc"), {"node": "disk", "name": self.rng.choice("abc")}])
        elif verb == "resize":
            self.resize()
        else:
            self.qmp.execute(f"block-dirty-bitmap-{verb}", node="disk", name=name)
        return [sha256(self.qmp, name) for name in "abc"], bitmaps(self.qmp)


@pytest.mark.parametrize("seed", seeds(3))
def test_the_same_bits_as_qemu_storage_daemon(qmp, tmp_path, seed):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    with Oracle(tmp_path) as oracle:
        ours = Side(qmp, tmp_path / "ours", seed)
        theirs = Side(oracle.qmp, tmp_path / "theirs", seed)
        for _ in range(30):
            assert ours.step() == theirs.step()
        ours.client.shutdown()
        theirs.client.shutdown()
