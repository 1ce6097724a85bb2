"""The LoRA was made for another family of image models.

What this means: SD 1.5, SD 2, SDXL, its refiner, and the Flux variants have layers of the same names and other widths. The load raises
size mismatches, or the program skips every layer with an error line and renders as the base does.

Why it happens: a LoRA's file does not say which family it is for, and its name may lie.

Detection: the inputs of cross attention: 768 is SD 1, 1024 SD 2, 2048 SDXL, 1280 the refiner. Inputs of x_embedder: 64 is Flux dev, 128 a
control model, 384 Fill. Text encoders called `lora_te_` are SD 1, `lora_te1_` and `lora_te2_` SDXL.

Fix: use the base of that family, or a LoRA made for this one.

Workaround: none: the layers have other sizes.

Prevention: keep the family in the file's name; kohya-ss writes it into the metadata as ss_base_model_version.

Needs: diffusers

Setup:
    trained = train_images("lora")

Broken:
    pipe = image_pipe(width=64)  # another family: SDXL has 2048 where SD 1.5 has 768
    pipe.load_lora_weights("lora")
    # raises RuntimeError: size mismatch for down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.default_0.weight: copying a param with shape torch.Size([2, 32]) from checkpoint, the shape in current model is torch.Size([2, 64]).

Fixed:
    pipe = image_pipe()  # the family of the training
    pipe.load_lora_weights("lora")
    torch.allclose(picture(pipe), trained, atol=1e-5)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.sizes import IMAGES, ranks, sizes_of
from adapterfit.causes.tensor_names import side
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=5,
    messages=(
        "size mismatch for down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.default_0.weight: copying a param with shape torch.Size([32, 768]) from checkpoint, the shape in current model is torch.Size([32, 2048]).",
    ),
)
#: Width of a layer's input → the family that has it.
_CROSS = {768: "SD 1", 1024: "SD 2", 2048: "SDXL", 1280: "the SDXL refiner", 4096: "SD 3 or Flux"}
_INPUT = {64: "Flux dev or schnell", 128: "a Flux control model", 384: "Flux Fill"}

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "sdxl", "sd1.5", "sd 1.5", "stable diffusion", "flux", "x_embedder", "refiner",
)  # fmt: skip

#: A matrix (rank, width) that meets the same numbers as a 1x1 convolution, or the other way round, broadcasts to four sides.
_BROADCAST = re.compile(
    r"output with shape \[(?P<model>(\d{1,4}), (\d{1,5})(?:, 1, 1)?)\] doesn't match the broadcast shape \[\2, \3, \2, \3\]"
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: widths, or text encoders that this family does not have."""
    sizes = sizes_of(symptoms, "diffusion-wrong-base")
    if sizes is not None:
        yield suspect(
            symptoms, f"the LoRA is for another family of image models{_families(symptoms)}", sizes.likelihood, sizes.lines,
            fix=f"use the base of that family{_families(symptoms, found=True)}, or a LoRA made for this one",
            apart="the inputs of attn2.to_k and x_embedder in the file: they name the family",
        )  # fmt: skip
    widths = _multiplied(symptoms)
    if widths:
        line, file, model = widths
        yield suspect(
            symptoms, f"cross attention of two families meets: {_CROSS[file]} and {_CROSS[model]}", 0.8, [line],
            fix="use the base the LoRA was made for, or a LoRA made for this one",
        )  # fmt: skip
    product = said(symptoms, "shapes cannot be multiplied", "must match the size of tensor b")
    if (
        product
        and not widths
        and said(symptoms, *IMAGES, most=1)
        and said(symptoms, "lora", most=1)
        and ranks(symptoms) is None
    ):
        yield suspect(
            symptoms, "sizes of an image model and of a LoRA do not go together", 0.55, product,
            fix="use the base the LoRA was made for, in a format that the program patches (not every quantised one), or a LoRA made for this one",
            apart="whether the same LoRA works on the base in 16 bits: then it is the quantised format, not the family",
        )  # fmt: skip
    broadcast = _BROADCAST.search(symptoms.text)
    if broadcast is not None and said(symptoms, "lora", most=1):
        conv = ", 1, 1" in broadcast["model"]
        yield suspect(
            symptoms, f"one side has this layer as a 1x1 convolution, the other as a linear layer: {'SD 1 is loaded' if conv else 'SD 2 or SDXL is loaded'}, and the LoRA is for another family",
            0.62, [line_of(symptoms, broadcast.start())], fix="use the base the LoRA was made for, or a LoRA made for this one",
            apart="the inputs of attn2.to_k in the file: 768 is SD 1, 1024 is SD 2, 2048 is SDXL",
        )  # fmt: skip
    names = names_of(symptoms, "diffusion-wrong-base")
    if names is not None:
        yield suspect(
            symptoms, f"the loader has no place for {quote(names.keys[0].name)}: the LoRA may be for another family", names.likelihood, names.lines,
            fix="use the base the LoRA was made for; lora_te_ is SD 1, lora_te1_ and lora_te2_ are SDXL",
            apart="whether a text encoder was connected to the loader at all: if not, these lines are harmless",
        )  # fmt: skip


def _multiplied(symptoms: Symptoms) -> tuple[int, int, int] | None:
    """Line and widths of a product of matrices, or a sum, in which two families' cross attention meets."""
    for line in said(symptoms, "shapes cannot be multiplied", "must match the size of tensor b"):
        digits = "".join(char if char.isdigit() else " " for char in symptoms.lines[line][:400]).split()
        known = [number for number in map(int, (d for d in digits if len(d) < 6)) if number in {768, 1024, 1280, 2048}]
        if len(set(known)) == 2 and not said(symptoms, "expert"):
            return line, known[0], next(number for number in known if number != known[0])
    return None


def _families(symptoms: Symptoms, *, found: bool = False) -> str:
    """What the widths name: `: SD 1, and the base is SDXL`."""
    for shape in symptoms.misshapen:
        known = _INPUT if "x_embedder" in shape.key else _CROSS if "attn2.to_" in shape.key else {}
        file = known.get(shape.found[-1]) if shape.found and len(shape.found) == 2 else None
        model = known.get(shape.wanted[-1]) if shape.wanted and len(shape.wanted) == 2 else None
        if file and side(shape.key) != "B":
            return f" ({file})" if found else f": {file}" + (f", and the base is {model}" if model else "")
    return ""


def logs() -> dict[str, list[str]]:
    """Cross attention, an input, a program that skips; the same numbers in four dimensions are a dialect."""
    line = "size mismatch for {}.lora_A.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v", "8, 2048", "8, 768"),
            line.format("x_embedder", "16, 64", "16, 384"),
            "File lora.py, in load_lora\nRuntimeError: output with shape [16, 640] doesn't match the broadcast shape [16, 640, 16, 640]",
            "File diffusers/models/attention.py, in forward, lora\nRuntimeError: mat1 and mat2 shapes cannot be multiplied (154x2048 and 768x320)",
            "ERROR lora diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight shape '[640, 2048]' is invalid for input of size 491520",
        ],
        "silent": [
            "RuntimeError: output with shape [1, 28] doesn't match the broadcast shape [3, 28]",
            line.format("down_blocks.0.attentions.0.proj_in", "8, 320, 1, 1", "8, 320"),
        ],
    }
