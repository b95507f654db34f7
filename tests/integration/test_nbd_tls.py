"""TLS on the NBD server: who is let in and who is not, as clients see it that were not written here (libnbd and qemu-img
with GnuTLS, Python's ssl with OpenSSL), and at the level of bytes."""

import concurrent.futures
import hashlib
import json
import os
import random
import re
import socket as sockets
import ssl
import struct
import subprocess
import threading
import time

import nbd
import pytest

from images import KIB, MIB, run
from pki import Pki
from process import ROOT, run_cairnd

SIZE = 16 * MIB
LAPTOP = "/C=GB/ST=London/L=London/O=Example, Inc/CN=laptop"
LAPTOP_NAME = "C=GB,ST=London,L=London,O=Example\\, Inc,CN=laptop"  # in the order of the certificate, as GnuTLS has it

OPTION = b"IHAVEOPT"
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY = 1, 2, 3, 5, 6, 7, 8
REP_ACK, REP_SERVER = 1, 2
REP_ERR_INVALID, REP_ERR_TLS_REQD = 0x80000003, 0x80000005


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    pki = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("ca", "other"):
        pki.authority(name)
    pki.authority("expired-ca", days=-1)
    pki.authority("mute-ca", kind="ca-that-may-not-sign")
    pki.issue("server", "/CN=localhost", by="ca", kind="server")
    pki.issue("locked-server", "/CN=localhost", by="ca", kind="server", password="sesame")
    pki.issue("laptop", LAPTOP, by="ca", kind="client")
    pki.issue("mallory", "/O=Example/CN=mallory", by="ca", kind="client")
    pki.issue("expired", "/CN=expired", by="ca", kind="client", days=-1)
    pki.issue("expired-server", "/CN=localhost", by="ca", kind="server", days=-1)
    pki.issue("stranger", LAPTOP, by="other", kind="client")
    pki.issue("selfmade", LAPTOP, kind="client")
    pki.issue("unsigned", "/CN=localhost", by="ca", kind="unsigned")
    pki.issue("revoked", "/CN=revoked", by="ca", kind="client")
    crl = pki.revoke("ca", "revoked")
    pki.directory("at-server", ca="ca", server="server", crl=crl)
    for name in ("laptop", "mallory", "expired", "stranger", "selfmade", "revoked"):
        pki.directory(f"at-{name}", ca="ca", client=name)
    pki.directory("at-nobody", ca="ca")
    pki.directory("at-wrong-purpose", ca="ca", client="server")
    return pki


@pytest.fixture
def disk(qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="base", size=SIZE, read_zeroes=True)
    return "base"


class Server:
    """An NBD server with TLS on a Unix socket, and one export."""

    def __init__(self, qmp, tmp_path, **options):
        self.qmp = qmp
        self.socket = tmp_path / "nbd.sock"
        qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(self.socket)}}, **options)

    def export(self, node, **options):
        self.qmp.execute("block-export-add", type="nbd", id="e", node_name=node, name="disk", writable=True, **options)


def add_creds(qmp, directory, **options):
    qmp.execute("object-add", qom_type="tls-creds-x509", id="tls0", endpoint="server", dir=str(directory), **options)


@pytest.fixture
def serve(qmp, disk, tmp_path, pki):
    """Starts a server with certificates; further arguments are those of nbd-server-start."""
    def start(directory=None, creds=None, **options):
        add_creds(qmp, directory or pki.path("at-server"), **(creds or {}))
        server = Server(qmp, tmp_path, tls_creds="tls0", **options)
        server.export(disk)
        return server
    return start


def connect(server, certificates, export="disk"):
    handle = nbd.NBD()
    handle.set_tls(nbd.TLS_REQUIRE)
    handle.set_tls_certificates(str(certificates))
    handle.set_tls_verify_peer(False)
    handle.set_export_name(export)
    handle.connect_unix(str(server.socket))
    return handle


def is_let_in(server, certificates):
    """It is not enough that a handshake ends well: with TLS 1.3 the client is done before the server looked at it."""
    try:
        handle = connect(server, certificates)
        return handle.pread(512, 0) == bytes(512)
    except nbd.Error:
        return False


# Certificates -----------------------------------------------------------------------------------------------------

def test_a_client_with_a_certificate_reads_and_writes(serve, pki):
    handle = connect(serve(), pki.path("at-laptop"))
    assert handle.get_tls_negotiated() and handle.get_size() == SIZE
    assert handle.can_multi_conn() and handle.get_structured_replies_negotiated()
    handle.pwrite(b"x" * 100 * KIB, 12345)
    assert handle.pread(MIB, 777) == bytes(MIB)
    handle.shutdown()


