"""Base weights are listed as missing; that is as it should be.

What this means: an adapter file holds the adapter only. Code that loads it with `strict=False` prints the base's own
weights as missing keys, hundreds of them. None of them belongs to the adapter, and nothing is wrong.

Why it happens: `model.load_state_dict(adapter, strict=False)` and `set_peft_model_state_dict` return every parameter of
the wrapped model that the file does not have; users print the result.

Detection: among the missing names there is none of the method's (`lora_`, `ia3_`, …), or the file lacks only what is the
base's own: the `base_layer.weight` of an adapted embedding.

Fix: none needed.

Workaround: look only at the names that hold the method's prefix: `[k for k in result.missing_keys if "lora_" in k]`.

Prevention: load through `PeftModel.from_pretrained`, which sorts the base's own keys out.

Broken:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    result = set_peft_model_state_dict(model, load_file("adapter/adapter_model.safetensors"))
    len(result.missing_keys)  # -> 21
    as_trained(model)  # -> True

Fixed:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    result = set_peft_model_state_dict(model, load_file("adapter/adapter_model.safetensors"))
    [name for name in result.missing_keys if "lora_" in name]  # -> []
    result.unexpected_keys  # -> []
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import VALUE_HEAD, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="note",
    minutes=1,
    messages=(
        "_IncompatibleKeys(missing_keys=['base_model.model.model.embed_tokens.weight', ...], unexpected_keys=[])",
    ),
    needs=("config", "diff"),
)


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """A note where an adapted embedding comes without the base's own weight, which PEFT usually saves beside it."""
    if diff.raised is not None or diff.missing or not diff.matched:
        return
    tree = diff.expectation.tree
    landed = {tensor.name for tensor in diff.overwrites}
    for name in {tree.input_embeddings, tree.output_embeddings} & set(diff.expectation.targets):
        key = f"base_model.model.{name}.base_layer.weight"
        if key not in landed:
            yield finding(
                f"the file has the LoRA of {quote(name)} without the base's own weight; PEFT uses the base's, which is right "
                "unless the base was resized in training",
                severity="note",
                predicted="none",
                at=(key,),
                explains=(),
            )


def examples(make: Any) -> dict[str, list[Any]]:
    """A LoRA on the embedding without and with the base's weight; a LoRA elsewhere."""
    embedding = make.lora("llama", target_modules=["q_proj", "embed_tokens"])
    weight = {"base_model.model.model.embed_tokens.base_layer.weight": (256, 64)}
    return {"fires": [embedding], "silent": [embedding.added(weight), make.lora("llama")]}


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "_incompatiblekeys", "incompatiblekeys", "missing_keys", "missing keys", "missing parameters",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: names are missing, and none of them is an adapter's."""
    own = said(symptoms, "peft_model_state_dict, strict=false")
    if own and not (symptoms.errors or symptoms.missing or symptoms.misshapen or symptoms.frames):
        yield suspect(
            symptoms, "PEFT's own load is not strict, since the base's weights are never in an adapter's file", 0.5, own,
            fix="none needed, as long as no name with lora_ is missing",
            apart="whether a name that holds lora_ is among the missing keys",
        )  # fmt: skip
    valued = said(symptoms, *VALUE_HEAD, most=2)
    if valued:
        yield suspect(
            symptoms, "no value head was saved, as after any training but PPO's and a reward model's; a new one is made", 0.55, valued,
            fix="none needed before a PPO training; a reward model needs its head: value_head.safetensors, v_head.* or score",
            apart="whether this is a reward model, or a PPO training that goes on: then its head is missing",
        )  # fmt: skip
    found = names_of(symptoms, "missing-base-keys-harmless")
    if found is not None:
        yield suspect(
            symptoms, f"only weights of the base are listed as missing, such as {quote(found.keys[0].name)}: an adapter's file never holds them",
            found.likelihood, found.lines, fix="none needed; look only at names with lora_: [k for k in result.missing_keys if 'lora_' in k]",
            apart="whether the list goes on with names that hold lora_: then it is not harmless",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Base weights only; a LoRA among them is not harmless."""
    keys = "'base_model.model.model.embed_tokens.weight', 'base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight'"
    lora = "'base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight'"
    return {
        "fires": [f"_IncompatibleKeys(missing_keys=[{keys}], unexpected_keys=[])"],
        "silent": [f"_IncompatibleKeys(missing_keys=[{keys}, {lora}], unexpected_keys=[])"],
    }
