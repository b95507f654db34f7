#!/usr/bin/python3
"""layers - do the includes point in the allowed direction?

The folders draw the architecture (docs/architecture.md); this test keeps the drawing true. A line of RULES says what
the files of a folder may include of the project, and FOREIGN which headers of others belong to one place only.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

BASE = ["blockcore/base/"]
TYPES = ["schema/cairn_types.h"]  # generated: plain C, no JSON
RUNTIME = BASE + ["blockcore/runtime/"]
GRAPH = RUNTIME + ["blockcore/graph/"] + TYPES
IO = GRAPH + ["blockcore/io/"]
BLOCKCORE = ["blockcore/"] + TYPES

# The first line that fits decides.
RULES = [
    ("blockcore/base/", BASE),
    ("blockcore/runtime/", RUNTIME),
    ("blockcore/graph/", GRAPH),
    ("blockcore/io/", IO),
    ("blockcore/crypto/", RUNTIME + TYPES + ["blockcore/crypto/"]),
    ("blockcore/", BLOCKCORE),
    ("schema/compiler/", BASE + ["schema/compiler/", "schema/codec/suggest.h"]),  # which knows no JSON
    ("schema/", BASE + ["schema/"]),
    ("rpc/", RUNTIME + ["schema/", "rpc/"]),
    ("daemon/", ["blockcore/", "schema/", "rpc/", "daemon/"]),
    ("clients/", BASE + ["schema/", "clients/"]),
]

FOREIGN = [
    (r"^uv\.h$", ["blockcore/runtime/", "rpc/", "daemon/"]),
    (r"^liburing", ["blockcore/runtime/"]),
    (r"^openssl/", ["blockcore/crypto/", "blockcore/net/"]),
    (r"^libnbd\.h$", ["blockcore/drivers/nbd/"]),
    (r"^curl/", ["blockcore/drivers/curl/"]),
    (r"^jansson\.h$", ["schema/codec/", "schema/", "rpc/", "daemon/", "clients/"]),
    (r"^yaml\.h$", ["daemon/"]),
    (r"^(editline/|histedit\.h)", ["clients/cli/"]),
]

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
TOP_FOLDERS = ("blockcore/", "schema/", "rpc/", "daemon/", "clients/", "tests/")


def fits(name, prefixes):
    return any(name.startswith(prefix) for prefix in prefixes)


def complaints_about(path, header, quoted):
    name = path.as_posix()
    for pattern, homes in FOREIGN:
        if re.match(pattern, header) and not fits(name, homes):
            yield f"only {', '.join(homes)} may include <{header}>"
    if not quoted or not header.startswith(TOP_FOLDERS):
        return
    if not (ROOT / header).exists() and not header.startswith("schema/"):
        yield f'"{header}" does not exist'
    for folder, allowed in RULES:
        if name.startswith(folder):
            if not fits(header, allowed):
                yield f'{folder} must not include "{header}"'
            return


def check(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            for complaint in complaints_about(path, match.group(2), match.group(1) == '"'):
                yield f"{path}:{number}: {complaint}"


def main():
    files = [
        path.relative_to(ROOT)
        for folder, _ in RULES
        for path in sorted((ROOT / folder).rglob("*.[ch]"))
    ]
    found = sorted({complaint for path in set(files) for complaint in check(path)})
    print("\n".join(found) if found else f"{len(set(files))} files, all arrows point downwards")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
