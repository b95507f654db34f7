"""The YAML file: what it makes, and what it is told about its mistakes, with line and column."""

import subprocess
import textwrap

import pytest
from process import run_cairnd
from qmp import DEADLINE, QMP

GOOD = """\
    # A disk image under an overlay, over NBD.
    io-threads: 2
    pidfile: cairnd.pid
    monitors:
    - path: qmp.sock
    - path: pretty.sock
      pretty: true
    nodes:
    - node-name: base
      driver: file
      filename: base.raw
      read-only: on
    - node-name: window
      driver: raw
      offset: 0x200
      size: 4096
      file: base
    - {driver: gate, node-name: held, file: {driver: null-co, node-name: inner, size: 1048576, read-zeroes: yes}}
    nbd-server:
      addr: {type: unix, path: nbd.sock}
      max-connections: 7
    exports:
    - {type: nbd, id: export0, node-name: window, name: "the window"}
"""


def write(tmp_path, text, name="cairn.yaml"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return path


def fails(tmp_path, text, *options):
    """cairnd must refuse the file, with --check and without; what it says behind "cairnd: FILE:"."""
    path = write(tmp_path, text)
    checked = run_cairnd("--config", "cairn.yaml", "--check", *options, cwd=tmp_path)
    assert checked.returncode == 1 and checked.stdout == "", checked
    started = run_cairnd("--config", "cairn.yaml", *options, cwd=tmp_path)
    assert started.returncode == 1 and started.stdout == "", started
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert len(checked.stderr.splitlines()) == 1
    assert checked.stderr.startswith("cairnd: cairn.yaml:"), checked.stderr
    return checked.stderr.removeprefix("cairnd: cairn.yaml:").rstrip()


def test_everything_it_describes_is_made(start_daemon, tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "base.raw").write_bytes(bytes(512) + b"x" * 4096)
    daemon = start_daemon("--config", "cairn.yaml", monitor=False)
    daemon.wait_for_socket(tmp_path / "pretty.sock")
    with QMP(tmp_path / "qmp.sock") as qmp:
        while not qmp.execute("query-block-exports"):
            pass  # monitors come first, exports last
        nodes = {node["node-name"]: node for node in qmp.execute("query-named-block-nodes", flat=True)}
        assert nodes["base"]["ro"] and nodes["window"]["image"]["virtual-size"] == 4096
        assert {"held", "inner"} <= set(nodes)
    content = subprocess.run(["nbdcopy", f"nbd+unix:///the%20window?socket={tmp_path}/nbd.sock", "-"],
                             capture_output=True, timeout=DEADLINE, check=True).stdout
    assert content == b"x" * 4096
    daemon.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.raw", "cairn.yaml", "cairnd.log"]


def test_check_says_nothing_and_touches_nothing(tmp_path):
    write(tmp_path, GOOD)  # base.raw does not exist
    result = run_cairnd("--check", "--config", "cairn.yaml", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["cairn.yaml"]


def test_what_check_cannot_know_is_told_at_the_start_with_its_place(tmp_path):
    write(tmp_path, GOOD)
    result = run_cairnd("--config", "cairn.yaml", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("cairnd: cairn.yaml:9:3: nodes.0: ")
    assert "base.raw" in result.stderr and "No such file or directory" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cairn.yaml"]


@pytest.mark.parametrize("text, message", [
    # What the schema does not allow: decoded by the same code as commands.
    ("nodes:\n- driver: fil\n  node-name: a\n",
     "2:11: nodes.0.driver: 'fil' is not a BlockdevDriver (did you mean 'file'?)"),
    ("nodes:\n- {driver: file, node-name: a, filname: x}\n", "2:32: nodes.0.filname: "),
    ("nodes:\n- driver: null-co\n  node-name: a\n  size: big\n", "4:9: nodes.0.size: 'big' is not an integer"),
    ("nodes:\n- driver: null-co\n  node-name: a\n  read-zeroes: maybe\n",
     "4:16: nodes.0.read-zeroes: 'maybe' is not 'on' or 'off'"),
    ("nodes:\n- driver: raw\n  node-name: a\n  file:\n    driver: file\n    filename: [x]\n",
     "6:15: nodes.0.file.filename: expected string, got array"),
    ("nbd-server:\n  addr:\n    type: inet\n    host: ''\n    port: 0\n    keep-alivee: on\n",
     "6:5: nbd-server.addr.keep-alivee: unknown member (did you mean 'keep-alive'?)"),
    ("nodes:\n- driver: qcow2\n  node-name: a\n  file: b\n  l2-cache-size: 100\n",
     "5:18: nodes.0.l2-cache-size: 100 is below the minimum 65536"),
    ("nodes: 7\n", "1:8: nodes: expected array, got string"),
    ("nodes:\n- driver: null-co\n  node-name:\n", "3:13: nodes.0.node-name: expected string, got null"),
    ("colour: red\n", "1:1: colour: "),
    ("- a\n", "1:1: "),
    ("io-threads: 65\n", "1:13: io-threads: 65 is above the maximum 64"),
    ("io-threads: 0\n", "1:13: io-threads: 0 is below the minimum 1"),
    # What it says of itself.
    ("nodes:\n- driver: null-co\n", "2:3: nodes.0: 'node-name' must be specified for the root node"),
    ("nodes:\n- {driver: null-co, node-name: 1a}\n", "2:32: nodes.0.node-name: '1a' does not match the pattern '[A-Za-z][A-Za-z0-9._-]*'"),
    ("nodes:\n- {driver: null-co, node-name: a}\n- {driver: null-co, node-name: a}\n",
     "3:3: nodes.1: Duplicate nodes with node-name='a'"),
    ("nodes:\n- {driver: raw, node-name: b, file: a}\n- {driver: null-co, node-name: a}\n",
     "2:37: nodes.0.file: Failed to find node with node-name='a'"),
    ("exports:\n- {type: nbd, id: e, node-name: a}\n",
     "2:3: exports.0: Failed to find node with node-name='a'"),
    ("nodes:\n- {driver: null-co, node-name: a}\nexports:\n- {type: nbd, id: e, node-name: a}\n",
     "4:3: exports.0: NBD server not running"),
    # YAML itself.
    ("nodes: [\n", "2:1: "),
    ("a: 1\na: 2\n", "2:1: the key 'a' is given twice"),
    ("a: &x {b: *x}\n", "1:11: no value has the anchor 'x'"),
    ("a: *nothing\n", "1:4: no value has the anchor 'nothing'"),
    ("a: !!int 3\n", "1:4: tags such as 'tag:yaml.org,2002:int' are not supported"),
    ("{a: 1}: 2\n", "1:1: a key must be a string"),
    ("a: 1\n---\nb: 2\n", "2:1: a file has one document only"),
    ("a: \"x\\0y\"\n", "1:4: the text contains a zero byte"),
    pytest.param("a: [" + "[" * 300 + "]" * 300 + "]\n", "1:204: nested deeper than 200 levels", id="deep"),
    ("\tx: 1\n", "1:1: "),
])
def test_mistakes_with_line_and_column(tmp_path, text, message):
    told = fails(tmp_path, text)
    assert told.startswith(message), told


def test_a_few_lines_do_not_unfold_into_gigabytes(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "more than 1048576 values" in fails(tmp_path, "\n".join(lines))


def test_an_anchor_saves_typing(start_daemon, tmp_path):
    write(tmp_path, """\
        monitors:
        - path: qmp.sock
        nodes:
        - driver: raw
          node-name: a
          file: &small {driver: null-co, size: 4096}
        - driver: raw
          node-name: b
          file: *small
    """)
    daemon = start_daemon("--config", "cairn.yaml", monitor=False)
    daemon.wait_for_socket(daemon.socket)
    with daemon.connect() as qmp:
        while len(nodes := qmp.execute("query-named-block-nodes", flat=True)) < 4:
            pass
    assert {node["image"]["virtual-size"] for node in nodes} == {4096}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n"])
def test_an_empty_file_describes_nothing(tmp_path, text):
    write(tmp_path, text)
    assert run_cairnd("--config", "cairn.yaml", "--check", cwd=tmp_path).returncode == 0


def test_a_file_and_options_are_made_in_the_order_given(start_daemon, tmp_path):
    write(tmp_path, "nodes:\n- {driver: raw, node-name: upper, file: lower}\n")
    options = ["--blockdev", "null-co,node-name=lower", "--config", "cairn.yaml"]
    assert run_cairnd(*options, "--check", cwd=tmp_path).returncode == 0
    reverse = run_cairnd("--config", "cairn.yaml", "--blockdev", "null-co,node-name=lower", "--check", cwd=tmp_path)
    assert reverse.returncode == 1 and "cairn.yaml:2:" in reverse.stderr
    daemon = start_daemon(*options)
    with daemon.connect() as qmp:
        assert {node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)} == {"lower", "upper"}


@pytest.mark.parametrize("options, message", [
    (["--blockdev", "null-co,node-name=1"], "--blockdev null-co,node-name=1: node-name: '1' does not match the pattern"),
    (["--monitor", "m"], '--monitor m: chardev "m" not found'),
    (["--blockdev", "raw,node-name=r,file=x"], "--blockdev raw,node-name=r,file=x: file: Failed to find node"),
    (["--chardev", "socket,id=a"], "--chardev socket,id=a: one of 'path', 'host' and 'fd' must be given"),
])
def test_check_looks_at_options_too(options, message):
    result = run_cairnd("--check", *options)
    assert result.returncode == 1 and result.stderr.startswith(f"cairnd: {message}"), result.stderr


def test_ten_thousand_nodes_are_checked_in_linear_time(tmp_path):
    lines = ["nodes:"]
    lines += [f"- {{driver: raw, node-name: n{i}, file: {{driver: null-co, node-name: f{i}}}}}" for i in range(10000)]
    write(tmp_path, "\n".join(lines) + "\n")
    assert run_cairnd("--check", "--config", "cairn.yaml", cwd=tmp_path).returncode == 0
