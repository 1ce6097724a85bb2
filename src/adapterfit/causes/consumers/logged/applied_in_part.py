"""The server applies a part of the adapter only, and says so in a warning.

What this means: for a multimodal model vLLM and others put LoRA on the language model alone. Tensors for the vision tower and the
connector are left out: the model answers, with half of what was trained.

Why it happens: the adapter was trained on all linear layers, including those of the vision tower.

Detection: "… will be ignored", "skipped", once per module. vLLM prints it for each module of the model, even where the adapter is
for the text part only: look whether the file has tensors called visual or vision.

Fix: merge the adapter and serve the merged model; or use a server that wraps the tower (`enable_tower_connector_lora`).

Workaround: none that keeps the vision part.

Prevention: leave the vision tower out of target_modules, if it is served so.

Not run: it needs vLLM, which leaves out the layers of the vision tower while it serves a multimodal base.

Broken:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    llm = LLM("Qwen/Qwen2.5-VL-3B-Instruct", enable_lora=True)  # visual.blocks.0 will be ignored
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))

Fixed:
    base = AutoModelForImageTextToText.from_pretrained("Qwen/Qwen2.5-VL-3B-Instruct")
    PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("merged")
    llm = LLM("merged")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="warning",
    level="intermediate",
    minutes=15,
    messages=(
        "Regarding multimodal models, vLLM currently only supports adding LoRA to language model, visual.blocks.0 will be ignored.",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "will be ignored", "partially", "vision tower", "visual.", "only the language model",
)  # fmt: skip


#: What is left out must be named: a layer's path, or a word for weights.
_IGNORED = re.compile(
    r"(?:\b(?:loras?|adapters?|layers?|modules?|weights?|tensors?|keys?|parameters?)\b|\w\.\w{1,40}\.\d)[^.!?\n]{0,160}? will be ignored"
    r"|\w\.\w{1,40}\.\d{1,4}\S{0,80} will be ignored"
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: modules that are ignored or skipped."""
    told = said(
        symptoms,
        "only supports adding lora to language model",
        "weight(s) skipped because they did not match",
        "unused adapter weights",
        "lora weights will be ignored",
    )
    ignored = (
        tuple(line_of(symptoms, found.end()) for found in _IGNORED.finditer(symptoms.folded))
        if said(symptoms, "lora", most=1)
        else ()
    )
    if told or ignored:
        yield suspect(
            symptoms, "the server leaves a part of the adapter out", 0.91 if told else 0.7, told or ignored,
            fix="merge the adapter (merge_and_unload) and serve the merged model, or use a newer server",
            apart="whether the file has tensors called visual or vision: if not, nothing is lost",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A vision tower; nothing at all applied."""
    return {
        "fires": [
            "WARNING: LoRA module 'model.layers.1.mlp.gate' in adapter 'x' is not in the model's supported LoRA target modules [o_proj]. These parameters will be ignored.",
            "WARNING [models.py:472] Regarding multimodal models, vLLM currently only supports adding LoRA to language model, visual.blocks.1 will be ignored.",
            "lora: modules visual.blocks.1.attn.qkv will be ignored",
            "LoRA adapter 'x': 12 weight(s) skipped because they did not match any target module",
        ],
        "silent": ["No LoRA weights were applied for adapter x"],
    }
