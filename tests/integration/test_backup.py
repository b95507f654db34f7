"""blockdev-backup: the target is what the source was at one moment, whatever is written afterwards, and bitmaps say what
the next backup has to copy."""

import errno
import json
import time

import nbd
import pytest

import nbd_client
from guests import Guests
from images import KIB, MIB, check, compare, create, qemu_io, qemu_map, rng_of, run
from jobs import AT_ONCE, wait_held, wait_status
from test_mirror import SIZE, add_file, make_source, make_target
from test_no_space import SPACE, small  # noqa: F401 (a fixture)

CLUSTER = 64 * KIB


def backup(qmp, source="top", target="target", job="b0", **arguments):
    qmp.execute("blockdev-backup", {"job-id": job, "device": source, "target": target, "sync": "full",
                                    "auto-dismiss": False}
                | {name.replace("_", "-"): value for name, value in arguments.items()})


def finished(qmp, job="b0"):
    """Its error, or None."""
    error = qmp.wait_job(job)
    assert qmp.execute("query-block-jobs") == []
    return error


def cancel(qmp, job="b0"):
    qmp.execute("block-job-cancel", device=job)
    qmp.wait_event("BLOCK_JOB_CANCELLED")
    finished(qmp, job)


def bitmap_of(qmp, node, name="bits"):
    nodes = {info["node-name"]: info for info in qmp.execute("query-named-block-nodes")}
    return {info["name"]: info for info in nodes[node]["dirty-bitmaps"]}[name]


def dirty(qmp, socket, node, name="bits"):
    return nbd_client.dirty_units(qmp, socket, node, name, CLUSTER)


def same(path, fmt, model, directory):
    (directory / "model").write_bytes(model)
    compare(path, directory / "model", fmt=fmt)
    if fmt == "qcow2":
        check(path)


# What the target holds ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", ["raw", "qcow2"])
@pytest.mark.parametrize("graph", ["qcow2", "raw-over-qcow2", "filter-over-qcow2"])
def test_full_is_the_moment_whatever_is_written(daemon, qmp, tmp_path, graph, target):
    source, model = make_source(qmp, tmp_path, graph)
    path = make_target(qmp, tmp_path, target)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    with Guests(socket, source, model, count=3) as guests:
        guests.let_work()
        with guests.held():
            moment = bytes(model)
            backup(qmp, source, speed=1)
        guests.let_work()
        qmp.execute("block-job-set-speed", device="b0", speed=0)
        assert finished(qmp) is None
        guests.let_work()
    client = nbd_client.connect(socket, source)
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    qmp.execute("blockdev-del", node_name="target")
    same(path, target, moment, tmp_path)


def test_holes_stay_holes(daemon, qmp, tmp_path):
    create(tmp_path / "disk.qcow2", 1024 * MIB)
    qemu_io(tmp_path / "disk.qcow2", "write -P 1 100m 1m", "write -P 0 200m 4m")
    create(tmp_path / "target", 1024 * MIB)
    add_file(qmp, "disk", tmp_path / "disk.qcow2", "qcow2")
    add_file(qmp, "target", tmp_path / "target", "qcow2")
    backup(qmp, "disk")
    assert finished(qmp) is None
    daemon.stop()
    data = [extent for extent in qemu_map(tmp_path / "target") if extent["data"]]
    assert [(extent["start"], extent["length"]) for extent in data] == [(100 * MIB, MIB)]
    check(tmp_path / "target")


