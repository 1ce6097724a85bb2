"""A tensor is not described by an object.

What this means: each entry of a safetensors header is an object with dtype, shape and data_offsets. A list of the
three is read by the Rust library, but not by other readers; anything else is refused by all.

Why it happens: a home-made writer.

Detection: the kind of every entry.

Fix: save the adapter again with the safetensors library.

Workaround: load it once with the Rust library, if it does, and save it again.

Prevention: write files with the safetensors library.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    change_header(lambda header: header.update({name: "F32"}))  # a home-made writer

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid JSON in header: invalid type: string "F32", expected struct TensorInfo

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # saved again with the safetensors library
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        'SafetensorError: Error while deserializing header: invalid JSON in header: invalid type: string "F32", expected struct TensorInfo at line 1 column 1030',
    ),
    level="advanced",
    codes=("tensor-info-not-object",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [make.weights_file({forge.ST: forge.st({"a": ["F32", [2, 2], [0, 16]]}, bytes(16))})],
    }
