"""Methods x bases x mutations: what we predict beside what the installed PEFT does, as one table.

Usage: python tools/differential.py [part of an adapter's name ...]

Needs torch, transformers and peft (`pip install -e .[dev]`). Exits with 1 if a prediction of ours is a false fit.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTCOMES = ("raises", "loads-partly", "loads-without-effect", "loads", "cannot-tell")


def judge(name: str) -> list[tuple[str, str, object]]:
    """All mutations of one adapter."""
    import broken

    rows = []
    for what in broken.MUTATIONS:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            rows.append((name, what, broken.compare(name, what, Path(folder))))
    return rows


def main(parts: list[str]) -> int:
    """Print the counts, the confusion matrix and every disagreement."""
    sys.path.insert(0, str(ROOT / "tests" / "differential"))
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    import broken

    names = [name for name in broken.ADAPTERS if not parts or any(part in name for part in parts)]
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        rows = [row for found in pool.map(judge, names) for row in found]
    return show(rows, len(names), len(broken.MUTATIONS))


def show(rows: list, adapters: int, mutations: int) -> int:
    """The figures."""
    print(f"{adapters} adapters x {mutations} mutations = {len(rows)} cases")
    counts = Counter((found.predicted, found.truth) for _, _, found in rows)
    print(f"\n{'we say / PEFT does':<22}" + "".join(f"{outcome:>22}" for outcome in OUTCOMES[:4]) + f"{'not run':>10}")
    for ours in OUTCOMES:
        cells = "".join(f"{counts[ours, theirs]:>22}" for theirs in OUTCOMES[:4])
        print(f"{ours:<22}{cells}{counts[ours, 'not run']:>10}")
    decided = [row for row in rows if row[2].predicted != "cannot-tell"]
    wrong = [row for row in decided if not row[2].agree]
    false_fits = [row for row in decided if row[2].predicted == "loads" != row[2].truth]
    agreed = len(decided) - len(wrong)
    print(
        f"\nagreement      {agreed}/{len(decided)} = {agreed / max(1, len(decided)):.2%} (where it raises: in the same words)"
    )
    print(f"false fits     {len(false_fits)}")
    print(f"cannot tell    {len(rows) - len(decided)}/{len(rows)} = {1 - len(decided) / max(1, len(rows)):.2%}")
    for name, what, found in wrong:
        print(f"  {name}, {what}: {found}")
    return 1 if false_fits else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
