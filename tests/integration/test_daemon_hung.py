"""The end of a daemon whose storage does not answer: bounded, and honest about it."""

import time

import nbd

import nbd_client

from test_hung import hung_fs, wait_until  # noqa: F401 (hung_fs is a fixture)

GIVES_UP_AFTER = 10  # seconds


def test_what_hangs_is_named_and_the_status_tells(hung_fs, start_daemon):  # noqa: F811
    daemon = start_daemon("--pidfile", "pid", "--blockdev", "null-co,node-name=well")
    daemon.expected_status = 1
    stuck = daemon.connect()
    stuck.execute("blockdev-add", driver="file", node_name="hung", filename=hung_fs / "hang-close")
    stuck.start("blockdev-del", node_name="hung")
    stuck.expect_silence(0.2)

    begin = time.monotonic()
    with daemon.connect() as control:
        control.execute("quit")
    daemon.wait_for_log("storage did not answer", deadline=GIVES_UP_AFTER + 10)
    assert GIVES_UP_AFTER - 1 < time.monotonic() - begin < GIVES_UP_AFTER + 5
    assert "blockdev-del" in daemon.log
    wait_until(lambda: not daemon.socket.exists() and not (daemon.directory / "pid").exists())
    hung_fs.release()  # the kernel lets a process go only when its calls have come back
    assert daemon.wait() == 1


def test_a_request_of_an_export_that_hangs_is_bounded_too(hung_fs, start_daemon):  # noqa: F811
    """Others are closed before; the node that hangs is named."""
    daemon = start_daemon("--pidfile", "pid")
    daemon.expected_status = 1
    control = daemon.connect()
    control.execute("blockdev-add", driver="file", node_name="hung", filename=str(hung_fs / "hang-read"))
    control.execute("blockdev-add", driver="null-co", node_name="well")
    socket = nbd_client.start_server(control, daemon.directory)
    nbd_client.export(control, "hung")
    client = nbd_client.connect(socket, "hung")
    client.aio_pread(nbd.Buffer(512), 0)
    client.poll(200)

    begin = time.monotonic()
    control.execute("quit")
    daemon.wait_for_log("storage did not answer", deadline=GIVES_UP_AFTER + 10)
    assert GIVES_UP_AFTER - 1 < time.monotonic() - begin < GIVES_UP_AFTER + 5
    assert "not flushed and closed: 'hung'\n" in daemon.log
    hung_fs.release()
    assert daemon.wait() == 1
