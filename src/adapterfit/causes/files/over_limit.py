"""Something is larger than this tool reads.

What this means: a header, a name, a list or a folder goes beyond a cap that keeps a check short. What lies beyond was
not looked at, so nothing is said about it. A real adapter stays far below every cap.

Why it happens: a file made to exhaust its reader; or a very unusual real one.

Detection: sizes are compared with the caps in `adapterfit/limits.py` before anything is read.

Fix: if the file is honest, tell us about it: the cap is too low.

Workaround: in Python, raise the constant of `adapterfit.limits` that the message names.

Prevention: none.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(severity="warning", level="advanced", codes=("over-limit",))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [1] * 16, [0, 1])}, b"x")})],
        "fires": [make.weights_file({forge.ST: forge.st({"a": forge.entry("U8", [1] * 17, [0, 1])}, b"x")})],
    }
