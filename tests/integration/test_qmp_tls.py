"""QMP over TLS: who comes in by which certificate or key, what they may do, and clients that misbehave on the way."""

import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from pki import Pki
from process import BUILD, run_cairnd
from qmp import DEADLINE, QMP, Closed
from test_hung import wait_until

MIB = 1 << 20
BACKUP = "C=GB,O=Example,CN=backup"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp("pki"))
    pki.authority("ca")
    pki.authority("other")
    pki.issue("server", "/CN=localhost", by="ca", kind="server")
    pki.issue("backup", "/C=GB/O=Example/CN=backup", by="ca", kind="client")
    pki.issue("mallory", "/C=GB/O=Example/CN=mallory", by="ca", kind="client")
    pki.issue("expired", "/CN=expired", by="ca", kind="client", days=-1)
    pki.issue("stranger", "/C=GB/O=Example/CN=backup", by="other", kind="client")
    pki.directory("at-server", ca="ca", server="server")
    pki.directory("at-backup", ca="ca", client="backup")
    return pki


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def context_of(pki, who=None):
    context = ssl.create_default_context(cafile=pki.path("ca.pem"))
    if who:
        context.load_cert_chain(pki.path(f"{who}.pem"), pki.path(f"{who}.key"))
    return context


class TlsQMP(QMP):
    def __init__(self, port, context, negotiate=True):
        self.context = context
        super().__init__(port, negotiate)

    def connect(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), self.deadline)
        self.socket = self.context.wrap_socket(self.socket, server_hostname="localhost")


@pytest.fixture
def start(start_daemon, pki, tmp_path):
    """A daemon with a monitor on TCP, and one on a Unix socket; its port."""
    def start(monitor="", objects="", verify="true"):
        port = free_port()
        (tmp_path / "cairn.yaml").write_text(f"""
objects:
- {{qom-type: tls-creds-x509, id: tls, endpoint: server, dir: {pki.path("at-server")}, verify-peer: {verify}}}
{objects}
monitors:
- path: remote
  addr: {{type: inet, host: 127.0.0.1, port: '{port}'}}
  tls-creds: tls
  {monitor}
""")
        daemon = start_daemon("--config", "cairn.yaml")
        return daemon, port
    return start


def turned_away(port, context):
    """With TLS 1.3 a client hears only after its handshake that it is not let in."""
    with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
        TlsQMP(port, context)


def test_a_client_with_a_certificate_comes_in_and_is_known(start, pki):
    daemon, port = start("role: read\n  roles: [{tls-name: '*,CN=backup', role: operate}]")
    with TlsQMP(port, context_of(pki, "backup")) as client:
        me, = [session for session in client.execute("query-sessions") if session["self"]]
        assert me["tls-name"] == BACKUP and me["role"] == "operate" and "pid" not in me
        assert me["address"] == "%s:%d" % client.socket.getsockname()
        client.execute("blockdev-add", driver="null-co", node_name="disk")
        assert client.error("quit").desc == (
            f"The command quit needs the role 'admin', and this monitor gives 'operate' to '{BACKUP}' at {me['address']}")
    with TlsQMP(port, context_of(pki, "mallory")) as client:
        assert "gives 'read' to 'C=GB,O=Example,CN=mallory'" in client.error("blockdev-del", node_name="disk").desc


def test_who_has_no_good_certificate_does_not_come_in(start, pki):
    daemon, port = start()
    for who in (None, "expired", "stranger"):
        turned_away(port, context_of(pki, who))
    assert daemon.log.count("cairnd: warning: chardev 'remote': 127.0.0.1:") == 3
    with TlsQMP(port, context_of(pki, "mallory")) as client:
        assert len(client.execute("query-sessions")) == 1


def test_a_server_that_is_not_trusted_is_noticed(start, pki):
    _, port = start()
    context = ssl.create_default_context(cafile=pki.path("other.pem"))
    context.load_cert_chain(pki.path("backup.pem"), pki.path("backup.key"))
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsQMP(port, context)


