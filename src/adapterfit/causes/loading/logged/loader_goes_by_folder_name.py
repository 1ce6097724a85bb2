"""The loader decides by the folder's name whether there is an adapter in it.

What this means: LLaVA, VILA, FastChat and their descendants look for "lora" (and "llava") or "peft" in the name of the folder.
Without it they take the adapter for a whole model, and miss files that a LoRA run never writes, such as mm_projector.bin.

Why it happens: the output folder was renamed, or got a name of one's own.

Detection: the loader of one of these programs asks for mm_projector.bin, or a listing shows non_lora_trainables.bin beside an
adapter and the loader does not load it.

Fix: rename the folder so that its name holds both words, such as `llava-mistral-lora`, and pass the base as `--model-base`.

Workaround: call the loader with a `model_name` that holds the words.

Prevention: keep "lora" in the output folder's name.

Not run: the loaders that go by the folder's name (LLaVA, VILA, FastChat) are repositories to clone, with bases of billions of parameters.

Broken:
    from llava.model.builder import load_pretrained_model

    # looks for mm_projector.bin, since "lora" is not in the folder's name
    load_pretrained_model("checkpoints/my-model", "lmsys/vicuna-7b-v1.5", "my-model")

Fixed:
    load_pretrained_model("checkpoints/llava-my-lora", "lmsys/vicuna-7b-v1.5", "llava-my-lora")
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=1,
    messages=("FileNotFoundError: [Errno 2] No such file or directory: 'my-model/mm_projector.bin'",),
)
_FIX = (
    "rename the folder so that its name holds 'llava' and 'lora' (FastChat: 'peft'), and pass the base as --model-base"
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "mm_projector.bin", "model_name", "model-base", "model_base", "non_lora_trainables",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: mm_projector.bin is asked for, or a LoRA run's folder lies there and is not taken for one."""
    told = said(symptoms, "mm_projector.bin")
    if told:
        yield suspect(
            symptoms, "the loader took the folder for a model with a projector, not for a LoRA", 0.86, told, fix=_FIX
        )
    named = {file.name: file.line for file in symptoms.files}
    if "non_lora_trainables.bin" in named and any(name.startswith("adapter_") for name in named):
        yield suspect(
            symptoms, "this is the folder of a LLaVA LoRA run; its loader goes by the folder's name", 0.75, [named["non_lora_trainables.bin"]], fix=_FIX,
            apart="whether the error is about names (this cause) or sizes (the projector belongs to another base)",
        )  # fmt: skip
    compared = said(symptoms, "_from_model_config")
    if compared and said(symptoms, "peftconfig", "peft_config", "peft"):
        yield suspect(
            symptoms,
            "a model's config is read as an adapter's, since the folder's name holds 'peft' or 'lora'",
            0.88,
            compared,
            fix="take 'peft' or 'lora' out of the name of a folder with a whole model",
        )


def logs() -> dict[str, list[str]]:
    """The projector is asked for; a listing; a projector of another size."""
    return {
        "fires": [
            "FileNotFoundError: [Errno 2] No such file or directory: 'checkpoints/my-run/mm_projector.bin'",
            "adapter_config.json\nadapter_model.safetensors\nnon_lora_trainables.bin\nconfig.json",
        ],
        "silent": [
            "size mismatch for model.mm_projector.0.weight: copying a param with shape torch.Size([4096, 1024]) from checkpoint, the shape in current model is torch.Size([5120, 1024])."
        ],
    }
