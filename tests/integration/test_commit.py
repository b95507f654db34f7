"""block-commit: the base gets what the layers above it have, and takes their place; with the active layer, whatever guests
write meanwhile."""

import pytest

import chains
import nbd_client
from chains import judge
from guests import Guests, writing_to
from images import MIB, check, content, create, qemu_io, rng_of
from jobs import wait_status


def commit(qmp, **arguments):
    qmp.execute("block-commit", {"job-id": "c0", "device": "l3", "auto-dismiss": False} | arguments)


def is_read_only(qmp, name):
    return next(node["ro"] for node in qmp.execute("query-named-block-nodes") if node["node-name"] == name)


@pytest.mark.parametrize("filters", [False, True], ids=["bare", "filters-between"])
@pytest.mark.parametrize("shape", chains.SHAPES)
def test_intermediate_layers_under_load(daemon, qmp, tmp_path, shape, filters):
    paths = chains.make(tmp_path, shape)
    model = chains.model_of(paths)
    chains.add(qmp, paths, filters)
    with writing_to(qmp, tmp_path, "l3", model):
        commit(qmp, **{"top-node": "l2", "base-node": "l0"})
        assert qmp.wait_job("c0") is None
    assert chains.backing_of(paths[3][0]) == (str(paths[0][0]), paths[0][1])
    assert is_read_only(qmp, "l0")
    for name in ["l2", "f1", "l1"] if filters else ["l2", "l1"]:
        qmp.execute("blockdev-del", node_name=name)
    judge(daemon, tmp_path, paths[3][0], model)
    if paths[0][1] == "qcow2":
        check(paths[0][0])


@pytest.mark.parametrize("filters", [False, True], ids=["bare", "filters-between"])
@pytest.mark.parametrize("shape", chains.SHAPES)
def test_the_active_layer_under_load(daemon, qmp, tmp_path, shape, filters):
    paths = chains.make(tmp_path, shape)
    model = chains.model_of(paths)
    chains.add(qmp, paths, filters)
    with writing_to(qmp, tmp_path, "l3", model) as guests:
        commit(qmp, **{"base-node": "l0"})
        qmp.wait_event("BLOCK_JOB_READY")
        guests.let_work(10)
        qmp.execute("block-job-complete", device="c0")
        assert qmp.wait_job("c0") is None
        for name in ["l3", "f2", "l2", "f1", "l1"] if filters else ["l3", "l2", "l1"]:
            qmp.execute("blockdev-del", node_name=name)  # nobody uses them any more
    judge(daemon, tmp_path, paths[0][0], model, paths[0][1])


@pytest.mark.parametrize("arguments", [{"top": 2, "base": 1}, {"top-node": "l2", "base-node": "l1"}])
def test_top_and_base_are_named_in_two_ways(daemon, qmp, tmp_path, arguments):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    commit(qmp, **{key: str(paths[value][0]) if isinstance(value, int) else value for key, value in arguments.items()})
    assert qmp.wait_job("c0") is None
    assert chains.backing_of(paths[3][0]) == (str(paths[1][0]), "qcow2")
    judge(daemon, tmp_path, paths[3][0], model)


def test_the_header_of_a_read_only_overlay_says_what_the_client_wants(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    commit(qmp, **{"top-node": "l1", "backing-file": "layer0.img"})
    assert qmp.wait_job("c0") is None
    assert chains.backing_of(paths[2][0]) == ("layer0.img", "qcow2")
    assert is_read_only(qmp, "l2") and is_read_only(qmp, "l0")
    judge(daemon, tmp_path, paths[3][0], model)


def test_a_base_longer_than_the_layers_shows_nothing_behind_their_end(daemon, qmp, tmp_path):
    base = create(tmp_path / "base.img", 4 * MIB)
    mid = create(tmp_path / "mid.img", 1 * MIB, backing=base)
    top = create(tmp_path / "top.img", 4 * MIB, backing=mid)
    qemu_io(base, "write -P 1 0 4m")
    model = content(top)
    assert model[1 * MIB:] == bytes(3 * MIB)
    qmp.execute("blockdev-add", driver="qcow2", node_name="top", file={"driver": "file", "filename": str(top)})
    commit(qmp, device="top", top=str(mid))
    assert qmp.wait_job("c0") is None
    judge(daemon, tmp_path, top, model)


@pytest.mark.parametrize("active", [False, True])
def test_bitmaps_of_the_base_note_what_comes(daemon, qmp, tmp_path, active):
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths, read_only_below=False)
    qmp.execute("block-dirty-bitmap-add", node="l0", name="b", persistent=True)
    commit(qmp, **({} if active else {"top-node": "l1"}))
    if active:
        qmp.wait_event("BLOCK_JOB_READY")
        qmp.execute("block-job-complete", device="c0")
    assert qmp.wait_job("c0") is None
    node = next(node for node in qmp.execute("query-named-block-nodes") if node["node-name"] == "l0")
    assert node["dirty-bitmaps"][0]["count"] >= 300 * 1024


