"""Each command's example in the reference manual is executed as it stands there, against a daemon that has what it
needs. The paths /srv/images and /run/cairn stand for the daemon's directory.

An example is a list of messages. Replies are compared in full, with these exceptions: what differs from run to run is
not compared, and lists that are long in truth show some of their elements."""

import json
import subprocess

import images
import pytest
from nbd_client import connect
from process import BUILD, ROOT
from qmp import DEADLINE

MODEL = json.loads(subprocess.run([BUILD / "bin" / "schemac", "--dump-model", ROOT / "schema" / "cairn.json"],
                                  check=True, capture_output=True, timeout=DEADLINE).stdout)
COMMANDS = {definition["name"]: definition for definition in MODEL["definitions"] if definition["kind"] == "command"}
EXAMPLES = [(name, number) for name, command in COMMANDS.items()
            for number, _ in enumerate(command["doc"].get("examples", []))]

VOLATILE = {"timestamp", "package", "actual-size", "format-specific", "date-sec", "date-nsec",
            "age-ms", "pid", "uid", "gid", "user",
            "time-ns", "latency-bounds-ns", "total-time-ns", "latency", "commands", "process"}
EXCERPTS = {"query-commands", "query-qmp-schema"}


def messages(text):
    """("->", message) and ("<-", message) in their order."""
    texts = []
    for line in text.splitlines():
        if line[:2] in ("->", "<-"):
            texts.append([line[:2], line[2:]])
        else:
            texts[-1][1] += line
    return [(direction, json.loads(body)) for direction, body in texts]


def without_volatile(value):
    if isinstance(value, dict):
        return {name: without_volatile(member) for name, member in value.items() if name not in VOLATILE}
    return [without_volatile(element) for element in value] if isinstance(value, list) else value


def need_disk(qmp, daemon):
    with open(daemon.path("disk0.raw"), "wb") as file:
        file.write(b"x" * 65536)
        file.truncate(1 << 20)
    qmp.execute("blockdev-add", driver="file", node_name="disk0", filename=daemon.path("disk0.raw"))


def need_image(qmp, daemon):
    images.create(daemon.path("overlay0.qcow2"), "1G")


def need_disk_and_image(qmp, daemon):
    need_disk(qmp, daemon)
    need_image(qmp, daemon)


def need_chain(qmp, daemon):
    need_disk(qmp, daemon)
    images.create(daemon.path("overlay1.qcow2"), "1M")
    qmp.execute("blockdev-add", driver="qcow2", node_name="overlay1", backing="disk0",
                file={"driver": "file", "filename": daemon.path("overlay1.qcow2")})


def need_format(qmp, daemon):
    images.create(daemon.path("disk0.qcow2"), "1G")
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk0",
                file={"driver": "file", "filename": daemon.path("disk0.qcow2")})


def need_snapshot(qmp, daemon):
    need_format(qmp, daemon)
    qmp.execute("blockdev-snapshot-internal-sync", device="disk0", name="monday")


def need_bitmaps(qmp, daemon):
    need_format(qmp, daemon)
    qmp.execute("blockdev-add", driver="null-co", node_name="disk1", size=1 << 30)
    for node, name in (("disk0", "since-monday"), ("disk0", "week"), ("disk0", "monday"), ("disk1", "tuesday")):
        qmp.execute("block-dirty-bitmap-add", node=node, name=name)


def need_encryption(qmp, daemon):
    path = daemon.path("crypt0.luks")
    images.create_encrypted(path, "1M", "secret,id=s,data=first", **{"key-secret": "s", "iter-time": 50})
    for number, password in enumerate(("first", "second")):
        qmp.execute("object-add", qom_type="secret", id=f"sec{number}", data=password)
    qmp.execute("blockdev-add", driver="luks", node_name="crypt0", key_secret="sec0",
                file={"driver": "file", "filename": path})


def need_gate(qmp, daemon):
    qmp.execute("blockdev-add", driver="gate", node_name="gate0", file={"driver": "null-co", "node-name": "null0"})


def need_quorum(qmp, daemon):
    qmp.execute("blockdev-add", driver="quorum", node_name="quorum0", vote_threshold=1,
                children=[{"driver": "null-co", "node-name": f"null{i}"} for i in range(3)])


def need_server(qmp, daemon):
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": daemon.path("nbd.sock")}})


def need_disk_and_server(qmp, daemon):
    need_disk(qmp, daemon)
    need_server(qmp, daemon)


def need_export(qmp, daemon):
    need_disk_and_server(qmp, daemon)
    qmp.execute("block-export-add", type="nbd", id="export0", node_name="disk0")


