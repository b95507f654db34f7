"""schemac diff: one case per rule, with the schema before and after, and what must be said: check_diff.py SCHEMAC"""

import pathlib
import subprocess
import sys
import tempfile

ENUM = "{ 'enum': 'Enum', 'data': [ %s ] } "
SEND = "{ 'command': 'c', 'data': { %s } }"
RECEIVE = "{ 'struct': 'Reply', 'data': { %s } } { 'command': 'c', 'returns': 'Reply' }"
UNION = ("{ 'enum': 'Enum', 'data': [ 'a', 'b' ] } { 'struct': 'Alpha', 'data': { %s } } "
         "{ 'union': 'Union', 'base': { 'e': 'Enum' }, 'discriminator': 'e', 'data': { %s } } "
         "{ 'command': 'c', 'data': 'Union', 'boxed': true }")
CHOICE = ("{ 'struct': 'Simple', 'data': { 'x': 'int' } } { 'alternate': 'Alpha', 'data': { %s } } "
          "{ 'alternate': 'Beta', 'data': { 'text': 'str', 'none': 'null' } } ")
CHOICE_ONLY = CHOICE % "'s': 'Simple'"
CHOICE_OR_STR = CHOICE % "'s': 'Simple', 't': 'str'"
LIMIT = "{ 'pragma': { 'language': 1 } } { 'command': 'c', 'data': { 'a': { 'type': %s } } }"
DEFAULT = "{ 'pragma': { 'language': 1 } } { 'command': 'c', 'data': { '*a': { 'type': %s } } }"
REPLY = "{ 'pragma': { 'language': 1 } } " + RECEIVE
RATE = "{ 'pragma': { 'language': 1 } } { 'event': 'E', 'data': { 'a': 'int', 'b': 'int' }%s }"

