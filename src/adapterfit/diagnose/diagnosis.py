"""Stage 4 of 7: diagnose. Runs the causes on a case, keeps the few that explain the most, and gives the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from adapterfit.diagnose.registry import Entry, by_code, checked
from adapterfit.records import Case, Counts, Diff, Finding, Fix, Flaw, NotChecked, Raised, Report

_SEVERITY = {"error": 0, "warning": 1, "note": 2}
#: What the loader does about it: the silent ones come first, a load without a word and with wrong weights is the worst.
_PREDICTED = {"silent": 0, "raises": 1, "warns": 2, "none": 3}


def diagnose(case: Case, diff: Diff | None, unknown: Sequence[NotChecked] = ()) -> Report:
    """The report on one case. `diff` is None where nothing could be compared; `unknown` says why."""
    found = (*flaws(case), *(diff.expectation.flaws if diff is not None else ()))
    findings = [_from_flaw(flaw, case) for flaw in found if case.served or not _is_for_servers(flaw)]
    checks: list[Finding] = []
    not_checked = list(unknown)
    raised = _raised(case, diff)
    if raised is not None and raised.stage == "base":
        not_checked.append(NotChecked("whether it fits", "this copy of the base cannot be loaded at all"))
    for entry in checked():
        lacking = _lacking(entry, case, diff)
        if lacking:
            not_checked.append(NotChecked(entry.id, lacking))
            continue
        checks.extend(dataclasses.replace(found, id=entry.id) for found in entry.module.check(case, diff))
    kept = _few(_without_twins(findings, checks))
    predicted = _predicted(case, diff, raised, kept)
    return Report(
        case=case,
        verdict=_verdict(predicted, kept, raised),
        predicted=predicted,
        findings=tuple(kept),
        not_checked=tuple(_grouped(not_checked)),
        counts=_counts(diff),
        raised=raised,
        diff=diff,
    )


# -------------------------------------------------------------------------------------------- findings


def flaws(case: Case) -> tuple[Flaw, ...]:
    """Everything the readers complained about, in the order they read."""
    adapter, base = case.adapter, case.base
    found = list(adapter.flaws)
    found.extend(adapter.config.flaws if adapter.config is not None else ())
    found.extend(adapter.weights.flaws if adapter.weights is not None else ())
    found.extend(base.flaws if base is not None else ())
    return tuple(found)


def _is_for_servers(flaw: Flaw) -> bool:
    entry = by_code(flaw.code)
    return entry is not None and entry.cause.served


def _from_flaw(flaw: Flaw, case: Case) -> Finding:
    """What a reader saw, as a finding of the cause that owns its code; its cure, where the cause has one for it."""
    entry = by_code(flaw.code)
    name = entry.id if entry is not None else flaw.code
    cure = getattr(entry.module, "cure", None) if entry is not None else None
    fix = cure(case, flaw) if cure is not None else None
    return Finding(
        id=name,
        code=flaw.code if flaw.code != name else "",
        severity=flaw.severity,
        message=flaw.message,
        predicted=flaw.predicted,
        at=(flaw.where,) if flaw.where else (),
        expected=flaw.expected,
        found=flaw.found,
        fix=fix or (Fix("unsafe", flaw.remedy) if flaw.remedy else None),
    )


def _lacking(entry: Entry, case: Case, diff: Diff | None) -> str:
    """Why a cause cannot be checked; an empty string where it can."""
    adapter = case.adapter
    have = {
        "config": (adapter.config is not None, "there is no readable adapter_config.json"),
        "weights": (
            adapter.weights is not None and not adapter.weights.refused,
            "there is no readable weights file",
        ),
        "base": (case.base is not None, "no base was given (--base)"),
        "diff": (diff is not None, "the adapter could not be compared with a base"),
        "values": (adapter.values is not None, "the numbers are read with --values only"),
    }
    return next((why for fact in entry.cause.needs for known, why in (have[fact],) if not known), "")


def _without_twins(read: list[Finding], found: list[Finding]) -> list[Finding]:
    """Where a reader's flaw and a cause's check speak of the same thing, the check, which knows more."""
    said = {(finding.id, finding.code) for finding in found if finding.code}
    return [finding for finding in read if (finding.id, finding.code) not in said] + found


def _few(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order to read them, without those that explain nothing a stronger one does not."""
    ranked = sorted(findings, key=lambda f: (_SEVERITY[f.severity], -len(f.explains)))
    kept: list[Finding] = []
    explained: set[str] = set()
    for found in ranked:
        if found.explains and found.explains <= explained:
            continue
        explained |= found.explains
        kept.append(found)
    return sorted(kept, key=lambda f: (_SEVERITY[f.severity], _PREDICTED[f.predicted], -len(f.explains)))


