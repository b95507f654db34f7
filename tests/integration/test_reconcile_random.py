"""Random configurations, one after the other: each is applied in full, or all stays as it was."""

import json
import os

import images
from images import MIB, rng_of
from qmp import QMPError

ROUNDS = int(os.environ.get("CAIRN_TEST_ROUNDS", 60))
NAMES = [f"n{number}" for number in range(7)]


def random_node(rng, name, earlier):
    """Of one length, so that any can take the place of any other."""
    kind = rng.choice(["null-co", "file", "qcow2", "raw", "throttle"] if earlier else ["null-co", "file", "qcow2"])
    node = {"driver": kind, "node-name": name}
    if kind == "null-co":
        node["size"] = MIB
        if rng.random() < 0.5:
            node["latency-ns"] = rng.randrange(3)
    elif kind == "file":
        node["filename"] = rng.choice([f"{name}.raw"] * 4 + ["shared.raw", "no-such-file"])
    elif kind == "qcow2":
        node["file"] = {"driver": "file", "filename": f"{name}.qcow2"}
        node["backing"] = rng.choice([None, *earlier])
        if rng.random() < 0.3:
            node["file"]["node-name"] = f"{name}-file"
    else:
        node["file"] = rng.choice(earlier)
        if kind == "throttle":
            node["throttle-group"] = rng.choice(["g0", "g1"])
    if rng.random() < 0.2:
        node["read-only"] = True
    if rng.random() < 0.2:
        node["discard"] = "unmap"
    return node


def random_bitmap(rng, node):
    """Those of images outlive their nodes; others are in the way when a node is replaced."""
    bitmap = {"node": node["node-name"], "name": "b", "granularity": 65536, "disabled": rng.random() < 0.5}
    return {**bitmap, "persistent": True} if node["driver"] == "qcow2" else bitmap


def random_config(rng):
    nodes = []
    for name in NAMES:
        if rng.random() < 0.7:
            nodes.append(random_node(rng, name, [node["node-name"] for node in nodes]))
    names = [node["node-name"] for node in nodes]
    config = {
        "objects": [{"qom-type": "throttle-group", "id": name, "limits": {"iops-total": rng.randrange(1, 3) * 10000}}
                    for name in ("g0", "g1")],
        "nodes": nodes,
        "nbd-server": {"addr": {"type": "unix", "path": "nbd.sock"}, "max-connections": rng.choice([100, 100, 5])},
        "bitmaps": [random_bitmap(rng, node) for node in nodes
                    if rng.random() < (0.4 if node["driver"] == "qcow2" else 0.02)],
        "exports": [],
    }
    if rng.random() < 0.5:
        config["nbd-servers"] = [{"id": "other", "addr": {"type": "unix", "path": "other.sock"}}]
    for name in ("e0", "e1", "e2"):
        if names and rng.random() < 0.7:
            export = {"type": "nbd", "id": name, "node-name": rng.choice(names), "name": name}
            if rng.random() < 0.5:
                export["writable"] = True
            if rng.random() < 0.3:
                export["servers"] = ["other" if "nbd-servers" in config else "default"]
            config["exports"].append(export)
    return config


def running(qmp):
    config = qmp.execute("query-config")["config"]
    return {key: sorted(map(json.dumps, value)) if isinstance(value, list) else value for key, value in config.items()}


def test_random_configurations(qmp, tmp_path):
    seed = os.environ.get("CAIRN_TEST_SEED", "reconcile")
    print(f"CAIRN_TEST_SEED={seed}")
    rng = rng_of(seed)
    (tmp_path / "shared.raw").write_bytes(bytes(MIB))
    for name in NAMES:
        images.create(tmp_path / f"{name}.qcow2", "1M")
        (tmp_path / f"{name}.raw").write_bytes(bytes(MIB))
    applied = refused = undone = 0
    for number in range(ROUNDS):
        before = running(qmp)
        config = random_config(rng)
        told = None
        try:
            told = qmp.execute("config-apply", config=config, dry_run=True)["steps"]
            assert running(qmp) == before
            assert qmp.execute("config-apply", config=config)["steps"] == told
        except QMPError as error:
            assert running(qmp) == before, f"round {number}: {error}"
            undone += error.desc.endswith("all is as it was before")
            refused += told is None
            continue
        applied += 1
        left = qmp.execute("config-apply", config=config)["steps"]
        assert left == [], f"round {number}"
    print(f"{applied} applied, {undone} undone, {refused} refused")
    assert applied > ROUNDS / 10 and undone > ROUNDS / 10, (applied, undone, refused)
