"""The LoRA of an image model is written in another dialect than the loader reads.

What this means: kohya-ss, diffusers, PEFT, ComfyUI and Black Forest Labs name the same tensors in five ways. A loader that does not
know the dialect of a file reports keys as "not loaded" or "unexpected", and applies what is left: often nothing.

Why it happens: the model is newer than the loader, the file was converted halfway, or a folder of PEFT was given to a loader of
diffusers.

Detection: the first segment of the names: `lora_unet_` (kohya), `transformer.` and `unet.` (diffusers), `diffusion_model.` (ComfyUI),
`base_model.model.` (PEFT). A 1×1 convolution beside a linear layer of the same numbers is a dialect too.

Fix: upgrade diffusers or ComfyUI; else convert the names to the loader's prefix.

Workaround: load it in the program it was made for.

Prevention: save with `pipe.save_lora_weights`, and keep the dialect in the file's name.

Needs: diffusers

Setup:
    trained = train_images("lora")
    tensors = load_file("lora/pytorch_lora_weights.safetensors")
    by_peft = {name.replace("unet.", "base_model.model.", 1): tensor for name, tensor in tensors.items()}  # by PEFT

Broken:
    pipe = image_pipe()
    pipe.load_lora_weights(by_peft)
    # warns: No LoRA keys associated to UNet2DConditionModel found with the prefix='unet'.
    torch.allclose(picture(pipe), picture(image_pipe()))  # -> True

Fixed:
    by_diffusers = {name.replace("base_model.model.", "unet.", 1): tensor for name, tensor in by_peft.items()}
    pipe = image_pipe()
    pipe.load_lora_weights(by_diffusers)
    torch.allclose(picture(pipe), trained, atol=1e-5)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import diffusion_names, names_of
from adapterfit.causes.sizes import sizes_of
from adapterfit.causes.tensor_names import diffusion
from adapterfit.causes.told import in_words
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=(
        "lora key not loaded: lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "Loading adapter weights from state_dict led to unexpected keys not found in the model: [...]",
        "No LoRA keys associated to FluxTransformer2DModel found with the prefix='transformer'.",
    ),
)
_WORDS = (
    ("no lora keys associated to", 0.86), ("led to unexpected keys found in the model", 0.75), ("led to unexpected keys not found in the model", 0.75),
    ("led to missing keys in the model", 0.75), ("`original_state_dict` should be empty", 0.88), ("`old_state_dict` should be empty", 0.88), ("state_dict should be empty at this point", 0.88),
    ("state_dict` should be empty at this point", 0.88), ("state_dict` should be at this point", 0.88), ("which couldn't be parsed", 0.85), ("invalid lora state dict for", 0.88),
    ("all state dict entries have to be converted", 0.88), ("incompatible keys detected", 0.8), ("checkpoint not supported because layer", 0.88),
    ("for kohya flux2 lora conversion", 0.86), ("unsupported keys for ai-toolkit", 0.86), ("as unexpected keys while trying to load norm layers", 0.8),
    ("have not been correctly renamed", 0.85), ("failed to match keys when loading", 0.86), ("not in the list of present adapters: set()", 0.85), ("lora key not loaded", 0.8), ("contains unexpected module keys", 0.75), ("unable to determine model type for", 0.55), ("unexpected keys found in the lora", 0.8), ("doesn't seem to be a lora", 0.5),
    ("lora_te1_text_model", 0.3), ("unable to match lora key", 0.8), ("is missing in the lora safetensors file", 0.8), ("could not load lora", 0.4), ("unknown lora format", 0.8), ("unknown lora type", 0.8), ("unsupported lora format", 0.8),
)  # fmt: skip

#: How the parts of a pipeline begin the names of a file that holds several.
_COMPONENTS = ("unet.", "transformer.", "text_encoder.", "text_encoder_2.", "prior.", "diffusion_model.", "text_model.")
#: Words that speak of this cause where no symptom decides.
#: Files in which programs read LoRAs of image models, and errors of code that finds other names than it expects.
_LOADERS = (
    "extensions-builtin",
    "additional_networks",
    "lora_compvis",
    "comfy/lora",
    "comfy\\lora",
    "diffusers/loaders",
    "lora_conversion_utils",
    "networks/lora",
    "lora_pipeline",
    "lora_conversion",
)
_STUMBLES = frozenset(
    {"ValueError", "KeyError", "IndexError", "TypeError", "AttributeError", "AssertionError", "NotImplementedError"}
)
#: A file that turns one dialect of an image model's LoRA into another.
_CONVERTER = re.compile(r"lora\w*conver|conver\w*lora(?!\w*gguf)")
#: A tensor of an image model's LoRA, as a converter asks for it.
_IMAGE_TENSOR = re.compile(
    r"(?:[\w]{1,60}\.){0,4}(?:(?:single_|double_|joint_|down_|up_|mid_|transformer_|single_transformer_|input_|output_)?blocks?|context_refiner|noise_refiner|lora_unet\w*)\.?"
    r"[\w.]{0,120}(?:lora_[ab]|lora_down|lora_up|alpha|diff|diff_b)(?:\.weight)?$",
    re.IGNORECASE,
)
#: Blocks by the names of the first checkpoints, not by those of diffusers.
_FIRST = frozenset({"double_blocks", "single_blocks", "joint_blocks", "input_blocks", "output_blocks", "middle_block"})
HINTS = (
    "lora key not loaded", "load_lora_weights", "diffusion_model.", "lora_unet", "comfyui", "kohya", "diffusers", "pipe.load_lora", "transformer_blocks",
)  # fmt: skip

#: The cure for every dialect.
_FIX = "upgrade diffusers or ComfyUI; else convert the names to the prefix this loader reads (transformer., unet., diffusion_model.)"

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {
    ("diffusers", "load_lora_into_unet"): 0.45,
    ("diffusers", "load_lora_into_transformer"): 0.45,
    ("diffusers", "load_attn_procs"): 0.45,
    ("diffusers", "load_lora_adapter"): 0.45,
    ("diffusers", "lora_state_dict"): 0.4,
}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: names of one dialect that a loader of another reports, or the loaders' own words."""
    yield from in_words(symptoms, "diffusion-key-format", fix=_FIX)
    spoken = said(
        symptoms,
        "keys are not loaded",
        "keys were not loaded",
        "keys not loaded",
        "keys not being loaded",
        "keys don't load",
    )
    if spoken and not symptoms.unexpected:
        yield suspect(
            symptoms,
            "the text says that keys of the LoRA are not loaded",
            0.6,
            spoken,
            fix=_FIX,
            apart="the names of those keys",
        )
    names = names_of(symptoms, "diffusion-key-format")
    magnitudes = names_of(symptoms, "dora-magnitude-misplaced") or names_of(symptoms, "lycoris-not-lora")
    if names is not None:
        yield suspect(
            symptoms, f"the loader does not know names such as {quote(names.keys[0].name)}", names.likelihood, names.lines, fix=_FIX,
            apart="all keys or a few: all mean a dialect, only text encoders mean that none was given to load them into",
        )  # fmt: skip
    elif not magnitudes and not (symptoms.unexpected and names_of(symptoms, "model-class-differs")):
        for phrase, likelihood in _WORDS:
            told = said(symptoms, phrase)
            if told:
                yield suspect(
                    symptoms,
                    "the loader does not know the dialect of the names in this file",
                    likelihood,
                    told,
                    fix=_FIX,
                )
                break
    popped = [
        error.line
        for error in symptoms.errors
        if error.kind == "KeyError" and _IMAGE_TENSOR.match(error.message.strip("'\" "))
    ]
    if popped:
        yield suspect(
            symptoms, "a converter of image models' LoRAs looks for a name that is not in the file", 0.72, popped, fix=_FIX,
            apart="the program that it was trained with, and the first names in the file",
        )  # fmt: skip
    asked = [
        error.line
        for error in symptoms.errors
        if error.kind == "KeyError" and diffusion([error.message]) and error.message.count(".") > 1 and not popped
    ]
    if asked and any("lora" in frame.function for frame in symptoms.frames[-3:]):
        yield suspect(
            symptoms, "a program puts a LoRA into an image model that has no tensor of this name", 0.6, asked, fix=_FIX,
            apart="the part of the pipeline that the name begins with, and whether that part was loaded",
        )  # fmt: skip
    loading = [
        frame.line
        for frame in symptoms.frames[-3:]
        if any(mark in symptoms.lines[frame.line].lower() for mark in _LOADERS)
    ]
    if loading and symptoms.errors and symptoms.errors[-1].kind in _STUMBLES:
        converting = _CONVERTER.search(symptoms.lines[symptoms.frames[-1].line].lower()) is not None
        yield suspect(
            symptoms, "a loader of image models' LoRAs stumbles over the names in the file", 0.65 if converting else 0.42, [loading[-1], symptoms.errors[-1].line], fix=_FIX,
            apart="the first names in the file, and the program that it was trained with",
        )  # fmt: skip
    sizes = sizes_of(symptoms, "diffusion-key-format")
    if sizes is not None:
        yield suspect(
            symptoms, "1×1 convolutions in one, linear layers in the other, of the same numbers", sizes.likelihood, sizes.lines, fix=_FIX,
            apart="the inputs of attn2.to_k: equal in both for a dialect, different for another base",
        )  # fmt: skip
    yield from _targeted(symptoms)
    if names is None and not magnitudes and not symptoms.misshapen:
        yield from _merely_said(symptoms)


