"""kohya-ss: one file, `lora_unet_down_blocks_0_…_to_q.lora_down.weight`, `.lora_up.weight` and a scalar `.alpha`.

`.dora_scale`, which LyCORIS and ComfyUI know, is read, and not written: diffusers drops it. A module's scale is alpha / rank; alpha missing or 0 means alpha = rank (sd-scripts, `networks/lora.py`). So alpha here is
scale · rank whatever PEFT's config says, and rsLoRA is written as the alpha that gives its scale, in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from adapterfit.conversion.components import placed
from adapterfit.conversion.flat_names import flat, from_sgm, unflattened
from adapterfit.conversion.flux import is_flux, taken_apart
from adapterfit.conversion.neutral import Layer, Neutral, Rest, refuse_layers, refuse_rest
from adapterfit.conversion.numbers import Tensor, scalar, single
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Package, Wanted, WeightsFile
from adapterfit.errors import CannotConvert
from adapterfit.text import quote, shorten

NAME = "kohya's format"
FILE = "pytorch_lora_weights.safetensors"
#: Entry of the header under which the module paths stand with their dots: the names themselves have lost them.
MODULES = "adapterfit_modules"
#: Entry that lists the starts of those names of CLIP in which `text_model_` was put.
BARE = "adapterfit_without_text_model"
#: Start of a name → component. `lora_te_` is SD 1's only text encoder, `lora_te1_` the first of several.
_STARTS = {
    "lora_unet_": "unet",
    "lora_transformer_": "transformer",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_prior_": "prior",
}
#: Measured on diffusers 0.42.1: its names for the alphas of attention in such a file are not those of the modules.
_DIFFERING = (
    "Modules have different alphas: kohya's own tools and ComfyUI apply each, diffusers takes the most common one for all "
    "attention; for diffusers use --to diffusers."
)
#: Measured on diffusers 0.42.1, Flux.
_BESIDE_ATTENTION = "diffusers reads of such a file of a transformer the attention only, ComfyUI all of it; for diffusers use --to diffusers."
_FLUX = "Flux's own joined modules are taken apart, as diffusers names them; every part keeps the whole A."
#: What every trainer's names of CLIP have, and transformers since 5.0 has not; ComfyUI looks for them with it (`comfy/lora.py`).
_CLIP, _LAYERS = "text_model_", "encoder.layers."
_LEAVES = {"lora_down.weight": "a", "lora_up.weight": "b", "alpha": "alpha", "dora_scale": "magnitude"}


def claims(opened: Opened) -> bool:
    """Whether the tensors are named as kohya names them."""
    return opened.adapter.layout == "kohya" or any(
        info.name.startswith(tuple(_STARTS)) for info in opened.weights.tensors
    )


def read(opened: Opened) -> Neutral:
    """A file of kohya's → the neutral form.

    Raises:
        CannotConvert: A pair is incomplete, or a name cannot be read back.
    """
    found: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    for name, tensor in opened.tensors().items():
        stem, _, leaf = name.partition(".")
        if leaf in _LEAVES and stem.startswith(tuple(_STARTS)):
            found.setdefault(stem, {})[_LEAVES[leaf]] = tensor
        else:
            others.append(name)
    unet = {stem: stem[len("lora_unet_") :] for stem in found if stem.startswith("lora_unet_")}
    own = {stem: name for stem, name in unet.items() if is_flux(name)}
    modules = dict(_modules([stem for stem in found if stem not in own], opened))
    modules.update({stem: ("transformer", module) for stem, module in own.items()})
    read_layers = (_layer(stem, pair, *modules[stem]) for stem, pair in found.items())
    layers = tuple(
        part for layer in read_layers for part in (taken_apart(layer) if is_flux(layer.module) else (layer,))
    )
    rest = (Rest("tensors that are no down, up or alpha", tuple(others)),) if others else ()
    unscaled = [stem for stem, pair in found.items() if "alpha" not in pair]
    notes: tuple[str, ...] = (
        (f"{len(unscaled)} modules have no alpha: their scale is 1, as kohya's own tools take it.",) if unscaled else ()
    )
    notes += (_FLUX,) if own else ()
    return Neutral(layers, {}, rest, notes)


def _modules(stems: Sequence[str], opened: Opened) -> Mapping[str, tuple[str, str]]:
    """Stem → component and module path."""
    of_base: set[str] = set()
    if opened.base is not None:
        of_base |= {name.rpartition(".")[0] for name in opened.base.tensors}
        of_base |= {module.name for module in (opened.base.tree.modules if opened.base.tree is not None else ())}
    known = _listed(opened.weights.metadata, MODULES) | of_base
    flat_of_base = {flat(path) for path in of_base}
    starts = {stem: _start(stem) for stem in stems}
    flats = {
        stem: _without_clip(from_sgm(stem[len(start) :]), start, opened, flat_of_base) for stem, start in starts.items()
    }
    paths = unflattened(flats.values(), known)
    return {
        stem: (_component(_STARTS[start], paths[flats[stem]]), paths[flats[stem]]) for stem, start in starts.items()
    }


def _start(stem: str) -> str:
    return next(start for start in _STARTS if stem.startswith(start))


def _without_clip(name: str, start: str, opened: Opened, of_base: AbstractSet[str]) -> str:
    """As transformers names CLIP now, where the header says that it was so before, or the base has it so."""
    bare = name[len(_CLIP) :]
    if not name.startswith(_CLIP):
        return name
    return (
        bare if start in _listed(opened.weights.metadata, BARE) or (name not in of_base and bare in of_base) else name
    )


def _component(part: str, module: str) -> str:
    """`lora_unet_` is used for whatever denoises, be it a UNet or a transformer."""
    return (
        "transformer"
        if part == "unet" and module.startswith(("transformer_blocks.", "single_transformer_blocks."))
        else part
    )


def _listed(metadata: Mapping[str, str], key: str) -> set[str]:
    """The texts of a list in the header: of paths each is believed only where it gives the flat name that is there."""
    try:
        listed = json.loads(metadata.get(key, "[]"))
    except (ValueError, RecursionError):
        return set()
    return {text for text in listed if isinstance(text, str)} if isinstance(listed, list) else set()


def _layer(stem: str, pair: Mapping[str, Tensor], part: str, module: str) -> Layer:
    if "a" not in pair or "b" not in pair:
        raise CannotConvert(f"{quote(stem)} has no {'lora_down' if 'a' not in pair else 'lora_up'}", (stem,))
    a, b = pair["a"], pair["b"]
    if len(a.shape) < 2 or len(b.shape) < 2 or b.shape[1] != a.shape[0]:
        raise CannotConvert(
            f"{quote(stem)} has factors of shapes {a.shape} and {b.shape} that do not go together", (stem,)
        )
    alpha = single(pair["alpha"], f"the alpha of {quote(stem)}") if "alpha" in pair else 0.0
    kind = "conv" if len(a.shape) > 2 else "linear"
    magnitude = _magnitude(stem, pair["magnitude"], b, kind) if "magnitude" in pair else None
    return Layer(module, kind, a, b, alpha or float(a.shape[0]), magnitude=magnitude, part=part)


def _magnitude(stem: str, scale: Tensor, b: Tensor, kind: str) -> Tensor:
    """DoRA's vector as PEFT has it. LyCORIS writes (out, 1, …), the norm of every output's weights, or (1, in): another method."""
    if scale.shape[:1] != b.shape[:1] or any(size != 1 for size in scale.shape[1:]):
        raise CannotConvert(
            f"{quote(stem)} has a dora_scale of shape {scale.shape}, not one number per output: PEFT has no such DoRA",
            (stem,),
        )
    return scale.reshaped((1, b.shape[0], *(1 for _ in b.shape[2:])) if kind == "conv" else (b.shape[0],))


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → kohya's file.

    Raises:
        CannotConvert: It holds something kohya's format cannot express.
    """
    refuse_rest(neutral, NAME)
    neutral = placed(neutral, wanted.part)
    layers = neutral.layers
    refuse_layers((layer for layer in layers if layer.magnitude is not None), NAME, "DoRA")
    refuse_layers((layer for layer in layers if layer.bias is not None), NAME, "lora_bias")
    refuse_layers((layer for layer in layers if layer.kind == "embedding"), NAME, "LoRA on an embedding")
    refuse_layers((layer for layer in layers if layer.b.shape[1] != layer.rank), NAME, "grouped convolutions")
    stems = _stems(layers)
    tensors: dict[str, Tensor] = {}
    for layer, stem in zip(layers, stems):
        tensors[f"{stem}.lora_down.weight"] = layer.a
        tensors[f"{stem}.lora_up.weight"] = layer.b
        tensors[f"{stem}.alpha"] = scalar(layer.plain_alpha)
    metadata = {
        "ss_network_module": "networks.lora",
        MODULES: json.dumps(sorted({layer.module for layer in layers}), separators=(",", ":")),
    }
    if _bare(layers):
        metadata[BARE] = json.dumps(
            sorted({_start(stem) for stem, layer in zip(stems, layers) if layer.part in _bare(layers)})
        )
    return Package({}, (WeightsFile(FILE, tensors, metadata),), (*neutral.notes, *_readers(layers)))


