"""What a job needs stays as it is: whoever would change it is told which job that is. Jobs that do not need each other's
nodes work at the same time."""

import pytest

import chains
import nbd_client
from chains import judge
from guests import Guests
from images import create
from jobs import wait_status
from qmp import QMPError

CHAIN_JOBS = {
    "stream": ("block-stream", {"device": "l3"}),
    "stream down to l1": ("block-stream", {"device": "l3", "base-node": "l1"}),
    "stream in the middle": ("block-stream", {"device": "l2", "base-node": "l0"}),
    "commit": ("block-commit", {"device": "l3", "top-node": "l2"}),
    "commit in the middle": ("block-commit", {"device": "l3", "top-node": "l2", "base-node": "l1"}),
    "active commit": ("block-commit", {"device": "l3"}),
    "active commit into l2": ("block-commit", {"device": "l3", "base-node": "l2"}),
}
# The layers whose backing edges each of them needs as they are.
FROZEN = {
    "stream": ("l3", "l2", "l1"),
    "stream down to l1": ("l3",),
    "stream in the middle": ("l2",),
    "commit": ("l2", "l1"),
    "commit in the middle": ("l2",),
    "active commit": ("l3", "l2", "l1"),
    "active commit into l2": ("l3",),
}


def options_of(paths, number, **changes):
    name = f"l{number}"
    return {"driver": "qcow2", "node-name": name, "discard": "unmap", "read-only": number < 3,
            "file": {"driver": "file", "filename": str(paths[number][0])}, "backing": f"l{number - 1}"} | changes


@pytest.mark.parametrize("kind", CHAIN_JOBS)
def test_the_backing_edges_that_a_job_needs_stay(daemon, qmp, tmp_path, kind):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    create(tmp_path / "other", len(model))
    qmp.execute("blockdev-add", driver="qcow2", node_name="other", read_only=True,
                file={"driver": "file", "filename": str(tmp_path / "other")})
    command, arguments = CHAIN_JOBS[kind]
    qmp.execute(command, {"job-id": "j", "speed": 1} | arguments)
    for layer in FROZEN[kind]:
        for backing in (None, "other"):
            error = str(qmp.error("blockdev-reopen", options=[options_of(paths, int(layer[1]), backing=backing)]))
            assert "block job 'j'" in error, (layer, backing)
    qmp.execute("block-job-cancel", device="j", force=True)
    wait_status(qmp, "j", "null")
    for layer in FROZEN[kind]:
        qmp.execute("blockdev-reopen", options=[options_of(paths, int(layer[1]))])
    judge(daemon, tmp_path, paths[3][0], model)


# Each kind of job, and the layers that it needs for itself.
NEEDS = {
    "stream l3": (("block-stream", {"device": "l3"}), {3, 2, 1, 0}),
    "stream l3 over l1": (("block-stream", {"device": "l3", "base-node": "l1"}), {3, 2}),
    "stream l2 over l0": (("block-stream", {"device": "l2", "base-node": "l0"}), {2, 1}),
    "stream l1": (("block-stream", {"device": "l1"}), {1, 0}),
    "commit l2 into l1": (("block-commit", {"device": "l3", "top-node": "l2", "base-node": "l1"}), {2, 1}),
    "commit l1 into l0": (("block-commit", {"device": "l3", "top-node": "l1", "base-node": "l0"}), {1, 0}),
    "commit l2 into l0": (("block-commit", {"device": "l3", "top-node": "l2"}), {2, 1, 0}),
    "commit l3 into l0": (("block-commit", {"device": "l3"}), {3, 2, 1, 0}),
    "commit l3 into l2": (("block-commit", {"device": "l3", "base-node": "l2"}), {3, 2}),
}
TOGETHER = [(one, two) for one in NEEDS for two in NEEDS if not NEEDS[one][1] & NEEDS[two][1]]


