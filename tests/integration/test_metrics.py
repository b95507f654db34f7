"""Metrics over HTTP: what they say, in which form, and that nobody who asks can hold up anybody else."""

import contextlib
import os
import pathlib
import select
import socket
import stat
import threading

import nbd
import pytest
from images import MIB
from nbd_client import connect, export, start_server
from process import run_cairnd
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from qmp import DEADLINE

CONNECTIONS_MAX = 16


@pytest.fixture
def serve(start_daemon, tmp_path):
    """Starts a daemon that serves metrics on a Unix socket."""

    def start(*args, timeout=10, **options):
        return start_daemon("--metrics", f"addr.type=unix,addr.path={tmp_path}/metrics.sock,timeout={timeout}", *args,
                            **options)

    return start


@pytest.fixture
def daemon(serve):
    return serve()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.sock"


def dial(address):
    client = socket.socket(socket.AF_UNIX if isinstance(address, pathlib.Path) else socket.AF_INET)
    client.settimeout(DEADLINE)
    client.connect(str(address) if isinstance(address, pathlib.Path) else address)
    return client


def read_to_end(client):
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 20):
            data += part
    return data


def ask(address, request=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
    """Status, headers and body of the answer."""
    with dial(address) as client:
        client.sendall(request)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


class Metrics:
    def __init__(self, address):
        status, headers, body = ask(address)
        assert status == 200
        assert headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert int(headers["content-length"]) == len(body) and body.endswith(b"# EOF\n")
        self.families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        self.values = {}
        for family in self.families.values():
            assert family.documentation and family.name.startswith("cairn_")
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.values
                self.values[key] = sample.value

    def __call__(self, name, **labels):
        return self.values[name, frozenset(labels.items())]


# What they say --------------------------------------------------------------------------------------------------------


def test_nodes_exports_and_their_clients(daemon, path, tmp_path):
    qmp = daemon.connect()
    (tmp_path / "disk").write_bytes(b"x" * MIB)
    qmp.execute("blockdev-add", {"driver": "raw", "node-name": "disk", "discard": "unmap", "file": {
        "driver": "file", "node-name": "file", "filename": str(tmp_path / "disk")}})
    client = connect(start_nbd(qmp, tmp_path), "disk")
    for i in range(3):
        client.pread(4096, 4096 * i)
    client.pwrite(b"y" * 512, 0)
    client.flush()
    client.trim(65536, 65536)
    metrics = Metrics(path)
    for labels in ({"node": "disk", "driver": "raw"}, {"export": "export-disk", "node": "disk"}):
        kind = "export" if "export" in labels else "node"
        assert metrics(f"cairn_{kind}_read_bytes_total", **labels) == 3 * 4096
        assert metrics(f"cairn_{kind}_read_operations_total", **labels) == 3
        assert metrics(f"cairn_{kind}_write_bytes_total", **labels) == 512
        assert metrics(f"cairn_{kind}_flush_operations_total", **labels) == 1
        assert metrics(f"cairn_{kind}_discard_bytes_total", **labels) == 65536
        assert metrics(f"cairn_{kind}_failed_operations_total", operation="read", **labels) == 0
        assert metrics(f"cairn_{kind}_in_flight", **labels) == 0
        assert metrics(f"cairn_{kind}_latency_seconds_count", operation="read", **labels) == 3
        assert metrics(f"cairn_{kind}_latency_seconds_bucket", operation="read", le="+Inf", **labels) == 3
        assert 0 < metrics(f"cairn_{kind}_latency_seconds_sum", operation="read", **labels) < 5
    assert metrics("cairn_node_read_bytes_total", node="file", driver="file") == 3 * 4096
    assert metrics("cairn_export_clients", export="export-disk", node="disk") == 1
    assert not any(name.startswith("cairn_node_latency") and ("node", "file") in labels for name, labels in metrics.values)
    clients = {name: value for (name, labels), value in metrics.values.items() if dict(labels).get("connection") == "1"}
    assert clients["cairn_connection_read_bytes_total"] == 3 * 4096
    assert clients["cairn_connection_requests_total"] == 6
    assert clients["cairn_connection_write_bytes_total"] == 512


def start_nbd(qmp, tmp_path):
    socket_path = start_server(qmp, tmp_path)
    export(qmp, "disk", writable=True)
    return socket_path


def test_buckets_hold_what_ended_within_their_time(daemon, path, tmp_path):
    qmp = daemon.connect()
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=MIB)
    client = connect(start_nbd(qmp, tmp_path), "disk")
    for _ in range(50):
        client.pwrite(b"z" * 512, 0)
    answer = qmp.execute("query-statistics")
    latency = answer["nodes"][0]["io"]["write"]["latency"]
    metrics = Metrics(path)
    buckets = {float(sample.labels["le"]): sample.value for sample in metrics.families["cairn_node_latency_seconds"].samples
               if sample.name.endswith("_bucket") and sample.labels["operation"] == "write"}
    assert len(buckets) == 26 and buckets[float("inf")] == 50
    bounds = answer["latency-bounds-ns"]
    for end, value in buckets.items():
        assert value == sum(count for bin, count in enumerate(latency) if bounds[bin + 1] <= end * 1e9 * 1.000001), end


