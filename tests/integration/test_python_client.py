"""The Python client against a daemon, and against a server that behaves badly."""

import asyncio
import dataclasses
import json
import os
import subprocess
import sys

import images
import pytest
from process import BUILD, ROOT
from qmp import DEADLINE

sys.path.insert(0, str(BUILD / "clients" / "python"))

import cairn  # noqa: E402 (the path above comes first)
from cairn import runtime  # noqa: E402

MIB = 1 << 20


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE))


def test_commands_are_methods(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            version = await client.query_version()
            assert version.qemu.major == client.greeting["version"]["qemu"]["major"]
            await client.blockdev_add(cairn.BlockdevOptions_null_co(node_name="disk0", size=MIB, read_zeroes=True))
            node, = await client.query_named_block_nodes(flat=True)
            assert (node.node_name, node.drv, node.image.virtual_size) == ("disk0", "null-co", MIB)
            assert node.detect_zeroes is cairn.BlockdevDetectZeroesOptions.OFF
            assert isinstance(node.cache, cairn.BlockdevCacheInfo) and node.backing_file is None
            await client.blockdev_del(node_name="disk0")
            assert await client.query_named_block_nodes() == []
    run(test())


def test_arrays_of_enums_go_and_come(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            await client.blockdev_add(cairn.BlockdevOptions_null_co(node_name="disk0", size=MIB, read_zeroes=True))
            status = await client.query_block_status(node_name="disk0", want=[cairn.BlockStatusQuestion.ZERO])
            assert status.extents == [cairn.BlockStatusExtent(offset=0, length=MIB, zero=True)]
    run(test())


def test_null_is_not_absent(daemon):
    """The image names a backing file that does not exist: it can be opened only where null says that there is none."""
    images.create(daemon.path("base.qcow2"), MIB)
    images.create(daemon.path("overlay.qcow2"), MIB, backing=daemon.path("base.qcow2"))
    os.remove(daemon.path("base.qcow2"))
    options = cairn.BlockdevOptions_qcow2(node_name="disk0",
                                          file=cairn.BlockdevOptions_file(filename=daemon.path("overlay.qcow2")))

    async def test():
        async with cairn.connect(daemon.socket) as client:
            assert options.backing is cairn.ABSENT
            with pytest.raises(cairn.GenericError, match="base.qcow2"):
                await client.blockdev_add(options)
            await client.blockdev_add(dataclasses.replace(options, backing=None))
    run(test())


def test_errors_are_exceptions_of_their_class(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            with pytest.raises(cairn.DeviceNotFound) as caught:
                await client.query_block_status(node_name="nobody")
            assert caught.value.command == "query-block-status" and "nobody" in caught.value.description
            with pytest.raises(cairn.CommandNotFound):
                await client.execute("no-such-command")
            with pytest.raises(cairn.GenericError, match="expected"):
                await client.execute("blockdev-del", {"node-name": 7})
            assert issubclass(cairn.DeviceNotFound, cairn.CommandError)
    run(test())


def test_events_are_typed_and_none_is_missed(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            async with client.events(cairn.JobStatusChangeEvent) as changes:
                await client.blockdev_create(
                    job_id="create0",
                    options=cairn.BlockdevCreateOptions_file(filename=daemon.path("new.raw"), size=MIB))
                seen = []
                async for change in changes:
                    assert change.id == "create0" and change.timestamp > 1e9
                    seen.append(change.status)
                    if change.status is cairn.JobStatus.CONCLUDED:
                        break
            assert seen[0] is cairn.JobStatus.CREATED and cairn.JobStatus.RUNNING in seen
            await client.job_dismiss(id="create0")
    run(test())


def test_streams_only_have_their_kinds(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            gone, everything = client.events(cairn.BlockExportDeletedEvent), client.events()
            await client.blockdev_create(
                job_id="create0", options=cairn.BlockdevCreateOptions_file(filename=daemon.path("new.raw"), size=MIB))
            await client.blockdev_add(cairn.BlockdevOptions_null_co(node_name="disk0"))
            await client.nbd_server_start(addr=cairn.SocketAddressLegacy_unix(
                data=cairn.UnixSocketAddress(path=daemon.path("nbd.sock"))))
            await client.block_export_add(cairn.BlockExportOptions_nbd(id="export0", node_name="disk0"))
            await client.block_export_del(id="export0", mode=cairn.BlockExportRemoveMode.HARD)
            assert (await anext(gone)).id == "export0"
            assert isinstance(await anext(everything), cairn.JobStatusChangeEvent)
    run(test())


def test_commands_at_the_same_time_get_their_own_replies(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            async def size(number):
                name = f"disk{number}"
                await client.blockdev_add(cairn.BlockdevOptions_null_co(node_name=name, size=(number + 1) * MIB))
                status = await client.query_block_status(node_name=name)
                return sum(extent.length for extent in status.extents)
            assert await asyncio.gather(*map(size, range(50))) == [(number + 1) * MIB for number in range(50)]
    run(test())


def test_the_end_of_the_daemon_ends_what_waits(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            everything = client.events()
            await client.quit()
            assert [event async for event in everything] == []
            assert client.closed
            with pytest.raises(cairn.ConnectionClosed):
                await client.query_version()
    run(test())
    daemon.wait()


def test_whole_schema_decodes(daemon):
    async def test():
        async with cairn.connect(daemon.socket) as client:
            schema = await client.query_qmp_schema()
            commands = {entry.name for entry in schema if isinstance(entry, cairn.SchemaInfo_command)}
            assert commands == {command.name for command in await client.query_commands()}
            assert all(type(entry) is not cairn.SchemaInfo for entry in schema)
    run(test())


def test_what_is_newer_than_the_client_is_survived():
    decode = lambda kind, value: runtime.decode(cairn.api.TYPES, kind, value)  # noqa: E731
    assert decode("JobStatus", "resting") == "resting"
    assert decode("CommandInfo", {"name": "x", "added": 1}) == cairn.CommandInfo(name="x")
    node = decode("BlockdevOptions", {"driver": "new-driver", "node-name": "a", "its-own": 1})
    assert type(node) is cairn.BlockdevOptions and node.driver == "new-driver" and node.node_name == "a"
    with pytest.raises(cairn.ProtocolError, match="'name' is missing"):
        decode("CommandInfo", {})


def test_what_is_decoded_encodes_to_the_same():
    values = [
        ("BlockdevOptions", {"driver": "qcow2", "backing": None, "file": "file0", "overlap-check": "all"}),
        ("BlockdevOptions", {"driver": "raw", "size": 5, "file": {"driver": "file", "filename": "a", "aio": "native"}}),
        ("SocketAddress", {"type": "inet", "host": "h", "port": "1", "keep-alive": True}),
        ("SchemaInfo", {"name": "x", "meta-type": "enum", "members": [{"name": "a"}], "values": ["a"]}),
    ]
    for kind, value in values:
        assert runtime.encode(runtime.decode(cairn.api.TYPES, kind, value)) == value


async def serve(path, *lines):
    """A server that says @lines after the first command and then hangs up."""
    async def session(reader, writer):
        writer.write(b'{"QMP": {}}\r\n')
        await reader.readline()
        writer.write(b'{"return": {}, "id": 1}\r\n')
        await reader.readline()
        writer.write(b"".join(line + b"\r\n" for line in lines))
        writer.close()
    return await asyncio.start_unix_server(session, path)


@pytest.mark.parametrize("lines", [[], [b"garbage"], [b"[]"], [b'{"return": {}, "id": 77}']])
def test_a_server_that_hangs_up_or_talks_nonsense(tmp_path, lines):
    async def test():
        async with await serve(tmp_path / "sock", *lines):
            async with cairn.connect(tmp_path / "sock") as client:
                with pytest.raises(cairn.ConnectionClosed):
                    await client.query_version()
    run(test())


def test_an_event_of_an_unknown_kind(tmp_path):
    event = {"event": "NEWS", "data": {"x": 1}, "timestamp": {"seconds": 5, "microseconds": 500000}}

    async def test():
        async with await serve(tmp_path / "sock", json.dumps(event).encode()):
            async with cairn.connect(tmp_path / "sock") as client:
                news = client.events()
                with pytest.raises(cairn.ConnectionClosed):
                    await client.query_version()
                assert [event async for event in news] == [
                    runtime.UnknownEvent(timestamp=5.5, name="NEWS", data={"x": 1})]
    run(test())


def test_the_example_of_the_readme(daemon):
    result = subprocess.run(
        ["/usr/bin/python3", ROOT / "clients" / "python" / "examples" / "make_image.py", daemon.socket, "disk.qcow2"],
        cwd=daemon.directory, env={**os.environ, "PYTHONPATH": str(BUILD / "clients" / "python")},
        capture_output=True, text=True, timeout=DEADLINE)
    assert result.returncode == 0, result.stderr
    assert f"disk0 qcow2 {1 << 30}" in result.stdout
    assert images.run("qemu-img", "info", "-U", daemon.path("disk.qcow2")).stdout.count("1 GiB") == 1
