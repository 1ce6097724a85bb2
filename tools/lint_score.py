"""`make lint-score`: what lint's rules are held by, as a table: snippets that fire, near-misses, fixes, and fixes that were run.

    lint_score.py [--count]

Every fix is carried out on its snippet, as a script and as a notebook, and run with real PEFT on tiny models
(`tests/lint/mended_code.py`); `--count` leaves that out. Exit code 1 where one does not run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "lint"))
import mended_code

from adapterfit.lint.rule import all_rules

WAYS = ("script", "notebook")


def run() -> dict[str, dict[str, str]]:
    """Snippet → way → what went wrong, as `mended_code` says it."""
    with tempfile.TemporaryDirectory(prefix="adapterfit-mended-") as folder:
        command = [sys.executable, "-W", "ignore", mended_code.__file__, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", action="store_true", help="count, and run nothing")
    outcomes = {} if parser.parse_args().count else run()
    totals = [0] * 6
    print(f"{'rule':<28}{'fires':>7}{'silent':>8}{'safe':>6}{'unsafe':>8}{'as script':>11}{'as notebook':>13}")
    for entry in all_rules().values():
        fires, silent = entry.module.FIRES, entry.module.SILENT
        safe, unsafe = (sum(bool(one.fixed) and one.safety == kind for one in fires) for kind in ("safe", "unsafe"))
        ran = [
            sum(each[way] == "" for name, each in outcomes.items() if name.startswith(f"{entry.id} ")) for way in WAYS
        ]
        row = [len(fires), len(silent), safe, unsafe, *ran]
        totals = [one + other for one, other in zip(totals, row)]
        print(f"{entry.id:<28}" + "".join(f"{value:>{width}}" for value, width in zip(row, (7, 8, 6, 8, 11, 13))))
    print(f"{'all':<28}" + "".join(f"{value:>{width}}" for value, width in zip(totals, (7, 8, 6, 8, 11, 13))))
    wrong = [(name, way, said) for name, each in outcomes.items() for way, said in each.items() if said]
    for name, way, said in wrong:
        print(f"{name}, as a {way}: {said.strip().splitlines()[-1]}")
    return int(any(not said.startswith(mended_code.NOT_RUN) for _, _, said in wrong))


if __name__ == "__main__":
    sys.exit(main())