def test_jobs_commands_and_the_process(daemon, path):
    qmp = daemon.connect()
    for name in ("a", "b"):
        qmp.execute("blockdev-add", driver="null-co", node_name=name, size=MIB)
    qmp.error("blockdev-add", driver="null-co", node_name="a")
    qmp.execute("blockdev-backup", job_id="copy", device="a", target="b", sync="full", auto_dismiss=False)
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["status"] == "concluded")
    metrics = Metrics(path)
    assert metrics("cairn_job_work_done", job="copy", type="backup") == MIB
    assert metrics("cairn_job_status", job="copy", type="backup", cairn_job_status="concluded") == 1
    assert metrics("cairn_job_status", job="copy", type="backup", cairn_job_status="running") == 0
    assert metrics("cairn_command_failed_total", command="blockdev-add") == 1
    assert metrics("cairn_command_latency_seconds_count", command="blockdev-add") == 3
    assert metrics("cairn_qmp_clients") == 1
    assert 1 << 20 < metrics("cairn_resident_memory_bytes") < 1 << 33
    assert metrics("cairn_cpu_seconds_total") >= metrics("cairn_loop_cpu_seconds_total", loop="control") > 0
    version = run_cairnd("--version").stdout.split()[1]
    assert metrics("cairn_build_info", version=version) == 1


def test_counters_never_fall(daemon, path, tmp_path):
    qmp = daemon.connect()
    qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=MIB)
    client = connect(start_nbd(qmp, tmp_path), "disk")
    before = Metrics(path)
    for _ in range(5):
        client.pread(512, 0)
        now = Metrics(path)
        for (name, labels), value in before.values.items():
            if name.endswith(("_total", "_count", "_bucket", "_sum")):
                assert now.values[name, labels] >= value, (name, labels)
        before = now


def test_dead_storage_delays_no_answer(daemon, path, tmp_path):
    qmp = daemon.connect()
    qmp.execute("blockdev-add", {"driver": "gate", "node-name": "disk", "file": {"driver": "null-co", "size": MIB}})
    client = connect(start_nbd(qmp, tmp_path), "disk")
    qmp.execute("x-gate-hold", node_name="disk")
    client.aio_pread(nbd.Buffer(512), 0)
    qmp.start("block-export-del", {"id": "export-disk", "mode": "hard"})
    while Metrics(path)("cairn_node_in_flight", node="disk", driver="gate") != 1:
        pass


# Who asks -------------------------------------------------------------------------------------------------------------


