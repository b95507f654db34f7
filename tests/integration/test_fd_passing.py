"""Descriptors that a client passes: sets of them as names of files, names for sockets."""

import array
import contextlib
import json
import os
import pathlib
import socket

import pytest

import images
from images import MIB
from qmp import QMP
from test_hung import hung_fs, wait_until  # noqa: F401 (hung_fs is a fixture)


class Passing(QMP):
    def pass_fds(self, *fds, command="getfd", **arguments):
        message = {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}
        self.socket.sendmsg([json.dumps(message).encode()],
                            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        reply = self.receive_reply()
        return reply.get("return", reply.get("error"))

    def add(self, path, flags, **arguments):
        fd = os.open(path, flags)
        try:
            return self.pass_fds(fd, command="add-fd", **arguments)
        finally:
            os.close(fd)


@pytest.fixture
def client(daemon):
    with Passing(daemon.socket) as client:
        yield client


def open_fds(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def test_sets_are_listed_and_removed(client, daemon, tmp_path):
    (tmp_path / "a").write_bytes(b"")
    before = open_fds(daemon)
    first = client.add(tmp_path / "a", os.O_RDONLY)
    second = client.add(tmp_path / "a", os.O_RDWR, fdset_id=0, opaque="rdwr:/a")
    third = client.add(tmp_path / "a", os.O_RDWR)
    seventh = client.add(tmp_path / "a", os.O_RDWR, fdset_id=7)
    assert (first["fdset-id"], second["fdset-id"], third["fdset-id"], seventh["fdset-id"]) == (0, 0, 1, 7)
    assert client.execute("query-fdsets") == [
        {"fdset-id": 0, "fds": [{"fd": first["fd"]}, {"fd": second["fd"], "opaque": "rdwr:/a"}]},
        {"fdset-id": 1, "fds": [{"fd": third["fd"]}]},
        {"fdset-id": 7, "fds": [{"fd": seventh["fd"]}]}]
    assert open_fds(daemon) == before + 4
    client.execute("remove-fd", fdset_id=0, fd=first["fd"])
    assert "fdset-id:0, fd:" in client.error("remove-fd", fdset_id=0, fd=first["fd"]).desc
    client.execute("remove-fd", fdset_id=7)
    assert "'fdset-id:7' not found" in client.error("remove-fd", fdset_id=7).desc
    client.error("remove-fd", fdset_id=-1)
    assert [entry["fdset-id"] for entry in client.execute("query-fdsets")] == [0, 1]
    assert open_fds(daemon) == before + 2


def test_an_image_that_only_the_client_may_open(client, tmp_path):
    """The file has no name any more: nothing but the descriptors leads to it."""
    path = images.create(tmp_path / "disk.qcow2", 4 * MIB)
    client.add(path, os.O_RDONLY, fdset_id=3)
    client.add(path, os.O_RDWR, fdset_id=3)
    os.unlink(path)
    node = {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": "/dev/fdset/3"}}
    client.execute("blockdev-add", node)
    client.execute("block_resize", node_name="disk", size=8 * MIB)
    client.execute("remove-fd", fdset_id=3)
    client.execute("block_resize", node_name="disk", size=16 * MIB)  # its copy stays
    client.execute("blockdev-del", node_name="disk")
    assert "/dev/fdset/3" in client.error("blockdev-add", node).desc


def test_the_descriptor_that_fits(client, tmp_path):
    (tmp_path / "disk").write_bytes(bytes(MIB))
    client.add(tmp_path / "disk", os.O_RDONLY, fdset_id=0)
    node = {"driver": "file", "node-name": "disk", "filename": "/dev/fdset/0"}
    assert "Permission denied" in client.error("blockdev-add", node).desc
    client.execute("blockdev-add", {**node, "read-only": True})
    client.execute("blockdev-del", node_name="disk")
    client.execute("blockdev-add", {**node, "auto-read-only": True, "read-only": False})
    info, = client.execute("query-named-block-nodes", flat=True)
    assert info["ro"]
    client.execute("blockdev-del", node_name="disk")
    client.add(tmp_path / "disk", os.O_RDWR, fdset_id=0)
    client.execute("blockdev-add", {**node, "read-only": True})
    client.execute("blockdev-reopen", options=[{**node, "read-only": False}])
    client.execute("block_resize", node_name="disk", size=2 * MIB)
    assert os.stat(tmp_path / "disk").st_size == 2 * MIB
    for name in ("/dev/fdset/9", "/dev/fdset/", "/dev/fdset/x", "/dev/fdset/0/a"):
        assert "No such file" in client.error("blockdev-add", driver="file", node_name="no", filename=name).desc


def test_a_name_for_a_socket_that_listens(client, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "nbd.sock"))
        listener.listen()
        assert client.pass_fds(listener.fileno(), fdname="server") == {}
    client.execute("nbd-server-start", addr={"type": "fd", "data": {"str": "server"}})
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect(str(tmp_path / "nbd.sock"))
        assert guest.recv(8) == b"NBDMAGIC"
    client.execute("nbd-server-stop")
    assert "'server'" in client.error("nbd-server-start", addr={"type": "fd", "data": {"str": "server"}}).desc


def test_numbers_of_what_others_have_open_are_refused(client, daemon):
    """A client would read what another says, or close the socket at which it came in."""
    sockets = [fd.name for fd in pathlib.Path(f"/proc/{daemon.pid}/fd").iterdir() if os.readlink(fd).startswith("socket:")]
    assert len(sockets) >= 2
    for number in sockets:
        address = {"type": "fd", "str": number}
        errors = [client.error("blockdev-add", driver="nbd", node_name="no", server=address),
                  client.error("nbd-server-start", addr={"type": "fd", "data": {"str": number}}),
                  client.error("chardev-add", {"id": "no", "backend": {"type": "socket", "data": {
                      "addr": {"type": "fd", "data": {"str": number}}}}})]
        for error in errors:
            assert f"'{number}' is neither the number of a descriptor" in error.desc, error.desc
    client.execute("query-version")


def test_names_are_closed_and_go_with_their_client(client, daemon, tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with open(tmp_path / "a", "rb") as file:
        before = open_fds(daemon)
        for _ in range(3):
            assert client.pass_fds(file.fileno(), fdname="file") == {}
        assert open_fds(daemon) == before + 1
        client.execute("closefd", fdname="file")
        assert client.error("closefd", fdname="file").desc == "File descriptor named 'file' not found"
        assert "digit" in client.pass_fds(file.fileno(), fdname="1st")["desc"]
        assert client.error("getfd", fdname="file").desc == "No file descriptor supplied via SCM_RIGHTS"
        assert open_fds(daemon) == before
        with Passing(daemon.socket) as other:
            other.pass_fds(file.fileno(), fdname="others")
        wait = [client.execute("query-version") for _ in range(3)]
        assert wait and "not found" in client.error("closefd", fdname="others").desc
        wait_until(lambda: open_fds(daemon) == before)


def test_what_no_command_takes_is_bounded(client, daemon, tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with open(tmp_path / "a", "rb") as file:
        before = open_fds(daemon)
        for _ in range(50):
            client.pass_fds(*[file.fileno()] * 16, command="query-version")
        wait_until(lambda: open_fds(daemon) <= before + 16)
        with Passing(daemon.socket) as other:
            other.pass_fds(*[file.fileno()] * 8, command="query-version")
            other.socket.sendmsg([b"{'execute'"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 16))])
        client.execute("query-version")
    client.close()
    with daemon.connect() as last:
        last.execute("query-version")
        wait_until(lambda: open_fds(daemon) <= before)


def test_descriptors_whose_closing_hangs_hold_nobody_up(hung_fs, client, daemon):  # noqa: F811
    """Neither who removes them, nor who leaves them behind, nor who replaces them; nor the daemon, when it answers again."""
    before = open_fds(daemon)
    fd = os.open(hung_fs / "hang-close", os.O_RDWR)
    assert client.pass_fds(fd, command="add-fd", fdset_id=0)["fdset-id"] == 0
    with Passing(daemon.socket) as leaver:
        leaver.pass_fds(fd, fdname="left behind")
        leaver.pass_fds(fd, fd, command="query-version")
    remover, replacer, refused = Passing(daemon.socket), Passing(daemon.socket), Passing(daemon.socket)
    replacer.pass_fds(fd, fdname="replaced")
    removal = remover.start("remove-fd", fdset_id=0)
    for other, name in ((replacer, "replaced"), (refused, "1st")):
        message = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode()
        other.socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    wait_until(lambda: len(client.execute("query-commands-in-flight")) == 3)
    assert client.execute("query-fdsets") == []

    hung_fs.release()
    assert remover.receive_reply()["id"] == removal
    assert replacer.receive_reply()["return"] == {} and "digit" in refused.receive_reply()["error"]["desc"]
    with contextlib.suppress(OSError):  # the file system is gone
        os.close(fd)
    for other in (remover, replacer, refused):
        other.close()
    wait_until(lambda: open_fds(daemon) == before)
