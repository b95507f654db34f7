"""The wire: greeting, negotiation, ids, errors in the envelope, framing. What is sent here is bytes."""

import json
import time

import pytest
from qmp import QMP, Closed

NEGOTIATE = b'{"execute":"qmp_capabilities"}'
VERSION = {"qemu": {"major": 10, "minor": 0, "micro": 0}}


@pytest.fixture
def raw(daemon):
    return daemon.connect(negotiate=False)


def ask(client, data):
    client.send_bytes(data)
    return client.receive()


def error_of(client, data):
    reply = ask(client, data)
    assert "error" in reply, reply
    return reply["error"]


def test_greeting_has_version_and_capabilities(raw):
    assert raw.greeting["version"]["qemu"] == VERSION["qemu"]
    assert raw.greeting["version"]["package"].startswith("cairn ")
    assert raw.greeting["capabilities"] == ["oob"]


def test_messages_end_in_cr_lf_and_stand_on_one_line(raw):
    raw.send_bytes(NEGOTIATE)
    assert raw.receive_line() == b'{"return": {}}'


def test_before_negotiation_there_is_one_command(raw):
    error = error_of(raw, b'{"execute":"query-version","id":1}')
    assert error == {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}
    assert error_of(raw, b'{"execute":"no-such-command"}')["class"] == "CommandNotFound"
    assert ask(raw, NEGOTIATE) == {"return": {}}
    assert "qemu" in ask(raw, b'{"execute":"query-version"}')["return"]


def test_negotiation_happens_once(qmp):
    assert error_of(qmp, NEGOTIATE)["class"] == "CommandNotFound"
    assert qmp.execute("query-version")["qemu"] == VERSION["qemu"]


def test_a_capability_that_was_not_offered_is_refused(raw):
    error = error_of(raw, b'{"execute":"qmp_capabilities","arguments":{"enable":["telepathy"]}}')
    assert error["class"] == "GenericError" and "telepathy" in error["desc"]
    assert ask(raw, NEGOTIATE) == {"return": {}}


@pytest.mark.parametrize("id_text", [
    "1", "-7", "9223372036854775807", "18446744073709551615", "123456789012345678901234567890", "1.5", "1e100", "0.1",
    '"text"', '"\\u00E9\\uD83D\\uDE00\\""', "null", "true", "[]", "{}", '[1, {"a": [null]}]',
])
def test_an_id_of_any_type_comes_back(qmp, id_text):
    qmp.send_bytes(b'{"execute":"query-version","id":%s}' % id_text.encode())
    line = qmp.receive_line()
    assert line.endswith(b'"id": %s}' % id_text.encode()), line
    qmp.send_bytes(b'{"id":%s,"execute":"no-such-command"}' % id_text.encode())
    assert qmp.receive_line().endswith(b'"id": %s}' % id_text.encode())


def test_no_id_no_id(qmp):
    assert list(ask(qmp, b'{"execute":"query-version"}')) == ["return"]


@pytest.mark.parametrize("message, error_class, text", [
    (b'{"id":1}', "GenericError", "QMP input lacks member 'execute'"),
    (b'{"execute":1,"id":1}', "GenericError", "QMP input member 'execute' must be a string"),
    (b'{"execute":"query-version","foo":1,"id":1}', "GenericError", "QMP input member 'foo' is unexpected"),
    (b'{"execute":"query-version","arguments":[],"id":1}', "GenericError",
     "QMP input member 'arguments' must be an object"),
    (b'{"execute":"query-version","arguments":null,"id":1}', "GenericError",
     "QMP input member 'arguments' must be an object"),
    (b'{"exec-oob":"query-version","id":1}', "GenericError", "QMP input member 'exec-oob' is unexpected"),
    (b'{"execute":"no-such-command","id":1}', "CommandNotFound", "The command no-such-command has not been found"),
])
def test_errors_in_the_envelope(qmp, message, error_class, text):
    reply = ask(qmp, message)
    assert reply == {"error": {"class": error_class, "desc": text}, "id": 1}


def test_arguments_that_a_command_does_not_have(qmp):
    error = qmp.error("query-version", detail=True)
    assert error.error_class == "GenericError" and "detail" in error.desc


@pytest.mark.parametrize("message", [
    b'[]', b'42 ', b'"text"', b'true ', b'{"execute": }', b'{"execute":"query-version" "id":1}',
    b'{"execute":"query-version",}', b'{1:2}', b'{"id":1,"id":2}', b'{"id":nul}', b'{"id":01}', b'{"id":NaN}',
    b'{"id":1e999}', b'{"id":"\\x"}', b'{"id":"\\ud800"}', b'{"id":"\\u0000"}', b'{"id":"\xc3("}', b'{"id":"\xff"}',
    b'{"id":"a\0b"}', b'{"id":"a\nb"}', b"\x01", b"%",
    pytest.param(b'{"id":' + b"[" * 2000 + b"]" * 2000 + b"}", id="2000 levels"),
    pytest.param(b'{"id":' + b"7" * 1000 + b"}", id="1000 digits"),
])
def test_garbage_is_one_error_and_the_next_command_works(qmp, message):
    qmp.send_bytes(message + b'\n{"execute":"query-version","id":"next"}')
    first = qmp.receive()
    assert first["error"]["class"] == "GenericError" and "id" not in first
    assert qmp.receive()["id"] == "next"
    qmp.expect_silence(0.02)


