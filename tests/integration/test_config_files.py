"""A configuration in several files, with variables and bitmaps, and without secrets."""

import textwrap

import images
import pytest
from process import run_cairnd


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def check(tmp_path, *configs):
    """What cairnd --check says, or ''."""
    result = run_cairnd("--check", *(word for config in configs for word in ("--config", config)), cwd=tmp_path)
    assert result.returncode == (1 if result.stderr else 0) and result.stdout == ""
    return result.stderr.rstrip()


def nodes_of(qmp):
    return [node["node-name"] for node in qmp.execute("query-named-block-nodes", flat=True)]


def test_files_of_a_directory_in_the_order_of_their_bytes(start_daemon, tmp_path):
    write(tmp_path / "conf.d" / "10-base.yaml", "io-threads: 1\nnodes:\n- {driver: null-co, node-name: base}\n")
    write(tmp_path / "conf.d" / "9-top.yaml", "nodes:\n- {driver: raw, node-name: top, file: base}\n")
    write(tmp_path / "conf.d" / "ignored.yml", "nonsense")
    write(tmp_path / "conf.d" / ".hidden.yaml", "nonsense")
    write(tmp_path / "more.yaml", "nodes:\n- {driver: raw, node-name: more, file: top}\n")
    daemon = start_daemon("--config", "conf.d", "--config", "more.yaml")
    assert nodes_of(daemon.connect()) == ["base", "top", "more"]


def test_an_empty_directory_describes_nothing(start_daemon, tmp_path):
    (tmp_path / "conf.d").mkdir()
    daemon = start_daemon("--config", "conf.d")
    assert nodes_of(daemon.connect()) == []


def test_mistakes_are_placed_in_the_file_where_they_are(tmp_path):
    write(tmp_path / "conf.d" / "a.yaml", "nodes:\n- {driver: null-co, node-name: a}\n- {driver: null-co, node-name: b}\n")
    write(tmp_path / "conf.d" / "b.yaml", "nodes:\n- {driver: null-co, node-name: c}\n- {driver: raw, node-name: d, file: x}\n")
    assert check(tmp_path, "conf.d") == ("cairnd: conf.d/b.yaml:3:37: nodes.1.file: "
                                         "Failed to find node with node-name='x'")
    write(tmp_path / "conf.d" / "b.yaml", "nodes:\n- {driver: null-co, node-name: a}\n")
    assert check(tmp_path, "conf.d") == ("cairnd: conf.d/b.yaml:2:3: nodes.0: "
                                         "Duplicate nodes with node-name='a'")
    write(tmp_path / "conf.d" / "b.yaml", "nodes: [{driver: null-co, node-name: c, colour: red}]\n")
    assert check(tmp_path, "conf.d").startswith("cairnd: conf.d/b.yaml:1:41: nodes.0.colour: ")


def test_what_is_no_list_is_given_once(tmp_path):
    write(tmp_path / "conf.d" / "a.yaml", "io-threads: 1\n")
    write(tmp_path / "conf.d" / "b.yaml", "nodes: []\nio-threads: 1\n")
    assert check(tmp_path, "conf.d") == ("cairnd: conf.d/b.yaml:2:1: io-threads: is given twice, "
                                         "also at conf.d/a.yaml:1:1")
    assert check(tmp_path, "conf.d/a.yaml", "conf.d/b.yaml") == check(tmp_path, "conf.d")


def test_variables_come_from_the_environment(start_daemon, tmp_path):
    write(tmp_path / "cairn.yaml", """\
        nodes:
        - {driver: null-co, node-name: "${NAME}0", size: "${SIZE:-65536}"}
        - driver: null-co
          node-name: ${NAME}1
          size: ${BYTES}
        - {driver: file, node-name: literal, filename: '${NAME}.raw'}
        """)
    (tmp_path / "${NAME}.raw").write_bytes(bytes(512))
    daemon = start_daemon("--config", "cairn.yaml", env={"NAME": "disk", "BYTES": "4096"})
    infos = {node["node-name"]: node["image"]["virtual-size"]
             for node in daemon.connect().execute("query-named-block-nodes", flat=True)}
    assert infos == {"disk0": 65536, "disk1": 4096, "literal": 512}