@pytest.mark.parametrize("top", ["l2", "l3"])
@pytest.mark.parametrize("seed", range(2))
def test_cancelled_at_any_moment_the_chain_is_good(daemon, qmp, tmp_path, top, seed):
    rng = rng_of(f"commit cancel {seed}")
    paths = chains.make(tmp_path, "fine-over-coarse")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    before = chains.names_of(qmp)
    with Guests(socket, "l3", model) as guests:
        for _ in range(8):
            commit(qmp, **{"top-node": top, "speed": rng.choice([0, 1, 8 * MIB]), "auto-finalize": False})
            guests.let_work(rng.randrange(1, 12))
            qmp.execute("block-job-cancel", device="c0", force=True)
            qmp.wait_job("c0")
            assert chains.names_of(qmp) == before
            assert is_read_only(qmp, "l0")
    client = nbd_client.connect(socket, "l3")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    assert chains.backing_of(paths[3][0])[0] == str(paths[2][0])
    judge(daemon, tmp_path, paths[3][0], model)


LAYER_OF = {"source": 2, "target": 0}


@pytest.mark.parametrize("top", ["l2", "l3"])
@pytest.mark.parametrize("where, event", [("source", "read_aio"), ("target", "write_aio")])
@pytest.mark.parametrize("on_error", ["report", "ignore", "stop"])
def test_errors_go_by_the_policy(daemon, qmp, tmp_path, top, where, event, on_error):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add_failing(qmp, paths, LAYER_OF[where], event)
    commit(qmp, **{"top-node": top, "on-error": on_error})
    error = qmp.wait_event("BLOCK_JOB_ERROR")["data"]
    assert error["action"] == on_error and error["operation"] == ("read" if where == "source" else "write")
    if on_error == "stop":
        wait_status(qmp, "c0", "paused")
        qmp.execute("block-job-resume", device="c0")
    if on_error == "report":
        assert "Input/output error" in qmp.wait_job("c0")
        commit(qmp, **{"top-node": top})  # once more, and it works
    if top == "l3":
        qmp.wait_event("BLOCK_JOB_READY")
        qmp.execute("block-job-complete", device="c0")
    assert qmp.wait_job("c0") is None
    judge(daemon, tmp_path, paths[0 if top == "l3" else 3][0], model)


def test_no_space_pauses_the_job(daemon, qmp, tmp_path):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add_failing(qmp, paths, LAYER_OF["target"], "write_aio", error=28)
    commit(qmp, **{"top-node": "l2", "on-error": "enospc"})
    assert qmp.wait_event("BLOCK_JOB_ERROR")["data"]["action"] == "stop"
    wait_status(qmp, "c0", "paused")
    assert qmp.execute("query-block-jobs")[0]["io-status"] == "nospace"
    qmp.execute("block-job-resume", device="c0")
    assert qmp.wait_job("c0") is None
    judge(daemon, tmp_path, paths[3][0], model)


