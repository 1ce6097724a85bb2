"""The loader does not take DoRA's magnitudes.

What this means: a DoRA has a vector of magnitudes beside A and B. A loader that knows plain LoRA reports exactly these as unexpected,
loads the rest, and the result is not what was trained.

Why it happens: the loader does not set use_dora, or reads the vector under another name: `lora_magnitude_vector` is PEFT's,
`dora_scale` that of kohya-ss and ComfyUI.

Detection: every key that is reported ends in one of the two names.

Fix: upgrade diffusers (with peft >= 0.9) or ComfyUI; else rename `lora_magnitude_vector` to `dora_scale` for ComfyUI.

Workaround: merge the DoRA into the base with PEFT, and use the merged model.

Prevention: train plain LoRA for loaders that do not know DoRA.

Needs: diffusers

Setup:
    trained = train_images("dora", use_dora=True)
    tensors = load_file("dora/pytorch_lora_weights.safetensors")
    by_kohya = {name.replace("lora_magnitude_vector", "dora_scale"): tensor for name, tensor in tensors.items()}

Broken:
    pipe = image_pipe()
    pipe.load_lora_weights(by_kohya)
    # warns: It seems like you are using a DoRA checkpoint that is not compatible in Diffusers at the moment.
    torch.allclose(picture(pipe), trained, atol=1e-5)  # -> False

Fixed:
    by_peft = {name.replace("dora_scale", "lora_magnitude_vector"): tensor for name, tensor in by_kohya.items()}
    pipe = image_pipe()
    pipe.load_lora_weights(by_peft)
    torch.allclose(picture(pipe), trained, atol=1e-5)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "lora key not loaded: transformer.transformer_blocks.0.attn.to_k.lora_magnitude_vector",
        "It seems like you are using a DoRA checkpoint that is not compatible in Diffusers at the moment. So, we are going to filter out the keys associated to 'dora_scale` from the state dict.",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "dora", "magnitude_vector", "dora_scale",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: only magnitudes are reported."""
    fix = "upgrade diffusers (peft >= 0.9) or ComfyUI; for ComfyUI rename lora_magnitude_vector to dora_scale"
    found = names_of(symptoms, "dora-magnitude-misplaced")
    if found is not None:
        yield suspect(
            symptoms,
            "only DoRA's magnitudes find no place: the loader takes the file for plain LoRA",
            found.likelihood,
            found.lines,
            fix=fix,
        )
        return
    told = said(symptoms, "dora_scale", "lora_magnitude_vector")
    if told and not (symptoms.missing or symptoms.unexpected):
        yield suspect(symptoms, "DoRA's magnitudes are not where the loader looks", 0.8, told, fix=fix)


def logs() -> dict[str, list[str]]:
    """Magnitudes only; all names of a file."""
    return {
        "fires": [
            "lora key not loaded: unet.down_blocks.0.attentions.0.to_q.lora_magnitude_vector",
            "Loading adapter weights from state_dict led to unexpected keys not found in the model: ['up_blocks.0.attn1.to_q.lora_magnitude_vector.default_0']",
        ],
        "silent": ["lora key not loaded: unet.down_blocks.0.attentions.0.to_q.lora_A.weight"],
    }
