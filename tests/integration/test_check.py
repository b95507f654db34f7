"""blockdev-check and cairnctl check, on a zoo of damaged images, with qemu-img check as a witness."""

import json
import shutil
import subprocess

import pytest

from cairnctl import cairnctl
from process import BUILD

COPIED = 1 << 63
NUMBERS = ("check-errors", "image-end-offset", "corruptions", "leaks", "total-clusters", "allocated-clusters",
           "fragmented-clusters", "compressed-clusters")


@pytest.fixture
def ctl(daemon):
    return lambda *words, **options: cairnctl(daemon.socket, *words, **options)


class Image:
    """A qcow2 image as bytes: where its tables are, and how to change them."""

    def __init__(self, path):
        self.path = path

    def get(self, at, size=8):
        with open(self.path, "rb") as image:
            image.seek(at)
            return int.from_bytes(image.read(size), "big")

    def put(self, at, value, size=8):
        with open(self.path, "r+b") as image:
            image.seek(at)
            image.write(value.to_bytes(size, "big"))

    @property
    def cluster(self):
        return 1 << self.get(20, 4)

    @property
    def l1(self):
        return self.get(40)

    @property
    def l2(self):
        return self.get(self.l1) & ~COPIED & ~511

    @property
    def reftable(self):
        return self.get(48)

    @property
    def refblock(self):
        return self.get(self.reftable)

    def data(self, index):
        return self.get(self.l2 + 8 * index) & ~COPIED

    def count_at(self, offset):
        return self.refblock + 2 * (offset // self.cluster)

    def marks(self):
        return self.get(72)


def leak(image):
    image.put(image.l2 + 8, 0)


def two_leaks(image):
    image.put(image.l2 + 8, 0)
    image.put(image.l2 + 24, 1)


def count_too_high(image):
    image.put(image.count_at(image.data(2)), 5, 2)


def count_too_low(image):
    image.put(image.l2 + 8, image.data(2) | COPIED)


def free_cluster_in_use(image):
    image.put(image.count_at(image.data(3)), 0, 2)


def all_counts_gone(image):
    with open(image.path, "r+b") as file:
        file.seek(image.refblock)
        file.write(bytes(image.cluster))


def no_refcount_block(image):
    image.put(image.reftable, 0)


def refcount_block_unaligned(image):
    image.put(image.reftable, image.refblock + 512)


def refcount_block_behind_the_end(image):
    image.put(image.reftable, 1 << 40)


def refcount_block_on_data(image):
    image.put(image.reftable + 8, image.data(0))


def copied_flag_missing(image):
    image.put(image.l2 + 8, image.data(1))


def copied_flag_missing_in_l1(image):
    image.put(image.l1, image.l2)


def copied_flag_too_many(image):
    image.put(image.count_at(image.data(1)), 2, 2)


def data_on_a_table(image):
    image.put(image.l2 + 8, image.l1 | COPIED)


def data_unaligned(image):
    image.put(image.l2 + 8, (image.data(1) + 512) | COPIED)


def data_behind_the_end(image):
    image.put(image.l2 + 8, 1 << 40 | COPIED)


def zero_cluster_unaligned(image):
    image.put(image.l2 + 8, (image.data(1) + 512) | COPIED | 1)


def l2_table_behind_the_end(image):
    image.put(image.l1, 1 << 40 | COPIED)


def two_ways_to_one_table(image):
    image.put(image.l1 + 8, image.l2 | COPIED)


def marked_as_corrupt(image):
    image.put(72, image.marks() | 2)


def marked_as_dirty(image):
    image.put(72, image.marks() | 1)
    image.put(image.count_at(image.data(3)), 0, 2)
    image.put(image.count_at(image.data(4)), 7, 2)


def nothing(_):
    pass


ZOO = [nothing, leak, two_leaks, count_too_high, count_too_low, free_cluster_in_use, all_counts_gone, no_refcount_block,
       refcount_block_behind_the_end, refcount_block_on_data, copied_flag_missing, copied_flag_missing_in_l1,
       copied_flag_too_many, data_on_a_table, data_unaligned, data_behind_the_end, zero_cluster_unaligned,
       l2_table_behind_the_end, two_ways_to_one_table, marked_as_corrupt, marked_as_dirty]
# qemu-img gives up on these before it has numbers, or loses its way.
HARD = [refcount_block_unaligned]


def make(path, options="cluster_size=65536", compressed=False, snapshot=False):
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"".join(bytes([i + 1]) * 65536 for i in range(12)) + bytes(4 << 20))
    subprocess.run(["qemu-img", "convert", "-q", *(["-c"] if compressed else []), "-O", "qcow2", "-o", options, raw, path],
                   check=True)
    subprocess.run(["qemu-img", "resize", "-q", path, "1G"], check=True)
    if snapshot:
        subprocess.run(["qemu-img", "snapshot", "-c", "s", path], check=True)
        subprocess.run(["qemu-io", "-c", "write -P 77 64k 128k", path], check=True, capture_output=True)
    return Image(path)