@pytest.mark.parametrize("who, reason", [
    ("nobody", "peer did not return a certificate"),
    ("expired", "certificate has expired"),
    ("revoked", "certificate revoked"),
    ("wrong-purpose", "unsuitable certificate purpose"),
])
def test_who_stays_outside(serve, daemon, pki, who, reason):
    server = serve()
    assert not is_let_in(server, pki.path(f"at-{who}"))
    daemon.wait_for_log(reason)
    assert is_let_in(server, pki.path("at-laptop"))


@pytest.mark.parametrize("who, reason", [
    ("stranger", "its certificate is not accepted: unable to get local issuer certificate"),
    ("selfmade", "its certificate is not accepted: self-signed certificate"),
])
def test_whose_certificate_comes_from_elsewhere(serve, daemon, pki, who, reason):
    """GnuTLS keeps such a certificate to itself, OpenSSL shows it."""
    server = serve()
    assert not is_let_in(server, pki.path(f"at-{who}"))
    context = insecure_context()
    context.load_cert_chain(pki.path(f"{who}.pem"), pki.path(f"{who}.key"))
    with Raw(server) as raw, pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
        raw.start_tls(context)
        raw.go("disk")
    daemon.wait_for_log(reason)


def test_without_verify_peer_nobody_has_to_show_a_certificate(serve, pki):
    server = serve(creds={"verify_peer": False})
    assert is_let_in(server, pki.path("at-nobody")) and is_let_in(server, pki.path("at-stranger"))


def test_a_server_without_verify_peer_needs_no_authority(serve, pki, tmp_path):
    directory = Pki(tmp_path / "pki")
    directory.issue("server", "/CN=localhost", kind="any")
    server = serve(directory.directory("alone", server="server"), creds={"verify_peer": False})
    assert is_let_in(server, pki.path("at-nobody"))


def test_a_key_with_a_password(serve, qmp, pki):
    directory = pki.directory("locked", ca="ca", server="locked-server")
    error = qmp.error("object-add", qom_type="tls-creds-x509", id="tls0", endpoint="server", dir=str(directory))
    assert error.desc.endswith("server-key.pem': the key is encrypted, passwordid has to name the secret with its password")
    qmp.execute("object-add", qom_type="secret", id="wrong", data="open barley")
    error = qmp.error("object-add", qom_type="tls-creds-x509", id="tls0", endpoint="server", dir=str(directory),
                      passwordid="wrong")
    assert "the key cannot be decrypted with the password of passwordid" in error.desc and "barley" not in error.desc
    qmp.execute("object-add", qom_type="secret", id="right", data="sesame")
    assert is_let_in(serve(directory, creds={"passwordid": "right"}), pki.path("at-laptop"))


def test_a_chain_with_an_intermediate_authority(serve, pki):
    pki.issue("between", "/CN=between", by="ca", kind="ca")
    pki.issue("below", "/CN=localhost", by="between", kind="server")
    pki.path("chain.pem").write_text(pki.path("below.pem").read_text() + pki.path("between.pem").read_text())
    pki.path("chain.key").write_text(pki.path("below.key").read_text())
    server = serve(pki.directory("chain", ca="ca", server="chain"))
    context = ssl.create_default_context(cafile=str(pki.path("ca.pem")))
    context.load_cert_chain(pki.path("laptop.pem"), pki.path("laptop.key"))
    with Raw(server) as raw:
        raw.start_tls(context)
        assert raw.go("disk")


# What is wrong with certificates is told when credentials are made ---------------------------------------------------

@pytest.mark.parametrize("parts, message", [
    ({"server": "server"}, "cannot read '{dir}/ca-cert.pem': No such file or directory"),
    ({"ca": "ca"}, "cannot read '{dir}/server-cert.pem': No such file or directory"),
    ({"ca": "expired-ca", "server": "server"}, "'{dir}/ca-cert.pem': certificate 'CN=expired-ca' has expired on "),
    ({"ca": "mute-ca", "server": "server"},
     "'{dir}/ca-cert.pem': certificate 'CN=mute-ca' may not sign others (keyUsage: keyCertSign is expected)"),
    ({"ca": ["ca", "laptop"], "server": "server"},
     "'{dir}/ca-cert.pem': certificate '" + LAPTOP_NAME + "' is not that of a CA (basicConstraints: CA:TRUE is expected)"),
    ({"ca": "ca", "server": "expired-server"}, "'{dir}/server-cert.pem': certificate 'CN=localhost' has expired on "),
    ({"ca": "ca", "server": "laptop"},
     "'{dir}/server-cert.pem': certificate '" + LAPTOP_NAME + "' is not for a server (extendedKeyUsage: serverAuth is "
     "expected)"),
    ({"ca": "ca", "server": "unsigned"}, "'{dir}/server-cert.pem': certificate 'CN=localhost' may not sign a handshake "
                                         "(keyUsage: digitalSignature is expected)"),
    ({"ca": "ca", "server": "ca"},
     "'{dir}/server-cert.pem': certificate 'CN=ca' is that of a CA (basicConstraints), one of a server is expected"),
    ({"ca": "other", "server": "server"}, "'{dir}/server-cert.pem': certificate 'CN=localhost' is not accepted with "
                                          "what ca-cert.pem holds: unable to get local issuer certificate"),
])
def test_sanity(qmp, pki, tmp_path, parts, message):
    directory = pki.directory(tmp_path.name, **parts)
    arguments = {"qom_type": "tls-creds-x509", "id": "t", "endpoint": "server", "dir": str(directory)}
    error = qmp.error("object-add", **arguments)
    assert error.desc.startswith("tls-creds-x509 't': " + message.format(dir=directory)), error.desc
    if "No such file" not in message:
        qmp.execute("object-add", sanity_check=False, **arguments)


