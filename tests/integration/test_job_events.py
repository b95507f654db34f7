"""The events of jobs, as cairnd and qemu-storage-daemon tell them: the same ones, with the same members, in the same order.

Two things differ, and are left out before: in QSD a job pauses for each change of the graph, and it may have looked ahead of what a
job has done when that fails or is cancelled."""

import subprocess

import pytest

from images import KIB, MIB, qemu_io
from test_like_qsd import both, pytestmark  # noqa: F401 (a fixture)

SIZE = 1 * MIB
BAD = 512 * KIB  # where a disk fails


class Told:
    """All events, in order, and what is done in between."""

    def __init__(self, daemon, directory):
        self.qmp, self.directory = daemon.qmp, directory
        self.seen = 0

    def say(self, command, **arguments):
        return self.qmp.execute(command, **arguments)

    def until(self, name, **data):
        """The next event of that kind; earlier ones stay told."""
        while True:
            while self.seen < len(self.qmp.events):
                event = self.qmp.events[self.seen]
                self.seen += 1
                if event["event"] == name and all(event["data"].get(key) == value for key, value in data.items()):
                    return
            self.qmp.events.append(self.qmp.receive())

    def status(self, status, job="j"):
        self.until("JOB_STATUS_CHANGE", id=job, status=status)

    def add(self, name, rules=None, **options):
        file = {"driver": "file", "filename": str(self.directory / name), "discard": "unmap"}
        if rules:
            file = {"driver": "blkdebug", "image": file, "inject-error": rules, "discard": "unmap"}
        self.say("blockdev-add", driver="qcow2", node_name=name, file=file, discard="unmap", **options)

    def bad(self, kind, errno=28, once=True):
        return [{"event": f"{kind}_aio", "errno": errno, "once": once}]

    def pair(self, source=None, target=None):
        self.add("source", source)
        self.add("target", target)

    def chain(self, **rules):
        below = None
        for name in ("base", "mid", "top"):
            self.add(name, rules.get(name), backing=below)
            below = name


def copying(kind, *steps, source=None, target=None, **options):
    """A mirror or backup, and what a client does until it is over."""
    def work(told):
        told.pair(told.bad(*source) if source else None, told.bad(*target) if target else None)
        told.say(f"blockdev-{kind}", job_id="j", device="source", target="target", sync="full", **options)
        follow(told, steps)
    return work


def chain(command, *steps, rules=None, **options):
    def work(told):
        told.chain(**{name: told.bad(*rule) for name, rule in (rules or {}).items()})
        told.say(command, job_id="j", **options)
        follow(told, steps)
    return work


def follow(told, steps):
    for step in steps:
        if step == "error":
            told.until("BLOCK_JOB_ERROR")
        elif isinstance(step, str):
            told.status(step)
        else:
            command, arguments = step
            told.say(command, **arguments)
    told.status("null")


COMPLETE = "block-job-complete", {"device": "j"}
CANCEL = "block-job-cancel", {"device": "j"}
FORCE = "block-job-cancel", {"device": "j", "force": True}
PAUSE = "block-job-pause", {"device": "j"}
RESUME = "block-job-resume", {"device": "j"}
FINALIZE = "block-job-finalize", {"id": "j"}
DISMISS = "block-job-dismiss", {"id": "j"}
JOB_CANCEL = "job-cancel", {"id": "j"}
BY_HAND = {"auto_finalize": False, "auto_dismiss": False}


def create(told):
    told.say("blockdev-create", job_id="j", options={"driver": "file", "filename": str(told.directory / "new"), "size": 0})
    told.status("concluded")
    told.say("job-dismiss", id="j")
    told.status("null")


def create_fails(told):
    told.say("blockdev-create", job_id="j", options={"driver": "file", "filename": str(told.directory / "no" / "where"),
                                                      "size": 0})
    told.status("concluded")
    told.say("job-dismiss", id="j")
    told.status("null")


def group(told):
    """Two of a group, of which one fails: the other is cancelled."""
    told.pair()
    told.add("base")
    told.say("blockdev-add", driver="null-co", node_name="null", size=SIZE)
    told.say("blockdev-add", driver="blkdebug", node_name="bad", image="null", inject_error=[{"event": "none", "iotype": "write"}])
    told.say("transaction", properties={"completion-mode": "grouped"}, actions=[
        {"type": "blockdev-backup", "data": {"job-id": "slow", "device": "source", "target": "target", "sync": "full", "speed": 1}},
        {"type": "blockdev-backup", "data": {"job-id": "bad", "device": "base", "target": "bad", "sync": "full"}}])
    left = {"slow", "bad"}
    while left:
        told.until("JOB_STATUS_CHANGE", status="null")
        left.remove(told.qmp.events[told.seen - 1]["data"]["id"])


