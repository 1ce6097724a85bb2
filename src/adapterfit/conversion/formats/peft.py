"""PEFT's own layout: `adapter_model.safetensors` with `base_model.model.<module>.lora_A.weight`, and `adapter_config.json`.

Rank and alpha of a module: `rank_pattern` and `alpha_pattern` by PEFT's own matching, else `r` and `lora_alpha`; the scale
is alpha / rank, with `use_rslora` alpha / √rank (peft 0.21.2, `tuners/lora/layer.py`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.conversion.methods import METHODS, of_another_method
from adapterfit.conversion.neutral import Layer, Neutral, Rest, most_common, parts, refuse_rest
from adapterfit.conversion.numbers import Tensor
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Package, Wanted, WeightsFile
from adapterfit.conversion.parameters import as_layer, check_all_used, is_layer, of_parameters
from adapterfit.conversion.pattern_tables import tables_for
from adapterfit.conversion.peft_rules import as_loaded, lost_biases, of_training, readable_config, resolved
from adapterfit.errors import CannotConvert
from adapterfit.read import peft_facts
from adapterfit.records import AdapterConfig
from adapterfit.text import quote, shorten

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_PAIR = re.compile(
    r"(?P<module>.+)\.(?:(?P<a>lora_A\.weight|lora_embedding_A)|(?P<b>lora_B\.weight|lora_embedding_B)|(?P<bias>lora_B\.bias)"
    r"|(?P<magnitude>lora_magnitude_vector(?:\.weight)?))"
)
#: Starting values of A and B that leave the base as it is, so that the numbers in the file are the whole adapter.
_PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal")
#: Config fields under which a pair of A and B means something else than ΔW = scale · B A.
_MEANING = ("layer_replication", "use_bdlora", "use_qalora", "kasa_config", "arrow_config", "alora_invocation_tokens",
            "megatron_config", "trainable_token_indices")  # fmt: skip
#: Fields that are carried over: they say nothing about the numbers, and PEFT imports nothing by them.
CARRIED = ("base_model_name_or_path", "revision", "task_type", "fan_in_fan_out")


#: Kinds of `Rest` that a merged model can take over.
SAVED, BIASES = "modules_to_save", "trained biases (bias)"


def claims(opened: Opened) -> bool:
    """Whether there is a PEFT config with weights."""
    return opened.adapter.layout == "peft" and opened.adapter.config is not None


# --------------------------------------------------------------------------------------------------- from PEFT


def read(opened: Opened) -> Neutral:
    """A LoRA adapter in PEFT's layout → the neutral form.

    Raises:
        CannotConvert: It is none, it is damaged, or PEFT itself would not load it whole.
    """
    config = readable_config(opened)
    if tables_for(config, opened, peft_facts.newest()):
        raise CannotConvert(
            f"the release that wrote this (PEFT {config.oldest} to {config.newest}) read rank_pattern and alpha_pattern otherwise than "
            "today's: convert it --to peft first",
            ("rank_pattern", "alpha_pattern"),
        )
    if config.peft_type in METHODS:
        return of_another_method(opened, config)
    if config.peft_type != "LORA":
        raise CannotConvert(
            f"this is a {quote(config.peft_type)} adapter: LoRA has other layouts, LoHa, LoKr and IA3 can be merged, "
            "and of no other method is the change computed here",
            ("peft_type",),
        )
    found: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    parameters = bool(config.values.get("target_parameters"))
    for name, tensor in opened.tensors().items():
        match = _PAIR.fullmatch(name[len(PREFIX) :]) if name.startswith(PREFIX) else None
        if match is None or (".base_layer." in name and not (parameters and (match["a"] or match["b"]))):
            others.append(name)
        else:
            role = next(key for key in ("a", "b", "bias", "magnitude") if match[key])
            found.setdefault(match["module"], {})[role] = tensor
            if match[role].startswith("lora_embedding"):
                found[match["module"]]["embedding"] = tensor
    others = _needless(opened, config, others)
    fused = of_parameters(opened, config, found) if parameters else {}
    check_all_used(found, fused)
    found = {path: pair for path, pair in found.items() if path not in fused}
    as_loaded(config, found)
    fields = (*meaning(config),)
    if config.values.get("use_bdlora"):  # its factors have other shapes
        refuse_rest(Neutral((), rest=fields), "this conversion")
    layers = [_layer(module, pair, config) for module, pair in found.items()]
    check_configured(layers, config)
    layers += [as_layer(one) for one in fused.values() if is_layer(one)]
    carried = {key: config.raw[key] for key in CARRIED if config.raw.get(key) is not None}
    rest = (*fields, *_rest(opened, others, config))
    notes = tuple(lost_biases(config, opened))
    return Neutral(tuple(layers), carried, rest, notes, parameters=tuple(p for p in fused.values() if not is_layer(p)))


def _layer(module: str, pair: Mapping[str, Tensor], config: AdapterConfig) -> Layer:
    missing = [name for name, role in (("lora_A", "a"), ("lora_B", "b")) if role not in pair]
    if missing:
        raise CannotConvert(f"{quote(module)} has no {missing[0]}: its pair is incomplete", (module,))
    a, b = pair["a"], pair["b"]
    kind = "embedding" if "embedding" in pair else "conv" if len(a.shape) > 2 else "linear"
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise CannotConvert(f"{quote(module)} has a factor without two dimensions, as ZeRO-3 leaves them", (module,))
    rank = resolved(config.values, module, "rank_pattern", "r")
    if a.shape[0] != rank or (kind != "conv" and b.shape[1] != rank):
        raise CannotConvert(
            f"{quote(module)} has rank {a.shape[0]}, its config says {rank}: PEFT would not load it", (module,)
        )
    alpha = resolved(config.values, module, "alpha_pattern", "lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise CannotConvert(f"the alpha of {quote(module)} is no number", (module,))
    rslora = bool(config.values.get("use_rslora"))
    return Layer(module, kind, a, b, float(alpha), rslora, pair.get("magnitude"), pair.get("bias"))


def check_configured(layers: list[Layer], config: AdapterConfig) -> None:
    """Refuse vectors that the config does not ask for, which PEFT passes over, and DoRA without its own, for which it takes the base's norms.

    Raises:
        CannotConvert: There are any.
    """
    dora = bool(config.values.get("use_dora"))
    if layers:
        same(layers, "DoRA", [layer.magnitude is not None for layer in layers])
    odd = [layer.name for layer in layers if (layer.magnitude is not None) != dora]
    if odd:
        what = "is on, and they have no magnitude" if dora else "is off, and they have a magnitude"
        raise CannotConvert(
            f"use_dora {what} ({shorten(map(quote, odd))}): PEFT would not compute what they say", tuple(odd)
        )
    biased = [layer.name for layer in layers if layer.bias is not None and not config.values.get("lora_bias")]
    if biased:
        raise CannotConvert(
            f"lora_bias is off, and they have a bias ({shorten(map(quote, biased))}): PEFT would pass over it",
            tuple(biased),
        )


def meaning(config: AdapterConfig) -> Iterator[Rest]:
    """Fields that change what the numbers mean, each by its name."""
    values = config.values
    init = values.get("init_lora_weights", True)
    if not any(init is plain or (isinstance(plain, str) and init == plain) for plain in _PLAIN_INITS):
        yield Rest(
            f"init_lora_weights {quote(init)}, which changes the base (save it again with "
            "path_initial_model_for_weight_conversion first)",
            ("init_lora_weights",),
        )
    for field in _MEANING:
        if values.get(field) not in (None, False, [], {}):
            yield Rest(field, (field,))


def _needless(opened: Opened, config: AdapterConfig, names: list[str]) -> list[str]:
    """Without what PEFT does not apply, and the copies of the base's own embeddings that are bit-equal to the base at hand."""
    from adapterfit.conversion.base_weights import is_copy

    return [name for name in names if not (is_copy(opened, name) or _is_idle(name, config, names))]


