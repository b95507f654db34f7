"""config-apply: what runs becomes what a configuration describes, or stays as it was."""

import copy
import json
import os

import images
import nbd
import pytest
from nbd_client import connect
from qmp import QMP, QMPError

MIB = 1 << 20


@pytest.fixture
def directory(daemon, tmp_path):
    """Images that configurations describe."""
    for name in "abc":
        images.create(tmp_path / f"{name}.qcow2", "1M")
        (tmp_path / f"{name}.raw").write_bytes(name.encode() * MIB)
    return tmp_path


def apply(qmp, config, **arguments):
    """Applies it; what was done, in words."""
    plan = qmp.execute("config-apply", config=config, **arguments)
    assert plan["applied"] == (not arguments.get("dry_run", False))
    return [step["text"] for step in plan["steps"]]


def running(qmp):
    """What runs, whatever the order in which it was made."""
    config = qmp.execute("query-config")["config"]
    return {key: sorted(map(json.dumps, value)) if isinstance(value, list) else value for key, value in config.items()}


def qcow2(name, **options):
    return {"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": f"{name}.qcow2"}, **options}


def null(name, size=MIB, **options):
    return {"driver": "null-co", "node-name": name, "size": size, **options}


SERVER = {"addr": {"type": "unix", "path": "nbd.sock"}}

FIRST = {
    "objects": [{"qom-type": "throttle-group", "id": "limits0", "limits": {"iops-total": 100000}},
                {"qom-type": "iothread", "id": "thread0"}],
    "nodes": [qcow2("a"), qcow2("b"), null("n"),
              {"driver": "throttle", "node-name": "slow", "throttle-group": "limits0", "file": "n"}],
    "bitmaps": [{"node": "a", "name": "kept", "persistent": True}, {"node": "n", "name": "off", "disabled": True}],
    "nbd-server": SERVER,
    "exports": [{"type": "nbd", "id": "e0", "node-name": "a", "writable": True},
                {"type": "nbd", "id": "e1", "node-name": "slow", "name": "one"}],
    "monitors": [{"path": "second.sock"}],
}

SECOND = {
    "objects": [{"qom-type": "throttle-group", "id": "limits0", "limits": {"bps-total": 1 << 30}},
                {"qom-type": "throttle-group", "id": "limits1", "limits": {"iops-total": 7}}],
    "nodes": [qcow2("a", **{"cache": {"no-flush": True}}), null("n", **{"latency-ns": 1}), qcow2("c"),
              {"driver": "throttle", "node-name": "slow", "throttle-group": "limits1", "file": "n"}],
    "bitmaps": [{"node": "a", "name": "kept", "persistent": True, "disabled": True}],
    "nbd-server": SERVER,
    "nbd-servers": [{"id": "other", "addr": {"type": "unix", "path": "other.sock"}}],
    "exports": [{"type": "nbd", "id": "e0", "node-name": "a", "writable": True},
                {"type": "nbd", "id": "e1", "node-name": "c", "name": "one"},
                {"type": "nbd", "id": "e2", "node-name": "slow", "name": "two"}],
    "monitors": [{"path": "third.sock"}],
}


def test_everything_is_made_and_nothing_twice(qmp, directory):
    texts = apply(qmp, FIRST)
    assert texts == ["add object 'limits0'", "add object 'thread0'", "add node 'a'", "add node 'b'", "add node 'n'",
                     "add node 'slow'", "add bitmap 'a/kept'", "add bitmap 'n/off'", "add NBD server 'default'",
                     "add export 'e0'", "add export 'e1'", "add monitor 'second.sock'"]
    before = running(qmp)
    assert apply(qmp, FIRST) == []
    assert running(qmp) == before


def test_what_differs_is_changed(qmp, directory):
    first = {**FIRST, "bitmaps": FIRST["bitmaps"][:1]}
    apply(qmp, first)
    texts = apply(qmp, SECOND)
    assert apply(qmp, SECOND) == []
    assert [text.partition(":")[0] for text in texts] == [
        "remove node 'b'", "change object 'limits0'", "add object 'limits1'", "add node 'c'", "reopen node 'a'",
        "reopen node 'slow'", "replace node 'n'", "change bitmap 'a/kept'", "add NBD server 'other'",
        "move export 'e1'", "add export 'e2'", "add monitor 'third.sock'", "remove object 'thread0'",
        "remove monitor 'second.sock'"]
    assert "reopen node 'slow': throttle-group: \"limits0\" -> \"limits1\"" in texts
    assert "replace node 'n': latency-ns: 0 -> 1" in texts


