"""What the file lacks is filled with random numbers.

What this means: the config says `init_lora_weights: false` (or `init_weights`, `init_ia3_weights`), which starts the adapter
at random instead of at "no effect". Every tensor that the file lacks, or that does not meet its module, then adds noise:
the model is worse than the base.

Why it happens: the flag is meant for tests; a config of a test, or of a script that set it to save time, was kept.

Detection: the flag is off and some slots stay empty.

Fix: mend what leaves the slots empty (the other finding). Setting the flag to `true` is always right for loading, since a
complete file overwrites every start value.

Workaround: set `init_lora_weights` to `true` in adapter_config.json: missing tensors then have no effect.

Prevention: leave the flag at its default.

Setup:
    shutil.copy(WEIGHTS, "whole.safetensors")
    change_names(lambda name: "" if ".layers.1." in name else name)  # a part of the file is lost
    change_config(init_lora_weights=False)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    noisy = logits(model)
    change_config(init_lora_weights=True)
    plain = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter"))
    # warns: Found missing adapter keys while loading the checkpoint
    torch.allclose(noisy, plain)  # what is missing was filled with random numbers  # -> False

Fixed:
    shutil.copy("whole.safetensors", "adapter/adapter_model.safetensors")
    change_config(init_lora_weights=True)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix

CAUSE = Cause(
    level="intermediate",
    minutes=2,
    messages=("Found missing adapter keys while loading the checkpoint: [...]",),
    needs=("diff",),
)
_FLAGS = ("init_lora_weights", "init_weights", "init_ia3_weights")


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where the flag is off and a slot of the method stays empty."""
    config = diff.expectation.config
    flag = next((name for name in _FLAGS if config.get(name) is False), None)
    empty = [slot.key for slot in diff.missing if slot.role == "tuner" and not slot.optional]
    if flag is None or not empty or diff.raised is not None:
        return
    yield finding(
        f"{flag} is false: {evidence.count(len(empty), 'tensor')} that no tensor of the file fills start at random "
        "numbers, so the model gets noise instead of no effect",
        at=empty,
        predicted="warns" if diff.warned else "silent",
        fix=Fix("unsafe", f"set {flag} to true, and mend what leaves them empty"),
        explains=(),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Missing tensors with the flag off; a complete file with it; missing tensors without it."""
    off = make.lora("llama", init_lora_weights=False)
    ia3 = make.adapter("llama", peft_type="IA3", init_ia3_weights=False)
    return {
        "fires": [off.dropped(lambda name: ".0." in name), ia3.dropped(lambda name: ".1." in name)],
        "silent": [off, make.lora("llama").dropped(lambda name: ".0." in name)],
    }
