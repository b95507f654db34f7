"""Several NBD servers: what each shows, where each listens, who its clients are, what the end of one leaves standing."""

import json
import os
import socket as sockets

import nbd
import pytest

import nbd_client
from images import KIB, MIB, run


def null(qmp, name, size=MIB):
    qmp.execute("blockdev-add", driver="null-co", node_name=name, size=size, read_zeroes=True)


def start(qmp, path, **arguments):
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}}, **arguments)
    return path


def shown(path):
    """Names that a client is shown there."""
    return [export["export-name"] for export in
            json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={path}").stdout)["exports"]]


def servers(qmp):
    return {server["id"]: server for server in qmp.execute("query-nbd-servers")}


@pytest.fixture
def two(qmp, tmp_path):
    """The default server and "backup"; nodes a, b and c."""
    for name in "abc":
        null(qmp, name)
    return start(qmp, tmp_path / "nbd.sock"), start(qmp, tmp_path / "backup.sock", id="backup")


def test_exports_are_on_all_servers_or_on_those_they_name(qmp, two, tmp_path):
    qmp.execute("block-export-add", type="nbd", id="ea", node_name="a")
    qmp.execute("block-export-add", type="nbd", id="eb", node_name="b", servers=["backup"])
    qmp.execute("block-export-add", type="nbd", id="ec", node_name="c", servers=["default", "backup", "default"])
    assert shown(two[0]) == ["a", "c"]
    assert shown(two[1]) == ["a", "b", "c"]
    third = start(qmp, tmp_path / "third.sock", id="third")
    assert shown(third) == ["a"]
    nbd_client.connect(two[1], "b").shutdown()
    with pytest.raises(nbd.Error):
        nbd_client.connect(two[0], "b")


def test_names_are_unique_on_each_server(qmp, two):
    qmp.execute("block-export-add", type="nbd", id="e0", node_name="a", name="disk", servers=["default"])
    qmp.execute("block-export-add", type="nbd", id="e1", node_name="b", name="disk", servers=["backup"])
    for options in ({}, {"servers": ["backup"]}, {"servers": ["default"]}):
        failure = qmp.error("block-export-add", type="nbd", id="e2", node_name="c", name="disk", **options)
        assert failure.desc == "NBD server already has export named 'disk'"
    first, second = (nbd_client.connect(path, "disk") for path in two)
    assert [client["export"] for server in servers(qmp).values() for client in server["clients"]] == ["e0", "e1"]
    first.shutdown()
    second.shutdown()


def test_ids_of_servers(qmp, two, tmp_path):
    address = {"type": "unix", "data": {"path": str(tmp_path / "new.sock")}}
    assert qmp.error("nbd-server-start", addr=address).desc == "NBD server already running"
    assert qmp.error("nbd-server-start", addr=address, id="default").desc == "NBD server already running"
    assert qmp.error("nbd-server-start", addr=address, id="backup").desc == "NBD server 'backup' already running"
    assert qmp.error("nbd-server-stop", id="other").desc == "NBD server 'other' not running"
    failure = qmp.error("block-export-add", type="nbd", id="e", node_name="a", servers=["default", "other"])
    assert failure.desc == "NBD server 'other' not running"
    assert "is empty" in qmp.error("block-export-add", type="nbd", id="e", node_name="a", servers=[]).desc
    qmp.execute("nbd-server-stop")
    assert list(servers(qmp)) == ["backup"]
    start(qmp, two[0])
    assert list(servers(qmp)) == ["backup", "default"]


def test_an_export_goes_with_the_last_server_that_shows_it(qmp, two):
    qmp.execute("block-export-add", type="nbd", id="ea", node_name="a")
    qmp.execute("block-export-add", type="nbd", id="eb", node_name="b", servers=["backup"])
    cut, kept = (nbd_client.connect(path, "a") for path in two[::-1])
    qmp.execute("nbd-server-stop", id="backup")
    assert [export["id"] for export in qmp.execute("query-block-exports")] == ["ea"]
    with pytest.raises(nbd.Error):
        cut.pread(512, 0)
    assert kept.pread(512, 0) == bytes(512)
    assert not two[1].exists()
    qmp.execute("nbd-server-stop")
    assert qmp.execute("query-block-exports") == []
    assert {qmp.wait_event("BLOCK_EXPORT_DELETED")["data"]["id"] for _ in range(2)} == {"ea", "eb"}
    assert qmp.error("block-export-add", type="nbd", id="ea", node_name="a").desc == "NBD server not running"


def test_what_is_told_of_a_server(qmp, tmp_path):
    null(qmp, "a")
    addresses = {"inet": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}},
                 "abstract": {"type": "unix", "data": {"path": f"cairn-{os.getpid()}", "abstract": True}},
                 "file": {"type": "unix", "data": {"path": str(tmp_path / "x.sock")}}}
    for id, address in addresses.items():
        qmp.execute("nbd-server-start", addr=address, id=id, max_connections=5, handshake_max_seconds=77)
    qmp.execute("block-export-add", type="nbd", id="e", node_name="a", name="the-disk")
    told = servers(qmp)
    assert list(told) == list(addresses)
    for server in told.values():
        assert server["connections"] == 0 and server["clients"] == []
        assert server["max-connections"] == 5 and server["handshake-max-seconds"] == 77
        assert server["exports"] == [{"id": "e", "name": "the-disk"}]
    assert told["file"]["addresses"] == [{"type": "unix", "path": str(tmp_path / "x.sock")}]
    assert told["abstract"]["addresses"] == [{"type": "unix", "path": f"cairn-{os.getpid()}", "abstract": True}]
    where = told["inet"]["addresses"][0]
    assert where["type"] == "inet" and where["host"] == "127.0.0.1" and int(where["port"]) > 0

    client = nbd.NBD()
    client.connect_tcp(where["host"], where["port"])
    mine = sockets.socket(fileno=os.dup(client.aio_get_fd())).getsockname()
    undecided = sockets.create_connection((where["host"], int(where["port"])))
    undecided.recv(18, sockets.MSG_WAITALL)
    assert servers(qmp)["inet"]["connections"] == 2
    assert servers(qmp)["inet"]["clients"] == [{"address": f"{mine[0]}:{mine[1]}", "export": "e"},
                                               {"address": "{}:{}".format(*undecided.getsockname())}]
    client.shutdown()
    local = nbd_client.connect(tmp_path / "x.sock", "the-disk")
    assert servers(qmp)["file"]["clients"] == [{"address": f"unix:pid={os.getpid()}", "export": "e"}]
    local.shutdown()
    undecided.close()


