"""Something is larger than this tool reads.

What this means: a header, a name, a list or a folder goes beyond a cap that keeps a check short. What lies beyond was
not looked at, so nothing is said about it. A real adapter stays far below every cap.

Why it happens: a file made to exhaust its reader; or a very unusual real one.

Detection: sizes are compared with the caps in `adapterfit/limits.py` before anything is read.

Fix: if the file is honest, tell us about it: the cap is too low.

Workaround: in Python, raise the constant of `adapterfit.limits` that the message names.

Prevention: none.

Setup:
    tensors = load_file(WEIGHTS)
    save_file({**tensors, "z": torch.ones([1] * 17)}, WEIGHTS, {"format": "pt"})  # seventeen dimensions

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # PEFT knows no cap
    # -> True
    "over-limit" in found()  # -> True

Fixed:
    save_file(tensors, "adapter/adapter_model.safetensors")  # no adapter needs such a tensor
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
    found()  # -> []
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("(none: the load reports nothing)",), severity="warning", level="advanced", codes=("over-limit",)
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [1] * 16, [0, 1])}, b"x")})],
        "fires": [make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [1] * 17, [0, 1])}, b"x")})],
    }
