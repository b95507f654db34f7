"""Fixtures that all integration tests share.

own_name      "localhost"; skips where the machine does not know it (a root file system without /etc/hosts)
daemon        a running cairnd with a QMP monitor; its directory is tmp_path
qmp           a negotiated client of that daemon
serve         starts other servers of NBD, on Unix sockets in tmp_path: serve("nbdkit", ..., name="server.sock")
start_daemon  starts further or differently configured ones: start_daemon("--config", path, monitor=False)
"""

import pathlib
import socket
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from foreign import Server  # noqa: E402 (the path above comes first)
from process import Daemon  # noqa: E402


@pytest.fixture
def start_daemon(tmp_path):
    started = []

    def start(*args, **options):
        directory = tmp_path
        if started:
            directory = tmp_path / f"daemon{len(started)}"
            directory.mkdir()
        daemon = Daemon(directory, *args, **options)
        started.append(daemon)
        return daemon

    yield start
    failures = []
    for daemon in reversed(started):
        try:
            daemon.stop()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture
def daemon(start_daemon):
    return start_daemon()


@pytest.fixture
def qmp(daemon):
    return daemon.connect()


@pytest.fixture
def own_name():
    try:
        socket.getaddrinfo("localhost", None)
    except socket.gaierror:
        pytest.skip("this machine does not know its own name")
    return "localhost"


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*command, name="server.sock"):
        server = Server(tmp_path / name, *command)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()
