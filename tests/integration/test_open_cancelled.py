"""Opening what never answers ends when nobody wants it any more: by cancel-command, a configuration that goes back, the end.

What hangs in the kernel is left there; everything else goes on as if it had failed."""

import os
import signal
import socket
import threading
import time

import pytest

import images
import nbd_client
from process import BUILD
from qmp import QMPError
from test_hung import hung_fs, wait_until  # noqa: F401 (hung_fs is a fixture)

MIB = 1 << 20
SOON = 5 * (4 if "san" in BUILD.name else 1)  # seconds; a daemon that waits for storage at its end gives up after 10


@pytest.fixture
def mute(tmp_path):
    """Listens, and never says anything: a path for NBD and a port for HTTP. And where an overlay can be made."""
    path = str(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as nbd, socket.create_server(("127.0.0.1", 0)) as http:
        nbd.bind(path)
        nbd.listen(64)
        yield {"path": path, "port": http.getsockname()[1], "overlay": str(tmp_path / "overlay.qcow2")}


def storage(kind, hung_fs, mute):  # noqa: F811
    """The options of a node that never opens."""
    if kind == "nbd":
        return {"driver": "nbd", "server": {"type": "unix", "path": mute["path"]}}
    if kind == "nbd-slow":  # again and again, for so many seconds
        return {"driver": "nbd", "server": {"type": "unix", "path": mute["path"] + ".none"}, "open-timeout": 1000}
    if kind == "http":
        return {"driver": "http", "url": f"http://127.0.0.1:{mute['port']}/image", "timeout": 1000, "read-only": True}
    if kind == "hang-backing":  # is at hand itself, and names what is not
        images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", hung_fs / "hang-lookup", "-F", "raw",
                   mute["overlay"], "1M")
        return {"driver": "qcow2", "file": {"driver": "file", "filename": mute["overlay"]}}
    return {"driver": "qcow2", "file": {"driver": "file", "filename": hung_fs / kind}}


KINDS = ["hang-lookup", "hang-open", "hang-read", "hang-backing", "nbd", "nbd-slow", "http"]


def in_flight(client):
    return client.execute("query-commands-in-flight")


def open_files(daemon):
    """What its descriptors lead to."""
    links = []
    for number in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{daemon.pid}/fd/{number}"))
        except FileNotFoundError:
            pass
    return links


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_is_cancelled_leaves_nothing_behind(hung_fs, mute, daemon, qmp, kind):  # noqa: F811
    victim = daemon.connect()
    options = storage(kind, hung_fs, mute)
    for attempt in range(3):  # what was left behind is in nobody's way
        victim.start("blockdev-add", node_name="hung", **options)
        wait_until(lambda: "opening node" in "".join(command["waits-for"] for command in in_flight(qmp)))
        if kind.startswith("hang-") and attempt == 0:
            hung_fs.wait_for_call()
        qmp.execute("cancel-command", number=in_flight(qmp)[0]["number"])
        assert "was cancelled while it waited for opening node" in victim.receive_reply()["error"]["desc"]
        wait_until(lambda: in_flight(qmp) == [])
    assert qmp.execute("query-named-block-nodes", flat=True) == []
    qmp.execute("blockdev-add", driver="null-co", node_name="hung")

    hung_fs.release()
    wait_until(lambda: not any("hang-" in link for link in open_files(daemon)))


def test_a_name_in_an_image_that_the_policy_looks_at(hung_fs, mute, start_daemon, tmp_path):  # noqa: F811
    daemon = start_daemon("--image-policy", f"directories.0={tmp_path},json=on")
    victim, control = daemon.connect(), daemon.connect()
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b",
               'json:{"driver": "file", "filename": "%s"}' % (hung_fs / "hang-lookup"), "-F", "raw", mute["overlay"], "1M")
    victim.start("blockdev-add", node_name="hung", driver="qcow2",
                 file={"driver": "file", "filename": mute["overlay"]})
    hung_fs.wait_for_call()
    control.execute("cancel-command", number=in_flight(control)[0]["number"])
    assert "was cancelled" in victim.receive_reply()["error"]["desc"]
    wait_until(lambda: in_flight(control) == [])
    assert control.execute("query-named-block-nodes", flat=True) == []