@pytest.mark.parametrize("text, message", [
    ("nodes:\n- {driver: null-co, node-name: \"${CAIRN_UNSET}\"}\n",
     "2:32: the variable 'CAIRN_UNSET' is not set (with a default: ${CAIRN_UNSET:-...})"),
    ("nodes:\n- {driver: null-co, node-name: a, size: \"${\"}\n", "2:41: '${' without '}' (a dollar is '$$')"),
    ("nodes:\n- {driver: null-co, node-name: a, size: \"${CAIRN_UNSET:-x}\"}\n",
     "2:41: nodes.0.size: 'x' is not an integer"),
    ("${X}: 1\n", "1:1: ${X}: unknown member"),
])
def test_variables_that_are_wrong(tmp_path, text, message):
    write(tmp_path / "cairn.yaml", text)
    assert check(tmp_path, "cairn.yaml").startswith(f"cairnd: cairn.yaml:{message}")


def test_secrets_stand_in_files_of_their_own(tmp_path):
    write(tmp_path / "cairn.yaml", "objects:\n- {qom-type: secret, id: s, data: hunter2}\n")
    message = check(tmp_path, "cairn.yaml")
    assert message.startswith("cairnd: cairn.yaml:2:29: objects.0.data: secrets do not stand in configurations")
    assert "file: PATH" in message and "hunter2" not in message
    write(tmp_path / "cairn.yaml", "objects:\n- {qom-type: secret, id: s, file: password}\n")
    assert check(tmp_path, "cairn.yaml") == ""


def bitmaps_of(qmp, node):
    infos = {info["node-name"]: info for info in qmp.execute("query-named-block-nodes", flat=True)}
    return {bitmap["name"]: (bitmap["granularity"], bitmap["persistent"], bitmap["recording"])
            for bitmap in infos[node].get("dirty-bitmaps", [])}


BITMAPS = """\
    nodes:
    - {driver: qcow2, node-name: disk0, file: {driver: file, filename: disk.qcow2}}
    bitmaps:
    - {node: disk0, name: kept, persistent: true, granularity: 0x10000}
    - {node: disk0, name: off, disabled: true}
    nbd-server: {addr: {type: unix, path: nbd.sock}}
    exports:
    - {type: nbd, id: e, node-name: disk0, writable: on, bitmaps: [kept]}
    """


def test_bitmaps_are_made_before_exports_and_those_of_images_stay(start_daemon, tmp_path):
    images.create(tmp_path / "disk.qcow2", "1M")
    write(tmp_path / "cairn.yaml", BITMAPS)
    daemon = start_daemon("--config", "cairn.yaml")
    expected = {"kept": (65536, True, True), "off": (65536, False, False)}
    assert bitmaps_of(daemon.connect(), "disk0") == expected
    daemon.stop()
    write(tmp_path / "cairn.yaml", BITMAPS.replace("filename: disk", "filename: ../disk").replace("0x10000}", "65536, disabled: on}"))
    again = start_daemon("--config", "../cairn.yaml")
    assert bitmaps_of(again.connect(), "disk0") == {**expected, "kept": (65536, True, False)}


@pytest.mark.parametrize("bitmaps, message", [
    ("[{node: x, name: b}]", "3:11: bitmaps.0: Failed to find node with node-name='x'"),
    ("[{node: a, name: b}, {node: a, name: b}]", "3:31: bitmaps.1: Bitmap already exists: b"),
])
def test_bitmaps_that_are_wrong(tmp_path, bitmaps, message):
    write(tmp_path / "cairn.yaml", f"nodes:\n- {{driver: null-co, node-name: a}}\nbitmaps: {bitmaps}\n")
    assert check(tmp_path, "cairn.yaml") == f"cairnd: cairn.yaml:{message}"
