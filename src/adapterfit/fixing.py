"""The last three stages composed: plan ──► repair ──► verify. Beside the pipeline; a check that finds nothing wrong needs none of it."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Callable

from adapterfit.edits import OF_CONFIG, Edit, Extend
from adapterfit.errors import BadEdit, BadInput, CannotCheck, NotProven
from adapterfit.plan.cures import apart, cures, readings, stays
from adapterfit.plans import FileHash, Plan, Proof, Receipt, Shown, Step, chained
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from adapterfit.read.source import Source
    from adapterfit.records import Adapter, Finding, Report
    from adapterfit.repair.folder import Contents
    from adapterfit.repair.staging import Staging

#: A cure may bring to light what it hid; more turns than this mean that cures undo each other.
_ROUNDS = 5
#: Verdicts after which a copy is worth writing: it fits, or, without a base, as far as can be told.
_WORTH_WRITING = ("fits", "cannot-tell")
#: The question, among those that a check leaves open.
_FITS = "whether it fits"
Retried = Callable[["Report", tuple[Edit, ...]], "Report"]


def planned(
    report: Report,
    cured: Retried,
    *,
    unsafe: bool = False,
    first: Iterable[Step] = (),
    more: Callable[[Report], Iterable[Step]] | None = None,
) -> tuple[Plan, Report]:
    """The cures after which nothing more can be mended; and the report on the adapter after them, on the records alone.

    Args:
        report: The check that is to be mended.
        cured: Gives the report on an adapter as it would be after edits.
        unsafe: Whether to take cures too that are not provably without effect.
        first: Steps that come before the cures.
        more: Steps that no finding asks for, made from the report after the cures.
    """
    steps: list[Step] = []
    left_out: dict[str, Step] = {}
    impossible: list[str] = []
    steps, now = _possible(report, cured, steps, list(first), impossible) or (steps, report)
    for _ in range(_ROUNDS):
        offered = cures(now)
        left_out.update({step.cause: step for step in offered if step.safety == "unsafe" and not unsafe})
        fresh = [step for step in apart(offered, unsafe=unsafe) if step not in steps]
        kept, now = _possible(report, cured, steps, fresh, impossible) or (steps, now)
        if len(kept) == len(steps):
            break
        steps = kept
    wished = list(more(now)) if more is not None else []
    left_out.update({step.cause: step for step in wished if step.safety == "unsafe" and not unsafe})
    taken_too = [step for step in wished if step.safety != "unsafe" or unsafe]
    steps, now = _possible(report, cured, steps, taken_too, impossible) or (steps, now)
    now = now if unsafe else with_what_stays(report, now)
    return described(report, steps, now, left_out.values(), impossible), now


def with_what_stays(report: Report, now: Report) -> Report:
    """The report after cures; one that took away what another cause was seen by, such as fields that date the config, cured only itself."""
    if now.verdict != "fits" or not any(map(stays, report.findings)):
        return now
    return dataclasses.replace(now, verdict="does-not-fit", findings=(*now.findings, *filter(stays, report.findings)))


def described(
    report: Report, steps: Sequence[Step], now: Report, left_out: Iterable[Step], impossible: Iterable[str] = ()
) -> Plan:
    """The plan of these steps, with what the reports before and after them say."""
    taken = {step.cause for step in steps}
    return Plan(
        adapter=report.case.adapter.label,
        steps=tuple(steps),
        left_out=tuple(step for step in left_out if step.cause not in taken),
        refused=(*readings(now), *dict.fromkeys(impossible)),
        before=report.verdict if report.verdict != "fits-after-fix" else "does-not-fit",
        after=now.verdict,
        remaining=tuple(_still(found) for found in now.findings if found.severity == "error"),
        unknown=tuple(one.why for one in now.not_checked if _FITS in one.what) if now.verdict == "cannot-tell" else (),
    )


def _still(found: Finding) -> str:
    """What is wrong, and what a person can do about it where no edits can."""
    by_hand = found.fix is not None and not found.fix.edits and not found.fix.readings
    return f"{found.id}: {found.message}" + (f". By hand: {found.fix.summary}" if found.fix and by_hand else "")


def _possible(
    report: Report, cured: Retried, steps: list[Step], fresh: list[Step], impossible: list[str]
) -> tuple[list[Step], Report] | None:
    """The steps with those of the fresh ones that can be carried out after them, and the report then."""
    if not fresh:
        return None
    try:
        return [*steps, *fresh], cured(report, chained([*steps, *fresh]))
    except BadEdit:
        pass
    kept, now = list(steps), None
    for step in fresh:  # one of them cannot be carried out: which one?
        try:
            now = cured(report, chained([*kept, step]))
        except BadEdit as bad:
            impossible.append(f"{step.cause}: {bad}")
        else:
            kept.append(step)
    return (kept, now) if now is not None else None


# ------------------------------------------------------------------------------------------------ fix


def fix(
    adapter: str | os.PathLike[str],
    base: Any = None,
    out: str | os.PathLike[str] | None = None,
    plan: Plan | None = None,
    *,
    unsafe: bool = False,
    consumer: str | None = None,
    online: bool = False,
    base_class: str | None = None,
    exact: bool = False,
    python: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    loader: str | None = None,
    base_name: str | None = None,
    drop_copies: bool = False,
    alpha: float | None = None,
    dtype: str | None = None,
    rslora: bool = False,
) -> Receipt:
    """Mend an adapter: plan, write a new folder, prove it. The adapter itself is only read.

    Nothing is written where there is nothing to do, where the copy would still not fit, or where the proof fails.

    Args:
        adapter: A folder, a file, or `hf://owner/name`.
        base: As for `check`.
        out: The folder to write, which must not exist yet; without it the plan is made, and nothing is written.
        plan: A plan made before (`Receipt.plan`, or read from a file): exactly that is carried out.
        unsafe: Whether to take cures too that are not provably without effect.
        consumer: Who will load it, as for `check`.
        online: Whether the network may be asked.
        base_class: The transformers class the base is loaded as.
        exact: Whether the installed PEFT, too, must load what was written.
        python: The Python whose PEFT that is; this one by default.
        progress: Called with bytes written and bytes to write in all.
        loader: The call that loads, as for `check`.
        base_name: What `base_model_name_or_path` is to say.
        drop_copies: Whether to leave out weights that the base has anyway, number for number.
        alpha: The `lora_alpha` of the training, where the config is missing or has another rank than the tensors.
        dtype: What numbers are to be stored as: `F32`, `F16` or `BF16`.
        rslora: Whether the training used rsLoRA, which divides `alpha` by the root of the rank; where the config is missing.

    Raises:
        CannotCheck: A path is not there, cannot be read, changed meanwhile, or is not what a plan is about.
        CannotWrite: `out` is taken, forbidden, or has not enough room.
        NotProven: What was written is not what was planned; it was removed.
    """
    from adapterfit import pipeline
    from adapterfit.read.adapter import read_adapter
    from adapterfit.read.locate import locate
    from adapterfit.read.sources.joined import with_parts
    from adapterfit.repair.hashes import hashed
    from adapterfit.saved import believed
    from adapterfit.wishes import Wishes, ours

    with contextlib.closing(with_parts(locate(str(adapter), kind="adapter", online=online))) as source:
        found = read_adapter(source)
        report = pipeline.check(found, base, consumer, online=online, base_class=base_class, loader=loader)
        if plan is not None:
            if not plan.steps:
                return Receipt(_nothing_asked(plan, report))
            _must_be_of(plan, source)
            made, after = believed(plan, report, pipeline.cured, source, unsafe=unsafe)
        else:
            wishes = Wishes(base_name, drop_copies, alpha, dtype, rslora)
            made, after = ours(report, pipeline.cured, source, wishes, unsafe=unsafe)
            if out is None and made.steps:
                made = dataclasses.replace(made, sources=hashed(source, source.names()))
        if out is None or not made.steps or not _is_worth_writing(made, after):
            return Receipt(made)
        work = _Work(_with_base(source, report, made), report, made, base_class, exact, python)
        return work.carried_out(out, [str(adapter), *([base] if isinstance(base, str) else [])], progress)


def _with_base(source: Source, report: Report, plan: Plan) -> Source:
    """The adapter's files, and the base's where the plan takes rows of them."""
    if not any(isinstance(edit, Extend) for edit in plan.edits):
        return source
    from adapterfit.read.sources.with_base import WithBase

    base = report.case.base
    if base is None or base.opened is None:
        raise CannotCheck("the plan takes rows of the base's weights: give the base with them (--base)")
    return WithBase(source, base.opened)


def _is_worth_writing(plan: Plan, after: Report) -> bool:
    """It fits, or as far as can be told; or the user asked for what can be saved, and that at least loads."""
    saved = any(step.safety == "unsafe" for step in plan.steps) and after.predicted != "raises"
    return plan.after in _WORTH_WRITING or saved


def _nothing_asked(plan: Plan, report: Report) -> Plan:
    """A plan without steps: what it says of the adapter is not believed, as somebody may have taken its steps out."""
    if report.verdict != "fits":
        verdict = report.verdict.replace("-", " ").upper()
        raise CannotCheck(
            f"the plan has no steps, so nothing is written; a check of the adapter as it is says {verdict}: make a new plan with --plan"
        )
    return dataclasses.replace(plan, before="fits", after="fits", left_out=(), refused=(), remaining=(), unknown=())


def _must_be_of(plan: Plan, source: Source) -> None:
    """Whether it is about the files that are there."""
    from adapterfit.repair.hashes import hashed

    now = hashed(source, source.names())
    differing = sorted(name for name in now.keys() | plan.sources.keys() if now.get(name) != plan.sources.get(name))
    if differing:
        raise CannotCheck(
            f"the adapter is not the one that the plan was made for: {shorten(map(quote, differing))} differ; make a new plan"
        )


@dataclasses.dataclass(frozen=True)
class _Work:
    """One repair on its way."""

    source: Source
    report: Report
    plan: Plan
    base_class: str | None
    exact: bool
    python: str | None

    def carried_out(
        self, out: str | os.PathLike[str], read: list[str], progress: Callable[[int, int], None] | None
    ) -> Receipt:
        from adapterfit.repair.folder import room, write, write_receipt
        from adapterfit.repair.hashes import hashing
        from adapterfit.repair.staging import Staging, summed
        from adapterfit.report._receipt import as_text

        contents = self._contents()
        needed = room(contents, self.source)
        # The old files are hashed, the new ones written, read back, hashed and synced, all at the same time.
        staging = Staging(out, apart_from=_local(read), room=needed, progress=summed(progress, needed), follow=True)
        with staging as stage, hashing(self.source, self.source.names()) as old:
            write(stage, self.source, contents)
            proof, before, after = self._proof(stage, contents, old)
            if not proof.holds:
                wrong = "; ".join(one.detail for one in proof.shown if one.outcome == "failed")
                raise NotProven(f"the repaired copy is not what was planned, and was removed: {show(wrong, 500)}")
            receipt = Receipt(
                plan=dataclasses.replace(self.plan, sources=before),
                out=str(stage.out),
                files=contents.fates(),
                before=before,
                after=after,
                proof=proof,
                versions=_versions(),
                swept=stage.swept,
            )
            write_receipt(stage, as_text(receipt))
            stage.settle()
            for name in self.source.names():
                self.source.size(name)  # raises where it is not the file that was read
            stage.publish(_folder_mode(read[0]))
        return receipt

    def _contents(self) -> Contents:
        from adapterfit.plan.apply import changed_config, rewrites, taken
        from adapterfit.plan.making import made
        from adapterfit.repair.folder import Contents

        adapter, edits = self.report.case.adapter, self.plan.edits
        touches_config = any(isinstance(edit, OF_CONFIG) for edit in edits)
        tensors = made(taken(adapter, edits), edits) if rewrites(edits) else None
        fields = changed_config(_raw(adapter), edits) if touches_config else None
        unread = {flaw.where or self.source.label: flaw.message for flaw in self.source.flaws}
        joined = getattr(self.source, "joined", {})
        return Contents(adapter, tensors, fields, self._stamp(), self.source.names(), unread, joined)

    def _stamp(self) -> bytes | None:
        """The stamp beside the adapter, as it tells of the copy; None where there is none, or it stays."""
        import json

        from adapterfit.pipeline import reparse
        from adapterfit.plan.apply import restamped
        from adapterfit.read.stamp import as_json

        old = self.report.case.adapter.stamp
        new = restamped(self.report.case.adapter, self.plan.edits, reparse)
        if old is None or new is None or as_json(old) == as_json(new):
            return None
        return (json.dumps(as_json(new), indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()

    def _proof(
        self, stage: Staging, contents: Contents, old_hashes: Callable[[], dict[str, FileHash]]
    ) -> tuple[Proof, dict[str, FileHash], dict[str, FileHash]]:
        """Look at the staged folder as at any other adapter, and at its bytes beside the source's; the hashes of both."""
        from adapterfit.plan.apply import taken
        from adapterfit.read.adapter import read_adapter
        from adapterfit.read.sources.folder import FolderSource
        from adapterfit.repair.hashes import hashing
        from adapterfit.verify.accounting import account, configured, copied
        from adapterfit.verify.reading import by_safetensors

        shown: list[Shown] = []
        written = FolderSource(stage.folder)
        with contextlib.closing(written), hashing(written, written.names(), stage.hashes()) as new_hashes:
            found = read_adapter(written)
            if contents.made is not None:
                old = taken(self.report.case.adapter, self.plan.edits)
                said = (_metadata(self.report.case.adapter), _metadata(found))
                shown.append(account(self.source, old, written, found.tensors, self.plan.edits, said))
            if contents.fields is not None:
                shown.append(configured(_raw(self.report.case.adapter), _raw(found), self.plan.edits))
            shown.append(self._delta(written, found))
            again = self._again(found)
            shown.append(_checked(again, self.plan))
            if found.weights is not None and found.weights.format == "safetensors":
                shown.append(by_safetensors(f"{stage.folder}/{found.weights.file}", found.tensors))
            shown.append(_judged(again))
            before, after = old_hashes(), new_hashes()
            shown.insert(0, copied(contents.fates(), before, after))
        return Proof(tuple(shown)), before, after

    def _again(self, found: Adapter) -> Report:
        """The check of what was written."""
        from adapterfit import pipeline

        consumer = self.report.case.consumer
        return pipeline.check(
            found,
            self.report.case.base,
            consumer.text or None,
            loader=consumer.loader or None,
            base_class=self.base_class,
            exact=self.exact,
            python=self.python,
        )

    def _delta(self, written: Source, found: Adapter) -> Shown:
        from adapterfit.plan.apply import taken
        from adapterfit.verify.delta import Side, same_delta

        old = self.report.case.adapter
        before, after = (
            Side(self.source, taken(old, self.plan.edits), _raw(old)),
            Side(written, found.tensors, _raw(found)),
        )
        return same_delta(before, after, self.plan.edits)


