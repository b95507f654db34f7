"""Who listens to events hears of what storage did not do for the clients of exports."""

import nbd
import pytest

import nbd_client
from images import KIB, MIB


def export_failing(qmp, directory, **rule):
    (directory / "disk").write_bytes(bytes(MIB))
    qmp.execute("blockdev-add", {"driver": "blkdebug", "node-name": "disk",
                                 "image": {"driver": "file", "filename": str(directory / "disk")},
                                 "inject-error": [{"event": "none", "once": False} | rule]})
    socket = nbd_client.start_server(qmp, directory)
    nbd_client.export(qmp, "disk", writable=True)
    return nbd_client.connect(socket, "disk")


@pytest.mark.parametrize("iotype, errno, operation, reason", [
    ("read", 5, "read", "Input/output error"), ("write", 5, "write", "Input/output error"),
    ("write", 28, "write", "No space left on device"), ("flush", 5, "write", "Input/output error"),
])
def test_a_request_that_fails_is_told_of_once_in_a_while(daemon, qmp, tmp_path, iotype, errno, operation, reason):
    client = export_failing(qmp, tmp_path, iotype=iotype, errno=errno)
    request = {"read": lambda: client.pread(4 * KIB, 0), "write": lambda: client.pwrite(bytes(4 * KIB), 0),
               "flush": client.flush}[iotype]
    for _ in range(20):
        with pytest.raises(nbd.Error):
            request()
    data = qmp.wait_event("BLOCK_IO_ERROR")["data"]
    assert data == {"qom-path": "/exports/export-disk", "device": "", "node-name": "disk", "operation": operation,
                    "action": "report", "nospace": errno == 28, "reason": reason}
    assert qmp.execute("query-version")
    assert len([event for event in qmp.events if event["event"] == "BLOCK_IO_ERROR"]) < 10
    client.shutdown()


def test_what_a_client_should_not_have_asked_is_no_error_of_storage(daemon, qmp, tmp_path):
    client = export_failing(qmp, tmp_path, iotype="read", errno=5, sector=0)
    client.set_strict_mode(0)
    for request in (lambda: client.pread(4 * KIB, MIB), lambda: client.pwrite(bytes(4 * KIB), MIB)):
        with pytest.raises(nbd.Error):
            request()
    assert client.pread(4 * KIB, 4 * KIB) == bytes(4 * KIB)
    client.shutdown()
    qmp.execute("query-version")
    assert not [event for event in qmp.events if event["event"] == "BLOCK_IO_ERROR"]
