"""The drivers http and https: nodes whose bytes a web server has. The server is in this file, and does what a test wants:
sends parts, refuses to, sends the wrong ones, is slow until it is told to go on."""

import base64
import http.server
import json
import ssl
import threading
import time

import nbd
import pytest

import nbd_client
from images import KIB, MIB, create, qemu_io, rng_of, run


SIZE = 4 * MIB
READAHEAD = 256 * KIB


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files, by the rules that the server's attributes are."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.requests.append((self.path, self.headers))
        self.server.may_answer.wait()
        if not self.is_welcome() or self.is_elsewhere():
            return
        body = self.server.files.get(self.path)
        if body is None:
            self.answer(404, b"nothing here")
            return
        span = self.headers.get("Range")
        if span is None or not self.server.ranges:
            self.answer(200, body)
            return
        first, last = map(int, span.removeprefix("bytes=").split("-"))
        if first >= len(body):
            self.answer(416, b"no such bytes", {"Content-Range": f"bytes */{len(body)}"})
            return
        self.answer_range(first, min(last, len(body) - 1), body)

    def is_welcome(self):
        if self.server.password is None or self.headers.get("Authorization") == self.server.password:
            return True
        self.answer(401, b"who are you?", {"WWW-Authenticate": "Basic realm=x"})
        return False

    def is_elsewhere(self):
        target = self.server.redirects.get(self.path)
        if target:
            self.answer(302, b"elsewhere", {"Location": target})
        return bool(target)

    def answer_range(self, first, last, body):
        data, told = body[first:last + 1], f"bytes {first}-{last}/{len(body)}"
        if self.server.spoil:
            data, told = self.server.spoil(data, told)
        self.answer(206, data, {"Content-Range": told} if told else {})

    def answer(self, status, data, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data[:self.server.early])
            self.wfile.flush()
            if len(data) > self.server.early:
                self.server.may_go_on.wait()
            self.wfile.write(data[self.server.early:])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class WebServer(http.server.ThreadingHTTPServer):
    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if context else "http"
        self.lock = threading.Lock()
        self.files = {}
        self.redirects = {}
        self.requests = []
        self.ranges = True
        self.password = None
        self.spoil = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.early = 0  # bytes of an answer that come before may_go_on
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def handle_error(self, request, client_address):
        pass  # a client that refuses the certificate

    def url(self, path="/disk", user=""):
        return f"{self.scheme}://{user}127.0.0.1:{self.server_port}{path}"

    def stop(self):
        self.may_answer.set()
        self.may_go_on.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


@pytest.fixture
def serve():
    servers = []

    def start(context=None):
        servers.append(WebServer(context))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def web(serve):
    """A server with random bytes as /disk, of a length that is no multiple of anything."""
    server = serve()
    server.files["/disk"] = rng_of("web").randbytes(SIZE + 123)
    return server


def options(server, path="/disk", **more):
    return {"driver": server.scheme, "node-name": "remote", "url": server.url(path), "read-only": True, **more}


def add(qmp, server, path="/disk", **more):
    qmp.execute("blockdev-add", options(server, path, **more))


def export(qmp, daemon, node="remote"):
    socket = nbd_client.start_server(qmp, daemon.directory)
    nbd_client.export(qmp, node)
    return socket


def read_fails(disk, length=4 * KIB, offset=0):
    with pytest.raises(nbd.Error):
        disk.pread(length, offset)


def finish(disk, cookies):
    while cookies := [cookie for cookie in cookies if not disk.aio_command_completed(cookie)]:
        disk.poll(-1)


# Reading -----------------------------------------------------------------------------------------------------------


def test_the_node_has_the_bytes_of_the_server(web, qmp, daemon, tmp_path):
    add(qmp, web)
    socket = export(qmp, daemon)
    disk = nbd_client.connect(socket, "remote")
    assert nbd_client.read_all(disk) == web.files["/disk"]
    (tmp_path / "same.raw").write_bytes(web.files["/disk"])
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", nbd_client.uri(socket, "remote"), tmp_path / "same.raw")