@pytest.mark.parametrize("top", ["l2", "l3"])
def test_a_commit_protects_its_nodes(daemon, qmp, tmp_path, top):
    paths = chains.make(tmp_path, "plain")
    chains.add(qmp, paths, read_only_below=False)
    commit(qmp, **{"top-node": top, "speed": 1, "filter-node-name": "f"})
    for node in ("l2", "l1", "l0"):
        assert "in use" in str(qmp.error("blockdev-del", node_name=node))
    for node in ("l2", "l1"):
        for command in ("block-stream", "block-commit"):
            error = str(qmp.error(command, job_id="other", device=node, base_node="l0"))
            assert f"Node '{node}' is busy: block device is in use by block job 'c0'" in error
    nbd_client.start_server(qmp, tmp_path)
    for node, permission in (("l1", "consistent read"), ("l2", "consistent read"), ("l0", "write")):
        error = qmp.error("block-export-add", {"type": "nbd", "id": "e", "node-name": node, "writable": node == "l0"})
        assert f"needs permission '{permission}' on node '{node}', which block job 'c0' does not share" in str(error)
    if top == "l2":
        error = qmp.error("block-export-add", {"type": "nbd", "id": "e", "node-name": "f", "writable": True})
        assert "does not share" in str(error)
    qmp.execute("block-job-cancel", device="c0", force=True)
    qmp.wait_event("BLOCK_JOB_CANCELLED")


@pytest.mark.parametrize("upper, lower", [
    (("block-stream", {"device": "l3", "base-node": "l2"}), ("block-commit", {"device": "l3", "top-node": "l2"})),
    (("block-stream", {"device": "l3", "base-node": "l1"}), ("block-commit", {"device": "l3", "top-node": "l1"})),
    (("block-commit", {"device": "l3", "top-node": "l2", "base-node": "l1"}), ("block-stream", {"device": "l0"})),
])
@pytest.mark.parametrize("first_ends_first", [False, True])
def test_two_jobs_in_parts_of_a_chain(daemon, qmp, tmp_path, upper, lower, first_ends_first):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    with Guests(socket, "l3", model) as guests:
        for name, (command, arguments) in (("upper", upper), ("lower", lower)):
            qmp.execute(command, {"job-id": name, "auto-dismiss": False, "auto-finalize": False} | arguments)
        for name in ("upper", "lower") if first_ends_first else ("lower", "upper"):
            while next(job["status"] for job in qmp.execute("query-jobs") if job["id"] == name) != "pending":
                wait_status(qmp, name, "pending")
            qmp.execute("job-finalize", id=name)
            assert qmp.wait_job(name) is None
        guests.let_work(5)
    client = nbd_client.connect(socket, "l3")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    judge(daemon, tmp_path, paths[3][0], model)


@pytest.mark.parametrize("arguments, message", [
    ({"device": "nosuch"}, "Device 'nosuch' not found"),
    ({"top": "nosuch"}, "Top image file nosuch not found"),
    ({"base": "nosuch"}, "Can't find 'nosuch' in the backing chain"),
    ({"top-node": "nosuch"}, "Cannot find device='' nor node-name='nosuch'"),
    ({"device": "l1", "top-node": "l2"}, "'l2' is not in this backing file chain"),
    ({"top-node": "l1", "base-node": "l2"}, "'l2' is not in this backing file chain"),
    ({"top-node": "l1", "base-node": "l1"}, "cannot commit an image into itself"),
    ({"top-node": "l1", "base-node": "f1"}, "cannot commit an image into itself"),
    ({"top-node": "l0"}, "There is no backing image"),
    ({"top-node": "l1", "top": "a"}, "'top-node' and 'top' are mutually exclusive"),
    ({"base-node": "l1", "base": "a"}, "'base-node' and 'base' are mutually exclusive"),
    ({"backing-file": "a"}, "'backing-file' specified, but 'top' is the active layer"),
    ({"speed": -1}, "expected a non-negative value"),
])
def test_what_cannot_be_committed_is_refused(daemon, qmp, tmp_path, arguments, message):
    chains.add(qmp, chains.make(tmp_path, "plain"), filters_between=True)
    before = chains.names_of(qmp)
    assert message in str(qmp.error("block-commit", {"job-id": "c0", "device": "l3"} | arguments))
    assert chains.names_of(qmp) == before
    assert qmp.execute("query-jobs") == []
    assert is_read_only(qmp, "l0")
    assert "An explicit job ID is required for this node" in str(qmp.error("block-commit", device="l3"))