def test_files_that_are_something_else(qmp, pki, tmp_path):
    directory = pki.directory(tmp_path.name, ca="ca", server="server")
    arguments = {"qom_type": "tls-creds-x509", "id": "t", "endpoint": "server", "dir": str(directory)}

    def fails(name, content, message):
        before = (directory / name).read_text() if (directory / name).exists() else None
        (directory / name).write_text(content)
        error = qmp.error("object-add", **arguments)
        assert error.desc.startswith(f"tls-creds-x509 't': '{directory}/{name}': {message}"), error.desc
        (directory / name).unlink() if before is None else (directory / name).write_text(before)

    fails("ca-cert.pem", "", "expected a certificate in PEM, there is none")
    fails("server-cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
          "certificate 1 cannot be read: ")
    fails("server-key.pem", "", "expected a private key in PEM")
    fails("server-key.pem", pki.path("laptop.key").read_text(), "is not the key of the certificate in 'server-cert.pem'")
    fails("ca-crl.pem", "nothing", "expected a list of revoked certificates, there is none")
    fails("dh-params.pem", "nothing", "expected parameters of Diffie-Hellman in PEM")
    qmp.execute("object-add", **arguments)


def test_a_key_that_everybody_can_read(qmp, daemon, pki, tmp_path):
    directory = pki.directory(tmp_path.name, ca="ca", server="server")
    os.chmod(directory / "server-key.pem", 0o644)
    add_creds(qmp, directory)
    daemon.wait_for_log(f"tls-creds-x509 'tls0': '{directory}/server-key.pem' can be read by everybody")


def test_credentials_of_clients_are_looked_at_too(qmp, pki, tmp_path):
    qmp.execute("object-add", qom_type="tls-creds-x509", id="c0", dir=str(pki.path("at-laptop")))
    qmp.execute("object-add", qom_type="tls-creds-x509", id="c1", dir=str(pki.path("at-nobody")))
    error = qmp.error("object-add", qom_type="tls-creds-x509", id="c2", dir=str(pki.path("at-wrong-purpose")))
    assert "certificate 'CN=localhost' is not for a client (extendedKeyUsage: clientAuth is expected)" in error.desc
    error = qmp.error("object-add", qom_type="tls-creds-x509", id="c3", dir=str(pki.path("at-server")) + "/nowhere")
    assert "nowhere/ca-cert.pem': No such file or directory" in error.desc
    assert qmp.execute("qom-get", path="c0", property="endpoint") == "client"


# Priorities -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("priority, version, goes", [
    (None, ssl.TLSVersion.TLSv1_3, True),
    (None, ssl.TLSVersion.TLSv1_2, True),
    ("NORMAL:-VERS-TLS1.2", ssl.TLSVersion.TLSv1_2, False),
    ("NORMAL:-VERS-TLS1.3", ssl.TLSVersion.TLSv1_3, False),
    ("SECURE256", ssl.TLSVersion.TLSv1_3, True),
])
def test_versions(serve, pki, priority, version, goes):
    server = serve(creds={"verify_peer": False, **({"priority": priority} if priority else {})})
    context = insecure_context()
    context.minimum_version = context.maximum_version = version
    with Raw(server) as raw:
        if goes:
            raw.start_tls(context)
            assert raw.go("disk")
        else:
            with pytest.raises(ssl.SSLError):
                raw.start_tls(context)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(serve, daemon, version):
    server = serve(creds={"verify_peer": False})
    context = insecure_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with Raw(server) as raw, pytest.raises(ssl.SSLError):
        raw.start_tls(context)
    daemon.wait_for_log("unsupported protocol")


def test_a_priority_that_is_not_understood(qmp, pki):
    error = qmp.error("object-add", qom_type="tls-creds-x509", id="t", endpoint="server",
                      dir=str(pki.path("at-server")), priority="NORMAL:+ROT13")
    assert error.desc.startswith("tls-creds-x509 't': priority: 'NORMAL:+ROT13': 'ROT13' is not understood; understood "
                                 "are: NORMAL, "), error.desc


# Who may come in ----------------------------------------------------------------------------------------------------

