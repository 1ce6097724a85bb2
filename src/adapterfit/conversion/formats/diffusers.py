"""diffusers: `pytorch_lora_weights.safetensors`, PEFT's names behind the component's (`unet.<module>.lora_A.weight`).

diffusers never reads `adapter_config.json`. The scale stands in the header, under `lora_adapter_metadata`: the fields of a
LoraConfig, each behind its component's name. Without that entry it takes the `.alpha` tensors of the file, and without
those alpha = rank, scale 1 (diffusers 0.42, `loaders/peft.py`, `utils/peft_utils.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from adapterfit.conversion.components import COMPONENTS, placed
from adapterfit.conversion.formats import kohya, peft
from adapterfit.conversion.neutral import Layer, Neutral, Rest, refuse_layers, refuse_rest
from adapterfit.conversion.numbers import Tensor, single
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Package, Wanted, WeightsFile
from adapterfit.conversion.peft_rules import resolved, usable
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.read import strictjson
from adapterfit.read.adapter import dialect_of
from adapterfit.read.config import parse_config
from adapterfit.records import AdapterConfig
from adapterfit.text import quote, shorten

NAME = "diffusers' format"
FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
#: ComfyUI's and others' one component, whose modules keep the original model's names.
_ORIGINAL = "diffusion_model"
_LEAF = re.compile(
    r"(?P<module>.+?)\.(?:(?P<a>lora_A\.weight)|(?P<b>lora_B\.weight)|(?P<bias>lora_B\.bias)"
    r"|(?P<magnitude>lora_magnitude_vector(?:\.weight)?)|(?P<alpha>alpha))"
)
#: How older versions of diffusers wrote the same, oldest first; in a text encoder the four projections have other names.
_OLDER = (
    (re.compile(r"\.processor\.(?=to_)"), "."),
    (re.compile(r"\.to_([qkv])_lora\."), r".to_\1.lora."),
    (re.compile(r"\.to_out_lora\."), ".to_out.0.lora."),
    (re.compile(r"\.lora(?:_linear_layer)?[._]down\.weight$"), ".lora_A.weight"),
    (re.compile(r"\.lora(?:_linear_layer)?[._]up\.weight$"), ".lora_B.weight"),
)
_ENCODERS = ((re.compile(r"\.to_([qkv])(?=\.lora)"), r".\1_proj"), (re.compile(r"\.to_out\.0(?=\.lora)"), ".out_proj"))


def claims(opened: Opened) -> bool:
    """Whether the tensors are named as diffusers names them, now or earlier."""
    if kohya.claims(opened) or dialect_of(opened.weights.tensors) == "transformers":
        return False
    names = [info.name for info in opened.weights.tensors if info.name.endswith((".weight", ".lora_magnitude_vector"))]
    behind = any(name.split(".")[0] in (*COMPONENTS, _ORIGINAL) and "lora" in name for name in names)
    return behind or (opened.adapter.layout == "diffusers" and opened.adapter.config is None)


# --------------------------------------------------------------------------------------------------- from diffusers


def read(opened: Opened) -> Neutral:
    """A file of diffusers' → the neutral form.

    Raises:
        CannotConvert: A pair is incomplete, or the header says something else than the tensors.
    """
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    others: list[str] = []
    for name, tensor in opened.tensors().items():
        part, inner = _part(name)
        match = _LEAF.fullmatch(_modern(inner, part))
        if match is None:
            others.append(name)
        else:
            role = next(key for key in ("a", "b", "bias", "magnitude", "alpha") if match[key])
            found.setdefault((part, match["module"]), {})[role] = tensor
    configs = _configs(opened, {part for part, _ in found})
    layers = tuple(_layer(module, pair, configs.get(part), part) for (part, module), pair in found.items())
    for part, config in configs.items():
        peft.check_configured([layer for layer in layers if layer.part == part], config)
    rest = (Rest("tensors that are no pair of A and B", tuple(others)),) if others else ()
    fields = tuple(field for config in configs.values() for field in peft.meaning(config))
    return Neutral(layers, {}, (*rest, *fields), tuple(_notes(found, configs)))


def _part(name: str) -> tuple[str, str]:
    head, _, rest = name.partition(".")
    return (head, rest) if head in (*COMPONENTS, _ORIGINAL) else ("", name)


def _modern(name: str, part: str) -> str:
    older = ".lora_" not in name or "lora_linear_layer" in name
    for pattern, new in _OLDER:
        name = pattern.sub(new, name)
    for pattern, new in _ENCODERS if older and part.startswith("text_encoder") else ():
        name = pattern.sub(new, name)
    return name


def _configs(opened: Opened, components: set[str]) -> Mapping[str, AdapterConfig]:
    """Component → the LoraConfig in the header."""
    raw = opened.weights.metadata.get(METADATA)
    if raw is None:
        return {}
    try:
        table = strictjson.loads(raw.encode(), what=f"the header's {METADATA}", code="malformed")
    except BadInput as bad:
        raise CannotConvert(bad.flaw.message, (METADATA,)) from None
    if not isinstance(table, dict):
        raise CannotConvert(f"the header's {METADATA} is no table", (METADATA,))
    found: dict[str, AdapterConfig] = {}
    for part in components:
        start = f"{part}." if part else ""
        fields = {key[len(start) :]: value for key, value in table.items() if key.startswith(start)}
        if fields:
            found[part] = parse_config(json.dumps({**fields, "peft_type": "LORA"}).encode(), METADATA)
            usable(found[part])
    return found


def _layer(module: str, pair: Mapping[str, Tensor], config: AdapterConfig | None, part: str) -> Layer:
    if "a" not in pair or "b" not in pair:
        raise CannotConvert(f"{quote(module)} has no {'lora_A' if 'a' not in pair else 'lora_B'}", (module,))
    a, b = pair["a"], pair["b"]
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise CannotConvert(f"{quote(module)} has a factor without two dimensions", (module,))
    if config is not None and "alpha" in pair:
        raise CannotConvert(
            f"{quote(module)} has an alpha, and the header has one too: diffusers refuses both", (module,)
        )
    alpha = float(a.shape[0])
    rslora = False
    if config is not None:
        if resolved(config.values, module, "rank_pattern", "r") != a.shape[0]:
            raise CannotConvert(f"{quote(module)} has rank {a.shape[0]}, the header says otherwise", (module,))
        alpha = float(resolved(config.values, module, "alpha_pattern", "lora_alpha"))
        rslora = bool(config.values.get("use_rslora"))
    elif "alpha" in pair:
        alpha = single(pair["alpha"], f"the alpha of {quote(module)}")
    kind = "conv" if len(a.shape) > 2 else "linear"
    return Layer(module, kind, a, b, alpha, rslora, pair.get("magnitude"), pair.get("bias"), part)


def _notes(found: Mapping[tuple[str, str], Mapping[str, Tensor]], configs: Mapping[str, AdapterConfig]) -> list[str]:
    unscaled = sum("alpha" not in pair and part not in configs for (part, _), pair in found.items())
    notes = []
    if unscaled:
        notes.append(f"{unscaled:,} modules have no alpha: their scale is 1, as diffusers takes it.")
    if any(part == _ORIGINAL for part, _ in found):
        notes.append("The modules have the names of the original model, not those diffusers gives them.")
    return notes


# --------------------------------------------------------------------------------------------------- to diffusers


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → diffusers' file, with the scale in its header.

    Raises:
        CannotConvert: It holds something diffusers' format cannot express.
    """
    refuse_rest(neutral, NAME)
    neutral = placed(neutral, wanted.part)
    refuse_layers((layer for layer in neutral.layers if layer.kind == "embedding"), NAME, "LoRA on an embedding")
    tensors: dict[str, Tensor] = {}
    for layer in neutral.layers:
        tensors[f"{layer.name}.lora_A.weight"] = layer.a
        tensors[f"{layer.name}.lora_B.weight"] = layer.b
        if layer.bias is not None:
            tensors[f"{layer.name}.lora_B.bias"] = layer.bias
        if layer.magnitude is not None:
            tensors[f"{layer.name}.lora_magnitude_vector"] = layer.magnitude
    doubled = len({layer.name for layer in neutral.layers}) < len(neutral.layers)
    if doubled:
        raise CannotConvert(f"two layers go to the same module ({shorten(layer.name for layer in neutral.layers)})")
    metadata = {"format": "pt", METADATA: json.dumps(_header(neutral), indent=2, sort_keys=True)}
    return Package({}, (WeightsFile(FILE, tensors, metadata),), neutral.notes)


def _header(neutral: Neutral) -> dict[str, Any]:
    """The LoraConfigs; of the fields with a default only those that differ, which older versions of PEFT take too."""
    found: dict[str, Any] = {}
    for part in sorted({layer.part for layer in neutral.layers}):
        layers = [_shortened(layer) for layer in neutral.layers if layer.part == part]
        config = peft.peft_config(layers, {})
        kept = {key: value for key, value in config.items() if value and value != "none" and key != "inference_mode"}
        found.update({f"{part}.{key}": value for key, value in kept.items()})
    return found


def _shortened(layer: Layer) -> Layer:
    """Newer versions of transformers have no `text_model.` in CLIP's module names; a suffix fits both."""
    from dataclasses import replace

    start = "text_model."
    outside = not layer.part.startswith("text_encoder") or not layer.module.startswith(start)
    return layer if outside else replace(layer, module=layer.module[len(start) :])
