"""Debian packages: what is in them, on whom they depend, and that what they bring works from where they put it."""

import gzip
import json
import os
import re
import shutil
import subprocess

import pytest
from process import BUILD, CAIRND, ROOT

DEADLINE = 120  # compressing takes time on a busy machine


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, timeout=DEADLINE,
                          **options).stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    if not all(shutil.which(tool) for tool in ("cpack", "dpkg-deb", "dpkg-shlibdeps")):
        pytest.skip("no tools for Debian packages here")
    if re.search(rb"__(asan|tsan)_init", CAIRND.read_bytes()):
        pytest.skip("nobody packages a build with sanitizers")
    directory = tmp_path_factory.mktemp("packages")
    run("cpack", "--config", BUILD / "CPackConfig.cmake", "-B", directory, cwd=BUILD)
    return {path.name.partition("_")[0]: path for path in directory.glob("*.deb")}


@pytest.fixture(scope="module")
def root(packages, tmp_path_factory):
    """All of them unpacked into one place."""
    directory = tmp_path_factory.mktemp("root")
    for path in packages.values():
        run("dpkg-deb", "-x", path, directory)
    return directory


def files(package):
    lines = run("dpkg-deb", "-c", package).splitlines()
    assert all(line.split()[1] == "root/root" for line in lines)
    return {line.split()[5].removeprefix(".") for line in lines if not line.endswith("/")}


def test_what_is_where(packages):
    assert set(packages) == {"cairnd", "cairn-tools", "python3-cairn", "cairn-doc"}
    assert files(packages["cairnd"]) == {
        "/usr/bin/cairnd", "/lib/systemd/system/cairnd.service", "/lib/systemd/system/cairnd.socket",
        "/etc/cairn/cairn.yaml", "/usr/share/bash-completion/completions/cairnd",
        "/usr/share/cairn/cairn-config.schema.json", "/usr/share/man/man8/cairnd.8.gz",
        "/usr/share/man/man5/cairn.yaml.5.gz", "/usr/share/doc/cairnd/copyright", "/usr/share/doc/cairnd/changelog.Debian.gz"}
    assert files(packages["cairn-tools"]) == {
        "/usr/bin/cairnctl", "/usr/bin/schemac", "/usr/share/bash-completion/completions/cairnctl",
        "/usr/share/man/man1/cairnctl.1.gz", "/usr/share/man/man1/schemac.1.gz", "/usr/share/doc/cairn-tools/copyright",
        "/usr/share/doc/cairn-tools/changelog.Debian.gz"}
    python = files(packages["python3-cairn"])
    assert {"/usr/lib/python3/dist-packages/cairn/api.py",
            "/usr/lib/python3/dist-packages/cairn_backup/__main__.py"} <= python
    assert {"/usr/share/man/man7/cairn-qmp.7.gz", "/usr/share/doc/cairn/docs/operations.md"} <= files(packages["cairn-doc"])
    everything = [file for package in packages.values() for file in files(package)]
    assert len(everything) == len(set(everything)), "two packages have the same file"


def test_the_changelog_has_this_version(root):
    version = run(root / "usr/bin/cairnd", "--version").split()[1]
    for package in ("cairnd", "cairn-tools", "python3-cairn", "cairn-doc"):
        changes = gzip.decompress((root / f"usr/share/doc/{package}/changelog.Debian.gz").read_bytes()).decode()
        assert changes.startswith(f"cairn ({version}-1) ")


def test_on_whom_they_depend(packages):
    fields = {name: run("dpkg-deb", "-f", path, "Depends", "Recommends", "Architecture")
              for name, path in packages.items()}
    for library in ("libuv1", "liburing2", "libjansson4", "libyaml-0-2", "libc6", "adduser"):
        assert re.search(rf"^Depends:.*\b{library}\b", fields["cairnd"], re.MULTILINE), library
    sources = [path.read_text() for folder in ("blockcore", "daemon") for path in (ROOT / folder).rglob("*.c")]
    late_libraries = {late for text in sources for late in re.findall(r'LATE_LIBRARY\("[^"]*", "([^"]*)"', text)}
    assert "libssl3" in late_libraries
    for late in late_libraries:
        assert re.search(rf"^Recommends:.*\b{late}\b", fields["cairnd"], re.MULTILINE), late
        assert not re.search(rf"^Depends:.*\b{late}\b", fields["cairnd"], re.MULTILINE), late
    assert "Architecture: all" in fields["python3-cairn"] and "Architecture: all" in fields["cairn-doc"]


def test_what_they_run(packages, tmp_path):
    """Scripts that a shell understands, that can be executed, and that fail with what they call."""
    for name, scripts in {"cairnd": {"postinst", "prerm", "postrm"}, "python3-cairn": {"postinst", "prerm"}}.items():
        run("dpkg-deb", "-e", packages[name], tmp_path / name)
        for script in scripts:
            path = tmp_path / name / script
            assert os.access(path, os.X_OK) and "\nset -e\n" in path.read_text()
            run("sh", "-n", path)
    assert (tmp_path / "cairnd" / "conffiles").read_text() == "/etc/cairn/cairn.yaml\n"


def test_the_programs_work_from_there(root):
    assert run(root / "usr/bin/cairnd", "--version").startswith("cairn ")
    assert run(root / "usr/bin/cairnctl", "--version").startswith("cairnctl ")
    run(root / "usr/bin/cairnd", "--check", "--config", root / "etc/cairn/cairn.yaml")
    assert run("/usr/bin/python3", "-c", "import cairn; print(cairn.__file__)", env={
        "PYTHONPATH": str(root / "usr/lib/python3/dist-packages"), "PYTHONDONTWRITEBYTECODE": "1"}).startswith(str(root))


def test_the_directories_are_those_of_the_system(root):
    service = (root / "lib/systemd/system/cairnd.service").read_text()
    assert "\nExecStart=/usr/bin/cairnd --config /etc/cairn/cairn.yaml\n" in service
    assert not re.search(r"@\w+@", service), "a directory was not filled in"
    first = (root / "etc/cairn/cairn.yaml").read_text().splitlines()[0]
    schema = first.partition("$schema=")[2]
    assert json.loads((root / schema.lstrip("/")).read_text())
    for page in ("man1/cairnctl.1.gz", "man5/cairn.yaml.5.gz", "man7/cairn-qmp.7.gz", "man8/cairnd.8.gz"):
        assert gzip.decompress((root / "usr/share/man" / page).read_bytes()).startswith(b".TH ")
