"""A tensor has a shape or a place that cannot be.

What this means: a size is negative or no whole number, the data end before they start, or a view reaches beyond its
storage. Loaders refuse such a file, or would read memory that is not the tensor's.

Why it happens: a home-made writer, a damaged header, or an attempt to make a loader read elsewhere.

Detection: sizes, strides and offsets are checked in whole numbers, before anything is allocated.

Fix: save the adapter again with `save_pretrained`.

Workaround: none.

Prevention: write files with the safetensors library.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    change_header(lambda header: header[name].update(shape=[-4, 32]))  # a home-made writer

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid JSON in header: invalid value: integer `-4`, expected usize

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # saved again with save_pretrained
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        "SafetensorError: Error while deserializing header: invalid JSON in header: invalid value: integer `-4`, expected usize at line 1 column 1086",
    ),
    level="advanced",
    codes=("bad-geometry", "shape-overflow"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [-2], [0, 2])}, b"ab")}),
            make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [2**33, 2**33], [0, 0])})}),
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.of(forge.tensor((2, 3), (3, 1)))))}),
        ],
    }
