"""mlx-lm: `adapters.safetensors` with `<module>.lora_a` (in, rank) and `.lora_b` (rank, out), and a config of its own.

One rank and one scale hold for the whole adapter, and the scale is the last multiplier: there is no alpha / rank (mlx-lm 0.32,
`tuner/lora.py`). So an adapter whose modules differ is written with zeros up to the largest rank, which changes nothing, and
with the odd scales multiplied into B, in float32. What they were stands in the config, and on the way back they return.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from adapterfit.conversion.formats import peft
from adapterfit.conversion.neutral import Layer, Neutral, Rest, most_common, refuse_layers, refuse_rest, uniform
from adapterfit.conversion.numbers import Tensor, cut, padded, undone
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Package, Wanted, WeightsFile
from adapterfit.errors import CannotConvert
from adapterfit.text import quote, shorten, show

NAME = "mlx-lm's format"
CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
#: Entry of the config, which mlx-lm ignores: what the numbers were before they were made uniform.
RECORD = "peft"
_LAYER = re.compile(r"(?:.+\.)?layers\.([0-9]+)\.(.+)")
_LEAF = re.compile(r"(?P<module>.+)\.(?:(?P<a>lora_a)|(?P<b>lora_b)|(?P<magnitude>m))")
#: Model types whose modules have the same names in mlx-lm as in transformers (tests/oracles/test_mlx.py builds both).
SAME_NAMES = frozenset(
    ("gemma", "gemma2", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "stablelm", "starcoder2")
)
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embedding")
#: mlx-lm 0.32, `tuner/dora.py`: the norm of every row; peft 0.21.2, `tuners/lora/dora.py`: of every column.
_OTHER_DORA = "mlx-lm's DoRA on an embedding is another one than PEFT's: it has a number for each token"
_DTYPES = ("F32", "F16", "BF16")


def claims(opened: Opened) -> bool:
    """Whether the config or the names are mlx-lm's."""
    return opened.adapter.layout == "mlx"


# --------------------------------------------------------------------------------------------------- from mlx-lm


def read(opened: Opened) -> Neutral:
    """An adapter of mlx-lm's → the neutral form.

    Raises:
        CannotConvert: There is no config, or the tensors are not what it says.
    """
    config: Mapping[str, Any] = opened.adapter.config.raw if opened.adapter.config is not None else {}
    rank, scale = _parameters(config)
    found: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    for name, tensor in opened.tensors().items():
        match = _LEAF.fullmatch(name)
        if match is None or len(tensor.shape) > 2:
            others.append(name)
        else:
            role = next(key for key in ("a", "b", "magnitude") if match[key])
            found.setdefault(match["module"], {})[role] = tensor
    record = _record_of(config, rank, scale)
    _check_kind(found, dora=config.get("fine_tune_type") == "dora")
    plain = tuple(_layer(module, pair, rank, scale, opened) for module, pair in found.items())
    layers = uniform(tuple(_restored(layer, record, scale) for layer in plain), plain)
    rest = (Rest("tensors that are no pair, or of stacked experts", tuple(others)),) if others else ()
    carried = {key: record[key] for key in peft.CARRIED if isinstance(record.get(key), (str, bool))}
    return Neutral(layers, carried, rest)


def _check_kind(found: Mapping[str, Mapping[str, Tensor]], *, dora: bool) -> None:
    """As mlx-lm loads it: it takes the base's own norms where DoRA's are missing, and passes over those of a plain LoRA.

    Raises:
        CannotConvert: The config and the tensors do not say the same.
    """
    odd = tuple(module for module, pair in found.items() if ("magnitude" in pair) != dora)
    if odd:
        what = "dora, and they have no m" if dora else "no dora, and they have an m"
        raise CannotConvert(f"fine_tune_type is {what} ({shorten(map(quote, odd))})", odd)