def test_one_name_is_let_in(serve, qmp, daemon, pki):
    qmp.execute("object-add", qom_type="authz-simple", id="a0", identity=LAPTOP_NAME)
    server = serve(tls_authz="a0")
    assert is_let_in(server, pki.path("at-laptop"))
    assert not is_let_in(server, pki.path("at-mallory"))
    daemon.wait_for_log("'O=Example,CN=mallory' is not let in")


def test_names_by_rules(serve, qmp, pki):
    rules = [{"match": "*,CN=mallory", "policy": "deny", "format": "glob"},
             {"match": "C=GB,*", "policy": "allow", "format": "glob"}]
    qmp.execute("object-add", qom_type="authz-list", id="a0", rules=rules)
    server = serve(tls_authz="a0")
    assert is_let_in(server, pki.path("at-laptop")) and not is_let_in(server, pki.path("at-mallory"))


def test_names_by_rules_in_a_file_that_changes(serve, qmp, daemon, pki, tmp_path):
    acl = tmp_path / "acl.json"
    acl.write_text(json.dumps({"rules": [{"match": LAPTOP_NAME, "policy": "allow"}]}))
    qmp.execute("object-add", qom_type="authz-list-file", id="a0", filename=str(acl))
    server = serve(tls_authz="a0")
    assert is_let_in(server, pki.path("at-laptop")) and not is_let_in(server, pki.path("at-mallory"))
    acl.write_text(json.dumps({"rules": [{"match": "*mallory", "policy": "allow", "format": "glob"}]}))
    assert not is_let_in(server, pki.path("at-laptop")) and is_let_in(server, pki.path("at-mallory"))
    acl.write_text("{")
    assert not is_let_in(server, pki.path("at-mallory"))
    daemon.wait_for_log(f"is not let in: '{acl}': JSON parse error")


def test_options_of_the_server(qmp, pki, tmp_path, disk):
    address = {"type": "unix", "data": {"path": str(tmp_path / "nbd.sock")}}

    def error(**options):
        return qmp.error("nbd-server-start", addr=address, **options).desc

    assert error(tls_creds="nope") == "No TLS credentials with id 'nope'"
    assert error(tls_authz="nope") == "tls-authz needs tls-creds"
    qmp.execute("object-add", qom_type="tls-creds-x509", id="client", dir=str(pki.path("at-laptop")))
    assert error(tls_creds="client") == "TLS credentials 'client' have endpoint 'client', but 'server' is wanted"
    add_creds(qmp, pki.path("at-server"))
    assert error(tls_creds="tls0", tls_authz="nope").startswith("tls-authz: object 'nope' not found")
    assert error(tls_creds="tls0", tls_authz="client").startswith("tls-authz: object 'client' is a 'tls-creds-x509'")
    qmp.execute("object-add", qom_type="tls-creds-x509", id="open", endpoint="server", dir=str(pki.path("at-server")),
                verify_peer=False)
    qmp.execute("object-add", qom_type="authz-simple", id="a0", identity="x")
    assert "clients prove no name (verify-peer is off" in error(tls_creds="open", tls_authz="a0")
    for name in ("client", "tls0", "open", "a0"):
        qmp.execute("object-del", id=name)


def test_objects_stay_while_a_server_uses_them(serve, qmp, pki):
    qmp.execute("object-add", qom_type="authz-simple", id="a0", identity=LAPTOP_NAME)
    server = serve(tls_authz="a0")
    handle = connect(server, pki.path("at-laptop"))
    for name in ("tls0", "a0"):
        error = qmp.error("object-del", id=name)
        assert error.desc == f"object '{name}' is in use, can not be deleted: NBD server 'default' uses it"
    assert handle.pread(512, 0) == bytes(512)
    qmp.execute("nbd-server-stop")
    qmp.execute("object-del", id="tls0")
    qmp.execute("object-del", id="a0")


# Pre-shared keys ------------------------------------------------------------------------------------------------------

@pytest.fixture
def keys(tmp_path):
    directory = tmp_path / "psk"
    directory.mkdir()
    (directory / "keys.psk").write_text("qemu:" + "01" * 32 + "\nalice:" + "ab" * 32 + "\n")
    os.chmod(directory / "keys.psk", 0o600)
    return directory


def connect_with_key(server, keys, user):
    handle = nbd.NBD()
    handle.set_tls(nbd.TLS_REQUIRE)
    handle.set_tls_psk_file(str(keys))
    handle.set_tls_username(user)
    handle.set_export_name("disk")
    handle.connect_unix(str(server.socket))
    return handle


