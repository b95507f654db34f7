"""Chains of images for jobs that work inside of a chain: made by QEMU's tools, opened layer by layer."""

import json

from images import KIB, MIB, check, compare, content, create, qemu_io, run

SIZE = 6 * MIB
# (length, cluster options) of each layer, the base first; a base may be raw.
SHAPES = {
    "plain": [(SIZE, {}), (SIZE, {}), (SIZE, {}), (SIZE, {})],
    "fine-over-coarse": [(SIZE, "raw"), (SIZE, {"cluster_size": "64k"}), (SIZE, {"cluster_size": "4k"}),
                         (SIZE, {"cluster_size": "512"})],
    "coarse-over-fine": [(SIZE, {"cluster_size": "512"}), (SIZE, {"cluster_size": "4k"}), (SIZE, {"cluster_size": "64k"}),
                         (SIZE, {"cluster_size": "256k"})],
    "subclusters": [(SIZE, {}), (SIZE, {"cluster_size": "64k", "extended_l2": "on"}), (SIZE, {}),
                    (SIZE, {"cluster_size": "64k", "extended_l2": "on"})],
    "short-base": [(2 * MIB + 512, {}), (SIZE, {}), (SIZE, {}), (SIZE, {})],
    "short-layers": [(SIZE, "raw"), (3 * MIB + 64 * KIB, {}), (4 * MIB, {"cluster_size": "4k"}), (SIZE, {})],
}


def make(directory, shape):
    """Paths and formats, the base first. Each layer has data, zeroes and absent ranges of its own."""
    paths = []
    for number, (size, options) in enumerate(SHAPES[shape]):
        path = directory / f"layer{number}.img"
        if options == "raw":
            create(path, size, fmt="raw")
        else:
            backing = {"backing": paths[-1][0], "backing_fmt": paths[-1][1]} if paths else {}
            create(path, size, **backing, **options)
        fmt = "raw" if options == "raw" else "qcow2"
        # Past the ends of other layers, at their seams, and over one another.
        writes = [f"write -P {number * 16 + 1} {number * 300}k 200k", f"write -P {number * 16 + 2} 1m 36k",
                  f"write -z {1024 + number * 16}k 20k", f"write -P {number * 16 + 3} {size - 1536 - number * 512} 1k",
                  f"write -P {number * 16 + 4} {1536 + 128 * number}k 300k", f"write -z {1600 + 256 * number}k 128k"]
        qemu_io(path, *writes, fmt=fmt)
        paths.append((path, fmt))
    return paths


def add(qmp, paths, filters_between=False, read_only_below=True, files=lambda number, file: file):
    """Nodes l0 (base) to l3 (top); with throttle filters f0 to f2 on the lower ones. @files: what stands for the file
    of layer @number."""
    if filters_between:
        qmp.execute("object-add", qom_type="throttle-group", id="group")
    below = None
    for number, (path, fmt) in enumerate(paths):
        last = number == len(paths) - 1
        backing = {"backing": below} if below and fmt == "qcow2" else {}
        qmp.execute("blockdev-add", driver=fmt, node_name=f"l{number}", discard="unmap",
                    read_only=read_only_below and not last,
                    file=files(number, {"driver": "file", "filename": str(path)}), **backing)
        below = f"l{number}"
        if filters_between and not last:
            qmp.execute("blockdev-add", driver="throttle", node_name=f"f{number}", throttle_group="group",
                        file=below, read_only=read_only_below)
            below = f"f{number}"


def add_failing(qmp, paths, number, event, error=5):
    """The file of layer @number fails once."""
    rule = {"event": event, "errno": error, "once": True}
    add(qmp, paths, read_only_below=False,
        files=lambda layer, file: {"driver": "blkdebug", "image": file, "inject-error": [rule]} if layer == number
        else file)


def add_with_gate(qmp, paths, number):
    """The file of layer @number can be made to hang, with node "gate"."""
    add(qmp, paths, files=lambda layer, file: {"driver": "gate", "node-name": "gate", "file": file} if layer == number
        else file)


def judge(daemon, directory, top, model, fmt="qcow2"):
    """The daemon ends; what is at @top is @model, and in order."""
    daemon.stop()
    (directory / "model").write_bytes(model)
    compare(top, directory / "model", fmt=fmt)
    if fmt == "qcow2":
        check(top)


def model_of(paths):
    path, fmt = paths[-1]
    return bytearray(content(path, fmt))


def backing_of(path):
    """What the header says: file name and format."""
    info = json.loads(run("qemu-img", "info", "-U", "--output=json", path).stdout)
    return info.get("backing-filename"), info.get("backing-filename-format")


def names_of(qmp):
    return {node["node-name"] for node in qmp.execute("query-named-block-nodes")}