def _is_idle(name: str, config: AdapterConfig, names: list[str]) -> bool:
    """Of a training, or one of the two further copies of a saved module's bias that `bias="all"` writes and no load looks for."""
    module, _, leaf = name.rpartition(".")
    copied, _, inner = module.rpartition(".")
    saved = any(copied.endswith(each) for each in config.values.get("modules_to_save") or ())
    again = inner in ("modules_to_save", "original_module") and saved and f"{copied}.{leaf}" in names
    return again or of_training(name, config.values)


def _rest(opened: Opened, names: list[str], config: AdapterConfig) -> Iterator[Rest]:
    """What is no pair of A and B, sorted by what it is. Of whole modules and biases the parameters are named as in the base."""
    saved = tuple(config.values.get("modules_to_save") or ())
    tensors = opened.tensors()
    sorted_out: dict[str, list[str]] = {}
    for name in names:
        sorted_out.setdefault(_kind_of_rest(name, saved), []).append(name)
    for what, listed in sorted_out.items():
        whole = {_parameter(name): tensors[name] for name in listed} if what in (SAVED, BIASES) else {}
        yield Rest(what, tuple(listed), whole)


def _kind_of_rest(name: str, saved: tuple[str, ...]) -> str:
    if not name.startswith(PREFIX):
        return "tensors that PEFT does not look for"
    if ".token_adapter." in name:
        return "trained tokens (trainable_token_indices)"
    if name.endswith(".base_layer.weight"):
        return "a copy of the base's embedding; with --base one that is equal to the base is left out"
    if any(name[: name.rfind(".")].endswith(module) for module in saved):
        return SAVED
    return BIASES if name.endswith(".bias") else "tensors that are no pair of A and B"


