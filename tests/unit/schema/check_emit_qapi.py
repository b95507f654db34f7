"""--emit-qapi prints a schema that means the same: check_emit_qapi.py SCHEMAC PLAIN_OR_EXTENDED.json...

For each schema: what is printed is valid, it answers query-qmp-schema alike, and printing it again changes nothing. A
schema that uses plain QAPI also has the same model; one that does not is valid without the pragma that allows more."""

import json
import pathlib
import subprocess
import sys
import tempfile

def schemac(program, *args):
    result = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def without_places(value):
    """The model without what depends on the files it is in."""
    if isinstance(value, dict):
        return {key: without_places(member) for key, member in value.items()
                if key not in ("line", "module", "modules", "schema")}
    return [without_places(element) for element in value] if isinstance(value, list) else value


def model(program, path):
    whole = without_places(json.loads(schemac(program, "--dump-model", path)))
    whole["types"].sort(key=lambda entry: entry["name"])
    return whole


def introspection(program, path):
    """The answer to query-qmp-schema. Plain QAPI has no optional discriminators: all are shown as mandatory."""
    entries = json.loads(schemac(program, "--introspect", path))
    for entry in entries:
        for member in entry.get("members", []) if "tag" in entry else []:
            if member["name"] == entry["tag"]:
                member.pop("default", None)
    return entries


def check(program, path, folder):
    plain = folder / "plain.json"
    plain.write_text(schemac(program, "--emit-qapi", path))
    schemac(program, "--check", plain)
    assert introspection(program, plain) == introspection(program, path)
    again = schemac(program, "--emit-qapi", plain)
    assert again.split("\n", 1)[1] == plain.read_text().split("\n", 1)[1]
    if "'language'" in pathlib.Path(path).read_text():
        assert "'pragma': { 'language'" not in plain.read_text()
    else:
        assert model(program, plain) == model(program, path)
    print(f"{path}: means the same")


def main(program, *paths):
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            check(program, path, pathlib.Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
