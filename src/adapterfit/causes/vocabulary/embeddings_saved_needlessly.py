"""The file carries the base's own embedding.

What this means: `embed_tokens` or `lm_head` (often hundreds of megabytes) is in the adapter although the config does not ask
for it. It overwrites the base's when the adapter is loaded, which changes nothing if it is the same. Serving engines refuse
such files.

Why it happens: PEFT saves the embeddings by itself when they are targeted, or when the vocabulary's size differs from the
Hub's config, or when it could not look that up.

Detection: the tensor lands on a parameter of the base, with the same shape, and no `modules_to_save` asks for it.

Fix: `model.save_pretrained(path, save_embedding_layers=False)`, where the vocabulary was not changed.

Workaround: delete the keys from the file.

Prevention: pass `save_embedding_layers=False` unless tokens were added.

Setup:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = noise(get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "lm_head"])))
    trained = logits(model)

Broken:
    model.save_pretrained("saved")
    # warns: Setting `save_embedding_layers` to `True` as embedding layers found in `target_modules`.
    "base_model.model.lm_head.base_layer.weight" in load_file("saved/adapter_model.safetensors")  # -> True

Fixed:
    model.save_pretrained("saved", save_embedding_layers=False)
    "base_model.model.lm_head.base_layer.weight" in load_file("saved/adapter_model.safetensors")  # -> False
    as_trained(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "saved"))  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, TensorInfo

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="note",
    minutes=2,
    messages=(
        "ValueError: ... base_layer.weight is unsupported LoRA weight",
        "UserWarning: Setting `save_embedding_layers` to `True` as embedding layers found in `target_modules`.",
    ),
    needs=("diff",),
)
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8}


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """A note with the size of what is there twice."""
    tree = diff.expectation.tree
    ends = {f"base_model.model.{name}" for name in (tree.input_embeddings, tree.output_embeddings) if name}
    saved = [tensor for tensor in diff.overwrites if _holder(tensor.name) in ends]
    if not saved:
        return
    size = sum(_bytes(tensor) for tensor in saved)
    yield finding(
        f"the file carries {size / 1e6:,.1f} MB of the base's own embeddings, which overwrite the base's on loading",
        at=saved,
        severity="note",
        predicted="none",
        fix=Fix("unsafe", "if no token was added: model.save_pretrained(path, save_embedding_layers=False)"),
        explains=(),
    )


def _holder(name: str) -> str:
    """`….embed_tokens.base_layer.weight` → `….embed_tokens`."""
    module = name.removesuffix(".weight")
    return module.removesuffix(".base_layer")


def _bytes(tensor: TensorInfo) -> int:
    return prod(tensor.shape) * _BITS.get(tensor.dtype, 32) // 8


def examples(make: Any) -> dict[str, list[Any]]:
    """The base's embedding beside a LoRA; a saved head that the config asks for."""
    extra = {"base_model.model.model.embed_tokens.weight": (256, 64)}
    target = make.lora("llama", target_modules=["q_proj", "embed_tokens"])
    return {
        "fires": [
            make.lora("llama").added(extra),
            target.added({"base_model.model.model.embed_tokens.base_layer.weight": (256, 64)}),
        ],
        "silent": [make.lora("llama"), target, make.lora("llama", modules_to_save=["embed_tokens", "lm_head"])],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "save_embedding_layers",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's own word that it saves the embeddings."""
    told = said(symptoms, "setting `save_embedding_layers` to `true`", "could not find a config file in")
    if told:
        yield suspect(
            symptoms,
            "PEFT saved the base's embeddings into the adapter",
            0.6,
            told,
            fix="model.save_pretrained(path, save_embedding_layers=False), where no token was added",
            apart="whether tokens were added in training: then the embeddings are needed",
        )


def logs() -> dict[str, list[str]]:
    """PEFT's warning at saving."""
    return {
        "fires": [
            "UserWarning: Setting `save_embedding_layers` to `True` as embedding layers found in `target_modules`."
        ],
        "silent": ["Loading embedding layers", "embed_tokens.weight"],
    }