def witness(path, *repair):
    done = subprocess.run(["qemu-img", "check", "--output=json", "-f", "qcow2", *repair, path], capture_output=True,
                          text=True, check=False)
    return json.loads(done.stdout) if done.stdout else {}  # it gave up


def check(qmp, path, repair="none"):
    return qmp.execute("blockdev-check", repair=repair,
                       image={"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}})


def numbers(found):
    return {name: found[name] for name in NUMBERS if found.get(name)}


@pytest.mark.parametrize("damage", ZOO, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", ["plain", "small_clusters", "compressed", "snapshot"])
def test_finds_what_qemu_img_finds(qmp, tmp_path, damage, kind):
    image = make(tmp_path / "a.qcow2", "cluster_size=4096" if kind == "small_clusters" else "cluster_size=65536",
                 kind == "compressed", kind == "snapshot")
    if kind == "compressed":
        subprocess.run(["qemu-io", "-c", "write -P 99 0 512k", image.path], check=True, capture_output=True)
    damage(image)
    before = image.path.read_bytes()
    found = check(qmp, image.path)
    assert numbers(found) == numbers(witness(image.path))
    assert image.path.read_bytes() == before, "a check without repair changes nothing"


@pytest.mark.parametrize("options", ["data_file_raw=on", "data_file_raw=off", "data_file_raw=off,extended_l2=on"])
def test_counts_what_lies_in_a_data_file(qmp, tmp_path, options):
    """The first cluster may be at offset 0 there."""
    image = tmp_path / "a.qcow2"
    for command in (["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data,{options}", image, "1M"],
                    ["qemu-io", "-c", "write 0 128k", "-c", "write -z 512k 64k", image]):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    found = check(qmp, image)
    assert numbers(found) == numbers(witness(image))
    assert found["allocated-clusters"] >= 2
    subprocess.run(["qemu-io", "-c", "write -z 0 64k", str(image)], check=True, capture_output=True)
    assert numbers(check(qmp, image)) == numbers(witness(image))


@pytest.mark.parametrize("damage", ZOO + HARD, ids=lambda damage: damage.__name__)
def test_repairs_what_qemu_img_repairs(qmp, tmp_path, damage):
    image = make(tmp_path / "a.qcow2")
    damage(image)
    theirs = tmp_path / "b.qcow2"
    shutil.copy(image.path, theirs)
    witness(theirs, "-r", "all")
    check(qmp, image.path, "all")
    left = witness(image.path)
    assert left and left.get("leaks", 0) == 0
    assert left.get("corruptions", 0) <= witness(theirs).get("corruptions", 0)
    assert numbers(check(qmp, image.path)) == numbers(left)
    if not left.get("corruptions"):
        assert image.marks() & 3 == 0
        qmp.execute("blockdev-add", node_name="n", driver="qcow2", file={"driver": "file", "filename": str(image.path)})
        qmp.execute("blockdev-del", node_name="n")


def test_memory_does_not_grow_with_the_image(qmp, daemon, tmp_path):
    """17 GiB in clusters of 512 bytes are 35.6 million clusters: more than are counted at a time."""
    image = make(tmp_path / "a.qcow2", "cluster_size=512")
    far = (17 << 30) - 4096
    with open(image.path, "r+b") as file:
        file.truncate(17 << 30)
    image.put(image.l2 + 8, far | COPIED)
    image.put(image.l2 + 16, image.data(3) | COPIED)
    assert numbers(check(qmp, image.path)) == numbers(witness(image.path))
    found = check(qmp, image.path, "all")
    assert found["corruptions-fixed"] >= 2 and "corruptions" not in found
    assert witness(image.path).get("corruptions", 0) == 0
    peak = [line for line in open(f"/proc/{daemon.pid}/status", encoding="ascii") if line.startswith("VmHWM")][0]
    limit = 250 if b"__asan_init" not in (BUILD / "bin" / "cairnd").read_bytes() else 500
    assert int(peak.split()[1]) < limit * 1024


def test_gives_lost_clusters_back(qmp, tmp_path):
    image = make(tmp_path / "a.qcow2")
    two_leaks(image)
    image.put(image.l2 + 40, image.data(5))  # no copied flag
    assert check(qmp, image.path)["leaks"] == 2
    found = check(qmp, image.path, "leaks")
    assert found["leaks-fixed"] == 2 and "leaks" not in found and found["corruptions"] == 1
    found = check(qmp, image.path, "all")
    assert found["corruptions-fixed"] == 1 and "corruptions" not in found


def test_a_node_in_use(qmp, tmp_path):
    image = make(tmp_path / "a.qcow2")
    leak(image)
    qmp.execute("blockdev-add", node_name="n", driver="qcow2", file={"driver": "file", "filename": str(image.path)})
    assert qmp.execute("blockdev-check", image="n")["leaks"] == 1
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "nbd")}})
    qmp.execute("block-export-add", type="nbd", id="reader", node_name="n")
    assert qmp.execute("blockdev-check", image="n")["leaks"] == 1
    assert "reader" in qmp.error("blockdev-check", image="n", repair="leaks").desc
    qmp.execute("block-export-del", id="reader")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("block-export-add", type="nbd", id="writer", node_name="n", writable=True)
    assert "writer" in qmp.error("blockdev-check", image="n").desc
    qmp.execute("block-export-del", id="writer")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    assert qmp.execute("blockdev-check", image="n", repair="all")["leaks-fixed"] == 1
    assert "leaks" not in qmp.execute("blockdev-check", image="n")


