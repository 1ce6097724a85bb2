"""An empty tensor claims an absurd size.

What this means: a tensor without elements has another dimension of billions. It needs no byte, but code that
multiplies sizes, or builds a module from them, overflows or runs out of memory.

Why it happens: a home-made writer, or a file made to break tools.

Detection: a size of zero beside one above 2^32.

Fix: find out where the file comes from; save the adapter again.

Workaround: none is needed to load it.

Prevention: none.

Setup:
    tensors = load_file(WEIGHTS)
    save_file({**tensors, "z": torch.empty(0, 2**40)}, WEIGHTS, {"format": "pt"})  # no byte, and a size of a trillion

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    "zero-size-tensor" in found()  # -> True

Fixed:
    save_file(tensors, "adapter/adapter_model.safetensors")  # without it
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
    found()  # -> []
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("(none: the load reports nothing)",), severity="warning", level="advanced", codes=("zero-size-tensor",)
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.ST: forge.st({"a": forge.entry("F32", [0, 3], [0, 0])})})],
        "fires": [make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [0, 2**62], [0, 0])})})],
    }