def test_a_name_with_several_addresses(qmp, own_name):
    """A host name may mean addresses of both families; they share one port."""
    null(qmp, "a")
    qmp.execute("nbd-server-start", addr={"type": "inet", "data": {"host": own_name, "port": "0"}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name="a")
    addresses = servers(qmp)["default"]["addresses"]
    assert len({address["port"] for address in addresses}) == 1
    for address in addresses:
        client = nbd.NBD()
        client.set_export_name("a")
        client.connect_tcp(address["host"], address["port"])
        client.shutdown()


@pytest.mark.parametrize("option, hosts", [("ipv4", {"127.0.0.1"}), ("ipv6", {"::1"})])
def test_one_family_can_be_asked_for(qmp, own_name, option, hosts):
    address = {"type": "inet", "data": {"host": own_name, "port": "0", option: True}}
    if option == "ipv6" and not _has_ipv6():
        assert own_name in qmp.error("nbd-server-start", addr=address).desc
        return
    qmp.execute("nbd-server-start", addr=address)
    assert {address["host"] for address in servers(qmp)["default"]["addresses"]} == hosts


def _has_ipv6():
    try:
        return any(host[4][0] == "::1" for host in sockets.getaddrinfo("localhost", 0, sockets.AF_INET6))
    except OSError:
        return False


def test_numeric_addresses_are_not_looked_up(qmp):
    for host, port in (("localhost", "0"), ("127.0.0.1", "nbd")):
        address = {"type": "inet", "data": {"host": host, "port": port, "numeric": True}}
        assert f"{host}:{port}" in qmp.error("nbd-server-start", addr=address).desc
    qmp.execute("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0", "numeric": True}})