WORKS = {
    "mirror": copying("mirror", "ready", COMPLETE),
    "mirror that is cancelled in ready": copying("mirror", "ready", CANCEL),
    "mirror that is cancelled by job-cancel": copying("mirror", "ready", JOB_CANCEL),
    "mirror that is given up in ready": copying("mirror", "ready", FORCE),
    "mirror that is given up": copying("mirror", "running", FORCE, speed=1),
    "mirror by hand": copying("mirror", "ready", COMPLETE, "pending", FINALIZE, "concluded", DISMISS, **BY_HAND),
    "mirror that is cancelled by hand": copying("mirror", "ready", CANCEL, "pending", FINALIZE, "concluded", DISMISS, **BY_HAND),
    "mirror that is given up in pending": copying("mirror", "ready", COMPLETE, "pending", CANCEL, "concluded", DISMISS, **BY_HAND),
    "mirror that pauses in ready": copying("mirror", "ready", PAUSE, "standby", RESUME, "ready", COMPLETE),
    "mirror that cannot write": copying("mirror", target=("write",)),
    "mirror that stops where it cannot write": copying("mirror", "error", RESUME, "ready", COMPLETE, target=("write",),
                                                       on_target_error="stop"),
    "mirror that stops without space": copying("mirror", "error", RESUME, "ready", COMPLETE, target=("write",),
                                               on_target_error="enospc"),
    "mirror that fails but for space": copying("mirror", target=("write", 5), on_target_error="enospc"),
    "mirror that cannot read": copying("mirror", source=("read", 5)),
    "mirror that stops where it cannot read": copying("mirror", "error", RESUME, "ready", COMPLETE, source=("read", 5),
                                                      on_source_error="stop"),
    "backup": copying("backup"),
    "backup by hand": copying("backup", "pending", FINALIZE, "concluded", DISMISS, **BY_HAND),
    "backup that is cancelled": copying("backup", "running", CANCEL, speed=1),
    "backup that is cancelled in pending": copying("backup", "pending", CANCEL, "concluded", DISMISS, **BY_HAND),
    "backup that cannot write": copying("backup", target=("write",)),
    "backup that stops where it cannot write": copying("backup", "error", RESUME, target=("write",), on_target_error="stop"),
    "backup that cannot read": copying("backup", source=("read", 5)),
    "commit": chain("block-commit", device="top", top_node="mid", base_node="base"),
    "commit that cannot write": chain("block-commit", device="top", top_node="mid", base_node="base", rules={"base": ("write",)}),
    "commit that stops": chain("block-commit", "error", RESUME, device="top", top_node="mid", base_node="base", on_error="stop",
                               rules={"base": ("write",)}),
    "commit that is cancelled": chain("block-commit", "running", CANCEL, device="top", top_node="mid", base_node="base", speed=1),
    "active commit": chain("block-commit", "ready", COMPLETE, device="top", base_node="base"),
    "active commit that is cancelled": chain("block-commit", "ready", CANCEL, device="top", base_node="base"),
    "stream": chain("block-stream", device="top"),
    "stream by hand": chain("block-stream", "pending", FINALIZE, "concluded", DISMISS, device="top", **BY_HAND),
    "stream that is cancelled": chain("block-stream", "running", CANCEL, device="top", speed=1),
    "stream that cannot read": chain("block-stream", device="top", rules={"base": ("read", 5)}),
    "stream that stops": chain("block-stream", "error", RESUME, device="top", on_error="stop", rules={"base": ("read", 5)}),
    "create": create,
    "create that fails": create_fails,
    "group": group,
}


def make_images(directory):
    below = []
    for name in ("source", "target", "base", "mid", "top"):
        if name == "mid" or name == "top":
            below = ["-b", directory / ("base" if name == "mid" else "mid"), "-F", "qcow2"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, directory / name, str(SIZE)], check=True)
    qemu_io(directory / "source", f"write -P 1 0 {SIZE}")
    qemu_io(directory / "base", f"write -P 2 0 {SIZE}")
    qemu_io(directory / "mid", f"write -P 3 0 128k", f"write -P 3 {BAD} {BAD}")


def without_pauses(events):
    """Only those that a client or an error ordered tell something; what the state was before comes back with them."""
    kept = []
    for event in events:
        name, data = event["event"], event["data"]
        if name == "JOB_STATUS_CHANGE":
            if data["status"] in ("paused", "standby"):
                continue
            last = next((data for name, data in reversed(kept) if name == "JOB_STATUS_CHANGE" and data["id"] == event["data"]["id"]),
                        None)
            if data == last:
                continue
        kept.append((name, data))
    return kept


def without_guesses(events, work):
    """How far a job has got that did not end well, and what people read of why. Of an active commit QSD counts what the top layer
    holds, we count the disk."""
    over = work.startswith("active") or any(name == "BLOCK_JOB_CANCELLED" or "error" in data for name, data in events)
    return [(name, {key: bool(value) if key == "error" else value for key, value in data.items()
                    if not (over and key in ("offset", "len"))}) for name, data in events]


def job_of(event):
    """Of two jobs each has its order."""
    return event[1].get("id") or event[1]["device"]


@pytest.mark.parametrize("work", WORKS)
def test_same_events(both, tmp_path, work):  # noqa: F811 (the same)
    told = []
    for daemon, name in zip(both, ("cairnd", "qsd")):
        make_images(tmp_path / name)
        recorder = Told(daemon, tmp_path / name)
        WORKS[work](recorder)
        told.append(sorted(without_guesses(without_pauses(recorder.qmp.events), work), key=job_of))
    assert told[0] == told[1]
