"""What images name as their backing files, what of it is followed, and what the operator must allow first; what children
inherit, and the names they get."""

import json
import threading
import time

import pytest
from images import MIB, create, run
from nbd_client import connect, export, start_server
from process import run_cairnd
from qmp import QMPError


def with_backing(path, backing, fmt="raw"):
    """An overlay whose header says what nobody has checked."""
    create(path, MIB)
    run("qemu-img", "rebase", "-u", "-b", backing, "-F", fmt, path)
    return path


def add(qmp, path, name="top", **options):
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": str(path)},
                                 **options})


def nodes(qmp):
    return {info["node-name"]: info for info in qmp.execute("query-named-block-nodes")}


def first_byte(qmp, directory, node="top"):
    socket = start_server(qmp, directory)
    export(qmp, node)
    byte = connect(socket, node).pread(1, 0)
    qmp.execute("nbd-server-stop")
    return byte


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base").write_bytes(b"b" * MIB)
    return tmp_path / "base"


def json_name(description):
    return "json:" + json.dumps(description)


def policy(**options):
    words = [f"directories.{i}={directory}" for i, directory in enumerate(options.pop("directories", []))]
    words += [f"schemes.{i}={scheme}" for i, scheme in enumerate(options.pop("schemes", []))]
    return ["--image-policy", ",".join(words + [f"{name}={value}" for name, value in options.items()])]


@pytest.mark.parametrize("name", ["base", "./base", "file:base", "{directory}/base"])
def test_plain_paths_are_followed(qmp, tmp_path, base, name):
    add(qmp, with_backing(tmp_path / "top", name.format(directory=tmp_path)))
    assert first_byte(qmp, tmp_path) == b"b"


def test_children_get_names_that_nobody_can_choose(qmp, tmp_path, base):
    add(qmp, with_backing(tmp_path / "top", "base"))
    names = sorted(nodes(qmp))
    assert len(names) == 4 and names[:3] == [name for name in names if name.startswith("#block")]
    with pytest.raises(QMPError, match="node-name"):
        qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "#block123"})
    backing = nodes(qmp)["top"]["image"]["backing-image"]
    assert backing["filename"] == str(base) and backing["format"] == "raw"


def test_backing_by_name_by_null_and_by_description(qmp, tmp_path, base):
    path = with_backing(tmp_path / "top", "missing")
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "base", "filename": str(base), "read-only": True})
    with pytest.raises(QMPError, match="missing"):
        add(qmp, path)
    for backing, byte in [(None, b"\0"), ("base", b"b"), ("", b"\0"),
                          ({"driver": "raw", "file": {"driver": "file", "filename": str(base)}}, b"b")]:
        add(qmp, path, backing=backing)
        assert first_byte(qmp, tmp_path) == byte
        qmp.execute("blockdev-del", node_name="top")


def test_a_format_is_never_guessed(qmp, tmp_path, base):
    create(tmp_path / "top", MIB)
    run("qemu-img", "amend", "-o", "compat=1.1", tmp_path / "top")
    run("qemu-img", "rebase", "-u", "-b", "base", "-F", "raw", tmp_path / "top")
    data = (tmp_path / "top").read_bytes()
    (tmp_path / "top").write_bytes(data.replace(bytes.fromhex("e2792aca"), bytes.fromhex("e2792acb"), 1))
    with pytest.raises(QMPError, match="which is not guessed"):
        add(qmp, tmp_path / "top")


def test_descriptions_and_remote_storage_need_permission(qmp, tmp_path, base):
    file = {"driver": "file", "filename": str(base)}
    for name in [json_name({"driver": "raw", "file": file}), "nbd://127.0.0.1:1/x", "https://127.0.0.1/x"]:
        path = with_backing(tmp_path / "top", name)
        with pytest.raises(QMPError, match="the image policy"):
            add(qmp, path)
    assert nodes(qmp) == {}


@pytest.mark.parametrize("description", [
    {"driver": "raw", "file": {"driver": "file", "filename": "BASE"}},
    {"driver": "raw", "file.driver": "file", "file.filename": "BASE"},
    {"driver": "file", "filename": "BASE"},
    {"driver": "raw", "size": 1048576, "offset": "0", "cache.direct": False,
     "file": {"driver": "file", "filename": "BASE", "read-only": False}},
])
def test_descriptions_that_are_allowed(start_daemon, tmp_path, base, description):
    qmp = start_daemon(*policy(json="on")).connect()
    text = json_name(description).replace("BASE", str(base))
    add(qmp, with_backing(tmp_path / "top", text))
    assert first_byte(qmp, tmp_path) == b"b"
    assert all(info["ro"] for name, info in nodes(qmp).items() if info["file"] == str(base))


