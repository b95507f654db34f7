#!/usr/bin/python3
"""What our interface shares with qemu-storage-daemon's must be the same: a member that both have has the same type and may be
left out in both or in neither, a member that a client must send in one must be sent in the other.

usage: compare_with_qemu.py SCHEMAC SCHEMA; exit status 77 (skipped) without qemu-storage-daemon."""

import json
import shutil
import subprocess
import sys

# Members that one side has and the other has not: newer than the version that is installed, or not built here yet.
OURS_ALONE = {'active', 'allow-inactive', 'backing-mask-protocol', 'children', 'detached-header', 'discard-no-unref',
              'discard-source', 'handshake-max-seconds', 'header',
              'if-absent', 'if-present', 'min-cluster-size', 'on-cbw-error', 'qom-path', 'reconnect-ms', 'target-is-zero'}
# Extensions of ours.
EXTENSIONS = {'nbd-server-start arguments.id', 'nbd-server-stop arguments.id', 'block-export-add arguments<nbd>.servers',
              'blockdev-add arguments<qcow2>.write-ahead-bitmaps', 'blockdev-backup arguments.progress',
              'blockdev-mirror arguments.progress'} | {
                  f'chardev-add arguments.backend<socket>.data.{name}' for name in ('group', 'mode', 'owner')}
# A union that tells about mirrors what no other job has, since QEMU 8.2.
NEWER_TYPES = {'query-block-jobs result[]', 'query-block-jobs result[].type'}
# Deprecated since QEMU 9.2.
NEWER_FEATURES = {'chardev-add arguments.backend<socket>.data.reconnect'}
ZONES = 'zone_append'  # statistics of zoned devices, since QEMU 8.1
# Since QEMU 9.0 a header can be made alone.
OPTIONAL_HERE = {'blockdev-create arguments.options<luks>.file'}


def elements_of(schemac, schema):
    out = subprocess.run([schemac, '--introspect', schema], check=True, capture_output=True)
    return {element['name']: element for element in json.loads(out.stdout)}


def elements_of_qemu():
    requests = '{"execute": "qmp_capabilities"}{"execute": "query-qmp-schema"}{"execute": "quit"}'
    out = subprocess.run(['qemu-storage-daemon', '--chardev', 'stdio,id=c', '--monitor', 'c'], input=requests,
                         check=True, capture_output=True, text=True, timeout=30)
    for line in out.stdout.splitlines():
        answer = json.loads(line).get('return')
        if isinstance(answer, list):
            return {element['name']: element for element in answer}
    raise SystemExit('qemu-storage-daemon did not answer query-qmp-schema')


class Comparison:
    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.seen, self.differences, self.compared = set(), [], 0

    def differ(self, path, what):
        if path in NEWER_TYPES:
            return
        self.differences.append(f'{path}: {what}')

    def members(self, path, ours, theirs):
        our_members = {member['name']: member for member in ours['members']}
        their_members = {member['name']: member for member in theirs['members']}
        for name in our_members.keys() - their_members.keys() - OURS_ALONE:
            if ZONES in name or f'{path}.{name}' in EXTENSIONS:
                continue
            self.differ(path, f"'{name}' is ours alone")
        for name in their_members.keys() - our_members.keys():
            if 'default' not in their_members[name]:
                self.differ(path, f"'{name}' is missing")
        for name in our_members.keys() & their_members.keys():
            mine, other = our_members[name], their_members[name]
            if ('default' in mine) != ('default' in other) and f'{path}.{name}' not in OPTIONAL_HERE:
                self.differ(f'{path}.{name}', 'optional on one side only')
            if mine.get('features') != other.get('features') and f'{path}.{name}' not in NEWER_FEATURES:
                self.differ(f'{path}.{name}', 'other features')
            self.types(f'{path}.{name}', mine['type'], other['type'])

    def variants(self, path, ours, theirs):
        if ours.get('tag') != theirs.get('tag'):
            self.differ(path, 'other discriminator')
        their_variants = {variant['case']: variant for variant in theirs.get('variants', [])}
        for variant in ours.get('variants', []):
            if variant['case'] in their_variants:
                self.types(f"{path}<{variant['case']}>", variant['type'], their_variants[variant['case']]['type'])

    def types(self, path, our_name, their_name):
        if (our_name, their_name) in self.seen:
            return
        self.seen.add((our_name, their_name))
        self.compared += 1
        ours, theirs = self.ours[our_name], self.theirs[their_name]
        if ours['meta-type'] != theirs['meta-type']:
            self.differ(path, f"{ours['meta-type']} is not {theirs['meta-type']}")
        elif ours['meta-type'] == 'builtin':
            if our_name != their_name:
                self.differ(path, f'{our_name} is not {their_name}')
        elif ours['meta-type'] == 'array':
            self.types(f'{path}[]', ours['element-type'], theirs['element-type'])
        elif ours['meta-type'] == 'alternate':
            for mine, other in zip(ours['members'], theirs['members'], strict=True):
                self.types(f'{path}|', mine['type'], other['type'])
        elif ours['meta-type'] == 'object':
            self.members(path, ours, theirs)
            self.variants(path, ours, theirs)

    def all(self):
        for name, element in self.ours.items():
            if element['meta-type'] not in ('command', 'event') or name not in self.theirs:
                continue
            other = self.theirs[name]
            self.types(f'{name} arguments', element['arg-type'], other['arg-type'])
            if 'ret-type' in element:
                self.types(f'{name} result', element['ret-type'], other['ret-type'])


def main():
    if not shutil.which('qemu-storage-daemon'):
        print('qemu-storage-daemon is not installed')
        return 77
    comparison = Comparison(elements_of(sys.argv[1], sys.argv[2]), elements_of_qemu())
    comparison.all()
    for difference in comparison.differences:
        print(difference)
    print(f'{comparison.compared} types compared')
    return 1 if comparison.differences or comparison.compared < 50 else 0


if __name__ == '__main__':
    sys.exit(main())