@pytest.mark.parametrize("priority", ["NORMAL", "NORMAL:-VERS-TLS1.3", "NORMAL:-VERS-TLS1.2"])
def test_keys(qmp, daemon, disk, tmp_path, keys, priority):
    qmp.execute("object-add", qom_type="tls-creds-psk", id="tls0", endpoint="server", dir=str(keys), priority=priority)
    qmp.execute("object-add", qom_type="authz-list", id="a0", rules=[{"match": "qemu", "policy": "deny"}],
                policy="allow")
    server = Server(qmp, tmp_path, tls_creds="tls0", tls_authz="a0")
    server.export(disk)
    handle = connect_with_key(server, keys / "keys.psk", "alice")
    assert handle.pread(100 * KIB, 0) == bytes(100 * KIB)
    handle.pwrite(b"x" * 70000, 1)
    wrong = tmp_path / "wrong.psk"
    wrong.write_text("alice:" + "ac" * 32 + "\nbob:" + "ab" * 32 + "\n")
    for file, user in ((wrong, "alice"), (wrong, "bob"), (keys / "keys.psk", "qemu")):
        with pytest.raises(nbd.Error):
            connect_with_key(server, file, user).pread(512, 0)
    daemon.wait_for_log("there is no key of user 'bob'")
    daemon.wait_for_log("'qemu' is not let in")


def test_files_of_keys_that_are_not_valid(qmp, keys):
    arguments = {"qom_type": "tls-creds-psk", "id": "t", "dir": str(keys)}
    error = qmp.error("object-add", username="carol", **arguments)
    assert error.desc == f"tls-creds-psk 't': '{keys}/keys.psk': there is no key of user 'carol'"
    (keys / "keys.psk").write_text("qemu:0011223\n")
    error = qmp.error("object-add", endpoint="server", **arguments)
    assert error.desc.startswith(f"tls-creds-psk 't': '{keys}/keys.psk': line 1: a key has ")
    (keys / "keys.psk").unlink()
    assert "No such file or directory" in qmp.error("object-add", endpoint="server", **arguments).desc


# Other clients ----------------------------------------------------------------------------------------------------------

def qemu_img(certificates, server, *arguments):
    options = ["--object", f"tls-creds-x509,id=t,endpoint=client,dir={certificates},verify-peer=no"]
    return subprocess.run(["qemu-img", arguments[0], *options, *arguments[1:], "--image-opts",
                           f"driver=nbd,server.type=unix,server.path={server.socket},export=disk,tls-creds=t"],
                          capture_output=True, text=True, timeout=60)


def test_qemu_img(serve, pki):
    server = serve()
    result = qemu_img(pki.path("at-laptop"), server, "info", "--output=json")
    assert json.loads(result.stdout)["virtual-size"] == SIZE
    assert qemu_img(pki.path("at-stranger"), server, "info").returncode != 0


def test_qemu_img_with_a_key(qmp, disk, tmp_path, keys):
    qmp.execute("object-add", qom_type="tls-creds-psk", id="tls0", endpoint="server", dir=str(keys))
    server = Server(qmp, tmp_path, tls_creds="tls0")
    server.export(disk)
    result = run("qemu-img", "info", "--output=json", "--object",
                 f"tls-creds-psk,id=t,endpoint=client,username=alice,dir={keys}", "--image-opts",
                 f"driver=nbd,server.type=unix,server.path={server.socket},export=disk,tls-creds=t")
    assert json.loads(result.stdout)["virtual-size"] == SIZE


def test_anonymous_clients(qmp, disk, tmp_path):
    """What qemu-img calls anonymous; libnbd cannot do it."""
    qmp.execute("object-add", qom_type="tls-creds-anon", id="tls0", endpoint="server")
    server = Server(qmp, tmp_path, tls_creds="tls0")
    server.export(disk)
    result = run("qemu-img", "info", "--output=json", "--object", "tls-creds-anon,id=t,endpoint=client", "--image-opts",
                 f"driver=nbd,server.type=unix,server.path={server.socket},export=disk,tls-creds=t")
    assert json.loads(result.stdout)["virtual-size"] == SIZE


