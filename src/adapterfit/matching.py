"""Hold one adapter against every base under a folder: which of them does it fit?"""

from __future__ import annotations

import contextlib
from typing import Any

from adapterfit import pipeline
from adapterfit.errors import CannotCheck
from adapterfit.read.adapter import read_adapter
from adapterfit.read.bases import bases_under
from adapterfit.read.locate import locate
from adapterfit.record import dataclass
from adapterfit.records import Adapter, Report

_VERDICTS = ("fits", "fits-after-fix", "does-not-fit", "cannot-tell")


@dataclass(frozen=True)
class Candidate:
    """One base: its folder, and the report on the adapter on it; or why that base cannot be read."""

    folder: str
    report: Report | None = None
    cannot: str = ""


@dataclass(frozen=True)
class Matches:
    """The bases, the best fit first, and the folders that were not looked into."""

    candidates: tuple[Candidate, ...]
    passed: tuple[str, ...] = ()


def match(adapter: Any, among: str, consumer: str | None = None) -> Matches:
    """Which of the bases under `among` does the adapter fit? Arguments as for `check`; the adapter is read once.

    Raises:
        CannotCheck: The adapter cannot be read, or `among` is no folder.
    """
    found = adapter if isinstance(adapter, Adapter) else _read(str(adapter))
    folders, passed = bases_under(among)
    candidates = [_held(found, folder, consumer) for folder in folders]
    return Matches(tuple(sorted(candidates, key=_closeness)), tuple(passed))


def _read(named: str) -> Adapter:
    with contextlib.closing(locate(named, kind="adapter")) as source:
        return read_adapter(source)


def _held(adapter: Adapter, folder: str, consumer: str | None) -> Candidate:
    try:
        return Candidate(folder, pipeline.check(adapter, folder, consumer))
    except CannotCheck as error:
        return Candidate(folder, cannot=str(error))


def _closeness(one: Candidate) -> tuple[int, int, int, str]:
    """Sort key: the verdict, then how much of the adapter lands and how little stays empty."""
    report = one.report
    if report is None:
        return len(_VERDICTS), 0, 0, one.folder
    warned = sum(finding.severity != "note" for finding in report.findings)
    return _VERDICTS.index(report.verdict), -report.counts.matched, report.counts.missing + warned, one.folder
