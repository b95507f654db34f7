"""The driver nbd with TLS: servers are qemu-nbd, nbdkit and a second daemon, with certificates that are good and bad, and
with keys; and some that do not keep to the protocol."""

import random
import shutil
import socket as sockets
import struct
import threading

import pytest

import nbd_client
from images import KIB, MIB
from pki import Pki
from qmp import QMPError

SIZE = 4 * MIB
KEY = "ab" * 32
GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
REPLY_ACK, REPLY_POLICY = 1, 0x80000002


def reply(kind, text=b"", option=5):
    return struct.pack(">QIII", 0x3e889045565a9, option, kind, len(text)) + text


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("ca", "other"):
        pki.authority(name)
    pki.issue("server", "/CN=localhost", by="ca", kind="server")
    pki.issue("expired", "/CN=localhost", by="ca", kind="server", days=-1)
    pki.issue("stranger", "/CN=localhost", by="other", kind="server")
    pki.issue("revoked", "/CN=localhost", by="ca", kind="server")
    pki.issue("wildcard", "/CN=*.example.org", by="ca", kind="any")
    pki.issue("client", "/CN=laptop", by="ca", kind="client")
    pki.issue("locked", "/CN=laptop", by="ca", kind="client", password="sesame")
    pki.issue("outsider", "/CN=laptop", by="other", kind="client")
    for name in ("server", "expired", "stranger", "revoked", "wildcard"):
        pki.directory(f"at-{name}", ca=["ca", "other"], server=name)
    pki.directory("believes-in-one", ca="ca", server="server")
    pki.directory("at-client", ca="ca", client="client", crl=pki.revoke("ca", "revoked"))
    pki.directory("at-locked", ca="ca", client="locked")
    pki.directory("at-outsider", ca=["ca", "other"], client="outsider")
    pki.directory("at-nobody", ca="ca")
    pki.path("at-keys").mkdir()
    (pki.path("at-keys") / "keys.psk").write_text(f"alice:{KEY}\nbob:{'cd' * 32}\n")
    pki.path("at-other-keys").mkdir()
    (pki.path("at-other-keys") / "keys.psk").write_text(f"alice:{'ef' * 32}\ncarol:{KEY}\n")
    return pki


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "server.raw"
    path.write_bytes(bytes(MIB) + random.Random(1).randbytes(MIB) + bytes(SIZE - 2 * MIB))
    return path


def unix(path):
    return {"type": "unix", "path": str(path)}


class Maker:
    """Starts the server of one kind, with the export "disk" on server.sock."""

    def __init__(self, kind, serve, start_daemon, tmp_path, image):
        self.kind, self.serve, self.start_daemon = kind, serve, start_daemon
        self.path, self.image = tmp_path / "server.sock", image

    def start(self, creds):
        """@creds: kind of the credentials, their directory, further options."""
        kind, directory, *options = creds
        words = ",".join([f"tls-creds-{kind},id=t,endpoint=server", *([f"dir={directory}"] if directory else []), *options])
        if self.kind == "qemu-nbd":
            return self.serve("qemu-nbd", "-k", self.path, "-t", "-e", "8", "-f", "raw", "-x", "disk",
                              "--object", words, "--tls-creds", "t", self.image)
        if self.kind == "nbdkit":
            if not shutil.which("nbdkit"):
                pytest.skip("there is no nbdkit")
            tls = ([f"--tls-psk={directory}/keys.psk"] if kind == "psk"
                   else [f"--tls-certificates={directory}", "--tls-verify-peer"])
            return self.serve("nbdkit", "-f", "-U", self.path, "--tls=require", *tls, "file", self.image)
        return self.start_daemon("--object", words, "--blockdev",
                                 f"driver=file,node-name=disk,filename={self.image},discard=unmap",
                                 "--nbd-server", f"addr.type=unix,addr.path={self.path},tls-creds=t",
                                 "--export", "type=nbd,id=disk,node-name=disk,name=disk,writable=on")


@pytest.fixture(params=["qemu-nbd", "nbdkit", "cairnd"])
def anything(request, daemon, serve, start_daemon, tmp_path, image):
    """Any server; @daemon, the first one, is the client."""
    return Maker(request.param, serve, start_daemon, tmp_path, image)


@pytest.fixture
def server(daemon, serve, start_daemon, tmp_path, image):
    return Maker("qemu-nbd", serve, start_daemon, tmp_path, image)


def add_creds(qmp, kind, directory=None, **options):
    where = {"dir": str(directory)} if directory else {}
    qmp.execute("object-add", {"qom-type": f"tls-creds-{kind}", "id": "tls0", "endpoint": "client", **where, **options})


