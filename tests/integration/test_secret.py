"""Secrets over the wire, on the command line and in a file. Their bytes are nowhere to be seen."""

import base64
import ctypes
import json
import os
import platform
import subprocess

import pytest
from images import create_encrypted, rng_of
from process import run_cairnd
from test_hung import wait_until

KEY = bytes(range(32))
VECTOR = bytes(range(16))


def encrypted(text):
    """As QEMU's documentation tells people to do it."""
    return subprocess.run(["openssl", "enc", "-aes-256-cbc", "-K", KEY.hex(), "-iv", VECTOR.hex()], check=True,
                          input=text, capture_output=True).stdout


def test_object_add_secret(qmp):
    qmp.execute("object-add", qom_type="secret", id="s0", data="open sesame")
    assert {"name": "s0", "type": "child<secret>"} in qmp.execute("qom-list", path="/objects")
    assert qmp.execute("qom-get", path="/objects/s0", property="format") == "raw"
    error = qmp.error("qom-get", path="/objects/s0", property="data")
    assert "sesame" not in error.desc
    qmp.execute("object-del", id="s0")


@pytest.mark.parametrize("arguments, message", [
    ({}, "secret 's0': data or file: one is needed"),
    ({"data": "geheim", "file": "/f"}, "secret 's0': data and file cannot both be given"),
    ({"file": "/nowhere/at/all"}, "secret 's0': file: cannot read '/nowhere/at/all': No such file or directory"),
    ({"data": "geheim", "format": "base64"}, "secret 's0': data: is not valid base64"),
    ({"data": "geheim", "keyid": "k0"}, "secret 's0': iv: is missing; it goes with keyid"),
    ({"data": "geheim", "keyid": "k0", "iv": "AAAA"}, "secret 's0': iv: has 3 bytes, it needs 16"),
    ({"data": "geheim", "keyid": "k0", "iv": base64.b64encode(VECTOR).decode()},
     "secret 's0': keyid: object 'k0' not found (a 'secret' is wanted)"),
])
def test_what_is_wrong(qmp, arguments, message):
    error = qmp.error("object-add", qom_type="secret", id="s0", **arguments)
    assert (error.error_class, error.desc) == ("GenericError", message)


def test_encrypted_with_another(qmp, tmp_path):
    text = base64.b64encode(encrypted(b"the inner secret")).decode()
    vector = base64.b64encode(VECTOR).decode()
    (tmp_path / "key").write_bytes(KEY)
    qmp.execute("object-add", qom_type="secret", id="k0", file=str(tmp_path / "key"))
    qmp.execute("object-add", qom_type="secret", id="s0", keyid="k0", iv=vector, data=text, format="base64")
    assert qmp.execute("qom-get", path="/objects/s0", property="keyid") == "k0"
    (tmp_path / "raw").write_bytes(encrypted(b"the inner secret"))
    qmp.execute("object-add", qom_type="secret", id="s1", keyid="k0", iv=vector, file=str(tmp_path / "raw"))
    qmp.execute("object-add", qom_type="secret", id="k1", data="0123456789abcdef0123456789abcdef")
    error = qmp.error("object-add", qom_type="secret", id="s2", keyid="k1", iv=vector, data=text, format="base64")
    assert error.desc == "secret 's2': cannot be decrypted with secret 'k1'"


# Keyrings ----------------------------------------------------------------------------------------------------------

KEY_SPEC_SESSION_KEYRING, KEY_SPEC_PROCESS_KEYRING = -3, -2
KEYCTL_SETPERM, KEYCTL_UNLINK, KEYCTL_JOIN_SESSION_KEYRING = 5, 9, 1
EVERYTHING, NOTHING = 0x3f3f0000, 0x01010000
calls = ctypes.CDLL(None, use_errno=True)
KEYCTL = {"x86_64": 250, "aarch64": 219}.get(platform.machine())
ADD_KEY = {"x86_64": 248, "aarch64": 217}.get(platform.machine())