def _parameters(config: Mapping[str, Any]) -> tuple[int, float]:
    """Rank and scale.

    Raises:
        CannotConvert: The config does not say them, or is of a full fine-tuning.
    """
    if config.get("fine_tune_type", "lora") not in ("lora", "dora"):
        raise CannotConvert(f"fine_tune_type is {quote(config['fine_tune_type'])}: no adapter", ("fine_tune_type",))
    given = config.get("lora_parameters")
    rank, scale = (given.get("rank"), given.get("scale")) if isinstance(given, Mapping) else (None, None)
    number = isinstance(scale, (int, float)) and not isinstance(scale, bool) and math.isfinite(scale)
    if not isinstance(rank, int) or isinstance(rank, bool) or not number:
        raise CannotConvert(f"{CONFIG} names no rank and scale under lora_parameters: they are not guessed", (CONFIG,))
    return rank, float(scale or 0.0)


def _layer(module: str, pair: Mapping[str, Tensor], rank: int, scale: float, opened: Opened) -> Layer:
    if "a" not in pair or "b" not in pair:
        raise CannotConvert(f"{quote(module)} has no {'lora_a' if 'a' not in pair else 'lora_b'}", (module,))
    a, b = pair["a"].transposed(), pair["b"].transposed()
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise CannotConvert(f"{quote(module)} has not the rank {rank} of {CONFIG}: mlx-lm would not load it", (module,))
    kind = "embedding" if _is_embedding(module, opened) else "linear"
    if kind == "embedding" and "magnitude" in pair:
        raise CannotConvert(f"{quote(module)}: {_OTHER_DORA}", (module,))
    return Layer(module, kind, a, b, scale * rank, magnitude=pair.get("magnitude"))


def _is_embedding(module: str, opened: Opened) -> bool:
    tree = opened.tree()
    kinds = {each.name: each.kind for each in tree.modules} if tree is not None else {}
    return kinds[module] == "Embedding" if module in kinds else module.rpartition(".")[2] in _EMBEDDINGS


def _record_of(config: Mapping[str, Any], rank: int, scale: float) -> Mapping[str, Any]:
    """The record, where it is of the rank and scale that the config has now; they are there to be changed."""
    record = config.get(RECORD)
    if not isinstance(record, Mapping) or (record.get("rank"), record.get("scale")) != (rank, scale):
        return {}
    return record


def _restored(layer: Layer, record: Mapping[str, Any], scale: float) -> Layer:
    """The layer as it was before it was made uniform, where that gives exactly the numbers that are there; else as it is."""
    entries = record.get("modules")
    given = entries.get(layer.module) if isinstance(entries, Mapping) else None
    entry = given if isinstance(given, Mapping) else {"r": layer.rank, "dtype": layer.b.dtype, **record}
    rank, alpha, dtype = entry.get("r"), entry.get("lora_alpha"), entry.get("dtype")
    rslora = record.get("use_rslora") is True
    if (
        not isinstance(rank, int)
        or not 0 < rank <= layer.rank
        or dtype not in _DTYPES
        or not isinstance(alpha, (int, float))
    ):
        return layer
    if rank < layer.rank and (layer.a.load()[rank:].any() or layer.b.load()[:, rank:].any()):
        return layer
    a, b = cut(layer.a, 0, 0, rank), cut(layer.b, 1, 0, rank)
    factor = alpha / (math.sqrt(rank) if rslora else rank) / scale if scale else math.inf
    if not math.isfinite(factor) or factor == 0:
        return layer
    if given is None:
        return replace(layer, alpha=float(alpha), rslora=rslora) if math.isclose(factor, 1.0, rel_tol=1e-12) else layer
    before = b if factor == 1 and dtype == b.dtype else undone(b, factor, str(dtype))
    return layer if before is None else replace(layer, a=a, b=before, alpha=float(alpha), rslora=rslora)


