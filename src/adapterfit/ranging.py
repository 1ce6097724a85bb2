"""The worst case among versions, for `check --for 'peft>=0.18'`: one report per pair of libraries, and the worst of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

from adapterfit.consumers import facts
from adapterfit.consumers.ranges import pairs, spans
from adapterfit.consumers.versions import version
from adapterfit.records import Case, Report

#: From good to bad. Where nothing is known the load may be anything: only what is known to go wrong is worse.
_BEST_FIRST = ("loads", "cannot-tell", "loads-differently", "loads-partly", "loads-without-effect", "raises")


def worst(case: Case, text: str, ask: Callable[[Case], Report], loader: str | None = None) -> Report:
    """The report for the versions in a range that do worst, the newest of them. The consumer's text says what all do.

    Raises:
        CannotCheck: The text is no range, or no known version lies in it.
    """
    reports = [ask(dataclasses.replace(case, consumer=who)) for who in pairs(text, loader)]
    chosen = max(reversed(reports), key=lambda report: _BEST_FIRST.index(report.predicted))
    who = dataclasses.replace(chosen.case.consumer, text=f"{text}: of {len(reports)} versions: {_said(reports)}")
    return dataclasses.replace(chosen, case=dataclasses.replace(chosen.case, consumer=who))


def _said(reports: list[Report]) -> str:
    """`raises with peft 0.6.0 to 0.13.2; loads with peft 0.14.0 to 0.21.2`, from bad to good."""
    each_once = len({report.case.consumer.transformers for report in reports}) == len(reports)
    if each_once and len(reports) > 1:
        return _of_transformers(reports)
    known = facts.load("peft").releases
    asked = Counter(each.case.consumer.peft for each in reports)
    parts = []
    for word in reversed(_BEST_FIRST):
        found = [each.case.consumer for each in reports if each.predicted == word]
        always = [peft for peft, times in Counter(who.peft for who in found).items() if times == asked[peft]]
        if always:
            parts.append(f"{word} with peft {spans(always, known)}")
        beside: dict[str, list[str]] = {}
        for who in found:
            if who.peft not in always:
                beside.setdefault(who.transformers, []).append(who.peft)
        parts += [f"{word} with peft {spans(each, known)} beside transformers {t}" for t, each in beside.items()]
    return "; ".join(parts)


def _of_transformers(reports: list[Report]) -> str:
    """`raises with transformers 4.30.2 to 4.42.4 beside peft 0.13.2; loads with …`, from bad to good."""
    from adapterfit.consumers import model_types

    known = model_types.releases()
    parts = []
    for word in reversed(_BEST_FIRST):
        found = [each.case.consumer for each in reports if each.predicted == word]
        for peft in sorted({who.peft for who in found}, key=version):
            beside = [who.transformers for who in found if who.peft == peft]
            parts.append(f"{word} with transformers {spans(beside, known)} beside peft {peft}")
    return "; ".join(parts)
