"""Another call loads the adapter, and does less than `PeftModel.from_pretrained`.

What this means: `model.load_adapter(folder)` is the loader of transformers itself, and `PeftModel.load_adapter` adds a second
adapter. Both read the same folder and do not do the same with it: parts are passed over, and no exception says so.

Why it happens: transformers puts PEFT's layers into its own model and loads the tensors with its own code. From 5.0 on it does not
find the magnitudes of DoRA; from 5.0 to 5.17 it does not restore `modules_to_save`, heads and trained tokens; from 5.0 to 5.5 it
finds only names below `base_model.model.model.`; before PEFT 0.21 what the layers of VB-LoRA and others share is left out; and
aLoRA is put in, but never told where its invocation tokens are. From 5.0 on a report in the log is all there is. A second adapter that
changes the base (PiSSA, OLoRA) changes it a second time.

Detection: the loader asked about (`--for transformers`, `--loader`), the versions, and what the adapter holds.

Fix: load it with `PeftModel.from_pretrained(base, folder)`. For DoRA the magnitudes can be renamed to
`….lora_magnitude_vector.weight`: both loaders find them then.

Workaround: `PeftModel.from_pretrained(base, folder).merge_and_unload()` and save the merged model.

Prevention: save with `PeftModel` and load with `PeftModel`; after `model.load_adapter` read the report in the log.

Setup:
    options = LoraConfig(**OPTIONS, use_dora=True)
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    report = base.load_adapter("adapter")
    as_trained(base)  # -> False

Fixed:
    change_names(lambda name: name + ".weight" if name.endswith("lora_magnitude_vector") else name)
    base = AutoModelForCausalLM.from_pretrained("base")
    report = base.load_adapter("adapter")
    as_trained(base)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader
from adapterfit.edits import Rename
from adapterfit.records import Case, Diff, Finding, Fix, Slot, TensorInfo
from adapterfit.text import quote, show

CAUSE = Cause(
    level="intermediate",
    minutes=5,
    messages=(
        "model.layers.{0, 1}.self_attn.q_proj.lora_magnitude_vector.default.weight | MISSING",
        "score.modules_to_save.default.weight | MISSING",
        "ValueError: `create_and_replace` does not support prompt learning, adaption prompt and shadow yet.",
        "ValueError: LoraModel supports only 1 adapter with bias. When using multiple adapters, set bias to 'none' for all adapters.",
    ),
    versions="transformers >= 4.33",
    needs=("config", "diff"),
    codes=("loader-refuses",),
)
_PEFT = "load it with PeftModel.from_pretrained(base, folder)"
_MAGNITUDE = ".lora_magnitude_vector"


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for each thing that the loader asked about passes over."""
    rules = loader(diff)
    if "loader" not in rules or diff.raised is not None:
        return
    left = {tensor.name: tensor for tensor in diff.extra}
    yield from _magnitudes(left, diff) if rules.get("dora", True) is False else ()
    yield from _copies(left, diff) if "copies" in rules else ()
    yield from _elsewhere(left, diff, str(rules["prefix"])) if "prefix" in rules else ()
    yield from _shared(left, diff) if diff.expectation.config.get("peft_type") in rules.get("lost-state", ()) else ()
    if rules.get("alora", True) is False and diff.expectation.config.get("alora_invocation_tokens"):
        yield _idle(diff)
    yield from _twice(case, diff)


def _magnitudes(left: dict[str, TensorInfo], diff: Diff) -> Iterator[Finding]:
    lost = [tensor for name, tensor in left.items() if name.endswith(_MAGNITUDE)]
    if lost:
        yield finding(
            f"model.load_adapter does not find the magnitudes of DoRA ({len(lost)}): they keep their start values, and only a report "
            "in the log says so",
            at=lost,
            predicted="warns",
            expected=f"names that end in {_MAGNITUDE}.weight",
            found=quote(lost[0].name),
            fix=Fix(
                "safe",
                f"add .weight to their names: both loaders find them then; or {_PEFT}",
                tuple(Rename(tensor.name, f"{tensor.name}.weight") for tensor in lost),
            ),
            explains=_with_slots(lost, _empty(diff, ("tuner",), _MAGNITUDE)),
        )


def _copies(left: dict[str, TensorInfo], diff: Diff) -> Iterator[Finding]:
    slots = _empty(diff, ("saved-module", "tokens"))
    lost = [left[slot.key] for slot in slots if slot.key in left]
    if lost:
        yield finding(
            f"model.load_adapter of this version does not restore whole modules and trained tokens ({len(lost)} tensors): the base's "
            "own stay",
            at=lost,
            predicted="warns",
            found=quote(lost[0].name),
            fix=Fix("unsafe", f"{_PEFT}, or pip install 'transformers>=5.18'"),
            explains=_with_slots(lost, slots),
        )


def _elsewhere(left: dict[str, TensorInfo], diff: Diff, below: str) -> Iterator[Finding]:
    lost = [tensor for name, tensor in left.items() if not name.startswith(below)]
    if lost:
        yield finding(
            f"model.load_adapter of this version finds only names below {below!r}: {len(lost)} tensors are passed over",
            at=lost,
            predicted="warns",
            found=quote(lost[0].name),
            fix=Fix("unsafe", f"{_PEFT}, or pip install 'transformers>=5.6'"),
            explains=_with_slots(lost, _empty(diff, ("tuner", "saved-module", "tokens"))),
        )


