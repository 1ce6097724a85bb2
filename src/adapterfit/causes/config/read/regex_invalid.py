"""A pattern in adapter_config.json is not a valid regular expression.

What this means: PEFT compiles `target_modules` and `exclude_modules` where they are text, and every entry of
`modules_to_save`, `layers_pattern`, `rank_pattern` and `alpha_pattern`. One that does not compile stops the load.

Why it happens: a bracket is missing, a name with special characters stands where a pattern is due, or the pattern was
written for another kind of matching (`*.q_proj`).

Detection: every pattern is compiled as PEFT would build it, within a limit of length; none is run for this.

Fix: correct the pattern, or list the names of the modules instead.

Workaround: derive the list from the tensor names: everything between `base_model.model.` and `.lora_A`.

Prevention: prefer lists of names to patterns.

Setup:
    change_config(target_modules="*_proj")  # a file name's pattern, not a regular expression

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises error or PatternError: nothing to repeat at position 0

Fixed:
    change_config(target_modules=["q_proj", "v_proj"])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """Patterns that compile are silent."""
    plain = make.lora("llama")
    bad: list[dict[str, Any]] = [
        {"target_modules": "("},
        {"target_modules": "*.q_proj"},
        {"rank_pattern": {"q_proj)": 4}},
        {"modules_to_save": ["["]},
    ]
    fine = plain.with_config(target_modules=r".*\.(q|v)_proj", rank_pattern={r"^model\.layers\.0\..*": 4})
    return {"silent": [plain, fine], "fires": [plain.with_config(**each) for each in bad]}


CAUSE = Cause(
    messages=(
        "re.error: missing ), unterminated subpattern at position 0",
        "re.error: nothing to repeat at position 0",
    ),
    codes=("regex-invalid",),
)