# --------------------------------------------------------------------------------------------------- to mlx-lm


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → a folder of mlx-lm's.

    Raises:
        CannotConvert: It holds something mlx-lm's format cannot express.
    """
    refuse_rest(neutral, NAME)
    layers = neutral.layers
    refuse_layers((layer for layer in layers if layer.kind == "conv"), NAME, "convolutions")
    refuse_layers((layer for layer in layers if layer.bias is not None), NAME, "lora_bias")
    rows = (layer for layer in layers if layer.kind == "embedding" and layer.magnitude is not None)
    refuse_layers(rows, NAME, f"PEFT's DoRA on an embedding: {_OTHER_DORA}")
    refuse_layers((layer for layer in layers if layer.b.dtype not in _DTYPES), NAME, "numbers of this type")
    # mlx-lm applies an embedding's adapter to the output layer as well where the two are tied; PEFT does not.
    tied = wanted.opened.tied()
    refuse_layers(
        (layer for layer in layers if layer.module in tied), NAME, "LoRA on an embedding that is tied to the output"
    )
    dora = peft.same(list(layers), "DoRA", [layer.magnitude is not None for layer in layers])
    rank, scale = max(layer.rank for layer in layers), most_common(layer.scale for layer in layers)
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        tensors[f"{layer.module}.lora_a"] = padded(layer.a, 0, rank).transposed()
        tensors[f"{layer.module}.lora_b"] = padded(_folded(layer, scale), 1, rank).transposed()
        if layer.magnitude is not None:
            tensors[f"{layer.module}.m"] = layer.magnitude
    config = {
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": _depth(wanted),
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0, "keys": _keys(layers)},
        RECORD: _record(neutral, rank, scale),
    }
    notes = (*neutral.notes, *_notes(layers, scale), *_names(wanted), *_ends(layers, wanted))
    text = json.dumps(config, indent=2, sort_keys=True).encode()
    return Package({CONFIG: text}, (WeightsFile(WEIGHTS, tensors, {"format": "mlx"}),), notes)


def _folded(layer: Layer, scale: float) -> Tensor:
    factor = layer.scale / scale
    return layer.b if factor == 1 else layer.b.times(factor, "F32")


def _record(neutral: Neutral, rank: int, scale: float) -> dict[str, Any]:
    layers = neutral.layers
    uniform = [layer for layer in layers if layer.scale == scale and layer.rank == rank]
    odd = [layer for layer in layers if layer.scale != scale or layer.rank != rank]
    return {
        **neutral.config,
        "rank": rank,
        "scale": scale,
        "use_rslora": peft.same(list(layers), "rsLoRA", [layer.rslora for layer in layers]),
        "lora_alpha": uniform[0].alpha if uniform else None,
        "modules": {each.module: {"r": each.rank, "lora_alpha": each.alpha, "dtype": each.b.dtype} for each in odd},
    }


def _keys(layers: tuple[Layer, ...]) -> list[str]:
    """Paths below a layer, for every layer; whole paths of what lies outside of the layers."""
    inside = (_LAYER.fullmatch(layer.module) for layer in layers)
    return sorted({match[2] if match else layer.module for match, layer in zip(inside, layers)})


def _depth(wanted: Wanted) -> int:
    """Layers counted from the last that mlx-lm wraps: all of them."""
    config = wanted.opened.base.config if wanted.opened.base is not None else None
    depth = (config or {}).get("num_hidden_layers")
    return depth if isinstance(depth, int) and depth > 0 else -1


def _notes(layers: tuple[Layer, ...], scale: float) -> Iterator[str]:
    odd = [layer for layer in layers if layer.scale != scale]
    if odd:
        exact = all(math.frexp(layer.scale / scale)[0] == 0.5 for layer in odd)
        how = "powers of two, so exactly" if exact else "with a relative error of at most 6e-8 per number"
        yield f"{len(odd):,} modules have another scale than {scale:g}: it is multiplied into their B, in float32, {how}."


def _ends(layers: tuple[Layer, ...], wanted: Wanted) -> Iterator[str]:
    ends = [each.module for each in layers if each.kind == "embedding" or each.module.rpartition(".")[2] == "lm_head"]
    if ends and not wanted.opened.ties_known():
        yield (
            f"Not checked: whether the base ties its embedding to its output ({shorten(map(quote, ends))}); mlx-lm would then apply "
            "an adapter of the one to both, and none of the other. --base tells."
        )


def _names(wanted: Wanted) -> Iterator[str]:
    base = wanted.opened.base
    kind = base.model_type if base is not None else ""
    if kind not in SAME_NAMES:
        what = f"model type {show(kind)}" if kind else "this base, which is not at hand (--base)"
        yield f"Not checked: whether mlx-lm's modules of {what} have the same names as in transformers."
