"""blockdev-create of qcow2 images with every option, over the wire; QEMU's tools judge what was made, and what became of it
after an export had it and it was resized."""

import itertools
import json
import random

import nbd_client
import pytest
from images import KIB, MIB, check, compare, run

SIZE = 3 * MIB + 512


def run_job(qmp, **options):
    """The error of the job, or None."""
    qmp.execute("blockdev-create", {"job-id": "job0", "options": {"driver": "qcow2", **options}})
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: (data["id"], data["status"]) == ("job0", "concluded"))
    job = next(job for job in qmp.execute("query-jobs") if job["id"] == "job0")
    qmp.execute("job-dismiss", id="job0")
    return job.get("error")


def file_ref(path):
    path.touch()
    return {"driver": "file", "filename": str(path)}


def info(path):
    return json.loads(run("qemu-img", "info", "-U", "--output=json", path).stdout)


def use(qmp, image, tmp_path, content):
    """Writes, zeroes and discards through an export, grows and shrinks, and compares with what a disk would be."""
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "disk", "discard": "unmap",
                                 "file": {"driver": "file", "filename": str(image)}})
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, "disk")
    assert client.pread(SIZE, 0) == bytes(content)
    rng = random.Random(len(str(image)))
    for _ in range(12):
        offset = rng.randrange(0, SIZE - 4096, 512)
        length = rng.randrange(512, min(300 * KIB, SIZE - offset) + 1, 512)
        if rng.randrange(3):
            content[offset:offset + length] = data = rng.randbytes(length)
            client.pwrite(data, offset)
        else:
            content[offset:offset + length] = bytes(length)
            client.zero(length, offset, rng.choice([0, 1]))
    assert client.pread(SIZE, 0) == bytes(content)
    client.shutdown()
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("nbd-server-stop")
    qmp.execute("block_resize", node_name="disk", size=5 * MIB)
    content += bytes(5 * MIB - SIZE)
    qmp.execute("block_resize", node_name="disk", size=1 * MIB + 512)
    qmp.execute("block_resize", node_name="disk", size=4 * MIB)
    content[MIB + 512:] = bytes(3 * MIB - 512)
    qmp.execute("blockdev-del", node_name="disk")
    check(image)
    raw = tmp_path / "model.raw"
    raw.write_bytes(content)
    compare(image, raw)


OPTIONS = [
    {"version": "v2"},
    {"cluster-size": 512},
    {"cluster-size": 2 * MIB},
    {"refcount-bits": 1},
    {"refcount-bits": 64, "lazy-refcounts": True},
    {"compression-type": "zstd"},
    {"extended-l2": True},
    {"extended-l2": True, "cluster-size": 16 * KIB, "refcount-bits": 8},
]


@pytest.mark.parametrize("preallocation", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items()))
def test_each_option_with_each_preallocation(qmp, tmp_path, options, preallocation):
    image = tmp_path / "a.qcow2"
    assert run_job(qmp, file=file_ref(image), size=SIZE, preallocation=preallocation, **options) is None
    check(image)
    told = info(image)
    assert told["virtual-size"] == SIZE
    assert told["cluster-size"] == options.get("cluster-size", 64 * KIB)
    specific = told["format-specific"]["data"]
    assert specific["compat"] == ("0.10" if options.get("version") == "v2" else "1.1")
    assert specific["refcount-bits"] == options.get("refcount-bits", 16)
    assert specific.get("extended-l2", False) == options.get("extended-l2", False)
    assert specific.get("lazy-refcounts", False) == options.get("lazy-refcounts", False)
    assert specific["compression-type"] == options.get("compression-type", "zlib")
    if preallocation in ("falloc", "full"):
        assert image.stat().st_blocks * 512 >= SIZE
    use(qmp, image, tmp_path, bytearray(SIZE))


@pytest.mark.parametrize("preallocation", ["off", "metadata", "full"])
@pytest.mark.parametrize("raw, extended", itertools.product([False, True], repeat=2))
def test_data_files(qmp, tmp_path, raw, extended, preallocation):
    image = tmp_path / "a.qcow2"
    data = tmp_path / "a.data"
    before = random.Random(1).randbytes(SIZE)
    data.write_bytes(before)
    assert run_job(qmp, size=SIZE, preallocation=preallocation, **{
        "file": file_ref(image), "data-file": file_ref(data), "data-file-raw": raw, "extended-l2": extended}) is None
    check(image)
    specific = info(image)["format-specific"]["data"]
    assert specific["data-file"] == str(data)
    assert specific["data-file-raw"] == raw
    content = bytearray(before if raw else bytes(SIZE))
    use(qmp, image, tmp_path, content)
    if raw:
        assert data.read_bytes() == content


