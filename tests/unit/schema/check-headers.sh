#!/bin/sh
# usage: check-headers.sh SOURCE-TREE GENERATED...: each generated header stands alone, in C and in C++, in gcc and in clang,
# whichever of these are installed.
set -eu
tree=$1
shift
for generated; do
    for header in "$generated"/schema/*.h; do
        for compiler in gcc clang clang-14; do
            command -v $compiler >/dev/null || continue
            $compiler -std=gnu17 -Wall -Wextra -Werror -I"$tree" -I"$generated" -fsyntax-only -x c "$header"
        done
        for compiler in g++ clang++ clang++-14; do
            command -v $compiler >/dev/null || continue
            for conditions in "" "-DSAMPLE_ON" "-DSAMPLE_TOO" "-DSAMPLE_ON -DSAMPLE_TOO"; do
                # shellcheck disable=SC2086  # several words
                $compiler -Wall -Wextra -Werror $conditions -I"$tree" -I"$generated" -fsyntax-only -x c++ "$header"
            done
        done
    done
done
