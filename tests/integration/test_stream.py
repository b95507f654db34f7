"""block-stream: the overlay gets what is below it while guests write to it, and stands on its own, or on the base, after
that."""

import pytest

import chains
import nbd_client
from chains import judge
from guests import Guests, writing_to
from images import KIB, MIB, check, compare, create, qemu_io, qemu_map, rng_of
from jobs import wait_status


def stream(qmp, error=None, **arguments):
    """Starts it as job s0 and waits for its end."""
    qmp.execute("block-stream", {"job-id": "s0", "device": "l3", "auto-dismiss": False} | arguments)
    result = qmp.wait_job("s0")
    assert (result is None) if error is None else (error in result), result


@pytest.mark.parametrize("filters", [False, True], ids=["bare", "filters-between"])
@pytest.mark.parametrize("shape", chains.SHAPES)
def test_the_whole_chain_under_load(daemon, qmp, tmp_path, shape, filters):
    paths = chains.make(tmp_path, shape)
    model = chains.model_of(paths)
    chains.add(qmp, paths, filters)
    with writing_to(qmp, tmp_path, "l3", model):
        stream(qmp)
    assert chains.backing_of(paths[3][0]) == (None, None)
    for name in (["f2"] if filters else []) + ["l2"]:
        qmp.execute("blockdev-del", node_name=name)  # nobody uses what was below
    judge(daemon, tmp_path, paths[3][0], model)


@pytest.mark.parametrize("filters", [False, True], ids=["bare", "filters-between"])
@pytest.mark.parametrize("shape", chains.SHAPES)
def test_down_to_a_base_under_load(daemon, qmp, tmp_path, shape, filters):
    paths = chains.make(tmp_path, shape)
    model = chains.model_of(paths)
    chains.add(qmp, paths, filters)
    with writing_to(qmp, tmp_path, "l3", model):
        stream(qmp, **{"base-node": "l0"})
    assert chains.backing_of(paths[3][0]) == (str(paths[0][0]), paths[0][1])
    judge(daemon, tmp_path, paths[3][0], model)


@pytest.mark.parametrize("arguments", [{"base": "layer1.img"}, {"base-node": "l1"}, {"bottom": "l2"}])
def test_the_base_is_named_in_three_ways(daemon, qmp, tmp_path, arguments):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    if "base" in arguments:
        arguments = {"base": str(paths[1][0])}
    stream(qmp, **arguments)
    qmp.execute("blockdev-del", node_name="l2")
    assert chains.backing_of(paths[3][0]) == (str(paths[1][0]), "qcow2")
    judge(daemon, tmp_path, paths[3][0], model)


def test_the_header_says_what_the_client_wants(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    stream(qmp, **{"base-node": "l1", "backing-file": "layer1.img"})
    assert chains.backing_of(paths[3][0]) == ("layer1.img", "qcow2")
    judge(daemon, tmp_path, paths[3][0], model)


def test_a_protocol_below_is_called_raw_where_that_is_wanted(daemon, qmp, tmp_path):
    base = create(tmp_path / "base.img", 1 * MIB, fmt="raw")
    mid = create(tmp_path / "mid.qcow2", 1 * MIB, backing=base, backing_fmt="raw")
    top = create(tmp_path / "top.qcow2", 1 * MIB, backing=mid)
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", file={"driver": "file", "filename": str(top)},
                backing={"driver": "qcow2", "file": {"driver": "file", "filename": str(mid)},
                         "backing": {"driver": "file", "node-name": "base", "filename": str(base)}})
    stream(qmp, device="top", **{"base-node": "base", "backing-mask-protocol": True})
    assert chains.backing_of(top) == (str(base), "raw")


def test_zeroes_are_no_data(daemon, qmp, tmp_path):
    base = create(tmp_path / "base.img", 64 * MIB)
    qemu_io(base, "write -P 7 8m 64k", "write -P 0 16m 2m", "write -z 32m 8m")
    bottom = create(tmp_path / "bottom.img", 64 * MIB)
    mid = create(tmp_path / "mid.img", 64 * MIB, backing=bottom)
    qemu_io(bottom, "write -P 9 0 40m")
    qemu_io(mid, "write -z 0 40m", "write -P 7 8m 64k")
    for name, backing in (("whole", base), ("part", mid)):
        top = create(tmp_path / f"{name}.qcow2", 64 * MIB, backing=backing)
        model = chains.model_of([(top, "qcow2")])
        qmp.execute("blockdev-add", driver="qcow2", node_name=name, file={"driver": "file", "filename": str(top)})
        stream(qmp, device=name, **({"base": str(bottom)} if name == "part" else {}))
        qmp.execute("blockdev-del", node_name=name)
        assert sum(part["length"] for part in qemu_map(top) if part["data"] and part["depth"] == 0) == 64 * KIB
        (tmp_path / "model").write_bytes(model)
        compare(top, tmp_path / "model")
        check(top)


def test_a_read_only_overlay_can_be_written_for_the_time(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths[:3])
    chains.add(qmp, paths)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3")
    stream(qmp, device="l2", **{"base-node": "l0"})  # below a node in use
    nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes")}
    assert nodes["l2"]["ro"]
    qmp.execute("blockdev-del", node_name="l1")
    assert chains.backing_of(paths[2][0]) == (str(paths[0][0]), "qcow2")
    judge(daemon, tmp_path, paths[2][0], model)


