"""Make the environment of `make oracles`: what the tests have anyway, and the other programs of tools/oracles.txt.

With `--older` the tests of tools/oracle_sources_older.txt are run against older releases instead, one after the other: each
is unpacked into a folder of its own and found before the newest.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
#: What is unpacked: code, and the metadata that says which version it is.
_CODE = re.compile(r".*\.py|[^/]+\.dist-info/METADATA|[^/]+/PKG-INFO")


def main() -> int:
    """Make it at the path given, or run the tests of older releases with what lies there."""
    target = Path(sys.argv[1])
    if "--older" in sys.argv[2:]:
        return older(target)
    ours = sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(target)], check=True)
    python = target / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    # site.addsitedir also follows the .pth files there, which is how an editable install is found.
    Path(theirs, "tests_environment.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    pip(python, "install", "-r", TOOLS / "oracles.txt")
    unpack(python, (TOOLS / "oracle_sources.txt").read_text(), Path(theirs, "engine_sources"))
    return 0


def older(target: Path) -> int:
    """Run each test file of the list against its release; 1 where one of them fails."""
    python, failed = (target / "bin" / "python").absolute(), []
    for line in (TOOLS / "oracle_sources_older.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        wanted, tests, *chosen = line.split()
        folder = (target.parent / "older" / wanted).absolute()
        if not folder.is_dir():
            unpack(python, wanted, folder)
        command = [python, "-m", "pytest", "-q", "-m", "oracle", *sys.argv[3:], f"tests/oracles/{tests}", *chosen]
        found = {**os.environ, "ENGINE_SOURCES": str(folder), "PYTHONPATH": str(folder)}
        print(f"{wanted}:", flush=True)
        if subprocess.run(command, env=found, check=False).returncode:
            failed.append(wanted)
    print(f"failed: {', '.join(failed)}" if failed else "every release does what is said of it")
    return 1 if failed else 0


def unpack(python: Path, requirements: str, into: Path) -> None:
    """Download releases and unpack their Python files; nothing is installed, and what they require is not fetched."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "wanted.txt")
        wanted.write_text(requirements)
        pip(python, "download", "-d", folder, "-r", wanted)
        for path in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(into, [name for name in archive.namelist() if _CODE.fullmatch(name)])
        for path in Path(folder).glob("*.tar.gz"):
            with tarfile.open(path) as archive:
                archive.extractall(into, [each for each in archive if each.isfile() and _CODE.fullmatch(each.name)])


def pip(python: Path, command: str, *options: object) -> None:
    """Run pip there, without what a package requires."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    subprocess.run([python, "-m", "pip", command, *quiet, *map(str, options)], check=True)


if __name__ == "__main__":
    sys.exit(main())