def _parameter(name: str) -> str:
    return name[len(PREFIX) :].replace(".base_layer.", ".")


# --------------------------------------------------------------------------------------------------- to PEFT


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → a folder in PEFT's layout; with several components one folder each."""
    refuse_rest(neutral, "this conversion to PEFT")
    components = parts(neutral)
    files: dict[str, bytes] = {}
    weights: list[WeightsFile] = []
    for part in components:
        layers = [layer for layer in neutral.layers if layer.part == part]
        folder = f"{part}/" if len(components) > 1 else ""
        files[folder + CONFIG] = config_bytes(peft_config(layers, neutral.config, wanted.version))
        weights.append(WeightsFile(folder + WEIGHTS, dict(_tensors(layers)), {"format": "pt"}))
    return Package(files, tuple(weights), neutral.notes)


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """As PEFT writes it: sorted keys, two spaces."""
    return json.dumps(dict(config), indent=2, sort_keys=True).encode()


def _tensors(layers: list[Layer]) -> Iterator[tuple[str, Tensor]]:
    for layer in sorted(layers, key=lambda layer: layer.module):
        module = PREFIX + layer.module
        embedding = layer.kind == "embedding"
        yield module + (".lora_embedding_A" if embedding else ".lora_A.weight"), layer.a
        yield module + (".lora_embedding_B" if embedding else ".lora_B.weight"), layer.b
        if layer.bias is not None:
            yield f"{module}.lora_B.bias", layer.bias
        if layer.magnitude is not None:
            yield f"{module}.lora_magnitude_vector", layer.magnitude


def peft_config(layers: list[Layer], carried: Mapping[str, Any], version: str = "") -> dict[str, Any]:
    """A LoraConfig under which PEFT gives every layer its rank and its alpha.

    Raises:
        CannotConvert: That release has no field for something of it, or layers differ in what holds for all.
    """
    rslora = same(layers, "rsLoRA", [layer.rslora for layer in layers])
    dora = same(layers, "DoRA", [layer.magnitude is not None for layer in layers])
    bias = same(layers, "lora_bias", [layer.bias is not None for layer in layers])
    rank = most_common(layer.rank for layer in layers)
    alpha = most_common(layer.alpha for layer in layers)
    needed = {
        "use_rslora": rslora,
        "use_dora": dora,
        "lora_bias": bias,
        "rank_pattern": {layer.module: layer.rank for layer in layers if layer.rank != rank},
        "alpha_pattern": {layer.module: _whole(layer.alpha) for layer in layers if layer.alpha != alpha},
    }
    known = _fields_of(version)
    lost = [field for field, value in needed.items() if value and field not in known]
    if lost:
        raise CannotConvert(f"PEFT {version} has no {', '.join(lost)}, which this adapter needs", tuple(lost))
    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": _whole(alpha), "bias": "none", "inference_mode": True,
        "target_modules": _targets(layers), "base_model_name_or_path": None, "task_type": None, **carried, **needed,
    }  # fmt: skip
    _resolves(config, layers)
    return {key: value for key, value in config.items() if key in known or key == "peft_type"}


def _whole(number: float) -> float:
    """An alpha that is a whole number is written as one: some readers take no other."""
    return int(number) if float(number).is_integer() else float(number)


def _fields_of(version: str) -> frozenset[str]:
    lora = peft_facts.method("LORA")
    if lora is None:
        raise AssertionError("the facts hold LORA")
    return lora.fields_of(version or peft_facts.newest())


def same(layers: list[Layer], what: str, values: list[bool]) -> bool:
    """The one value of all layers.

    Raises:
        CannotConvert: They differ.
    """
    if len(set(values)) > 1:
        names = tuple(layer.module for layer, value in zip(layers, values) if not value)
        raise CannotConvert(
            f"{what} holds for some modules only, which PEFT cannot express ({shorten(names)} lack it)", names
        )
    return values[0]


def _targets(layers: list[Layer]) -> list[str]:
    """Whole module paths: shorter names might hit modules of the base that the adapter does not touch."""
    return sorted(layer.module for layer in layers)


def _resolves(config: Mapping[str, Any], layers: list[Layer]) -> None:
    """Whether the patterns give every module its own numbers: a path may end as another one does."""
    for layer in layers:
        wrong = resolved(config, layer.module, "rank_pattern", "r") != layer.rank
        if wrong or resolved(config, layer.module, "alpha_pattern", "lora_alpha") != layer.alpha:
            raise CannotConvert(f"no rank_pattern tells {quote(layer.module)} from other modules", (layer.module,))
    doubled = [module for module, count in Counter(layer.module for layer in layers).items() if count > 1]
    if doubled:
        raise CannotConvert(f"two layers go to the same module ({shorten(doubled)})", tuple(doubled))
