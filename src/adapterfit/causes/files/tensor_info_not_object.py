"""A tensor is not described by an object.

What this means: each entry of a safetensors header is an object with dtype, shape and data_offsets. A list of the
three is read by the Rust library, but not by other readers; anything else is refused by all.

Why it happens: a home-made writer.

Detection: the kind of every entry.

Fix: save the adapter again with the safetensors library.

Workaround: load it once with the Rust library, if it does, and save it again.

Prevention: write files with the safetensors library.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(level="advanced", codes=("tensor-info-not-object",))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [make.weights_file({forge.ST: forge.st({"a": ["F32", [2, 2], [0, 16]]}, bytes(16))})],
    }
