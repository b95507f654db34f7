"""Encrypted qcow2 images over the wire, with QEMU's tools as witnesses."""

import random

import encrypted
import nbd_client
import pytest
from encrypted import SECRET, node
from images import KIB, MIB, create_encrypted, run


def witness(path, fmt="luks"):
    return f"driver=qcow2,encrypt.format={fmt},encrypt.key-secret=s,file.filename={path}"


def create(qmp, file, size, encrypt=None, **options):
    encrypt = encrypt or {"format": "luks", "key-secret": "s0", "iter-time": 10}
    return encrypted.create(qmp, "qcow2", file, size, encrypt=encrypt, **options)


@pytest.fixture
def disk(qmp, tmp_path):
    return encrypted.empty_file(qmp, tmp_path / "a.qcow2", "file0")


def open_disk(qmp, secret="s0", fmt="luks", **options):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": "disk0", "file": "file0",
                                 "encrypt": {"format": fmt, "key-secret": secret}, **options})


def test_a_new_image_under_an_export(qmp, disk, tmp_path):
    assert create(qmp, "file0", 4 * MIB) is None
    open_disk(qmp)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk0", writable=True)
    client = nbd_client.connect(socket, "disk0")
    content = random.Random(1).randbytes(2 * MIB)
    client.pwrite(content, 512)
    client.zero(64 * KIB, 1 * MIB)
    client.flush()
    content = (bytes(512) + content[:MIB - 512] + bytes(64 * KIB) + content[MIB + 64 * KIB - 512:]).ljust(4 * MIB, b"\0")
    assert client.pread(4 * MIB, 0) == content
    client.shutdown()
    # Nothing is known of where bytes lie, and zeroes are zeroes.
    assert nbd_client.base_allocation(socket, "disk0")[0] == (0, MIB, False, False)
    qmp.execute("block-export-del", id="export-disk0", mode="hard")
    qmp.execute("nbd-server-stop")
    qmp.execute("blockdev-del", node_name="disk0")
    qmp.execute("blockdev-del", node_name="file0")

    run("qemu-img", "check", "--object", SECRET, "--image-opts", witness(disk))
    run("qemu-img", "convert", "--object", SECRET, "--image-opts", witness(disk), "-O", "raw", tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == content


def test_what_is_told(qmp, disk):
    assert create(qmp, "file0", 1 * MIB) is None
    open_disk(qmp, **{"read-only": True})
    told = node(qmp, "disk0")
    assert told["encrypted"] is True and told["image"]["encrypted"] is True
    own = told["image"]["format-specific"]["data"]["encrypt"]
    assert (own["format"], own["cipher-alg"], own["hash-alg"]) == ("luks", "aes-256", "sha256")
    assert [slot["active"] for slot in own["slots"]] == [True] + 7 * [False]
    assert own["uuid"] in run("qemu-img", "info", "-U", "--object", SECRET, "--image-opts", witness(disk)).stdout


def test_an_overlay_that_is_encrypted_on_an_image_that_is_too(qmp, disk, tmp_path):
    base = tmp_path / "base.qcow2"
    create_encrypted(base, "2M", SECRET, "qcow2", **{"encrypt.format": "luks", "encrypt.key-secret": "s",
                                                     "encrypt.iter-time": 50})
    run("qemu-io", "--object", SECRET, "--image-opts", witness(base), "-c", "write -P 7 0 1M")
    assert create(qmp, "file0", 2 * MIB, **{"backing-file": str(base), "backing-fmt": "qcow2"}) is None
    backing = {"driver": "qcow2", "encrypt": {"format": "luks", "key-secret": "s0"},
               "file": {"driver": "file", "filename": str(base)}}
    open_disk(qmp, backing=backing)
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk0", writable=True)
    client = nbd_client.connect(socket, "disk0")
    client.pwrite(b"\1" * 1024, 70 * KIB)
    content = (b"\7" * 70 * KIB + b"\1" * 1024).ljust(MIB, b"\7").ljust(2 * MIB, b"\0")
    assert client.pread(2 * MIB, 0) == content
    client.shutdown()


@pytest.mark.parametrize("encrypt, message", [
    (None, "encrypt: is missing; the image is encrypted with format 'luks'"),
    ({"format": "luks"}, "encrypt.key-secret: is missing"),
    ({"format": "luks", "key-secret": "none"}, "encrypt.key-secret: object 'none' not found (a 'secret' is wanted)"),
    ({"format": "luks", "key-secret": "wrong"}, "invalid password, cannot unlock any key slot"),
    ({"format": "aes", "key-secret": "s0"}, "encrypt.format: the image is encrypted with format 'luks'"),
])
def test_no_password_no_node(qmp, disk, encrypt, message):
    assert create(qmp, "file0", 1 * MIB) is None
    options = {"driver": "qcow2", "node-name": "disk0", "file": "file0"}
    error = qmp.error("blockdev-add", options | ({"encrypt": encrypt} if encrypt else {}))
    assert error.error_class == "GenericError" and error.desc.endswith(f"'{disk}': {message}")


def test_images_that_cannot_be_made(qmp, disk):
    assert "encrypt.format: 'qcow' is unsafe" in create(qmp, "file0", MIB, {"format": "qcow", "key-secret": "s0"})
    assert "encrypt.key-secret: is missing" in create(qmp, "file0", MIB, {"format": "luks"})
    assert disk.read_bytes() == b""


def test_the_old_cipher(qmp, disk, tmp_path):
    create_encrypted(disk, "1M", SECRET, "qcow2", **{"encrypt.format": "aes", "encrypt.key-secret": "s"})
    run("qemu-io", "--object", SECRET, "--image-opts", witness(disk, "aes"), "-c", "write -P 7 0 1M")
    qmp.execute("blockdev-del", node_name="file0")
    qmp.execute("blockdev-add", driver="file", node_name="file0", filename=str(disk))
    open_disk(qmp, fmt="aes")
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk0")
    client = nbd_client.connect(socket, "disk0")
    assert client.pread(MIB, 0) == b"\7" * MIB
    client.shutdown()
    told = node(qmp, "disk0")
    assert told["image"]["format-specific"]["data"]["encrypt"] == {"format": "aes"}
