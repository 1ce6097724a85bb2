"""Errors that pages and old versions of PEFT really raised, pasted whole, in part and behind what loggers add: one answer.

`raised.jsonl` holds what the broken code of the pages raised or warned of, and the same faults with PEFT 0.3 to 0.18.
"""

from __future__ import annotations

import html
import json
import random
import re
import textwrap
from functools import cache
from pathlib import Path

import pytest

import adapterfit
from adapterfit.causes.heard import ALIKE

ROWS = [json.loads(line) for line in (Path(__file__).parent / "raised.jsonl").read_text("utf-8").splitlines()]
NAMES = [f"{row['cause']}, PEFT {row['peft']}, {number}" for number, row in enumerate(ROWS)]


def before(prefix):
    return lambda text: "\n".join(prefix + line for line in text.split("\n"))


def cut(width):
    return lambda text: "\n".join(
        line[at : at + width] for line in text.split("\n") for at in range(0, max(1, len(line)), width)
    )


def noisy(text):
    steps = "".join(
        f"2026-11-25 19:00:{n % 60:02},117 - INFO - trainer - {{'loss': {1 / (n + 1):.4f}}}\n" for n in range(90)
    )
    return steps + before("2026-11-25 19:10:00,123 - ERROR - trainer - ")(text) + f"\n{steps}"


def cell(text):
    colour = [f"\x1b[0;31m{line}\x1b[0m" for line in text.split("\n")]
    error = {"output_type": "error", "ename": "Error", "evalue": "", "traceback": colour}
    return json.dumps({"cells": [{"cell_type": "code", "source": ["load()"], "outputs": [error]}], "nbformat": 4})


def without_its_middle(text):
    return text if len(text) < 2000 else f"{text[:700]}\n...\n[output truncated]\n...\n{text[-1200:]}"


def boxed(text):
    return "\n".join(f"│ {line.ljust(110)} │" for line in cut(110)(text).split("\n"))


def under_a_bar(text):
    """An error over which a progress bar is written, as in a terminal that was saved."""
    return f"Loading:   0%|   | 0/9\rLoading:  50%|#  | 4/9\r\n{text}\r  0%|   | 0/99 [00:00<?, ?it/s]\r  9%|#  | 9/99 [00:01<00:09]"


def beside_a_bar(text):
    return "\n".join(f"  3%|3    | 30/999 [00:10<05:23]\r{line}" for line in text.split("\n"))


def escaped(text):
    return "<pre><code>" + html.escape(html.escape(text)).replace("\n", "<br/>\n") + "</code></pre>"


def on_windows(text):
    return re.sub(r'File "(/[^"\n]+)"', lambda found: 'File "C:\\Me\\Lib' + found[1].replace("/", "\\") + '"', text)


def in_rich(text):
    """The frames in a box with a title, the message below it."""
    lines = text.rstrip().split("\n")
    kinds = [n for n, line in enumerate(lines) if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception|Warning)\b", line)]
    if not kinds or not kinds[-1]:
        return text
    title = " Traceback (most recent call last) ".center(112, "─")
    box = [f"╭{title}╮", boxed("\n".join(lines[: kinds[-1]])), f"╰{'─' * 112}╯"]
    return "\n".join([*box, *lines[kinds[-1] :]])


def raw_cell(text):
    """Lines of a notebook's file, as somebody copies them out of it."""
    lines = [json.dumps(f"\x1b[0;32m{line}\x1b[0m\n") for line in text.split("\n")]
    return '    "traceback": [\n     ' + ",\n     ".join(lines) + "\n    ]"


OTHER = 'Traceback (most recent call last):\n  File "/opt/{}.py", line 3, in {}\n    self.call()\n{}\n'
REFUSED = OTHER.format("http", "send", "ConnectionRefusedError: [Errno 111] Connection refused")
LATE = "\nException ignored in: <function Pool.__del__ at 0x7f0>\n" + OTHER.format(
    "pool", "__del__", "AttributeError: no sock"
)