def _grouped(not_checked: Iterable[NotChecked]) -> list[NotChecked]:
    """One line per reason, the questions joined."""
    by_reason: dict[str, list[str]] = {}
    for entry in not_checked:
        by_reason.setdefault(entry.why, []).append(entry.what)
    return [NotChecked(", ".join(dict.fromkeys(what)), why) for why, what in by_reason.items()]


# -------------------------------------------------------------------------------------------- prediction


#: A flaw of the config that shows while the layers are made, and not before.
_IN_USE = "regex-invalid"
#: Flaws of the folder which a load comes to with the weights: after the config was read and the layers were made.
_WITH_WEIGHTS = frozenset(("safetensors-unknown-to-loader", "weights-file-missing", "wrong-file-in-folder"))


def _raised(case: Case, diff: Diff | None) -> Raised | None:
    """The first exception on the way: the folder and the config, the adapter's layers, the weights, and then the rest.

    A base that cannot be loaded comes last, since the others are certain with any copy of it.
    """
    of_base = case.base.flaws if case.base is not None else ()
    of_weights = case.adapter.weights.flaws if case.adapter.weights is not None else ()

    def place(flaw: Flaw) -> int:
        return 2 if flaw in of_base else 1 if flaw in of_weights or flaw.code in _WITH_WEIGHTS else 0

    raising = (flaw for flaw in flaws(case) if flaw.predicted == "raises" and flaw.severity == "error" and flaw.raised)
    ordered = sorted(raising, key=place)
    loading = diff.raised if diff is not None else None
    made = loading is None or loading.stage != "inject"
    if not made and ordered and ordered[0].code == _IN_USE:
        return loading  # PEFT compiles a pattern once it comes to a module that it may be about
    if not ordered or not (made or place(ordered[0]) == 0 or place(ordered[-1]) == 2):
        return loading
    kind, _, line = ordered[0].raised.partition(": ")
    return Raised(kind, line, stage="base" if place(ordered[0]) == 2 else "read")


def _predicted(case: Case, diff: Diff | None, raised: Raised | None, findings: Sequence[Finding]) -> str:
    if raised is not None and (raised.stage == "read" or diff is None or not diff.expectation.doubts):
        return "raises"
    if any(_is_certain_to_raise(found, diff) for found in findings):
        return "raises"
    if diff is None or diff.expectation.doubts or case.adapter.weights is None:
        return _settled(diff, findings)
    empty = [slot for slot in diff.missing if not slot.optional]
    idle = {name for found in findings if found.idle for name in found.at}
    landed = bool(diff.overwrites) or any(
        match.tensor.name not in idle and not match.slot.still for match in diff.matched
    )
    whole = not empty and not diff.extra and not diff.misshapen
    if whole and idle:
        return "loads-partly" if landed else "loads-without-effect"
    if whole:
        differs, undecided = any(f.differs for f in findings), any(f.undecided for f in findings)
        return "loads-differently" if differs else "cannot-tell" if undecided else "loads"
    return "loads-partly" if landed or not diff.expectation.inert else "loads-without-effect"


def _settled(diff: Diff | None, findings: Sequence[Finding]) -> str:
    """What holds although the method's tensors were not compared; nothing does where the base itself is doubted."""
    if diff is None or diff.expectation.tree.doubts:
        return "cannot-tell"
    return next((found.settles for found in findings if found.settles), "cannot-tell")


def _is_certain_to_raise(found: Finding, diff: Diff | None) -> bool:
    """A reader's refusal; or, where there was nothing to compare with, a cause that needs no base to be sure."""
    wanted = found.severity == "error" and found.predicted == "raises" and found.confidence == "high"
    return wanted and (bool(found.code) or diff is None)


def _verdict(predicted: str, findings: Sequence[Finding], raised: Raised | None) -> str:
    """Without repair: the pipeline turns *does not fit* into *fits after fix* once it has tried the cure.

    A copy of the base that cannot be loaded says nothing about the adapter.
    """
    if predicted == "cannot-tell" or (raised is not None and raised.stage == "base"):
        return "cannot-tell"
    if predicted != "loads" or any(found.severity == "error" for found in findings):
        return "does-not-fit"
    return "fits"


def _counts(diff: Diff | None) -> Counts:
    if diff is None:
        return Counts()
    empty = sum(1 for slot in diff.missing if not slot.optional)
    return Counts(
        len(diff.matched) + len(diff.overwrites) + len(diff.redundant), empty, len(diff.extra), len(diff.misshapen)
    )