# before, after, lines
CASES = [
    # Commands and events.
    ("{ 'command': 'c' }", "{ 'command': 'c' } { 'command': 'd' } { 'event': 'E' }", []),
    ("{ 'command': 'c' }", "{ 'command': 'd' }", ["c: command is gone"]),
    ("{ 'event': 'E' }", "{ 'event': 'F' }", ["E: event is gone"]),
    ("{ 'command': 'c', 'features': [ 'unstable' ] }", "{ 'command': 'd' }", []),
    ("{ 'command': 'c', 'allow-oob': true }", "{ 'command': 'c' }",
     ["c: cannot be executed out of band any more"]),
    ("{ 'command': 'c', 'allow-preconfig': true }", "{ 'command': 'c' }",
     ["c: is not allowed before the machine is configured any more"]),
    ("{ 'command': 'c' }", "{ 'command': 'c', 'success-response': false }", ["c: does not answer any more"]),
    ("{ 'command': 'c' }", "{ 'command': 'c', 'if': 'X' }", ["c: is there only if defined(X) now"]),
    ("{ 'command': 'c', 'if': 'X' }", "{ 'command': 'c' }", []),
    ("{ 'command': 'c', 'features': [ 'f', 'deprecated' ] }", "{ 'command': 'c' }", ["c: feature 'f' is gone"]),
    # What is sent may only widen.
    (SEND % "'a': 'int'", SEND % "'*a': 'int', '*b': 'str'", []),
    (SEND % "'*a': 'int'", SEND % "'a': 'int'", ["c.arguments.a: member 'a' of object is mandatory now"]),
    (SEND % "'a': 'int'", SEND % "'a': 'int', 'b': 'int'",
     ["c.arguments.b: new member 'b' of object is mandatory"]),
    (SEND % "'a': 'int', '*b': 'str'", SEND % "'a': 'int'", ["c.arguments.b: member 'b' of object is gone"]),
    (SEND % "'*a': { 'type': 'str', 'features': [ 'unstable' ] }", SEND % "'*b': 'str'", []),
    (SEND % "'a': 'int32'", SEND % "'a': 'int'", []),
    (SEND % "'a': 'uint32'", SEND % "'a': 'int'", []),
    (SEND % "'a': 'int'", SEND % "'a': 'int32'", ["c.arguments.a: was int, is int32: takes fewer numbers"]),
    (SEND % "'a': 'int'", SEND % "'a': 'size'", ["c.arguments.a: was int, is size: takes fewer numbers"]),
    (SEND % "'a': 'int'", SEND % "'a': 'number'", []),
    (SEND % "'a': 'number'", SEND % "'a': 'int'", ["c.arguments.a: was number, is int"]),
    (SEND % "'a': 'int'", SEND % "'a': 'str'", ["c.arguments.a: was int, is str"]),
    (SEND % "'a': 'int'", SEND % "'a': 'any'", []),
    (SEND % "'a': 'any'", SEND % "'a': 'int'", ["c.arguments.a: was any, is int"]),
    (SEND % "'a': 'int'", SEND % "'a': [ 'int' ]", ["c.arguments.a: was int, is array of int"]),
    (SEND % "'a': [ 'int' ]", SEND % "'a': [ 'bool' ]", ["c.arguments.a[]: was int, is bool"]),
    (ENUM % "'x', 'y'" + SEND % "'a': 'Enum'", ENUM % "'x', 'y', 'z'" + SEND % "'a': 'Enum'", []),
    (ENUM % "'x', 'y'" + SEND % "'a': 'Enum'", ENUM % "'x'" + SEND % "'a': 'Enum'",
     ["c.arguments.a: value 'y' of Enum: is gone"]),
    (ENUM % "'x'" + SEND % "'a': 'Enum'", SEND % "'a': 'str'", []),
    (SEND % "'a': 'str'", ENUM % "'x'" + SEND % "'a': 'Enum'", ["c.arguments.a: was str, is Enum"]),
    (UNION % ("'x': 'int'", "'a': 'Alpha'"), UNION % ("'*x': 'int'", "'a': 'Alpha'"), []),
    (UNION % ("'x': 'int'", "'a': 'Alpha'"), UNION % ("'x': 'int', 'y': 'int'", "'a': 'Alpha'"),
     ["c.arguments[e=a].y: new member 'y' of Alpha is mandatory"]),
    (UNION % ("'x': 'int'", "'a': 'Alpha'"), UNION % ("'x': 'int'", "'a': 'Alpha', 'b': 'Alpha'"),
     ["c.arguments[e=b].x: new member 'x' of Alpha is mandatory"]),
    (CHOICE_ONLY + SEND % "'a': 'Alpha'", CHOICE_OR_STR + SEND % "'a': 'Alpha'", []),
    (CHOICE_OR_STR + SEND % "'a': 'Alpha'", CHOICE_ONLY + SEND % "'a': 'Alpha'",
     ["c.arguments.a: no longer takes str"]),
    (CHOICE_ONLY + SEND % "'a': 'str'", CHOICE_ONLY + SEND % "'a': 'Beta'", []),
    (CHOICE_ONLY + SEND % "'a': 'Beta'", CHOICE_ONLY + SEND % "'a': 'str'",
     ["c.arguments.a: no longer takes null"]),
    # What is received may only grow.
    (RECEIVE % "'a': 'int'", RECEIVE % "'a': 'int', 'b': 'int', '*c': 'str'", []),
    (RECEIVE % "'*a': 'int'", RECEIVE % "'a': 'int'", []),
    (RECEIVE % "'a': 'int'", RECEIVE % "'*a': 'int'", ["c.return.a: member 'a' of Reply may be absent now"]),
    (RECEIVE % "'a': 'int', 'b': 'int'", RECEIVE % "'a': 'int'", ["c.return.b: member 'b' of Reply is gone"]),
    (RECEIVE % "'a': 'int32'", RECEIVE % "'a': 'int64'", []),
    (RECEIVE % "'a': 'number'", RECEIVE % "'a': 'int'", []),
    (RECEIVE % "'a': 'int'", RECEIVE % "'a': 'number'", ["c.return.a: was int, is number"]),
    (ENUM % "'x', 'y'" + RECEIVE % "'a': 'Enum'", ENUM % "'x', 'z'" + RECEIVE % "'a': 'Enum'", []),
    (CHOICE_ONLY + RECEIVE % "'a': 'Alpha'", CHOICE_OR_STR + RECEIVE % "'a': 'Alpha'",
     ["c.return.a: may be str now"]),
    (CHOICE_OR_STR + RECEIVE % "'a': 'Alpha'", CHOICE_ONLY + RECEIVE % "'a': 'Simple'", []),
    ("{ 'event': 'E', 'data': { 'a': 'int' } }", "{ 'event': 'E', 'data': { 'b': 'int' } }",
     ["E.data.a: member 'a' of object is gone"]),
    # Names of types are nobody's business, nor are bases.
    ("{ 'struct': 'Simple', 'data': { 'a': 'int' } } { 'command': 'c', 'data': 'Simple' }",
     "{ 'struct': 'Beta', 'data': { 'a': 'int' } } { 'struct': 'Twin', 'base': 'Beta', 'data': {} } "
     "{ 'command': 'c', 'data': 'Twin' }", []),
    # A type that contains itself.
    ("{ 'struct': 'Simple', 'data': { '*s': 'Simple', 'a': 'int' } } { 'command': 'c', 'data': 'Simple' }",
     "{ 'struct': 'Simple', 'data': { '*s': 'Simple' } } { 'command': 'c', 'data': 'Simple' }",
     ["c.arguments.a: member 'a' of Simple is gone"]),
    # Limits.
    (LIMIT % "'int', 'min': 5, 'max': 10", LIMIT % "'int', 'min': -5", []),
    (LIMIT % "'int'", LIMIT % "'int', 'min': 5", ["c.arguments.a: has a higher minimum"]),
    (LIMIT % "'int', 'max': 5", LIMIT % "'int', 'max': 4", ["c.arguments.a: has a lower maximum"]),
    (LIMIT % "'int', 'multiple-of': 8", LIMIT % "'int', 'multiple-of': 4", []),
    (LIMIT % "'int', 'multiple-of': 4", LIMIT % "'int', 'multiple-of': 8",
     ["c.arguments.a: must be a multiple of another number"]),
    (LIMIT % "'str', 'max-length': 5", LIMIT % "'str', 'max-length': 4",
     ["c.arguments.a: has tighter limits of its length"]),
    (LIMIT % "'str'", LIMIT % "'str', 'pattern': '[a-z]+'", ["c.arguments.a: has another pattern"]),
    # Defaults.
    (DEFAULT % "'size', 'default': 5", DEFAULT % "'size', 'default': 5, 'min': 1", ["c.arguments.a: has a higher minimum"]),
    (DEFAULT % "'size'", DEFAULT % "'size', 'default': 5", []),
    (DEFAULT % "'size', 'default': 5", DEFAULT % "'size', 'default': 6",
     ["c.arguments.a: stood for 5 where it is left out, stands for 6"]),
    (DEFAULT % "'str', 'default': 'x'", DEFAULT % "'str'",
     ["c.arguments.a: no longer stands for \"x\" where it is left out"]),
    (DEFAULT % "'bool', 'default': true", LIMIT % "'bool'",
     ["c.arguments.a: member 'a' of object is mandatory now"]),
    (LIMIT % "'bool'", DEFAULT % "'bool', 'default': true", []),
    (REPLY % "'*a': { 'type': 'int', 'default': 1 }", REPLY % "'*a': { 'type': 'int', 'default': 2 }",
     ["c.return.a: stood for 1 where it is left out, stands for 2"]),
    (REPLY % "'*a': { 'type': 'int', 'default': 1 }", REPLY % "'a': 'int'", []),
    # What a limit of its rate holds back is not received.
    (RATE % "", RATE % ", 'rate-limit': 100", ["E: comes at most once in 100 ms now"]),
    (RATE % ", 'rate-limit': 100", RATE % ", 'rate-limit': 200",
     ["E: came at most once in 100 ms, comes at most once in 200 ms"]),
    (RATE % ", 'rate-limit': 100", RATE % ", 'rate-limit': 50", []),
    (RATE % ", 'rate-limit': 100", RATE % "", []),
    (RATE % ", 'rate-limit': { 'ms': 100, 'by': [ 'a' ] }", RATE % "", []),
    (RATE % ", 'rate-limit': 100", RATE % ", 'rate-limit': { 'ms': 100, 'by': [ 'a' ] }", []),
    (RATE % ", 'rate-limit': { 'ms': 100, 'by': [ 'a' ] }", RATE % ", 'rate-limit': { 'ms': 100, 'by': [ 'b', 'a' ] }",
     []),
    (RATE % ", 'rate-limit': { 'ms': 100, 'by': [ 'b', 'a' ] }", RATE % ", 'rate-limit': { 'ms': 50, 'by': [ 'b' ] }",
     ["E: is limited for more events together"]),
    ("{ 'pragma': { 'language': 1 } } { 'command': 'c', 'role': 'read' }",
     "{ 'pragma': { 'language': 1 } } { 'command': 'c', 'role': 'operate' }", ["c: needs a higher role"]),
]


def diff(program, folder, before, after):
    old, new = folder / "old.json", folder / "new.json"
    old.write_text(before)
    new.write_text(after)
    return subprocess.run([program, "diff", old, new], capture_output=True, text=True)


def main(program):
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for before, after, lines in CASES:
            result = diff(program, folder, before, after)
            good = (result.stdout.splitlines() == lines and result.stderr == "" and
                    result.returncode == (1 if lines else 0))
            if not good:
                failures += 1
                print(f"{before}\n{after}\n  expected {lines}\n  got      {result}\n")
        invalid = diff(program, folder, "{ 'command': 'c' }", "{")
        assert invalid.returncode == 1 and "new.json:1:" in invalid.stderr, invalid
    assert subprocess.run([program, "diff", "one"], capture_output=True).returncode == 2
    assert subprocess.run([program, "diff", "--help"], capture_output=True).returncode == 0
    print(f"{len(CASES)} cases, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
