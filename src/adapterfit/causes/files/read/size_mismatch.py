"""A tensor's bytes do not suit its shape.

What this means: shape times data type gives another number of bytes than the file holds for the tensor, so the loader
refuses it.

Why it happens: a header was edited by hand (a rank, a dtype), a home-made converter changed one and not the other, or
the file is damaged.

Detection: shape × bits of the dtype against the byte range, tensor by tensor.

Fix: convert or save the adapter again from its source.

Workaround: none.

Prevention: change tensors with a library, never the header alone.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    change_header(lambda header: header[name].update(shape=[8, 32]))  # the rank was edited in the header alone

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid shape, data type, or offset for tensor

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # from its source
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="advanced",
    messages=("SafetensorError: Error while deserializing header: invalid shape, data type, or offset for tensor",),
    codes=("size-mismatch", "misaligned"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file({forge.ST: forge.st({"a": forge.entry("F32", [3], [0, 16])}, bytes(16))}),
            make.weights_file({forge.ST: forge.st({"a": forge.entry("F4", [3], [0, 2])}, b"ab")}),
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.of(forge.tensor()), (bytes(15),)))}),
        ],
    }
