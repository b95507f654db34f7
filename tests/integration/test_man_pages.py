"""Man pages and completion in bash: complete, and what the tools that read them understand."""

import json
import os
import re
import shutil
import subprocess

import pytest
from cairnctl import CAIRNCTL
from process import BUILD, CAIRND, ROOT, run_cairnd
from qmp import DEADLINE

PAGES = ["cairnd.8", "cairnctl.1", "schemac.1", "cairn.yaml.5"]


def page(name):
    """As print, in one line: what is bold, and where lines may be broken, does not matter."""
    text = (BUILD / "packaging" / name).read_text()
    for escape, character in {"\\:": "", "\\-": "-", "\\(aq": "'", "\\e": "\\", "\\(ti": "~"}.items():
        text = text.replace(escape, character)
    return text


def help_of(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True,
                          timeout=DEADLINE).stdout


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_mistakes(name):
    path = BUILD / "packaging" / name
    if shutil.which("mandoc"):
        result = subprocess.run(["mandoc", "-Tlint", "-W", "warning", path], capture_output=True, text=True)
        assert result.stdout == "" and result.returncode == 0, result.stdout
    if shutil.which("groff"):
        result = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", path], capture_output=True, text=True)
        assert result.stderr == "" and result.returncode == 0, result.stderr
    assert path.read_text().startswith(f".TH {name.upper().rpartition('.')[0]} {name[-1]} ")


def test_every_option_of_the_daemon():
    text = page("cairnd.8")
    options = re.findall(r"^  (?:-[A-Za-z], )?(--[a-z-]+)", run_cairnd("--help").stdout, re.MULTILINE)
    assert len(set(options)) > 10
    for option in options:
        assert re.search(rf"^\.B (-[A-Za-z], )?{option}\b", text, re.MULTILINE), option
    assert "an object, as with the command object-add" in text


def test_every_subcommand():
    text = page("cairnctl.1")
    overview = help_of(CAIRNCTL, "--help")
    subcommands = re.findall(r"^  ([a-z-]+) ", overview[overview.index("Subcommands:"):], re.MULTILINE)
    assert len(subcommands) > 5
    for subcommand in subcommands:
        assert f"\n.SS {subcommand}" in text, subcommand
        for option in re.findall(r"^ +(?:-[a-z0-9], )?(--[a-z-]+)", help_of(CAIRNCTL, subcommand, "--help"), re.MULTILINE):
            assert option in text[text.index(f"\n.SS {subcommand}"):], f"{subcommand} {option}"


def test_every_mode_of_the_compiler():
    text = page("schemac.1")
    for mode in re.findall(r"--[a-z-]+", help_of(BUILD / "bin" / "schemac", "--help")):
        assert mode in text, mode


def test_every_member_of_the_configuration():
    text = page("cairn.yaml.5")
    schema = json.loads((BUILD / "docs" / "cairn-config.schema.json").read_text())
    while "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]] | {"$defs": schema["$defs"]}
    members = schema["properties"] if "properties" in schema else schema["$defs"]["CairnConfig"]["properties"]
    assert len(members) > 8
    for member in members:
        assert f"\n.TP\n.B {member}\n" in text, member
    assert "\n.SS LogOptions\n" in text and "\n.SS BlockdevOptions\n" not in text


# Completion -------------------------------------------------------------------------------------------------------


def complete(program, *words):
    """What bash would offer for the last of these words."""
    words = [str(word) for word in (program, *words)]
    # Bash takes "=" for a word of its own.
    split = [part for word in words for part in re.findall(r"=|[^=]+", word) or [""]]
    script = f"""
        . {ROOT}/packaging/completion/{program.name}
        COMP_LINE={json.dumps(" ".join(words))}
        COMP_POINT=${{#COMP_LINE}}
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _{program.name}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", script, "bash", *split], capture_output=True, text=True, timeout=DEADLINE,
                            env={**os.environ, "LC_ALL": "C"})
    assert result.stderr == "", result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("words, expected", [
    (["--blo"], ["--blockdev"]), (["--da"], ["--daemonize"]), (["--log", "in"], ["info"]),
    (["--chardev", ""], ["socket", "stdio"]), (["--object", "throttle"], ["throttle-group"]),
    (["--trace", "drain_b"], ["drain_begin"]), (["--export", ""], ["nbd"])])
def test_options_of_the_daemon_are_completed(words, expected):
    assert complete(CAIRND, *words) == expected


def test_files_are_completed(tmp_path):
    (tmp_path / "some.yaml").write_text("")
    assert complete(CAIRND, "--config", tmp_path / "so") == [str(tmp_path / "some.yaml")]


def test_subcommands_and_their_options_are_completed():
    assert complete(CAIRNCTL, "wait") == ["wait-job"]
    assert complete(CAIRNCTL, "--ver") == ["--version"]
    assert complete(CAIRNCTL, "map", "--start") == ["--start-offset"]
    assert complete(CAIRNCTL, "call", "--com") == ["--compact"]


def test_commands_are_completed_as_the_daemon_describes_them(daemon, qmp, monkeypatch):
    qmp.execute("blockdev-add", driver="null-co", node_name="some-node")
    monkeypatch.setenv("CAIRN_SOCKET", str(daemon.socket))
    assert complete(CAIRNCTL, "call", "blockdev-a") == ["blockdev-add"]
    assert complete(CAIRNCTL, "call", "blockdev-add", "driver=null-a") == ["null-aio"]
    assert complete(CAIRNCTL, "call", "blockdev-add", "driver=file", "filen") == ["filename="]
    assert complete(CAIRNCTL, "map", "some") == ["some-node"]
    assert complete(CAIRNCTL, "trace", "drain_b") == ["drain_begin"]
    monkeypatch.delenv("CAIRN_SOCKET")
    assert complete(CAIRNCTL, "-s", daemon.socket, "call", "blockdev-a") == ["blockdev-add"]
    assert complete(CAIRNCTL, "call", "blockdev-a") == []
