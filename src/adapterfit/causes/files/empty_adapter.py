"""The weights file holds no tensors.

What this means: PEFT injects fresh adapter layers, finds nothing to load into them, warns about missing keys (silently
before 0.14) and returns a model that behaves as the base does.

Why it happens: the training script replaced `model.state_dict` (alpaca-lora's well-known line), so `save_pretrained`
saw an empty state dict; or the save ran under ZeRO-3 or FSDP on a process that held nothing. The file is then 40 bytes
(safetensors) or 443 bytes (a `.bin`) small.

Detection: the header names no tensor.

Fix: there is nothing to mend in the file. Look for an earlier `checkpoint-N`, or save again.

Workaround: none.

Prevention: delete the line that overrides `model.state_dict`, and look at the size of what was saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import show

CAUSE = Cause(
    messages=("UserWarning: Found missing adapter keys while loading the checkpoint:",),
    needs=("weights",),
    minutes=15,
)


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """Fires where the file could be read and names nothing."""
    weights = case.adapter.weights
    if weights is None or weights.refused or weights.tensors:
        return
    yield finding(
        f"{show(weights.file)} ({weights.size:,} bytes) holds no tensors: the model behaves as the base does",
        explains=[slot.key for slot in diff.missing] if diff is not None else (),
        predicted="warns",
        found="0 tensors",
        fix=Fix("unsafe", "look for an earlier checkpoint that holds tensors, or save the adapter again"),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """An adapter with tensors is silent; the 40-byte file fires."""
    plain = make.lora("llama")
    empty = make.safetensors({}, {"format": "pt"})
    return {
        "silent": [plain, plain.dropped(lambda name: "v_proj" in name)],
        "fires": [make.weights_file({make.WEIGHTS: empty}), plain.dropped(lambda _: True)],
    }