def client_options(server, **options):
    return {"driver": "nbd", "node-name": "remote", "server": unix(server.path), "export": "disk", "tls-creds": "tls0",
            **options}


def add_client(qmp, server, **options):
    qmp.execute("blockdev-add", client_options(server, **options))


def without_node(error):
    assert error.desc.startswith("node 'remote' (driver 'nbd'): ")
    return error.desc[len("node 'remote' (driver 'nbd'): "):]


def why_not(qmp, server, **options):
    return without_node(qmp.error("blockdev-add", client_options(server, **options)))


def open_disk(qmp, daemon):
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, "remote", writable=True)
    return nbd_client.connect(socket, "remote")


def prove_that_it_works(qmp, daemon, image):
    disk = open_disk(qmp, daemon)
    model = bytearray(image.read_bytes())
    assert nbd_client.read_all(disk, chunk=MIB) == model
    rng = random.Random(2)
    for length in (512, 64 * KIB, 100 * KIB, 3 * MIB):
        data = rng.randbytes(length)
        offset = rng.randrange(0, SIZE - length, 512)
        disk.pwrite(data, offset)
        model[offset:offset + length] = data
    assert nbd_client.read_all(disk, chunk=MIB) == model
    disk.flush()
    assert image.read_bytes() == model


# Who is who ---------------------------------------------------------------------------------------------------------------

def test_with_certificates(anything, qmp, daemon, pki, image):
    anything.start(("x509", pki.path("at-server"), "verify-peer=yes"))
    add_creds(qmp, "x509", pki.path("at-client"))
    add_client(qmp, anything, **{"tls-hostname": "localhost"})
    prove_that_it_works(qmp, daemon, image)


def test_with_a_key_that_both_have(anything, qmp, daemon, pki, image):
    anything.start(("psk", pki.path("at-keys")))
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    add_client(qmp, anything)
    prove_that_it_works(qmp, daemon, image)


@pytest.mark.parametrize("kind", ["qemu-nbd", "cairnd"])
def test_without_any_proof(kind, serve, start_daemon, tmp_path, qmp, daemon, image):
    server = Maker(kind, serve, start_daemon, tmp_path, image)
    server.start(("anon", None))
    add_creds(qmp, "anon")
    add_client(qmp, server)
    prove_that_it_works(qmp, daemon, image)


def test_a_key_with_a_password(server, qmp, daemon, pki, image):
    """And versions and ciphers as the credentials have them."""
    server.start(("x509", pki.path("at-server"), "verify-peer=yes"))
    qmp.execute("object-add", qom_type="secret", id="sec0", data="sesame")
    add_creds(qmp, "x509", pki.path("at-locked"), passwordid="sec0", priority="NORMAL:-VERS-TLS1.3")
    add_client(qmp, server, **{"tls-hostname": "localhost"})
    prove_that_it_works(qmp, daemon, image)


@pytest.mark.parametrize("at, host, message", [
    ("at-expired", "localhost", "its certificate is not accepted: certificate has expired"),
    ("at-stranger", "localhost", "its certificate is not accepted: "),
    ("at-revoked", "localhost", "its certificate is not accepted: certificate revoked"),
    ("at-server", "other.example.org", "its certificate is not for 'other.example.org'"),
    ("at-server", "127.0.0.2", "its certificate is not for '127.0.0.2'"),
    ("at-wildcard", "example.org", "its certificate is not for 'example.org'"),
])
def test_servers_that_are_not_who_they_should_be(at, host, message, server, qmp, pki):
    server.start(("x509", pki.path(at), "verify-peer=no", "sanity-check=no"))
    add_creds(qmp, "x509", pki.path("at-client"))
    error = why_not(qmp, server, **{"tls-hostname": host})
    assert error.startswith(f"cannot connect to 'unix:{server.path}': TLS: {message}"), error


@pytest.mark.parametrize("at, host", [("at-server", "127.0.0.1"), ("at-wildcard", "nbd.example.org")])
def test_other_names_of_a_server(at, host, server, qmp, pki):
    server.start(("x509", pki.path(at), "verify-peer=no", "sanity-check=no"))
    add_creds(qmp, "x509", pki.path("at-client"))
    add_client(qmp, server, **{"tls-hostname": host})


def test_whoever_does_not_want_to_know_the_server(server, qmp, daemon, pki, image):
    server.start(("x509", pki.path("at-stranger"), "verify-peer=no"))
    add_creds(qmp, "x509", pki.path("at-client"), **{"verify-peer": False})
    add_client(qmp, server)
    prove_that_it_works(qmp, daemon, image)


