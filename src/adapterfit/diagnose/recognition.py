"""Stage 4 of 7, without files: runs the causes on the symptoms of a pasted text and orders what they suspect."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from adapterfit.diagnose.likeness import likeness
from adapterfit.diagnose.messages import detection, guessed_by_message, recognised_by_message
from adapterfit.diagnose.registry import Entry, all_causes
from adapterfit.records import Diagnosis, Finding, Fix, Report, Suspicion
from adapterfit.symptoms import LogFrame
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

#: From here on an answer is called certain, or likely.
_HIGH, _MEDIUM = 0.9, 0.5
#: A guess from words alone; beside a decided answer it counts less; each word more, up to a few.
_GUESS, _BESIDE, _MORE, _MANY = 0.2, 0.6, 0.06, 4
#: Innermost frames of a traceback that are looked at, and how likely one is at most beside a message that nobody knows.
_STOPS, _ENDED = 4, 0.34
_CALL = re.compile(r"(?:\bself\.|\b)([a-z_]\w{2,60})\(")
#: What a text about an adapter names somewhere: a method, its library, its files or its tensors.
_ABOUT = re.compile(
    r"lora|adapt[eo]r|peft|\bdora|\bia3|locon|lycoris|loha\b|lokr|hada_|p-?tuning|prompt.?tuning|prefix.?tuning|prompt_encoder|soft prompt"
    r"|fine-?tun|微调|base_model\.model|modules_to_save|merge_and_unload|target.?modules|checkpoint-\d|\bmerged?\b"
    r"|base_layer|attn_procs|set_processor|unsloth|llmtuner|llama-?factory|llama-efficient"
)
#: How much the likeness of a page and the text, from 0 to 1, tells two guesses apart.
_ALIKE = 0.1
_SPACED = str.maketrans("_-", "  ")
#: Where two answers claim to be certain, neither is.
_DOUBTED = 0.89
#: Answers that are given, and the likelihood below which one is none.
_MOST, _LEAST = 7, 0.15
#: Beside one that is certain, a guess from words is none of use.
_BESIDE_CERTAIN = 0.3
#: An error that only introduces the lines below it.
_HEADING = "Error(s) in loading state_dict"
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
    shown = list(recognised_by_message(symptoms, found))
    found += shown
    found += _stopped(symptoms, found)
    if _ABOUT.search(symptoms.folded):
        found += _hinted(symptoms, found)
    else:  # nothing in it speaks of an adapter: then what is no more than a guess is none, unless a page shows the line
        found = [suspicion for suspicion in found if suspicion.likelihood >= _MEDIUM or suspicion in shown]
    causes = tuple(map(_asking, _ordered(found or guessed_by_message(symptoms))))
    return Diagnosis(symptoms, causes, tuple(_unread(symptoms, causes)))


def _stopped(symptoms: Symptoms, found: list[Suspicion]) -> list[Suspicion]:
    """What the function does in which a traceback ends, where it is cut off before its message or nobody knows the message.

    A cause lists such functions in `STOPS`: library and function → how likely it is, if no message says more.
    """
    frames = symptoms.frames
    decided = any(suspicion.likelihood >= _MEDIUM for suspicion in found)
    if decided:
        return []
    last = frames[-1].line if frames else 0
    ended = any(error.message and error.line >= last for error in symptoms.errors)
    known = {suspicion.id for suspicion in found}
    for frame in (*_called(symptoms), *reversed(frames[-_STOPS:])):
        stopped = [
            Suspicion(
                entry.id,
                f"the text {'ends' if ended else 'breaks off'} in {show(frame.function)} of {show(frame.library)}",
                min(_ENDED, likelihood) if ended else likelihood + _MORE * min(len(_heard(symptoms, entry)), _MANY),
                evidence=(show(" ".join(symptoms.lines[frame.line].split()), _CHARS),),
                fix=Fix(
                    "unsafe",
                    f"{'' if ended else 'paste the end of the traceback; '}if it is this cause: adapterfit explain {entry.id}",
                ),
                apart="the last line of the traceback",
            )
            for entry in all_causes()
            for likelihood in [getattr(entry.module, "STOPS", {}).get((frame.library, frame.function), 0)]
            if likelihood and entry.id not in known
        ]
        if stopped:
            return stopped
    return []


def _called(symptoms: Symptoms) -> Iterable[LogFrame]:
    """What the last frame calls, by the lines of code shown below it, where it is a function that a cause lists."""
    library, first = (symptoms.frames[-1].library, symptoms.frames[-1].line) if symptoms.frames else ("", -1)
    listed = {name: known for entry in all_causes() for known, name in getattr(entry.module, "STOPS", {})}
    for number in range(len(symptoms.lines) - 1, first, -1):
        line = symptoms.lines[number][:_CHARS]
        for found in _CALL.finditer(line):
            inner = bool(symptoms.frames) or found[0].startswith(
                "self."
            )  # without frames, a library's code calls itself
            if inner and found[1] in listed and library in ("", listed[found[1]]):
                yield LogFrame(listed[found[1]], "", found[1], number)


def _hinted(symptoms: Symptoms, found: list[Suspicion]) -> Iterable[Suspicion]:
    """Guesses from words that speak of a cause, below everything that symptoms say, and never more than low."""
    known = {suspicion.id for suspicion in found}
    decided = any(suspicion.likelihood >= _MEDIUM for suspicion in found)
    guessed = [
        (entry, heard)
        for entry in all_causes()
        if entry.id not in known
        for heard in [_heard(symptoms, entry)]
        if heard
    ]
    alike = likeness(symptoms, [entry for entry, _ in guessed]) if len(guessed) > 1 and not decided else {}
    for entry, heard in guessed:
        likelihood = _GUESS * (_BESIDE if decided else 1) + _MORE * min(len(heard), _MANY)
        line = symptoms.lines[max(0, bisect_right(symptoms.starts, heard[0]) - 1)]
        yield Suspicion(
            entry.id,
            f"a guess: {len(heard)} of its words stand in the text",
            likelihood + _ALIKE * alike.get(entry.id, 0.0),
            evidence=(show(" ".join(line.split()), _CHARS),),
            fix=Fix("unsafe", f"if it is this cause: adapterfit explain {entry.id}"),
            apart=f"{detection(entry)}; or paste the whole traceback, or the list of keys: they decide, words do not",
        )


def _heard(symptoms: Symptoms, entry: Entry) -> list[int]:
    """Where a cause's words stand in the text, each once; underscores, hyphens and spaces are one to people who write."""
    words = (hint.translate(_SPACED) for hint in getattr(entry.module, "HINTS", ()))
    return [at for word in dict.fromkeys(words) for at in [_heard_at(_spaced(symptoms.folded), word)] if at >= 0]


