"""Encrypted disks over the wire, with QEMU's tools as witnesses."""

import os
import random
import shutil
import time

import encrypted
import nbd_client
import pytest
from encrypted import PASSWORD, SECRET, node
from images import KIB, MIB, create_encrypted, run
from qmp import DEADLINE, QMPError


@pytest.fixture
def disk(qmp, tmp_path):
    return encrypted.empty_file(qmp, tmp_path / "a.luks", "disk0")


def create(qmp, file, size, **options):
    return encrypted.create(qmp, "luks", file, size, **{"key-secret": "s0", "iter-time": 10, **options})


def test_a_new_volume_under_an_export(qmp, disk, tmp_path):
    assert create(qmp, "disk0", 4 * MIB) is None
    qmp.execute("blockdev-add", driver="luks", node_name="crypt0", file="disk0", key_secret="s0")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "crypt0", writable=True)
    client = nbd_client.connect(socket, "crypt0")
    content = random.Random(1).randbytes(4 * MIB)
    client.pwrite(content, 0)
    client.zero(64 * KIB, 1 * MIB)
    client.flush()
    content = content[:MIB] + bytes(64 * KIB) + content[MIB + 64 * KIB:]
    assert client.pread(4 * MIB, 0) == content
    client.shutdown()
    qmp.execute("block-export-del", id="export-crypt0", mode="hard")
    qmp.execute("nbd-server-stop")
    qmp.execute("blockdev-del", node_name="crypt0")
    qmp.execute("blockdev-del", node_name="disk0")

    assert content[:16] not in disk.read_bytes()
    run("qemu-img", "convert", "--object", SECRET, "--image-opts",
        f"driver=luks,key-secret=s,file.filename={disk}", "-O", "raw", tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == content


def test_what_is_told(qmp, disk):
    assert create(qmp, "disk0", 1 * MIB, **{"cipher-alg": "aes-128", "hash-alg": "sha512"}) is None
    qmp.execute("blockdev-add", driver="luks", node_name="crypt0", file="disk0", key_secret="s0", read_only=True)
    told = node(qmp, "crypt0")
    assert told["encrypted"] is True and told["image"]["encrypted"] is True
    assert told["image"]["virtual-size"] == 1 * MIB
    assert told["image"]["format-specific"]["type"] == "luks"
    own = told["image"]["format-specific"]["data"]
    assert own["detached-header"] is False and own["payload-offset"] == os.path.getsize(disk) - MIB
    assert (own["cipher-alg"], own["cipher-mode"], own["ivgen-alg"], own["hash-alg"]) == ("aes-128", "xts", "plain64",
                                                                                         "sha512")
    assert [slot["active"] for slot in own["slots"]] == [True] + 7 * [False]
    assert own["slots"][0]["stripes"] == 4000 and "iters" not in own["slots"][1]
    witness = run("qemu-img", "info", "-U", "-f", "luks", disk).stdout
    assert own["uuid"] in witness and f"payload offset: {own['payload-offset']}" in witness
    assert node(qmp, "disk0")["encrypted"] is False


@pytest.mark.parametrize("secret, message", [
    ({}, "key-secret: is missing; the volume is encrypted"),
    ({"key-secret": "none"}, "key-secret: object 'none' not found (a 'secret' is wanted)"),
    ({"key-secret": "wrong"}, "invalid password, cannot unlock any key slot"),
])
def test_no_password_no_node(qmp, disk, secret, message):
    assert create(qmp, "disk0", 1 * MIB) is None
    error = qmp.error("blockdev-add", {"driver": "luks", "node-name": "crypt0", "file": "disk0", **secret})
    assert error.error_class == "GenericError" and error.desc.endswith(f"'{disk}': {message}")
    qmp.execute("blockdev-del", node_name="disk0")


@pytest.mark.parametrize("options, message", [
    ({"cipher-alg": "serpent-256"}, "cipher 'serpent-256' is not supported"),
    ({"size": 1000}, "size: 1000 is not a multiple of 512"),
    ({"key-secret": "none"}, "key-secret: object 'none' not found"),
    ({"file": "nobody"}, "Failed to find node with node-name='nobody'"),
])
def test_volumes_that_cannot_be_made(qmp, disk, options, message):
    arguments = {"file": "disk0", "size": 1 * MIB, **options}
    assert message in create(qmp, **arguments)
    assert disk.read_bytes() == b""


# Volumes that want a password to take for ever ------------------------------------------------------------------------


def test_the_end_does_not_wait_for_a_password(qmp, daemon, disk, tmp_path):
    assert create(qmp, "disk0", 1 * MIB) is None
    for number in range(5):
        path = tmp_path / f"endless{number}.luks"
        shutil.copy(disk, path)
        encrypted.make_endless(path, 0)
        daemon.connect().start("blockdev-add", driver="luks", node_name=f"endless{number}", key_secret="s0",
                               file={"driver": "file", "filename": str(path)})
    qmp.execute("blockdev-add", driver="luks", node_name="good", key_secret="s0", file="disk0")
    begin = time.monotonic()
    qmp.execute("quit")
    assert daemon.wait() == 0
    assert time.monotonic() - begin < 8


def test_a_job_does_not_wait_for_a_password_when_it_is_cancelled(qmp, disk):
    assert create(qmp, "disk0", 1 * MIB) is None
    encrypted.make_endless(disk, 1)
    qmp.execute("blockdev-add", driver="luks", node_name="crypt0", key_secret="s0", file="disk0")
    qmp.execute("x-blockdev-amend", {"job-id": "job0", "node-name": "crypt0", "options": {
        "driver": "luks", "state": "inactive", "old-secret": "wrong"}})
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "running")
    qmp.execute("job-cancel", id="job0")
    assert qmp.wait_job("job0")
    qmp.execute("blockdev-del", node_name="crypt0")


