"""A whole model was saved with the adapter's layers still in it.

What this means: the checkpoint looks like a full model, but its tensors are called `….lora_A.default.weight` and
`….base_layer.weight`. A plain loader or a converter does not know these names: it stops, or starts the wrapped layers at random.

Why it happens: `model.save_pretrained` or a trainer saved a model into which an adapter was injected, without merging or
unloading it.

Detection: names with lora_A and an adapter's name among the tensors of a model.

Fix: load the checkpoint into the same wrapped model, call `model.merge_and_unload()`, and save that.

Workaround: take the lora_ tensors out into an adapter of their own, and rename `base_layer.weight` to `weight`.

Prevention: `model.merge_and_unload().save_pretrained(path)` for a full model, `model.save_pretrained(path)` of the PeftModel for an
adapter.

Setup:
    model = noise(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS)))
    trained = logits(model)

Broken:
    torch.save(model.get_base_model().state_dict(), "model.bin")  # a whole model, with the adapter's layers in it
    plain = AutoModelForCausalLM.from_pretrained("base")
    plain.load_state_dict(torch.load("model.bin", weights_only=True))
    # raises RuntimeError: Missing key(s) in state_dict: "model.layers.0.self_attn.q_proj.weight" ... Unexpected key(s) in state_dict: "model.layers.0.self_attn.q_proj.base_layer.weight", "model.layers.0.self_attn.q_proj.lora_A.default.weight"

Fixed:
    torch.save(model.merge_and_unload().state_dict(), "model.bin")
    plain = AutoModelForCausalLM.from_pretrained("base")
    plain.load_state_dict(torch.load("model.bin", weights_only=True))  # -> <All keys matched successfully>
    as_trained(plain)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=(
        "Exception: Unexpected tensor name: model.layers.0.self_attn.q_proj.lora_A.default.weight",
        'RuntimeError: Error(s) in loading state_dict for LlamaForCausalLM: Missing key(s) in state_dict: "model.layers.0.self_attn.q_proj.weight", ... Unexpected key(s) in state_dict: "model.layers.0.self_attn.q_proj.base_layer.weight", ...',
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "merge_and_unload",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: an adapter's tensors among those of a model."""
    found = names_of(symptoms, "adapter-inside-full-checkpoint")
    if found is not None:
        yield suspect(
            symptoms, f"the model's file holds an adapter's tensors, such as {quote(found.keys[0].name)}", found.likelihood, found.lines,
            fix="load it into the wrapped model, model.merge_and_unload(), save_pretrained, and use that",
            apart="whether the file also holds the base's weights: then it is a whole model, else an adapter",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A converter meets one; a converter of adapters meets a head."""
    return {
        "fires": [
            "Exception: Unexpected tensor name: model.layers.4.mlp.up_proj.lora_B.default.weight",
            "unused tensors: h.0.q_proj.base_layer.weight, h.0.q_proj.lora_A.default.weight, h.0.q_proj.lora_B.default.weight",
        ],
        "silent": [
            "ERROR:lora-to-gguf:Unexpected name 'base_model.model.lm_head.weight': Not a lora_A or lora_B tensor"
        ],
    }
