"""llama.cpp: one GGUF file, `blk.0.attn_q.weight.lora_a` (rank, in) and `.lora_b` (out, rank), alpha as a key.

llama.cpp takes alpha / rank with one `adapter.lora.alpha` for all and the rank of each tensor (`llama-adapter.h`); it knows no
rsLoRA. So rsLoRA of one rank becomes another alpha; a module whose alpha is another one has the quotient multiplied into B, in
float32. The rows of q and k stand in another order for some architectures, as the converters of llama.cpp write the base; and
an embedding's A is transposed. What was there before stands in a key of ours, and on the way back it returns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from adapterfit.conversion.formats import peft
from adapterfit.conversion.gguf_file import GgufFile, is_gguf, read_gguf
from adapterfit.conversion.neutral import Layer, Neutral, Rest, most_common, refuse_layers, refuse_rest, uniform
from adapterfit.conversion.numbers import Tensor, stored, undone
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Package, Wanted
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.read import strictjson
from adapterfit.records import Shape
from adapterfit.text import quote, shorten

NAME = "llama.cpp's format"
FILE = "adapter.gguf"
#: Our own key; llama.cpp reads only those it knows.
RECORD = "adapterfit.peft"
#: Key of an activated LoRA (llama.cpp, `llama-adapter.cpp`).
_INVOKED = "adapter.alora.invocation_tokens"
_ALPHA = "adapter.lora.alpha"
_TABLE = Path(__file__).resolve().parents[1] / "gguf_names.json"
_DTYPES = ("F32", "F16", "BF16")


class _Heads(NamedTuple):
    """Attention heads of q, and of k."""

    q: int
    k: int


@lru_cache(maxsize=1)
def _types() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return loaded


def claims(opened: Opened) -> bool:
    """Whether the file is GGUF."""
    return is_gguf(opened.source, opened.weights.file)


# --------------------------------------------------------------------------------------------------- from llama.cpp


def read(opened: Opened) -> Neutral:
    """A GGUF adapter → the neutral form.

    Raises:
        CannotConvert: It is no LoRA, its architecture is not known here, or the number of heads is not.
    """
    contents = read_gguf(opened.source, opened.weights.file)
    if contents.keys.get("general.type") != "adapter" or contents.keys.get("adapter.type") != "lora":
        raise CannotConvert(f"{quote(opened.weights.file)} is a GGUF file, but no LoRA adapter", ("general.type",))
    if _INVOKED in contents.keys:
        raise CannotConvert("this is an aLoRA, which acts behind certain tokens only: not converted", (_INVOKED,))
    record = _record_of(contents.keys.get(RECORD))
    model_type = _type_of(opened, record, contents.keys.get("general.architecture"))
    table = {theirs: ours for ours, theirs in _types()[model_type]["modules"].items()}
    found: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    for info in contents.tensors:
        stem, _, role = info.name.rpartition(".")
        module = _renamed(stem[: -len(".weight")], table) if stem.endswith(".weight") else None
        if module is None or role not in ("lora_a", "lora_b"):
            others.append(info.name)
        else:
            found.setdefault(module, {})[role] = stored(opened.source, info)
    alpha = _alpha_of(contents.keys.get(_ALPHA, 0.0))
    heads = _heads_of(opened, record, model_type, found)
    plain = tuple(_layer(module, pair, alpha, heads) for module, pair in found.items())
    layers = uniform(tuple(_restored(layer, record) for layer in plain), plain)
    rest = (Rest("tensors that are no pair of a known module", tuple(others)),) if others else ()
    carried = {key: record[key] for key in peft.CARRIED if isinstance(record.get(key), (str, bool))}
    notes = () if alpha else ("The file has no alpha: the scale is 1, as llama.cpp takes it.",)
    return Neutral(layers, carried, rest, notes)


def _alpha_of(value: Any) -> float:
    """The alpha of all; 0 where there is none.

    Raises:
        CannotConvert: It is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CannotConvert(f"{_ALPHA} is no number: llama.cpp would not load it", (_ALPHA,))
    return float(value)


def _record_of(text: Any) -> Mapping[str, Any]:
    """What our own key says; nothing where it is not there or no table."""
    if not isinstance(text, str):
        return {}
    try:
        table = strictjson.loads(text.encode(), what=RECORD, code="malformed")
    except BadInput:
        return {}
    return table if isinstance(table, dict) else {}


