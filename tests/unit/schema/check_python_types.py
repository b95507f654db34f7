"""What schemac writes for Python is typed as mypy --strict wants it, and can be imported: check_python_types.py MYPY SCHEMAC
PACKAGE SCHEMA...

PACKAGE is the client of cairn's own schema; for each SCHEMA one is made beside a copy of its runtime.py."""

import pathlib
import shutil
import subprocess
import sys
import tempfile


def make_package(schemac, runtime, schema, folder):
    folder.mkdir()
    shutil.copy(runtime, folder)
    (folder / "__init__.py").write_text("from . import api\n\n__all__ = [\"api\"]\n")
    module = subprocess.run([schemac, "--python", schema], check=True, capture_output=True, text=True)
    (folder / "api.py").write_text(module.stdout)


def main(mypy, schemac, package, *schemas):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        names = [f"from_{pathlib.Path(schema).stem}" for schema in schemas]
        for package_name, schema in zip(names, schemas):
            make_package(schemac, pathlib.Path(package) / "runtime.py", schema, folder / package_name)
        subprocess.run([sys.executable, "-B", "-c", "import " + ", ".join(names)], check=True, cwd=folder)
        clients = pathlib.Path(__file__).parents[3] / "clients"
        paths = [package, clients / "python" / "examples", clients / "backup" / "cairn_backup",
                 *(folder / package_name for package_name in names)]
        return subprocess.run([mypy, "--strict", "--cache-dir", folder / "cache", *paths]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
