"""Cures measured: adapters broken as users' are, mended by `adapterfit.fix`, loaded by real PEFT, their logits compared.

Usage: python tools/fix_score.py [--sample] [--verbose] [--workers N] [--rows FILE] [--table N] [--piece I/N] [part of a name ...]

Four tables: every way to break an adapter x every adapter that real PEFT saved, and x a LoRA on every architecture; adapters that cross to another implementation
of the same model; and the adapters of the shared matrix that today's PEFT fails on. *equal* is equal bit by bit, *close* within
the tolerance stated, *fits* what needed no cure and was loaded to see that it is so, *unknown* what the check cannot tell. Exits
with 1 where anything that was mended computes something else. Needs torch, transformers and peft (`pip install -e .[dev]`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: As `breaking` says it.
BY_NUMBERS = "by the numbers that PEFT holds"
WORDS = ("equal", "close", "untouched", "refused", "cannot tell", "wrong")
HEADS = ("equal", "close", "fits", "refused", "unknown", "wrong")
#: Of every adapter in how many, and of the matrix in how many, a sample is made.
ADAPTERS, MEASURED = 9, 7
#: Bytes of address space of a process.
MEMORY = 12 << 30
Row = tuple[str, str, Any]


def broken_ways(name: str) -> list[Row]:
    """Every way to break one adapter that applies to it."""
    import breaking
    import mending

    rows = []
    with tempfile.TemporaryDirectory() as folder, quiet():
        for way in breaking.WAYS:
            try:
                found = breaking.mended(name, way, Path(folder))
            except breaking.NotRun as why:
                return [("not run", name, mending.Outcome("not run", str(why)))]
            if found is not None:
                rows.append((way, name, found))
    breaking.forget()
    return rows


def crossed(name: str) -> list[Row]:
    """One adapter on another implementation of its base."""
    import crossing

    with tempfile.TemporaryDirectory() as folder, quiet():
        return [(name, name, crossing.mended(name, Path(folder)))]


def measured_one(one: Any) -> list[Row]:
    """One adapter of the matrix."""
    import measured

    with tempfile.TemporaryDirectory() as folder, quiet():
        return [(one.kind, one.saver, measured.mended(one, Path(folder) / "out"))]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries say while they load."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help="only adapters with one of these in their name")
    parser.add_argument(
        "--sample", action="store_true", help=f"every {ADAPTERS}th adapter, every {MEASURED}th of the matrix"
    )
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes at once")
    parser.add_argument(
        "--rows", type=Path, help="a file for every outcome as a line of JSON, as soon as it is measured"
    )
    parser.add_argument("--verbose", action="store_true", help="every refusal with its reason")
    parser.add_argument("--table", type=int, choices=(1, 2, 3, 4), help="this table alone")
    parser.add_argument("--piece", metavar="I/N", default="1/1", help="the Ith of N pieces of every table")
    wanted = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT / "tests" / "differential"), str(ROOT / "tests")]
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", PYTHONPATH=os.pathsep.join(sys.path))
    import breaking
    import broken
    import crossing
    import small_models

    every = ADAPTERS if wanted.sample else 1
    adapters = [name for name in broken.ADAPTERS if name not in breaking.NOT_RUN]
    tables: list[tuple[str, Callable[[Any], list[Row]], Callable[[], list[Any]]]] = [
        ("adapters that PEFT saved, broken and mended", broken_ways, lambda: _named(adapters, wanted.parts)[::every]),
        (
            "a LoRA on every architecture, broken and mended",
            broken_ways,
            lambda: _named(small_models.ON, wanted.parts)[::every],
        ),
        (
            "adapters on another implementation of their base",
            crossed,
            lambda: _named(crossing.NAMES, wanted.parts)[::every],
        ),
        ("adapters of the shared matrix that today's PEFT fails on", measured_one, lambda: _of_matrix(wanted)),
    ]
    piece, pieces = map(int, wanted.piece.split("/"))
    wrong = 0
    for number, (title, measure, of) in enumerate(tables, 1):
        if wanted.table in (None, number):
            rows = _rows(measure, of()[piece - 1 :: pieces], wanted)
            wrong += table(title, rows, verbose=wanted.verbose)
    return int(wrong > 0)


def _named(names: Iterable[str], parts: list[str]) -> list[str]:
    return [name for name in names if not parts or any(part in name for part in parts)]


def _of_matrix(wanted: argparse.Namespace) -> list[Any]:
    import measured

    import shared_data

    if not shared_data.MATRIX.exists():
        print(f"{shared_data.MATRIX.name}: the shared data is not here; its table is left out")
        return []
    with quiet():
        found = [
            one for one in measured.failing() if not wanted.parts or any(part in str(one) for part in wanted.parts)
        ]
    return found[:: MEASURED if wanted.sample else 1]


def _rows(measure: Callable[[Any], list[Row]], of: list[Any], wanted: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with ProcessPoolExecutor(wanted.workers, mp_context=get_context("spawn"), initializer=_within_bounds) as pool:
        for found in pool.map(measure, of):
            rows += found
            if wanted.rows is not None:
                with wanted.rows.open("a", encoding="utf-8") as file:
                    file.writelines(
                        json.dumps([kind, str(name), one.word, one.why[:300]]) + "\n" for kind, name, one in found
                    )
    return rows


def _within_bounds() -> None:
    """A model that was drawn may take pictures of any size: its run fails by itself, instead of the whole measurement."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def table(title: str, rows: list[Row], *, verbose: bool) -> int:
    """Print one table and what is wrong; how many are."""
    unrun = [name for _, name, found in rows if found.word == "not run"]
    rows = [row for row in rows if row[2].word != "not run"]
    counts = Counter((kind, found.word) for kind, _, found in rows)
    total = Counter(found.word for _, _, found in rows)
    print(f"\n{title}: {len(rows)}\n\n{'':<46}" + "".join(f"{head:>9}" for head in HEADS))
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        print(f"{kind:<46}" + "".join(f"{counts[kind, word] or '.':>9}" for word in WORDS))
    print(f"{'all':<46}" + "".join(f"{total[word]:>9}" for word in WORDS))
    mended = total["equal"] + total["close"]
    done = mended + total["wrong"]
    if done:
        print(f"\nmended and right: {mended} of {done} ({100 * mended / done:.1f} %)")
    still = {name for _, name, found in rows if found.why == BY_NUMBERS}
    if still:
        print(f"compared by the numbers that PEFT holds after loading, as they are not run here: {len(still)}")
    if unrun:
        print(f"not run, as no small model of it can be made here: {len(unrun)} ({', '.join(sorted(unrun))})")
    for kind, name, found in rows:
        if found.word == "wrong" or (verbose and found.word in ("refused", "cannot tell")):
            print(f"  {found.word}: {name}, {kind}: {found.why[:300]}")
    return total["wrong"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