def need_reader(qmp, daemon):
    need_export(qmp, daemon)
    client = connect(daemon.path("nbd.sock"), "disk0")
    client.pread(4096, 0)
    client.shutdown()
    qmp.execute("block-export-del", id="export0", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")


def need_older_export(qmp, daemon):
    need_disk_and_server(qmp, daemon)
    qmp.execute("nbd-server-add", device="disk0")


def need_job(qmp, daemon):
    qmp.execute("blockdev-create", job_id="create0",
                options={"driver": "file", "filename": daemon.path("job.raw"), "size": 65536})
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")


def need_object(qmp, daemon):
    qmp.execute("object-add", qom_type="throttle-group", id="limits0", limits={"iops-total": 1000})


def need_spare(qmp, daemon):
    qmp.execute("chardev-add", id="spare", backend={
        "type": "socket", "data": {"addr": {"type": "unix", "data": {"path": daemon.path("spare.sock")}}}})


def need_spare_monitor(qmp, daemon):
    need_spare(qmp, daemon)
    qmp.execute("monitor-add", chardev="spare")


NEEDS = {
    "transaction": need_format,
    "block-dirty-bitmap-add": need_format,
    "block-dirty-bitmap-clear": need_bitmaps,
    "block-dirty-bitmap-disable": need_bitmaps,
    "block-dirty-bitmap-enable": need_bitmaps,
    "block-dirty-bitmap-merge": need_bitmaps,
    "block-dirty-bitmap-remove": need_bitmaps,
    "block-export-add": need_disk_and_server,
    "block-export-del": need_export,
    "block-set-write-threshold": need_disk,
    "block_resize": need_disk,
    "blockdev-add": need_image,
    "blockdev-check": need_format,
    "blockdev-del": need_disk,
    "blockdev-insert-filter": need_gate,
    "blockdev-remove-filter": need_gate,
    "blockdev-reopen": need_disk,
    "blockdev-replace": need_gate,
    "blockdev-set-active": need_disk,
    "blockdev-snapshot": need_disk_and_image,
    "blockdev-snapshot-sync": need_disk,
    "change-backing-file": need_chain,
    "blockdev-snapshot-apply-internal-sync": need_snapshot,
    "blockdev-snapshot-delete-internal-sync": need_snapshot,
    "blockdev-snapshot-internal-sync": need_format,
    "chardev-remove": need_spare,
    "job-dismiss": need_job,
    "monitor-add": need_spare,
    "monitor-remove": need_spare_monitor,
    "nbd-server-add": need_disk_and_server,
    "nbd-server-remove": need_older_export,
    "nbd-server-stop": need_server,
    "object-del": need_object,
    "qom-get": need_object,
    "qom-list": need_object,
    "qom-set": need_object,
    "query-block-exports": need_export,
    "query-block-status": need_disk,
    "query-jobs": need_job,
    "config-apply": need_disk,
    "query-config": need_export,
    "query-nbd-servers": need_export,
    "query-named-block-nodes": need_disk,
    "query-statistics": need_reader,
    "x-blockdev-change": need_quorum,
    "x-blockdev-set-iothread": need_disk,
    "x-debug-block-dirty-bitmap-sha256": need_bitmaps,
    "x-debug-query-block-graph": need_disk,
    "x-blockdev-amend": need_encryption,
    "x-gate-hold": need_gate,
    "x-gate-query": need_gate,
    "x-gate-release": need_gate,
}


def test_each_command_has_an_example():
    assert [name for name, command in COMMANDS.items() if not command["doc"].get("examples")] == []


def compare(command, shown, real):
    shown, real = without_volatile(shown), without_volatile(real)
    if command in EXCERPTS:
        assert all(element in real["return"] for element in shown["return"])
    else:
        assert real == shown


@pytest.mark.parametrize("command, number", EXAMPLES)
def test_example(daemon, command, number):
    if command in NEEDS:
        NEEDS[command](daemon.connect(), daemon)
    client = daemon.connect(negotiate=command != "qmp_capabilities")
    text = COMMANDS[command]["doc"]["examples"][number]["text"]
    text = text.replace("/srv/images", str(daemon.directory)).replace("/run/cairn", str(daemon.directory))
    executed = [message for direction, message in messages(text) if direction == "->"]
    assert any(message["execute"] == command for message in executed)
    for direction, message in messages(text):
        if direction == "->":
            client.send(message)
        elif "event" in message:
            client.wait_event(message["event"], lambda data, wanted=message: data == wanted["data"])
        else:
            compare(command, message, client.receive_reply())
    if command == "quit":
        daemon.wait()
