"""Images made and judged by QEMU's tools, which know nothing of cairn: the independent witnesses of these tests."""

import json
import os
import random
import subprocess

KIB = 1024
MIB = 1024 * KIB


def run(*command, check=True, **options):
    result = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            errors="replace", **options)
    assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result


def create(path, size, fmt="qcow2", backing=None, backing_fmt="qcow2", **options):
    """qemu-img create. Options as in cluster_size="4k"."""
    command = ["qemu-img", "create", "-q", "-f", fmt]
    if options:
        command += ["-o", ",".join(f"{name}={value}" for name, value in options.items())]
    if backing:
        command += ["-b", backing, "-F", backing_fmt]
    run(*command, path, size)
    return path


def create_encrypted(path, size, secret, fmt="luks", attempts=20, **options):
    """qemu-img create with the secret as an --object. Its clock is too coarse to measure short times, so it may have to try
    again."""
    words = ",".join(f"{name}={value}" for name, value in options.items())
    for _ in range(attempts):
        result = run("qemu-img", "create", "-q", "--object", secret, "-f", fmt, "-o", words, path, size, check=False)
        if "accurate CPU usage" not in result.stderr:
            break
    assert result.returncode == 0, result.stderr
    return path


def qemu_io(path, *commands, fmt="qcow2"):
    words = [word for command in commands for word in ("-c", command)]
    output = run("qemu-io", "-f", fmt, *words, path).stdout
    assert "error" not in output.lower(), output


def check(path, fmt="qcow2", leaks_allowed=False, repair_first=False):
    """qemu-img check: 0 is clean, 3 is leaks only. An image with lazy refcounts says after a crash that it needs repair."""
    if repair_first:
        run("qemu-img", "check", "-r", "all", "-f", fmt, path, check=False)
    result = run("qemu-img", "check", "-f", fmt, path, check=False)
    assert result.returncode == 0 or (leaks_allowed and result.returncode == 3), result.stdout + result.stderr


def compare(path, other, fmt="qcow2", other_fmt="raw"):
    run("qemu-img", "compare", "-f", fmt, "-F", other_fmt, path, other)


def qemu_map(path, fmt="qcow2"):
    return json.loads(run("qemu-img", "map", "-U", "--output=json", "-f", fmt, path).stdout)


def content(path, fmt="qcow2"):
    """All bytes that a guest would read, as QEMU sees them. If somebody has the image open: as it is on disk."""
    raw = f"{path}.content"
    run("qemu-img", "convert", "-U", "-f", fmt, "-O", "raw", path, raw)
    with open(raw, "rb") as file:
        return file.read()


def random_commands(rng, size, count, granularity=512):
    """qemu-io commands that write data and zeroes and discard, at random places."""
    commands = []
    for _ in range(count):
        length = rng.randrange(granularity, max(size // 4, granularity + 1), granularity)
        offset = rng.randrange(0, max(size - length, 0) + 1, granularity)
        length = min(length, size - offset)
        kind = rng.choice(["write", "write", "write", "zero", "zero-unmap", "discard"])
        if kind == "write":
            commands.append(f"write -P {rng.randrange(1, 256)} {offset} {length}")
        elif kind == "discard":
            commands.append(f"discard {offset} {length}")
        else:
            commands.append(f"write -z {'-u ' if kind == 'zero-unmap' else ''}{offset} {length}")
    return commands


def random_chain(rng, directory, depth, size=1 * MIB):
    """A chain of qcow2 images of different cluster sizes, lengths and content; returns their paths, the top first."""
    path = None
    paths = []
    for level in range(depth):
        length = size if level == depth - 1 else rng.choice([size, size // 2 + 512, size - 512, size + 64 * KIB])
        options = {"cluster_size": rng.choice(["512", "4k", "64k"])}
        if path is None and rng.random() < 0.3:
            options["preallocation"] = rng.choice(["metadata", "falloc"])
        if rng.random() < 0.2:
            options["compat"] = "0.10"
        image = create(directory / f"level{level}.qcow2", length, backing=path, **options)
        qemu_io(image, *random_commands(rng, length, rng.randrange(1, 8)))
        path = image
        paths.insert(0, image)
    return paths


def seeds(count):
    """Always the same ones, so that a failure can be repeated; CAIRN_TEST_SEEDS makes them more, CAIRN_TEST_SEED adds one."""
    count = max(count, int(os.environ.get("CAIRN_TEST_SEEDS", 0)))
    extra = os.environ.get("CAIRN_TEST_SEED")
    return list(range(count)) + ([int(extra)] if extra else [])


def rng_of(seed):
    return random.Random(f"cairn {seed}")


def add_overlay(qmp, directory):
    """Nodes "overlay" and "base" of 1 MiB, each with "-file" below it: 64 KiB of the base show, then come 64 KiB of data and
    64 KiB of zeroes of the overlay, and nothing."""
    base = create(directory / "base.qcow2", 1 * MIB)
    qemu_io(base, "write -P 1 0 128k")
    path = create(directory / "overlay.qcow2", 1 * MIB, backing=base)
    qemu_io(path, "write -P 2 64k 64k", "write -z 128k 64k")
    qmp.execute("blockdev-add", driver="qcow2", node_name="overlay",
                file={"driver": "file", "node-name": "overlay-file", "filename": str(path)},
                backing={"driver": "qcow2", "node-name": "base",
                         "file": {"driver": "file", "node-name": "base-file", "filename": str(base)}})