def test_reopening_on_a_copy_but_not_on_another_volume(qmp, disk, tmp_path):
    assert create(qmp, "disk0", 1 * MIB) is None
    shutil.copy(disk, tmp_path / "copy.luks")
    qmp.execute("blockdev-add", driver="luks", node_name="crypt0", file="disk0", key_secret="s0")
    qmp.execute("blockdev-add", driver="file", node_name="copy0", filename=str(tmp_path / "copy.luks"))
    (tmp_path / "other.luks").touch()
    qmp.execute("blockdev-add", driver="file", node_name="other0", filename=str(tmp_path / "other.luks"))
    assert create(qmp, "other0", 1 * MIB) is None

    def options(file, **more):
        return {"options": [{"driver": "luks", "node-name": "crypt0", "key-secret": "s0", "file": file, **more}]}
    qmp.execute("blockdev-reopen", options("copy0"))
    assert node(qmp, "crypt0")["file"] == str(tmp_path / "copy.luks")
    assert qmp.error("blockdev-reopen", options("other0")).desc.endswith("is another volume, which has another key")
    assert "'key-secret'" in qmp.error("blockdev-reopen", options("copy0", **{"key-secret": "wrong"})).desc
    assert "header: cannot be added" in qmp.error("blockdev-reopen", options("copy0", header="other0")).desc
    assert node(qmp, "crypt0")["file"] == str(tmp_path / "copy.luks")


def test_a_volume_that_nobody_uses_grows(qmp, disk):
    assert create(qmp, "disk0", 1 * MIB) is None
    qmp.execute("blockdev-add", driver="luks", node_name="crypt0", file="disk0", key_secret="s0")
    qmp.execute("block_resize", node_name="crypt0", size=2 * MIB)
    qmp.execute("block_resize", node_name="crypt0", size=512)
    qmp.execute("block_resize", node_name="crypt0", size=3 * MIB)
    qmp.execute("blockdev-del", node_name="crypt0")
    qmp.execute("blockdev-del", node_name="disk0")
    output = run("qemu-io", "--object", SECRET, "--image-opts", f"driver=luks,key-secret=s,file.filename={disk}",
                 "-c", "read -P 0 512 3145216").stdout
    assert "read 3145216/3145216" in output and "failed" not in output


def test_qemu_and_cairn_take_turns(start_daemon, tmp_path):
    path = tmp_path / "a.luks"
    create_encrypted(path, "1M", SECRET, **{"key-secret": "s", "iter-time": 50})
    image = f"driver=luks,key-secret=s,file.filename={path}"
    run("qemu-io", "--object", SECRET, "--image-opts", image, "-c", "write -P 5 0 1M")
    daemon = start_daemon("--object", f"secret,id=s0,data={PASSWORD}",
                          "--blockdev", f"driver=luks,node-name=crypt0,key-secret=s0,file.driver=file,file.filename={path}")
    qmp = daemon.connect()
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "crypt0", writable=True)
    client = nbd_client.connect(socket, "crypt0", ["base:allocation"])
    assert client.pread(MIB, 0) == b"\5" * MIB
    client.pwrite(b"\6" * 1024, 512)
    client.shutdown()
    qmp.execute("block_resize", node_name="crypt0", size=2 * MIB)
    daemon.stop()
    output = run("qemu-io", "--object", SECRET, "--image-opts", image, "-c", "read -P 5 0 512", "-c", "read -P 6 512 1024",
                 "-c", "read -P 5 1536 1047040", "-c", "read -P 0 1M 1M")
    assert "failed" not in output.stdout


def test_a_command_that_derives_for_hours_is_cancelled(daemon, qmp, disk):
    """Nothing goes on in the background."""
    assert create(qmp, "disk0", 1 * MIB) is None
    with open(disk, "r+b") as file:
        file.seek(164)
        file.write((2**31 - 1).to_bytes(4, "big"))
    adding = qmp.start("blockdev-add", driver="luks", node_name="crypt0", file="disk0", key_secret="s0")
    other = daemon.connect()
    end = time.monotonic() + DEADLINE
    while not (waiting := other.execute("query-commands-in-flight")):
        assert time.monotonic() < end
    other.execute("cancel-command", number=waiting[0]["number"])
    with pytest.raises(QMPError, match="was cancelled while it waited for opening node 'crypt0'"):
        qmp.finish(adding)
    while other.execute("query-commands-in-flight"):
        assert time.monotonic() < end
    qmp.execute("blockdev-del", node_name="disk0")


@pytest.mark.parametrize("place", [208 + 4, 164])
def test_a_header_that_wants_hours_of_work(daemon, qmp, disk, place):
    """The iterations of the first key slot, and of the digest: a stranger may have made the image."""
    assert create(qmp, "disk0", 1 * MIB) is None
    with open(disk, "r+b") as file:
        file.seek(place)
        file.write((2**31 - 1).to_bytes(4, "big"))
    adding = qmp.start("blockdev-add", driver="luks", node_name="crypt0", file="disk0", key_secret="s0")
    other = daemon.connect()
    end = time.monotonic() + DEADLINE
    while True:
        try:
            other.execute("blockdev-del", node_name="crypt0")
            break
        except QMPError:  # the other command has not come so far
            assert time.monotonic() < end
    with pytest.raises(QMPError, match="node 'crypt0' was deleted while it was opened"):
        qmp.finish(adding)
    assert "Failed to find node" in other.error("blockdev-del", node_name="crypt0").desc
    qmp.execute("blockdev-del", node_name="disk0")
