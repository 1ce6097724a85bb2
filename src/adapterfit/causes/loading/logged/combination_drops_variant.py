"""Adapters of a variant of LoRA are combined, and the combination computes something else.

What this means: `add_weighted_adapter` combines the two matrices of each layer only. The new adapter's scale is reckoned as that of
a plain LoRA, so with rsLoRA it is too large by the square root of the rank; DoRA's magnitudes and the biases of `lora_bias`
are not combined and keep their start values. Nothing is raised or printed: even one adapter combined with weight 1.0 is not
that adapter any more.

Why it happens: the new adapter copies the first one's config, with `use_rslora`, `use_dora` or `lora_bias` switched on, and
only the matrices are filled in. Seen with PEFT 0.21.2; https://github.com/huggingface/peft/issues/3761.

Detection: combine a single adapter with weight 1.0 and compare its answers with the adapter's own.

Fix: merge one after the other, `merge_and_unload()` and then the next adapter; the merge knows every variant.

Workaround: with rsLoRA alone, divide the weights by the square root of the new adapter's rank.

Prevention: plain LoRA for adapters that are to be combined, or a PEFT that combines the variant.

Setup:
    global trained
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS, use_rslora=True))

Broken:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    as_trained(model)  # -> True
    model.add_weighted_adapter(["default"], [1.0], "same", combination_type="linear")
    model.set_adapter("same")
    as_trained(model)  # -> False

Fixed:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    model = model.merge_and_unload()
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
    level="intermediate",
    messages=("add_weighted_adapter gives a model that answers otherwise than its adapters, without an error",),
    versions="peft >= 0.8",
)
#: The options whose tensors or scale are not combined, as they stand in a script or a config.
_VARIANT = re.compile(
    r"\b(use_rslora|use_dora|lora_bias)\b[\"'`]?\s*[=:]\s*true|\b(rslora|dora|use_rslora|use_dora|lora_bias)\b(?![\"'`]?\s*[=:]\s*false)",
    re.IGNORECASE,
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a report: a combination, a variant beside it, and no error that explains more."""
    told = said(
        symptoms, "add_weighted_adapter", "combining a single adapter", "combining adapters", "combine adapters"
    )
    variant = _VARIANT.search(symptoms.text) if told else None
    if variant is None or symptoms.errors:
        return
    name = (variant[1] or variant[2]).lower()
    yield suspect(
        symptoms, f"add_weighted_adapter does not combine what {name} adds", 0.75, told,
        fix="model = model.merge_and_unload(), one adapter after the other",
        apart="one adapter combined with weight 1.0 must answer as the adapter itself",
    )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Two reports in words; a combination of plain adapters, and one that was refused."""
    return {
        "fires": [
            "Combining a single adapter with weight 1 gives another one when `use_rslora` is on.",
            "after add_weighted_adapter(['a'], [1.0], 'b') the outputs are not those of a; both have use_rslora=True",
            "model.add_weighted_adapter(...) on DoRA adapters gives noise, no error",
        ],
        "silent": [
            "after add_weighted_adapter(['a', 'c'], [0.5, 0.5], 'b') the style is weaker; r=8, use_rslora=False",
            "use_rslora=True trains well",
        ],
    }