def test_only_metrics_are_there(daemon, path):
    assert ask(path, b"GET /metrics?x=y HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
    assert ask(path, b"GET /metrics HTTP/1.0\r\n\r\n")[0] == 200
    for other in (b"/", b"/metrics/", b"/../metrics", b"/%6detrics/x"):
        status, _, body = ask(path, b"GET " + other + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 404 and b"/metrics" in body
    status, headers, body = ask(path, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200 and int(headers["content-length"]) > 1000 and body == b""
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"BREW"):
        status, headers, _ = ask(path, method + b" /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert (status, headers["allow"]) == (405, "get, head")


@pytest.mark.parametrize("request_bytes", [b"\0" * 4096, b"hello\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                                           b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"],
                         ids=["zeroes", "words", "long path", "many headers"])
def test_what_is_no_request_harms_nobody(serve, path, request_bytes):
    serve(timeout=1)
    with dial(path) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(request_bytes)
            client.shutdown(socket.SHUT_WR)
        answer = read_to_end(client)
    assert answer == b"" or answer.split()[1].startswith(b"4")
    Metrics(path)


def test_a_socket_for_its_owner_alone(daemon, path):
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    daemon.stop()
    assert not path.exists()


def test_clients_that_say_nothing_keep_nobody_out_for_long(serve, path):
    serve(timeout=1)
    silent = [dial(path) for _ in range(CONNECTIONS_MAX - 1)]
    Metrics(path)
    silent += [dial(path) for _ in range(CONNECTIONS_MAX)]
    Metrics(path)  # in its turn, when those before it were cut off
    for client in silent:
        assert b"200 OK" not in read_to_end(client)
        client.close()


def test_a_client_that_says_a_byte_now_and_then_is_cut_off(serve, path):
    serve(timeout=1)
    with dial(path) as client:
        ended = False
        for byte in b"GET /metrics HTTP/1.1\r\nX-Long: " + b"a" * 1000:
            try:
                client.sendall(bytes([byte]))
            except (BrokenPipeError, ConnectionResetError):
                ended = True
            if ended or select.select([client], [], [], 0.05)[0]:
                break
        assert b"200 OK" not in read_to_end(client)
    Metrics(path)


def test_a_client_that_does_not_read_is_cut_off(serve, path):
    qmp = serve(timeout=1).connect()
    for number in range(5000):
        qmp.execute("blockdev-add", driver="null-co", node_name=f"node-with-a-name-that-is-rather-long-{number}", size=MIB)
    with dial(path) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        poll = select.poll()
        poll.register(client, select.POLLRDHUP)
        assert poll.poll(DEADLINE * 1000)
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    length = int(next(line.split()[1] for line in head.split(b"\r\n") if line.startswith(b"Content-Length")))
    assert len(body) < length
    assert len(Metrics(path).families["cairn_node_in_flight"].samples) == 5000


def test_the_end_waits_for_no_client(daemon, path):
    silent = dial(path)
    half = dial(path)
    half.sendall(b"GET /met")
    daemon.stop()
    assert read_to_end(silent) == read_to_end(half) == b""


def test_many_ask_while_the_graph_changes(daemon, path, tmp_path):
    qmp = daemon.connect()
    socket_path = start_server(qmp, tmp_path)
    stop, failures = threading.Event(), []

    def ask_again():
        try:
            while not stop.is_set():
                Metrics(path)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        qmp.execute("blockdev-add", driver="null-co", node_name="disk", size=MIB)
        export(qmp, "disk")
        connect(socket_path, "disk").pread(512, 0)
        qmp.execute("block-export-del", {"id": "export-disk", "mode": "hard"})
        qmp.wait_event("BLOCK_EXPORT_DELETED")
        qmp.execute("blockdev-del", node_name="disk")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


# Where ----------------------------------------------------------------------------------------------------------------


def maps_of(daemon):
    return pathlib.Path(f"/proc/{daemon.pid}/maps").read_text()


def test_nobody_pays_for_what_is_off(start_daemon, serve):
    plain = start_daemon()
    assert "microhttpd" not in maps_of(plain)
    assert "microhttpd" in maps_of(serve())
    threads = [len(os.listdir(f"/proc/{plain.pid}/task")) for _ in range(2)]
    assert threads[0] == threads[1]


def test_on_tcp(start_daemon):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        start_daemon("--metrics", f"addr.type=fd,addr.str={listener.fileno()}", pass_fds=[listener.fileno()])
        assert Metrics(address)("cairn_qmp_clients") == 0


def test_from_a_configuration_file(start_daemon, tmp_path, path):
    config = tmp_path / "cairn.yaml"
    config.write_text(f"metrics:\n  addr: {{ type: unix, path: {path} }}\n  timeout: 3\n")
    start_daemon("--config", config)
    Metrics(path)
    twice = run_cairnd("--config", config, "--metrics", f"addr.type=unix,addr.path={path}")
    assert twice.returncode == 1 and "given twice" in twice.stderr
    config.write_text(f"metrics:\n  addr: {{ type: unix, path: {path} }}\n  timeout: 0\n")
    assert f"{config}:3:12: metrics.timeout" in run_cairnd("--check", "--config", config).stderr


def test_an_address_that_cannot_be_had(tmp_path):
    result = run_cairnd("--metrics", f"addr.type=unix,addr.path={tmp_path}/none/metrics.sock")
    assert result.returncode == 1 and "metrics: cannot bind a socket" in result.stderr
