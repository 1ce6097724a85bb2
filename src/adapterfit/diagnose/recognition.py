"""Stage 4 of 7, without files: runs the causes on the symptoms of a pasted text and orders what they suspect."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from adapterfit.diagnose.registry import all_causes
from adapterfit.records import Diagnosis, Suspicion, Symptoms
from adapterfit.text import show

#: From here on an answer is called certain, or likely.
_HIGH, _MEDIUM = 0.9, 0.5
#: Where two answers claim to be certain, neither is.
_DOUBTED = 0.89
#: Answers that are given, and the likelihood below which one is none.
_MOST, _LEAST = 5, 0.15
#: Errors quoted that no cause accounts for, and characters of each.
_UNREAD, _CHARS = 10, 240


def recognise(symptoms: Symptoms) -> Diagnosis:
    """The causes that explain a text, the most likely first; none where it cannot be told."""
    found = [
        dataclasses.replace(suspicion, id=entry.id)
        for entry in all_causes()
        if hasattr(entry.module, "recognise")
        for suspicion in entry.module.recognise(symptoms)
    ]
    causes = _ordered(found)
    return Diagnosis(symptoms, causes, tuple(_unread(symptoms, causes)))


def _ordered(found: Iterable[Suspicion]) -> tuple[Suspicion, ...]:
    """The best answer of each cause, in order."""
    best: dict[str, Suspicion] = {}
    for suspicion in found:
        known = best.get(suspicion.id)
        if known is None or suspicion.likelihood > known.likelihood:
            best[suspicion.id] = suspicion
    ranked = sorted(best.values(), key=lambda one: (-one.likelihood, one.id))
    certain = sum(1 for one in ranked if one.likelihood >= _HIGH)
    kept = [one for one in ranked[:_MOST] if one.likelihood >= _LEAST]
    return tuple(_worded(one, doubted=certain > 1) for one in kept)


def _worded(one: Suspicion, *, doubted: bool) -> Suspicion:
    likelihood = min(one.likelihood, _DOUBTED) if doubted else one.likelihood
    words = "high" if likelihood >= _HIGH else "medium" if likelihood >= _MEDIUM else "low"
    return dataclasses.replace(one, confidence=words)


def _unread(symptoms: Symptoms, causes: tuple[Suspicion, ...]) -> Iterable[str]:
    """Errors that no cause quotes, and what was too much."""
    if symptoms.left_out:
        yield f"{symptoms.left_out:,} characters in the middle of the text were not read"
    quoted = {line for cause in causes for line in cause.evidence}
    lines = dict.fromkeys(error.line for error in symptoms.errors)
    shown = (show(" ".join(symptoms.lines[line].split()), _CHARS) for line in lines)
    yield from [line for line in shown if line and line not in quoted][:_UNREAD]
