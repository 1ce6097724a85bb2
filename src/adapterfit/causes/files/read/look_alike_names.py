"""Two tensor names look alike but differ.

What this means: they differ only in case, in how an accent is written, or in letters of another alphabet. At most one
of them meets the parameter it seems to.

Why it happens: names typed by hand, a file system that ignores case, or an attempt to hide a tensor.

Detection: names are compared after unifying case, accents and look-alike letters.

Fix: look at both, and drop or rename the wrong one.

Workaround: none.

Prevention: none.

Setup:
    tensors = load_file(WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({**tensors, name.replace("lora_A", "lora_a"): tensors[name] * 2}, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # takes the one, and says nothing of the other
    "look-alike-names" in found()  # -> True

Fixed:
    tensors = load_file("adapter/adapter_model.safetensors")
    del tensors[name.replace("lora_A", "lora_a")]  # the wrong one
    save_file(tensors, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
    found()  # -> []
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("(none: the load reports nothing)",), severity="warning", level="advanced", codes=("look-alike-names",)
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file(
                {
                    forge.ST: forge.st(
                        {"lora_A": forge.entry("U8", [1], [0, 1]), "lora_a": forge.entry("U8", [1], [1, 2])}, b"xy"
                    )
                }
            ),
            make.weights_file(
                {
                    forge.ST: forge.st(
                        {"lora_A": forge.entry("U8", [1], [0, 1]), "l\u043era_A": forge.entry("U8", [1], [1, 2])}, b"xy"
                    )
                }
            ),
        ],
    }
