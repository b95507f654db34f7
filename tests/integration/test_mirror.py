"""blockdev-mirror: the target is what the source is, whatever is written meanwhile, and takes over without its guest
noticing."""

import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, check, compare, content, create, qemu_io, run
from jobs import wait_status

SIZE = 8 * MIB


def add_file(qmp, name, path, fmt="raw", **options):
    qmp.execute("blockdev-add", driver=fmt, node_name=name, discard="unmap",
                file={"driver": "file", "filename": str(path), "discard": "unmap"}, **options)


def make_source(qmp, directory, graph):
    """The top node of the graph, and its content."""
    base, top = directory / "base.img", directory / "top.qcow2"
    create(base, SIZE, fmt="raw")
    qemu_io(base, "write -P 17 0 1m", "write -P 18 3m 300k", "write -P 19 7168k 1k", fmt="raw")
    create(top, SIZE, backing=base, backing_fmt="raw", cluster_size="4k")
    qemu_io(top, "write -P 20 512k 64k", "write -z 3m 64k", "write -P 21 5m 12k")
    model = bytearray(content(top))
    add_file(qmp, "top", top, "qcow2")
    if graph == "raw-over-qcow2":
        qmp.execute("blockdev-add", driver="raw", node_name="disk", file="top", discard="unmap")
    elif graph == "filter-over-qcow2":
        qmp.execute("blockdev-add", driver="blkdebug", node_name="disk", image="top", discard="unmap")
    return ("top" if graph == "qcow2" else "disk"), model


def make_target(qmp, directory, kind):
    path = directory / "target"
    if kind == "raw":
        path.write_bytes(b"\xee" * SIZE)  # whatever it held before is gone afterwards
        add_file(qmp, "target", path)
    else:
        create(path, SIZE)
        add_file(qmp, "target", path, "qcow2")
    return path


@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
@pytest.mark.parametrize("target", ["raw", "qcow2"])
@pytest.mark.parametrize("graph", ["qcow2", "raw-over-qcow2", "filter-over-qcow2"])
def test_full_under_load(daemon, qmp, tmp_path, graph, target, copy_mode):
    source, model = make_source(qmp, tmp_path, graph)
    path = make_target(qmp, tmp_path, target)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)

    with Guests(socket, source, model) as guests:
        guests.let_work()
        qmp.execute("blockdev-mirror", job_id="m0", device=source, target="target", sync="full",
                    copy_mode=copy_mode, auto_dismiss=False)
        qmp.wait_event("BLOCK_JOB_READY")
        guests.let_work()
        qmp.execute("block-job-complete", device="m0")
        wait_status(qmp, "m0", "concluded")
        job = qmp.execute("query-jobs")[0]
        assert "error" not in job, job
        qmp.execute("job-dismiss", id="m0")
        qmp.execute("blockdev-del", node_name=source)  # nobody uses it any more
        guests.let_work()

    client = nbd_client.connect(socket, source)
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    daemon.stop()
    (tmp_path / "model").write_bytes(model)
    compare(path, tmp_path / "model", fmt=target)
    if target == "qcow2":
        check(path)


def test_a_mirror_that_is_cancelled_when_ready_leaves_a_copy_of_the_moment(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = make_target(qmp, tmp_path, "raw")
    qmp.execute("blockdev-mirror", job_id="m0", device=source, target="target", sync="full")
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("block-job-cancel", device="m0")
    assert "error" not in qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]
    wait_status(qmp, "m0", "null")
    qmp.execute("blockdev-del", node_name="target")
    assert path.read_bytes() == bytes(model)
    assert qmp.execute("query-block-jobs") == []


@pytest.mark.parametrize("force", [False, True])
def test_a_mirror_that_is_cancelled_before_leaves_the_source_as_it_was(daemon, qmp, tmp_path, force):
    source, model = make_source(qmp, tmp_path, "qcow2")
    make_target(qmp, tmp_path, "raw")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    with Guests(socket, source, model) as guests:
        qmp.execute("blockdev-mirror", job_id="m0", device=source, target="target", sync="full", speed=1)
        guests.let_work()
        qmp.execute("block-job-cancel", device="m0", force=force)
        qmp.wait_event("BLOCK_JOB_CANCELLED")
        wait_status(qmp, "m0", "null")
        guests.let_work()
    client = nbd_client.connect(socket, source)
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    qmp.execute("blockdev-del", node_name="target")