def test_top_copies_what_the_overlay_has(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = create(tmp_path / "copy.qcow2", SIZE, backing=tmp_path / "base.img", backing_fmt="raw")
    add_file(qmp, "target", path, "qcow2")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    with Guests(socket, source, model) as guests:
        with guests.held():
            moment = bytes(model)
            backup(qmp, source, sync="top")
        guests.let_work()
        assert finished(qmp) is None
    qmp.execute("blockdev-del", node_name="target")
    same(path, "qcow2", moment, tmp_path)
    assert path.stat().st_blocks * 512 < 1 * MIB  # the base's megabyte was not copied


def test_none_keeps_what_is_overwritten(daemon, qmp, tmp_path):
    """Fleecing: the target is an overlay of the source, and shows the moment."""
    source, model = make_source(qmp, tmp_path, "qcow2")
    create(tmp_path / "fleece", SIZE)
    add_file(qmp, "target", tmp_path / "fleece", "qcow2", backing=source)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    with Guests(socket, source, model) as guests:
        guests.let_work()
        with guests.held():
            moment = bytes(model)
            backup(qmp, source, sync="none")
        nbd_client.export(qmp, "target")
        guests.let_work()
        client = nbd_client.connect(socket, "target")
        assert nbd_client.read_all(client) == moment
        guests.let_work()
        assert nbd_client.read_all(client) == moment
        client.shutdown()
        cancel(qmp)
    daemon.stop()
    check(tmp_path / "fleece")


def test_compressed(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = make_target(qmp, tmp_path, "qcow2")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    with Guests(socket, source, model) as guests:
        with guests.held():
            moment = bytes(model)
            backup(qmp, source, compress=True)
        guests.let_work()
        assert finished(qmp) is None
    daemon.stop()
    same(path, "qcow2", moment, tmp_path)
    assert json.loads(run("qemu-img", "check", "--output=json", path).stdout)["compressed-clusters"] > 0


def test_a_target_with_large_clusters_is_written_in_whole_ones(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = create(tmp_path / "target", SIZE, cluster_size="1M", backing=tmp_path / "base.img", backing_fmt="raw")
    add_file(qmp, "target", path, "qcow2")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    with Guests(socket, source, model) as guests:
        with guests.held():
            moment = bytes(model)
            backup(qmp, source, x_perf={"max-workers": 2, "max-chunk": MIB})
        guests.let_work()
        assert finished(qmp) is None
    daemon.stop()
    same(path, "qcow2", moment, tmp_path)


def test_two_backups_of_one_node_at_once(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        create(path, SIZE)
        add_file(qmp, path.name, path, "qcow2")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    moments = []
    with Guests(socket, source, model) as guests:
        for path in paths:
            with guests.held():
                moments.append(bytes(model))
                backup(qmp, source, path.name, job=path.name, speed=1)
            guests.let_work(20)
        for path in paths:
            qmp.execute("block-job-set-speed", device=path.name, speed=0)
            assert qmp.wait_job(path.name) is None
        guests.let_work(20)
    daemon.stop()
    for path, moment in zip(paths, moments):
        same(path, "qcow2", moment, tmp_path)


def test_what_was_copied_is_discarded_in_a_temporary_source(daemon, qmp, tmp_path):
    source, model = make_source(qmp, tmp_path, "qcow2")
    create(tmp_path / "temp", SIZE)
    add_file(qmp, "temp", tmp_path / "temp", "qcow2")
    path = make_target(qmp, tmp_path, "qcow2")
    qmp.execute("blockdev-add", driver="copy-before-write", node_name="cbw", file=source, target="temp",
                discard="unmap")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "cbw", writable=True)
    qmp.execute("blockdev-add", driver="snapshot-access", node_name="snap", file="cbw", discard="unmap")
    moment = bytes(model)
    client = nbd_client.connect(socket, "cbw")
    client.pwrite(b"\x5a" * (2 * MIB), 0)
    backup(qmp, "snap", discard_source=True)
    assert finished(qmp) is None
    client.shutdown()
    daemon.stop()
    same(path, "qcow2", moment, tmp_path)
    assert not [extent for extent in qemu_map(tmp_path / "temp") if extent["data"]]


# Bitmaps --------------------------------------------------------------------------------------------------------

@pytest.fixture
def disk(daemon, qmp, tmp_path):
    """An empty disk with a bitmap and a client that writes."""
    create(tmp_path / "disk.qcow2", SIZE)
    add_file(qmp, "disk", tmp_path / "disk.qcow2", "qcow2")
    qmp.execute("block-dirty-bitmap-add", node="disk", name="bits", granularity=CLUSTER, persistent=True)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    client = nbd_client.connect(socket, "disk")
    client.sock = socket
    yield client


def write(client, *clusters, mark=1):
    for cluster in clusters:
        client.pwrite(bytes([mark]) * CLUSTER, cluster * CLUSTER)


@pytest.mark.parametrize("end", ["success", "cancel", "failure"])
@pytest.mark.parametrize("mode", ["on-success", "never", "always"])
def test_the_bitmap_after_each_end(daemon, qmp, tmp_path, disk, mode, end):
    rules = [{"event": "none", "iotype": "write", "sector": 40 * CLUSTER // 512, "errno": errno.EIO}]
    create(tmp_path / "target", SIZE, fmt="raw")
    qmp.execute("blockdev-add", driver="blkdebug", node_name="target",
                inject_error=rules if end == "failure" else [],
                image={"driver": "file", "filename": str(tmp_path / "target")})
    write(disk, 3, 40)
    chunks = {"max-workers": 1, "max-chunk": CLUSTER}
    backup(qmp, "disk", sync="bitmap", bitmap="bits", bitmap_mode=mode, speed=1, auto_finalize=False,
           x_perf=chunks)
    write(disk, 5, 40 if end != "failure" else 41)
    assert bitmap_of(qmp, "disk")["busy"]
    assert bitmap_of(qmp, "disk")["recording"]
    assert "in use by another operation" in str(qmp.error("block-dirty-bitmap-clear", node="disk", name="bits"))
    if end != "cancel":
        qmp.execute("block-job-set-speed", device="b0", speed=0)
    if end == "success":
        wait_status(qmp, "b0", "pending")
        qmp.execute("job-finalize", id="b0")
        assert finished(qmp) is None
    elif end == "cancel":
        cancel(qmp)
    else:
        assert "Input/output error" in finished(qmp)
    assert not bitmap_of(qmp, "disk")["busy"]
    written = {5, 40 if end != "failure" else 41}
    left = {3, 40}
    if mode == "always":
        left = {40} if end == "failure" else set()  # when it was cancelled, a guest's write had copied it
    elif mode == "on-success" and end == "success":
        left = set()
    found = dirty(qmp, disk.sock, "disk")
    if mode == "always" and end == "cancel":
        found -= {3}  # copied or not, who knows
    assert found == written | left


def test_an_incremental_chain_restores_every_moment(daemon, qmp, tmp_path, disk):
    model = bytearray(SIZE)
    disk.shutdown()
    rng = rng_of("incremental chain")
    moments, previous = [], None
    with Guests(disk.sock, "disk", model, count=2) as guests:
        for number in range(5):
            guests.let_work(rng.randrange(5, 40))
            path = tmp_path / f"backup{number}"
            create(path, SIZE, **({"backing": previous} if previous else {}))
            qmp.execute("blockdev-add", driver="qcow2", node_name="target", discard="unmap",
                        file={"driver": "file", "filename": str(path), "discard": "unmap"})
            arguments = {"sync": "incremental"} if previous else {"sync": "full", "bitmap_mode": "on-success"}
            if number == 2:  # one that is given up in between costs nothing
                backup(qmp, "disk", bitmap="bits", speed=CLUSTER, **arguments)
                guests.let_work(10)
                cancel(qmp)
            with guests.held():
                moments.append((path, bytes(model)))
                backup(qmp, "disk", bitmap="bits", **arguments)
            guests.let_work(10)
            assert finished(qmp) is None
            qmp.execute("blockdev-del", node_name="target")
            previous = path
    for path, moment in moments:
        same(path, "qcow2", moment, tmp_path)


def test_a_persistent_bitmap_goes_on_after_a_restart(start_daemon, tmp_path):
    create(tmp_path / "disk.qcow2", SIZE)
    create(tmp_path / "full", SIZE)
    create(tmp_path / "next", SIZE, backing=tmp_path / "full")
    model = bytearray(SIZE)
    for number, (target, sync) in enumerate([("full", "full"), ("next", "incremental")]):
        daemon = start_daemon()
        with daemon.connect() as qmp:
            add_file(qmp, "disk", tmp_path / "disk.qcow2", "qcow2")
            add_file(qmp, "target", tmp_path / target, "qcow2")
            if number == 0:
                qmp.execute("block-dirty-bitmap-add", node="disk", name="bits", persistent=True)
            socket = nbd_client.start_server(qmp, tmp_path)
            nbd_client.export(qmp, "disk", writable=True)
            mode = {"bitmap_mode": "on-success"} if sync == "full" else {}
            moment = bytes(model)
            backup(qmp, "disk", sync=sync, bitmap="bits", **mode)
            client = nbd_client.connect(socket, "disk")
            write(client, 7, 8, mark=number + 1)
            model[7 * CLUSTER:9 * CLUSTER] = bytes([number + 1]) * (2 * CLUSTER)
            assert finished(qmp) is None
            client.shutdown()
        daemon.stop()
    same(tmp_path / "next", "qcow2", moment, tmp_path)
    allocated = {extent["start"] // CLUSTER for extent in qemu_map(tmp_path / "next") if extent["depth"] == 0}
    assert allocated == {7}
    check(tmp_path / "disk.qcow2")


# Errors ---------------------------------------------------------------------------------------------------------

def add_failing(qmp, name, image, **rule):
    rule = {"event": "none", "errno": errno.EIO, "once": True} | rule
    qmp.execute("blockdev-add", driver="blkdebug", node_name=name, discard="unmap",
                inject_error=[{key.replace("_", "-"): value for key, value in rule.items()}], image=image)


@pytest.mark.parametrize("policy", ["report", "ignore", "stop", "enospc"])
@pytest.mark.parametrize("where", ["source", "target"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_errors_do_what_the_policy_says(daemon, qmp, tmp_path, where, policy, number):
    source, model = make_source(qmp, tmp_path, "qcow2")
    path = create(tmp_path / "target", SIZE)
    image = {"driver": "qcow2", "discard": "unmap", "file": {"driver": "file", "filename": str(path)}}
    if where == "source":
        add_failing(qmp, "bad", "top", iotype="read", errno=number)
        add_file(qmp, "target", path, "qcow2")
        names = ("bad", "target")
    else:
        add_failing(qmp, "bad", image, iotype="write", errno=number)
        names = ("top", "bad")
    backup(qmp, *names, **{f"on_{where}_error": policy})
    stops = policy == "stop" or (policy == "enospc" and number == errno.ENOSPC)
    event = qmp.wait_event("BLOCK_JOB_ERROR")["data"]
    assert event["operation"] == ("read" if where == "source" else "write")
    assert event["action"] == ("stop" if stops else "ignore" if policy == "ignore" else "report")
    if stops:
        wait_status(qmp, "b0", "paused")
        job = qmp.execute("query-block-jobs")[0]
        assert job["io-status"] == ("nospace" if number == errno.ENOSPC else "failed")
        qmp.execute("block-job-resume", device="b0")
    error = finished(qmp)
    assert (error is None) == (stops or policy == "ignore"), error
    if error is not None:
        backup(qmp, *names)  # the second try finds what the first has left
        assert finished(qmp) is None
    daemon.stop()
    same(path, "qcow2", model, tmp_path)
    check(tmp_path / "top.qcow2")


def failing_target(qmp, directory, offset):
    """A write there always fails, also one that a guest's write makes necessary."""
    (directory / "target").write_bytes(bytes(SIZE))
    add_failing(qmp, "target", {"driver": "file", "filename": str(directory / "target")}, once=False, iotype="write",
                sector=offset // 512)


def test_a_guest_fails_rather_than_the_moment_is_lost(daemon, qmp, tmp_path):
    make_source(qmp, tmp_path, "qcow2")
    failing_target(qmp, tmp_path, 0)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "top", writable=True)
    client = nbd_client.connect(socket, "top")
    backup(qmp, sync="none", on_cbw_error="break-guest-write")
    with pytest.raises(nbd.Error):
        client.pwrite(b"\1" * CLUSTER, 0)
    assert qmp.execute("query-block-jobs")[0]["status"] == "running"
    cancel(qmp)
    client.pwrite(b"\1" * CLUSTER, 0)
    client.shutdown()


@pytest.mark.parametrize("sync", ["none", "full"])
def test_a_backup_fails_rather_than_the_guest(daemon, qmp, tmp_path, sync):
    make_source(qmp, tmp_path, "qcow2")
    failing_target(qmp, tmp_path, 5 * MIB)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "top", writable=True)
    client = nbd_client.connect(socket, "top")
    backup(qmp, sync=sync, on_cbw_error="break-snapshot", on_target_error="ignore", speed=1)
    client.pwrite(b"\1" * CLUSTER, 5 * MIB)
    assert "the point in time of node 'top' is lost: Input/output error" in finished(qmp)
    client.shutdown()


@pytest.mark.parametrize("where, held", [("target", "write"), ("target", "flush"), ("source", "read")])
def test_storage_that_hangs_delays_neither_cancel_nor_guest(daemon, qmp, tmp_path, where, held):
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(b"\5" * SIZE)
        qmp.execute("blockdev-add", driver="gate", node_name=name,
                    file={"driver": "file", "filename": str(tmp_path / name)})
    qmp.execute("block-dirty-bitmap-add", node="source", name="bits")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "source", writable=True)
    client = nbd_client.connect(socket, "source")
    qmp.execute("x-gate-hold", node_name=where, operation=held)
    backup(qmp, "source", bitmap="bits", bitmap_mode="on-success")
    wait_held(qmp, where)
    write = client.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"\1" * CLUSTER)), 7 * MIB)
    begun = time.monotonic()
    cancel(qmp)
    assert time.monotonic() - begun < AT_ONCE
    while not client.aio_command_completed(write):
        client.poll(-1)
    assert not bitmap_of(qmp, "source")["busy"]
    client.pwrite(b"\2" * CLUSTER, 2 * MIB)
    qmp.execute("x-gate-release", node_name=where, operation=held)
    client.shutdown()


def test_a_target_without_space_goes_on_when_there_is_some(daemon, qmp, tmp_path, small):
    noise = rng_of("no space").randbytes(SIZE)
    (tmp_path / "source").write_bytes(noise)
    (small / "filler").write_bytes(bytes(SPACE - SIZE // 2))
    create(small / "target", SIZE)
    add_file(qmp, "source", tmp_path / "source")
    add_file(qmp, "target", small / "target", "qcow2")
    backup(qmp, "source", on_target_error="enospc")
    assert qmp.wait_event("BLOCK_JOB_ERROR")["data"]["action"] == "stop"
    wait_status(qmp, "b0", "paused")
    assert qmp.execute("query-block-jobs")[0]["io-status"] == "nospace"
    (small / "filler").unlink()
    qmp.execute("block-job-resume", device="b0")
    assert finished(qmp) is None
    daemon.stop()
    same(small / "target", "qcow2", noise, tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_cancelled_at_random_times(daemon, qmp, tmp_path, seed):
    source, model = make_source(qmp, tmp_path, "qcow2")
    rng = rng_of(f"cancelled backup {seed}")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, source, writable=True)
    qmp.execute("block-dirty-bitmap-add", node=source, name="bits")
    path = make_target(qmp, tmp_path, "qcow2")
    with Guests(socket, source, model, seed=f"cancelled {seed}") as guests:
        for _ in range(20):
            backup(qmp, source, sync=rng.choice(["full", "top", "none"]), speed=rng.choice([0, MIB, 8 * MIB]),
                   auto_finalize=False, compress=rng.random() < 0.3)
            guests.let_work(rng.randrange(0, 6))
            cancel(qmp)
        with guests.held():
            moment = bytes(model)
            backup(qmp, source)
        assert finished(qmp) is None
    daemon.stop()
    same(path, "qcow2", moment, tmp_path)
    check(tmp_path / "top.qcow2")


# Who may do what ------------------------------------------------------------------------------------------------

def test_a_backup_protects_its_nodes(daemon, qmp, tmp_path):
    make_source(qmp, tmp_path, "qcow2")
    make_target(qmp, tmp_path, "raw")
    nbd_client.start_server(qmp, tmp_path)
    backup(qmp, speed=1, filter_node_name="f")
    for node in ("top", "target"):
        assert "block job 'b0'" in str(qmp.error("blockdev-del", node_name=node))
        add = {"type": "nbd", "id": "e", "node-name": node, "writable": True}
        assert "block job 'b0'" in str(qmp.error("block-export-add", add))
    reopened = {"driver": "copy-before-write", "node-name": "f", "file": "target", "target": "target"}
    assert "belongs to block job 'b0'" in str(qmp.error("blockdev-reopen", options=[reopened]))
    assert "block job 'b0'" in str(qmp.error("block_resize", node_name="top", size=SIZE * 2))
    cancel(qmp)
    qmp.execute("blockdev-del", node_name="target")


@pytest.mark.parametrize("arguments, message", [
    ({"device": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"target": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"target": "top"}, "Source and target cannot be the same"),
    ({"target": "short"}, "Source and target image have different sizes"),
    ({"speed": -1}, "expected a non-negative value"),
    ({"compress": True}, "Compression is not supported for this drive target"),
    ({"sync": "incremental"}, "must provide a valid bitmap name for 'incremental' sync mode"),
    ({"sync": "bitmap", "bitmap": "nosuch", "bitmap-mode": "never"}, "Bitmap 'nosuch' could not be found"),
    ({"sync": "bitmap", "bitmap": "bits"}, "Bitmap sync mode must be given when providing a bitmap"),
    ({"sync": "incremental", "bitmap": "bits", "bitmap-mode": "never"}, "Bitmap sync mode must be 'on-success'"),
    ({"sync": "none", "bitmap": "bits", "bitmap-mode": "always"}, "does not produce meaningful bitmap outputs"),
    ({"bitmap": "bits", "bitmap-mode": "never"}, "has no meaningful effect"),
    ({"bitmap-mode": "never"}, "Cannot specify bitmap sync mode without a bitmap"),
    ({"x-perf": {"max-chunk": 4096}}, "max-chunk (4096) is less than backup cluster size (65536)"),
    ({"x-perf": {"max-workers": 0}}, "max-workers"),
    ({"x-perf": {"min-cluster-size": 3000}}, "min-cluster-size needs to be a power of 2"),
])
def test_what_cannot_be_backed_up_is_refused(daemon, qmp, tmp_path, arguments, message):
    make_source(qmp, tmp_path, "qcow2")
    make_target(qmp, tmp_path, "raw")
    (tmp_path / "short.img").write_bytes(bytes(SIZE - CLUSTER))
    add_file(qmp, "short", tmp_path / "short.img")
    qmp.execute("block-dirty-bitmap-add", node="top", name="bits")
    before = {node["node-name"] for node in qmp.execute("query-named-block-nodes")}
    given = {"job-id": "b0", "device": "top", "target": "target", "sync": "full"} | arguments
    assert message in str(qmp.error("blockdev-backup", given))
    assert {node["node-name"] for node in qmp.execute("query-named-block-nodes")} == before
    assert qmp.execute("query-jobs") == []
    assert not bitmap_of(qmp, "top")["busy"]
