"""Random I/O from 8 connections, each answer checked, while exports, servers, filters and nodes come and go and connections
are cut: tests/soak/soak.py, for CAIRN_SOAK_SECONDS (default: 10; an hour by hand)."""

import subprocess
import sys

from process import BUILD, ROOT


def test_soak():
    result = subprocess.run([sys.executable, ROOT / "tests" / "soak" / "soak.py", "--build", BUILD], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
    assert "all is well" in result.stdout
