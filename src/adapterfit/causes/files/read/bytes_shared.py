"""Two tensors of a safetensors file share bytes.

What this means: every byte belongs to exactly one tensor, so the loader refuses the file.

Why it happens: a home-made writer, or a hand-edited header. Tied weights are no reason: safetensors stores them once.

Detection: the byte ranges, in order.

Fix: save the adapter again with the safetensors library.

Workaround: none.

Prevention: use `save_model`, or clone tied tensors, before saving.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it

    def share(header):
        first, second = [name for name in header if name.endswith("lora_A.weight")][:2]
        header[second]["data_offsets"] = header[first]["data_offsets"]

    change_header(share)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: invalid offset for tensor

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # saved again with the safetensors library
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="advanced",
    messages=("SafetensorError: Error while deserializing header: invalid offset for tensor `b`",),
    codes=("bytes-shared",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [make.weights_file({forge.ST: forge.st({"a": forge.ONE, "b": forge.ONE}, bytes(16))})],
    }
