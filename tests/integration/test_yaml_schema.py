"""The JSON Schema of the YAML file, as an editor uses it, against what cairnd says of the same files."""

import json
import re
import subprocess
import textwrap

import pytest
import yaml
from process import BUILD, ROOT, run_cairnd
from qmp import DEADLINE
from test_config import GOOD

jsonschema = pytest.importorskip("jsonschema")


class Loader(yaml.SafeLoader):
    """YAML 1.2 as editors read it: "on" is a string, "true" is not."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in [("bool", "true|false", "tf"), ("null", "~|null|", ["~", "n", ""]),
                            ("int", "[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
                            ("float", r"[-+]?([0-9]+[.][0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?", "-+.0123456789")]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^({pattern})$"), list(first))


@pytest.fixture(scope="module")
def validator():
    schema = subprocess.run([BUILD / "bin" / "schemac", "--yaml-schema", "CairnConfig", ROOT / "schema" / "cairn.json"],
                            check=True, capture_output=True, timeout=DEADLINE).stdout
    return jsonschema.Draft202012Validator(json.loads(schema))


ACCEPTED = [
    GOOD,
    (ROOT / "clients" / "demo" / "cairn.yaml").read_text(),
    "{}\n",
    "nodes:\n- {driver: null-co, node-name: a, size: 0x1000, latency-ns: 5, read-zeroes: yes}\n",
    "nbd-server: {addr: {type: inet, host: localhost, port: 10809}}\n",
    "nodes:\n- {driver: null-co, node-name: \"n${X:-0}\"}\n",
    "nodes:\n- {driver: null-co, node-name: a, size: \"${SIZE:-64}\", read-only: \"${RO:-on}\"}\n",
    "nodes:\n- {driver: file, node-name: a, filename: x, locking: off, aio: threads}\n",
    "nodes:\n- driver: qcow2\n  node-name: a\n  backing: null\n  overlap-check: {template: all}\n  file: b\n",
]

REFUSED = [
    "nodes:\n- driver: fil\n  node-name: a\n",
    "nodes:\n- {driver: file, node-name: a, filname: x}\n",
    "nodes:\n- {driver: file, node-name: a}\n",
    "nodes:\n- driver: null-co\n  node-name: a\n  size: big\n",
    "nodes:\n- driver: null-co\n  node-name: a\n  read-zeroes: maybe\n",
    "nodes:\n- driver: raw\n  node-name: a\n  file:\n    driver: file\n    filename: [x]\n",
    "nodes:\n- driver: null-co\n  node-name:\n",
    "nodes: 7\n",
    "colour: red\n",
    "- a\n",
    "io-threads: -1\n",
    "io-threads: many\n",
    "nbd-server: {addr: {type: unix}}\n",
    "exports:\n- {type: nbd, id: e}\n",
]


def decodes(tmp_path, text):
    """Whether cairnd finds nothing wrong with the values as such; it may still miss files and nodes."""
    (tmp_path / "cairn.yaml").write_text(text)
    result = run_cairnd("--check", "--config", "cairn.yaml", cwd=tmp_path)
    return result.returncode == 0 or "Failed to find node" in result.stderr


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(validator, tmp_path, text):
    text = textwrap.dedent(text)
    assert list(validator.iter_errors(yaml.load(text, Loader))) == []
    assert decodes(tmp_path, text)


@pytest.mark.parametrize("text", REFUSED)
def test_refused(validator, tmp_path, text):
    assert not validator.is_valid(yaml.load(text, Loader))
    assert not decodes(tmp_path, text)


def test_an_error_names_the_branch_that_fits(validator):
    text = "nodes:\n- {driver: file, node-name: a, filname: x, filename: y}\n"
    messages = [error.message for error in validator.iter_errors(yaml.load(text, Loader))]
    assert len(messages) == 1 and "'filname' was unexpected" in messages[0]


def test_examples_name_the_schema_in_their_first_line():
    examples = [*ROOT.glob("docs/*.yaml"), *ROOT.glob("clients/**/*.yaml")]
    assert examples
    for example in examples:
        assert example.read_text().startswith("# yaml-language-server: $schema="), example


def test_examples_of_the_manual_are_valid(validator, tmp_path):
    """Each block of docs/configuration.md that begins as a file does."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert list(validator.iter_errors(yaml.load(block, Loader))) == [], block
        assert decodes(tmp_path, block), block
