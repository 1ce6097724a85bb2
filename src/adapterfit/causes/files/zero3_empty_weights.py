"""Tensors of size 0 were saved, as DeepSpeed ZeRO-3 leaves them.

What this means: under ZeRO-3 a process holds only its part of a parameter; what is left in the model object has the
shape [0]. Saved like this, the values are gone from the file, and PEFT fails with a size mismatch to `torch.Size([0])`.
Often only the large matrices are empty, or only those of `modules_to_save`.

Why it happens: `model.save_pretrained` was called under ZeRO-3 without gathering the parameters first.

Detection: a tensor with a 0 in its shape.

Fix: the file cannot be mended. Where the training left `global_step…` folders, `zero_to_fp32.py` beside them rebuilds the
weights; otherwise save again.

Workaround: none.

Prevention: `trainer.save_model` with `stage3_gather_16bit_weights_on_model_save: true`, or
`deepspeed.zero.GatheredParameters` around the save. PEFT 0.21 warns when such a file is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import shorten, show

CAUSE = Cause(
    level="intermediate",
    minutes=30,
    messages=(
        "copying a param with shape torch.Size([0]) from checkpoint, the shape in current model is torch.Size([8, 4096]).",
    ),
    needs=("weights",),
)


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """Fires where a tensor has no elements."""
    empty = [tensor for tensor in case.adapter.tensors if 0 in tensor.shape]
    if not empty:
        return
    steps = sorted({entry.name.split("/")[0] for entry in case.adapter.files if entry.name.startswith("global_step")})
    rebuild = f"rebuild the weights from {show(steps[-1])} with zero_to_fp32.py" if steps else "save the adapter again"
    yield finding(
        f"{len(empty):,} of {len(case.adapter.tensors):,} tensors are empty ({shorten(t.name for t in empty)}): they were "
        "saved under DeepSpeed ZeRO-3 without gathering",
        at=empty,
        predicted="raises",
        found=f"shape {list(empty[0].shape)}",
        fix=Fix("unsafe", f"{rebuild}, gathered this time"),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Whole tensors are silent; one empty tensor is enough."""
    plain = make.lora("llama")
    return {
        "silent": [plain, plain.reshaped(lambda name: "lora_B" in name, lambda shape: (shape[0] // 2, shape[1]))],
        "fires": [
            plain.reshaped(lambda name: "lora_B" in name, lambda _: (0,)),
            plain.reshaped(lambda name: "lora_A" in name and "q_proj" in name, lambda shape: (0, shape[1])),
        ],
    }
