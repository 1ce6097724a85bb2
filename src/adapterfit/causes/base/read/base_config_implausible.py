"""A number in the base's config.json cannot be right.

What this means: a count of layers, heads, rows or columns is negative, absurdly large, zero where there must be some,
or no whole number at all. The modules of such a base cannot be told, and adapterfit did not try to count that far.

Why it happens: a config edited by hand or by a script (`"4"` instead of 4, 4.0 instead of 4), a download that went
wrong, or a file made to exhaust whoever reads it.

Detection: the usual count fields of `config.json`, and of the configs nested in it, against a range far beyond every
real model.

Fix: fetch `config.json` again from where the base came from, or correct the field.

Workaround: none that is right.

Prevention: change configs through `AutoConfig` and `save_pretrained`, which check the types (transformers 5 and newer).

Setup:
    change_config("base", num_attention_heads="4")  # text, where a number is due

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises StrictDataclassFieldValidationError: Validation error for field 'num_attention_heads'

Fixed:
    change_config("base", num_attention_heads=4)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    minutes=5,
    messages=(
        "StrictDataclassFieldValidationError: Validation error for field 'num_attention_heads':",
        "TypeError: Field 'num_attention_heads' expected int, got str (value: '4')",
        "TypeError: unsupported operand type(s) for //: 'int' and 'str'",
        "ZeroDivisionError: integer division or modulo by zero",
        "RuntimeError: Trying to create tensor with negative dimension",
    ),
    codes=("base-config-implausible",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """Unusual but possible numbers are silent."""
    wrong = ({"num_hidden_layers": 10**9}, {"vocab_size": 10**15}, {"num_attention_heads": 0}, {"hidden_size": -64})
    untyped = ({"num_attention_heads": "4"}, {"vocab_size": 256.0}, {"num_hidden_layers": True})
    plain = make.lora()
    return {
        "silent": [
            plain,
            plain.on("llama", num_hidden_layers=126),
            plain.on("llama", vocab_size=300_000),
            plain.on("llama", num_hidden_layers={"vision": 5, "language": 9}),
        ],
        "fires": [plain.on("llama", **fields) for fields in (*wrong, *untyped)],
    }
