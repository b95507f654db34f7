"""A JSON Schema that schemac prints accepts what decode accepts, and refuses what it refuses: check_json_schema.py
SCHEMAC DECODE_LINES SCHEMA...

Values are random: led by the model, so that many are valid, and then damaged in one place, so that many are nearly so.
JSON Schema takes 1.0 for an integer, which decode does not: no such number is made."""

import copy
import json
import random
import re
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is not installed")
    sys.exit(77)

VALUES = 400  # of each type and mode
TYPES = {
    "cairn.json": ["BlockExportOptions", "BlockdevCreateOptions", "BlockdevOptions", "CairnConfig",
                   "SocketAddressLegacy"],
    "sample.json": ["SampleArrays", "SampleOuter", "SampleScalars"],
}
RANGES = {"int8": (-128, 127), "int16": (-2**15, 2**15 - 1), "int32": (-2**31, 2**31 - 1),
          "int64": (-2**63, 2**63 - 1), "int": (-2**63, 2**63 - 1), "uint8": (0, 255), "uint16": (0, 2**16 - 1),
          "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1), "size": (0, 2**64 - 1)}
TEXTS = {"bool": ["on", "off", "yes", "no", "true", "false", "y", "n"], "number": ["1.5", "-2", ".25", "1e3"],
         "size": ["64K", "1.5G", "0x10", "010", "7b"], "int": ["-5", "0x1f", "017"], "unsigned": ["5", "0x1f", "+3"],
         "null": [""]}
LIMIT = re.compile("is (below the minimum|above the maximum|not a multiple of) ")
ODD = [None, True, False, 0, -1, 300, 70000, 2**40, -2**40, 0.5, "", "x", "on", "08", "1.5", "64K", "-", "0x", [], {},
       [1], {"driver": "file"}, "file", "null"]


class Maker:
    def __init__(self, model, text, rng):
        self.types = {entry["name"]: entry for entry in model["definitions"] + model["types"]}
        self.text = text
        self.rng = rng

    def scalar(self, name):
        rng = self.rng
        if self.text and name != "str" and rng.random() < 0.5:
            kind = name if name in TEXTS else "unsigned" if name.startswith("u") else "int"
            if kind in TEXTS and name not in ("any",):
                return rng.choice(TEXTS[kind])
        if name in RANGES:
            low, high = RANGES[name]
            return rng.choice([low, high, rng.randint(0, 100), rng.randint(low, high)])
        return {"str": rng.choice(["", "a", "node-1", "\u00fc"]), "bool": rng.random() < 0.5, "null": None,
                "number": rng.choice([0.5, -1, 1e30]), "any": rng.choice(ODD)}[name]

    def value(self, type_name, depth=0):
        if isinstance(type_name, dict):
            count = 0 if depth > 5 else self.rng.randint(0, 2)
            return [self.value(type_name["array"], depth + 1) for _ in range(count)]
        entry = self.types[type_name]
        kind = entry["kind"]
        if kind == "builtin":
            return self.scalar(type_name)
        if kind == "scalar":
            return self.restricted(self.scalar(entry["plain"]), entry)
        if kind == "enum":
            return self.rng.choice([value["name"] for value in entry["values"] if "if" not in value])
        if kind == "alternate":
            branches = entry["branches"]
            if depth > 4:
                branches = [branch for branch in branches if branch["type"] in self.types and
                            self.types[branch["type"]]["kind"] != "object"] or branches
            return self.value(self.rng.choice(branches)["type"], depth + 1)
        result = {}
        self.members(entry, result, depth)
        return result

    def restricted(self, value, limits):
        if "min" in limits or "max" in limits or "multiple-of" in limits:
            return limits.get("min", limits.get("multiple-of", 0))
        if "pattern" in limits or "min-length" in limits:
            return "a"
        return value

    def members(self, entry, result, depth):
        for member in entry["members"]:
            if "if" in member or (member.get("optional") and (depth > 4 or self.rng.random() < 0.6)):
                continue
            result[member["name"]] = self.restricted(self.value(member["type"], depth + 1), member)
        tag = entry.get("discriminator")
        for branch in entry.get("branches", []) if tag else []:
            if branch["name"] == result.get(tag):
                self.members(self.types[branch["type"]], result, depth)

    def damage(self, value):
        """The same value with one thing in it changed."""
        value = copy.deepcopy(value)
        places = []

        def collect(container):
            items = container.items() if isinstance(container, dict) else enumerate(container)
            for key, child in items:
                places.append((container, key))
                if isinstance(child, (dict, list)):
                    collect(child)
        if isinstance(value, (dict, list)):
            collect(value)
        if not places:
            return self.rng.choice(ODD)
        container, key = self.rng.choice(places)
        choice = self.rng.random()
        if choice < 0.2:
            del container[key]
        elif choice < 0.3 and isinstance(container, dict):
            container["unknown"] = 1
        else:
            container[key] = self.rng.choice(ODD)
        return value


def schema_of(schemac, path, type_name, mode):
    option = ["--yaml-schema", type_name] if mode == "text" else [f"--json-schema={type_name}"]
    schema = json.loads(subprocess.run([schemac, *option, path], check=True, capture_output=True).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def as_text(value):
    """What is read from a YAML file: all scalars but null are strings. An editor sees them as YAML types them."""
    if isinstance(value, dict):
        return {name: as_text(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_text(element) for element in value]
    return value if value is None or isinstance(value, str) else json.dumps(value)


def verdicts(decode_lines, type_name, mode, values):
    read = as_text if mode == "text" else lambda value: value
    lines = "".join(f"{type_name} {mode} {json.dumps(read(value))}\n" for value in values)
    return subprocess.run([decode_lines], input=lines, check=True, capture_output=True, text=True).stdout.splitlines()


def check(schemac, decode_lines, path, model, type_name, mode, rng):
    maker = Maker(model, mode == "text", rng)
    values = [maker.value(type_name) for _ in range(VALUES // 2)]
    values += [maker.damage(value) for value in values]
    validator = schema_of(schemac, path, type_name, mode)
    counts, failures = [0, 0], 0
    for value, verdict in zip(values, verdicts(decode_lines, type_name, mode, values), strict=True):
        counts[verdict == "ok"] += 1
        if mode == "text" and LIMIT.search(verdict):
            continue  # JSON Schema sees no numbers in strings: "08"
        if validator.is_valid(value) != (verdict == "ok"):
            failures += 1
            print(f"{type_name} as {mode}: {json.dumps(value)}\n  decode: {verdict}\n  schema: "
                  f"{[error.message for error in validator.iter_errors(value)][:2]}")
    print(f"{type_name} as {mode}: {counts[True]} accepted, {counts[False]} refused, {failures} differ")
    return failures == 0 and min(counts) >= VALUES // 20


def main(schemac, decode_lines, *paths):
    rng = random.Random(int.from_bytes(b"cairn"))
    good = True
    for path in paths:
        model = json.loads(subprocess.run([schemac, "--dump-model", path], check=True, capture_output=True).stdout)
        for type_name in TYPES[path.rpartition("/")[2]]:
            for mode in "json", "text":
                good = check(schemac, decode_lines, path, model, type_name, mode, rng) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