@pytest.mark.parametrize("keep_alive", [False, True])
def test_keep_alive_packets(daemon, qmp, keep_alive):
    """The kernel shows a timer of kind 02 for a connection that is kept alive, once all is acknowledged (kind 01)."""
    null(qmp, "a")
    qmp.execute("nbd-server-start",
                addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0", "keep-alive": keep_alive}})
    qmp.execute("block-export-add", type="nbd", id="e", node_name="a")
    port = int(servers(qmp)["default"]["addresses"][0]["port"])
    client = nbd.NBD()
    client.set_export_name("a")
    client.connect_tcp("127.0.0.1", str(port))
    timers = ["01"]
    while timers == ["01"]:
        lines = [line.split() for line in open(f"/proc/{daemon.pid}/net/tcp").readlines()[1:]]
        timers = [fields[5].split(":")[0] for fields in lines
                  if int(fields[1].split(":")[1], 16) == port and fields[3] == "01"]
    assert timers == (["02"] if keep_alive else ["00"])
    client.shutdown()


def test_a_socket_that_the_daemon_was_started_with(start_daemon, tmp_path):
    """As systemd hands them over: the number of a descriptor that listens already."""
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "inherited.sock"))
        listener.listen()
        early = nbd.NBD()  # connects before anybody serves
        early.set_export_name("a")
        early.aio_connect_unix(str(tmp_path / "inherited.sock"))
        daemon = start_daemon("--nbd-server", f"id=given,addr.type=fd,addr.str={listener.fileno()}",
                              "--blockdev", "null-co,node-name=a,size=1048576,read-zeroes=on",
                              "--export", "nbd,id=e,node-name=a,servers.0=given", pass_fds=[listener.fileno()])
    qmp = daemon.connect()
    while early.aio_is_connecting():
        early.poll(-1)
    assert early.pread(512, 0) == bytes(512)
    given = servers(qmp)["given"]
    assert given["addresses"] == [{"type": "unix", "path": str(tmp_path / "inherited.sock")}]
    early.shutdown()
    qmp.execute("nbd-server-stop", id="given")
    assert (tmp_path / "inherited.sock").exists()  # not ours to remove
    assert "descriptor" in qmp.error("nbd-server-start", addr={"type": "fd", "data": {"str": "0"}}).desc


def test_servers_of_a_configuration_file(start_daemon, tmp_path):
    (tmp_path / "cairn.yaml").write_text("""
        nodes:
        - {driver: null-co, node-name: a, size: 1048576}
        nbd-server:
          addr: {type: unix, path: nbd.sock}
        nbd-servers:
        - {id: backup, addr: {type: unix, path: backup.sock}, max-connections: 1}
        exports:
        - {type: nbd, id: e0, node-name: a}
        - {type: nbd, id: e1, node-name: a, name: other, servers: [backup]}
        """)
    start_daemon("--config", "cairn.yaml")
    assert shown(tmp_path / "nbd.sock") == ["a"]
    assert shown(tmp_path / "backup.sock") == ["a", "other"]
    assert nbd_client.connect(tmp_path / "nbd.sock", "a").can_multi_conn()
    assert not nbd_client.connect(tmp_path / "backup.sock", "a").can_multi_conn()


# The older commands --------------------------------------------------------------------------------------------------


def test_nbd_server_add_and_remove(qmp, tmp_path):
    null(qmp, "disk", 64 * KIB)
    qmp.execute("blockdev-add", driver="null-co", node_name="fixed", size=MIB, read_only=True)
    assert qmp.error("nbd-server-add", device="disk").desc == "NBD server not running"
    assert qmp.error("nbd-server-remove", name="disk").desc == "NBD server not running"
    path = nbd_client.start_server(qmp, tmp_path)
    qmp.execute("nbd-server-add", device="disk")
    qmp.execute("nbd-server-add", device="disk", name="writable", description="for people", writable=True)
    qmp.execute("nbd-server-add", device="fixed", writable=True)  # quietly read-only
    assert shown(path) == ["disk", "writable", "fixed"]
    assert [export["id"] for export in qmp.execute("query-block-exports")] == ["disk", "writable", "fixed"]
    clients = [nbd_client.connect(path, name) for name in ("disk", "writable", "fixed")]
    assert [client.is_read_only() for client in clients] == [True, False, True]

    assert qmp.error("nbd-server-add", device="disk").desc == "Block export id 'disk' is already in use"
    assert qmp.error("nbd-server-add", device="nowhere").desc == "Cannot find device='' nor node-name='nowhere'"
    assert qmp.error("nbd-server-add", device="disk", name="two words").desc == "Invalid block export id 'two words'"
    assert "nope" in qmp.error("nbd-server-add", device="disk", name="x", bitmap="nope").desc
    assert qmp.error("nbd-server-remove", name="nobody").desc == "Export 'nobody' is not found"
    assert "still in use" in qmp.error("nbd-server-remove", name="disk").desc
    qmp.execute("nbd-server-remove", name="disk", mode="hard")
    with pytest.raises(nbd.Error):
        clients[0].pread(512, 0)
    assert qmp.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "disk"}