def _readers(layers: tuple[Layer, ...]) -> list[str]:
    """What readers of such a file are known to leave out."""
    several = len({layer.plain_alpha for layer in layers}) > 1 and any(layer.part != "transformer" for layer in layers)
    beside = any(layer.part == "transformer" and ".attn." not in layer.module for layer in layers)
    return [*((_DIFFERING,) if several else ()), *((_BESIDE_ATTENTION,) if beside else ())]


def _bare(layers: tuple[Layer, ...]) -> set[str]:
    """The CLIPs that are named as transformers names them now."""
    encoders = {layer.part for layer in layers if layer.part.startswith("text_encoder")}
    return {part for part in encoders if all(each.module.startswith(_LAYERS) for each in layers if each.part == part)}


def _stems(layers: tuple[Layer, ...]) -> list[str]:
    several = any(layer.part in ("text_encoder_2", "text_encoder_3") for layer in layers)
    starts = {part: start for start, part in _STARTS.items() if start not in ("lora_te_", "lora_te1_")}
    starts["text_encoder"] = "lora_te1_" if several else "lora_te_"
    bare = _bare(layers)
    stems = [starts[each.part] + (_CLIP if each.part in bare else "") + flat(each.module) for each in layers]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if doubled:
        raise CannotConvert(f"two modules have the same name in {NAME}: {shorten(doubled)}", tuple(doubled))
    return stems
