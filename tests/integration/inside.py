"""A folder where a daemon may go, and one where it may not."""

from qmp import QMP

MIB = 1 << 20


def make_world(directory):
    """in/ is allowed, out/ is not; a link leads from one to the other."""
    for name in ("in", "out"):
        (directory / name).mkdir()
        (directory / name / "disk.raw").write_bytes(name.encode().ljust(MIB, b"\0"))
    (directory / "in" / "link").symlink_to(directory / "out" / "disk.raw")
    return directory


def start_inside(start_daemon, world, text, *args, **keywords):
    """A daemon with this configuration and a monitor inside, and a client of it."""
    (world / "cairn.yaml").write_text(f"{text}\nmonitors: [ {{path: {world}/in/qmp.sock}} ]\n")
    daemon = start_daemon("--config", world / "cairn.yaml", *args, monitor=False, **keywords)
    daemon.wait_for_socket(f"{world}/in/qmp.sock")
    return daemon, QMP(f"{world}/in/qmp.sock")
