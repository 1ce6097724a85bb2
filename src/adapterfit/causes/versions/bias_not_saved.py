"""The trained biases were never written.

What this means: the config says `bias="lora_only"` (or `boft_only`), so the biases of the adapted layers were meant to be
trained, but the file has none of them. Every tensor of the file is applied and nothing is reported; the model still
differs from the one that was trained, by the biases.

Why it happens: PEFT 0.7.0 to 0.20.0 did not write them: 0.7 to 0.9 did not even train them, 0.10 to 0.20 trained them
and lost them when saving. Fixed in 0.21.0 (PEFT issue 3306). With `bias="all"` every PEFT wrote them; where they are missing,
a script that kept only the `lora_` tensors took them out.

Detection: the config asks for them, the base's layers have biases, and the file has not one.

Fix: none; the numbers are in no file. If the training can be continued, save again with PEFT 0.21 or later.

Workaround: if the live model still exists, save its state dict by hand before the process ends.

Prevention: train with PEFT 0.21 or later, or with `bias="all"`, which was always written.

Setup:
    torch.manual_seed(3)
    LlamaForCausalLM(llama(attention_bias=True)).save_pretrained("base")
    options = LoraConfig(**OPTIONS, bias="lora_only")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_names(lambda name: "" if name.endswith(".bias") else name)  # PEFT 0.10 to 0.20 did not write them

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    found()  # -> ['bias-not-saved']

Fixed:
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)  # with PEFT 0.21 or later, which writes them
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader, written_before
from adapterfit.records import Case, Diff, Finding, Fix

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=("(none: the load reports nothing)",),
    versions="written by peft 0.7.0 to 0.20.0",
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where biases were asked for, could be there, and are not."""
    asked = str(diff.expectation.config.get("bias", "none"))
    if not asked.endswith("_only") and asked != "all":
        return
    wanted = [name for name in _biases(diff) if name in diff.expectation.state]
    held = {tensor.name for tensor in (*diff.overwrites, *diff.extra)} & {*wanted, *map(_old_name, wanted)}
    if not wanted or held or diff.raised is not None:
        return
    if asked != "all" and written_before(case, "0.10.0"):
        return  # 0.7 to 0.9 froze the biases: nothing was trained, and nothing is lost
    certain = asked != "all" and written_before(case, "0.21.0")  # every PEFT saved all of them
    yield finding(
        f"bias={asked!r}, but none of the {evidence.count(len(wanted), 'bias')} of the "
        f"adapted layers is in the file: {_why(asked)}",
        at=wanted,
        predicted="silent",
        severity="error" if certain else "warning",
        confidence="high" if certain else "medium",
        expected=f"{len(wanted)} tensors that end in .base_layer.bias",
        found="none",
        fix=Fix("unsafe", "train again, or continue the training, and save with PEFT 0.21 or later"),
        explains=(),
        differs=certain,
    )


def _why(asked: str) -> str:
    lost = "they were lost when the adapter was saved"
    return lost if asked != "all" else "every PEFT saves them, so someone took them out, or they were never trained"


def _old_name(key: str) -> str:
    """What PEFT up to 0.6 called it, or for such a loader a newer one: there under another name, which is another cause."""
    return (
        key.replace(".base_layer.bias", ".bias") if ".base_layer." in key else key[: -len("bias")] + "base_layer.bias"
    )


def _biases(diff: Diff) -> list[str]:
    inner = "" if loader(diff).get("layers") == "subclasses" else ".base_layer"
    return [f"{evidence.PREFIX}{name}{inner}.bias" for name in diff.expectation.targets]


def examples(make: Any) -> dict[str, list[Any]]:
    """Lost biases; a base without biases has none to lose; `all` writes them."""
    options = {"peft_type": "LORA", "r": 4, "target_modules": ["query"], "task_type": None}
    lost = make.adapter("bert", **options, bias="lora_only")
    kept = {f"base_model.model.bert.encoder.layer.{n}.attention.self.query.base_layer.bias": (64,) for n in range(2)}
    return {
        "fires": [
            lost.with_config(layer_replication=None, use_dora=False),
            lost.with_config(peft_version="0.18.1"),
            lost.with_config(bias="all"),
        ],
        "silent": [
            lost.added(kept),
            lost.added({name.replace(".base_layer", ""): shape for name, shape in kept.items()}),
            make.lora("llama", bias="lora_only"),
            lost.with_config(bias="all").added(kept),
            make.adapter("bert", **options),
        ],
    }