def _targeted(symptoms: Symptoms) -> Iterator[Suspicion]:
    """Names of image models that were passed to PEFT as targets."""
    parts = [
        t.line
        for t in symptoms.targets
        if t.wording == "not-found" and t.names and all(_is_foreign(n) and n.count(".") > 1 for n in t.names)
    ]
    if parts:
        yield suspect(
            symptoms, "a pipeline's part is still in the names that were passed to PEFT", 0.88, parts, fix=_FIX,
        )  # fmt: skip
    flat = [
        t
        for t in symptoms.targets
        if t.wording == "not-found" and any(n.startswith(("lora_unet_", "lora_te", "lycoris_")) for n in t.names)
    ]
    if flat:
        yield suspect(
            symptoms,
            "names of kohya-ss were passed to PEFT as they are",
            0.92,
            [targets.line for targets in flat],
            fix=_FIX,
        )


def _merely_said(symptoms: Symptoms) -> Iterator[Suspicion]:
    """Names of an image model's LoRA in a text that does not tell what is wrong with them."""
    adapted = [
        key
        for key in symptoms.keys
        if key.name.startswith(
            (
                "text_model.encoder.",
                "lora_unet_",
                "lora_te",
                "transformer.",
                "diffusion_model.",
                "unet.",
                "transformer_blocks.",
                "single_transformer_blocks.",
                "double_blocks.",
            )
        )
    ]
    if adapted and diffusion_names(adapted):
        yield suspect(
            symptoms,
            "these are names of an image model's LoRA, in one dialect of several",
            0.6,
            [key.line for key in adapted],
            fix=_FIX,
        )


