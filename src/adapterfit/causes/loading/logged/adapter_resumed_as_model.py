"""A training is resumed from an adapter as if it were the whole model's checkpoint.

What this means: the checkpoint holds the adapter only. A loader that wants the whole model finds no file it knows, or lists every
weight of base and adapter as missing.

Why it happens: transformers before 4.31, and other libraries' own resume code, know nothing of adapter files; or a script
calls `model.load_state_dict(torch.load(checkpoint))` in strict mode.

Detection: base weights and the adapter's are missing at once; or the Trainer finds no valid checkpoint where adapter files are.

Fix: use a version that resumes adapters (transformers >= 4.31), or load it yourself:
`PeftModel.from_pretrained(base, checkpoint, is_trainable=True)`. That restores weights, not the optimizer.

Workaround: for weights alone, `set_peft_model_state_dict(model, load_file("adapter_model.safetensors"))`.

Prevention: try a resume after the first checkpoint, not after a week.

Broken:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    model.load_state_dict(load_file("adapter/adapter_model.safetensors"))
    # raises RuntimeError: Missing key(s) in state_dict: "base_model.model.model.embed_tokens.weight", ... "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter", is_trainable=True)
    as_trained(model)  # -> True
    any(parameter.requires_grad for parameter in model.parameters())  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import older, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        'RuntimeError: Error(s) in loading state_dict for ...: Missing key(s) in state_dict: "...query.base_layer.weight", "...query.lora_A.default.weight", ...',
        "ValueError: Can't find a valid checkpoint at out/checkpoint-500",
    ),
)

#: Words that speak of this cause where no symptom decides.
STOPS = {
    ("deepspeed", "_load_checkpoint"): 0.6,
    ("deepspeed", "load_module_state_dict"): 0.65,
    ("transformers", "deepspeed_load_checkpoint"): 0.6,
    ("transformers", "_load_from_checkpoint"): 0.6,
}
HINTS = (
    "resume_from_checkpoint", "resume training", "resuming", "resume from", "checkpoint loading", "from checkpoints", "from checkpoint",
)  # fmt: skip


#: Functions of trainers that load a checkpoint into the model that is trained.
_RESUMES = frozenset(
    {"deepspeed_load_checkpoint", "_load_from_checkpoint", "load_module_state_dict", "_load_checkpoint"}
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: base and adapter are missing together; or the Trainer sees no checkpoint although adapter files lie there."""
    fix = "PeftModel.from_pretrained(base, checkpoint, is_trainable=True), or a library version that resumes adapters (transformers >= 4.31)"
    found = names_of(symptoms, "adapter-resumed-as-model")
    if found is not None:
        yield suspect(
            symptoms, "a checkpoint with an adapter only is loaded as the whole model", found.likelihood, found.lines, fix=fix,
            apart="the size of adapter_model.*: 443 or 40 bytes mean that it is empty",
        )  # fmt: skip
    engine = [frame.line for frame in symptoms.frames if frame.function in _RESUMES]
    strict = said(symptoms, "loading state_dict for peftmodel")
    if found is None and engine and strict and said(symptoms, "missing key(s) in state_dict"):
        yield suspect(
            symptoms,
            "the trainer resumes a whole model from a checkpoint, and the model is an adapter on a base",
            0.75,
            [*engine[-1:], *strict],
            fix=fix,
        )
    module = said(symptoms, "load_module_strict")
    if module and found is None:
        yield suspect(
            symptoms, "DeepSpeed resumes a whole model from a checkpoint that holds an adapter only", 0.6, module, fix=fix,
            apart="whether the missing keys are the base's: then only the adapter was saved",
        )  # fmt: skip
    told = said(symptoms, "can't find a valid checkpoint at")
    if told:
        beside = any(file.name.startswith("adapter_") and not file.folder for file in symptoms.files)
        old = older(symptoms, "transformers", "4.31.0")
        yield suspect(
            symptoms, "the Trainer looks for a whole model in a checkpoint that holds an adapter", 0.9 if old and beside else 0.86 if old or beside else 0.6,
            told, fix=fix, apart="the transformers version: before 4.31 the Trainer knows no adapters",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A strict load; an old Trainer; a new one has another reason."""
    keys = '"encoder.layer.0.attention.self.query.base_layer.weight", "encoder.layer.0.attention.self.query.lora_A.default.weight"'
    return {
        "fires": [
            f"RuntimeError: Error(s) in loading state_dict for BertModel: Missing key(s) in state_dict: {keys}",
            "transformers==4.28.1\nValueError: Can't find a valid checkpoint at out/checkpoint-500",
        ],
        "silent": ["ValueError: Can't find a valid checkpoint at out/checkpoint-500"],
    }
