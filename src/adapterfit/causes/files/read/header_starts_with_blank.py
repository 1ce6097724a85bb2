"""The header is written in an unusual way.

What this means: there are blanks before it, or fields that safetensors does not know. The Rust library reads it all
the same; the specification forbids the first, and other readers may refuse it.

Why it happens: a home-made writer.

Detection: the first byte of the header, and the fields of each entry.

Fix: none is needed; to be safe, load the file and save it again.

Workaround: none.

Prevention: write files with the safetensors library.

Setup:
    change_header(lambda header: " " + json.dumps(header))  # a home-made writer

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # reads it all the same; other readers may not
    as_trained(model)  # -> True
    "header-starts-with-blank" in found(notes=True)  # -> True

Fixed:
    save_file(load_file("adapter/adapter_model.safetensors"), "adapter/adapter_model.safetensors")
    "header-starts-with-blank" in found(notes=True)  # -> False
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("(none: the load reports nothing)",),
    severity="note",
    level="advanced",
    codes=("header-starts-with-blank", "unknown-field"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file({forge.ST: forge.st(b"  " + forge.pairs(("a", forge.ONE)), bytes(16))}),
            make.weights_file({forge.ST: forge.st({"a": forge.entry("F32", [2, 2], [0, 16], extra=1)}, bytes(16))}),
        ],
    }
