"""A plan that was saved, beside what would be planned now: somebody may have edited it, or the base may be another one.

Its edits are carried out as they are. That they are safe is believed of those only that come out again for this adapter and
this base; what is compared with the base's numbers is compared anew. Beside the pipeline, and imported by `fix` alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

from adapterfit.edits import Cast, Edit, SetConfig
from adapterfit.errors import CannotCheck
from adapterfit.fixing import described, with_what_stays
from adapterfit.plan.file import as_json
from adapterfit.plans import Plan, Step
from adapterfit.text import quote, shorten
from adapterfit.wishes import Wishes, ours

if TYPE_CHECKING:
    from adapterfit.read.source import Source
    from adapterfit.records import Report

_NOT_OURS = "the plan calls it {}; it is not what is planned for this adapter and this base now"


def believed(
    plan: Plan,
    report: Report,
    cured: Callable[[Report, tuple[Edit, ...]], Report],
    source: Source,
    *,
    unsafe: bool,
) -> tuple[Plan, Report]:
    """The saved plan's steps, each as safe as it would be called now; and the report after them, on the records.

    Args:
        plan: What was read from a file, or made before.
        report: The check of the adapter.
        cured: Gives the report on the adapter as it would be after edits.
        source: The adapter's files.
        unsafe: Whether steps are taken that are not provably without effect.

    Raises:
        CannotCheck: The plan has such steps and `unsafe` is not said, or it would end otherwise than it says.
        BadEdit: An edit cannot be carried out.
    """
    risky = [step for step in plan.steps if step.safety == "unsafe"]
    if risky and not unsafe:
        raise CannotCheck(f"the plan has unsafe steps ({_causes(risky)}): add --unsafe to carry them out")
    wishes = _wishes(plan)
    now = [ours(report, cured, source, wishes, unsafe=one)[0] for one in ((False, True) if unsafe else (False,))]
    known = {_content(step): step for one in reversed(now) for step in one.steps}
    foreign = [step for step in plan.steps if _content(step) not in known]
    if foreign and not unsafe:
        raise CannotCheck(
            f"the plan has steps that are not what is planned for this adapter, base and versions now ({_causes(foreign)}):"
            " make a new plan, or add --unsafe to carry them out"
        )
    after = cured(report, plan.edits)
    after = after if unsafe else with_what_stays(report, after)
    if after.verdict != plan.after:
        raise CannotCheck(
            f"the plan says that it ends as {quote(plan.after, 40)}, but with this base and these versions it would end as"
            f" {quote(after.verdict)}: make a new plan"
        )
    steps = [known.get(_content(step)) or _foreign(step) for step in plan.steps]
    return dataclasses.replace(described(report, steps, after, now[-1].left_out), sources=plan.sources), after


def _content(step: Step) -> str:
    """What a step does, whatever it says of itself."""
    return json.dumps([step.cause, as_json(Plan("", (step,)))["steps"][0]["edits"]], sort_keys=True)


def _foreign(step: Step) -> Step:
    return dataclasses.replace(step, safety="unsafe", far=_NOT_OURS.format(quote(step.safety)))


def _causes(steps: list[Step]) -> str:
    return shorten(quote(step.cause, 60) for step in steps)


def _wishes(plan: Plan) -> Wishes:
    """What was asked for when the plan was made, as far as its steps show it."""
    told = {edit.key: edit.value for step in plan.steps if step.safety == "told" for edit in _settings(step)}
    names = [edit.value for step in _of(plan, "base-name-differs") for edit in _settings(step)]
    types = [edit.dtype for step in _of(plan, "dtype-wished") for edit in step.edits if isinstance(edit, Cast)]
    return Wishes(
        base_name=next((name for name in names if isinstance(name, str)), None),
        drop_copies=any(_of(plan, "embeddings-saved-needlessly")),
        alpha=_positive(told.get("lora_alpha")),
        dtype=next(iter(types), None),
        rslora=told.get("use_rslora") is True,
    )


def _of(plan: Plan, cause: str) -> Iterator[Step]:
    return (step for step in plan.steps if step.cause == cause)


def _settings(step: Step) -> Iterator[SetConfig]:
    return (edit for edit in step.edits if isinstance(edit, SetConfig))


def _positive(found: Any) -> float | None:
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    return found if is_number and found > 0 else None