@pytest.mark.parametrize("who", ["at-nobody", "at-outsider"])
def test_servers_that_do_not_let_us_in(who, anything, qmp, pki):
    """In TLS 1.3 the handshake is over when the server says so."""
    anything.start(("x509", pki.path("believes-in-one"), "verify-peer=yes"))
    add_creds(qmp, "x509", pki.path(who))
    error = why_not(qmp, anything, **{"tls-hostname": "localhost"})
    assert error.startswith(f"cannot connect to 'unix:{anything.path}': TLS: the server ended it: "), error
    reason = ("certificate required" if who == "at-nobody" else "unknown ca") if anything.kind == "cairnd" else "certificate"
    assert reason in error, error


@pytest.mark.parametrize("directory, user", [("at-other-keys", "alice"), ("at-other-keys", "carol")])
def test_keys_that_the_server_does_not_have(directory, user, anything, qmp, pki):
    anything.start(("psk", pki.path("at-keys")))
    add_creds(qmp, "psk", pki.path(directory), username=user)
    assert why_not(qmp, anything).startswith(f"cannot connect to 'unix:{anything.path}': TLS: ")


# Names ---------------------------------------------------------------------------------------------------------------------

def test_the_name_of_the_host_is_that_of_its_address(start_daemon, qmp, daemon, pki, own_name):
    other = start_daemon("--object", f"tls-creds-x509,id=t,endpoint=server,dir={pki.path('at-server')},verify-peer=no",
                         "--blockdev", f"driver=null-co,node-name=disk,size={MIB},read-zeroes=on",
                         "--nbd-server", "addr.type=inet,addr.host=127.0.0.1,addr.port=0,tls-creds=t",
                         "--export", "type=nbd,id=disk,node-name=disk,name=disk").connect()
    port = other.execute("query-nbd-servers")[0]["addresses"][0]["port"]
    add_creds(qmp, "x509", pki.path("at-client"))
    options = {"driver": "nbd", "node-name": "remote", "export": "disk", "tls-creds": "tls0", "read-only": True}
    for host in (own_name, "127.0.0.1"):
        server = {"type": "inet", "host": host, "port": port}
        qmp.execute("blockdev-add", {**options, "server": server})
        qmp.execute("blockdev-del", node_name="remote")
        assert "its certificate is not for 'elsewhere'" in qmp.error(
            "blockdev-add", {**options, "server": server, "tls-hostname": "elsewhere"}).desc


def test_a_path_is_no_name_of_a_host(server, qmp, pki):
    add_creds(qmp, "x509", pki.path("at-client"))
    assert why_not(qmp, server).startswith("tls-hostname: is missing")


def test_credentials_that_do_not_fit(server, qmp, pki):
    assert why_not(qmp, server) == "tls-creds: No TLS credentials with id 'tls0'"
    add_creds(qmp, "x509", pki.path("at-server"), endpoint="server")
    assert why_not(qmp, server) == "tls-creds: TLS credentials 'tls0' have endpoint 'server', but 'client' is wanted"
    error = qmp.error("blockdev-add", {"driver": "nbd", "node-name": "remote", "server": unix(server.path),
                                       "tls-hostname": "x"})
    assert without_node(error) == "tls-hostname: needs tls-creds"


def test_credentials_stay_while_a_node_uses_them(server, qmp, pki):
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    why_not(qmp, server)  # there is no server yet: nobody uses them
    qmp.execute("object-del", id="tls0")
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    server.start(("psk", pki.path("at-keys")))
    add_client(qmp, server)
    assert "node 'remote'" in qmp.error("object-del", id="tls0").desc
    qmp.execute("blockdev-del", node_name="remote")
    qmp.execute("object-del", id="tls0")


def test_what_can_be_reopened(server, qmp, pki):
    server.start(("psk", pki.path("at-keys")))
    for name in ("tls0", "tls1"):
        qmp.execute("object-add", {"qom-type": "tls-creds-psk", "id": name, "dir": str(pki.path("at-keys")),
                                   "username": "alice"})
    add_client(qmp, server)
    qmp.execute("blockdev-reopen", options=[client_options(server, **{"read-only": True})])
    error = qmp.error("blockdev-reopen", options=[client_options(server, **{"tls-creds": "tls1"})]).desc
    assert "Cannot change the option 'tls-creds'" in error, error
    qmp.execute("object-del", id="tls1")
    assert "node 'remote'" in qmp.error("object-del", id="tls0").desc


# A connection's life ----------------------------------------------------------------------------------------------------------

