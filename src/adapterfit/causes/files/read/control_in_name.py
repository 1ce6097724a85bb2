"""A tensor name is empty or has characters that cannot be seen.

What this means: such a name meets no parameter, and on a screen it looks like another one or moves the text around
it. Here it is always shown escaped.

Why it happens: a wrapper that joins names wrongly, text copied from a web page, or an attempt to fool the reader of a
report.

Detection: control, bidirectional, zero-width and unassigned characters in the names.

Fix: rename the tensor.

Workaround: none.

Prevention: none.

Setup:
    unseen = chr(0x200B)  # a space of no width, from a web page
    change_names(lambda name: name.replace("layers.1.", f"layers.1{unseen}."))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_trained(model)  # -> False
    "control-in-name" in found()  # -> True

Fixed:
    tensors = load_file("adapter/adapter_model.safetensors")
    tensors = {name.replace(unseen, ""): tensor for name, tensor in tensors.items()}
    save_file(tensors, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight', ...]",
    ),
    severity="warning",
    level="advanced",
    codes=("control-in-name",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.ST: forge.st({"é": forge.ONE}, bytes(16))})],
        "fires": [
            make.weights_file({forge.ST: forge.st({"a\u202eb": forge.ONE}, bytes(16))}),
            make.weights_file({forge.ST: forge.st({"": forge.ONE}, bytes(16))}),
        ],
    }
