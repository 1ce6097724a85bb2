"""Faces of a repair: the plan and the outcome for people, and receipt.json."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from adapterfit import limits
from adapterfit.edits import OF_CONFIG, Drop, Extend, Gather, Rename, SetConfig, SetFormat, makes, uses
from adapterfit.plan.file import as_json as plan_as_json
from adapterfit.report._words import VERDICTS
from adapterfit.report.text import Line, _wrap, paint
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from adapterfit.edits import Edit
    from adapterfit.plans import Plan, Proof, Receipt, Step

SCHEMA = "adapterfit/receipt/v1"
_WIDTHS = (40, 120)
#: Lines of edits shown of one step.
_EDITS = 12
_SIGNS = {"Drop": "-", "DropConfig": "-", "Fill": "+", "Copy": "+"}
_STYLES = {"proven": "green", "failed": "bold red", "not-checked": "yellow"}


# ------------------------------------------------------------------------------------------------ receipt.json


def document(receipt: Receipt) -> dict[str, Any]:
    """The receipt as plain JSON values. It names no time: the same repair gives the same receipt."""
    return {
        "schema": SCHEMA,
        "versions": dict(receipt.versions),
        "plan": plan_as_json(receipt.plan),
        "files": dict(receipt.files),
        "before": {name: dataclasses.asdict(found) for name, found in receipt.before.items()},
        "after": {name: dataclasses.asdict(found) for name, found in receipt.after.items()},
        "proof": [dataclasses.asdict(one) for one in receipt.proof.shown],
    }


def as_text(receipt: Receipt, **more: str) -> str:
    """receipt.json; `more` are fields that stand in what is printed only."""
    return json.dumps({**document(receipt), **more}, indent=2, ensure_ascii=True) + "\n"


# ------------------------------------------------------------------------------------------------ for people


def render_plan(plan: Plan, *, width: int = 80, colour: bool = False) -> str:
    """What would be done, why, what stays, and what would still be wrong."""
    width = min(max(width, _WIDTHS[0]), _WIDTHS[1])
    return _painted(list(_plan(plan, width)), colour=colour)


def render(receipt: Receipt, *, width: int = 80, colour: bool = False) -> str:
    """What was done, and the proof of it."""
    width = min(max(width, _WIDTHS[0]), _WIDTHS[1])
    lines = list(_plan(receipt.plan, width))
    if receipt.out:
        lines += [Line(""), *_wrap(f"Written: {show(receipt.out, None)}", width, style="bold green")]
        lines += _proof(receipt.proof, width)
        for name, fate in receipt.files.items():
            if fate.startswith("left out"):
                lines += _wrap(f"{show(name)}: {show(fate)}", width, "  ", "yellow")
        for name in receipt.swept:
            lines += _wrap(f"removed {quote(name)}, left by a repair that was killed", width, "  ", "yellow")
    return _painted(lines, colour=colour)


def _proof(proof: Proof, width: int) -> Iterator[Line]:
    """What was looked at, one line each, what was not looked at last."""
    for outcome, title in (("proven", "Proven:"), ("not-checked", "Not checked:")):
        shown = [one for one in proof.shown if one.outcome == outcome]
        yield from _wrap(title, width, "  ", _STYLES[outcome]) if shown else ()
        for one in shown:
            yield from _wrap(show(one.detail, 300), width, "    ")


def _painted(lines: list[Line], *, colour: bool) -> str:
    return paint(lines) if colour else "".join(f"{line.text}\n" for line in lines)


def _plan(plan: Plan, width: int) -> Iterator[Line]:
    if not plan.steps:
        yield from _nothing(plan, width)
    for step in plan.steps:
        yield from _step(step, width)
        yield Line("")
    if plan.steps:
        yield from _wrap(f"Stays as it is: {_untouched(plan)}", width)
        after = plan.after.replace("-", " ").upper()
        yield from _wrap(f"After it: {after}: {VERDICTS.get(plan.after, '')}", width, style="bold")
    title = "It would still be wrong:" if plan.steps else "What is wrong:"
    yield from _list(title, plan.remaining, width, "red")
    yield from _list("Refused, as it can be read in more than one way:", plan.refused, width, "yellow")
    taken = [f"{step.cause}: {step.summary}{_far(step)}" for step in plan.left_out]
    yield from _list(
        "Left out, as it may change what the adapter computes (--unsafe takes it):", taken, width, "yellow"
    )


def _nothing(plan: Plan, width: int) -> Iterator[Line]:
    if plan.before == "fits":
        yield from _wrap("Nothing to do: the adapter fits", width, style="bold green")
    elif plan.remaining or plan.left_out or plan.refused:
        yield from _wrap("No safe repair is known; nothing is written", width, style="bold red")
    elif plan.before == "cannot-tell":
        said = "Nothing that can be mended was found; but whether the adapter fits cannot be told"
        yield from _wrap(said + ("" if plan.unknown else ": adapterfit check says why"), width, style="bold yellow")
        yield from _list("Why:", plan.unknown, width, "yellow")
    else:
        yield from _wrap("Nothing to do: nothing that can be mended was found", width, style="bold")


def _list(title: str, entries: Iterable[str], width: int, style: str) -> Iterator[Line]:
    listed = list(entries)
    if listed:
        yield from (Line(""), *_wrap(title, width, style=style))
    for entry in listed[: limits.REPORT_FINDINGS]:
        yield from _wrap(show(entry, limits.REPORT_MESSAGE_CHARS), width, "  ")
    if len(listed) > limits.REPORT_FINDINGS:
        yield Line(f"  … and {len(listed) - limits.REPORT_FINDINGS:,} more")


def _step(step: Step, width: int) -> Iterator[Line]:
    style = "bold green" if step.safety == "safe" else "bold yellow"
    safety = "as you told" if step.safety == "told" else step.safety
    yield Line(f"{show(step.cause)} ({safety}{_far(step)})", style)
    yield from _wrap(f"because {show(step.why, limits.REPORT_MESSAGE_CHARS)}", width, "  ")
    lines = list(grouped(step.edits))
    for sign, text in lines[:_EDITS]:
        yield from _wrap(f"{sign} {text}", width, "    ")
    if len(lines) > _EDITS:
        yield Line(f"    … and {len(lines) - _EDITS:,} more kinds of edits (--plan-file lists them all)")


def _far(step: Step) -> str:
    if step.safety == "safe":
        return ""
    return f": {show(step.far, 300)}" if step.far else ": how far it goes is not known"


def _untouched(plan: Plan) -> str:
    edits = plan.edits
    named = {name for edit in edits if not isinstance(edit, Rename) for name in (*uses(edit), *makes(edit))}
    config = sum(isinstance(edit, OF_CONFIG) for edit in edits)
    parts = ["the adapter itself", "every other file of its folder"]
    if named:
        parts.append("every tensor that is not named above")
    elif any(isinstance(edit, (Rename, SetFormat)) for edit in edits):
        parts.append("every number of every tensor")
    else:
        parts.append("the weights file")
    parts.append("every other field of adapter_config.json" if config else "adapter_config.json")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------ edits


def grouped(edits: Iterable[Edit]) -> Iterator[tuple[str, str]]:
    """Edits as lines, (sign, text): those that follow one pattern are one line with their number and an example."""
    groups: dict[tuple[str, ...], list[Edit]] = {}
    for edit in edits:
        groups.setdefault(_pattern(edit), []).append(edit)
    for (kind, *_), alike in groups.items():
        text = _said(alike[0])
        yield _SIGNS.get(kind, "~"), text if len(alike) == 1 else f"{len(alike):,} times: {text}"


def _pattern(edit: Edit) -> tuple[str, ...]:
    """What edits of one line have in common: of renames, what goes and what comes; of others, all but the names."""
    kind = type(edit).__name__
    if isinstance(edit, Rename):
        return (kind, *_difference(edit.old, edit.new))
    if isinstance(edit, OF_CONFIG):
        return (kind, edit.key)
    if isinstance(edit, Drop):
        return (kind,)
    rest = {
        key: value for key, value in dataclasses.asdict(edit).items() if key not in ("name", "names", "new", "into")
    }
    return (kind, repr(rest))


def _difference(old: str, new: str) -> tuple[str, str]:
    """The middle parts in which two names differ."""
    shortest = min(len(old), len(new))
    start = next((at for at in range(shortest) if old[at] != new[at]), shortest)
    end = next((at for at in range(shortest - start) if old[-1 - at] != new[-1 - at]), shortest - start)
    return old[start : len(old) - end], new[start : len(new) - end]


def _said(edit: Edit) -> str:
    if isinstance(edit, Rename):
        return f"rename {quote(edit.old)} to {quote(edit.new)}"
    if isinstance(edit, SetConfig):
        return f"adapter_config.json: {show(edit.key)} = {show(json.dumps(edit.value, default=str))}"
    if isinstance(edit, OF_CONFIG):
        return f"adapter_config.json: without {show(edit.key)}"
    if isinstance(edit, Gather):
        return f"take the whole tensors of {', '.join(quote(name) for name in edit.files)} as the weights"
    if isinstance(edit, Extend):
        return f"fill up {quote(edit.name)} with the base's own last {edit.rows:,} rows, of {quote(edit.file)}"
    if isinstance(edit, SetFormat):
        return "write the weights as adapter_model.safetensors"
    values = dataclasses.asdict(edit)
    told = ", ".join(f"{key} {show(value, 120)}" for key, value in values.items() if key not in ("name", "names"))
    return f"{type(edit).__name__.lower()} {', '.join(quote(name) for name in uses(edit)) or 'new'}{': ' if told else ''}{told}"
