"""Write what came of claims that were run: `consumers/verified.jsonl`, which nobody writes by hand.

Two callers: the tests of other programs (`tests/oracles`, by `--record`), and measured loads (`tools/claim_runs.py`).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from adapterfit.consumers import facts, runs


def line(
    consumer: str, version: str, claim: facts.Claim, outcomes: Iterable[bool], beside: Mapping[str, str], date: dt.date
) -> dict[str, Any]:
    """One line of the file. `outcomes`: whether each test, or each load, went as claimed; `beside`: with which libraries."""
    seen = list(outcomes)
    return {
        "consumer": consumer,
        "version": version,
        "claim": claim.id,
        "value": runs.digest(claim.value),
        "outcome": runs.CONFIRMED if all(seen) else runs.REFUTED,
        "tests": len(seen),
        "date": date.isoformat(),
        "with": dict(beside),
    }


def write(file: Path, made: Iterable[Mapping[str, Any]], forgotten: Callable[[Mapping[str, Any]], bool]) -> None:
    """Write these lines and keep the others, but those that are `forgotten`: what an earlier run said of the same."""
    kept = [row for row in runs.rows(file) if not forgotten(row)]
    lines = sorted(json.dumps(each) for each in (*kept, *made))
    file.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