@pytest.mark.parametrize("description, message", [
    ({"driver": "raw", "file": "secret-node"}, "images cannot name nodes"),
    ({"driver": "raw", "file": {"driver": "file", "filename": "/etc/hostname"}}, "none of the directories"),
    ({"driver": "raw", "file": {"driver": "file", "node-name": "x", "filename": "BASE"}}, "which an image cannot do"),
    ({"driver": "qcow2", "encrypt.key-secret": "s", "file": {}}, "which an image cannot do"),
    ({"driver": "qcow2", "file": {"driver": "file", "filename": "BASE"}}, "gives 'raw' as its format"),
    ({"driver": "raw", "file": {"driver": "file"}}, "filename"),
    ({"driver": "raw", "file": {"driver": "file", "filename": 1.5}}, "fraction"),
    ({"driver": "raw", "file": {"driver": "blkdebug", "config": "/etc/hostname",
                                "image": {"driver": "file", "filename": "BASE"}}}, "driver 'blkdebug', which images"),
    ({"driver": "raw", "file": {"driver": "throttle", "throttle-group": "g",
                                "file": {"driver": "file", "filename": "BASE"}}}, "driver 'throttle', which images"),
    ({"driver": "raw", "file": {"driver": "blklogwrites", "log": {"driver": "file", "filename": "BASE"},
                                "file": {"driver": "file", "filename": "BASE"}}}, "driver 'blklogwrites', which images"),
])
def test_descriptions_that_reach_too_far(start_daemon, tmp_path, base, description, message):
    qmp = start_daemon(*policy(json="on", directories=[tmp_path])).connect()
    qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "secret-node"})
    path = with_backing(tmp_path / "top", json_name(description).replace("BASE", str(base)))
    with pytest.raises(QMPError, match=message):
        add(qmp, path)


@pytest.mark.parametrize("allowed, name, message", [
    ("nbd", "nbd:unix:/run/some.sock", "'nbd\\+unix' stands for"),
    ("nbd", json_name({"driver": "nbd", "server": {"type": "unix", "path": "/run/some.sock"}}), "'nbd\\+unix' stands for"),
    ("nbd+unix", json_name({"driver": "nbd", "server": {"type": "inet", "host": "127.0.0.1", "port": "1"}}),
     "'nbd' stands for"),
    ("nbd", json_name({"driver": "nbd", "server": {"type": "fd", "str": "0"}}), "a descriptor of the daemon"),
    ("http", json_name({"driver": "https", "url": "https://127.0.0.1/x"}), "'https' stands for"),
    ("http", json_name({"driver": "http", "url": "file:///etc/hostname"}), "does not begin with 'http://'"),
])
def test_one_scheme_is_not_another(start_daemon, tmp_path, allowed, name, message):
    qmp = start_daemon(*policy(json="on", schemes=[allowed])).connect()
    with pytest.raises(QMPError, match=message):
        add(qmp, with_backing(tmp_path / "top", name))
    assert nodes(qmp) == {}


def test_directories(start_daemon, tmp_path, base):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "good").write_bytes(b"g" * MIB)
    (inside / "link").symlink_to(base)
    (tmp_path / "inside2").write_bytes(b"n" * MIB)
    qmp = start_daemon(*policy(directories=[inside])).connect()
    for name in ["base", "inside/link", "inside/../base", "inside2", "/etc/hostname"]:
        with pytest.raises(QMPError, match="none of the directories"):
            add(qmp, with_backing(tmp_path / "top", name))
    add(qmp, with_backing(tmp_path / "top", "inside/good"))
    assert first_byte(qmp, tmp_path) == b"g"
    # What the user of the daemon names, is the user's word.
    add(qmp, with_backing(tmp_path / "top2", "base"), "top2",
        backing={"driver": "raw", "file": {"driver": "file", "filename": str(base)}})


def test_the_policy_holds_for_all_that_follows(start_daemon, tmp_path, base):
    """     top -> middle (allowed) -> base (not)                                                                     """
    inside = tmp_path / "inside"
    inside.mkdir()
    with_backing(inside / "middle", str(base))
    qmp = start_daemon(*policy(directories=[inside])).connect()
    with pytest.raises(QMPError, match="none of the directories"):
        add(qmp, with_backing(tmp_path / "top", "inside/middle", "qcow2"))
    assert nodes(qmp) == {}


def test_a_link_that_changes_meanwhile(start_daemon, tmp_path):
    """Whoever may write to an allowed directory cannot lead the daemon out of it by being quick."""
    allowed, base = tmp_path / "allowed", tmp_path / "secret"
    allowed.mkdir()
    base.write_bytes(bytes(2 * MIB))
    (allowed / "good").write_bytes(bytes(MIB))
    (allowed / "link").symlink_to("good")
    top = with_backing(tmp_path / "top", allowed / "link")
    qmp = start_daemon(*policy(directories=[allowed])).connect()
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for target in (base, "good"):
                (allowed / "next").symlink_to(target)
                (allowed / "next").rename(allowed / "link")

    swapper = threading.Thread(target=swap)
    swapper.start()
    opened = refused = 0
    length = MIB
    end = time.monotonic() + 20
    while (opened < 20 or refused < 20 or opened + refused < 300) and time.monotonic() < end:
        try:
            add(qmp, top)
        except QMPError:
            refused += 1
            continue
        opened += 1
        length = nodes(qmp)["top"]["image"]["backing-image"]["virtual-size"]
        qmp.execute("blockdev-del", node_name="top")
        if length != MIB:
            break
    stop.set()
    swapper.join()
    assert length == MIB, "a file outside of the allowed directories is open"
    assert refused, "no link was seen that leads out"