def test_what_cannot_be_checked(qmp, tmp_path):
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(65536))
    assert "cannot check" in qmp.error("blockdev-check", image={"driver": "file", "filename": str(raw)}).desc
    assert qmp.error("blockdev-check", image="none").error_class == "DeviceNotFound"
    image = make(tmp_path / "a.qcow2")
    qmp.execute("blockdev-add", node_name="n", driver="qcow2", read_only=True,
                file={"driver": "file", "filename": str(image.path)})
    assert "read-only" in qmp.error("blockdev-check", image="n", repair="all").desc


def test_cairnctl_check(ctl, tmp_path):
    image = make(tmp_path / "a.qcow2")
    assert "allocated" in ctl("check", str(image.path)).stdout
    leak(image)
    assert "1 clusters are lost" in ctl("check", str(image.path), status=1).stdout
    found = json.loads(ctl("check", "--output=json", str(image.path), status=1).stdout)
    assert numbers(found) == numbers(witness(image.path))
    assert "given back" in ctl("check", "-r", "leaks", str(image.path)).stdout
    assert "no-such-node" in ctl("check", "no-such-node", status=1).stderr


def test_a_dirty_image_is_repaired_when_it_is_opened_for_writing(qmp, tmp_path):
    image = make(tmp_path / "a.qcow2", "cluster_size=65536,lazy_refcounts=on")
    marked_as_dirty(image)
    image.put(image.count_at(image.data(3)), 0, 2)
    options = {"node_name": "n", "driver": "qcow2", "file": {"driver": "file", "filename": str(image.path)}}
    before = image.path.read_bytes()
    qmp.execute("blockdev-add", read_only=True, **options)
    qmp.execute("blockdev-del", node_name="n")
    assert image.path.read_bytes() == before
    qmp.execute("blockdev-add", **options)
    qmp.execute("blockdev-del", node_name="n")
    assert image.marks() & 1 == 0
    assert subprocess.run(["qemu-img", "check", "-q", image.path], check=False).returncode == 0
