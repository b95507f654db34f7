"""The demo of the README ends well, quickly, and leaves nothing behind."""

import os
import shutil
import subprocess
import time

from process import BUILD, ROOT, assert_no_sanitizer_output


def test_demo(tmp_path):
    environment = {**os.environ, "CAIRN_BUILD_DIR": str(BUILD), "TMPDIR": str(tmp_path)}
    begin = time.monotonic()
    result = subprocess.run([str(ROOT / "clients/demo/demo.sh")], env=environment, stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_no_sanitizer_output(result.stderr)
    assert result.stdout.count("Images are identical.") == 2, "what NBD shows, and the mirror"
    if shutil.which("qemu-storage-daemon"):
        assert "Content mismatch at offset 0!" in result.stdout, "QEMU has learned it: tell so in the demo and the docs"
    assert "No errors were found" in result.stdout
    assert "backing: base (qcow2, read-only" in result.stdout
    assert time.monotonic() - begin < (10 if BUILD.name != "asan" else 60)
    assert list(tmp_path.iterdir()) == [], "files are left"
