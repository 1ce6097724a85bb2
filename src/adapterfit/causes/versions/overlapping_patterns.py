"""rank_pattern and alpha_pattern both match a module, and an older PEFT took one key for both.

What this means: up to PEFT 0.13 (for LoHa and LoKr up to 0.14) the first key that matched a module, ranks before alphas, was
looked up in both tables. A module with a key of its own in alpha_pattern and another one in rank_pattern was trained with the
plain alpha. Today each table is searched by itself, and the alpha of the table is applied: another strength, without a word.

Why it happens: the file and the config are the same in all versions; only the age of the config tells.

Detection: adapterfit dates the config by its fields and reads both tables in the old way and in today's; the ranks of the
tensors must agree with the old way.

Fix: write the tables with full paths, as they were in force in training.

Workaround: load with PEFT 0.13.2.

Prevention: use the same key in both tables.

Setup:
    options = LoraConfig(**OPTIONS, rank_pattern={"q_proj": 8})
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_config(alpha_pattern={"layers.0.self_attn.q_proj": 64})  # PEFT up to 0.13 did not obey it beside the other table

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False

Fixed:
    change_config(alpha_pattern={})  # what was in force in the training
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import written_before
from adapterfit.causes.versions import _tables
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import show

CAUSE = Cause(
    level="advanced",
    minutes=5,
    messages=("(none: the load reports nothing)",),
    versions="written by peft 0.6.0 to 0.13.2, read by peft >= 0.14.0",
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all modules whose alpha was another one in training."""
    if diff.raised is not None or _scale_was_ignored(case):
        return
    modules = _tables.changed(case, diff, shared=True)
    if not modules:
        return
    name, (then, now) = next(iter(modules.items()))
    edits = _tables.restored(diff, modules)
    yield finding(
        f"{evidence.count(len(modules), 'module')} match keys of rank_pattern and of alpha_pattern: PEFT before 0.14 took one "
        f"key for both, and trained {show(name)} with alpha {show(then.alpha)}; PEFT now applies {show(now.alpha)}",
        at=list(modules),
        predicted="silent",
        expected=f"alpha {show(then.alpha)}",
        found=f"alpha {show(now.alpha)}",
        fix=Fix("safe" if edits else "unsafe", "write both tables with full paths, as they were in force", edits),
        explains=(),
        differs=True,
    )


def _scale_was_ignored(case: Case) -> bool:
    """LoKr before 0.14 did not use alpha at all: that is another cause."""
    config = case.adapter.config
    return config is not None and config.peft_type == "LOKR" and written_before(case, "0.14.0")


def examples(make: Any) -> dict[str, list[Any]]:
    """Two keys for one module in an old config; one key for both, a config of today, and keys that do not meet."""
    old: dict[str, Any] = {
        "auto_mapping": None, "bias": "none", "fan_in_fan_out": False, "init_lora_weights": True, "layers_pattern": None,
        "layers_to_transform": None, "lora_dropout": 0.0, "modules_to_save": None, "revision": None,
    }  # fmt: skip
    ranks, alphas = {"q_proj": 2}, {"layers.0.self_attn.q_proj": 64}
    return {
        "fires": [
            make.lora("llama", **old, rank_pattern=ranks, alpha_pattern=alphas),
            make.lora("llama", **old, rank_pattern=ranks, alpha_pattern={"v_proj": 2, "self_attn.q_proj": 1}),
        ],
        "silent": [
            make.lora("llama", **old, rank_pattern=ranks, alpha_pattern={"q_proj": 64}),
            make.lora("llama", **old, rank_pattern=ranks, alpha_pattern={"v_proj": 64}),
            make.lora("llama", **old, rank_pattern={}, alpha_pattern=alphas),
            make.lora("llama", rank_pattern=ranks, alpha_pattern=alphas, peft_version="0.21.2"),
            make.lora("llama", rank_pattern=ranks, alpha_pattern=alphas),
        ],
    }
