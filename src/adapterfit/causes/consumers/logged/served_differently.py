"""The engine applies the adapter with another scale, or computes something else with it.

What this means: the engine loads the adapter without an error and uses every tensor, but not as PEFT does: it multiplies
the matrices by another number, or leaves out what made the method. The answers are neither the base's nor the trained
model's.

Why it happens: the engine reads lora_alpha and r, and nothing else. With rsLoRA the scale is alpha / √r and it applies
alpha / r, which is 1 / √r of what was trained; with alpha_pattern modules of their own alpha get the common one; an engine that
reads no config at all applies 1. An initialisation that took something out of the base needs that base back.

Detection: the engine's scale beside PEFT's, module by module, from the config and the ranks of the tensors.

Fix: one scale for all modules can be said in the config: set lora_alpha to scale × r, and use_rslora to false. Several are
multiplied into the lora_B matrices, with lora_alpha = r afterwards.

Workaround: merge the adapter into its base with PEFT and serve the merged model.

Prevention: check the adapter for the engine that will serve it: `adapterfit check ADAPTER --for ENGINE`.

Setup:
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS, use_rslora=True))

Broken:
    change_config(use_rslora=False)  # an engine that reads lora_alpha and r, and nothing else
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> False

Fixed:
    scale = 8 / 4**0.5  # lora_alpha / √r, as rsLoRA has it
    change_config(lora_alpha=scale * 4, use_rslora=False)  # the same scale, said so that every engine reads it
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.told import in_words
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    messages=("(none: the engine serves it without a word)",),
    level="intermediate",
    minutes=10,
    versions="every engine whose scale is known to differ",
)
_WORDS = ("use_rslora", "rslora", "alpha_pattern")
_IGNORED = (
    "is ignored",
    "are ignored",
    "ignores",
    "not respected",
    "not taken into account",
    "wrong scal",
    "is not read",
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a text: rsLoRA or alpha_pattern named beside words for being ignored, and no error that says more."""
    yield from in_words(
        symptoms,
        "served-differently",
        fix="multiply the scale into lora_B and set lora_alpha = r (use_rslora: false), or merge the adapter",
    )
    told, ignored = said(symptoms, *_WORDS), said(symptoms, *_IGNORED)
    if told and ignored and not symptoms.errors:
        yield suspect(
            symptoms, "the engine scales the adapter otherwise than PEFT does", 0.8, (*told, *ignored),
            fix="multiply the scale into lora_B and set lora_alpha = r (use_rslora: false), or merge the adapter",
            apart="check --for the engine: the scale of each module beside PEFT's",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A server that ignores rsLoRA; rsLoRA that is only mentioned."""
    return {
        "fires": ["SGLang: use_rslora is ignored when the adapter is loaded, the scaling is lora_alpha / r"],
        "silent": ["INFO peft_helper.py:90] Loading LoRA weights trained with rsLoRA."],
    }
