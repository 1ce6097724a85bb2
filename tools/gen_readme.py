"""Bring the transcripts in README.md up to date: run each `$ adapterfit …` they show and put in what it prints.

Run `python tools/gen_readme.py`; a law test compares the two.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
_TRANSCRIPT = re.compile(r"(```console\n\$ (adapterfit check [^\n]*)\n)(.*?)(```)", re.DOTALL)


def main() -> None:
    """Rewrite the transcripts in place."""
    with tempfile.TemporaryDirectory() as folder:
        run("demo", "--keep", "play", cwd=folder)

        def shown(match: re.Match[str]) -> str:
            return match[1] + run(*match[2].split()[1:], cwd=f"{folder}/play") + match[4]

        README.write_text(_TRANSCRIPT.sub(shown, README.read_text("utf-8")), "utf-8")


def run(*arguments: str, cwd: str) -> str:
    """What a command prints, as on a screen that is no terminal."""
    command = [sys.executable, "-m", "adapterfit", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8", check=False)
    return done.stdout


if __name__ == "__main__":
    main()