def _raw(adapter: Adapter) -> Mapping[str, Any]:
    return adapter.config.raw if adapter.config is not None else {}


def _metadata(adapter: Adapter) -> Mapping[str, str]:
    return adapter.weights.metadata if adapter.weights is not None else {}


def _checked(again: Report, plan: Plan) -> Shown:
    if again.verdict.replace("fits-after-fix", "does-not-fit") != plan.after:
        wrong = shorten(found.id for found in again.findings if found.severity == "error")
        return Shown(
            "check", "failed", f"checked again, it is {again.verdict} ({wrong}), where {plan.after} was planned"
        )
    if again.verdict == "cannot-tell":
        return Shown(
            "check", "not-checked", "whether it fits its base: " + shorten(one.why for one in again.not_checked)
        )
    counts = again.counts
    return Shown(
        "check",
        "proven",
        f"checked again from the written bytes: {again.verdict}, {counts.matched:,} tensors in their places",
    )


def _judged(again: Report) -> Shown:
    if again.exact is None:
        return Shown("peft", "not-checked", "the real PEFT was not asked (--exact)")
    exact = again.exact
    if exact.cannot:
        return Shown("peft", "not-checked", f"the real PEFT could not be asked: {show(exact.cannot)}")
    versions = ", ".join(f"{name} {version}" for name, version in exact.versions.items())
    if exact.outcome == "loads" and not exact.missing and not exact.unexpected:
        return Shown("peft", "proven", f"the real PEFT loads every tensor ({show(versions)})")
    return Shown("peft", "failed", f"the real PEFT {show(exact.raised or exact.outcome)} ({show(versions)})")


# ------------------------------------------------------------------------------------------------ around


def _local(paths: list[str]) -> list[str]:
    from pathlib import Path

    return [path for path in paths if Path(path).exists()]


def _folder_mode(adapter: str) -> int | None:
    from pathlib import Path

    path = Path(adapter)
    return path.stat().st_mode & 0o777 if path.is_dir() else None


def _versions() -> dict[str, str]:
    import platform

    from adapterfit import __version__

    return {"adapterfit": __version__, "python": platform.python_version()}


def read_plan(data: bytes) -> Plan:
    """A plan from the bytes of a plan file.

    Raises:
        CannotCheck: It is no plan.
    """
    from adapterfit.plan.file import parse
    from adapterfit.read import strictjson

    try:
        return parse(strictjson.loads(data, what="the plan"))
    except BadInput as bad:
        raise CannotCheck(bad.flaw.message) from None