def test_an_image_whose_server_hangs_after_the_handshake(start_daemon, daemon, qmp, tmp_path):
    path = images.create(tmp_path / "far.qcow2", "1M")
    far = start_daemon("--blockdev", f"file,filename={path},node-name=file", "--blockdev",
                       "gate,file=file,node-name=gate", "--nbd-server", f"addr.type=unix,addr.path={tmp_path}/far.sock",
                       "--export", "nbd,id=e,node-name=gate,name=far")
    held = far.connect()
    held.execute("x-gate-hold", node_name="gate")
    victim = daemon.connect()
    victim.start("blockdev-add", driver="qcow2", node_name="far", read_only=True,
                 file={"driver": "nbd", "server": {"type": "unix", "path": f"{tmp_path}/far.sock"}, "export": "far"})
    wait_until(lambda: held.execute("x-gate-query", node_name="gate")["held"] > 0)
    qmp.execute("cancel-command", number=in_flight(qmp)[0]["number"])
    assert "was cancelled" in victim.receive_reply()["error"]["desc"]
    wait_until(lambda: in_flight(qmp) == [])
    assert qmp.execute("query-named-block-nodes", flat=True) == []
    held.execute("x-gate-release", node_name="gate")


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_comes_at_once(hung_fs, mute, start_daemon, kind):  # noqa: F811
    daemon = start_daemon("--pidfile", "pid", "--blockdev", "null-co,node-name=well")
    daemon.connect().start("blockdev-add", node_name="hung", **storage(kind, hung_fs, mute))
    control = daemon.connect()
    wait_until(lambda: "opening node" in "".join(command["waits-for"] for command in in_flight(control)))
    if kind.startswith("hang-"):
        hung_fs.wait_for_call()
    begin = time.monotonic()
    control.execute("quit")
    wait_until(lambda: not daemon.socket.exists() and not (daemon.directory / "pid").exists())
    assert time.monotonic() - begin < SOON
    if kind.startswith("hang-"):
        daemon.wait_for_log("1 call to open or read it was left behind")
        hung_fs.release()  # the kernel lets a process go only when its calls have come back
    assert daemon.wait() == 0


@pytest.mark.parametrize("how", ["quit", "signal"])
def test_the_end_comes_at_once_while_it_starts(hung_fs, start_daemon, tmp_path, how):  # noqa: F811
    (tmp_path / "cairn.yaml").write_text(f"""
monitors:
- path: early.sock
nodes:
- {{driver: null-co, node-name: well}}
- {{driver: file, node-name: hung, filename: {hung_fs / "hang-open"}}}
""")
    daemon = start_daemon("--pidfile", "pid", "--config", str(tmp_path / "cairn.yaml"), monitor=False)
    daemon.socket = daemon.directory / "early.sock"
    daemon.wait_for_socket(daemon.socket)
    control = daemon.connect()
    wait_until(lambda: control.execute("query-named-block-nodes"))
    begin = time.monotonic()
    if how == "quit":
        control.execute("quit")
    else:
        daemon.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not daemon.socket.exists())
    assert time.monotonic() - begin < SOON
    hung_fs.release()
    assert daemon.wait() == 0


def null(name, **options):
    return {"driver": "null-co", "node-name": name, "size": MIB, **options}


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_that_hangs_goes_back_and_lets_the_next_one_in(hung_fs, mute, daemon, qmp, kind):  # noqa: F811
    first, second = daemon.connect(), daemon.connect()
    qmp.execute("config-apply", config={"nodes": [null("old")]})
    hanging = first.start("config-apply", config={"nodes": [null("new"), {"node-name": "hung",
                                                                          **storage(kind, hung_fs, mute)}]})
    wait_until(lambda: any("add node 'hung': opening node" in command["waits-for"] for command in in_flight(qmp)))
    waiting = second.start("config-apply", config={"nodes": [null("other")]})
    wait_until(lambda: len(in_flight(qmp)) == 2)
    qmp.execute("cancel-command", number=in_flight(qmp)[0]["number"])
    with pytest.raises(QMPError, match="was cancelled while it waited for add node 'hung'"):
        first.finish(hanging)
    second.finish(waiting)
    assert {node["node-name"] for node in qmp.execute("query-named-block-nodes")} == {"other"}
    daemon.wait_for_log("all is as it was before")


def test_a_node_that_is_replaced_comes_back(hung_fs, daemon, qmp, tmp_path):  # noqa: F811
    """Its export, and requests that wait for the new node meanwhile, go on with the old one."""
    (tmp_path / "a.raw").write_bytes(b"a" * MIB)
    old = {"node-name": "n", "driver": "file", "filename": str(tmp_path / "a.raw")}
    rest = {"nbd-server": {"addr": {"type": "unix", "path": "nbd.sock"}},
            "exports": [{"type": "nbd", "id": "e", "node-name": "n"}]}
    qmp.execute("config-apply", config={"nodes": [old], **rest})
    guest = nbd_client.connect(tmp_path / "nbd.sock", "n")
    client = daemon.connect()
    hanging = client.start("config-apply", config={"nodes": [{**old, "filename": hung_fs / "hang-open"}], **rest})
    wait_until(lambda: any("replace node 'n': opening the new node" in command["waits-for"]
                           for command in in_flight(qmp)))
    read = []
    reader = threading.Thread(target=lambda: read.append(bytes(guest.pread(512, 0))))
    reader.start()
    qmp.execute("cancel-command", number=in_flight(qmp)[0]["number"])
    with pytest.raises(QMPError, match="was cancelled"):
        client.finish(hanging)
    reader.join(60)
    assert read == [b"a" * 512]
    wait_until(lambda: in_flight(qmp) == [])
    assert qmp.execute("config-apply", config={"nodes": [old], **rest})["steps"] == []
