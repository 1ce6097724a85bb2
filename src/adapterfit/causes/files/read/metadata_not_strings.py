"""The header's metadata is not a table of strings.

What this means: `__metadata__` may hold strings only. With anything else safetensors refuses the whole file; a plain
null it accepts.

Why it happens: a home-made writer put numbers or nested tables there, such as a training configuration.

Detection: every value under `__metadata__` is looked at.

Fix: save again with every value turned into text, such as by `json.dumps`.

Workaround: none for the loader; the tensors themselves are intact.

Prevention: pass `metadata={key: str(value)}` to `save_file`.

Setup:
    change_header(lambda header: header.update(__metadata__={"format": "pt", "epoch": 3}))  # a number among texts

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid JSON in header: invalid type: integer `3`, expected a string

Fixed:
    change_header(lambda header: header.update(__metadata__={"format": "pt", "epoch": "3"}))
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="advanced",
    messages=(
        "SafetensorError: Error while deserializing header: invalid JSON in header: invalid type: integer `1`, expected a string",
    ),
    codes=("metadata-not-strings",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [make.weights_file({forge.ST: forge.st({"__metadata__": {"a": 1}})})],
    }
