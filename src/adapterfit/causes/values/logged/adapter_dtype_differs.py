"""The adapter's numbers are of another type than those of the base it runs in.

What this means: the adapter is loaded completely. The first product of a base's activation (float16, bfloat16) with an adapter's matrix
(float32, or the other way round) is refused by torch.

Why it happens: PEFT casts adapters to float32 for training (`autocast_adapter_dtype=True`), and the forward pass runs without autocast;
or the base was cast with `.half()` or `.to(...)` after the adapter was loaded, or only in part.

Detection: torch's words on two types, with frames of PEFT's layers, or a LoRA in the text.

Fix: cast the whole model once, after the adapter is loaded: `model.to(base.dtype)`; or pass `autocast_adapter_dtype=False`.

Workaround: run under `torch.autocast("cuda", dtype=torch.bfloat16)`.

Prevention: choose the type at `from_pretrained(..., dtype=torch.bfloat16)`, and never call `.half()` later.

Broken:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    model.base_model.model.model.layers[0].self_attn.q_proj.lora_A.half()
    logits(model)  # raises RuntimeError: ... the same dtype

Fixed:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    model = model.to(torch.float32)
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=3,
    messages=(
        "RuntimeError: mat1 and mat2 must have the same dtype, but got Float and BFloat16",
        "RuntimeError: expected m1 and m2 to have the same dtype, but got: c10::Half != float",
        "RuntimeError: expected scalar type Half but found Float",
    ),
)
_PHRASES = (
    "same data type as",
    "only support fp16 and bf16 data type",
    "only supports fp16 and bf16",
    "to be the same dtype",
    "must have the same dtype",
    "to have the same dtype",
    "expected scalar type half but found",
    "expected scalar type float but found",
    "expected scalar type bfloat16 but found",
)

_TYPE = re.compile(r"(?<![a-z])(half|float|bfloat16|double|float16|float32|float64|fp16|bf16|fp32)(?![a-z0-9])")
_SAME = {
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
    "double": "float64",
}
_TYPED = re.compile(
    r"(?i)\b(?:d?types?|scalar)\b.{0,80}?(?:same|match|expected|but got|but found|equal)|(?:same|match|expected|equal).{0,80}?\b(?:d?types?|scalar)\b"
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: torch refuses a product of two types; PEFT's frames say whose it is."""
    told = said(symptoms, *_PHRASES) or _two_types(symptoms)
    if not told:
        return
    ours = any(frame.library == "peft" and frame.file.startswith("tuners/") for frame in symptoms.frames)
    spoken = said(symptoms, "lora", "peft", "adapter", most=1)
    yield suspect(
        symptoms, "base and adapter meet in two types of numbers", 0.85 if ours else 0.6 if spoken else 0.3, told,
        fix="model.to(base.dtype) after the adapter is loaded, or PeftModel.from_pretrained(..., autocast_adapter_dtype=False)",
        apart="{p.dtype for n, p in model.named_parameters() if 'lora_' in n} beside the base's",
    )  # fmt: skip


def _two_types(symptoms: Symptoms) -> tuple[int, ...]:
    """Lines of errors that name two types of numbers, one beside the other: every library says it in its own words."""
    found = ((error.line, {_SAME.get(word, word) for word in _TYPE.findall(error.message.lower())}) for error in symptoms.errors if _TYPED.search(error.message))  # fmt: skip
    return tuple(line for line, types in found if len(types) > 1)


def logs() -> dict[str, list[str]]:
    """Inside a LoRA layer; without any."""
    frame = 'File "/x/site-packages/peft/tuners/lora/layer.py", line 700, in forward\n'
    return {
        "fires": [
            frame + "RuntimeError: mat1 and mat2 must have the same dtype, but got Half and Float",
            frame + "RuntimeError: expected scalar type Half but found Float",
        ],
        "silent": ["RuntimeError: mat1 and mat2 shapes cannot be multiplied (7x4096 and 5120x8) in a LoRA layer"],
    }
