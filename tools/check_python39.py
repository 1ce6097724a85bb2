"""Do our core dependencies resolve for Python 3.9, the oldest we promise? Needs a package index.

Exit code 0: they do, or no index can be reached (said so). 1: they do not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python < 3.11
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def resolves(requirements: list[str], *extra: str) -> subprocess.CompletedProcess[str]:
    """Let pip resolve the requirements without installing anything."""
    with tempfile.TemporaryDirectory() as target:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--target",
            target,
        ]
        return subprocess.run(
            [*command, "--only-binary=:all:", "--disable-pip-version-check", *extra, *requirements],
            capture_output=True,
            text=True,
            check=False,
        )


def main() -> int:
    core = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    result = resolves(core, "--python-version", "3.9")
    if result.returncode == 0:
        print(f"Python 3.9: {len(core)} core dependencies resolve")
        return 0
    if resolves(["click"]).returncode != 0:
        print("Python 3.9: SKIPPED, no package index can be reached")
        return 0
    print(result.stderr, file=sys.stderr)
    print("Python 3.9: the core dependencies do not resolve", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