@pytest.mark.parametrize("options", [{}, {"extended-l2": True}, {"extended-l2": True, "preallocation": "metadata"},
                                     {"data-file": True}, {"data-file": True, "extended-l2": True}],
                         ids=lambda options: ",".join(options) or "plain")
def test_on_a_backing_file(qmp, tmp_path, options):
    base = tmp_path / "base.raw"
    content = bytearray(random.Random(2).randbytes(SIZE))
    base.write_bytes(content)
    image = tmp_path / "a.qcow2"
    if "data-file" in options:
        options = {**options, "data-file": file_ref(tmp_path / "a.data")}
    assert run_job(qmp, file=file_ref(image), size=SIZE, **{"backing-file": "base.raw", "backing-fmt": "raw"},
                   **options) is None
    check(image)
    compare(image, base)
    use(qmp, image, tmp_path, content)


@pytest.mark.parametrize("options, message", [
    ({"version": "v2", "extended-l2": True}, "extended-l2: needs version 'v3'"),
    ({"extended-l2": True, "cluster-size": 8192}, "extended-l2: needs a cluster-size of at least 16 KiB, not 8192"),
    ({"version": "v2", "lazy-refcounts": True}, "lazy-refcounts: needs version 'v3'"),
    ({"version": "v2", "compression-type": "zstd"}, "compression-type: 'zstd' needs version 'v3'"),
    ({"version": "v2", "refcount-bits": 8}, "refcount-bits: 8 needs version 'v3'"),
    ({"data-file-raw": True}, "data-file-raw: needs data-file"),
    ({"version": "v2", "data-file": "nobody"}, "data-file: needs version 'v3'"),
    ({"data-file": "nobody", "data-file-raw": True, "backing-file": "b", "backing-fmt": "raw"},
     "data-file-raw: a raw data file cannot show backing-file 'b'"),
    ({"backing-file": "b", "backing-fmt": "raw", "preallocation": "full"}, "preallocation: would hide backing-file 'b'"),
    ({"backing-file": "b"}, "backing-fmt: is missing"),
])
def test_what_contradicts_itself_is_refused_with_the_reason(qmp, tmp_path, options, message):
    image = tmp_path / "a.qcow2"
    assert message in run_job(qmp, file=file_ref(image), size=SIZE, **options)
    assert image.stat().st_size == 0


def test_a_data_file_is_seen_in_the_graph(qmp, tmp_path):
    image = tmp_path / "a.qcow2"
    data = tmp_path / "a.data"
    assert run_job(qmp, size=SIZE, **{"file": file_ref(image), "data-file": file_ref(data)}) is None
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "data", "filename": str(data)})
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "disk", "data-file": "data",
                                 "file": {"driver": "file", "filename": str(image)}})
    disk = next(node for node in qmp.execute("query-named-block-nodes") if node["node-name"] == "disk")
    assert {child["child"] for child in disk["children"]} == {"file", "data-file"}
    specific = disk["image"]["format-specific"]["data"]
    assert specific["data-file"] == str(data) and specific["data-file-raw"] is False
    assert "disk" in str(qmp.error("blockdev-del", node_name="data"))
    qmp.execute("blockdev-del", node_name="disk")
    qmp.execute("blockdev-del", node_name="data")


def test_an_image_with_a_data_file_is_reopened(qmp, tmp_path):
    """Read-only and back; and with a copy of the data file in place of the data file."""
    image = tmp_path / "a.qcow2"
    data = tmp_path / "a.data"
    assert run_job(qmp, size=SIZE, **{"file": file_ref(image), "data-file": file_ref(data)}) is None
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "file", "filename": str(image)})
    options = {"driver": "qcow2", "node-name": "disk", "file": "file", "discard": "unmap"}
    qmp.execute("blockdev-add", options)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, "disk")
    client.pwrite(b"x" * 70000, 1000)
    client.shutdown()
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("blockdev-reopen", {"options": [{**options, "read-only": True}]})
    qmp.execute("blockdev-reopen", {"options": [options]})
    copy = tmp_path / "b.data"
    copy.write_bytes(data.read_bytes())
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "copy", "filename": str(copy)})
    qmp.execute("blockdev-reopen", {"options": [{**options, "data-file": "copy"}]})
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, "disk")
    assert client.pread(70000, 1000) == b"x" * 70000
    client.pwrite(b"y" * 70000, 200 * KIB)
    client.shutdown()
    qmp.execute("block-export-del", id="export-disk", mode="hard")
    qmp.execute("nbd-server-stop")
    qmp.execute("blockdev-del", node_name="disk")
    assert copy.read_bytes()[200 * KIB:200 * KIB + 70000] == b"y" * 70000
    assert data.read_bytes()[200 * KIB:200 * KIB + 70000] == bytes(70000)
    qmp.execute("blockdev-del", node_name="copy")
    qmp.execute("blockdev-del", node_name="file")
    check(image)