def _is_foreign(name: str) -> bool:
    """A path with a pipeline's part before it, or as the first checkpoints of a family name it."""
    return name.startswith(_COMPONENTS) or any(part in _FIRST for part in name.split("."))


def logs() -> dict[str, list[str]]:
    """Names that are not loaded, flattened targets, the same numbers in four dimensions; magnitudes and other widths are other causes."""
    line = "size mismatch for down_blocks.0.attentions.0.proj_in.lora_A.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            "  File \"/x/site-packages/diffusers/loaders/lora_conversion_utils.py\", line 9, in convert\nKeyError: 'double_blocks.3.img_attn.proj.lora_down.weight'",
            "  File \"/x/flux.py\", line 9, in load_lora_weights\nKeyError: 'double_blocks.0.img_attn.qkv.weight'",
            "InvalidModelConfigException: Unknown LoRA type: /loras/ink.safetensors",
            "In ComfyUI some keys are not loaded when I use my LoRA.",
            "lora key not loaded: diffusion_model.double_blocks.0.img_attn.proj.lora_A.weight",
            "ValueError: Target modules {'lora_unet_single_blocks_0_linear1'} not found in the base model.",
            line.format("16, 320, 1, 1", "16, 320"),
        ],
        "silent": ["lora key not loaded: unet.a.to_k.lora_magnitude_vector", line.format("16, 320", "16, 640")],
    }
