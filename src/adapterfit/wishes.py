"""Repairs that no finding asks for, but the user, or the base's own numbers: beside the pipeline, and imported by `fix` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable

from adapterfit import casting, embeddings, heads
from adapterfit.edits import Edit, SetConfig
from adapterfit.errors import BadEdit
from adapterfit.plans import Step
from adapterfit.record import dataclass
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.plans import Plan
    from adapterfit.read.source import Source
    from adapterfit.records import Report


#: What the word of a user weighs, where nothing else speaks.
_STRENGTH = "no tensor shows it: the adapter is as strong as you say"


@dataclass(frozen=True)
class Wishes:
    """What is wanted beside an adapter that fits.

    `base_name` is to stand in its config; `drop_copies`: weights that the base has anyway are left out. `alpha` was the
    `lora_alpha` of the training, which was divided by the rank, or by its root where it used `rslora`; `dtype` (`F32`, `F16`, `BF16`) is what numbers are to be stored as.
    """

    base_name: str | None = None
    drop_copies: bool = False
    alpha: float | None = None
    dtype: str | None = None
    rslora: bool = False


def ours(
    report: Report,
    cured: Callable[[Report, tuple[Edit, ...]], Report],
    source: Source,
    wishes: Wishes,
    *,
    unsafe: bool,
) -> tuple[Plan, Report]:
    """The plan of cures and wishes, and the report on the adapter after it, on the records.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    from adapterfit.fixing import planned

    first = born(report, cured, wishes)
    return planned(report, cured, unsafe=unsafe, first=first, more=lambda now: steps(now, source, wishes))


def born(report: Report, cured: Callable[[Report, tuple[Edit, ...]], Report], wishes: Wishes) -> tuple[Step, ...]:
    """The step that comes before all cures: a config where there is none, of what the tensors show and the alpha that is told.

    Modules are named by their last names where these select no other, else by their paths.
    """
    from adapterfit.causes.loading.read.adapter_config_missing import shown

    found = shown(report.case.adapter) if wishes.alpha is not None and report.case.adapter.config is None else None
    if found is None:
        return ()
    told = {"lora_alpha": _whole(wishes.alpha or 0), **({"use_rslora": True} if wishes.rslora else {})}
    fields, paths = {**found.fields, **told}, {"target_modules": list(found.modules)}
    scale = (
        "the root of the rank, as --rslora tells" if wishes.rslora else "the rank; --rslora tells that it was its root"
    )
    by_leaf, by_path = (
        tuple(SetConfig(key, value) for key, value in each.items()) for each in (fields, {**fields, **paths})
    )
    return (
        Step(
            "adapter-config-missing",
            "there is no adapter_config.json: the tensors show all of it but the strength, which --alpha tells",
            f"write one, with lora_alpha = {fields['lora_alpha']} divided by {scale}",
            "told",
            by_leaf if _selects_no_other(report, cured, by_leaf) else by_path,
            f"{_STRENGTH}, in every module alike (no alpha_pattern), and its training began at the base's own weights (no PiSSA)",
        ),
    )


def _selects_no_other(
    report: Report, cured: Callable[[Report, tuple[Edit, ...]], Report], edits: tuple[Edit, ...]
) -> bool:
    try:
        diff = cured(report, edits).diff
    except BadEdit:
        return False
    return diff is not None and not any(not slot.optional for slot in diff.missing)


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def steps(now: Report, source: Source, wishes: Wishes) -> tuple[Step, ...]:
    """The steps that come after all cures.

    Args:
        now: The report on the adapter after the cures, on the records.
        source: The adapter's files.
        wishes: What the user asked for.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    return (
        *_named(now, wishes.base_name),
        *_told(now, wishes.alpha),
        *embeddings.steps(now, source, drop_copies=wishes.drop_copies),
        *heads.steps(now),
        *casting.steps(now, source, wishes.dtype),
    )


def _told(now: Report, alpha: float | None) -> Iterator[Step]:
    """Another rank than the config says: what it is divided into, the tensors do not show, but the user told."""
    for found in now.findings if alpha is not None else ():
        if found.id == "rank-mismatch" and found.fix is not None and found.fix.edits:
            set_rank = [edit for edit in found.fix.edits if isinstance(edit, SetConfig)]
            said = ", ".join(f"{edit.key} = {show(edit.value, 200)}" for edit in set_rank)
            told = SetConfig("lora_alpha", _whole(alpha or 0))
            yield Step(
                found.id,
                f"{found.message}; --alpha tells the strength",
                f"set {said} and lora_alpha = {told.value}",
                "told",
                (*set_rank, told),
                _STRENGTH,
            )


def _named(now: Report, name: str | None) -> Iterator[Step]:
    config = now.case.adapter.config
    if name is None or config is None or config.raw.get("base_model_name_or_path") == name:
        return
    old = config.raw.get("base_model_name_or_path")
    was = "no base" if old is None else f"the base {quote(old, 200)}"
    yield Step(
        "base-name-differs",
        f"adapter_config.json names {was}; --base-name asks for {quote(name, 200)}",
        f"set base_model_name_or_path to {quote(name, 200)}",
        "safe",
        (SetConfig("base_model_name_or_path", name),),
    )
