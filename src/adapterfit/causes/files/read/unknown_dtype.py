"""A tensor has a data type that this version does not know.

What this means: the loader refuses the whole file where its own safetensors does not know the type either; a newer
one may read it.

Why it happens: the file was written by a newer safetensors or another program, or the header is damaged.

Detection: the dtype against the list of safetensors.

Fix: update safetensors (and this tool), or save the adapter in a type that both know, such as bfloat16.

Workaround: convert it once with the version that wrote it.

Prevention: publish adapters in float32, float16 or bfloat16.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    change_header(lambda header: header[name].update(dtype="F31"))  # by a newer safetensors, or a damaged header

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid JSON in header: unknown variant `F31`

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # in a type that every safetensors knows
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="intermediate",
    messages=("SafetensorError: Error while deserializing header: invalid JSON in header: unknown variant `F31`",),
    codes=("unknown-dtype",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file({forge.ST: forge.st({"a": forge.entry("F31", [1], [0, 1])}, b"x")}),
            make.weights_file({forge.ST: forge.zipped([forge.Member("a.npy", forge.npy("(2,)", "<U2"))])}),
        ],
    }