def test_top_copies_what_the_overlay_has(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = create(tmp_path / "copy.qcow2", SIZE, backing=tmp_path / "base.img", backing_fmt="raw")
    add_file(qmp, "target", path, "qcow2")
    qmp.execute("blockdev-mirror", job_id="m0", device=source, target="target", sync="top")
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("block-job-complete", device="m0")
    wait_status(qmp, "m0", "null")
    daemon.stop()
    (tmp_path / "model").write_bytes(model)
    compare(path, tmp_path / "model")
    check(path)
    assert path.stat().st_blocks * 512 < 1 * MIB  # the base's megabyte was not copied


@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
@pytest.mark.parametrize("complete", [False, True])
def test_a_broken_child_of_a_quorum_is_replaced(daemon, qmp, tmp_path, copy_mode, complete):
    for number in range(3):
        (tmp_path / f"disk{number}").write_bytes(bytes([7 if number != 1 else 9]) * SIZE)
        add_file(qmp, f"disk{number}", tmp_path / f"disk{number}")
    (tmp_path / "short").write_bytes(bytes(SIZE // 2))
    add_file(qmp, "short", tmp_path / "short")
    qmp.execute("blockdev-add", {"driver": "quorum", "node-name": "quorum", "vote-threshold": 2,
                                 "children": ["disk0", "disk1", "disk2"]})
    path = make_target(qmp, tmp_path, "qcow2")
    model = bytearray(b"\7" * SIZE)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "quorum", writable=True)
    given = {"job-id": "m0", "device": "quorum", "target": "target", "sync": "full", "auto-dismiss": False}
    error = qmp.error("blockdev-mirror", given | {"replaces": "short"})
    assert "cannot replace image with a mirror image of different size" in str(error)
    error = qmp.error("blockdev-mirror", given | {"replaces": "nosuch"})
    assert "Cannot find device='nosuch' nor node-name='nosuch'" in str(error)
    with Guests(socket, "quorum", model) as guests:
        guests.let_work(20)
        qmp.execute("blockdev-mirror", given | {"replaces": "disk1", "copy-mode": copy_mode})
        qmp.wait_event("BLOCK_JOB_READY")
        assert "block job 'm0'" in str(qmp.error("blockdev-del", node_name="target"))
        guests.let_work(20)
        qmp.execute("block-job-complete" if complete else "block-job-cancel", device="m0")
        assert qmp.wait_job("m0") is None
        guests.let_work(20)
    client = nbd_client.connect(socket, "quorum")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    qmp.execute("blockdev-del", node_name="disk1" if complete else "target")  # nobody uses it any more
    daemon.stop()
    if complete:
        (tmp_path / "model").write_bytes(model)
        compare(path, tmp_path / "model")
        check(path)
    assert (tmp_path / "disk0").read_bytes() == bytes(model)


def test_a_mirror_protects_its_nodes(daemon, qmp, tmp_path):
    source, _ = make_source(qmp, tmp_path, "qcow2")
    make_target(qmp, tmp_path, "raw")
    qmp.execute("blockdev-mirror", job_id="m0", device=source, target="target", sync="full", filter_node_name="f")
    qmp.wait_event("BLOCK_JOB_READY")
    for node in (source, "target"):
        assert "block job 'm0'" in str(qmp.error("blockdev-del", node_name=node))
    assert "block job 'm0'" in str(qmp.error("block_resize", node_name=source, size=SIZE * 2))
    qmp.execute("block-job-cancel", device="m0", force=True)
    qmp.wait_event("BLOCK_JOB_CANCELLED")


@pytest.mark.parametrize("arguments, message", [
    ({"device": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"target": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"target": "top"}, "Can't mirror node into itself"),
    ({"sync": "incremental"}, "Sync mode 'incremental' not supported"),
    ({"granularity": 3000}, "expected a power of two"),
    ({"speed": -1}, "expected a non-negative value"),
    ({"target": "short"}, "Source and target image have different sizes"),
])
def test_what_cannot_be_mirrored_is_refused(daemon, qmp, tmp_path, arguments, message):
    make_source(qmp, tmp_path, "qcow2")
    make_target(qmp, tmp_path, "raw")
    (tmp_path / "short.img").write_bytes(bytes(SIZE - 64 * KIB))
    add_file(qmp, "short", tmp_path / "short.img")
    before = {node["node-name"] for node in qmp.execute("query-named-block-nodes")}
    given = {"job-id": "m0", "device": "top", "target": "target", "sync": "full"} | arguments
    assert message in str(qmp.error("blockdev-mirror", given))
    assert {node["node-name"] for node in qmp.execute("query-named-block-nodes")} == before
    assert qmp.execute("query-jobs") == []


def test_an_overlay_cannot_come_between_a_job_and_its_node(daemon, qmp, tmp_path):
    """The job would not see what is written above its node."""
    source, _ = make_source(qmp, tmp_path, "qcow2")
    make_target(qmp, tmp_path, "raw")
    create(tmp_path / "overlay.qcow2", SIZE)
    add_file(qmp, "overlay", tmp_path / "overlay.qcow2", "qcow2", backing=None)
    qmp.execute("blockdev-mirror", job_id="m0", device=source, target="target", sync="full")
    for node in (source, "target"):
        error = qmp.error("blockdev-snapshot", node=node, overlay="overlay")
        assert f"node '{node}' is in use by block job 'm0'" in str(error)
    qmp.execute("block-job-cancel", device="m0", force=True)
    wait_status(qmp, "m0", "null")
    qmp.execute("blockdev-snapshot", node=source, overlay="overlay")


# drive-mirror ---------------------------------------------------------------------------------------------------


def finish(qmp, job):
    qmp.wait_event("BLOCK_JOB_READY")
    qmp.execute("block-job-complete", device=job)
    assert "error" not in qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]
    wait_status(qmp, job, "null")


@pytest.mark.parametrize("fmt", [None, "raw", "qcow2"])
@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_drive_mirror_makes_its_target(daemon, qmp, tmp_path, sync, fmt):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = tmp_path / "copy"
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    arguments = {"job-id": "m0", "device": source, "target": str(path), "sync": sync, "node-name": "copy"}
    if fmt == "raw" and sync != "full":
        assert "'raw' does not support backing" in str(qmp.error("drive-mirror", arguments | {"format": fmt}))
        return
    qmp.execute("drive-mirror", arguments | ({"format": fmt} if fmt else {}))
    with Guests(socket, source, model) as guests:
        guests.let_work(20)
        qmp.wait_event("BLOCK_JOB_READY")
        guests.let_work(20)
        qmp.execute("block-job-complete", device="m0")
        assert "error" not in qmp.wait_event("BLOCK_JOB_COMPLETED")["data"]
        wait_status(qmp, "m0", "null")
        guests.let_work(20)
    client = nbd_client.connect(socket, source)
    assert nbd_client.read_all(client) == bytes(model)
    assert qmp.execute("query-block-exports")[0]["node-name"] == "copy"
    client.shutdown()
    daemon.stop()
    (tmp_path / "model").write_bytes(model)
    compare(path, tmp_path / "model", fmt=fmt or "qcow2")
    if fmt != "raw":
        check(path)


@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_drive_mirror_to_a_file_that_exists(daemon, qmp, tmp_path, sync):
    source, model = make_source(qmp, tmp_path, "qcow2")
    below = {"full": None, "top": tmp_path / "base.img", "none": tmp_path / "top.qcow2"}[sync]
    path = create(tmp_path / "copy.qcow2", SIZE)
    if below:
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", below, "-F", "raw" if sync == "top" else "qcow2", path)
    qmp.execute("drive-mirror", job_id="m0", device=source, target=str(path), sync=sync, mode="existing")
    finish(qmp, "m0")
    daemon.stop()
    (tmp_path / "model").write_bytes(model)
    compare(path, tmp_path / "model")
    check(path)


@pytest.mark.parametrize("arguments, message", [
    ({"device": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"format": "nosuch"}, "Unknown driver 'nosuch'"),
    ({"format": "quorum"}, "images of format 'quorum' cannot be made here"),
    ({"replaces": "top"}, "a node-name must be provided when replacing a named node of the graph"),
    ({"sync": "bitmap"}, "Sync mode 'bitmap' not supported"),
    ({"target": "missing/copy"}, "No such file or directory"),
    ({"mode": "existing"}, "No such file or directory"),
    ({"node-name": "top"}, "top"),
])
def test_a_drive_mirror_that_is_refused_leaves_nothing(daemon, qmp, tmp_path, arguments, message):
    make_source(qmp, tmp_path, "qcow2")
    before = {node["node-name"] for node in qmp.execute("query-named-block-nodes")}
    given = {"job-id": "m0", "device": "top", "target": str(tmp_path / "copy"), "sync": "full"} | arguments
    assert message in str(qmp.error("drive-mirror", given))
    assert {node["node-name"] for node in qmp.execute("query-named-block-nodes")} == before
    assert qmp.execute("query-jobs") == []
