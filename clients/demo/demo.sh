#!/bin/bash
# demo - the main job of cairn on sample images, judged by programs that we did not write
#
# Needs qemu-img, qemu-io and nbdinfo; shows qemu-storage-daemon beside it where that is installed. Works in a directory
# of its own that is removed at the end. CAIRN_BUILD_DIR says where the binaries are (default: build/ of the tree).
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
bin=${CAIRN_BUILD_DIR:-$here/../../build}/bin
bin=$(readlink -f "$bin")
export PATH=$bin:$PATH
directory=$(mktemp -d)
daemons=()

clean_up()
{
    for pid in "${daemons[@]}"; do
        if kill "$pid" 2>/dev/null; then
            wait "$pid" || true
        fi
    done
    rm -rf "$directory"
}
trap clean_up EXIT
cd "$directory"
export CAIRN_SOCKET=qmp.sock

title()
{
    printf '\n\033[1m%s\033[0m\n' "$*"
}

show()
{
    printf '\033[36m$ %s\033[0m\n' "$*"
}

run()
{
    show "$@"
    "$@"
}

wait_for()
{
    for _ in $(seq 500); do
        [ -S "$1" ] && return
        sleep 0.01
    done
    echo "there is no $1" >&2
    return 1
}

# Until the copy is complete, and follows the source.
wait_ready()
{
    for _ in $(seq 500); do
        cairnctl call -c query-jobs | grep -q '"ready"' && return
        sleep 0.02
    done
    echo "the job does not become ready" >&2
    return 1
}

title 'Two images: a base, and an overlay that has little of its own'
run qemu-img create -q -f qcow2 base.qcow2 64M
run qemu-io -c 'write -q -P 1 0 8M' -c 'write -q -P 2 32M 4M' base.qcow2
run qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2 64M
run qemu-io -c 'write -q -P 3 4M 1M' -c 'write -q -z 33M 1M' overlay.qcow2

title 'cairnd starts from a configuration file: the base, and an NBD server that exports it'
cp "$here/cairn.yaml" .
run cairnd --config cairn.yaml --check
show cairnd --config cairn.yaml '&'
cairnd --config cairn.yaml &
cairnd=$!
daemons+=("$cairnd")
wait_for qmp.sock

title 'A client adds the overlay, a raw node over it, and a filter over that'
run cairnctl call -c blockdev-add driver=qcow2 node-name=overlay backing=base file.driver=file \
    file.node-name=overlay-file file.filename=overlay.qcow2
run cairnctl call -c blockdev-add driver=raw node-name=disk file=overlay
run cairnctl call -c blockdev-add driver=blkdebug node-name=debug image=disk
run cairnctl call -c block-export-add type=nbd id=disk node-name=debug name=disk
run cairnctl graph

title 'What lies where: asked of the overlay, and through the raw node and the filter'
run cairnctl map overlay
run cairnctl map debug

title 'Over NBD, other programs see the same map and the same bytes'
run nbdinfo --map "nbd+unix:///disk?socket=nbd.sock"
run qemu-img compare -U -f raw -F qcow2 "nbd+unix:///disk?socket=nbd.sock" overlay.qcow2

title 'A copy of the raw node: the job copies all that a client of the disk would see'
run truncate -s 64M copy.raw
run cairnctl call -c blockdev-add driver=file node-name=copy filename=copy.raw discard=unmap
run cairnctl call -c blockdev-mirror job-id=copy device=disk target=copy sync=full auto-dismiss=off
wait_ready
run cairnctl call -c block-job-complete device=copy
run cairnctl wait-job --dismiss copy
run qemu-img compare -U -f raw -F qcow2 copy.raw overlay.qcow2
run du -h copy.raw

if command -v qemu-storage-daemon >/dev/null; then
    title 'The same graph in qemu-storage-daemon: what lies in the base is lost from the map, and from the copy'
    truncate -s 64M qemu-copy.raw
    qemu-storage-daemon --nbd-server addr.type=unix,addr.path=qemu.sock \
        --chardev socket,id=c,path=qemu-qmp.sock,server=on,wait=off --monitor chardev=c \
        --blockdev driver=file,node-name=f,filename=overlay.qcow2,read-only=on,force-share=on,locking=off \
        --blockdev driver=file,node-name=b,filename=base.qcow2,read-only=on,force-share=on,locking=off \
        --blockdev driver=qcow2,node-name=base,file=b,read-only=on,force-share=on \
        --blockdev driver=qcow2,node-name=overlay,file=f,backing=base,read-only=on,force-share=on \
        --blockdev driver=raw,node-name=disk,file=overlay,read-only=on,force-share=on \
        --blockdev driver=file,node-name=copy,filename=qemu-copy.raw \
        --export type=nbd,id=disk,node-name=disk,name=disk &
    qemu=$!
    daemons+=("$qemu")
    wait_for qemu.sock
    wait_for qemu-qmp.sock
    run nbdinfo --map "nbd+unix:///disk?socket=qemu.sock"
    export CAIRN_SOCKET=qemu-qmp.sock
    run cairnctl call -c blockdev-mirror job-id=copy device=disk target=copy sync=full auto-dismiss=off
    wait_ready
    run cairnctl call -c block-job-complete device=copy
    run cairnctl wait-job --dismiss copy
    run qemu-img compare -U -f raw -F qcow2 qemu-copy.raw overlay.qcow2 || true
    kill "$qemu"
    wait "$qemu" || true
    rm -f qemu.sock qemu-qmp.sock
fi

title 'The end: cairnd flushes, closes, and removes its sockets'
run kill "$cairnd"
wait "$cairnd"
daemons=("${daemons[@]:1}")
run qemu-img check overlay.qcow2
run ls
