"""Lines of the pages, pasted alone: the page's cause is answered, first or as likely as the first."""

from __future__ import annotations

import pytest

import adapterfit
from adapterfit.causes.heard import ALIKE
from adapterfit.diagnose.messages import _lines
from adapterfit.diagnose.registry import all_causes

#: Two tracebacks of one page each, with names and numbers that are on no page.
HEADER = 'Traceback (most recent call last):\n  File "/x/site-packages/safetensors/torch.py", line 381, in load_file\n    with safe_open(filename) as f:\n'
OTHERS = {
    "bytes-unowned": f"{HEADER}safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
    "metadata-not-strings": f"{HEADER}SafetensorError: Error while deserializing header: invalid JSON in header: invalid type: integer `7`, expected a string at line 1 column 99",
    "expanded-tensor": "ValueError: You are trying to save a non contiguous tensor: `model.h.3.attn.lora_B.weight` which is not allowed. It either means",
    "base-unknown-to-transformers": "ValueError: The checkpoint you are trying to load has model type `qwen9_next` but Transformers does not recognize this architecture. This could be",
}
#: Words of Python's own errors, raised by nobody of ours.
ELSEWHERE = (
    "TypeError: unsupported operand type(s) for /: 'str' and 'int'",
    "ZeroDivisionError: integer division or modulo by zero",
    "File \"/x/my.py\", line 3, in f\nAttributeError: 'list' object has no attribute 'items'",
)


def likely(text):
    causes = adapterfit.why(text).causes
    return {cause.id for cause in causes if cause.likelihood + ALIKE >= causes[0].likelihood}


PYTHON = ("TypeError", "AttributeError", "ZeroDivisionError")


def messages():
    for entry in all_causes():
        for message in entry.cause.messages:
            lines = (line for line in _lines() if line.entry.id == entry.id and line.kind not in PYTHON)
            if any(line.words in message.lower() for line in lines):
                yield pytest.param(entry.id, message, id=f"{entry.id}: {message[:60]}")


@pytest.mark.parametrize(("cause", "message"), list(messages()))
def test_a_line_of_a_page_is_answered_with_its_cause_first_or_as_likely(cause, message):
    assert cause in likely(message)


@pytest.mark.parametrize(("cause", "text"), OTHERS.items(), ids=OTHERS)
def test_the_names_and_numbers_in_a_line_are_the_users_own(cause, text):
    assert cause in likely(text)


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_python_says_about_anything_is_no_line_of_a_page(text):
    assert not adapterfit.why(text).causes or adapterfit.why(text).causes[0].confidence == "low"
