"""A field of adapter_config.json holds a value that cannot be meant.

What this means: PEFT checks few of its fields. Some wrong values stop the load with an error from deep inside, others
are taken as they are: an alpha of 0 switches the adapter off, the text "false" counts as true, NaN poisons the outputs.

Why it happens: the file was written by hand, by another program, or for another version of PEFT.

Detection: every field is compared with the type PEFT declares for it and with the range that makes sense; fields that
exclude each other are looked at together.

Fix: a number or `true` that was written as text, and a task in small letters, are written as what they say. Else write the value
the adapter was trained with; the finding says what is due. A flag whose text is "false" is asked about: PEFT trains with it as true.

Workaround: pass a corrected `config=` to `PeftModel.from_pretrained`.

Prevention: let PEFT write the file.

Setup:
    change_config(lora_alpha="8")  # text, where a number is due

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises TypeError: unsupported operand type(s) for /: 'str' and 'int'

Fixed:
    change_config(lora_alpha=8)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.one_reading import cure as cure  # noqa: PLC0414 - it is this cause's own


def examples(make: Any) -> dict[str, list[Any]]:
    """Odd but harmless values are silent."""
    plain = make.lora("llama")
    bad: list[dict[str, Any]] = [
        {"lora_alpha": "16"},
        {"lora_alpha": 0},
        {"lora_dropout": 1.5},
        {"bias": "true"},
        {"task_type": "CAUSAL"},
        {"use_rslora": "false"},
        {"rank_pattern": None},
        {"layers_pattern": "layers"},
        {"layer_replication": [[0, 10**9]]},
        {"peft_version": 5},
    ]
    fine: list[dict[str, Any]] = [{"lora_alpha": 16.0}, {"fan_in_fan_out": None}, {"lora_dropout": 0}, {"bias": "all"}]
    return {
        "silent": [plain.with_config(**each) for each in fine],
        "fires": [plain.with_config(**each) for each in bad],
    }


CAUSE = Cause(
    messages=(
        "TypeError: unsupported operand type(s) for /: 'str' and 'int'",
        "AttributeError: 'NoneType' object has no attribute 'keys'",
        "ValueError: dropout probability has to be between 0 and 1, but got 1.5",
        "NotImplementedError: Requested bias: true, is not implemented.",
        "ValueError: Invalid task type: 'CAUSAL'. Must be one of the following task types:",
        "ValueError: When `layers_pattern` is specified, `layers_to_transform` must also be specified.",
        "ValueError: OFT has been updated since PEFT 0.14.0. Your trained adapter weights are incompatible",
    ),
    codes=("bad-config-value", "peft-version-unreadable"),
    level="intermediate",
)
