#!/usr/bin/python3
"""Writes a schema of the size of QEMU's own: 43 files, about 26,000 lines, mostly documentation.

usage: make_large_schema.py FOLDER; the main file is FOLDER/main.json. The same text every time."""

import pathlib
import sys

FILES = 42  # and the main file
WORDS = ('node', 'request', 'offset', 'length', 'speed', 'target', 'backing', 'format', 'cache', 'limit', 'policy',
         'device', 'channel', 'buffer', 'window', 'counter')
SCALARS = ('str', 'int', 'bool', 'size', 'uint32', 'number')
CONDITIONS = ('', '', '', ", 'if': 'CONFIG_LINUX'", ", 'if': { 'all': [ 'CONFIG_LINUX', { 'not': 'CONFIG_TINY' } ] }")


def words(seed, count):
    return [f'{WORDS[(seed * 7 + i * 5) % len(WORDS)]}-{i}' for i in range(count)]


def text(name, seed):
    return [f'# @{name}: what the {WORDS[seed % len(WORDS)]} is about, in a sentence that goes on',
            f'#     to a second line and says since when (since {seed % 9}.{seed % 3})', '#']


def doc(symbol, members, seed, features=(), returns=False):
    lines = ['##', f'# @{symbol}:', '#', '# An overview of what this is, long enough to be like a real one, which',
             '# usually takes two lines.', '#']
    for i, member in enumerate(members):
        lines += text(member, seed + i)
    if features:
        lines += ['# Features:', '#']
        for feature in features:
            lines += text(feature, seed)
    if returns:
        lines += ['# Returns: a description of what comes back', '#']
    if seed % 4 == 0:
        lines += ['# .. qmp-example::', '#', '#     -> { "execute": "anything" }', '#     <- { "return": { } }', '#']
    return lines + [f'# Since: {seed % 10}.{seed % 4}', '##']


def enum(file, i):
    values = words(file + i, 8)
    name = f'Kind{file}x{i}'
    data = [f"'{value}'" for value in values[:-1]] + [f"{{ 'name': '{values[-1]}', 'features': [ 'unstable' ] }}"]
    return doc(name, values, file + i, ['unstable']) + [f"{{ 'enum': '{name}',", f"  'data': [ {', '.join(data)} ] }}", '']


def struct(file, i):
    members = words(file + i, 6)
    name = f'Thing{file}x{i}'
    types = [f"'{SCALARS[(i + j) % len(SCALARS)]}'" for j in range(4)] + [f"[ 'Kind{file}x{i % 4}' ]", f"'Kind{file}x0'"]
    data = [f"            '*{member}': {type_name}" for member, type_name in zip(members, types)]
    data[1] = f"            '{members[1]}': {{ 'type': 'str'{CONDITIONS[i % len(CONDITIONS)]} }}"
    return doc(name, members, file + i) + [f"{{ 'struct': '{name}',", "  'data': {"] + [',\n'.join(data) + ' } }', '']


def union(file, i):
    name = f'Choice{file}x{i}'
    branches = [f"            '{value}': 'Thing{file}x{j}'" for j, value in enumerate(words(file, 8)[:5])]
    return doc(name, ['kind'], file + i) + [
        f"{{ 'union': '{name}',", f"  'base': {{ 'kind': 'Kind{file}x0' }},", "  'discriminator': 'kind',",
        "  'data': {", ',\n'.join(branches) + ' } }', '']


def alternate(file, i):
    name = f'Either{file}x{i}'
    return doc(name, ['one', 'other'], file) + [f"{{ 'alternate': '{name}',",
                                              f"  'data': {{ 'one': 'Choice{file}x0', 'other': 'str' }} }}", '']


def command(file, i):
    name = f'do-something-{file}-{i}'
    members = words(file + i, 5)
    data = [f"            '*{member}': '{SCALARS[j % len(SCALARS)]}'" for j, member in enumerate(members)]
    data[0] = f"            '{members[0]}': 'Either{file}x0'"
    return doc(name, members, file + i, returns=True) + [
        f"{{ 'command': '{name}',", "  'data': {", ',\n'.join(data) + ' },',
        f"  'returns': [ 'Thing{file}x{i % 6}' ]{CONDITIONS[i % len(CONDITIONS)]} }}", '']


def event(file, i):
    name = f'SOMETHING_{file}_{i}'
    return doc(name, ['what', 'where'], file + i) + [
        f"{{ 'event': '{name}',", f"  'data': {{ 'what': 'Thing{file}x{i}', '*where': 'str' }} }}", '']


def module(file):
    lines = ['# -*- Mode: Python -*-', '', '##', f'# = Topic {file}', '#', '# What it is about.', '##', '']
    for make, count in ((enum, 4), (struct, 6), (union, 1), (alternate, 1), (command, 5), (event, 2)):
        for i in range(count):
            lines += make(file, i)
    return '\n'.join(lines)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(FILES):
        (folder / f'topic-{file}.json').write_text(module(file))
    includes = ''.join(f"{{ 'include': 'topic-{file}.json' }}\n" for file in range(FILES))
    (folder / 'main.json').write_text("{ 'pragma': { 'doc-required': true } }\n" + includes)


if __name__ == '__main__':
    main()
