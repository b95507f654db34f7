"""The command line client under test."""

import os
import subprocess

from process import BUILD, assert_no_sanitizer_output
from qmp import DEADLINE

CAIRNCTL = BUILD / "bin" / "cairnctl"


def cairnctl(socket, *words, status=0, stdin=""):
    """Runs cairnctl to its end, which must be with @status; @socket may be None. Returns stdout and stderr."""
    environment = {name: value for name, value in os.environ.items() if name != "CAIRN_SOCKET"}
    if socket is not None:
        environment["CAIRN_SOCKET"] = str(socket)
    result = subprocess.run([str(CAIRNCTL), *map(str, words)], input=stdin, env=environment, capture_output=True,
                            text=True, timeout=DEADLINE)
    assert_no_sanitizer_output(result.stderr)
    assert result.returncode == status, f"exit status {result.returncode}: {result.stdout}{result.stderr}"
    return result
