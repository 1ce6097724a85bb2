"""What the name of a tensor in a log says by itself: whose it is, which matrix of a LoRA, which of its sizes is the rank."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from adapterfit import limits
from adapterfit.causes.evidence import TUNER_PREFIXES

#: Words by which the names of image models are known.
DIFFUSION = (
    "down_blocks", "up_blocks", "mid_block", "transformer_blocks", "x_embedder", "double_blocks", "single_blocks", "lora_unet",
    "diffusion_model", "input_blocks", "output_blocks", "proj_in", "context_embedder", "text_model.encoder", "middle_block",
    "img_in", "adaln", "patch_embedding",
)  # fmt: skip
#: Which axis of a tensor is the rank, by how a part of its name begins; LoRA's own are told by `side`. Source: peft 0.21.2 `tuners/`.
_RANK_AXES = {
    "hada_w1_a": 1, "hada_w1_b": 0, "hada_w2_a": 1, "hada_w2_b": 0, "lokr_w1_a": 1, "lokr_w1_b": 0, "lokr_w2_a": 1, "lokr_w2_b": 0,
    "vera_lambda_d": 0, "pvera_lambda_d": 0, "lora_E": 0, "delora_A": 0, "delora_B": 1, "hira_A": 0, "hira_B": 1, "hra_u": 1, "miss_block": 0,
    "bone_block": 0, "deft_P": 1, "deft_R": 0, "lily_A": 0, "peanut_A": 0, "supertuning_lora_A": 0, "hira_embedding_A": 0, "hira_embedding_B": 1,
}  # fmt: skip


@lru_cache(maxsize=limits.LOG_SYMPTOMS)
def tuner(key: str) -> bool:
    """Whether a name is that of an adapter's own tensor."""
    return any(part.startswith(TUNER_PREFIXES) for part in key.split("."))


@lru_cache(maxsize=limits.LOG_SYMPTOMS)
def side(key: str) -> str:
    """`A` or `B` for a LoRA's two matrices, else an empty string."""
    for part in key.split("."):
        if part in {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"}:
            return part[-1]
        if part.startswith(("lora_down", "lora_up")):
            return "A" if part.startswith("lora_down") else "B"
    parts = key.split(".")
    if (
        len(parts) > 1
        and parts[-1] == "weight"
        and parts[-2] in {"down", "up"}
        and (len(parts) == 2 or "lora" in parts[-3])
    ):
        return "A" if parts[-2] == "down" else "B"  # diffusers' attention processors
    return ""


def module_leaf(key: str) -> str:
    """The name of the module that a tensor belongs to: `….self_attn.q_proj.lora_A.default.weight` → `q_proj`."""
    leaf = ""
    for part in key.split("."):
        if part.startswith(TUNER_PREFIXES) or part in {
            "weight",
            "bias",
            "base_layer",
            "modules_to_save",
        }:
            break
        leaf = part
    return leaf


def diffusion(keys: Iterable[str]) -> bool:
    """Whether names are those of an image model."""
    return any(mark in key for key in keys for mark in DIFFUSION)


@lru_cache(maxsize=limits.LOG_SYMPTOMS)
def rank_axis(key: str) -> int | None:
    """Which axis of this tensor is the rank; None for one that has none, or of which nothing is known."""
    lora = side(key)
    if lora:
        return 1 if lora == "B" else 0
    return next((_RANK_AXES[part] for part in key.split(".") if part in _RANK_AXES), None)
