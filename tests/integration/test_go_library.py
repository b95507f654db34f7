"""A QMP library that others made for QEMU, with types from QEMU's own schema, leads a disk through a day (go_manager). It
sees the same from cairnd as from qemu-storage-daemon, and the images are the same afterwards."""

import os
import pathlib
import shutil
import subprocess

import pytest

from images import KIB, MIB, check, compare, create, qemu_io
from process import BUILD, CAIRND
from qmp import DEADLINE

QSD = shutil.which("qemu-storage-daemon")
SOURCES = pathlib.Path(__file__).parent / "go_manager"
LIBRARY = pathlib.Path("/usr/share/gocode")  # where Debian has it
IMAGES = ["base", "top", "backup", "copy", "next"]

pytestmark = pytest.mark.skipif(not shutil.which("go") or not LIBRARY.exists(),
                                reason="Go and its QMP library are not installed")


@pytest.fixture(scope="module")
def program():
    path = BUILD / "tests" / "go_manager"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(LIBRARY), "GOFLAGS": "", "CGO_ENABLED": "0",
                   "GOCACHE": str(BUILD / "go-cache")}
    subprocess.run(["go", "build", "-o", path, "."], cwd=SOURCES, env=environment, check=True)
    return path


def make_images(directory):
    """8 MiB below, 8 MiB above it of which 4 MiB hide what is below, and three empty ones."""
    directory.mkdir()
    create(directory / "base.qcow2", 64 * MIB)
    qemu_io(directory / "base.qcow2", "write -P 1 0 8M")
    create(directory / "top.qcow2", 64 * MIB, backing="base.qcow2")
    qemu_io(directory / "top.qcow2", "write -P 2 4M 8M")
    for name in IMAGES[2:]:
        create(directory / f"{name}.qcow2", 64 * MIB)


def lead(program, server, directory):
    """What the manager printed; None where QSD does not come up, which sometimes hangs."""
    make_images(directory)
    with subprocess.Popen([server, "--chardev", "socket,id=c,path=m.sock,server=on,wait=off", "--monitor", "c"],
                          cwd=directory) as process:
        try:
            result = subprocess.run([program, "m.sock", directory], cwd=directory, capture_output=True, text=True,
                                    timeout=4 * DEADLINE)
            assert result.returncode == 0, result.stdout + result.stderr
            assert process.wait(DEADLINE) == 0
            return result.stdout
        except subprocess.TimeoutExpired:
            if server == QSD:
                return None
            raise
        finally:
            process.kill()


def test_the_library_and_its_user_see_what_they_see_from_qemu(tmp_path, program):
    told = lead(program, CAIRND, tmp_path / "cairnd")
    assert "status commit0 concluded" in told
    content = tmp_path / "content.raw"
    create(content, 64 * MIB, fmt="raw")
    qemu_io(content, "write -P 1 0 4M", "write -P 2 4M 8M", fmt="raw")
    for name in ("backup", "copy", "top"):
        compare(tmp_path / "cairnd" / f"{name}.qcow2", content)
    for name in IMAGES:
        check(tmp_path / "cairnd" / f"{name}.qcow2")
    assert (tmp_path / "cairnd" / "copy.qcow2").stat().st_blocks * 512 < 12 * MIB + 512 * KIB  # as sparse as it was
    theirs = lead(program, QSD, tmp_path / "qsd") if QSD else None
    if theirs is None:
        pytest.skip("there is no qemu-storage-daemon, or it hangs")
    assert told == theirs