def test_a_dry_run_changes_nothing(qmp, directory):
    first = {**FIRST, "bitmaps": FIRST["bitmaps"][:1]}
    apply(qmp, first)
    before = running(qmp)
    told = apply(qmp, SECOND, dry_run=True)
    assert running(qmp) == before
    assert apply(qmp, SECOND) == told


def test_what_clients_made_is_left_alone_unless_it_is_pruned(qmp, directory):
    apply(qmp, {"nodes": [null("n")]})
    qmp.execute("blockdev-add", null("mine"))
    qmp.execute("object-add", qom_type="iothread", id="mine")
    assert apply(qmp, {"nodes": [null("n"), {"driver": "raw", "node-name": "top", "file": "mine"}]}) == ["add node 'top'"]
    assert apply(qmp, {}) == ["remove node 'top'", "remove node 'n'"]
    assert apply(qmp, {}) == []
    assert apply(qmp, {}, prune=True) == ["remove node 'mine'", "remove object 'mine'"]
    assert running(qmp) == {}


def test_a_described_thing_is_put_right_whoever_changed_it(qmp, directory):
    config = {"nodes": [null("n"), null("m")]}
    apply(qmp, config)
    qmp.execute("blockdev-del", node_name="n")
    qmp.execute("blockdev-add", null("n", size=65536))
    assert apply(qmp, config) == ["replace node 'n': size: 65536 -> 1048576"]


def test_a_throttle_group_loses_its_limits(qmp, directory):
    group = {"qom-type": "throttle-group", "id": "g"}
    apply(qmp, {"objects": [{**group, "limits": {"iops-total": 5, "iops-total-max": 9, "iops-total-max-length": 2}}]})
    apply(qmp, {"objects": [group]})
    limits = qmp.execute("qom-get", path="g", property="limits")
    assert (limits["iops-total"], limits["iops-total-max"], limits["iops-total-max-length"]) == (0, 0, 1)
    assert apply(qmp, {"objects": [group]}) == []


# All or nothing ----------------------------------------------------------------------------------------------------

# What cannot be made, in each of the lists.
BAD = {
    "objects": {"qom-type": "secret", "id": "bad", "file": "no-such-file"},
    "nodes": qcow2("no-such-image"),
    "bitmaps": {"node": "n", "name": "bad", "persistent": True},
    "nbd-servers": {"id": "bad", "addr": {"type": "unix", "path": "no/such/directory/nbd.sock"}},
    "exports": {"type": "nbd", "id": "bad", "node-name": "n", "iothread": "limits1"},
    "monitors": {"path": "no/such/directory/qmp.sock"},
}


@pytest.mark.parametrize("where", BAD)
def test_a_failure_leaves_all_as_it_was(qmp, directory, where):
    first = {**FIRST, "bitmaps": FIRST["bitmaps"][:1]}
    apply(qmp, first)
    before = running(qmp)
    config = copy.deepcopy(SECOND)
    config[where].append(BAD[where])
    error = qmp.error("config-apply", config=config)
    assert error.desc.endswith("; all is as it was before"), error.desc
    assert running(qmp) == before
    assert apply(qmp, SECOND)[0] == "remove node 'b'"


def test_an_export_is_replaced_with_its_server_and_comes_back(qmp, directory):
    apply(qmp, FIRST)
    changed = {**FIRST, "nbd-server": {**SERVER, "max-connections": 5}}
    assert apply(qmp, changed) == ["replace NBD server 'default': max-connections: 100 -> 5",
                                   "replace export 'e0': NBD server 'default' is replaced",
                                   "replace export 'e1': NBD server 'default' is replaced"]
    assert apply(qmp, changed) == []


