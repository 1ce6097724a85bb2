"""Trained biases stand under the names of PEFT 0.6 and older.

What this means: the adapter was trained with `bias="all"` or `bias="lora_only"`. PEFT up to 0.6.2 saved the bias of an
adapted layer as `….query.bias`; since 0.7.0 that layer is wrapped, its bias is `….query.base_layer.bias`, and the old name
belongs to nothing. The trained biases are dropped without a word: measured, 15 to 65 % of the adapter's effect.

Why it happens: an adapter of 2023 is loaded with a PEFT of today.

Detection: the file has `<module>.bias` for a module that is wrapped, with exactly the shape of that module's bias.

Fix: rename these keys to `<module>.base_layer.bias`; the bytes stay.

Workaround: load with PEFT 0.6.2, `merge_and_unload`, and save the merged model.

Prevention: save the adapter again with a current PEFT after loading and checking it.

Setup:
    torch.manual_seed(3)
    LlamaForCausalLM(llama(attention_bias=True)).save_pretrained("base")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS, bias="all"))
    change_names(lambda name: name.replace(".base_layer.bias", ".bias"))  # as PEFT 0.6 named them

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    found()  # -> ['bias-layout-old']

Fixed:
    def to_new(name):
        for module in ("q_proj", "v_proj"):  # those that the adapter wraps
            name = name.replace(f"{module}.bias", f"{module}.base_layer.bias")
        return name

    tensors = load_file("adapter/adapter_model.safetensors")
    save_file({to_new(name): tensor for name, tensor in tensors.items()}, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.edits import Rename
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import quote

CAUSE = Cause(
    minutes=2,
    messages=("(none: the load reports nothing)",),
    versions="written by peft <= 0.6.2, read by peft >= 0.7.0",
    needs=("diff",),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all biases of wrapped modules."""
    if any(tensor.name.endswith(".base_layer.bias") for tensor in case.adapter.tensors):
        return  # PEFT 0.7 or later wrote it, which had other targets than the config now says
    wrapped = set(diff.expectation.targets)
    names = {
        tensor: f"{tensor.name[: -len('.bias')]}.base_layer.bias"
        for tensor in diff.extra
        if tensor.name.endswith(".bias") and evidence.parts(tensor.name).module[: -len(".bias")] in wrapped
    }
    if not names or not evidence.lands(diff, names):
        return
    first = next(iter(names))
    yield finding(
        f"{evidence.count(len(names), 'trained bias')} of adapted layers have names of PEFT 0.6 and are dropped",
        at=list(names),
        predicted="silent",
        found=quote(first.name),
        expected=quote(names[first]),
        fix=Fix(
            "safe",
            f"rename {evidence.count(len(names), 'key')}: insert `base_layer` before `.bias`",
            tuple(Rename(tensor.name, name) for tensor, name in names.items()),
        ),
        explains=[*(tensor.name for tensor in names), *names.values()],
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Old names beside today's adapter; a bias of a layer that is not adapted lands as it is."""
    plain = make.adapter("bert", peft_type="LORA", r=4, target_modules=["query"], task_type=None, bias="all")
    at = "base_model.model.bert.encoder.layer.{}.attention.self.{}.bias"
    old = {at.format(layer, "query"): (64,) for layer in range(2)}
    others = {at.format(layer, "key"): (64,) for layer in range(2)}
    new = {name.replace(".bias", ".base_layer.bias"): shape for name, shape in others.items()}
    return {
        "fires": [plain.added(old), plain.added({**old, **others})],
        "silent": [
            plain,
            plain.added(others),
            plain.added({at.format(0, "query"): (65,)}),
            plain.added({**old, **new}),
        ],
    }
