"""ensure_weight_tying is set, and the PEFT of the training ignored it.

What this means: the base ties its head to its embedding, and a LoRA sits on the embedding. PEFT 0.18 did not tie a LoRA, whatever
`ensure_weight_tying` said; since 0.19 the head gets one too, which the file does not have. It starts at random numbers, and the
model is another one (measured: more than twice the adapter's effect), with a warning about missing keys.

Why it happens: the field is in the config and came into force one version later.

Detection: adapterfit dates the config to PEFT 0.18; what is missing is exactly the LoRA of the tied modules.

Fix: set `ensure_weight_tying` to false. Measured: a file of 0.18.1 then gives the logits it was saved with.

Workaround: load with PEFT 0.18.

Prevention: save the adapter again with a current PEFT once it is right.

Setup:
    torch.manual_seed(3)
    LlamaForCausalLM(llama(tie_word_embeddings=True)).save_pretrained("base")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["embed_tokens"]))
    change_config(ensure_weight_tying=True)  # PEFT 0.18 did not obey it for a LoRA

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint: ... lm_head.lora_
    as_trained(model)  # -> False

Fixed:
    change_config(ensure_weight_tying=False)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Model has `tie_word_embeddings=True` and a tied layer is part of the adapter
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import written_before
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, ModuleTree
from adapterfit.text import quote

CAUSE = Cause(
    level="advanced",
    minutes=2,
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.lm_head.lora_A.default.weight', ...]",
    ),
    versions="written by peft 0.18, read by peft >= 0.19.0",
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where the head's LoRA is all that is missing."""
    tied, config = _tied(diff.expectation.tree), diff.expectation.config
    if (
        not tied
        or diff.raised is not None
        or not config.get("ensure_weight_tying")
        or not written_before(case, "0.19.0")
    ):
        return
    empty = [slot for slot in diff.missing if slot.role == "tuner" and not slot.optional]
    held = [match for match in diff.matched if match.slot.module in tied and match.slot.role == "tuner"]
    more = bool(config.get("modules_to_save")) or config.get("trainable_token_indices") is not None
    ends = {slot.module for slot in empty}
    if more or not empty or not held or not ends <= tied or ends & {match.slot.module for match in held}:
        return
    yield finding(
        f"ensure_weight_tying is set, and the file has a LoRA for {quote(held[0].slot.module)} and none for "
        f"{' and '.join(quote(name) for name in sorted(ends))}: PEFT 0.18 did not tie them, PEFT now does and starts what is "
        "missing at random",
        at=[slot.key for slot in empty],
        predicted="warns" if diff.warned else "silent",
        expected="no LoRA there, as in training",
        found="ensure_weight_tying: true",
        fix=Fix(
            "safe",
            "set ensure_weight_tying to false: it was not in force in training",
            (SetConfig("ensure_weight_tying", value=False),),
        ),
        explains=[slot.key for slot in empty] + [match.tensor.name for match in held],
    )


def _tied(tree: ModuleTree) -> set[str]:
    """The modules that share the input embedding's weight, itself included."""
    weight = f"{tree.input_embeddings}.weight"
    return {name.rpartition(".")[0] for group in tree.tied if weight in group for name in group}


def examples(make: Any) -> dict[str, list[Any]]:
    """A file of PEFT 0.18 without the head's LoRA; with it; the same of a later PEFT; an untied base."""
    nulls = ("megatron_config", "loftq_config", "layer_replication", "revision", "auto_mapping", "layers_pattern",
             "layers_to_transform", "eva_config", "exclude_modules", "corda_config", "trainable_token_indices",
             "modules_to_save", "target_parameters", "alora_invocation_tokens", "arrow_config")  # fmt: skip
    off = ("fan_in_fan_out", "use_dora", "use_rslora", "lora_bias", "use_qalora")
    fields: dict[str, Any] = {
        **dict.fromkeys(nulls),
        **dict.fromkeys(off, False),
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    fields.update(bias="none", init_lora_weights=True, lora_dropout=0.0, qalora_group_size=16, peft_version="0.18.1")
    fields.update(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True, megatron_core="megatron.core")
    old = make.lora("llama-tied", **fields)
    return {
        "fires": [old.dropped(lambda name: "lm_head" in name)],
        "silent": [
            old,
            old.with_config(peft_version="0.21.2").dropped(lambda name: "lm_head" in name),
            old.dropped(lambda name: "q_proj" in name),
            make.lora("llama", **fields),
        ],
    }
