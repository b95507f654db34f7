#!/bin/sh
# usage: check-size.sh SCHEMAC FOLDER: from a schema of the size of QEMU's own comes less than a megabyte of C.
set -eu
schemac=$1
large=$(mktemp -d)
trap 'rm -rf "$large"' EXIT
/usr/bin/python3 "$2/make_large_schema.py" "$large"
"$schemac" --output-dir "$large/c" --prefix large_ "$large/main.json"
bytes=$(cat "$large"/c/* | wc -c)
echo "$bytes bytes of C"
[ "$bytes" -lt 1000000 ]