def test_authorization_decides_by_name(start, pki):
    daemon, port = start("tls-authz: who", f"- {{qom-type: authz-simple, id: who, identity: '{BACKUP}'}}")
    with TlsQMP(port, context_of(pki, "backup")) as client:
        assert client.error("object-del", id="who").desc.startswith("object 'who' is in use, can not be deleted: chardev 'remote'")
        assert client.error("object-del", id="tls").desc.startswith("object 'tls' is in use, can not be deleted: chardev 'remote'")
    turned_away(port, context_of(pki, "mallory"))
    daemon.wait_for_log("'C=GB,O=Example,CN=mallory' is not let in")


def test_without_verification_nobody_has_a_name(start, pki):
    _, port = start("role: read\n  roles: [{tls-name: '*', role: admin}]", verify="false")
    with TlsQMP(port, context_of(pki)) as client:
        me, = client.execute("query-sessions")
        assert me["role"] == "read" and "tls-name" not in me


def test_role_none_is_told(start, pki):
    _, port = start("role: none")
    plain = socket.create_connection(("127.0.0.1", port), DEADLINE)
    with context_of(pki, "backup").wrap_socket(plain, server_hostname="localhost") as client:
        assert json.loads(client.recv(65536))["error"]["desc"] == "this monitor gives it the role 'none'"
        assert client.recv(1) == b""


def test_the_audit_log_has_the_name(start_daemon, pki, tmp_path):
    port = free_port()
    log = tmp_path / "audit.log"
    daemon = start_daemon(
        "--object", f"tls-creds-x509,id=tls,endpoint=server,dir={pki.path('at-server')}", "--audit", f"path={log}",
        "--chardev", f"socket,id=c,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=tls", "--monitor", "c")
    with TlsQMP(port, context_of(pki, "backup")) as client:
        client.error("blockdev-del", node_name="nobody")
        wait_until(lambda: log.exists() and log.read_text())
        line = json.loads(log.read_text())
    assert line["tls-name"] == BACKUP and line["address"].startswith("127.0.0.1:") and "uid" not in line
    assert daemon.process.poll() is None


def test_large_replies_and_large_messages(start, pki):
    daemon, port = start()
    with TlsQMP(port, context_of(pki, "backup")) as client:
        for i in range(300):
            client.start("blockdev-add", driver="null-co", node_name=f"node{i}")
        for i in range(300):
            assert "return" in client.receive_reply()
        assert len(client.execute("query-named-block-nodes")) == 300
        text = "x" * (8 << 20)
        assert text in client.error("blockdev-del", node_name=text).desc
        sender = threading.Thread(target=client.send_bytes, args=(b'{"execute":"query-qmp-schema"}' * 100,))
        sender.start()
        for _ in range(100):
            assert len(client.receive_reply()["return"]) > 100
        sender.join()


def test_old_protocols_are_refused(start, pki):
    _, port = start()
    context = context_of(pki, "backup")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    TlsQMP(port, context).close()
    old = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"],
                         capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE)
    assert b"QMP" not in old.stdout


def test_nothing_is_negotiated_again(start, pki):
    """TLS 1.2 knows renegotiation, with which a client could make the server compute."""
    daemon, port = start()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-cert", pki.path("backup.pem"),
               "-key", pki.path("backup.key"), "-CAfile", pki.path("ca.pem")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        while b'{"QMP"' not in client.stdout.readline():
            pass
        client.stdin.write(b"R\n")
        client.stdin.flush()
        assert b"no renegotiation" in client.stdout.read()
    TlsQMP(port, context_of(pki, "backup")).close()


# Clients that misbehave --------------------------------------------------------------------------------------------

def connect(port):
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


GARBAGE = {"plain": b'{"execute":"qmp_capabilities"}\r\n', "long": b"\x16\x03\x01\xff\xff" + bytes(100),
           "http": b"GET / HTTP/1.0\r\n\r\n", "noise": random.Random(7).randbytes(4096),
           "cut": b"\x16\x03\x01\x00\x05\x01\x00\x00", "nothing": b""}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_place_of_a_handshake(start, pki, garbage):
    daemon, port = start()
    with connect(port) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        try:
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionError:
            answer = b""
    assert b"QMP" not in answer
    daemon.wait_for_log("chardev 'remote': 127.0.0.1:")
    TlsQMP(port, context_of(pki, "backup")).close()