def test_a_page_of_http_is_one_error(qmp):
    qmp.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
    assert "error" in qmp.receive()
    qmp.expect_silence(0.05)
    assert qmp.execute("query-version")


def test_random_bytes_are_few_errors_and_no_end(qmp):
    import random
    qmp.send_bytes(random.Random(7).randbytes(1 << 20))
    qmp.send_bytes(b'\xff{"execute":"query-version","id":"alive"}')
    errors = 0
    while True:
        message = qmp.receive()
        if message.get("id") == "alive":
            break
        errors += 1
    assert errors <= 3


def test_half_a_message_is_given_up_with_a_control_character(qmp):
    qmp.send_bytes(b'{"execute":"quit')
    qmp.send_bytes(b"\xff")
    assert "error" in qmp.receive()
    assert qmp.execute("query-version")


def test_single_quotes(qmp):
    qmp.send_bytes(b"{'execute':'query-version','id':'it\\'s \"so\"'}")
    assert qmp.receive()["id"] == "it's \"so\""


def test_messages_need_no_newline_and_may_come_byte_by_byte(qmp):
    for byte in b'{"execute":"query-version","id":1}{"execute":"query-version","id":2}':
        qmp.send_bytes(bytes([byte]))
    assert [qmp.receive()["id"], qmp.receive()["id"]] == [1, 2]


def test_many_commands_in_one_piece_are_answered_in_order(qmp):
    count = 5000
    qmp.send_bytes(b"".join(b'{"execute":"query-version","id":%d}' % i for i in range(count)))
    assert [qmp.receive()["id"] for _ in range(count)] == list(range(count))


def test_a_mebibyte_takes_milliseconds(daemon, qmp):
    qmp.execute("query-version")
    before = daemon.cpu_seconds()
    text = "x" * (1 << 20)
    message = json.dumps({"execute": "query-version", "id": text}).encode()
    begin = time.monotonic()
    for _ in range(5):
        qmp.send_bytes(message)
        assert qmp.receive()["id"] == text
    print(f"5 MiB in and out: {time.monotonic() - begin:.3f} s, {daemon.cpu_seconds() - before:.3f} s of CPU")
    assert daemon.cpu_seconds() - before < 2


def test_a_message_of_more_than_64_mib_is_refused(daemon, qmp):
    qmp.send_bytes(b'{"execute":"query-version","id":"')
    piece = b"x" * (1 << 20)
    for _ in range(65):
        qmp.send_bytes(piece)
    qmp.send_bytes(b'"}')
    assert "size limit" in qmp.receive()["error"]["desc"]
    assert qmp.execute("query-version")
    assert daemon.rss_bytes() < 512 << 20


def test_pretty_printing(start_daemon):
    daemon = start_daemon("--chardev", "socket,id=pretty,path=pretty.sock,server=on,wait=off",
                          "--monitor", "chardev=pretty,pretty=on")
    with QMP(daemon.path("pretty.sock"), negotiate=False) as client:
        client.send_bytes(NEGOTIATE)
        assert client.receive() == {"return": {}}
        client.send_bytes(b'{"execute":"query-version","id":{"a":1}}')
        line = client.receive_line()
        assert b'\n    "return": {\n        "qemu": {\n' in line
        assert json.loads(line)["id"] == {"a": 1}
        client.send_bytes(b'{"execute":"no-such-command"}')
        assert b'\n    "error": {\n        "class": "CommandNotFound",\n' in client.receive_line()


def test_any_number_of_clients_on_one_socket(daemon):
    clients = [daemon.connect() for _ in range(100)]
    for client in clients:
        client.start("query-version")
    for client in clients:
        assert client.receive()["return"]["qemu"] == VERSION["qemu"]


def test_a_client_that_shuts_its_sending_side_still_gets_its_replies(daemon):
    import socket
    client = daemon.connect()
    client.send_bytes(b"".join(b'{"execute":"query-version","id":%d}' % i for i in range(1000)))
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.receive()["id"] for _ in range(1000)] == list(range(1000))
    with pytest.raises(Closed):
        client.receive()


def test_quit_is_answered_and_ends_the_daemon(daemon, qmp):
    qmp.send_bytes(b'{"execute":"quit","id":1}{"execute":"query-version","id":2}')
    assert qmp.receive() == {"return": {}, "id": 1}
    with pytest.raises(Closed):
        qmp.receive()
    assert daemon.wait() == 0
