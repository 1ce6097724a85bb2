"""Adapters of different rank are combined by a method that needs one rank.

What this means: `add_weighted_adapter` with `linear`, `ties`, `dare_linear`, `dare_ties` or `magnitude_prune` adds the matrices
element by element, so they must have one shape. PEFT refuses other adapters; programs that add state dicts themselves fail in
torch, with two sizes that are the ranks. The adapters' files are in order.

Why it happens: the adapters come from different trainings, or one has a larger rank in rank_pattern.

Detection: PEFT's words "must have the same r value", or "size of tensor a (32) must match the size of tensor b (16)" below a
function that merges or stacks adapters.

Fix: `combination_type="cat"`, which puts the ranks side by side and is exact for plain LoRA; or `"svd"` with `svd_rank`, which
keeps a small rank and loses something.

Workaround: merge one after the other into the base: `merge_and_unload()`, then load the next.

Prevention: train adapters that are to be combined with one rank.

Setup:
    train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**{**OPTIONS, "r": 8}), "second")

Broken:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", adapter_name="first")
    model.load_adapter("second", adapter_name="second")
    model.add_weighted_adapter(["first", "second"], [1.0, 1.0], "both", combination_type="linear")
    # raises ValueError: All adapters must have the same r value when using combination_type ...

Fixed:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", adapter_name="first")
    model.load_adapter("second", adapter_name="second")
    model.add_weighted_adapter(["first", "second"], [1.0, 0.0], "both", combination_type="cat")
    model.set_adapter("both")
    as_trained(model)  # -> True
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
    minutes=2,
    messages=(
        "ValueError: All adapters must have the same r value when using combination_type linear, ties, dare_ties or dare_linear.",
    ),
    versions="peft >= 0.5",
)
_REFUSED = "adapters must have the same r value"
#: torch, below a function whose name says that it adds one adapter to another.
_SIZES = re.compile(
    r"the size of tensor a \((?P<one>\d{1,4})\) must match the size of tensor b \((?P<other>\d{1,4})\)", re.IGNORECASE
)
_ADDING = re.compile(
    r"\b(?:add_weighted_adapter|(?:merge|combine|stack|average|apply)_(?:loras?|lora_stack|adapters))\b", re.IGNORECASE
)
#: Ranks that people choose; other sizes are those of layers.
_RANKS = frozenset((1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256))
_FIX = 'add_weighted_adapter(adapters, weights, "both", combination_type="cat")'


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's refusal, or two ranks that cannot be added."""
    told = said(symptoms, _REFUSED)
    if told:
        yield suspect(symptoms, "the adapters that are combined have different ranks", 0.96, told, fix=_FIX)
        return
    sizes = _SIZES.search(symptoms.text) if "size of tensor a" in symptoms.folded else None
    if sizes is None or _ADDING.search(symptoms.text) is None:
        return
    one, other = int(sizes["one"]), int(sizes["other"])
    if {one, other} <= _RANKS:
        yield suspect(
            symptoms, f"an adapter of rank {one} is added to one of rank {other}", 0.8, [line_of(symptoms, sizes.start())],
            fix=_FIX, apart="the r of each adapter_config.json: where they agree, the sizes are those of layers of two bases",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """PEFT and a program that adds by itself; one adapter that does not fit its config or its base."""
    return {
        "fires": [
            "ValueError: All adapters must have the same r value when using combination_type linear, ties, dare_ties or dare_linear.",
            (
                'File "tools/mix.py", line 9, in merge_loras\n    total[key] += other[key]\n'
                "RuntimeError: The size of tensor a (64) must match the size of tensor b (8) at non-singleton dimension 0"
            ),
        ],
        "silent": [
            "size mismatch for a.lora_A.default.weight: copying a param with shape torch.Size([32, 64]) from checkpoint, the shape in current model is torch.Size([16, 64]).",
            (
                'File "tools/mix.py", line 9, in merge_loras\n'
                "RuntimeError: The size of tensor a (1280) must match the size of tensor b (768) at non-singleton dimension 1"
            ),
            "RuntimeError: The size of tensor a (32) must match the size of tensor b (16) at non-singleton dimension 1",
        ],
    }