FORMS = {
    "under a progress bar": under_a_bar,
    "beside a progress bar": beside_a_bar,
    "escaped twice, as HTML": escaped,
    "with Windows' paths": on_windows,
    "in rich's box, the message below": in_rich,
    "in lines of a notebook's file": raw_cell,
    "with Chinese around it": lambda text: f"我加载微调后的模型时报错，请问怎么解决？环境是 Ubuntu 20.04。\n{text}\n谢谢大家！",
    "with Japanese around it": lambda text: f"読み込むと次のエラーが出ます。\n{text}\nどうすればよいでしょうか。",
    "below another error that it came of": lambda text: f"{REFUSED}\nDuring handling of the above exception, another exception occurred:\n\n{text}",
    "below an error of something else": lambda text: REFUSED + text,
    "above one that came at the end": lambda text: text + LATE,
    "as Python shows a string": repr,
    "behind a container's name": before("trainer-1  | "),
    "behind a system's journal": before("Nov 25 19:00:01 gpu1 python3[1234]: "),
    "as pytest shows it": before("E   "),
    "with curly quotes": lambda text: text.replace("'", "’").replace('"', "”"),
    "in an issue's form": lambda text: f"### System Info\n\n- peft version: 0.21.2\n\n### Reproduction\n\n<details><summary>log</summary>\n\n```pytb\n{text}\n```\n</details>",
    "behind a rank": before("[rank0]: "),
    "of two ranks": lambda text: "\n".join(f"[rank{rank}]: {line}" for line in text.split("\n") for rank in (0, 1)),
    "behind a pod's times": before("2026-11-25T19:00:00.123456789Z stderr F "),
    "behind an engine's": before("(EngineCore_DP0 pid=7) ERROR 12-15 18:57:10 [core.py:918] "),
    "in a long log": noisy,
    "in colour": lambda text: re.sub(r"(\w+(?:Error|Warning))", "\x1b[1;31m\\1\x1b[0m", text),
    "in a notebook": cell,
    "in lines of JSON": lambda text: "\n".join(json.dumps({"log": f"{line}\n"}) for line in text.split("\n")),
    "in a box": boxed,
    "cut at 80": cut(80),
    "cut at 80 behind a rank": lambda text: cut(80)(before("[rank0]: ")(text)),
    "cut, then behind a rank": lambda text: before("[rank0]: ")(cut(71)(text)),
    "broken at words": lambda text: "\n".join("\n".join(textwrap.wrap(line, 96)) for line in text.split("\n")),
    "on one line": lambda text: text.replace("\n", " "),
    "quoted, with Windows' line ends": lambda text: before("> ")(text).replace("\n", "\r\n"),
    "in a question": lambda text: f"Hi, I get this, any idea?\n```\n{text}\n```\nThanks!",
    "without its middle": without_its_middle,
}  # fmt: skip


@cache
def first(text):
    """The answers that are as likely as the first one."""
    causes = adapterfit.why(text).causes
    return {cause.id for cause in causes if cause.likelihood + ALIKE >= causes[0].likelihood}


def changed(row, forms):
    """The forms in which the first answer is another one."""
    answer = first(row["text"])
    return [form for form in forms if not (first(FORMS[form](row["text"])) & answer or not answer)]


@pytest.mark.parametrize("row", ROWS[::2], ids=NAMES[::2])
def test_a_form_of_an_error_is_answered_as_the_error_is(row):
    assert changed(row, random.Random(row["text"]).sample(sorted(FORMS), 1)) == []


@pytest.mark.slow
def test_every_form_of_every_error_is_answered_as_the_error_is():
    asked = [(name, form) for row, name in zip(ROWS, NAMES) for form in changed(row, FORMS)]
    assert len(ROWS) * len(FORMS) > 4000
    assert asked == []


def test_nearly_all_errors_that_were_raised_are_answered_with_their_cause():
    right = [bool(first(row["text"]) & {row["cause"], *row.get("also", ())}) for row in ROWS]
    assert len(right) > 90
    assert sum(right) / len(right) > 0.93


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_the_last_line_alone_is_never_answered_for_certain_with_something_else(row):
    lines = row["text"].rstrip().split("\n")
    start = max(
        (n for n, line in enumerate(lines) if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception|Warning)\b", line)),
        default=len(lines) - 1,
    )
    answer = adapterfit.why("\n".join(lines[start:])).causes[:1]
    assert not answer or answer[0].confidence != "high" or answer[0].id in first(row["text"])