def test_a_failing_reopen_leaves_all_as_it_was(qmp, directory):
    apply(qmp, FIRST)
    before = running(qmp)
    config = copy.deepcopy(FIRST)
    config["nodes"][0]["read-only"] = True  # its export may write
    config["nodes"].append(null("more"))
    error = qmp.error("config-apply", config=config)
    assert "reopen node 'a'" in error.desc and "export 'e0'" in error.desc, error.desc
    assert error.desc.endswith("; all is as it was before")
    assert running(qmp) == before


def test_a_failing_replacement_leaves_all_as_it_was(qmp, directory):
    config = {**FIRST, "bitmaps": []}
    apply(qmp, config)
    before = running(qmp)
    config = copy.deepcopy(config)
    config["nodes"][2]["size"] = 2 * MIB  # an export stands on it
    error = qmp.error("config-apply", config=config)
    assert "replace node 'n'" in error.desc and error.desc.endswith("; all is as it was before"), error.desc
    assert running(qmp) == before


def test_what_is_in_the_way_is_named_before_anything_has_changed(qmp, directory):
    apply(qmp, {"nodes": [null("n"), null("target"), null("free")]})
    before = running(qmp)
    qmp.execute("blockdev-mirror", job_id="j", device="n", target="target", sync="full")
    qmp.wait_event("BLOCK_JOB_READY")
    for nodes in ([null("target")], [null("n", size=65536), null("target")], [null("n")]):
        error = qmp.error("config-apply", config={"nodes": nodes})
        assert "block job 'j'" in error.desc and "as it was" not in error.desc, error.desc
        assert running(qmp) == before
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "mine", "file": "free"})
    error = qmp.error("config-apply", config={"nodes": [null("n"), null("target")]})
    assert error.desc == "remove node 'free': it is in use by node 'mine' (as its 'file')"


def test_nobody_gets_past_the_filter_of_a_job(qmp, directory):
    """Its job would not see what is written."""
    nodes = [null("n"), null("other"), null("target"), {"driver": "raw", "node-name": "top", "file": "n"}]
    config = {"nodes": nodes, "nbd-server": SERVER,
              "exports": [{"type": "nbd", "id": "e", "node-name": "n", "name": "disk"}]}
    apply(qmp, config)
    qmp.execute("blockdev-mirror", job_id="j", device="n", target="target", sync="full")
    qmp.wait_event("BLOCK_JOB_READY")
    assert apply(qmp, config) == []
    before = running(qmp)
    moved = copy.deepcopy(config)
    moved["exports"][0]["node-name"] = "other"
    reopened = copy.deepcopy(config)
    reopened["nodes"][3]["discard"] = "unmap"
    changed = {**config, "exports": [{**config["exports"][0], "writable": True}]}
    for wanted in (moved, reopened, changed):
        assert qmp.error("config-apply", config=wanted).desc.endswith(": it is in use by block job 'j'")
        assert running(qmp) == before


def test_bits_of_a_bitmap_are_not_lost(qmp, directory):
    config = {"nodes": [null("n")], "bitmaps": [{"node": "n", "name": "b"}]}
    apply(qmp, config)
    error = qmp.error("config-apply", config={**config, "nodes": [null("n", size=65536)]})
    assert error.desc == "replace node 'n': size: 1048576 -> 65536: its bitmap 'b', which is not in the image, would be lost: remove it first"
    error = qmp.error("config-apply", config={**config, "bitmaps": [{"node": "n", "name": "b", "granularity": 512}]})
    assert "bitmap 'n/b' cannot change" in error.desc


def test_an_image_is_opened_again_in_its_place(qmp, directory):
    """The old node has locked it: both cannot be open."""
    apply(qmp, FIRST)
    config = copy.deepcopy(FIRST)
    config["nodes"][0]["file"]["aio"] = "io_uring"
    assert apply(qmp, config) == ["replace node 'a': file.aio: absent -> \"io_uring\"", "add bitmap 'a/kept'"]
    assert apply(qmp, config) == []


def test_settings_need_a_restart(qmp, directory):
    texts = apply(qmp, {"io-threads": 3})
    assert texts == ["needs a restart: io-threads: absent -> 3"]


