"""The components of a diffusion pipeline: which one an adapter belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from adapterfit.conversion.neutral import Neutral
from adapterfit.errors import CannotConvert
from adapterfit.text import quote, shorten

#: Names that diffusers gives them (`pipe.unet`, `pipe.text_encoder` …).
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "prior")
_UNET = re.compile(r"(?:down_blocks|up_blocks|mid_block|conv_in|conv_out|time_embedding|add_embedding)\b")
_TRANSFORMER = re.compile(
    r"(?:transformer_blocks|single_transformer_blocks|transformer_layers|joint_transformer_blocks|context_embedder|x_embedder"
    r"|time_text_embed|pos_embed|norm_out|proj_out)\b"
)
_ENCODER = re.compile(
    r"(?:text_model\.)?encoder\.(?:layers|block)\.\d+\.|(?:model\.)?(?:language_model\.)?layers\.\d+\."
)


def placed(neutral: Neutral, wanted: str = "") -> Neutral:
    """Every layer with its component: what the user says, else what the names of the modules say.

    Raises:
        CannotConvert: They do not say it.
    """
    if wanted and wanted not in COMPONENTS:
        raise CannotConvert(f"{quote(wanted)} is no component of a pipeline: {', '.join(COMPONENTS)}")
    strange = tuple(sorted({layer.part for layer in neutral.layers} - {"", *COMPONENTS}))
    if strange:
        raise CannotConvert(
            f"{shorten(map(quote, strange))} is no component of a pipeline that is known here: {', '.join(COMPONENTS)}",
            strange,
        )
    bare = [layer.module for layer in neutral.layers if not layer.part]
    if not bare:
        return neutral
    part = wanted or component_of(bare)
    layers = tuple(layer if layer.part else replace(layer, part=part) for layer in neutral.layers)
    notes = neutral.notes
    if not wanted and part == "text_encoder":
        notes += ("The modules are a text encoder's; it is taken for the pipeline's first. --part says which it is.",)
    return replace(neutral, layers=layers, notes=notes)


def component_of(modules: Iterable[str]) -> str:
    """The component that the module names of one adapter belong to.

    Raises:
        CannotConvert: They are a diffusion model's in no way we know; the user is asked.
    """
    names = list(modules)
    for part, pattern in (("unet", _UNET), ("transformer", _TRANSFORMER), ("text_encoder", _ENCODER)):
        if all(pattern.match(name) for name in names):
            return part
    raise CannotConvert(
        f"which component of a pipeline these modules belong to cannot be told ({shorten(names)}): "
        f"say it with --part, one of {', '.join(COMPONENTS)}",
        tuple(names[:1]),
    )
