"""Two tensor names look alike but differ.

What this means: they differ only in case, in how an accent is written, or in letters of another alphabet. At most one
of them meets the parameter it seems to.

Why it happens: names typed by hand, a file system that ignores case, or an attempt to hide a tensor.

Detection: names are compared after unifying case, accents and look-alike letters.

Fix: look at both, and drop or rename the wrong one.

Workaround: none.

Prevention: none.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(severity="warning", level="advanced", codes=("look-alike-names",))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file(
                {
                    forge.ST: forge.st(
                        {"lora_A": forge.entry("U8", [1], [0, 1]), "lora_a": forge.entry("U8", [1], [1, 2])}, b"xy"
                    )
                }
            ),
            make.weights_file(
                {
                    forge.ST: forge.st(
                        {"lora_A": forge.entry("U8", [1], [0, 1]), "l\u043era_A": forge.entry("U8", [1], [1, 2])}, b"xy"
                    )
                }
            ),
        ],
    }
