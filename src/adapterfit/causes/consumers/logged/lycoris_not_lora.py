"""The file is a LyCORIS adapter of another method, not a LoRA.

What this means: LoHa (`hada_`), LoKr (`lokr_`), full differences (`.diff`) and Tucker-decomposed convolutions (`lora_mid`) have tensors
that a LoRA loader has no place for. Diffusers stops, since not every name has "lora" in it.

Why it happens: LyCORIS files have the same ending and often the same names of layers as LoRA files.

Detection: `hada_`, `lokr_`, `lora_mid`, `.diff` or `oft_` in the names.

Fix: load it with a program that knows LyCORIS (ComfyUI, A1111, the `lycoris-lora` package), or a newer diffusers.

Workaround: merge it into the base with `lycoris-lora`, or extract a LoRA from the merged model.

Prevention: train plain LoRA where diffusers is to load it.

Needs: diffusers

Setup:
    trained = train_images("lora")
    tensors = load_file("lora/pytorch_lora_weights.safetensors")
    loha = {name.replace("lora_A.weight", "hada_w1_a").replace("lora_B.weight", "hada_w1_b"): tensor
            for name, tensor in tensors.items()}  # names of another method

Broken:
    pipe = image_pipe()
    pipe.load_lora_weights(loha)
    # raises ValueError: Invalid LoRA checkpoint. Make sure all LoRA param names contain `'lora'` substring.

Fixed:
    pipe = image_pipe()
    pipe.load_lora_weights("lora")  # a LoRA; a LoHa is loaded by ComfyUI, A1111 or the lycoris-lora package
    torch.allclose(picture(pipe), trained, atol=1e-5)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=("ValueError: Invalid LoRA checkpoint. Make sure all LoRA param names contain `'lora'` substring.",),
)
_WORDS = (
    ("make sure all lora param names contain", 0.86), ("must end in lora_up.weight", 0.85), ("invalid lora checkpoint", 0.82), ("invalid adapter checkpoint. we currently support lora and lokr", 0.86), ("lycoris", 0.6),
    ("hada_w1", 0.85), ("lokr_w1", 0.85), ("lora_mid", 0.85),
)  # fmt: skip

#: Methods of LyCORIS as people name them.
_METHOD = re.compile(r"(?<![a-z0-9])(?:lokr|loha|lycoris|locon)(?![a-z0-9])")
#: The folder of an extension says nothing about the file.
_PATH = re.compile(r"[^\s\"']{0,300}[/\\][^\s\"']{0,300}|extra network lyco\w*")

#: A 1 × 1 weight of the model for a kernel of the file: `output with shape [8, 320, 1, 1] doesn't match the broadcast shape [8, 320, 3, 3]`.
_KERNEL = re.compile(
    r"output with shape \[(?P<wide>\d{1,5}), (?P<tall>\d{1,5}), 1, 1\] doesn't match the broadcast shape \[(?P=wide), (?P=tall), (?P<kernel>[2-9], [2-9])\]"
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "lycoris", "loha", "lokr", "hada_", "lokr_",
)  # fmt: skip

#: What ComfyUI calls the kind of patch that it cannot apply.
_OTHER = re.compile(r"ERROR (glora|loha|lokr|oft|boft) \w")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: names of other methods, or a loader that finds names without "lora"."""
    fix = "load it with ComfyUI or the lycoris-lora package, or with a diffusers that knows LoHa and LoKr"
    found = names_of(symptoms, "lycoris-not-lora")
    if found is not None:
        yield suspect(
            symptoms,
            f"{quote(found.keys[0].name)} is a tensor of LyCORIS, not of a LoRA",
            found.likelihood,
            found.lines,
            fix=fix,
        )
        return
    kernel = _KERNEL.search(symptoms.folded)
    if kernel is not None:
        yield suspect(
            symptoms, f"the file adapts a convolution of {kernel['kernel']}: it is a LoCon, and the loader knows 1 × 1 only", 0.72,
            [line_of(symptoms, kernel.start())], fix=fix, apart="the names in the file: lora_mid, or shapes that end in 3, 3",
        )  # fmt: skip
        return
    other = _OTHER.search(symptoms.text)
    if other is not None:
        yield suspect(
            symptoms, f"ComfyUI reads the file as {other[1]}, which is no LoRA, and cannot apply it", 0.75, [line_of(symptoms, other.start())], fix=fix,
            apart="whether ComfyUI is as new as the lycoris that wrote the file",
        )  # fmt: skip
    method = _METHOD.search(symptoms.folded)
    unnamed = bool(said(symptoms, "lora key not loaded")) and not symptoms.unexpected
    if method is not None and (unnamed or any(frame.library in {"diffusers", "mflux"} for frame in symptoms.frames)):
        yield suspect(
            symptoms, f"the text speaks of {method[0]}, and the loader is one of LoRAs", 0.82 if unnamed else 0.6, [line_of(symptoms, method.start())], fix=fix,
            apart="the names in the file: hada_, lokr_, .diff or lora_mid",
        )  # fmt: skip
    own = said(symptoms, "missing adapter keys")  # PEFT's own LoHa and LoKr
    for phrase, likelihood in _WORDS if not own else ():
        told = said(symptoms, phrase)
        if told and (phrase != "lycoris" or _METHOD.search(_PATH.sub("", symptoms.folded))):
            yield suspect(
                symptoms, "the file holds tensors of LoHa, LoKr or full differences, not of a LoRA", likelihood, told, fix=fix,
                apart="the names in the file: hada_, lokr_, .diff or lora_mid",
            )  # fmt: skip
            return


def logs() -> dict[str, list[str]]:
    """Diffusers' line; names of LoKr; a plain LoRA that is not loaded."""
    return {
        "fires": [
            "loading LoRA ink.safetensors: RuntimeError: output with shape [16, 640, 1, 1] doesn't match the broadcast shape [16, 640, 3, 3]",
            "ValueError: Invalid LoRA checkpoint. Make sure all LoRA param names contain `'lora'` substring.",
            "lora key not loaded: lora_unet_down_blocks_0_attentions_0_proj_in.lokr_w1",
        ],
        "silent": ["lora key not loaded: transformer.a.to_q.lora_A.weight"],
    }
