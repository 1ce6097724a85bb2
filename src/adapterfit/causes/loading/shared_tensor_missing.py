"""A tensor that the whole adapter hangs on is not in the file.

What this means: some methods keep one tensor for the whole model (VB-LoRA's bank of vectors, TinyLoRA's and Uni-LoRA's
vectors, the projections of VeRA, RandLoRA and FRoD, X-LoRA's classifier), or one that stands outside the usual names (SHiRA's
indices, the prompts and gates of adaption prompts, the task matrices of multitask prompts). Without it the rest says nothing: PEFT fills
it with fresh random numbers, and about most of them it says nothing at all.

Why it happens: the file was filtered by layer names, merged from shards, or converted by a script that knows layers only.
PEFT 0.20 to 0.21.2 loses X-LoRA's classifier by itself: it calls the mixed adapters 0, 1, …, takes `layers.0` of the classifier
for a part of adapter 0, and leaves it out of the file.

Detection: the other tensors of the adapter land, and these do not exist.

Fix: take the whole file of the training.

Workaround: projections that were drawn from a seed can be drawn again: set `save_projection` to false, with the same
versions of PEFT and torch. What was trained cannot be had back.

Prevention: keep every tensor that `save_pretrained` writes.

Setup:
    options = peft.VBLoRAConfig(r=4, num_vectors=8, vector_length=16, target_modules=["q_proj", "v_proj"])
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    shutil.copy(WEIGHTS, "whole.safetensors")

Broken:
    tensors = load_file("adapter/adapter_model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if ".layers." in name}  # loses vblora_vector_bank
    save_file(kept, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    found()  # -> ['shared-tensor-missing']

Fixed:
    shutil.copy("whole.safetensors", "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit import limits
from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader
from adapterfit.records import Case, Diff, Finding, Fix, Slot
from adapterfit.text import shorten

CAUSE = Cause(
    level="advanced",
    minutes=10,
    messages=(
        "(none: the load reports nothing)",
        "ValueError: Specified to load vera_A and vera_B from state dictionary however they were not present!",
        "ValueError: Specified to load FRoD projection tensors from state dictionary however they were not present.",
    ),
    versions="peft >= 0.6",
    needs=("config", "diff"),
)
_CLASSIFIER = "base_model.internal_xlora_classifier.layers"
_SEEDED = ("vera_", "pvera_", "randlora_", "frod_")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all of them, where something else of the adapter is there."""
    if diff.expectation.config.get("peft_type") == "XLORA":
        yield from _classifier(case, diff)
    quiet = loader(diff).get("missing-keys") == "silent"  # then silence sets no slot apart
    empty = [slot for slot in diff.missing if not slot.optional and _is_shared(slot, quiet=quiet)]
    if not empty or not _others_land(diff, empty):
        return
    raises = diff.raised is not None and diff.raised.stage == "load" and diff.raised.kind == "ValueError"
    keys = [slot.key for slot in empty]
    yield finding(
        f"the file lacks {shorten(keys, 2)}, which {'every layer needs' if len(empty) == 1 else 'its layers need'}; "
        + ("PEFT refuses the file" if raises else "PEFT takes fresh random numbers or start values instead"),
        at=keys,
        predicted="raises" if raises else _told(diff, empty),
        fix=Fix("unsafe", _remedy(empty)),
    )


def _classifier(case: Case, diff: Diff) -> Iterator[Finding]:
    """Layers of X-LoRA's classifier that the file lacks: PEFT draws them at random, whatever the adapters are that it mixes."""
    here = {tensor.name for tensor in case.adapter.tensors}
    lost = [key for key in _classifier_keys(diff.expectation.config) if key not in here]
    if not lost or case.adapter.weights is None or case.adapter.weights.refused:
        return
    yield finding(
        f"the file lacks {shorten(lost, 2)} of the classifier that mixes the adapters; PEFT draws it at random, without a word",
        at=lost,
        expected="the classifier, which is all that X-LoRA trains",
        fix=Fix("unsafe", "none; train it anew, and save state_dict() of internal_xlora_classifier beside it"),
        settles="" if loader(diff).get("xlora-layers") else "loads-partly",
    )


