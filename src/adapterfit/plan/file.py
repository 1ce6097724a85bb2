"""A plan as JSON, and back: strictly, since whoever hands it in may have written it by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from adapterfit.edits import Edit
from adapterfit.errors import CannotCheck
from adapterfit.plans import FileHash, Plan, Step
from adapterfit.text import quote

SCHEMA = "adapterfit/plan/v1"
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Edit)}
_HEX = frozenset("0123456789abcdef")


def as_json(plan: Plan) -> dict[str, Any]:
    """What `parse` reads."""
    return {
        "schema": SCHEMA,
        "adapter": plan.adapter,
        "before": plan.before,
        "after": plan.after,
        "steps": [_step_as_json(step) for step in plan.steps],
        "left_out": [_step_as_json(step) for step in plan.left_out],
        "refused": list(plan.refused),
        "remaining": list(plan.remaining),
        "unknown": list(plan.unknown),
        "sources": {name: dataclasses.asdict(found) for name, found in plan.sources.items()},
    }


def _step_as_json(step: Step) -> dict[str, Any]:
    edits = [{"edit": type(edit).__name__, **dataclasses.asdict(edit)} for edit in step.edits]
    return {
        "cause": step.cause,
        "why": step.why,
        "summary": step.summary,
        "safety": step.safety,
        "far": step.far,
        "edits": edits,
    }


# ------------------------------------------------------------------------------------------------ back


def parse(found: object) -> Plan:
    """The plan in a JSON document.

    Raises:
        CannotCheck: It is not a plan, or not of this version.
    """
    whole = _object(found, "the plan")
    if whole.get("schema") != SCHEMA:
        raise CannotCheck(
            f"this is no plan that this version reads: its schema is {quote(whole.get('schema'), 60)}, not {SCHEMA}"
        )
    sources = _object(whole.get("sources"), '"sources"')
    return Plan(
        adapter=_text(whole, "adapter"),
        steps=tuple(_step(one) for one in _list(whole, "steps")),
        left_out=tuple(_step(one) for one in _list(whole, "left_out")),
        refused=tuple(_said(one) for one in _list(whole, "refused")),
        before=_text(whole, "before"),
        after=_text(whole, "after"),
        remaining=tuple(_said(one) for one in _list(whole, "remaining")),
        unknown=tuple(_said(one) for one in _list(whole, "unknown")) if "unknown" in whole else (),
        sources={name: _hash(one) for name, one in sources.items()},
    )


def _step(found: object) -> Step:
    one = _object(found, "a step")
    if one.get("safety") not in ("safe", "told", "unsafe"):
        raise CannotCheck('a step of the plan is neither "safe" nor "told" nor "unsafe"')
    return Step(
        cause=_text(one, "cause"),
        why=_text(one, "why"),
        summary=_text(one, "summary"),
        safety=_text(one, "safety"),
        edits=tuple(_edit(each) for each in _list(one, "edits")),
        far=_text(one, "far"),
    )


def _edit(found: object) -> Edit:
    one = dict(_object(found, "an edit"))
    name = one.pop("edit", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CannotCheck(f"the plan has an edit {quote(name, 60)}, which there is not")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    if one.keys() != fields.keys():
        raise CannotCheck(
            f"the edit {name} of the plan has the fields {sorted(map(str, one))}; {sorted(fields)} are due"
        )
    values = {field: _value(one[field], str(form), f"{name}.{field}") for field, form in fields.items()}
    made: Edit = kind(**values)
    return made


def _value(found: object, form: str, where: str) -> Any:
    """A field's value as its annotation says it."""
    if form == "Any":
        return found
    if form == "str" and isinstance(found, str):
        return found
    if form == "int" and _is_whole(found):
        return found
    if form == "float" and isinstance(found, (int, float)) and not isinstance(found, bool):
        return float(found)
    if isinstance(found, list):
        if form == "tuple[int, ...]" and all(map(_is_whole, found)):
            return tuple(found)
        if form == "tuple[str, ...]" and all(isinstance(one, str) for one in found):
            return tuple(found)
        if form == "tuple[tuple[str, int], ...]" and all(map(_is_piece, found)):
            return tuple((name, size) for name, size in found)
    raise CannotCheck(f"{where} of the plan is {quote(found, 60)}: {form} is due")


def _is_whole(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def _is_piece(found: object) -> bool:
    return isinstance(found, list) and len(found) == 2 and isinstance(found[0], str) and _is_whole(found[1])


def _hash(found: object) -> FileHash:
    one = _object(found, "a source")
    digest, size = one.get("sha256"), one.get("size")
    if not isinstance(digest, str) or len(digest) != 64 or not _HEX.issuperset(digest) or not isinstance(size, int):
        raise CannotCheck("a source of the plan has no size and sha256")
    return FileHash(size, digest)


def _object(found: object, what: str) -> Mapping[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise CannotCheck(f"{what} is no JSON object")
    return found


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key)
    if not isinstance(value, list):
        raise CannotCheck(f'"{key}" of the plan is no list')
    return value


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise CannotCheck(f'"{key}" of the plan is no text')
    return value


def _said(found: object) -> str:
    if not isinstance(found, str):
        raise CannotCheck("the plan has a sentence that is no text")
    return found
