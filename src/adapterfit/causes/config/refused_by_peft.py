"""PEFT refuses the config on this base.

What this means: PEFT raises while it puts the adapter's layers into the base, before any weight is looked at. The config asks
for something that this base, or this combination of options, does not allow.

Why it happens: options that exclude each other, a rank that does not divide, a layer list the base does not have, token rows
beyond the vocabulary. The line PEFT raises says which.

Detection: adapterfit follows PEFT's own checks in their order and predicts the line.

Fix: change the option that the line names, or load the base of the training.

Workaround: none; the load does not get further.

Prevention: keep the config as PEFT wrote it, and the base of the training.

Setup:
    change_config(target_modules=".*(q_proj|v_proj)", layers_to_transform=[0, 1])  # a pattern and a list of layers

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises ValueError: `layers_to_transform` cannot be used when `target_modules` is a str.

Fixed:
    change_config(target_modules=["q_proj", "v_proj"])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Case, Diff, Finding, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "ValueError: When `layers_pattern` is specified, `layers_to_transform` must also be specified.",
        "ValueError: `layers_to_transform` cannot be used when `target_modules` is a str.",
    ),
    needs=("config", "diff"),
)


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where the injection fails for a reason that no other cause names."""
    raised = diff.raised
    if (
        raised is None
        or raised.stage not in {"inject", "convert", "forward"}
        or evidence.cannot_generate(diff)
        or diff.expectation.packed
        or evidence.no_target(diff)
        or evidence.unasked_targets(diff)
    ):
        return
    if "not supported" in raised.line and raised.line.startswith("Target module"):
        return
    name, line = show(diff.expectation.tree.class_name), show(raised.line, 400)
    refused = f"PEFT refuses this config on {name}: {line}"
    yield finding(
        f"it is loaded, and its first use on {name} raises: {line}" if raised.stage == "forward" else refused,
        at=[tensor.name for tensor in diff.extra],
        predicted="raises",
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Options that exclude each other, a bad rank pattern, rows beyond the vocabulary; a config PEFT takes."""
    plain = make.lora("llama")
    return {
        "fires": [
            plain.with_config(target_modules=".*q_proj", layers_to_transform=[0]),
            plain.with_config(rank_pattern={"q_proj": 0}),
            plain.with_config(trainable_token_indices=[999]),
            make.lora("mixtral").with_config(target_modules=["w1"]),
            make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=8).on("vit"),
        ],
        "silent": [
            plain,
            plain.on_base(make.base("llama", architectures=["LlamaModel"])),
            plain.with_config(target_modules=["nope"]),
            plain.with_config(target_modules=["norm"]),
        ],
    }


#: PEFT's words for what it does not allow together, in folded letters.
_WORDS = (
    "lora_bias=true is only supported", "lora_bias=true is not supported", "requires the lora rank to be even", "does not work with fan_in_fan_out", "does not work with use_dora",
    "does not support dora (yet)", "has no bias, cannot merge", "only one lora adapter per model with `target_parameters`", "does not support dora yet", "when `layers_pattern` is specified", "`layers_to_transform` cannot be used", "supports only 1 adapter with bias",
    "does not work with lora_dropout", "unsupported model type for adaption prompt", "config specifies more adapter layers", "no layers were found", "is incompatible with mamba-based models", "only same dim for query/key/value",
    "cannot be used with", "is not supported with", "does not support targeting", "requested bias:",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's own refusals of options that exclude each other."""
    told = said(symptoms, *_WORDS)
    ours = said(symptoms, "peft", "lora", "dora", "adapter", "`layers_")
    if told and ours:
        raised = any(e.line in told and e.library not in ("", "peft") for e in symptoms.errors)
        vague = raised or not said(
            symptoms, "peft", "loraconfig", "dora", "`layers_", "target_parameters", "`lora", "lora_bias", *_WORDS[:12]
        )
        yield suspect(
            symptoms, "PEFT refuses an option of the config on this base", 0.4 if vague else 0.75, told, fix="change the option that the line names, or load the base of the training",
            apart="whether the same config was accepted by the PEFT of the training",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """An option that a layer does not take; targets that are not there."""
    return {
        "fires": ["ValueError: Embedding does not support DoRA yet, please set it to False"],
        "silent": ["ValueError: Target modules {'q'} not found in the base model."],
    }