def _shared(left: dict[str, TensorInfo], diff: Diff) -> Iterator[Finding]:
    slots = [slot for slot in _empty(diff, ("tuner",)) if not slot.module]
    lost = [left[slot.key] for slot in slots if slot.key in left]
    if lost:
        yield finding(
            "model.load_adapter of this version does not load what the layers share: it keeps its start values",
            at=lost,
            predicted="warns",
            found=quote(lost[0].name),
            fix=Fix("unsafe", _PEFT),
            explains=_with_slots(lost, slots),
        )


def _idle(diff: Diff) -> Finding:
    return finding(
        "model.load_adapter puts aLoRA in and never tells it where the invocation tokens are: it acts on nothing",
        at=[match.tensor for match in diff.matched],
        fix=Fix("unsafe", _PEFT),
        idle=True,
    )


def _twice(case: Case, diff: Diff) -> Iterator[Finding]:
    """What a second adapter with the same config does to itself."""
    rules, config = loader(diff), diff.expectation.config
    heads = [match.tensor for match in diff.matched if match.slot.role == "saved-module"]
    if rules.get("prompt-copies") == "lost" and heads and not diff.expectation.prefix:
        yield finding(
            f"PEFT {show(rules['peft'])} loads the prompts of a second adapter without its head ({len(heads)} tensors)",
            at=heads,
            found=quote(heads[0].name),
            fix=Fix("unsafe", f"{_PEFT}, alone; or pip install 'peft>=0.17'"),
            differs=True,
        )
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() in rules.get("init", ()):
        yield finding(
            f"init_lora_weights is {quote(init)}: the adapter beside it changed the base already, and PEFT changes it once more: "
            "neither computes what it did in training",
            found=f"init_lora_weights: {quote(init)}",
            fix=Fix("unsafe", "convert both to plain LoRAs with path_initial_model_for_weight_conversion"),
            differs=True,
        )
    if config.get("alora_invocation_tokens") and rules.get("alora") == "differs":
        yield finding(
            "aLoRA: a second one computes something else with this version of PEFT",
            found="alora_invocation_tokens",
            fix=Fix("unsafe", "pip install 'peft>=0.19'"),
            differs=True,
        )
    if config.get("ensure_weight_tying") and rules.get("tying", True) is False and _is_tied(case, diff):
        yield finding(
            "ensure_weight_tying: PEFT ties only the first adapter of a model, so that this one computes something else",
            found="ensure_weight_tying: true",
            fix=Fix("unsafe", _PEFT),
            differs=True,
        )


def _is_tied(case: Case, diff: Diff) -> bool:
    return case.base is not None and bool(diff.expectation.tree.tied)


def _empty(diff: Diff, roles: Sequence[str], within: str = "") -> list[Slot]:
    return [slot for slot in diff.missing if slot.role in roles and within in slot.key]


def _with_slots(lost: Sequence[TensorInfo], slots: Sequence[Slot]) -> list[str]:
    return [*(tensor.name for tensor in lost), *(slot.key for slot in slots)]


def examples(make: Any) -> dict[str, list[Any]]:
    """Each thing that a loader passes over, and the same with PeftModel.from_pretrained or a later version."""
    native = ("transformers==5.23.0", "model.load_adapter")
    older = ("peft==0.20.0,transformers==5.12.1", "model.load_adapter")
    oldest = ("peft==0.18.1,transformers==5.2.0", "model.load_adapter")
    second = ("peft==0.21.2,transformers==5.23.0", "PeftModel.load_adapter")
    dora = make.lora("llama", use_dora=True)
    head = make.lora("llama", modules_to_save=["lm_head"])
    rows = make.lora("llama", trainable_token_indices=[1, 2])
    gpt = make.lora("gpt2", target_modules=["c_attn"], fan_in_fan_out=True)
    bank = make.adapter("llama", peft_type="VBLORA", r=4, num_vectors=16, vector_length=16, target_modules=["q_proj"])
    alora = make.lora("llama", alora_invocation_tokens=[1, 2])
    prompt = make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=4, task_type="CAUSAL_LM")
    pissa = make.lora("llama").with_config(init_lora_weights="pissa")
    biased = make.lora("llama", bias="all")
    return {
        "fires": [
            dora.loaded_by(*native),
            head.loaded_by(*older),
            rows.loaded_by(*older),
            gpt.loaded_by(*oldest),
            bank.loaded_by(*older),
            alora.loaded_by(*native),
            prompt.loaded_by(*native),
            bank.loaded_by(*native),
            pissa.loaded_by(*second),
            biased.loaded_by(*second),
        ],
        "silent": [
            dora,
            head.loaded_by(*native),
            rows.loaded_by(*native),
            gpt.loaded_by(*native),
            alora,
            prompt,
            pissa,
            biased,
            make.lora("llama").loaded_by(*native),
            make.lora("llama").loaded_by(*second),
            dora.loaded_by(*second),
        ],
    }