def test_mistakes_have_a_place(qmp):
    files = [{"name": "x.yaml", "text": "nodes:\n- {driver: null-co, node-name: n}\n- {driver: raw, node-name: r, file: q}\n"}]
    error = qmp.error("config-apply", files=files)
    assert error.desc == "x.yaml:3:37: nodes.1.file: Failed to find node with node-name='q'"
    files[0]["text"] = "nodes:\n- {driver: null-co, node-name: n}\n- {driver: file, node-name: r, filename: nothing}\n"
    error = qmp.error("config-apply", files=files)
    assert error.desc.startswith("x.yaml:3:3: nodes.1: add node 'r': ")
    assert error.desc.endswith("; all is as it was before")
    assert qmp.error("config-apply").desc == "one of 'path', 'files' and 'config' must be given"
    secret = {"objects": [{"qom-type": "secret", "id": "s", "data": "hunter2"}]}
    error = qmp.error("config-apply", config=secret)
    assert "objects[0].data: secrets do not stand in configurations" in error.desc and "hunter2" not in error.desc


def test_the_monitor_of_the_one_who_asks_stays(daemon, qmp, directory):
    config = {"monitors": [{"path": "second.sock"}]}
    apply(qmp, config)
    with QMP(directory / "second.sock") as second:
        error = second.error("config-apply", config={})
        assert error.desc == "remove monitor 'second.sock': this command came in by it; use another monitor"
    assert apply(qmp, {}) == ["remove monitor 'second.sock'"]
    assert not (directory / "second.sock").exists()


def test_an_export_moves_to_a_node_of_another_length(qmp, directory):
    config = {"nodes": [null("n"), null("longer", size=2 * MIB)], "nbd-server": SERVER,
              "exports": [{"type": "nbd", "id": "e", "node-name": "n", "name": "disk"}]}
    apply(qmp, config)
    config["exports"][0]["node-name"] = "longer"
    assert apply(qmp, config) == ["move export 'e': node-name: \"n\" -> \"longer\""]
    assert apply(qmp, config) == []


def test_a_command_that_is_cancelled_goes_back(daemon, qmp, directory):
    os.mkfifo(directory / "pipe")
    config = {"objects": [{"qom-type": "iothread", "id": "first"}, {"qom-type": "secret", "id": "s", "file": "pipe"}],
              "nodes": [null("n")]}
    client = daemon.connect()
    command = client.start("config-apply", config=config)
    while "objects" not in running(qmp):
        pass
    commands = [found for found in qmp.execute("query-commands-in-flight") if found["command"] == "config-apply"]
    qmp.execute("cancel-command", number=commands[0]["number"])
    with pytest.raises(QMPError, match="was cancelled while it waited"):
        client.finish(command)
    (directory / "pipe").write_text("hunter2")  # whoever reads it is gone
    assert apply(client, {"nodes": [null("m")]}) == ["add node 'm'"]  # one at a time: the other one is over
    assert list(running(qmp)) == ["nodes"] and len(running(qmp)["nodes"]) == 1


def test_a_node_inside_of_another_that_is_used_by_itself(qmp, directory):
    node = {"driver": "raw", "node-name": "outer", "file": {"driver": "file", "node-name": "inner", "filename": "a.raw"}}
    config = {"nodes": [node], "nbd-server": SERVER, "exports": [{"type": "nbd", "id": "e", "node-name": "inner"}]}
    apply(qmp, config)
    before = running(qmp)
    other = {**config, "nodes": [{**node, "file": {**node["file"], "filename": "b.raw"}}]}
    assert qmp.error("config-apply", config=other).desc == (
        f"replace node 'outer': file.filename: \"{directory}/a.raw\" -> \"{directory}/b.raw\": "
        "node 'inner' inside of it is in use by export 'e'")
    assert running(qmp) == before


def test_a_node_that_cannot_be_put_back_fails_requests_until_there_is_another(qmp, directory):
    """Its file was deleted while it was open."""
    def config(filename):
        return {"nodes": [{"driver": "file", "node-name": "n", "filename": filename}], "nbd-server": SERVER,
                "exports": [{"type": "nbd", "id": "e", "node-name": "n", "name": "disk"}]}
    apply(qmp, config("a.raw"))
    client = connect(directory / "nbd.sock", "disk")
    (directory / "a.raw").unlink()
    desc = qmp.error("config-apply", config=config("no-such-file")).desc
    assert "node 'n' is lost, and requests of its users fail" in desc and desc.endswith("all else is as it was before")
    with pytest.raises(nbd.Error):
        client.pread(512, 0)
    steps = apply(qmp, config("b.raw"))
    assert steps[0] == "add node 'n'" and steps[1].startswith("move export 'e'")
    assert client.pread(512, 0) == b"b" * 512
    client.shutdown()
    assert apply(qmp, config("b.raw")) == []