@pytest.mark.parametrize("seed", range(3))
def test_cancelled_at_any_moment_the_chain_is_good(daemon, qmp, tmp_path, seed):
    rng = rng_of(f"stream cancel {seed}")
    paths = chains.make(tmp_path, "coarse-over-fine")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    before = chains.names_of(qmp)
    with Guests(socket, "l3", model) as guests:
        for _ in range(8):
            qmp.execute("block-stream", job_id="s0", device="l3", speed=rng.choice([0, 1, 8 * MIB]), base_node="l0",
                        auto_dismiss=False, auto_finalize=False)
            guests.let_work(rng.randrange(1, 12))
            qmp.execute("block-job-cancel", device="s0", force=True)
            qmp.wait_job("s0")
            assert chains.names_of(qmp) == before
    client = nbd_client.connect(socket, "l3")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    assert chains.backing_of(paths[3][0])[0] == str(paths[2][0])
    judge(daemon, tmp_path, paths[3][0], model)


LAYER_OF = {"source": 0, "target": 3}


@pytest.mark.parametrize("where, event", [("source", "read_aio"), ("target", "write_aio")])
@pytest.mark.parametrize("on_error", ["report", "ignore", "stop"])
def test_errors_go_by_the_policy(daemon, qmp, tmp_path, where, event, on_error):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add_failing(qmp, paths, LAYER_OF[where], event)
    qmp.execute("block-stream", job_id="s0", device="l3", on_error=on_error, auto_dismiss=False)
    error = qmp.wait_event("BLOCK_JOB_ERROR")["data"]
    assert error["action"] == on_error and error["operation"] == ("read" if where == "source" else "write")
    if on_error == "stop":
        wait_status(qmp, "s0", "paused")
        qmp.execute("block-job-resume", device="s0")
        assert qmp.wait_job("s0") is None
        assert chains.backing_of(paths[3][0]) == (None, None)
    else:
        assert "Input/output error" in qmp.wait_job("s0")
        assert chains.backing_of(paths[3][0])[0] == str(paths[2][0])
        stream(qmp)  # once more, and it works
    judge(daemon, tmp_path, paths[3][0], model)


def test_no_space_pauses_the_job(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add_failing(qmp, paths, LAYER_OF["target"], "write_aio", error=28)
    qmp.execute("block-stream", job_id="s0", device="l3", on_error="enospc", auto_dismiss=False)
    assert qmp.wait_event("BLOCK_JOB_ERROR")["data"]["action"] == "stop"
    wait_status(qmp, "s0", "paused")
    assert qmp.execute("query-block-jobs")[0]["io-status"] == "nospace"
    qmp.execute("block-job-resume", device="s0")
    assert qmp.wait_job("s0") is None
    judge(daemon, tmp_path, paths[3][0], model)


def test_a_stream_protects_its_nodes(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths, read_only_below=False)
    qmp.execute("block-stream", job_id="s0", device="l3", base_node="l0", speed=1, filter_node_name="f")
    for node in ("l3", "l2", "l1"):
        assert "in use" in str(qmp.error("blockdev-del", node_name=node))
        for command in ("block-stream", "block-commit"):
            error = str(qmp.error(command, job_id="other", device=node, base_node="l0"))
            assert f"Node '{node}' is busy: block device is in use by block job 's0'" in error
    nbd_client.start_server(qmp, tmp_path)
    error = qmp.error("block-export-add", {"type": "nbd", "id": "e", "node-name": "l1", "writable": True})
    assert "needs permission 'write' on node 'l1'" in str(error)
    qmp.execute("block-job-cancel", device="s0")
    qmp.wait_event("BLOCK_JOB_CANCELLED")


def test_two_streams_in_parts_of_a_chain(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    qmp.execute("block-stream", job_id="upper", device="l3", base_node="l1", auto_dismiss=False, auto_finalize=False)
    qmp.execute("block-stream", job_id="lower", device="l1", auto_dismiss=False)
    assert qmp.wait_job("lower") is None
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["id"] == "upper" and data["status"] == "pending")
    qmp.execute("job-finalize", id="upper")
    assert qmp.wait_job("upper") is None
    assert chains.backing_of(paths[3][0])[0] == str(paths[1][0]) and chains.backing_of(paths[1][0])[0] is None
    judge(daemon, tmp_path, paths[3][0], model)


@pytest.mark.parametrize("arguments, message", [
    ({"device": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"base": "nosuch"}, "Can't find 'nosuch' in the backing chain"),
    ({"base-node": "nosuch"}, "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"base-node": "l3"}, "Node 'l3' is not a backing image of 'l3'"),
    ({"device": "l1", "base-node": "l2"}, "Node 'l2' is not a backing image of 'l1'"),
    ({"base": "a", "base-node": "l1"}, "'base' and 'base-node' cannot be specified at the same time"),
    ({"base": "a", "bottom": "l1"}, "'base' and 'bottom' cannot be specified at the same time"),
    ({"bottom": "l1", "base-node": "l1"}, "'bottom' and 'base-node' cannot be specified at the same time"),
    ({"bottom": "f1"}, "Node 'f1' is a filter, use a non-filter node as 'bottom'"),
    ({"device": "l1", "bottom": "l2"}, "Node 'l2' is not in a chain starting from 'l1'"),
    ({"backing-file": "a"}, "backing file specified, but streaming the entire chain"),
    ({"speed": -1}, "expected a non-negative value"),
])
def test_what_cannot_be_streamed_is_refused(daemon, qmp, tmp_path, arguments, message):
    chains.add(qmp, chains.make(tmp_path, "plain"), filters_between=True)
    before = chains.names_of(qmp)
    assert message in str(qmp.error("block-stream", {"job-id": "s0", "device": "l3"} | arguments))
    assert chains.names_of(qmp) == before
    assert qmp.execute("query-jobs") == []
    assert "An explicit job ID is required for this node" in str(qmp.error("block-stream", device="l3"))
