"""Some bytes of the file belong to no tensor.

What this means: safetensors refuses a file with a gap or with anything behind the last tensor. torch passes over
bytes behind a `.bin`.

Why it happens: two files were joined, a download was resumed twice, or something was hidden behind the weights: a
second archive, a script.

Detection: the byte ranges are added up and compared with the file's size; what lies behind the end is named by its
first bytes.

Fix: download the file again, or save it again.

Workaround: cut off what lies behind the last tensor, if you know where it came from.

Prevention: compare the checksum after a download.

Setup:
    size = os.path.getsize(WEIGHTS)
    with open(WEIGHTS, "ab") as file:
        file.write(b"rest of an older download")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered

Fixed:
    os.truncate("adapter/adapter_model.safetensors", size)  # or fetch the file again
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="advanced",
    messages=("SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",),
    codes=("bytes-unowned",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file({forge.ST: forge.GOOD_ST + b"more"}),
            make.weights_file({forge.BIN: forge.GOOD_BIN + b"more"}),
            make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [2], [1, 3])}, bytes(3))}),
        ],
    }