def _type_of(opened: Opened, record: Mapping[str, Any], architecture: Any) -> str:
    """The model type whose modules are meant: the base's, the record's, or the one of that architecture."""
    said = opened.base.model_type if opened.base is not None else record.get("model_type")
    fitting = [each for each, entry in _types().items() if entry["arch"] == architecture]
    if said in fitting:
        return str(said)
    if opened.base is not None or not fitting:
        whose = f"the base is {quote(said)}" if opened.base is not None else "its modules are not known here"
        raise CannotConvert(
            f"this adapter is of architecture {quote(architecture)}; {whose}", ("general.architecture",)
        )
    return fitting[0]  # types of one architecture have the same modules: tests/stages/test_convert_gguf.py


def _renamed(name: str, table: Mapping[str, str]) -> str | None:
    """The other program's name of a module, by a table with `#` for the layer's number."""
    parts = name.split(".")
    at = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    if at is None:
        return table.get(name)
    number = parts[at]
    other = table.get(".".join([*parts[:at], "#", *parts[at + 1 :]]))
    return other.replace("#", number) if other is not None else None


def _layer(module: str, pair: Mapping[str, Tensor], alpha: float, heads: _Heads | None) -> Layer:
    if "lora_a" not in pair or "lora_b" not in pair:
        raise CannotConvert(f"{quote(module)} has no {'lora_a' if 'lora_a' not in pair else 'lora_b'}", (module,))
    a, b = pair["lora_a"], pair["lora_b"]
    embedding = module.endswith("embed_tokens")
    a = a.transposed() if embedding else a
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
        raise CannotConvert(f"{quote(module)} has factors of shapes {a.shape} and {b.shape}", (module,))
    rank = a.shape[0]
    scale_of = alpha or float(rank)
    return Layer(module, "embedding" if embedding else "linear", a, _ordered(module, b, heads, back=True), scale_of)


def _restored(layer: Layer, record: Mapping[str, Any]) -> Layer:
    """The layer as it was before its alpha was multiplied in, where that gives exactly the numbers that are there."""
    entries = record.get("modules")
    given = entries.get(layer.module) if isinstance(entries, Mapping) else None
    entry = given if isinstance(given, Mapping) else {"dtype": layer.b.dtype, **record}
    alpha, dtype, rslora = entry.get("lora_alpha"), entry.get("dtype"), record.get("use_rslora") is True
    if not isinstance(alpha, (int, float)) or dtype not in _DTYPES:
        return layer
    before = replace(layer, alpha=float(alpha), rslora=rslora)
    if given is None:
        return before if math.isclose(before.scale, layer.scale, rel_tol=1e-7) else layer
    found = undone(layer.b, before.plain_alpha / layer.alpha, str(dtype))
    return layer if found is None else replace(before, b=found)


# --------------------------------------------------------------------------------------------------- the order of rows


def _ordered(module: str, b: Tensor, heads: _Heads | None, *, back: bool = False) -> Tensor:
    """B with its rows as llama.cpp wants them for rotary embeddings, where the architecture asks for it.

    A head's rows are two halves for transformers and pairs for llama.cpp (`LlamaModel.permute` of its converters).
    """
    leaf = module.rpartition(".")[2]
    if heads is None or leaf not in ("q_proj", "k_proj"):
        return b
    count = heads.q if leaf == "q_proj" else heads.k
    rows, rank = b.shape
    if rows % (2 * count):
        raise CannotConvert(f"{quote(module)} has {rows} rows, which are not {count} heads", (module,))
    half = rows // count // 2
    shape: Shape = (count, half, 2, rank) if back else (count, 2, half, rank)
    return b.changed(lambda array: array.reshape(shape).swapaxes(1, 2).reshape(rows, rank), b.shape)


def _heads_of(opened: Opened, record: Mapping[str, Any], model_type: str, modules: Mapping[str, Any]) -> _Heads | None:
    """The numbers of heads, where the order of rows depends on them.

    Raises:
        CannotConvert: Nothing says them.
    """
    concerned = [module for module in modules if module.endswith((".q_proj", ".k_proj"))]
    if not _types()[model_type]["reordered"] or not concerned:
        return None
    config = opened.base.config if opened.base is not None else record.get("heads")
    heads = _count(config, "num_attention_heads")
    of_k = _heads_of_k(opened, heads) if opened.base is not None else _count(config, "num_key_value_heads")
    if not heads or not of_k:
        raise CannotConvert(
            f"llama.cpp orders the rows of {shorten(concerned)} by attention heads, and nothing says how many there are: "
            "give the model with --base",
            tuple(concerned),
        )
    return _Heads(heads, of_k)


