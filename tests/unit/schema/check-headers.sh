#!/bin/sh
# usage: check-headers.sh SOURCE-TREE GENERATED...: each generated header stands alone, in C and in C++, and each source
# compiles, in gcc and in clang, whichever of these are installed, with each combination of conditions.
set -eu
tree=$1
shift

# check COMPILER LANGUAGE FILE...: with each combination of the conditions that the files know.
check()
{
    compiler=$1 language=$2
    shift 2
    for file; do
        combinations='-DOFF'
        grep -q SAMPLE_ "$file" && combinations='-DOFF -DSAMPLE_ON -DSAMPLE_TOO -DSAMPLE_ON,-DSAMPLE_TOO'
        grep -q LIMITED_ON "$file" && combinations='-DOFF -DLIMITED_ON'
        for conditions in $combinations; do
            # shellcheck disable=SC2046  # several words
            "$compiler" -D_GNU_SOURCE -Wall -Wextra -Werror $(echo "$conditions" | tr , ' ') -I"$tree" -I"$generated" \
                -fsyntax-only -x "$language" "$file"
        done
    done
}

for generated; do
    for compiler in gcc clang-14; do
        ! command -v $compiler >/dev/null || check $compiler c "$generated"/schema/*.h "$generated"/schema/*.c
    done
    for compiler in g++ clang++-14; do
        ! command -v $compiler >/dev/null || check $compiler c++ "$generated"/schema/*.h
    done
done