WHO_COMES = {
    "a job that reads": ("blockdev-mirror", {"job-id": "j", "device": "n", "target": "t", "sync": "full"}),
    "a job that writes": ("blockdev-mirror", {"job-id": "j", "device": "t", "target": "n", "sync": "full"}),
    "a bitmap": ("block-dirty-bitmap-add", {"node": "n", "name": "j"}),
}


@pytest.mark.parametrize("who", WHO_COMES)
def test_who_comes_while_steps_are_taken_is_not_run_over(daemon, qmp, directory, who):
    before = {"nodes": [{"driver": "file", "node-name": "n", "filename": str(directory / "a.raw")}, null("t")]}
    apply(qmp, before)
    os.mkfifo(directory / "pipe")
    client = daemon.connect()
    command = client.start("config-apply", config={
        "objects": [{"qom-type": "iothread", "id": "first"}, {"qom-type": "secret", "id": "s", "file": "pipe"}],
        "nodes": [{"driver": "file", "node-name": "n", "filename": "b.raw"}, null("t")]})
    while "objects" not in running(qmp):
        pass
    name, arguments = WHO_COMES[who]
    qmp.execute(name, arguments if "bitmap" in who else {**arguments, "speed": 65536})
    (directory / "pipe").write_text("hunter2")
    with pytest.raises(QMPError, match="replace node 'n': .*'j'.*; all is as it was before"):
        client.finish(command)
    assert running(qmp)["nodes"] == sorted(map(json.dumps, before["nodes"]))


def test_a_server_is_replaced_with_its_credentials(qmp, directory):
    def config(key):
        (directory / key).mkdir(exist_ok=True)
        (directory / key / "keys.psk").write_text("user:00112233445566778899aabbccddeeff\n")
        return {"objects": [{"qom-type": "tls-creds-psk", "id": "tls0", "endpoint": "server", "dir": str(directory / key)}],
                "nodes": [null("n")], "nbd-server": {**SERVER, "tls-creds": "tls0"},
                "exports": [{"type": "nbd", "id": "e", "node-name": "n"}]}
    apply(qmp, config("one"))
    assert [text.partition(":")[0] for text in apply(qmp, config("two"))] == [
        "replace object 'tls0'", "replace NBD server 'default'", "replace export 'e'"]
    assert apply(qmp, config("two")) == []
    before = running(qmp)
    broken = config("three")
    (directory / "three" / "keys.psk").unlink()
    assert qmp.error("config-apply", config=broken).desc.endswith("; all is as it was before")
    assert running(qmp) == before


def test_how_a_thing_is_made_is_no_difference(qmp):
    kinds = {"objects": [{"qom-type": "iothread", "id": "t"}], "nodes": [null("n")],
             "exports": [{"type": "nbd", "id": "e", "node-name": "n"}]}
    plain = {**kinds, "nbd-server": SERVER}
    if_absent = {**plain, **{kind: [{**thing, "if-absent": True} for thing in things] for kind, things in kinds.items()}}
    assert len(apply(qmp, if_absent)) == 4
    assert apply(qmp, if_absent) == []
    assert apply(qmp, plain) == []
    assert "if-absent" not in json.dumps(qmp.execute("query-config"))


def test_what_goes_cannot_be_referred_to(qmp, directory):
    apply(qmp, {"nodes": [null("n")]})
    raw = {"driver": "raw", "node-name": "top", "file": "n"}
    assert qmp.error("config-apply", config={"nodes": [raw]}).desc.endswith("Failed to find node with node-name='n'")
    assert qmp.error("config-apply", config={"nodes": [raw, null("n")]}).desc.endswith("node-name='n'")  # as at the start
    assert apply(qmp, {"nodes": [null("n"), raw]}) == ["add node 'top'"]