def _count(config: Any, field: str) -> int:
    """A number of heads; 0 where none is there."""
    value = config.get(field) if isinstance(config, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _heads_of_k(opened: Opened, heads: int) -> int:
    """Of the base, whose config may leave out what is its class's default: k has as many rows per head as q."""
    tree = opened.tree()
    rows = {each.name: each.params["weight"][0] for each in tree.modules if "weight" in each.params} if tree else {}
    pairs = (
        (count, rows.get(name[: -len("q_proj")] + "k_proj")) for name, count in rows.items() if name.endswith(".q_proj")
    )
    of_q, of_k = next(((q, k) for q, k in pairs if k), (0, 0))
    per_head = of_q // heads if heads else 0
    return of_k // per_head if per_head and of_k % per_head == 0 else 0


# --------------------------------------------------------------------------------------------------- to llama.cpp


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → a GGUF file.

    Raises:
        CannotConvert: It holds something GGUF adapters cannot express, or the base is not known well enough.
    """
    refuse_rest(neutral, NAME)
    layers = neutral.layers
    refuse_layers((layer for layer in layers if layer.kind == "conv"), NAME, "convolutions")
    refuse_layers((layer for layer in layers if layer.magnitude is not None), NAME, "DoRA")
    refuse_layers((layer for layer in layers if layer.bias is not None), NAME, "lora_bias")
    # A base that ties the two has one tensor for both in llama.cpp, and an adapter would act on both.
    tied = wanted.opened.tied()
    refuse_layers(
        (layer for layer in layers if layer.module in tied), NAME, "LoRA on an embedding that is tied to the output"
    )
    model_type = _base_type(wanted.opened)
    entry = _types()[model_type]
    names = {layer.module: _renamed(layer.module, entry["modules"]) for layer in layers}
    unknown = [layer for layer in layers if names[layer.module] is None]
    refuse_layers(unknown, NAME, f"these modules of a {model_type} model")
    heads = _heads_of(wanted.opened, {}, model_type, names)
    alpha = most_common(_single(layer.plain_alpha) for layer in layers)
    tensors: dict[str, Tensor] = {}
    for layer in sorted(layers, key=lambda layer: layer.module):
        tensors[f"{names[layer.module]}.weight.lora_a"] = layer.a.transposed() if layer.kind == "embedding" else layer.a
        tensors[f"{names[layer.module]}.weight.lora_b"] = _ordered(layer.module, _folded(layer, alpha), heads)
    keys = {
        "general.architecture": entry["arch"],
        "general.type": "adapter",
        "adapter.type": "lora",
        _ALPHA: alpha,
        RECORD: json.dumps(_record(neutral, alpha, model_type, heads), sort_keys=True),
    }
    notes = (*neutral.notes, *_notes(layers, alpha))
    return Package({}, (GgufFile(FILE, keys, tensors),), notes)


def _base_type(opened: Opened) -> str:
    model_type = opened.base.model_type if opened.base is not None else ""
    if not model_type:
        raise CannotConvert("llama.cpp's names depend on the model: give it with --base", ("--base",))
    if model_type not in _types():
        listed = ", ".join(_types())
        raise CannotConvert(
            f"llama.cpp's names of model type {quote(model_type)} are not known here; known: {listed}", (model_type,)
        )
    return model_type


def _folded(layer: Layer, alpha: float) -> Tensor:
    return layer.b if _single(layer.plain_alpha) == alpha else layer.b.times(layer.plain_alpha / alpha, "F32")


def _single(number: float) -> float:
    """Rounded to float32, as the key holds it."""
    import struct

    value: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return value


def _record(neutral: Neutral, alpha: float, model_type: str, heads: _Heads | None) -> dict[str, Any]:
    layers = neutral.layers
    usual = [layer for layer in layers if _single(layer.plain_alpha) == alpha]
    odd = [layer for layer in layers if _single(layer.plain_alpha) != alpha]
    counted = {"num_attention_heads": heads.q, "num_key_value_heads": heads.k} if heads is not None else None
    return {
        **neutral.config,
        "model_type": model_type,
        "heads": counted,
        "use_rslora": peft.same(list(layers), "rsLoRA", [layer.rslora for layer in layers]),
        "lora_alpha": most_common(layer.alpha for layer in usual),
        "modules": {layer.module: {"lora_alpha": layer.alpha, "dtype": layer.b.dtype} for layer in odd},
    }


def _notes(layers: tuple[Layer, ...], alpha: float) -> Iterator[str]:
    odd = [layer for layer in layers if _single(layer.plain_alpha) != alpha]
    if odd:
        exact = all(math.frexp(layer.plain_alpha / alpha)[0] == 0.5 for layer in odd)
        how = "powers of two, so exactly" if exact else "with a relative error of at most 6e-8 per number"
        yield f"{len(odd):,} modules have another alpha than {alpha:g}: it is multiplied into their B, in float32, {how}."
