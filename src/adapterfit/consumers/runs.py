"""What was seen when programs were run beside our claims: `verified.jsonl`, which nobody writes by hand.

`make oracles` runs other programs; `make claims` holds loads that PEFT and transformers were measured at beside the claims about them.

One line per program, version and claim::

    {"consumer": "vllm", "version": "0.33.0", "claim": "dora", "value": "<digest>", "outcome": "confirmed", "tests": 2,
     "date": "2026-11-26", "with": {"peft": "0.21.2", "transformers": "5.23.0"}}

`outcome` is *confirmed* where every test (or load) of the claim went as claimed, else *refuted*. A run speaks for the claim it was made for:
once the claim's value is another one, its digest is too, and the run no longer counts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("verified.jsonl")
CONFIRMED, REFUTED = "confirmed", "refuted"


class Run(NamedTuple):
    """What came of one claim, and when."""

    confirmed: bool
    date: dt.date


def read(consumer: str, file: Path = FILE) -> Mapping[tuple[str, str, str], Run]:
    """Version, claim and digest of its value → its run; empty where nothing of this consumer was run."""
    return {
        (row["version"], row["claim"], row["value"]): Run(
            row["outcome"] == CONFIRMED, dt.date.fromisoformat(row["date"])
        )
        for row in rows(file)
        if row["consumer"] == consumer
    }


def rows(file: Path = FILE) -> list[dict[str, Any]]:
    """The lines of the file; none where there is no file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []


def digest(value: object) -> str:
    """What changes whenever the value of a claim does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