def start(qmp, kind, job, **arguments):
    command, given = NEEDS[kind][0]
    qmp.execute(command, {"job-id": job, "auto-dismiss": False} | given | arguments)


@pytest.mark.parametrize("first", NEEDS)
def test_jobs_that_need_the_same_layer_are_refused_with_the_reason(daemon, qmp, tmp_path, first):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    before = chains.names_of(qmp)
    start(qmp, first, "first", speed=1)
    for second, ((command, arguments), layers) in NEEDS.items():
        if layers & NEEDS[first][1]:
            error = str(qmp.error(command, {"job-id": "second"} | arguments))
            assert "block job 'first'" in error, (second, error)
    qmp.execute("block-job-cancel", device="first", force=True)
    qmp.wait_job("first")
    assert chains.names_of(qmp) == before
    judge(daemon, tmp_path, paths[3][0], model)


@pytest.mark.parametrize("first, second", TOGETHER)
def test_jobs_that_need_different_layers_work_together(daemon, qmp, tmp_path, first, second):
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    kinds = {"first": first, "second": second}
    with Guests(socket, "l3", model) as guests:
        for job, kind in kinds.items():
            start(qmp, kind, job, speed=1)
        guests.let_work(5)
        for job in kinds:
            qmp.execute("block-job-set-speed", device=job, speed=0)
        for job, kind in kinds.items():
            if kind == "commit l3 into l2":
                qmp.wait_event("BLOCK_JOB_READY", lambda data: data["device"] == job)
                qmp.execute("block-job-complete", device=job)
            assert qmp.wait_job(job) is None
        guests.let_work(5)
    client = nbd_client.connect(socket, "l3")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    judge(daemon, tmp_path, paths[2 if "commit l3 into l2" in kinds.values() else 3][0], model)


@pytest.mark.parametrize("copy_first", [False, True])
@pytest.mark.parametrize("copy", ["blockdev-mirror", "blockdev-backup"])
@pytest.mark.parametrize("kind, node", [("stream l3", "l3"), ("commit l2 into l0", "l3"), ("commit l1 into l0", "l2"),
                                        ("commit l2 into l0", "l2"), ("commit l3 into l0", "l1")])
def test_copies_of_layers_beside_jobs_in_their_chain(daemon, qmp, tmp_path, kind, node, copy, copy_first):
    """They are refused, or both come to a good end."""
    paths = chains.make(tmp_path, "plain")
    model = chains.model_of(paths)
    chains.add(qmp, paths)
    create(tmp_path / "target", len(model))
    qmp.execute("blockdev-add", driver="qcow2", node_name="target",
                file={"driver": "file", "filename": str(tmp_path / "target")})
    jobs = {"chain": NEEDS[kind][0], "copy": (copy, {"device": node, "target": "target", "sync": "full"})}
    order = ("copy", "chain") if copy_first else ("chain", "copy")
    may_both = int(node[1]) not in NEEDS[kind][1] or (kind == "stream l3" and not copy_first)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "l3", writable=True)
    started = []
    with Guests(socket, "l3", model) as guests:
        for job in order:
            command, arguments = jobs[job]
            try:
                qmp.execute(command, {"job-id": job, "auto-dismiss": False, "speed": 1} | arguments)
                started.append(job)
            except QMPError as error:
                assert f"block job '{order[0]}'" in str(error)
        assert (len(started) == 2) == may_both
        guests.let_work(5)
        for job in started:
            qmp.execute("block-job-set-speed", device=job, speed=0)
        for job in started:
            if (job == "chain" and kind.startswith("commit l3")) or (job == "copy" and copy == "blockdev-mirror"):
                qmp.wait_event("BLOCK_JOB_READY", lambda data: data["device"] == job)
                qmp.execute("block-job-cancel", device=job)  # ends well, and leaves the graph as it was
            assert qmp.wait_job(job) is None
        guests.let_work(5)
    client = nbd_client.connect(socket, "l3")
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
    judge(daemon, tmp_path, paths[3][0], model)
