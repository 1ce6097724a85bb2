"""Engines in a face that is not text: one sentence for each, from the rows of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapterfit.records import Report

#: What an engine does that is wrong with the adapter.
FAULTS = ("raises", "loads-partly", "loads-differently", "loads-without-effect")


def told(report: Report) -> Iterator[tuple[str, str, str, bool]]:
    """Engine with version, what it does in our word, a sentence, and whether it was asked for by name."""
    if not report.consumers:
        return
    from adapterfit.report import _consumers

    for answer, row in zip(report.consumers, _consumers.rows(report)):
        outcome = _consumers.OUTCOMES[answer.predicted]
        sentence = f"{row.engine} {outcome}; applied {row.applied}, scale {row.scale}"
        yield row.engine, answer.predicted, f"{sentence}: {row.note}" if row.note else sentence, answer.asked
