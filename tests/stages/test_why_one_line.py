"""The one line that a user pastes: every line that a page shows leads to a page."""

import pytest

import adapterfit
from adapterfit.diagnose.registry import all_causes

#: "(none: the load reports nothing)" is no line.
LINES = [(entry.id, line) for entry in all_causes() for line in entry.cause.messages if not line.startswith("(")]


@pytest.fixture(scope="module")
def answers():
    return {line: [one.id for one in adapterfit.why(line + "\n").causes] for _, line in LINES}


def test_every_line_of_a_page_is_answered(answers):
    assert [line for line, causes in answers.items() if not causes] == []


def test_most_lines_lead_to_the_page_that_shows_them(answers):
    named = [cause in answers[line][:3] for cause, line in LINES]
    assert len(named) > 200
    assert sum(named) >= 0.85 * len(named)


def test_a_line_that_hangs_below_frames_of_others_is_not_guessed_at():
    frames = 'Traceback (most recent call last):\n  File "/x/run.py", line 10, in t\n    f()\n'
    assert not adapterfit.why(frames + "IndexError: list index out of range\n").causes
