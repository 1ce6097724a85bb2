"""PEFT makes layers for which the file has no tensors.

What this means: the config selects more than the file holds. These layers keep their start values: with B = 0 they do nothing,
so the model behaves as if they had not been trained. PEFT warns once ("Found missing adapter keys"), before 0.14 not at all.
Only the slots that no other cause explains are listed here.

Why it happens: the file is a part of an adapter (a filtered or merged copy, an interrupted save), tensors were removed for
some engine, or the config was widened after training.

Detection: every tensor that PEFT would look for is looked up in the file; these are not there.

Fix: take the whole file of the training. If these modules were never trained, narrow target_modules to those that were.

Workaround: none needed where the modules were never trained: their effect is nothing.

Prevention: keep adapter_config.json and the weights of one run together.

Setup:
    shutil.copy(WEIGHTS, "whole.safetensors")
    change_names(lambda name: "" if "layers.1.self_attn.q_proj" in name else name)  # taken out, or lost

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint: ... layers.1.self_attn.q_proj.lora_A
    as_trained(model)  # -> False

Fixed:
    shutil.copy("whole.safetensors", "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence, remainder
from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix, Slot
from adapterfit.text import quote, shorten

CAUSE = Cause(
    minutes=10,
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.1.self_attn.q_proj...']",
        "KeyError: 'prompt_embeddings'",
    ),
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all slots that nobody explains."""
    if not diff.missing or not evidence.comparable(diff) or evidence.no_target(diff):
        return
    known = remainder.explained(case, diff)
    empty = [slot for slot in diff.missing if not slot.optional and slot.key not in known]
    if not empty:
        return
    total = len(diff.missing) + len(diff.matched) + len(diff.misshapen)
    yield finding(
        f"the file has nothing for {len(empty)} of the {total} tensors that PEFT looks for: "
        f"{remainder.grouped((slot.key, slot.shape) for slot in empty)}{_half(diff, empty)}",
        at=[slot.key for slot in empty],
        predicted=_predicted(diff, empty),
        found="no such tensors",
        expected=quote(empty[0].key),
        fix=Fix(
            "unsafe", "take the whole file of the training; if these were never trained, leave them out of the config"
        ),
    )


def _predicted(diff: Diff, empty: list[Slot]) -> str:
    if diff.raised is not None and any(slot.if_missing == "raises" for slot in empty):
        return "raises"
    return "warns" if {slot.model_key for slot in empty} & set(diff.warned) else "silent"


def _half(diff: Diff, empty: list[Slot]) -> str:
    """Modules of which the file has one factor and not the other."""
    filled = {match.slot.module for match in diff.matched}
    halves = list(dict.fromkeys(slot.module for slot in empty if slot.module in filled))
    return f"; of {shorten(halves, 2)} only a part is there" if halves else ""


def examples(make: Any) -> dict[str, list[Any]]:
    """Whole modules, single factors and the prompt gone; not what a rename or another base explains."""
    plain = make.lora("llama")
    prompt = make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=8)
    return {
        "silent": [
            plain,
            plain.renamed(lambda name: "module." + name),
            plain.on("llama", num_hidden_layers=4),
            plain.on("gpt2"),
            make.lora("bert", target_modules=["query"], task_type="SEQ_CLS").dropped(lambda name: "classifier" in name),
        ],
        "fires": [
            plain.with_config(target_modules=["q_proj", "k_proj", "v_proj"]),
            plain.dropped(lambda name: "q_proj.lora_B" in name),
            plain.dropped(lambda name: "layers.0." in name),
            prompt.renamed(lambda _name: "something"),
        ],
    }
