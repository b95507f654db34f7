"""The end of a daemon whose storage does not answer: bounded, and honest about it."""

import time

from test_hung import hung_fs  # noqa: F401 (a fixture)

GIVES_UP_AFTER = 10  # seconds


def wait_for_log(daemon, text, seconds=GIVES_UP_AFTER + 10):
    end = time.monotonic() + seconds
    while text not in daemon.log:
        assert time.monotonic() < end, f"the daemon does not say '{text}':\n{daemon.log}"
        time.sleep(0.02)


def test_what_hangs_is_named_and_the_status_tells(hung_fs, start_daemon):  # noqa: F811
    daemon = start_daemon("--pidfile", "pid", "--blockdev", "null-co,node-name=well")
    daemon.expected_status = 1
    stuck = daemon.connect()
    stuck.start("blockdev-add", driver="qcow2", node_name="hung",
                file={"driver": "file", "filename": hung_fs / "hang-read"})
    stuck.expect_silence(0.2)

    begin = time.monotonic()
    with daemon.connect() as control:
        control.execute("quit")
    wait_for_log(daemon, "storage did not answer")
    assert GIVES_UP_AFTER - 1 < time.monotonic() - begin < GIVES_UP_AFTER + 5
    assert "blockdev-add" in daemon.log
    assert not daemon.socket.exists() and not (daemon.directory / "pid").exists()
    hung_fs.release()  # the kernel lets a process go only when its calls have come back
    assert daemon.wait() == 1