@pytest.mark.parametrize("readahead", [0, 512, READAHEAD])
def test_reads_at_random_by_many_clients(web, qmp, daemon, readahead):
    add(qmp, web, readahead=readahead)
    socket = export(qmp, daemon)
    body = web.files["/disk"]
    wrong = []

    def reader(number):
        rng = rng_of(f"{readahead} {number}")
        disk = nbd_client.connect(socket, "remote")
        for _ in range(25):
            length = rng.choice([1, 512, 4 * KIB, 100 * KIB, 2 * MIB])
            offset = rng.randrange(0, len(body) - length)
            if disk.pread(length, offset) != body[offset:offset + length]:
                wrong.append((offset, length))

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_comes_next_is_there_already(web, qmp, daemon):
    add(qmp, web)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    web.requests.clear()
    for offset in range(0, READAHEAD, 4 * KIB):
        disk.pread(4 * KIB, offset)
    assert [headers["Range"] for _, headers in web.requests] == [f"bytes=0-{READAHEAD + 4 * KIB - 1}"]


def test_who_reads_what_is_on_its_way_waits_for_it(web, qmp, daemon):
    add(qmp, web)
    socket = export(qmp, daemon)
    disk = nbd_client.connect(socket, "remote")
    web.requests.clear()
    web.may_answer.clear()
    buffers = [nbd.Buffer(4 * KIB) for _ in range(8)]
    waiting = [disk.aio_pread(buffer, index * 4 * KIB) for index, buffer in enumerate(buffers)]
    web.may_answer.set()
    finish(disk, waiting)
    body = web.files["/disk"]
    assert [bytes(buffer.to_bytearray()) for buffer in buffers] == [body[i * 4 * KIB:(i + 1) * 4 * KIB] for i in range(8)]
    assert len(web.requests) == 1


def test_a_read_does_not_wait_for_what_only_comes_along(web, qmp, daemon):
    add(qmp, web, timeout=1000)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    web.early = 64 * KIB
    web.may_go_on.clear()
    body = web.files["/disk"]
    assert disk.pread(4 * KIB, 0) == body[:4 * KIB]
    assert disk.pread(60 * KIB, 4 * KIB) == body[4 * KIB:64 * KIB]
    buffer = nbd.Buffer(4 * KIB)
    cookie = disk.aio_pread(buffer, 62 * KIB)
    disk.poll(100)
    assert not disk.aio_command_completed(cookie)
    web.may_go_on.set()
    finish(disk, [cookie])
    assert buffer.to_bytearray() == body[62 * KIB:66 * KIB]


def test_closing_does_not_wait_for_what_only_comes_along(web, qmp, daemon):
    add(qmp, web, timeout=1000)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    web.early = 64 * KIB
    web.may_go_on.clear()
    disk.pread(4 * KIB, 0)
    disk.shutdown()
    qmp.execute("block-export-del", id="export-remote", mode="hard")
    begin = time.monotonic()
    qmp.execute("blockdev-del", node_name="remote")
    assert time.monotonic() - begin < 8


def test_an_image_on_a_web_server_is_a_backing_file(web, qmp, daemon, tmp_path):
    base = create(tmp_path / "base.qcow2", 2 * MIB)
    qemu_io(base, "write -P 7 0 1M")
    web.files["/base"] = base.read_bytes()
    overlay = create(tmp_path / "overlay.qcow2", 2 * MIB)
    qmp.execute("blockdev-add", {
        "driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": str(overlay)},
        "backing": {"driver": "qcow2", "file": {"driver": "http", "url": web.url("/base")}}})
    socket = export(qmp, daemon, "disk")
    disk = nbd_client.connect(socket, "disk")
    assert disk.pread(1 * MIB, 0) == b"\7" * MIB
    assert disk.pread(1 * MIB, MIB) == bytes(MIB)


def test_all_of_it_is_data(web, qmp, daemon):
    add(qmp, web)
    extents = qmp.execute("query-block-status", node_name="remote", want=["allocation", "zero", "map"])["extents"]
    assert [(extent["data"], extent["zero"]) for extent in extents] == [(True, False)]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_empty_file_is_an_empty_disk(web, qmp, ranges):
    web.files["/empty"] = b""
    web.ranges = ranges
    add(qmp, web, "/empty")
    assert qmp.execute("query-named-block-nodes")[0]["image"]["virtual-size"] == 0