@pytest.fixture
def keep():
    """Keeps bytes in the session's keyring, which the daemon inherits; returns their number."""
    if KEYCTL is None:
        pytest.skip("the numbers of this machine's system calls are not known here")
    serials = []

    def add(data, permissions=EVERYTHING):
        name = f"cairn-test-{os.getpid()}-{len(serials)}".encode()
        serial = calls.syscall(ADD_KEY, b"user", name, data, len(data), KEY_SPEC_SESSION_KEYRING)
        if serial < 0:
            pytest.skip(f"there are no keyrings here: {os.strerror(ctypes.get_errno())}")
        serials.append(serial)
        assert calls.syscall(KEYCTL, KEYCTL_SETPERM, serial, permissions) == 0
        return serial

    yield add
    for serial in serials:
        calls.syscall(KEYCTL, KEYCTL_UNLINK, serial, KEY_SPEC_SESSION_KEYRING)


def test_out_of_a_keyring(keep, qmp, tmp_path):
    serial = keep(encrypted(b"geheim"))
    (tmp_path / "key").write_bytes(KEY)
    qmp.execute("object-add", qom_type="secret", id="k0", file=str(tmp_path / "key"))
    qmp.execute("object-add", qom_type="secret_keyring", id="s0", serial=serial, keyid="k0",
                iv=base64.b64encode(VECTOR).decode())
    assert qmp.execute("qom-get", path="/objects/s0", property="serial") == serial
    assert {"name": "s0", "type": "child<secret_keyring>"} in qmp.execute("qom-list", path="/objects")
    # What is in it is good for everything that a secret is good for.
    image = tmp_path / "image.luks"
    create_encrypted(image, "1M", "secret,id=s0,data=geheim", **{"key-secret": "s0", "iter-time": 10})
    qmp.execute("blockdev-add", driver="luks", node_name="disk", key_secret="s0",
                file={"driver": "file", "filename": str(image)})
    text = keep(base64.b64encode(KEY))
    qmp.execute("object-add", qom_type="secret_keyring", id="k1", serial=text, format="base64")
    qmp.execute("object-add", qom_type="secret", id="s1", keyid="k1", format="base64",
                iv=base64.b64encode(VECTOR).decode(), data=base64.b64encode(encrypted(b"x")).decode())


def test_what_a_keyring_does_not_give(keep, qmp):
    def why(**more):
        return qmp.error("object-add", {"qom-type": "secret_keyring", "id": "s0", **more}).desc

    assert why(serial=0) == "secret 's0': serial: 0 is no key"
    assert why(serial=2147483647).startswith("secret 's0': serial: cannot read key 2147483647: ")
    assert "serial: cannot read key" in why(serial=keep(b"x", NOTHING)) or os.geteuid() == 0
    assert why(serial=keep(b"no base64!"), format="base64") == "secret 's0': serial: is not valid base64"
    assert why() == "arguments.serial: missing"


