"""Make the environment of `make oracles`: what the tests have anyway, and the other programs of tools/oracles.txt.

With `--older` only the sources of older servers are unpacked, beside those that are there.
"""

import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path


def main() -> None:
    """Make it at the path given."""
    target = Path(sys.argv[1])
    if "--older" in sys.argv[2:]:
        unpack_all(target / "bin" / "python", "oracle_sources_older.txt", target / "older_sources")
        return
    ours = sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(target)], check=True)
    python = target / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    # site.addsitedir also follows the .pth files there, which is how an editable install is found.
    Path(theirs, "tests_environment.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    wanted = Path(__file__).with_name("oracles.txt")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(wanted)]
    subprocess.run(pip, check=True)
    unpack_all(python, "oracle_sources.txt", Path(theirs, "engine_sources"))


def unpack_all(python: Path, listed: str, into: Path) -> None:
    """Unpack every wheel of a list beside this file."""
    for line in Path(__file__).with_name(listed).read_text().splitlines():
        if line and not line.startswith("#"):
            unpack(python, line, into)


def unpack(python: Path, requirement: str, into: Path) -> None:
    """Download a wheel and unpack its Python files; it is not installed, and what it requires is not fetched."""
    with tempfile.TemporaryDirectory() as folder:
        download = [
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            folder,
        ]
        subprocess.run([python, "-m", "pip", *download, requirement], check=True)
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(into, [name for name in archive.namelist() if name.endswith(".py")])


if __name__ == "__main__":
    main()
