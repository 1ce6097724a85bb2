"""One traceback in the forms in which people paste it: the answer is the same, and as sure."""

from __future__ import annotations

import json
import textwrap

import pytest

import adapterfit

LINE = "size mismatch for base_model.model.model.layers.{}.mlp.up_proj.lora_A.default.weight: copying a param with shape torch.Size([24, 3072]) from checkpoint, the shape in current model is torch.Size([12, 3072])."
MESSAGE = "Error(s) in loading state_dict for PeftModelForCausalLM:\n" + "\n".join(
    "\t" + LINE.format(n) for n in range(3)
)
HEAD = (
    'Traceback (most recent call last):\n  File "/x/train.py", line 9, in <module>\n    main()\n'
    '  File "/x/site-packages/peft/peft_model.py", line 570, in load_adapter\n    load_result = set_peft_model_state_dict(\n'
)
FULL = f"{HEAD}RuntimeError: {MESSAGE}"
LINES = FULL.split("\n")


def before(prefix, after=""):
    return "\n".join(f"{prefix}{line}{after}" for line in LINES)


def boxed(width):
    cut = [line[at : at + width] for line in LINES for at in range(0, max(1, len(line)), width)]
    return "\n".join(f"│ {part.ljust(width)} │" for part in cut)


CELL = {
    "output_type": "error",
    "ename": "RuntimeError",
    "evalue": MESSAGE,
    "traceback": ["\x1b[0;31m---\x1b[0m", *LINES],
}
BAR = "\r".join(f"Loading checkpoint shards: {n}%|{'█' * (n // 10)}| {n}/100" for n in range(100))
FORMS = {
    "as it is": FULL,
    "behind ranks": before("[rank0]: "),
    "behind torchrun's names": before("[default3]:"),
    "behind a pod's times": before("2026-11-25T19:00:00.123456789Z stderr F "),
    "behind a container's name": before("trainer-1  | "),
    "behind the journal's": before("Nov 25 19:00:00 node7 python[1234]: "),
    "behind an engine's": before("(EngineCore_0 pid=11) ERROR 11-25 19:00:00 [core.py:588] "),
    "behind Ray's, in colour": before("\x1b[36m(train_fn pid=88, ip=10.0.0.1)\x1b[0m "),
    "behind loguru's": before("2026-11-25 19:00:00.123 | ERROR    | mod:func:12 - "),
    "quoted in a mail": before("> "),
    "in colour": before("\x1b[31m", "\x1b[0m"),
    "with Windows' line ends": FULL.replace("\n", "\r\n"),
    "between progress bars": f"{BAR}\n{FULL}\n{BAR}",
    "in a box, cut at its edge": boxed(76),
    "cut by a terminal": "\n".join(line[at : at + 96] for line in LINES for at in range(0, max(1, len(line)), 96)),
    "broken at words": "\n".join("\n".join(textwrap.wrap(line, 70)) for line in LINES),
    "on one line": FULL.replace("\n", " "),
    "in a notebook's file": json.dumps({"cells": [{"outputs": [CELL]}]}, indent=1),
    "in a notebook's file without spaces": json.dumps({"cells": [{"outputs": [CELL]}]}),
    "in a field of JSON": json.dumps({"level": "error", "message": FULL}),
    "a line of JSON for each line": "\n".join(json.dumps({"log": f"{line}\n", "stream": "stderr"}) for line in LINES),
    "as Python prints a text": repr(FULL),
    "in HTML": FULL.replace("<", "&lt;").replace('"', "&quot;"),
    "in Markdown, in another language": f"加载微调后的模型时报错，请问怎么解决？\n```\n{FULL}\n```\n谢谢",
    "with its middle left out": f"{FULL[:700]}\n...\n[output truncated]\n...\n{FULL[-320:]}",
    "after another traceback": f"{HEAD}KeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\n{FULL}",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_the_form_of_a_paste_does_not_change_the_answer(text):
    answer = adapterfit.why(text).causes[0]
    assert (answer.id, answer.confidence) == ("rank-mismatch", "high")
    assert "24" in answer.message + answer.fix.summary


@pytest.mark.parametrize(
    "noise", ["{'loss': 0.731, 'epoch': 0.02}\n", "INFO adapter 'a' is served, lora requests: 3\n"]
)
@pytest.mark.parametrize(
    ("ahead", "behind"), [(0, 5), (5, 0), (2, 3)], ids=["at the start", "at the end", "in the middle"]
)
@pytest.mark.slow
def test_an_error_is_found_wherever_it_stands_in_5_mb(noise, ahead, behind):
    many = 1_000_000 // len(noise)
    assert (
        adapterfit.why(noise * (many * ahead) + FULL + "\n" + noise * (many * behind)).causes[0].id == "rank-mismatch"
    )


CUT = {
    "while tensors are put into the model": ("peft/utils/save_and_load.py", "set_peft_model_state_dict", "wrong-base"),
    "while an engine looks at module names": ("vllm/lora/lora_model.py", "check_unexpected_modules", "targets-refused-by-engine"),
    "while a layer is replaced": ("peft/tuners/lora/model.py", "_create_new_module", "target-module-unsupported"),
    "while a repository's name is checked": ("huggingface_hub/utils/_validators.py", "validate_repo_id", "adapter-path-missing"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "function", "cause"), CUT.values(), ids=CUT)
def test_a_traceback_without_its_end_is_answered_by_where_it_stops(path, function, cause):
    text = f'Traceback (most recent call last):\n  File "/x/site-packages/{path}", line 7, in {function}\n'
    answer = adapterfit.why(text).causes[0]
    assert answer.id == cause
    assert answer.confidence != "high"
    assert "last line" in answer.apart


@pytest.mark.parametrize(("path", "function", "cause"), CUT.values(), ids=CUT)
def test_an_error_at_the_end_counts_more_than_where_it_was_raised(path, function, cause):
    text = f'Traceback (most recent call last):\n  File "/x/site-packages/{path}", line 7, in {function}\nZeroDivisionError: division by zero'
    assert cause not in {answer.id for answer in adapterfit.why(text).causes if answer.likelihood >= 0.35}


def test_a_function_whose_name_a_box_put_on_the_next_line_is_read():
    text = "│ /x/site-packages/peft/utils/save_and_load.py:74 in        │\n│ set_peft_model_state_dict                                 │\n"
    frame = adapterfit.why(text).symptoms.frames[0]
    assert (frame.library, frame.function) == ("peft", "set_peft_model_state_dict")
