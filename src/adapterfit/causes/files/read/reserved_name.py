"""A tensor is called `__metadata__`.

What this means: safetensors keeps that name for the file's own metadata. Its writer accepts such a tensor (0.8 still
does), its reader then refuses the file.

Why it happens: a module or buffer of that name was saved.

Detection: the entry `__metadata__` has a dtype, a shape and offsets.

Fix: save again under another name; the bytes are all there.

Workaround: none.

Prevention: do not name parameters or buffers `__metadata__`.

Broken:
    tensors = load_file("adapter/adapter_model.safetensors")
    save_file({**tensors, "__metadata__": torch.ones(1)}, "adapter/adapter_model.safetensors")  # a buffer of that name
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid JSON in header

Fixed:
    tensors = load_file("adapter/adapter_model.safetensors")
    save_file({**tensors, "remarks": torch.ones(1)}, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        "SafetensorError: Error while deserializing header: invalid JSON in header: invalid type: sequence, expected a string at line 1 column 39",
    ),
    level="advanced",
    codes=("reserved-name",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [make.weights_file({forge.ST: forge.st({"__metadata__": forge.ONE}, bytes(16))})],
    }