def memory_of(pid):
    """All that the process can write to."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            place, permissions, *_ = line.split()
            begin, end = (int(number, 16) for number in place.split("-"))
            if permissions.startswith("rw") and end - begin < 1 << 32:  # what a sanitizer reserves is larger
                memory.seek(begin)
                try:
                    yield memory.read(end - begin)
                except OSError:
                    pass


@pytest.mark.parametrize("length", [100, 3000, 40000])
@pytest.mark.parametrize("good", [True, False])
def test_what_came_over_the_wire_does_not_stay_in_memory(qmp, daemon, length, good):
    text = base64.b64encode(rng_of(f"wiped {length}").randbytes(length)).decode()
    arguments = {"qom-type": "secret", "id": "s0", "data": text, "format": "base64"}
    message = json.dumps({"execute": "object-add", "arguments": arguments if good else {"x": 1, **arguments}}).encode()
    for begin in range(0, len(message), 1000):
        qmp.send_bytes(message[begin:begin + 1000])
    assert ("return" in qmp.receive_reply()) is good
    for part in (text[:80], text[-80:]):  # more than a register, which may be saved on a stack, has room for
        assert not any(part.encode() in area for area in memory_of(daemon.pid))


def test_on_the_command_line(start_daemon):
    daemon = start_daemon("--object", "secret,id=s0,data=geheim", "--object", "secret,id=s1,data=AP8=,format=base64")
    qmp = daemon.connect()
    assert qmp.execute("qom-get", path="/objects/s1", property="format") == "base64"


# What is logged and told --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("option, shown, words", [
    ("secret,id=s0,data=sesame,format=hex", "secret,id=s0,data=(secret)", "format: 'hex' is not a"),
    ("secret,id=s0,data=a,sesame", "secret,id=s0,data=(secret)", "the text is malformed"),
    ("secret,data=sesame", "secret,data=(secret)", "id: missing"),
    ("secret,id=s0,data.sesame=x", "secret,id=s0,data.sesame=x", "data: expected string, got object"),
    ("secrt,id=s0,data=sesame", "secrt,id=s0,data=(secret)", "'secrt' is not a ObjectType (did you mean 'secret'?)"),
    ('{"qom-type": "secret", "id": "s0", "data": ["sesame"]}', '{"qom-type": "secret", "id": "s0", "data"(secret)',
     "data: expected string, got array"),
    ("secret,id=s0,data=sesame,file=/f", "secret,id=s0,data=(secret)", "cannot both be given"),
])
def test_an_error_on_the_command_line_does_not_show_it(option, shown, words):
    told = run_cairnd("--object", option)
    assert told.returncode == 1
    assert told.stderr.startswith(f"cairnd: --object {shown}: ") and words in told.stderr, told.stderr
    assert "sesame" not in told.stderr.replace("data.sesame", "")


def test_the_log_of_commands_does_not_show_it(start_daemon):
    daemon = start_daemon("--log-level", "debug")
    with daemon.connect() as qmp:
        qmp.execute("object-add", qom_type="secret", id="s0", data="open sesame")
        qmp.error("object-add", qom_type="secret", id="s1", data="open sesame", format="hex")
        qmp.error("object-add", qom_type="secret", id="s1", data=["open sesame"])
        qmp.error("object-add", qom_type="secret", id="s0", data="open sesame")
        qmp.error("qom-set", path="/objects/s0", property="data", value="open sesame")
        qmp.error("qom-get", path="/objects/s0", property="data")
    log = daemon.log
    assert '"qom-type": "secret", "id": "s0", "data": "(secret)"' in log
    assert "sesame" not in log
    assert log.count("-->") == log.count("<--") == 7  # with the negotiation


def test_descriptions_in_strings_show_none_of_them(start_daemon, tmp_path):
    """Not in the log, where commands and their errors are told, and not in the audit log."""
    audit = tmp_path / "audit.log"
    daemon = start_daemon("--log", "level=debug", "--audit", f"path={audit}")
    inner = {"driver": "https", "url": "https://me:hunter1@127.0.0.1:1/a", "cookie": "hunter2", "password": "hunter3"}
    nested = {"driver": "raw", "file.filename": "json:" + json.dumps(inner), "key": "hunter4", "data": {"x": "hunter5"}}
    with daemon.connect() as qmp:
        for description in (inner, nested):
            name = "json:" + json.dumps(description)
            qmp.error("change-backing-file", device="none", image_node_name="none", backing_file=name)
            qmp.error("blockdev-add", driver="file", node_name="n", filename=name)
    wait_until(lambda: audit.exists() and audit.read_text().count("\n") == 4)
    daemon.wait_for_log("<-- blockdev-add", count=2)
    for text in (daemon.log, audit.read_text()):
        assert "hunter" not in text and "(secret)" in text and "127.0.0.1" in text
    for line in audit.read_text().splitlines():
        json.loads(line)


def test_descriptions_show_none_of_them_when_it_does_not_start(tmp_path):
    result = run_cairnd("--blockdev", """file,node-name=n,filename=json:{'password':'hunter'}""", cwd=tmp_path)
    assert result.returncode == 1 and "hunter" not in result.stderr and "(secret)" in result.stderr
