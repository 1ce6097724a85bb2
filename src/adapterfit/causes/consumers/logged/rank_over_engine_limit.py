"""The adapter's rank is larger than the server was started for.

What this means: vLLM reserves memory for adapters up to `max_lora_rank`, 16 unless told otherwise. An adapter with a larger r, or with
one larger rank in rank_pattern, is refused. SGLang and TensorRT-LLM have such limits too.

Why it happens: the option was left at its default.

Detection: the server prints both numbers.

Fix: start the server with a limit from its list, rounded up: `--max-lora-rank 64`. vLLM takes 1, 8, 16, 32, 64, 128, 256, 320 or 512.

Workaround: merge the adapter, or reduce its rank by a truncated SVD, which loses something.

Prevention: choose a rank the server is run with, before training.

Not run: it needs vLLM, which reads its limit when it starts; PEFT has none.

Broken:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    llm = LLM("base", enable_lora=True)  # max_lora_rank is 16
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter-of-rank-64"))

Fixed:
    llm = LLM("base", enable_lora=True, max_lora_rank=64)
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter-of-rank-64"))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import after, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=1,
    messages=("ValueError: LoRA rank 64 is greater than max_lora_rank 16.",),
)
#: Values that vLLM 0.33 accepts.
LIMITS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_WORDS = (
    "is greater than max_lora_rank",
    "is incompatible with the current lora memory pool",
    "max_lora_rank must be one of",
    ") must be one of (8, 16, 32",
    "input should be 1, 8, 16",
    "exceeds max_lora_rank",
    "rank exceeds",
    "larger than adapter memory reservation",
    "lora rank is too",
)

_COMPARED = (
    "must be smaller",
    "must be less",
    "greater than",
    "larger than",
    "exceed",
    "must not be",
    "at most",
    "too large",
    "<= ",
    "above",
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "max_lora_rank", "max-lora-rank", "maxlorarank",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("vllm", "validate_legal"): 0.6, ("sglang", "validate_new_adapter"): 0.5}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the server's words, with both numbers."""
    told = said(symptoms, *_WORDS) or _compared(symptoms)
    if not told:
        option = said(symptoms, "max_lora_rank", "max-lora-rank")
        if option and (symptoms.errors or said(symptoms, "error", "must be", "not in", "invalid")):
            yield suspect(
                symptoms,
                "the server's limit for ranks is too small, or is not a value it knows",
                0.75,
                option,
                fix=f"--max-lora-rank with one of {', '.join(map(str, LIMITS))}",
            )
        return
    rank = (
        _number_after(symptoms, "lora rank ")
        or _number_after(symptoms, "with rank ")
        or _number_after(symptoms, "rank (")
    )
    limit = next((value for value in LIMITS if rank and value >= rank), 0)
    what = f"the adapter has rank {rank}" if rank else "the adapter's rank"
    yield suspect(
        symptoms, f"{what}, more than the server was started for", 0.85 if said(symptoms, "lora-target-modules") else 0.95, told,
        fix=f"start the server with --max-lora-rank {limit}" if limit else f"start the server with a larger --max-lora-rank, at most {LIMITS[-1]}",
    )  # fmt: skip


def _compared(symptoms: Symptoms) -> tuple[int, ...]:
    """Lines that hold a rank against a maximum: every engine says it in its own words."""
    lines = (line for line in said(symptoms, "rank") if "max" in symptoms.lines[line].lower())
    return tuple(line for line in lines if any(word in symptoms.lines[line].lower() for word in _COMPARED))


def _number_after(symptoms: Symptoms, phrase: str) -> int:
    words = after(symptoms, phrase, 12).split()
    digits = words[0].rstrip(".,)") if words else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0


def logs() -> dict[str, list[str]]:
    """VLLM's line, SGLang's; a rank that differs from the file's is another matter."""
    return {
        "fires": [
            "ValueError: LoRA rank 128 is greater than max_lora_rank 64.",
            "LoRA adapter x with rank 32 is incompatible with the current LoRA memory pool configuration.",
        ],
        "silent": [
            "size mismatch for a.lora_A.default.weight: copying a param with shape torch.Size([32, 64]) from checkpoint, the shape in current model is torch.Size([16, 64])."
        ],
    }
