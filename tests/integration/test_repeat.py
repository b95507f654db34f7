"""Commands that may be repeated: what is so already is no error. For programs that put things right again and again."""

import pytest

SOCKET = {"type": "socket", "data": {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}}}
TCP = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}

PAIRS = [
    ("object-add", {"qom-type": "throttle-group", "id": "limits"}, "object-del", {"id": "limits"}),
    ("blockdev-add", {"driver": "null-co", "node-name": "disk"}, "blockdev-del", {"node-name": "disk"}),
    ("chardev-add", {"id": "spare", "backend": SOCKET}, "chardev-remove", {"id": "spare"}),
    ("nbd-server-start", {"addr": TCP}, "nbd-server-stop", {}),
    ("block-export-add", {"type": "nbd", "id": "export", "node-name": "below"}, "block-export-del", {"id": "export"}),
]


@pytest.mark.parametrize("add, added, remove, removed", PAIRS, ids=[pair[0] for pair in PAIRS])
def test_adding_and_removing_again(qmp, add, added, remove, removed):
    if add == "block-export-add":
        qmp.execute("blockdev-add", driver="null-co", node_name="below")
        qmp.execute("nbd-server-start", addr=TCP)
    for _ in range(2):
        assert qmp.execute(remove, {**removed, "if-present": True}) == {}
        qmp.error(remove, removed)
        for _ in range(2):
            assert qmp.execute(add, {**added, "if-absent": True}) == {}
        qmp.error(add, added)
        qmp.error(add, {**added, "if-absent": False})
        qmp.execute(remove, {**removed, "if-present": True})


def test_what_has_the_name_and_is_something_else(qmp):
    qmp.execute("blockdev-add", driver="null-co", node_name="disk")
    assert "Duplicate nodes" in qmp.error("blockdev-add", driver="null-aio", node_name="disk", if_absent=True).desc
    qmp.execute("blockdev-add", driver="null-co", node_name="other")
    qmp.execute("nbd-server-start", addr=TCP)
    qmp.execute("block-export-add", type="nbd", id="export", node_name="disk")
    assert "in use" in qmp.error("block-export-add", type="nbd", id="export", node_name="other", if_absent=True).desc
    qmp.execute("object-add", qom_type="iothread", id="thing")
    qmp.error("object-add", qom_type="throttle-group", id="thing", if_absent=True)


def test_it_is_said_of_the_command_not_of_nodes_inside(qmp):
    error = qmp.error("blockdev-add", driver="raw", node_name="top", file={"driver": "null-co", "if-absent": True})
    assert "if-absent" in error.desc
    qmp.execute("blockdev-add", driver="raw", node_name="top", if_absent=True, file={"driver": "null-co"})
    qmp.execute("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": {"driver": "null-co"}}])


def test_a_node_and_an_iothread(qmp):
    """Accepted without effect: requests run on any thread."""
    qmp.execute("blockdev-add", driver="null-co", node_name="disk")
    qmp.execute("object-add", qom_type="iothread", id="thread0")
    qmp.execute("object-add", qom_type="throttle-group", id="limits")
    for iothread in ("thread0", None):
        qmp.execute("x-blockdev-set-iothread", node_name="disk", iothread=iothread)
    assert qmp.error("x-blockdev-set-iothread", node_name="no", iothread=None).desc == \
        "Failed to find node with node-name='no'"
    for iothread in ("nobody", "limits"):
        assert qmp.error("x-blockdev-set-iothread", node_name="disk", iothread=iothread).desc == \
            f"Cannot find iothread {iothread}"