def test_no_directory_at_all(start_daemon, tmp_path, base):
    config = tmp_path / "config.yaml"
    config.write_text("image-policy:\n  directories: []\n")
    qmp = start_daemon("--config", config).connect()
    with pytest.raises(QMPError, match="none of the directories"):
        add(qmp, with_backing(tmp_path / "top", "base"))


def test_mistakes_in_the_policy(tmp_path):
    result = run_cairnd("--image-policy", f"directories.0={tmp_path}/missing")
    assert result.returncode == 1 and "directories[0]: cannot look up" in result.stderr
    result = run_cairnd("--image-policy", "json=on", "--image-policy", "json=off")
    assert result.returncode == 1 and "given twice" in result.stderr
    result = run_cairnd("--image-policy", "jsn=on")
    assert result.returncode == 1 and "json" in result.stderr


def test_what_children_inherit(daemon, qmp, tmp_path, base):
    """read-only, auto-read-only, cache and force-share go down to what is described inside, and not to backing files,
    except for caches."""
    create(tmp_path / "top", MIB)
    add(qmp, tmp_path / "top", cache={"no-flush": True}, discard="unmap",
        backing={"driver": "raw", "node-name": "back", "file": {"driver": "file", "node-name": "back-file",
                                                               "filename": str(base)}})
    info = nodes(qmp)
    assert not info["top"]["ro"] and info["back"]["ro"] and info["back-file"]["ro"]
    assert all(node["cache"]["no-flush"] for node in info.values())
    qmp.execute("blockdev-del", node_name="top")

    options = {"driver": "raw", "node-name": "r", "file": {"driver": "file", "node-name": "f", "filename": str(base)}}
    qmp.execute("blockdev-add", {**options, "read-only": True, "force-share": True})
    run("qemu-io", "-f", "raw", "-c", "write 0 512", base)  # force-share of the parent lets others write
    qmp.execute("blockdev-del", node_name="r")
    with pytest.raises(QMPError, match="force-share: true needs 'read-only'"):
        qmp.execute("blockdev-add", {**options, "force-share": True})
    with pytest.raises(QMPError, match="detect-zeroes: 'unmap' needs 'discard'"):
        qmp.execute("blockdev-add", {**options, "detect-zeroes": "unmap"})


def disk_use(path):
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("detect, discard, sparse", [("off", "unmap", False), ("on", "unmap", False),
                                                    ("unmap", "unmap", True)])
def test_detect_zeroes_and_discard(qmp, tmp_path, detect, discard, sparse):
    path = tmp_path / "disk"
    path.write_bytes(b"x" * MIB)
    qmp.execute("blockdev-add", {"driver": "file", "node-name": "disk", "filename": str(path), "discard": discard,
                                 "detect-zeroes": detect})
    socket = start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    handle = connect(socket, "disk")
    handle.pwrite(bytes(MIB), 0)
    handle.flush()
    assert path.read_bytes() == bytes(MIB)
    assert (disk_use(path) == 0) == sparse


@pytest.mark.parametrize("discard", ["ignore", "unmap"])
def test_discard_goes_down_only_if_all_say_so(qmp, tmp_path, discard):
    path = tmp_path / "disk"
    path.write_bytes(b"x" * MIB)
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "disk", "discard": "unmap", "file": {
        "driver": "file", "filename": str(path), **({"discard": discard} if discard == "ignore" else {})}})
    socket = start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    connect(socket, "disk").trim(MIB, 0)
    assert (disk_use(path) == 0) == (discard == "unmap")


@pytest.mark.parametrize("discard", [{}, {"discard": "ignore"}])
def test_what_is_described_inside_may_unmap(qmp, tmp_path, discard):
    """The node above lets discards through or not. What it gives up by itself, as a format does that deletes a snapshot,
    is unmapped in any case, as in QEMU."""
    path = create(tmp_path / "disk", MIB)
    add(qmp, path, **discard)
    socket = start_server(qmp, tmp_path)
    export(qmp, "top", writable=True)
    handle = connect(socket, "top")
    handle.pwrite(b"x" * MIB, 0)
    qmp.execute("blockdev-snapshot-internal-sync", device="top", name="s")
    handle.pwrite(b"y" * MIB, 0)
    handle.trim(MIB, 0)
    handle.flush()
    assert handle.pread(MIB, 0) == b"y" * MIB and disk_use(path) >= 2 * MIB
    handle.shutdown()
    qmp.execute("blockdev-snapshot-delete-internal-sync", device="top", name="s")
    qmp.execute("block-export-del", id="export-top", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.execute("blockdev-del", node_name="top")
    assert disk_use(path) < 1.5 * MIB