def _classifier_keys(config: Mapping[str, Any]) -> list[str]:
    """Names of its linear layers: an activation, and a dropout where there is one, stand between two of them."""
    depth, dropout = config.get("xlora_depth", 1), config.get("xlora_dropout_p", 0.2)
    if type(depth) is not int or not 0 < depth <= limits.LAYERS or not isinstance(dropout, (int, float)):
        return []
    step = 3 if dropout > 0 else 2
    return [f"{_CLASSIFIER}.{at * step}.{leaf}" for at in range(depth) for leaf in ("weight", "bias")]


def _is_shared(slot: Slot, *, quiet: bool) -> bool:
    outside = slot.role == "tuner" and (slot.module == "" or bool(slot.shares))
    return outside or (slot.if_missing == "silent" and slot.role in (("prompt",) if quiet else ("tuner", "prompt")))


def _others_land(diff: Diff, empty: list[Slot]) -> bool:
    """Whether the rest of the adapter is there: then these are missing, and not merely called otherwise."""
    keys = {slot.key for slot in empty}
    return bool(diff.matched) and all(slot.key in keys or slot.optional for slot in diff.missing) and not diff.extra


def _told(diff: Diff, empty: list[Slot]) -> str:
    return "warns" if {slot.model_key for slot in empty} & set(diff.warned) else "silent"


def _remedy(empty: list[Slot]) -> str:
    if all(
        evidence.parts(slot.key).leaf.startswith(_SEEDED) or slot.key.startswith("base_model.") for slot in empty
    ) and any(name in slot.key for slot in empty for name in _SEEDED):
        return "take the whole file; or set save_projection to false, and PEFT draws them from the seed in the config again"
    return "take the whole file of the training; these numbers cannot be had back from anything else"


def examples(make: Any) -> dict[str, list[Any]]:
    """Banks, vectors, projections, indices, gates and task matrices gone; whole files; files where all is called otherwise."""
    bank = make.adapter("llama", peft_type="VBLORA", r=4, num_vectors=9, vector_length=8)
    vera = make.adapter("llama", peft_type="VERA", r=4, target_modules=["q_proj", "v_proj"])
    shira = make.adapter("llama", peft_type="SHIRA", r=2, target_modules=["q_proj"])
    tiny = make.adapter("llama", peft_type="TINYLORA", target_modules=["q_proj"])
    gates = make.adapter("llama", peft_type="ADAPTION_PROMPT", adapter_len=4, adapter_layers=2)
    tasks = make.adapter("llama", peft_type="MULTITASK_PROMPT_TUNING", num_virtual_tokens=3, num_tasks=2)
    rand = make.adapter("llama", peft_type="RANDLORA", r=4, target_modules=["q_proj"])
    mixed = {"peft_type": "XLORA", "adapters": {"0": "a", "1": "b"}, "hidden_size": 64, "xlora_dropout_p": 0.0}
    mixture = make.lora("llama").without_config("r", "lora_alpha").with_config(**mixed).dropped(lambda _: True)
    first = {f"{_CLASSIFIER}.0.weight": (2, 64), f"{_CLASSIFIER}.0.bias": (2,)}
    return {
        "fires": [
            bank.dropped(lambda name: "vector_bank" in name),
            vera.dropped(lambda name: name.endswith(("vera_A", "vera_B"))),
            vera.dropped(lambda name: name.endswith("vera_B")),
            shira.dropped(lambda name: "indices" in name),
            tiny.dropped(lambda name: "tinylora_v" in name),
            gates.dropped(lambda name: "gate" in name),
            tasks.dropped(lambda name: "rows" in name),
            rand.dropped(lambda name: "randlora_A" in name),
            mixture,
            mixture.with_config(xlora_depth=2).added(first),
        ],
        "silent": [
            bank,
            vera,
            shira,
            gates,
            tasks,
            rand,
            rand.dropped(lambda name: name.endswith("q_proj.randlora_A")),
            bank.renamed(lambda name: "module." + name),
            bank.dropped(lambda name: "logits_A" in name),
            make.lora("llama").dropped(lambda name: "lora_B" in name),
            mixture.added(first),
            mixture.with_config(xlora_depth=2).added(
                {**first, f"{_CLASSIFIER}.2.weight": (2, 9), f"{_CLASSIFIER}.2.bias": (2,)}
            ),
        ],
    }
