"""`--format text`: the report for people. One screen; what fails in silence comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from adapterfit import limits
from adapterfit.report._words import PREDICTIONS, VERDICTS, kept, raised_lines
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from adapterfit.records import Case, Finding, Report

#: Narrower than this nothing is readable, wider than this no eye finds the next line.
_WIDTHS = (40, 120)
#: What the loader does about a finding → the heading it stands under, the worst first.
_GROUPS = {
    "silent": ("Silent: no error, and the model is not what was trained", "bold red"),
    "raises": ("Raises: the loader stops here", "red"),
    "warns": ("Warns: a warning that is easily overlooked", "yellow"),
    "none": ("Worth knowing", "cyan"),
}
_VERDICT_STYLES = {"fits": "bold green", "fits-after-fix": "bold yellow", "does-not-fit": "bold red"}
_LABEL = 10
#: Names shown of a finding.
_NAMES = 3
#: Questions shown that share one reason for not being answered.
_QUESTIONS = 5


class Line(NamedTuple):
    """One line of the screen: plain text, and the style that a terminal may give it."""

    text: str
    style: str = ""


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:
    """The report as lines of at most `width` cells; a single longer word (a name, a command) stays in one piece."""
    width = min(max(width, _WIDTHS[0]), _WIDTHS[1])
    lines = list(_verdict(report, width)) if quiet else list(_screen(report, width))
    return paint(lines) if colour else "".join(f"{line.text}\n" for line in lines)


def paint(lines: Iterable[Line]) -> str:
    """The same lines with colours. Input is never read as markup: it only ever is the text of a `Text`."""
    import io

    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", legacy_windows=False, width=10_000)
    for line in lines:
        console.print(Text(line.text, style=line.style), soft_wrap=True)
    return out.getvalue()


def _screen(report: Report, width: int) -> Iterator[Line]:
    yield from _verdict(report, width)
    yield from _loader(report, width)
    yield from _judged(report, width)
    yield from _findings(report, width)
    yield from _engines(report, width)
    yield from _next(report, width)
    yield from _not_checked(report, width)


def _engines(report: Report, width: int) -> Iterator[Line]:
    """What the engines asked for do, where any were."""
    if report.consumers:
        from adapterfit.report import _consumers

        yield from (Line(*each) for each in _consumers.lines(report, width))


def _judged(report: Report, width: int) -> Iterator[Line]:
    """What the installed PEFT itself did, where it was asked, and whether it agrees with us."""
    exact = report.exact
    if exact is None:
        return
    from adapterfit.judging import beside

    place = beside(report)
    if place == "unasked":
        yield from _labelled("exact", f"cannot check: {show(exact.cannot, limits.REPORT_MESSAGE_CHARS)}", width)
        return
    used = ", ".join(f"{show(name)} {show(version)}" for name, version in exact.versions.items())
    outcome = PREDICTIONS.get(exact.outcome, show(exact.outcome))
    told = {"same": "agrees", "different": f"DISAGREES: {outcome}"}.get(place, outcome)
    who = report.case.consumer
    ours = (
        f"; ours is for peft {show(who.peft)}, transformers {show(who.transformers)}"
        if place == "other versions"
        else ""
    )
    yield from _labelled("exact", f"{told} ({used}{ours})", width)
    if place != "same":
        for line in exact.raised.split("\n")[:3] if exact.raised else ():
            yield Line(f"{' ' * (_LABEL + 4)}{show(line, limits.REPORT_MESSAGE_CHARS)}", "red")
    if place == "different":
        yield from _labelled("", "please report this: our prediction and the real PEFT should never differ", width)


def _next(report: Report, width: int) -> Iterator[Line]:
    """What to do now; a command stays on one line, to be copied, and a fix is not told twice."""
    step = show(report.next_step, limits.REPORT_MESSAGE_CHARS)
    engines = {answer.name for answer in report.consumers}
    cured = (found for found in report.findings if found.fix and found.fix.summary == report.next_step)
    told = next((found.id for found in cured if found.code not in engines), None)
    if step:
        yield from (Line(""), Line("Next:"))
    if step.startswith("adapterfit "):
        yield Line(f"  {step}", "bold")
    elif step:
        yield from _wrap(f"the fix of {show(told)}, above" if told else step, width, "  ", "bold")


def _verdict(report: Report, width: int) -> Iterator[Line]:
    words = report.verdict.replace("-", " ").upper()
    meaning = VERDICTS.get(report.verdict, "")
    yield from _wrap(
        f"{words}: {meaning}" if meaning else words, width, style=_VERDICT_STYLES.get(report.verdict, "bold")
    )
    if any(answer.asked for answer in report.consumers):
        from adapterfit.report import _consumers

        yield from (Line(*each) for each in _consumers.outcomes(report, width))


def _loader(report: Report, width: int) -> Iterator[Line]:
    case = report.case
    yield from _labelled("adapter", _adapter(report), width)
    yield from _labelled("base", _base(report), width)
    versions = (("peft", case.consumer.peft), ("transformers", case.consumer.transformers))
    consumer = ", ".join(f"{name} {show(version)}" for name, version in versions if version)
    call = f", by {case.consumer.loader}" if case.consumer.loader else ""
    yield from _labelled("with", (consumer or show(case.consumer.text) or "no known loader") + call, width)
    stamp = case.adapter.stamp
    then = (
        [f"{name} {show(stamp.libraries[name])}" for name, now in versions if stamp.libraries.get(name, now) != now]
        if stamp is not None
        else []
    )
    if then:
        yield from _labelled("", f"stamped with {' and '.join(then)}", width)
    if case.consumer.rules and not case.consumer.given:
        yield from _labelled("", "the versions installed here", width)
    if case.consumer.given:
        yield from _dates(case, width)
    yield from _labelled("loader", PREDICTIONS.get(report.predicted, report.predicted), width)
    raised = report.raised if report.predicted == "raises" else None
    for line in raised_lines(raised, 3):
        yield Line(f"{' ' * (_LABEL + 4)}{line}", "red")  # never wrapped: people search their logs for it
    yield from _labelled("tensors", _counts(report), width)


def _adapter(report: Report) -> str:
    adapter = report.case.adapter
    method = show(adapter.config.peft_type) if adapter.config is not None and adapter.config.peft_type else ""
    read = adapter.weights is not None and not adapter.weights.refused
    total = f"{len(adapter.tensors):,} tensors" if read else "no weights read"
    return f"{show(adapter.label)} ({', '.join(part for part in (method, total) if part)})"


def _base(report: Report) -> str:
    base = report.case.base
    if base is None:
        return "none: only the adapter's own files were looked at"
    tree = report.diff.expectation.tree if report.diff is not None else base.tree
    name = tree.class_name if tree is not None else base.architecture
    return f"{show(base.label)} (as {show(name)})" if name else show(base.label)


def _counts(report: Report) -> str:
    if report.diff is None:
        return "not compared"
    counts = report.counts
    return f"{counts.matched:,} matched, {counts.missing:,} missing, {counts.extra:,} extra, {counts.misshapen:,} misshapen"


def _findings(report: Report, width: int) -> Iterator[Line]:
    findings, left_out, _ = kept(report)
    engines = {answer.name for answer in report.consumers}  # they are told about under their own heading
    for predicted, (heading, style) in _GROUPS.items():
        group = [found for found in findings if found.predicted == predicted and found.code not in engines]
        if group:
            yield from (Line(""), *_wrap(heading, width, style=style))
        for finding in group:
            yield from _finding(finding, width)
    if left_out:
        yield from (Line(""), Line(f"  and {left_out:,} more findings: adapterfit check … --format json"))


def _finding(finding: Finding, width: int) -> Iterator[Line]:
    doubt = "" if finding.confidence == "high" else f", {finding.confidence} confidence"
    code = f" ({show(finding.code)})" if finding.code and finding.code != finding.id else ""
    yield from _wrap(f"{show(finding.id)}{code}: {finding.severity}{doubt}", width, "  ", "bold")
    yield from _wrap(show(finding.message, limits.REPORT_MESSAGE_CHARS), width, "    ")
    rows = {
        "expected": show(finding.expected, limits.REPORT_MESSAGE_CHARS),
        "found": show(finding.found, limits.REPORT_MESSAGE_CHARS),
        "fix": _fix(finding),
        "more": f"adapterfit explain {show(finding.id)}",
    }
    yield from _names(finding)
    for label, value in rows.items():
        if value:
            yield from _labelled(label, value, width, "    ")


def _names(finding: Finding) -> Iterator[Line]:
    """The first few names, one a line and whole, so that they can be copied."""
    names = [show(name, limits.REPORT_NAME_CHARS) for name in finding.at[:_NAMES]]
    more = len(finding.at) - len(names)
    for number, name in enumerate([*names, f"and {more:,} more"] if more else names):
        yield Line(f"    {'' if number else 'at':<{_LABEL}}{name}")


def _fix(finding: Finding) -> str:
    """The fix and how far to trust it; one without edits is for a person to carry out."""
    fix = finding.fix
    if fix is None:
        return ""
    return f"{show(fix.summary, limits.REPORT_MESSAGE_CHARS)} ({fix.safety if fix.edits else 'by hand'})"


def _not_checked(report: Report, width: int) -> Iterator[Line]:
    if report.not_checked:
        yield from (Line(""), Line("Not checked:"))
    for item in report.not_checked[: limits.REPORT_FINDINGS]:
        text = f"{shorten(item.what.split(', '), _QUESTIONS)}: {show(item.why, limits.REPORT_MESSAGE_CHARS)}"
        yield from _wrap(text, width, "  ", "dim")
    left_out = len(report.not_checked) - limits.REPORT_FINDINGS
    if left_out > 0:
        yield Line(f"  and {left_out:,} more", "dim")


def _dates(case: Case, width: int) -> Iterator[Line]:
    """What a whole range of versions does, and which versions the config is of."""
    from adapterfit.report._dates import dated

    config = case.adapter.config
    if ": of " in case.consumer.text:
        yield from _labelled("worst", show(case.consumer.text, limits.REPORT_MESSAGE_CHARS), width)
    if config is not None and config.oldest:
        yield from _labelled("dated", dated(config), width)


def _labelled(label: str, value: str, width: int, indent: str = "  ") -> Iterator[Line]:
    """`label   value`, later lines below the value."""
    margin = len(indent) + _LABEL
    for number, line in enumerate(_wrap(value, max(width - margin, 20))):
        yield Line(f"{indent}{'' if number else label:<{_LABEL}}{line.text}")


def _wrap(text: str, width: int, indent: str = "", style: str = "") -> Iterator[Line]:
    if len(text) + len(indent) <= width and text.isprintable() and "  " not in text:  # most lines: nothing to wrap
        return iter((Line(indent + text.strip(), style),) if text.strip() else ())
    import textwrap

    wrapper = textwrap.TextWrapper(width, indent, indent, break_long_words=False, break_on_hyphens=False)
    return (Line(line, style) for line in wrapper.wrap(text))