@lru_cache(maxsize=2)
def _spaced(folded: str) -> str:
    return folded.translate(_SPACED)


def _heard_at(folded: str, hint: str) -> int:
    """Where a hint stands as a word of its own; -1 where it does not."""
    at = folded.find(hint)
    while at >= 0:
        before, after = folded[at - 1 : at], folded[at + len(hint) : at + len(hint) + 1]
        if not (_latin(before) and hint[0].isalnum()) and not (_latin(after) and hint[-1].isalnum()):
            return at
        at = folded.find(hint, at + 1)
    return -1


def _latin(char: str) -> bool:
    """A letter or digit that goes on with a word of ours; Chinese is written without spaces around it."""
    return char.isalnum() and char < "\u0250"


def _ordered(found: Iterable[Suspicion]) -> tuple[Suspicion, ...]:
    """The best answer of each cause, in order."""
    best: dict[str, Suspicion] = {}
    for suspicion in found:
        known = best.get(suspicion.id)
        if known is None or suspicion.likelihood > known.likelihood:
            best[suspicion.id] = suspicion
    ranked = sorted(best.values(), key=lambda one: -one.likelihood)  # of two alike, the one that a procedure found
    certain = sum(1 for one in ranked if one.likelihood >= _HIGH)
    least = _BESIDE_CERTAIN if certain == 1 else _LEAST
    kept = [one for one in ranked[:_MOST] if one.likelihood >= least]
    return tuple(_worded(one, doubted=certain > 1) for one in kept)


def _worded(one: Suspicion, *, doubted: bool) -> Suspicion:
    likelihood = min(one.likelihood, _DOUBTED) if doubted else one.likelihood
    words = "high" if likelihood >= _HIGH else "medium" if likelihood >= _MEDIUM else "low"
    return dataclasses.replace(one, confidence=words)


def _asking(one: Suspicion) -> Suspicion:
    """An answer that is not certain, with what to look at: the page's own *Detection*, where the cause says nothing nearer."""
    if one.confidence == "high" or one.apart:
        return one
    return dataclasses.replace(one, apart=detection(next(entry for entry in all_causes() if entry.id == one.id)))


def _unread(symptoms: Symptoms, causes: tuple[Suspicion, ...]) -> Iterable[str]:
    """Errors that no cause quotes, and what was too much."""
    if symptoms.left_out:
        yield f"{symptoms.left_out:,} characters in the middle of the text were not read"
    quoted = {line for cause in causes for line in cause.evidence}
    heads = (error for error in symptoms.errors if not (causes and error.message.startswith(_HEADING)))
    lines = dict.fromkeys(error.line for error in heads)
    shown = (show(" ".join(symptoms.lines[line].split()), _CHARS) for line in lines)
    yield from [line for line in shown if line and line not in quoted][:_UNREAD]


# -------------------------------------------------------------------------------------------- the files

#: What the files confirm comes first; what they rule out keeps this part of its likelihood.
_CONFIRMED, _RULED_OUT = 0.97, 0.3


def confirm(diagnosis: Diagnosis, report: Report) -> Diagnosis:
    """The same answers, held against what a check of the files found; errors found there only are added."""
    found = {finding.id: finding for finding in reversed(report.findings)}
    checked = _checked(report)
    held = [_held(one, found.get(one.id), checked) for one in diagnosis.causes]
    known = {one.id for one in held}
    held += [_from_files(f) for name, f in found.items() if f.severity == "error" and name not in known]
    ranked = sorted(held, key=lambda one: (-one.likelihood, one.id))
    return dataclasses.replace(diagnosis, causes=tuple(ranked[:_MOST]), report=report)


def _checked(report: Report) -> set[str]:
    """The causes whose question the files answered."""
    open_questions = {part for item in report.not_checked for part in item.what.split(", ")}
    able = {entry.id for entry in all_causes() if hasattr(entry.module, "check")}
    return able - open_questions if report.diff is not None else set()


def _held(one: Suspicion, finding: Finding | None, checked: set[str]) -> Suspicion:
    if finding is not None:
        return dataclasses.replace(
            one,
            likelihood=_CONFIRMED,
            confidence="high",
            confirmed="yes",
            message=finding.message,
            fix=finding.fix or one.fix,
        )
    if one.id not in checked:
        return one
    likelihood = one.likelihood * _RULED_OUT
    return dataclasses.replace(one, likelihood=likelihood, confidence="low", confirmed="no")


def _from_files(finding: Finding) -> Suspicion:
    sure = {"high": 0.85, "medium": 0.6}.get(finding.confidence, 0.3)
    words = "medium" if sure >= _MEDIUM else "low"
    return Suspicion(finding.id, finding.message, sure, words, fix=finding.fix, confirmed="yes")