def test_requests_wait_for_a_server_that_comes_back(server, qmp, daemon, pki, image):
    process = server.start(("x509", pki.path("at-server"), "verify-peer=yes"))
    add_creds(qmp, "x509", pki.path("at-client"))
    add_client(qmp, server, **{"tls-hostname": "localhost", "reconnect-delay": 60})
    disk = open_disk(qmp, daemon)
    process.kill()
    daemon.wait_for_log("lost the connection to")
    outcome = []
    reader = threading.Thread(target=lambda: outcome.append(disk.pread(MIB, MIB)))
    reader.start()
    process.start()
    reader.join()
    assert outcome == [image.read_bytes()[MIB:2 * MIB]]


def test_a_server_that_comes_back_as_somebody_else(server, qmp, daemon, pki):
    process = server.start(("x509", pki.path("at-server"), "verify-peer=no"))
    add_creds(qmp, "x509", pki.path("at-client"))
    add_client(qmp, server, **{"tls-hostname": "localhost"})
    process.kill()
    server.start(("x509", pki.path("at-stranger"), "verify-peer=no"))
    daemon.wait_for_log("its certificate is not accepted")
    qmp.execute("blockdev-del", node_name="remote")


class Script:
    """A server that sends what it is told and then no more, at server.sock."""

    def __init__(self, path):
        self.path = path
        self.listener = sockets.socket(sockets.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.connections = []

    def play(self, *parts):
        """Each part after something was received, the first one at once."""
        def run():
            connection, _ = self.listener.accept()
            self.connections.append(connection)
            for i, part in enumerate(parts):
                if i == 0 or connection.recv(4096):
                    connection.sendall(part)
        self.player = threading.Thread(target=run, daemon=True)
        self.player.start()

    def wait(self):
        """Until all was sent."""
        self.player.join()

    def close(self):
        for socket in (self.listener, *self.connections):
            socket.close()


@pytest.fixture
def script(tmp_path):
    script = Script(tmp_path / "server.sock")
    yield script
    script.close()


@pytest.mark.parametrize("parts, message", [
    ([b"HTTP/1.1 400 Bad Request\r\n"], "what it sends is not the greeting of an NBD server"),
    ([b"NBDMAGIC" + bytes.fromhex("0000420281861253") + bytes(136)],
     "the server speaks an old form of the protocol, which knows no TLS"),
    ([GREETING, reply(REPLY_POLICY, b"not \x1b[31mhere\xff")], "the server offers no TLS: it says 'not ?[31mhere?'"),
    ([GREETING, reply(0x80000001)], "the server offers no TLS"),
    ([GREETING, reply(REPLY_ACK, option=7)], "what it sends is not a reply to STARTTLS"),
    ([GREETING, reply(REPLY_ACK, b"x")], "its reply to STARTTLS makes no sense (type 1, 1 bytes)"),
    ([GREETING, struct.pack(">QIII", 0x3e889045565a9, 5, 0x80000001, 0xffffffff)], "its reply to STARTTLS makes no sense"),
    ([GREETING, reply(REPLY_ACK) + reply(REPLY_ACK)], "TLS: "),
    ([GREETING, reply(REPLY_ACK), b"no TLS at all"], "TLS: "),
])
def test_servers_that_do_not_keep_to_the_protocol(parts, message, script, qmp, pki):
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    script.play(*parts)
    assert why_not(qmp, script).startswith(f"cannot connect to 'unix:{script.path}': {message}")


@pytest.mark.parametrize("parts", [[GREETING[:10]], [GREETING], [GREETING, reply(REPLY_ACK)]])
def test_servers_that_fall_silent(parts, script, daemon, qmp, pki):
    """The daemon does other things meanwhile."""
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    script.play(*parts)
    adding = qmp.start("blockdev-add", client_options(script, **{"open-timeout": 1}))
    daemon.connect().execute("blockdev-add", driver="null-co", node_name="other")
    with pytest.raises(QMPError, match="it does not answer"):
        qmp.finish(adding)


def test_the_end_of_a_daemon_that_waits_for_a_handshake(script, daemon, qmp, pki):
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    script.play(GREETING, reply(REPLY_ACK))
    qmp.start("blockdev-add", client_options(script))
    script.wait()
    daemon.stop()


def test_a_server_without_tls(serve, tmp_path, qmp, pki, image):
    server = serve("qemu-nbd", "-k", tmp_path / "server.sock", "-t", "-f", "raw", "-x", "disk", image)
    add_creds(qmp, "psk", pki.path("at-keys"), username="alice")
    assert "the server offers no TLS" in why_not(qmp, server)


def test_a_client_without_tls_where_it_is_needed(server, qmp, pki):
    server.start(("psk", pki.path("at-keys")))
    error = qmp.error("blockdev-add", {"driver": "nbd", "node-name": "remote", "server": unix(server.path),
                                       "export": "disk"}).desc
    assert "TLS" in error, error
