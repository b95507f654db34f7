#!/bin/sh
# usage: check-schemac.sh SCHEMAC FOLDER: what the program promises on its command line, tried on FOLDER's sample interface.
set -eu
schemac=$1
folder=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$1" >&2
    exit 1
}

expect_status() {
    wanted=$1
    shift
    status=0
    "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*"
}

# Exit status: 0 valid, 1 not valid, 2 wrong usage.
expect_status 0 "$schemac" --check "$folder/sample.json"
expect_status 1 "$schemac" --check "$folder/errors/unknown-type.json"
grep -q "unknown-type.json:1:1: error: member 'a' uses unknown type 'Missing'" "$work/err" || fail "other message"
expect_status 1 "$schemac" --check "$folder/no-such-file.json"
expect_status 2 "$schemac"
expect_status 2 "$schemac" --check
expect_status 2 "$schemac" --no-such-option x.json
expect_status 2 "$schemac" --check --introspect "$folder/sample.json"
expect_status 0 "$schemac" --help

# A schema may come through a pipe.
cat "$folder/sample-included.json" | expect_status 0 "$schemac" --check /dev/stdin
cat "$folder/errors/unknown-type.json" | expect_status 1 "$schemac" --check /dev/stdin
grep -q "/dev/stdin:1:1: error: " "$work/err" || fail "no message about what came through a pipe"

# An invalid schema writes nothing.
expect_status 1 "$schemac" --output-dir "$work/none" "$folder/errors/unknown-type.json"
[ ! -e "$work/none" ] || fail "files were written for an invalid schema"

# The same input gives the same files, wherever it lies, with no path in them.
expect_status 0 "$schemac" --output-dir "$work/one" --prefix p_ --depfile "$work/one.d" "$folder/sample.json"
cp "$folder/sample.json" "$folder/sample-included.json" "$work"
expect_status 0 "$schemac" --output-dir "$work/two" --prefix p_ "$work/sample.json"
diff -r "$work/one" "$work/two" || fail "output depends on the place"
! grep -rq "$folder" "$work/one" || fail "a path is in the output"

# The dependencies are all files that were read.
grep -q "one/p_types.h:" "$work/one.d" || fail "no target in the dependencies"
grep -q "sample-included.json" "$work/one.d" || fail "an included file is not among the dependencies"

# Paths may have characters that mean something to make.
mkdir "$work/a \$b#c"
cp "$folder/sample.json" "$folder/sample-included.json" "$work/a \$b#c"
expect_status 0 "$schemac" --output-dir "$work/odd" --depfile "$work/odd.d" "$work/a \$b#c/sample.json"
grep -qF "/a\\ \$\$b\\#c/sample-included.json" "$work/odd.d" || fail "a path is not quoted in the dependencies"

# Files that stay the same keep their time.
touch -d 2001-01-01 "$work"/one/*
expect_status 0 "$schemac" --output-dir "$work/one" --prefix p_ "$folder/sample.json"
[ -z "$(find "$work/one" -newermt 2002-01-01 -type f)" ] || fail "a file was written without need"

# Conditions are decided by -D.
"$schemac" --introspect "$folder/sample.json" >"$work/without"
"$schemac" --introspect -D SAMPLE_ON "$folder/sample.json" >"$work/with"
! grep -q sample-conditional "$work/without" || fail "a condition that does not hold was taken as true"
grep -q sample-conditional "$work/with" || fail "-D had no effect"

# The plain form of a schema says the same, whatever conditions hold.
for name in corners numbering; do
    "$schemac" --emit-qapi "$folder/valid/$name.json" >"$work/plain.json"
    for defined in "" "-DON"; do
        "$schemac" --introspect $defined "$folder/valid/$name.json" >"$work/before"
        "$schemac" --introspect $defined "$work/plain.json" >"$work/after"
        cmp "$work/before" "$work/after" || fail "the plain form of $name.json says something else"
    done
done

# A schema of the size of QEMU's own.
/usr/bin/python3 "$folder/make_large_schema.py" "$work/large"
expect_status 0 "$schemac" --check "$work/large/main.json"

# What is long costs as much as it is long.
/usr/bin/python3 - "$work/long.json" <<'END'
import sys
n = 20000
names = ", ".join(f"'C{i}'" for i in range(n))
values = ", ".join(f"{{ 'name': 'v{i}', 'if': 'C{i}' }}" for i in range(n))
lines = "\n".join(f"#     -> line {i}" for i in range(n)) + "\n#\n" + "\n".join(f"# text {i}" for i in range(n))
with open(sys.argv[1], "w") as file:
    file.write(f"##\n# @c:\n#\n# .. qmp-example::\n#\n{lines}\n##\n{{ 'command': 'c', 'if': {{ 'any': [ {names} ] }} }}\n"
               f"{{ 'enum': 'Enum', 'data': [ {values} ] }} {{ 'command': 'd', 'data': {{ 'a': 'Enum' }} }}\n")
END
for mode in --docs=md --introspect --python --json-schema --emit-qapi --dump-model "--output-dir=$work/long"; do
    expect_status 0 timeout 20 "$schemac" "$mode" "$work/long.json"
done

# What is written for the corners of the language is C, whatever conditions hold.
for name in corners language; do
    expect_status 0 "$schemac" --output-dir "$work/c" --prefix p_ "$folder/valid/$name.json"
    for defined in -DON -DOFF "-DB -DOTHER_1"; do
        for file in "$work"/c/*.c; do
            # shellcheck disable=SC2086 # several options
            expect_status 0 cc -std=gnu17 -Wall -Wextra -Werror $defined -I"$folder/../../.." -I"$work/c" -c -o "$work/c.o" "$file"
        done
    done
done
