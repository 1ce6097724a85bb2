"""The run trained weights that are not in the adapter's file, and these do not fit or are not loaded.

What this means: multimodal recipes (LLaVA and its kin) write the projector and other trained parts into non_lora_trainables.bin
beside the adapter. PEFT does not know that file; the recipe's own loader fails where its sizes do not fit the base.

Why it happens: the base, or its vision tower, is not that of the training; the base is loaded in four bits, which packs
the projector too; or the file was left behind when the adapter was copied.

Detection: a mismatch on mm_projector or non_lora_trainables only.

Fix: load with the base and vision tower of the training, without `--load-4bit`, and keep non_lora_trainables.bin with the adapter.

Workaround: load the extra file by hand into the projector, in 16 bits, before quantising the rest.

Prevention: merge after training and publish the merged model, or name the base and the extra file in the README.

Not run: the loaders of non_lora_trainables.bin (LLaVA and its kin) are repositories to clone, with a vision tower to download.

Broken:
    from llava.model.builder import load_pretrained_model

    # the projector of the training is 5120 wide, this base is 4096
    load_pretrained_model("checkpoints/llava-lora", "lmsys/vicuna-7b-v1.5", "llava-lora", load_4bit=True)

Fixed:
    load_pretrained_model("checkpoints/llava-lora", "lmsys/vicuna-13b-v1.5", "llava-lora")
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.sizes import sizes_of
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "RuntimeError: Error(s) in loading state_dict for LlavaLlamaForCausalLM: size mismatch for model.mm_projector.0.weight: ...",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "non_lora_trainables", "mm_projector", "projector",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the projector's sizes, or the load of the extra file."""
    fix = "use the base and vision tower of the training, without 4-bit loading; keep non_lora_trainables.bin beside the adapter"
    found = sizes_of(symptoms, "extra-weights-not-in-adapter")
    if found is not None:
        yield suspect(
            symptoms,
            "the projector that was trained beside the adapter does not fit this base",
            found.likelihood,
            found.lines,
            fix=fix,
        )
    names = names_of(symptoms, "extra-weights-not-in-adapter")
    if names is not None:
        yield suspect(
            symptoms, "the projector is new: what was trained of it is not in the adapter, but in a file beside it", names.likelihood, names.lines,
            fix="load non_lora_trainables.bin (or mm_projector.bin) after the base, as the trainer's own loader does",
        )  # fmt: skip
    told = said(symptoms, "load_state_dict(non_lora_trainables", "load_state_dict(non_lora_state_dict")
    absent = [
        e.line
        for e in symptoms.errors
        if "non_lora_trainables.bin" in e.message and e.kind.endswith(("FoundError", "OSError"))
    ]
    if absent:
        yield suspect(
            symptoms, "what was trained beside the adapter is not in its folder", 0.85, absent,
            fix="copy non_lora_trainables.bin and config.json of the run beside the adapter; a checkpoint-N lacks it, the run's last folder has it",
        )  # fmt: skip
    if told:
        yield suspect(
            symptoms, "the weights beside the adapter (non_lora_trainables.bin) cannot be loaded", 0.85, told, fix=fix
        )


def logs() -> dict[str, list[str]]:
    """The projector; a LoRA of other sizes."""
    line = "size mismatch for {}: copying a param with shape torch.Size([4096, 1024]) from checkpoint, the shape in current model is torch.Size([5120, 1024])."
    return {
        "fires": [line.format("model.mm_projector.0.weight")],
        "silent": [line.format("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight")],
    }
