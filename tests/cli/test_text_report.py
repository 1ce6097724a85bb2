"""`--format text`: order, words and widths."""

import re

import pytest
import reports

from adapterfit.edits import Drop
from adapterfit.records import Adapter, Case, Consumer, Counts, Fix, Flaw, NotChecked, Raised, Weights
from adapterfit.report import text as face

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("build", reports.ALL.values(), ids=reports.ALL)
def test_no_line_is_wider_than_the_screen_except_a_long_word_and_the_raised_line(build, width):
    report = build()
    raised = report.raised.text if report.raised else None
    wide = [line for line in face.render(report, width=width).splitlines() if len(line) > width]
    assert all(len(re.sub(r"^ +(at +)?", "", line).split()) == 1 or line.strip() == raised for line in wide)


@pytest.mark.parametrize("build", reports.ALL.values(), ids=reports.ALL)
def test_colours_change_nothing_but_colours(build):
    assert ESCAPES.sub("", face.render(build(), colour=True)) == face.render(build())


def test_without_colour_there_is_no_escape():
    assert "\x1b" not in face.render(reports.report())


def test_with_colour_there_is_one():
    assert ESCAPES.search(face.render(reports.report(), colour=True))


def test_the_verdict_comes_first_with_its_meaning():
    first = face.render(reports.report()).splitlines()[0]
    assert first == "DOES NOT FIT: it does not work on this base, and no repair is known to be right"


def test_quiet_is_the_verdict_alone():
    assert face.render(reports.fits(), quiet=True) == "FITS: every tensor lands where it belongs\n"


def test_silent_failures_come_first_then_raises_then_warnings_then_notes():
    orders = ["none", "warns", "raises", "silent"]
    many = [reports.finding(f"it-{word}", predicted=word, severity="warning") for word in orders]
    text = face.render(reports.report(findings=many))
    places = [text.index(f"it-{word}") for word in reversed(orders)]
    assert places == sorted(places)


def test_a_report_with_a_silent_and_a_raising_finding_fits_one_screen():
    two = [reports.finding(), reports.finding("rank-mismatch", predicted="raises")]
    assert len(face.render(reports.report(findings=two), width=80).splitlines()) <= 40


def test_a_finding_shows_three_names_and_how_many_more():
    text = " ".join(face.render(reports.report()).split())
    assert f"{reports.KEY.format(2)} and 2 more" in text
    assert reports.KEY.format(3) not in text


@pytest.mark.parametrize(
    "part",
    [
        "my-adapter (LORA, 2 tensors)",
        "./base (as LlamaForCausalLM)",
        "peft 0.21.2, transformers 5.23.0",
        "loads without an error, and changes nothing",
        "0 matched, 2 missing, 2 extra, 0 misshapen",
        "wrapper-prefix: error",
        'keys start with "module."',
        "rename 5 keys (by hand)",
        "adapterfit explain wrapper-prefix",
    ],
)
def test_the_report_says(part):
    assert part in face.render(reports.report(), width=120)


def test_the_line_that_the_loader_raises_is_shown_and_a_long_one_is_cut():
    lines = "\n".join(f"\tsize mismatch {n}" for n in range(448))
    text = face.render(reports.report(predicted="raises", raised=Raised("RuntimeError", f"Error(s):\n{lines}")))
    assert "RuntimeError: Error(s):" in text
    assert "… and 446 more lines" in text
    assert "size mismatch 1\n" in text


@pytest.mark.parametrize(
    ("fix", "shown"),
    [
        (Fix("safe", "rename", (Drop("x"),)), "rename (safe)"),
        (Fix("unsafe", "drop", (Drop("x"),)), "drop (unsafe)"),
        (Fix("unsafe", "git lfs pull"), "git lfs pull (by hand)"),
    ],
    ids=["safe", "unsafe", "by hand"],
)
def test_a_fix_says_how_far_to_trust_it(fix, shown):
    assert f"fix       {shown}\n" in face.render(reports.report(findings=[reports.finding(fix=fix)]))


def test_weights_that_were_refused_are_not_counted():
    refused = Weights("x.bin", "safetensors", 1, flaws=(Flaw("truncated-file", "cut off"),))
    case = Case(Adapter("my-adapter", weights=refused), None, Consumer())
    assert "my-adapter (no weights read)" in face.render(reports.report(case=case, diff=None))


def test_a_fix_that_is_the_next_step_is_not_told_twice():
    text = face.render(reports.report(next_step="rename 5 keys"))
    assert text.count("rename 5 keys") == 1
    assert "Next:\n  the fix of wrapper-prefix, above\n" in text


def test_a_command_to_type_stays_on_one_line():
    command = f"adapterfit check {'a/' * 60} --base BASE"
    assert f"\n  {command}\n" in face.render(reports.report(next_step=command), width=60)


def test_questions_with_one_reason_are_shortened():
    gap = NotChecked(", ".join(f"cause-{n}" for n in range(40)), "no base")
    assert "cause-4 and 35 more: no base" in " ".join(face.render(reports.report(not_checked=(gap,))).split())


def test_a_doubtful_finding_says_so():
    assert "error, low confidence" in face.render(reports.report(findings=[reports.finding(confidence="low")]))


def test_the_finer_code_is_shown_beside_the_id():
    assert "damaged-weights-file (truncated-file): error" in face.render(reports.unreadable())


def test_what_was_not_checked_is_said_last_with_the_reason():
    gap = NotChecked("the numbers", "only with --values")
    assert face.render(reports.report(not_checked=(gap,))).endswith("Not checked:\n  the numbers: only with --values\n")


def test_without_a_base_nothing_is_counted():
    text = face.render(reports.without_base())
    assert "not compared" in text
    assert "none: only the adapter's own files were looked at" in text


def test_large_counts_are_readable():
    assert "1,234,567 matched" in face.render(reports.report(counts=Counts(1_234_567)))