def test_who_says_nothing_keeps_nobody_out(start, pki):
    daemon, port = start()
    silent = [connect(port) for _ in range(300)]
    for _ in range(3):
        TlsQMP(port, context_of(pki, "backup")).close()
    # There is room for 64: those who came first have been cut off.
    for client in silent[:200]:
        client.settimeout(DEADLINE)
        try:
            assert client.recv(1) == b""
        except ConnectionError:
            pass
    for client in silent:
        client.close()


def first_words():
    """Of a handshake: what makes a server compute."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_flood_of_handshakes_costs_bounded_memory_and_delays_nobody(start, pki):
    daemon, port = start()
    hello = first_words()
    with daemon.connect() as admin:
        TlsQMP(port, context_of(pki, "backup")).close()  # the library is there
        before = daemon.rss_bytes()
        waiting = []
        for i in range(2000):
            waiting.append(connect(port))
            waiting[-1].sendall(hello)
            if i % 20 == 0:
                admin.execute("query-version")
            if len(waiting) > 300:
                waiting.pop(0).close()
        quarantine = 300 * MIB if BUILD.name == "asan" else 0  # AddressSanitizer keeps freed memory for a while
        assert daemon.rss_bytes() - before < 64 * MIB + quarantine
        for client in waiting:
            client.close()
        TlsQMP(port, context_of(pki, "backup")).close()


def test_a_client_that_only_stops_sending_gets_its_answers(start, pki):
    _, port = start()
    client = TlsQMP(port, context_of(pki, "backup"))
    client.send({"execute": "query-version", "id": 1})
    client.send({"execute": "query-qmp-schema", "id": 2})
    incoming, outgoing = client.socket, None
    # Python's unwrap() sends the end and waits for the other's, throwing away what comes: read what is there first.
    assert client.receive_reply()["id"] == 1
    assert client.receive_reply()["id"] == 2
    incoming.unwrap()
    incoming.close()
    assert outgoing is None


def test_a_connection_that_breaks_ends_the_session(start, pki):
    daemon, port = start()
    client = TlsQMP(port, context_of(pki, "backup"))
    with daemon.connect() as admin:
        assert len(admin.execute("query-sessions")) == 2
        client.socket.shutdown(socket.SHUT_RDWR)
        client.close()
        wait_until(lambda: len(admin.execute("query-sessions")) == 1)


def test_a_client_that_does_not_read_delays_nobody(start, pki):
    daemon, port = start()
    lazy = TlsQMP(port, context_of(pki, "backup"))
    lazy.socket.settimeout(0.5)
    before = daemon.rss_bytes()
    sent = 0
    try:
        while sent < 64 << 20:
            sent += lazy.socket.send(b'{"execute":"query-qmp-schema"}' * 1000)
    except (TimeoutError, ssl.SSLError, OSError):
        pass
    assert sent < 16 << 20
    with daemon.connect() as admin:
        for _ in range(100):
            admin.execute("query-version")
        assert daemon.rss_bytes() - before < 32 << 20
    lazy.close()


def test_a_monitor_that_is_removed_takes_its_clients_along(start_daemon, pki):
    port = free_port()
    daemon = start_daemon("--object", f"tls-creds-x509,id=tls,endpoint=server,dir={pki.path('at-server')}")
    with daemon.connect() as admin:
        backend = {"type": "socket", "data": {"tls-creds": "tls", "addr": {
            "type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}}}
        admin.execute("chardev-add", id="c", backend=backend)
        admin.execute("monitor-add", chardev="c")
        client = TlsQMP(port, context_of(pki, "backup"))
        shaking = connect(port)
        # The last words are its own.
        client.execute("monitor-remove", chardev="c")
        client.expect_closed()
        admin.execute("chardev-remove", id="c")
        admin.execute("object-del", id="tls")
        client.close()
        shaking.close()


def test_quit_is_answered(start, pki):
    daemon, port = start()
    client = TlsQMP(port, context_of(pki, "backup"))
    client.socket.suppress_ragged_eofs = False  # it shall say good-bye, not just end
    client.execute("quit")
    client.expect_closed()
    assert daemon.wait() == 0


# The other direction, and keys -----------------------------------------------------------------------------------

def serve_once(listener, context, check):
    plain, _ = listener.accept()
    with context.wrap_socket(plain, server_side=True) as connection:
        check(connection)


def test_a_daemon_that_connects_proves_who_it_is_and_looks_at_its_peer(start_daemon, pki):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.path("ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pki.path("server.pem"), pki.path("server.key"))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(DEADLINE)
    port = listener.getsockname()[1]
    seen = {}

    def check(connection):
        seen["subject"] = dict(pair[0] for pair in connection.getpeercert()["subject"])
        seen["greeting"] = connection.recv(65536)
        connection.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-sessions"}')
        answer = b""
        while answer.count(b"\n") < 2:
            answer += connection.recv(65536)
        seen["sessions"] = json.loads(answer.splitlines()[1])["return"]

    server = threading.Thread(target=serve_once, args=(listener, context, check))
    server.start()
    start_daemon("--object", f"tls-creds-x509,id=tls,endpoint=client,dir={pki.path('at-backup')}",
                 "--chardev", f"socket,id=c,host=127.0.0.1,port={port},tls-creds=tls", "--monitor", "c")
    server.join(DEADLINE)
    listener.close()
    assert seen["subject"]["commonName"] == "backup" and b"QMP" in seen["greeting"]
    assert seen["sessions"][0]["address"] == f"127.0.0.1:{port}" and "pid" not in seen["sessions"][0]


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs a client that knows pre-shared keys")
def test_pre_shared_keys(start_daemon, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "keys.psk").write_text("juliet:00112233445566778899aabbccddeeff\n")
    os.chmod(tmp_path / "keys" / "keys.psk", 0o600)
    port = free_port()
    daemon = start_daemon(
        "--object", f"tls-creds-psk,id=tls,endpoint=server,dir={tmp_path}/keys",
        "--chardev", f"socket,id=c,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=tls",
        "--monitor", "chardev=c,role=none,roles.0.tls-name=juliet,roles.0.role=read")

    def ask(user, key):
        with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-psk_identity", user, "-psk", key,
                               "-cipher", "PSK", "-quiet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as client:
            answer = client.stdout.readline()
            if answer:
                client.stdin.write(b'{"execute":"qmp_capabilities"}{"execute":"query-sessions"}\n')
                client.stdin.flush()
                answer += client.stdout.readline() + client.stdout.readline()
            client.kill()
            return answer

    assert b'"tls-name": "juliet"' in ask("juliet", "00112233445566778899aabbccddeeff")
    assert b"QMP" not in ask("juliet", "00112233445566778899aabbccddeefe")
    assert b"QMP" not in ask("romeo", "00112233445566778899aabbccddeeff")
    assert daemon.process.poll() is None


@pytest.mark.parametrize("options,message", [
    ("tls-creds=nobody", "No TLS credentials with id 'nobody'"),
    ("tls-authz=who", "'tls-authz' option requires 'tls-creds' option"),
    ("tls-creds=client", "server"),
    ("tls-creds=server,tls-authz=nobody", "tls-authz: "),
])
def test_mistakes(pki, options, message):
    told = run_cairnd("--object", f"tls-creds-x509,id=server,endpoint=server,dir={pki.path('at-server')}",
                      "--object", f"tls-creds-x509,id=client,endpoint=client,dir={pki.path('at-backup')}",
                      "--chardev", f"socket,id=c,host=127.0.0.1,port={free_port()},server=on,wait=off,{options}")
    assert told.returncode == 1 and message in told.stderr