def test_it_can_only_be_read(web, qmp):
    error = qmp.error("blockdev-add", options(web, **{"read-only": False}))
    assert "it can only be read" in error.desc
    add(qmp, web, **{"read-only": False, "auto-read-only": True})
    assert qmp.execute("query-named-block-nodes")[0]["ro"]


def test_a_reopened_node_stays_what_it_is(web, qmp):
    add(qmp, web)
    qmp.execute("blockdev-reopen", options=[options(web)])
    assert "it can only be read" in qmp.error("blockdev-reopen", options=[options(web, **{"read-only": False})]).desc
    assert "'url'" in qmp.error("blockdev-reopen", options=[options(web, "/other")]).desc


# Servers that do it badly ------------------------------------------------------------------------------------------


def test_a_server_without_ranges_is_refused(web, qmp):
    web.ranges = False
    assert "it does not serve ranges" in qmp.error("blockdev-add", options(web)).desc


def test_what_is_not_there(web, qmp):
    assert "the server answers with status 404" in qmp.error("blockdev-add", options(web, "/nothing")).desc


def test_nobody_listens(web, qmp):
    web.stop()
    error = qmp.error("blockdev-add", options(web)).desc
    assert f"cannot read '{web.url()}': " in error and "connect" in error


SPOILED = {
    "short": (lambda data, told: (data[:-1], told), "bytes in place of"),
    "long": (lambda data, told: (data + b"x", told), "the server sends more than it was asked for"),
    "much": (lambda data, told: (data + bytes(8 * MIB), told), "the server sends more than it was asked for"),
    "grown": (lambda data, told: (data, told.split("/")[0] + "/9999999"), "the length has changed from"),
    "elsewhere": (lambda data, told: (data, told.replace("bytes 0-", "bytes 1-")), "another range"),
    "unsaid": (lambda data, told: (data, None), "does not say which range it sends"),
    "garbage": (lambda data, told: (data, "bytes of mine"), "malformed Content-Range"),
    "empty": (lambda data, told: (b"", told), "sends 0 bytes in place of"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_wrong_reply_is_an_error_of_its_request(web, qmp, daemon, kind):
    add(qmp, web)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    web.spoil, message = SPOILED[kind]
    read_fails(disk)
    daemon.wait_for_log(message)
    web.spoil = None
    assert disk.pread(4 * KIB, 0) == web.files["/disk"][:4 * KIB]


def test_a_server_that_hangs_costs_its_own_requests(web, qmp, daemon):
    add(qmp, web, timeout=1)
    socket = export(qmp, daemon)
    qmp.execute("blockdev-add", driver="null-co", node_name="other", size=MIB, read_zeroes=True)
    nbd_client.export(qmp, "other")
    disk, other = nbd_client.connect(socket, "remote"), nbd_client.connect(socket, "other")
    web.may_answer.clear()
    cookie = disk.aio_pread(nbd.Buffer(4 * KIB), 0)
    assert other.pread(MIB, 0) == bytes(MIB)
    assert qmp.execute("query-version")
    with pytest.raises(nbd.Error):
        finish(disk, [cookie])
    daemon.wait_for_log("imed out")
    web.may_answer.set()
    assert disk.pread(4 * KIB, 0) == web.files["/disk"][:4 * KIB]


def test_a_server_that_hangs_ends_the_command(web, qmp):
    web.may_answer.clear()
    assert "imed out" in qmp.error("blockdev-add", options(web, timeout=1)).desc


# Proxies ---------------------------------------------------------------------------------------------------------------


class Proxy(http.server.BaseHTTPRequestHandler):
    """Takes requests for whole addresses and answers them itself, with what the server has."""

    protocol_version = "HTTP/1.1"
    log_message = Handler.log_message
    answer = Handler.answer

    def do_GET(self):
        with self.server.lock:
            self.server.requests.append((self.path, self.headers))
        if self.server.password and self.headers.get("Proxy-Authorization") != self.server.password:
            self.answer(407, b"who are you?", {"Proxy-Authenticate": "Basic realm=x"})
            return
        body = self.server.files["/disk"]
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        last = min(last, len(body) - 1)
        self.answer(206, body[first:last + 1], {"Content-Range": f"bytes {first}-{last}/{len(body)}"})


@pytest.fixture
def proxy(serve):
    server = serve()
    server.RequestHandlerClass = Proxy
    server.files["/disk"] = rng_of("proxy").randbytes(SIZE)
    return server


@pytest.mark.parametrize("who", [None, "me:open sesame"])
def test_the_proxy_of_the_environment_is_used(proxy, start_daemon, who):
    proxy.password = who and basic(who)
    daemon = start_daemon("--object", "secret,id=s0,data=open sesame",
                          env={"http_proxy": f"http://127.0.0.1:{proxy.server_port}", "no_proxy": ""})
    qmp = daemon.connect()
    remote = {"driver": "http", "node-name": "remote", "url": "http://far.invalid/disk", "read-only": True}
    if who:
        assert "status 407" in qmp.error("blockdev-add", remote).desc
        remote |= {"proxy-username": "me", "proxy-password-secret": "s0"}
    qmp.execute("blockdev-add", remote)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    assert nbd_client.read_all(disk) == proxy.files["/disk"]
    assert {path for path, _ in proxy.requests} == {"http://far.invalid/disk"}
    assert not any("Authorization" in headers for _, headers in proxy.requests)
    assert "sesame" not in daemon.log


def test_an_address_may_need_no_proxy(web, proxy, start_daemon):
    daemon = start_daemon(env={"http_proxy": f"http://127.0.0.1:{proxy.server_port}", "no_proxy": "127.0.0.1"})
    qmp = daemon.connect()
    add(qmp, web)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    assert disk.pread(4 * KIB, 0) == web.files["/disk"][:4 * KIB]
    assert not proxy.requests


# Redirects, passwords, cookies -------------------------------------------------------------------------------------


def test_redirects_are_followed(web, serve, qmp, daemon):
    front = serve()
    front.redirects["/here"] = web.url()
    add(qmp, front, "/here")
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    assert disk.pread(64 * KIB, MIB) == web.files["/disk"][MIB:MIB + 64 * KIB]


def test_redirects_lead_to_web_servers_only(web, qmp, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * KIB))
    web.redirects["/file"] = f"file://{tmp_path}/secret"
    web.redirects["/loop"] = "/loop"
    assert "not supported or disabled" in qmp.error("blockdev-add", options(web, "/file")).desc
    assert "redirects" in qmp.error("blockdev-add", options(web, "/loop")).desc


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_password_comes_from_a_secret(web, qmp, daemon):
    web.password = basic("me:open sesame")
    qmp.execute("object-add", qom_type="secret", id="s0", data="open sesame")
    qmp.execute("object-add", qom_type="secret", id="s1", data="wrong")
    assert "status 401" in qmp.error("blockdev-add", options(web)).desc
    assert "status 401" in qmp.error("blockdev-add", options(web, username="me", **{"password-secret": "s1"})).desc
    assert "s2" in qmp.error("blockdev-add", options(web, username="me", **{"password-secret": "s2"})).desc
    add(qmp, web, username="me", **{"password-secret": "s0"})
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    assert disk.pread(4 * KIB, 0) == web.files["/disk"][:4 * KIB]
    assert "sesame" not in daemon.log


def test_a_password_in_the_address_is_shown_nowhere(web, qmp, daemon):
    web.password = basic("me:sesame")
    add(qmp, web, url=web.url(user="me:sesame@"))
    node = qmp.execute("query-named-block-nodes")
    assert node[0]["file"] == web.url()
    assert "sesame" not in json.dumps(node)
    error = qmp.error("blockdev-add", options(web, url=web.url("/nothing", user="me:sesame@"), **{"node-name": "x"}))
    assert "status 404" in error.desc and "sesame" not in error.desc
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    web.files.clear()
    read_fails(disk)
    daemon.wait_for_log("status 404")
    assert "sesame" not in daemon.log


@pytest.mark.parametrize("where", ["cookie", "cookie-secret"])
def test_cookies_do_not_follow_to_another_server(web, serve, qmp, where):
    front = serve()
    front.redirects["/here"] = web.url()
    qmp.execute("object-add", qom_type="secret", id="s0", data="a=b; c=d")
    qmp.execute("object-add", qom_type="secret", id="p0", data="word")
    add(qmp, front, "/here", username="me", **{"password-secret": "p0", where: "s0" if where == "cookie-secret" else "a=b; c=d"})
    assert front.requests[0][1]["Cookie"] == "a=b; c=d" and front.requests[0][1]["Authorization"] == basic("me:word")
    assert web.requests[0][1]["Cookie"] is None and web.requests[0][1]["Authorization"] is None


@pytest.mark.parametrize("more, message", [
    ({"readahead": 1000}, "readahead: 1000 is not a multiple of 512"),
    ({"cookie": "a=b", "cookie-secret": "s0"}, "only one of them can be given"),
    ({"cookie": "a=b\r\nHost: x"}, "cookie: contains control characters"),
    ({"url": "ftp://127.0.0.1/x"}, "url: does not begin with 'http://'"),
    ({"url": "https://127.0.0.1/x"}, "url: does not begin with 'http://'"),
    ({"password-secret": "s0"}, "password-secret: secret 's0' contains a zero byte"),
    ({"timeout": 10001}, "timeout"),
])
def test_options_that_cannot_be(web, qmp, more, message):
    qmp.execute("object-add", qom_type="secret", id="s0", data="YQBi", format="base64")
    assert message in qmp.error("blockdev-add", options(web, **more)).desc
    assert not web.requests


# TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(serve, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = serve(context)
    server.files["/disk"] = rng_of("secure").randbytes(SIZE)
    return server


def test_a_certificate_that_nobody_signed(secure, qmp, daemon):
    assert "certificate" in qmp.error("blockdev-add", options(secure)).desc
    assert not secure.requests
    add(qmp, secure, sslverify=False)
    disk = nbd_client.connect(export(qmp, daemon), "remote")
    assert nbd_client.read_all(disk) == secure.files["/disk"]


# Addresses in images -----------------------------------------------------------------------------------------------


def overlay_of(url, tmp_path):
    overlay = create(tmp_path / "overlay.qcow2", MIB)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", url, "-F", "raw", overlay)
    return {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": str(overlay)}}


def test_an_image_names_an_address_only_where_that_is_allowed(web, qmp, start_daemon, tmp_path):
    overlay = overlay_of(web.url(user="me:sesame@"), tmp_path)
    error = qmp.error("blockdev-add", overlay)
    assert "the image policy does not allow it" in error.desc and "sesame" not in error.desc
    assert not web.requests
    generous = start_daemon("--image-policy", "schemes.0=http")
    generous_qmp = generous.connect()
    generous_qmp.execute("blockdev-add", overlay)
    disk = nbd_client.connect(export(generous_qmp, generous, "disk"), "disk")
    assert disk.pread(4 * KIB, 0) == web.files["/disk"][:4 * KIB]


@pytest.mark.parametrize("name", ["http://me:sesame@{place}/nothing",
                                  'json:{{"driver": "http", "url": "http://me:sesame@{place}/nothing"}}',
                                  'json:{{"driver": "http", "url": "http://me:sesame@{place}/disk", "readahead": 1}}',
                                  'json:{{"driver": "http", "url": "http://me:sesame@{place}/disk", "ahead": "x"}}'])
def test_no_error_about_an_image_shows_its_password(web, start_daemon, tmp_path, name):
    overlay = overlay_of(name.format(place=f"127.0.0.1:{web.server_port}"), tmp_path)
    daemon = start_daemon("--image-policy", "schemes.0=http,json=on")
    assert "sesame" not in daemon.connect().error("blockdev-add", overlay).desc
    assert "sesame" not in daemon.log
