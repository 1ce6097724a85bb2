"""Exit codes: 0 nothing at or above the threshold, 1 findings, 2 could not check."""

import pytest
import reports

from adapterfit.cli.check import exit_code


def of(*severities, verdict="fits"):
    return reports.report(verdict, "loads", [reports.finding(severity=severity) for severity in severities])


@pytest.mark.parametrize(
    ("report", "fail_on", "code"),
    [
        (of(), "error", 0),
        (of("note"), "warning", 0),
        (of("warning"), "error", 0),
        (of("warning"), "warning", 1),
        (of("error"), "error", 1),
        (of("note", "error"), "warning", 1),
        (of("error"), "never", 0),
        (of(verdict="does-not-fit"), "error", 1),
        (of(verdict="fits-after-fix"), "error", 1),
        (of(verdict="does-not-fit"), "never", 0),
        (of(verdict="cannot-tell"), "error", 2),
        (of(verdict="cannot-tell"), "never", 2),
        (of("error", verdict="cannot-tell"), "error", 1),
    ],
)
def test_the_exit_code_with_a_base(report, fail_on, code):
    assert exit_code(report, fail_on, asked=True) == code


def test_without_a_base_no_answer_about_it_is_no_failure():
    assert exit_code(of(verdict="cannot-tell"), "error", asked=False) == 0