def test_nbdinfo_over_tcp(qmp, disk, pki, own_name):
    add_creds(qmp, pki.path("at-server"))
    qmp.execute("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}, tls_creds="tls0")
    port = qmp.execute("query-nbd-servers")[0]["addresses"][0]["port"]
    qmp.execute("block-export-add", type="nbd", id="e", node_name=disk, name="disk")
    uri = f"nbds://{own_name}:{port}/disk?tls-certificates={pki.path('at-laptop')}"
    info = json.loads(run("nbdinfo", "--json", uri).stdout)
    assert info["TLS"] and info["exports"][0]["export-size"] == SIZE


def random_file(path, size):
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_data_come_through_as_they_are(qmp, tmp_path, keys):
    """CAIRN_TEST_MIB: how much."""
    size = int(os.environ.get("CAIRN_TEST_MIB", "16")) * MIB
    expected = random_file(tmp_path / "source", size)
    (tmp_path / "target").write_bytes(b"")
    os.truncate(tmp_path / "target", size)
    qmp.execute("object-add", qom_type="tls-creds-psk", id="tls0", endpoint="server", dir=str(keys))
    server = Server(qmp, tmp_path, tls_creds="tls0")
    qmp.execute("blockdev-add", driver="file", node_name="f", filename=str(tmp_path / "target"))
    server.export("f")
    uri = f"nbds+unix://alice@/disk?socket={server.socket}&tls-psk-file={keys}/keys.psk"
    run("nbdcopy", "--connections=2", "--flush", tmp_path / "source", uri)
    assert digest(tmp_path / "target") == expected
    run("nbdcopy", "--connections=2", "--request-size=1048576", uri, tmp_path / "back")
    assert digest(tmp_path / "back") == expected


# Bytes ------------------------------------------------------------------------------------------------------------------

def insecure_context():
    """Does not take a cut for the end of TLS, as Python's would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Raw:
    """A client that knows no more than the bytes it sends."""

    def __init__(self, server, flags=3):
        self.socket = sockets.socket(sockets.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(server.socket))
        assert self.get(18) == b"NBDMAGICIHAVEOPT\0\3"
        self.socket.sendall(struct.pack(">I", flags))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def get(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError(f"the connection ended after {data!r}")
            data += more
        return data

    def option(self, option, data=b""):
        """Sends it; the type and the data of the reply."""
        self.socket.sendall(OPTION + struct.pack(">II", option, len(data)) + data)
        return self.reply(option)

    def reply(self, option):
        magic, about, kind, size = struct.unpack(">QIII", self.get(20))
        assert (magic, about) == (0x3e889045565a9, option)
        return kind, self.get(size)

    def start_tls(self, context):
        assert self.option(OPT_STARTTLS) == (REP_ACK, b"")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost", suppress_ragged_eofs=False)

    def go(self, name):
        """Into transmission; whether that went well."""
        kind, _ = self.option(OPT_GO, struct.pack(">I", len(name)) + name.encode() + b"\0\0")
        while kind == 3:
            kind, _ = self.reply(OPT_GO)
        return kind == REP_ACK

    def read(self, offset, size):
        self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, offset, size))
        magic, error, cookie = struct.unpack(">IIQ", self.get(16))
        assert (magic, error, cookie) == (0x67446698, 0, 7)
        return self.get(size)

    def is_closed(self):
        try:
            return self.socket.recv(1) == b""
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            return True


@pytest.fixture
def open_server(serve):
    return serve(creds={"verify_peer": False})


def test_before_tls_nothing_is_granted(open_server):
    with Raw(open_server) as raw:
        for option, data in ((OPT_LIST, b""), (OPT_STRUCTURED_REPLY, b""), (OPT_GO, b"\0\0\0\4disk\0\0"),
                             (OPT_INFO, b"\0\0\0\4disk\0\0"), (9, b"\0\0\0\4disk\0\0\0\0"),
                             (10, b"\0\0\0\4disk\0\0\0\0"), (11, b""), (4, b""), (4711, b"x"), (OPT_GO, b"x"),
                             (OPT_LIST, b"x"), (OPT_INFO, b"\0\0\0\6nobody\0\0"), (OPT_GO, bytes(70_000))):
            assert raw.option(option, data)[0] == REP_ERR_TLS_REQD, option
        raw.start_tls(insecure_context())
        assert raw.option(OPT_LIST)[0] == REP_SERVER
    for flags in (3, 2, 0):  # also who cannot know of STARTTLS gets nothing in clear
        with Raw(open_server, flags) as raw:
            raw.socket.sendall(OPTION + struct.pack(">II", OPT_EXPORT_NAME, 4) + b"disk")
            assert raw.is_closed()
    with Raw(open_server) as raw:
        assert raw.option(OPT_ABORT)[0] == REP_ACK and raw.is_closed()


def test_tls_is_started_once_and_without_data(open_server):
    with Raw(open_server) as raw:
        assert raw.option(OPT_STARTTLS, b"x")[0] == REP_ERR_INVALID
        raw.start_tls(insecure_context())
        assert raw.option(OPT_STARTTLS)[0] == REP_ERR_INVALID
        assert raw.go("disk") and raw.read(4096, 100000) == bytes(100000)


@pytest.mark.parametrize("injected", [
    OPTION + struct.pack(">II", OPT_STRUCTURED_REPLY, 0),
    OPTION + struct.pack(">II", OPT_GO, 10) + b"\0\0\0\4disk\0\0",
    b"x",
])
def test_what_is_sent_in_clear_behind_starttls_counts_for_nothing(open_server, injected):
    with Raw(open_server) as raw:
        raw.socket.sendall(OPTION + struct.pack(">II", OPT_STARTTLS, 0) + injected)
        assert raw.reply(OPT_STARTTLS) == (REP_ACK, b"")
        with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
            raw.socket = insecure_context().wrap_socket(raw.socket)
            raw.option(OPT_LIST)
    with Raw(open_server) as raw:  # and nobody else notices
        raw.start_tls(insecure_context())
        assert raw.go("disk")


def test_records_of_any_size(open_server):
    """Requests in pieces of a byte, many requests in one record, and replies of many records."""
    with Raw(open_server) as raw:
        raw.socket.setblocking(True)
        raw.start_tls(insecure_context())
        assert raw.go("disk")
        request = struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 0, 5)
        for byte in request:
            raw.socket.sendall(bytes([byte]))
        assert raw.get(21)[16:] == bytes(5)
        raw.socket.sendall(request * 500)
        assert len(raw.get(21 * 500)) == 21 * 500
        assert raw.read(1, 10 * MIB + 1) == bytes(10 * MIB + 1)
        raw.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 9, 3, 3 * MIB) + b"y" * 3 * MIB)
        assert raw.get(16)[8:] == struct.pack(">Q", 9)


def test_tls_ends_before_the_connection_does(open_server, qmp):
    """However it ends: with a good-bye in either phase, with something that is no protocol, with the server."""
    disconnect, garbage, unknown = struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0), b"x" * 28, b"\0\0\0\0"
    for phase, last in (("options", OPTION + struct.pack(">II", OPT_EXPORT_NAME, 4) + unknown), ("options", garbage),
                        ("options", None), ("transmission", disconnect), ("transmission", garbage)):
        with Raw(open_server) as raw:
            raw.start_tls(insecure_context())
            if phase == "transmission":
                assert raw.go("disk")
            if last is None:
                assert raw.option(OPT_ABORT) == (REP_ACK, b"")
            else:
                raw.socket.sendall(last)
            assert raw.socket.recv(1) == b""  # the end of TLS, not a cut: an SSLError otherwise
    with Raw(open_server) as raw:
        raw.start_tls(insecure_context())
        assert raw.go("disk")
        raw.socket.unwrap()  # waits for the server's good-bye, with the socket open
    with Raw(open_server) as haggling, Raw(open_server) as raw:
        for client in (haggling, raw):
            client.start_tls(insecure_context())
        assert raw.go("disk") and raw.read(0, 512) == bytes(512)
        qmp.execute("nbd-server-stop")
        assert raw.socket.recv(1) == b"" and haggling.socket.recv(1) == b""


@pytest.mark.parametrize("sent", [0, 1, 5, 60, 200])
def test_a_handshake_that_does_not_go_on(serve, daemon, sent):
    server = serve(creds={"verify_peer": False}, handshake_max_seconds=1)
    with Raw(server) as raw:
        raw.option(OPT_STARTTLS)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = insecure_context().wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        raw.socket.sendall(outgoing.read()[:sent])
        assert raw.is_closed()
    daemon.wait_for_log("its handshake took too long")


def test_a_client_may_leave_at_any_byte(open_server):
    def client_hello():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = insecure_context().wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    hello = client_hello()
    for end in list(range(0, len(hello), 23)) + [len(hello)]:
        with Raw(open_server) as raw:
            raw.option(OPT_STARTTLS)
            raw.socket.sendall(hello[:end])
    for size in (0, 1, 27, 28, 30, 5000):
        with Raw(open_server) as raw:
            raw.start_tls(insecure_context())
            assert raw.go("disk")
            raw.socket.sendall((struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, MIB) + bytes(MIB))[:size])
    with Raw(open_server) as raw:
        raw.start_tls(insecure_context())
        assert raw.go("disk")


def test_garbage_inside_tls_records(open_server, daemon):
    with Raw(open_server) as raw:
        raw.option(OPT_STARTTLS)
        raw.socket.sendall(b"\x16\x03\x01" + struct.pack(">H", 16384) + os.urandom(16384))
        raw.is_closed()
    with Raw(open_server) as raw:
        raw.start_tls(insecure_context())
        assert raw.go("disk")
        plain = sockets.socket(fileno=os.dup(raw.socket.fileno()))
        plain.sendall(b"\x17\x03\x03" + struct.pack(">H", 100) + os.urandom(100))
        assert raw.is_closed()
        plain.close()
    with Raw(open_server) as raw:
        raw.start_tls(insecure_context())
        assert raw.go("disk")


# Under load ---------------------------------------------------------------------------------------------------------------

def hammer(server, certificates, over):
    """Reads and writes until it is over, or the server cuts it off; how many requests went well."""
    rng = random.Random(os.urandom(4))
    done = 0
    try:
        handle = connect(server, certificates)
        while not over.is_set():
            offset = rng.randrange(SIZE - MIB)
            if rng.random() < 0.5:
                handle.pwrite(bytes(rng.randrange(1, 300000)), offset)
            else:
                size = rng.randrange(1, 300000)
                assert handle.pread(size, offset) == bytes(size)
            done += 1
    except nbd.Error:
        pass
    return done


@pytest.mark.parametrize("end", ["export", "server"])
def test_what_ends_under_load(serve, qmp, pki, disk, end):
    server = serve()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        never = threading.Event()
        clients = [pool.submit(hammer, server, pki.path("at-laptop"), never) for _ in range(4)]
        while qmp.execute("query-nbd-servers")[0]["connections"] < 4:
            time.sleep(0.01)
        time.sleep(0.2)
        if end == "export":
            qmp.execute("block-export-del", id="e", mode="hard")
        else:
            qmp.execute("nbd-server-stop")
            qmp.execute("object-del", id="tls0")
        for client in clients:
            client.result(timeout=60)
    if end == "export":
        qmp.wait_event("BLOCK_EXPORT_DELETED")
        server.export(disk)
        assert is_let_in(server, pki.path("at-laptop"))


def test_handshakes_of_many_do_not_starve_one_who_works(serve, pki):
    server = serve(max_connections=0)
    over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        worker = pool.submit(hammer, server, pki.path("at-laptop"), over)
        others = [pool.submit(is_let_in, server, pki.path("at-laptop")) for _ in range(60)]
        try:
            assert all(other.result(timeout=60) for other in others)
        finally:
            over.set()
        assert worker.result(timeout=60) > 0


# Command line and configuration ---------------------------------------------------------------------------------------------

def test_on_the_command_line_and_in_a_file(start_daemon, pki, tmp_path):
    (tmp_path / "cairn.yaml").write_text(f"""
objects:
- {{qom-type: tls-creds-x509, id: tls0, endpoint: server, dir: {pki.path("at-server")}}}
- {{qom-type: authz-simple, id: laptop, identity: '{LAPTOP_NAME}'}}
nodes:
- {{driver: null-co, node-name: disk, size: {SIZE}, read-zeroes: true}}
nbd-server:
  addr: {{type: unix, path: {tmp_path}/nbd.sock}}
  tls-creds: tls0
  tls-authz: laptop
exports:
- {{type: nbd, id: e, node-name: disk, name: disk}}
""")
    assert run_cairnd("--config", tmp_path / "cairn.yaml", "--check").returncode == 0
    start_daemon("--config", tmp_path / "cairn.yaml")
    assert is_let_in(SimpleServer(tmp_path / "nbd.sock"), pki.path("at-laptop"))
    start_daemon("--object", f"tls-creds-x509,id=tls0,endpoint=server,dir={pki.path('at-server')},verify-peer=off",
                 "--blockdev", f"null-co,node-name=disk,size={SIZE},read-zeroes=on",
                 "--nbd-server", f"addr.type=unix,addr.path={tmp_path}/second.sock,tls-creds=tls0",
                 "--export", "nbd,id=e,node-name=disk,name=disk")
    assert is_let_in(SimpleServer(tmp_path / "second.sock"), pki.path("at-nobody"))


class SimpleServer:
    def __init__(self, socket):
        self.socket = socket


@pytest.mark.parametrize("options, message", [
    ("tls-creds: nope", "No TLS credentials with id 'nope'"),
    ("tls-authz: a0", "tls-authz needs tls-creds"),
    ("tls-creds: a0, tls-authz: nope", "tls-authz: object 'nope' not found"),
])
def test_a_file_that_names_what_is_not_there(tmp_path, options, message):
    (tmp_path / "cairn.yaml").write_text("objects:\n- {qom-type: authz-simple, id: a0, identity: x}\n"
                                         f"nbd-server: {{addr: {{type: unix, path: s}}, {options}}}\n")
    result = run_cairnd("--config", tmp_path / "cairn.yaml", "--check")
    assert result.returncode != 0 and result.stderr.rstrip().endswith(message), result.stderr


def test_the_example_in_the_documentation(start_daemon, tmp_path, own_name):
    assert own_name == "localhost"
    text = (ROOT / "docs" / "tls.md").read_text()
    with sockets.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    certificates, clients = (block.replace("10809", str(port)) for block in re.findall("```sh\n(.*?)```", text, re.S))
    serving, using = (block.replace("10809", str(port)) for block in re.findall("```yaml\n(.*?)```", text, re.S))
    run("bash", "-euc", certificates, cwd=tmp_path)
    (tmp_path / "cairn.yaml").write_text(serving)
    start_daemon("--config", "cairn.yaml")
    (tmp_path / "user.yaml").write_text(using.replace("dir: client", f"dir: {tmp_path}/client"))
    user = start_daemon("--config", tmp_path / "user.yaml").connect()
    assert user.execute("query-named-block-nodes", flat=True)[0]["image"]["virtual-size"] == 1 << 30
    output = run("bash", "-euc", clients, cwd=tmp_path).stdout
    assert "export-size: 1073741824 (1G)" in output and "virtual size: 1 GiB" in output
    names = re.search(r"\n    (openssl x509 -noout .*)\n", text).group(1)
    assert run("bash", "-euc", names, cwd=tmp_path / "client").stdout == "subject=C=GB,O=Example,CN=laptop\n"
