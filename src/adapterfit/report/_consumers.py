"""The engines that were asked for, as words: one row each for a table, and the details of a few."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, NamedTuple

from adapterfit import limits
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from adapterfit.answers import Answer, Effect
    from adapterfit.records import Report

HEAD = ("engine", "accepted", "applied", "scale", "note")
#: From this width on the note stands in a column of its own, else below its row.
_WIDE = 90
#: Engines that are told about in full; more are told about in the table only.
_FEW = 3
_NOTE = 160
_ACCEPTED = {"yes": "yes", "with-flags": "flags", "no": "no", "unknown": "?"}
#: What an engine does → its style on a terminal.
STYLES = {"loads": "green", "cannot-tell": "dim", "raises": "red"}
_BAD = "bold red"
#: What an engine does → a sentence about it.
OUTCOMES = {
    "loads": "applies it as PEFT does",
    "loads-partly": "accepts it, and applies only a part of it",
    "loads-differently": "accepts it, and computes something else than was trained",
    "loads-without-effect": "accepts it, and answers as the base does",
    "raises": "refuses it",
    "cannot-tell": "cannot be told",
}


class Row(NamedTuple):
    """One engine, in the words of the table; everything is safe to print."""

    engine: str
    accepted: str
    applied: str
    scale: str
    note: str
    style: str = ""


def rows(report: Report) -> list[Row]:
    """One row per engine, in the order they were asked for."""
    return [_row(answer) for answer in report.consumers]


def _row(answer: Answer) -> Row:
    accepted = _ACCEPTED.get(answer.accepted, "?")
    style = STYLES.get(answer.predicted, _BAD)
    return Row(title(answer), accepted, _applied(answer), _scale(answer), _note(answer), style)


def title(answer: Answer) -> str:
    """Its name and version, as people write them."""
    return f"{show(answer.title)} {show(answer.version)}".strip()


def _applied(answer: Answer) -> str:
    if answer.predicted == "raises":
        return "-"
    if answer.applied is None:
        return "?"
    if answer.predicted == "loads-without-effect" or not answer.applied:
        return "none"
    return "all" if answer.applied == answer.tensors else f"{answer.applied}/{answer.tensors}"


def _scale(answer: Answer) -> str:
    """The engine's scale ÷ PEFT's: `same`, `x0.25`, `x0.25..1`."""
    if answer.predicted in ("raises", "loads-without-effect"):
        return "-"
    values = [ratio.value for ratio in answer.ratios]
    known = sorted(value for value in values if value is not None)
    if not values or len(known) < len(values):
        return "?"
    low, high = (f"{value:.3g}" for value in (known[0], known[-1]))
    return "same" if low == high == "1" else f"x{low}" if low == high else f"x{low}..{high}"


def _note(answer: Answer) -> str:
    if answer.predicted == "cannot-tell":
        return show(next((gap.why.partition("; ")[0] for gap in answer.not_checked), ""), _NOTE)
    flags = [effect for effect in answer.effects if effect.kind == "flags" and answer.predicted == "loads"]
    told = answer.deciding or flags or answer.effects
    note = show("; ".join(dict.fromkeys(effect.message for effect in told)), _NOTE)
    return f"{note}; cure: {_words(answer)}" if answer.cure else note


def _words(told: Answer | Effect) -> str:
    """A cure without the line to be run."""
    return show(told.cure.removesuffix(f": {told.run}"), limits.REPORT_MESSAGE_CHARS)


# ------------------------------------------------------------------------------------------------ lines


def lines(report: Report, width: int) -> Iterator[tuple[str, str]]:
    """The table, and the details where few engines were asked for, as lines with their styles."""
    if not report.consumers:
        return
    yield from (("", ""), ("Engines:", ""))
    yield from table(rows(report), width)
    told = [answer for answer in report.consumers if answer.asked]
    told = told if len(told) <= _FEW else []
    yield from _cures([answer for answer in report.consumers if answer not in told], width)
    for answer in told:
        yield from _details(answer, width)
    if len(report.consumers) > len(told):
        more = "--for NAME says more about one of them: its own line, where that is known from, how to load it"
        yield ("", "")
        yield from ((f"  {line}", "dim") for line in textwrap.wrap(more, width - 2))


def _cures(answers: Iterable[Answer], width: int) -> Iterator[tuple[str, str]]:
    """The lines that cure it for engines of which no details are told, each once."""
    engines: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.run:
            engines.setdefault(answer.run, []).append(answer)
    if engines:
        yield from (("", ""), ("Cures:", ""))
    for run, cured in engines.items():
        who = f"{_words(cured[0])}, for {', '.join(show(answer.title) for answer in cured)}"
        yield from ((f"  {line}", "") for line in textwrap.wrap(who, width - 2, break_long_words=False))
        yield from ((f"    {line}", "bold") for line in _command(run, width - 4))


def _command(run: str, width: int) -> Iterator[str]:
    """A line for a shell, continued on the next where it is too long; what is quoted is never torn."""
    line = ""
    for word in (show(shlex.quote(word), limits.REPORT_MESSAGE_CHARS) for word in shlex.split(run)):
        if line and len(line) + len(word) + 3 > width:
            yield f"{line} \\"
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line


def outcomes(report: Report, width: int) -> Iterator[tuple[str, str]]:
    """What each engine asked for by name does, in a line each: it belongs to the verdict."""
    for answer in report.consumers:
        if answer.asked:
            text = f"{title(answer)}: {OUTCOMES[answer.predicted]}"
            yield (textwrap.shorten(text, width), STYLES.get(answer.predicted, _BAD))


def table(found: Sequence[Row], width: int) -> Iterator[tuple[str, str]]:
    """Rows in columns of at most `width` cells; where there is no room for the note it stands below."""
    columns = [max(len(row[at]) for row in (HEAD, *found)) for at in range(4)]
    margin = 2 + sum(columns) + 2 * 4
    wide = width >= _WIDE and width - margin >= 30
    head = HEAD if wide else HEAD[:4]
    yield (_columns(head, columns), "bold")
    for row in found:
        note = textwrap.wrap(row.note, width - margin if wide else width - 6, break_long_words=False)
        first = note[:1] if wide else []
        yield (_columns((*row[:4], *first), columns), row.style)
        indent = " " * (margin if wide else 6)
        yield from ((f"{indent}{line}", "") for line in note[len(first) :])


def _columns(cells: Sequence[str], columns: Sequence[int]) -> str:
    padded = [f"{cell:<{columns[at]}}" if at < len(columns) else cell for at, cell in enumerate(cells)]
    return f"  {'  '.join(padded)}".rstrip()


def _details(answer: Answer, width: int) -> Iterator[tuple[str, str]]:
    outcome = OUTCOMES[answer.predicted]
    yield from (("", ""), (f"{title(answer)}: {outcome}", STYLES.get(answer.predicted, _BAD)))
    for effect in answer.effects:
        if answer.predicted != "cannot-tell" or effect.kind == "note":
            yield from _effect(effect, width)
    yield from _scales(answer)
    for line in answer.launch:
        yield (f"  load it     {show(line, limits.REPORT_MESSAGE_CHARS)}", "bold")
    for gap in answer.not_checked:
        yield from _wrapped("not checked", f"{show(gap.what)}: {show(gap.why, limits.REPORT_MESSAGE_CHARS)}", width)


def _effect(effect: Effect, width: int) -> Iterator[tuple[str, str]]:
    label = {"refused": "refused", "dropped": "falls away", "note": "note"}.get(effect.kind, effect.kind)
    yield from _wrapped(label, show(effect.message, limits.REPORT_MESSAGE_CHARS), width)
    if effect.says:  # never wrapped: people search their logs for it
        yield (f"  its line    {show(effect.says, limits.REPORT_MESSAGE_CHARS)}", "red")
    if effect.at and effect.kind != "scaled":
        yield (f"  at          {shorten(effect.at, 2)}", "")
    if effect.cure:
        yield from _wrapped("cure", _words(effect), width)
        if effect.run:  # on a line of its own, to be copied
            yield (f"  run         {show(effect.run, limits.REPORT_MESSAGE_CHARS)}", "bold")
    if effect.source:
        yield from _wrapped("known from", f"{show(effect.source)} ({effect.mark} {effect.date})", width, "dim")


def _scales(answer: Answer) -> Iterator[tuple[str, str]]:
    """The scales that differ, one line for each value."""
    by_value: dict[str, list[str]] = {}
    for ratio in answer.ratios:
        if ratio.value is not None and ratio.served is not None and f"{ratio.value:.6g}" != "1":
            told = f"{ratio.served:.4g} instead of {ratio.trained:.4g}"
            by_value.setdefault(told, []).append(ratio.module)
    for told, modules in by_value.items():
        yield (f"  scale       {told}: {shorten(modules, 2)}", "")


def _wrapped(label: str, text: str, width: int, style: str = "") -> Iterable[tuple[str, str]]:
    wrapped = textwrap.wrap(text, max(width - 14, 30), break_long_words=False, break_on_hyphens=False)
    return [(f"  {'' if at else label:<12}{line}", style) for at, line in enumerate(wrapped)]
