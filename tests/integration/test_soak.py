"""Random I/O from 8 connections that is verified: by a client of our own, while exports, servers, filters and nodes come and
go and connections are cut (tests/soak/soak.py, for CAIRN_SOAK_SECONDS, default 10, an hour by hand), and by fio."""

import subprocess
import sys

import nbd_client
from images import MIB, check, create, run
from process import BUILD, ROOT


def test_soak():
    result = subprocess.run([sys.executable, ROOT / "tests" / "soak" / "soak.py", "--build", BUILD], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
    assert "all is well" in result.stdout


def test_fio_verifies_what_it_wrote(daemon, qmp, tmp_path):
    """Eight jobs with a connection and 16 MiB of the disk each."""
    path = create(tmp_path / "disk.qcow2", 8 * 16 * MIB)
    qmp.execute("blockdev-add", driver="qcow2", node_name="disk", file={"driver": "file", "filename": str(path)})
    socket = nbd_client.start_server(qmp, tmp_path)
    nbd_client.export(qmp, "disk", writable=True)
    run("fio", "--name=verify", "--ioengine=nbd", f"--uri={nbd_client.uri(socket, 'disk')}", "--rw=randrw", "--bs=4k-64k",
        "--iodepth=16", "--numjobs=8", "--size=16m", "--offset_increment=16m", "--verify=crc32c", "--do_verify=1",
        "--verify_fatal=1", cwd=tmp_path)
    daemon.stop()
    check(path)
