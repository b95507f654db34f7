"""libnbd, as another view of what cairn serves."""

import json
import pathlib

import nbd

from images import run


def uri(socket, export):
    return f"nbd+unix:///{export}?socket={socket}"


def connect(socket, export, contexts=()):
    handle = nbd.NBD()
    for context in contexts:
        handle.add_meta_context(context)
    handle.connect_uri(uri(socket, export))
    return handle


def connect_plainly(socket, export):
    """Without structured replies: all that is read goes through the node, also what it knows to be zero."""
    handle = nbd.NBD()
    handle.set_request_structured_replies(False)
    handle.connect_uri(uri(socket, export))
    return handle


def read_all(handle, chunk=256 * 1024):
    size = handle.get_size()
    return b"".join(handle.pread(min(chunk, size - offset), offset) for offset in range(0, size, chunk))


def base_allocation(socket, export):
    """What nbdinfo sees: a list of (offset, length, hole, zero), neighbours that are alike merged."""
    text = run("nbdinfo", "--json", "--map=base:allocation", uri(socket, export)).stdout
    merged = []
    for extent in json.loads(text):
        hole, zero = bool(extent["type"] & 1), bool(extent["type"] & 2)
        if merged and merged[-1][2:] == (hole, zero):
            offset, length, _, _ = merged[-1]
            merged[-1] = (offset, length + extent["length"], hole, zero)
        else:
            merged.append((extent["offset"], extent["length"], hole, zero))
    return merged


def start_server(qmp, directory, max_connections=None):
    """Starts the daemon's NBD server on a Unix socket; returns the socket's path."""
    socket = pathlib.Path(directory) / "nbd.sock"
    arguments = {"addr": {"type": "unix", "data": {"path": str(socket)}}}
    if max_connections is not None:
        arguments["max-connections"] = max_connections
    qmp.execute("nbd-server-start", arguments)
    return socket


def export(qmp, node, writable=False, **options):
    """Exports a node under its own name."""
    qmp.execute("block-export-add", type="nbd", id=f"export-{node}", node_name=node, writable=writable, **options)


def dirty_units(qmp, socket, node, bitmap, unit):
    """Which units of so many bytes have something that is dirty in the bitmap, as a client of an export sees them."""
    name = f"look-at-{node}-{bitmap}"
    qmp.execute("block-export-add", type="nbd", id=name, node_name=node, name=name, writable=True, bitmaps=[bitmap])
    client = connect(socket, name, contexts=[f"qemu:dirty-bitmap:{bitmap}"])
    size, found, at = client.get_size(), set(), 0
    while at < size:
        entries = []
        client.block_status(size - at, at, lambda metacontext, offset, extents, error: entries.extend(extents))
        for length, flags in zip(entries[::2], entries[1::2]):
            if flags & 1:
                found |= set(range(at // unit, -(-(at + length) // unit)))
            at += length
    client.shutdown()
    qmp.execute("block-export-del", id=name, mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == name)
    return found


def serve_disk(qmp, directory):
    """A file of 1 MiB full of "x" as node "file" below node "disk", which is exported: a client of it."""
    (directory / "disk").write_bytes(b"x" * (1 << 20))
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "disk", "discard": "unmap", "file": {
        "driver": "file", "node-name": "file", "filename": str(directory / "disk")}})
    socket = start_server(qmp, directory)
    export(qmp, "disk", writable=True)
    return connect(socket, "disk")
