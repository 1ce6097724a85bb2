"""An adapter as an engine's loader sees it: pairs of matrices, what is left over, and what is special about it.

The words of `features`, which the facts of engines use:

========================  ==========================================================================================
`rslora`                  `use_rslora` is set
`rank-pattern`            some module has another rank than `r`
`alpha-pattern`           some module has another alpha than `lora_alpha`
`dora`                    `use_dora` is set, or there are magnitude vectors
`bias`                    `bias` is not `none`
`lora-bias`               `lora_bias` is set, or there are biases of lora_B
`saved-modules`           `modules_to_save` is set
`whole-weights`           whole weights lie in the file that `modules_to_save` does not name: resized embeddings
`saved-vocabulary`        whole weights that are embeddings or output layers
`trainable-tokens`        rows of an embedding were trained by themselves
`init-changes-base`       an initialisation that takes something out of the base (PiSSA, OLoRA, CorDA, LoftQ)
`embedding`, `lm-head`    a LoRA on the embeddings, on the output layer
`fused-experts`           `target_parameters`: one pair for all experts of a layer
`per-expert`              a pair for every expert
`layer-subset`            some kind of module has no pair in some layer
`adapter-name-in-keys`    `.lora_A.default.weight`
`other-prefix`            keys that do not start with `base_model.model.`
`wrapper-in-keys`         keys with `_orig_mod.`, `module.` or `_fsdp_wrapped_module.`
`half-pairs`              an A without its B, or the other way round
`torn-pairs`              an A and a B of different ranks
`not-lora`                another method than LoRA
`unpaired`                tensors that are none of these
`vision`                  pairs on a vision or audio tower, or on what connects it
`base-copies`             copies of the base's embeddings that PEFT stores beside a LoRA on them
`added-tokens`            an `added_tokens.json` lies in the folder
`mixed-ranks`             pairs of different ranks
`rank-differs`            tensors of another rank than the config says
========================  ==========================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapterfit.answers import Pair, Place, Scaling, Sight
from adapterfit.records import Case, Module, ModuleTree, TensorInfo

_PREFIX = "base_model.model."
_HALF = re.compile(
    r"(?P<module>.+)\.lora_(?P<half>A|B|embedding_A|embedding_B)(?:\.(?P<adapter>(?!weight$)[^.]+))?(?P<weight>\.weight)?"
)
_MAGNITUDE = re.compile(r".+\.lora_magnitude_vector(\.[^.]+)*")
_LORA_BIAS = re.compile(r".+\.lora_B(\.[^.]+)?\.bias")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
#: Heads that PEFT saves for these tasks, whether the config names them or not.
_HEADS = ("classifier", "score")
_CLASSIFIERS = ("SEQ_CLS", "TOKEN_CLS")
_WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.")
#: `init_lora_weights` that change the base's own weight while the adapter is created (PEFT, `tuners/lora/layer.py`).
_TAKES_FROM_BASE = ("pissa", "olora", "corda", "loftq")
#: Parts of paths that lead to a tower beside the language model, or to what connects it.
_TOWERS = frozenset(
    ("visual", "vision_tower", "vision_model", "vision_encoder", "vision_embed_tokens", "multi_modal_projector", "connector",
     "audio_tower", "audio_encoder", "image_encoder", "embed_vision", "embed_audio", "merger")
)  # fmt: skip
_VOCABULARY = ("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out", "tok_embeddings")


def look(case: Case, tree: ModuleTree | None, scalings: Mapping[str, Scaling], dialect: str) -> Sight:
    """The adapter of a case as an engine sees it.

    Args:
        case: What was read.
        tree: The base's modules, where there is one.
        scalings: What PEFT would apply, by module.
        dialect: Whose names the tensors have: `peft`, `kohya` …; empty where nobody claims them.
    """
    adapter, base = case.adapter, case.base
    config: Mapping[str, Any] = adapter.config.values if adapter.config is not None else {}
    pairs, others = sort_tensors(adapter.tensors, config)
    places = {module.name: _place(module) for module in tree.modules} if tree is not None else None
    numbers = {found for name in places or () for found in [_number(_LAYER, name)] if found is not None}
    return Sight(
        label=adapter.label,
        layout=adapter.layout,
        dialect=dialect,
        method=adapter.config.peft_type if adapter.config is not None else "",
        config=config,
        raw=dict(adapter.config.raw) if adapter.config is not None else {},
        pairs=pairs,
        others=others,
        features=_features(config, pairs, others, adapter.files, scalings),
        files=tuple(entry.name for entry in adapter.files),
        weights_file=adapter.weights.file if adapter.weights is not None else "",
        weights_size=adapter.weights.size if adapter.weights is not None else 0,
        scalings=scalings,
        places=places,
        guessed=tree is not None and (tree.known == "headers" or bool(tree.doubts)),
        base=base.label if base is not None else "",
        architecture=(tree.class_name if tree is not None else "") or (base.architecture if base is not None else ""),
        model_type=base.model_type if base is not None else "",
        base_config=dict(base.config or {}) if base is not None else {},
        layers=max(numbers) + 1 if numbers else None,
        tokenizer=adapter.tokenizer,
        metadata=adapter.weights.metadata if adapter.weights is not None else {},
    )


def sort_tensors(
    tensors: Iterable[TensorInfo], config: Mapping[str, Any]
) -> tuple[tuple[Pair, ...], tuple[TensorInfo, ...]]:
    """The pairs, in the order of the file, and the tensors that belong to none."""
    groups: dict[tuple[str, str, str], dict[str, TensorInfo]] = {}
    others = []
    for tensor in tensors:
        prefix = _PREFIX if tensor.name.startswith(_PREFIX) else ""
        match = _HALF.fullmatch(tensor.name[len(prefix) :])
        embedding = match is not None and match["half"].startswith("embedding")
        if match is None or (not embedding and match["weight"] is None):
            others.append(tensor)
        else:
            groups.setdefault((prefix, match["module"], match["adapter"] or ""), {})[match["half"]] = tensor
    parameters = bool(config.get("target_parameters"))
    pairs = [_pair(*key, halves, parameters=parameters) for key, halves in groups.items()]
    return tuple(pairs), tuple(others)


def _pair(prefix: str, module: str, adapter: str, halves: Mapping[str, TensorInfo], *, parameters: bool) -> Pair:
    a, b = (halves.get(f"embedding_{side}") or halves.get(side) for side in "AB")
    embedding = "embedding_A" in halves or "embedding_B" in halves
    fused = parameters and (module.endswith((".experts", ".experts.base_layer")))
    rank = a.shape[0] if a is not None and a.shape else b.shape[1] if b is not None and len(b.shape) > 1 else None
    return Pair(
        module=module,
        tensors=tuple(tensor for tensor in (a, b) if tensor is not None),
        prefix=prefix,
        adapter=adapter,
        kind="embedding" if embedding else "experts" if fused else "linear",
        layer=_number(_LAYER, module),
        expert=_number(_EXPERT, module),
        rank=rank,
        width=a.shape[1] if a is not None and len(a.shape) > 1 else None,
        height=b.shape[0] if b is not None and b.shape else None,
        halves=len(halves),
    )


def _number(pattern: re.Pattern[str], name: str) -> int | None:
    found = pattern.search(name)
    return int(found.group(1)) if found is not None and len(found.group(1)) < 10 else None


def _place(module: Module) -> Place:
    weight = module.params.get("weight", ())
    if len(weight) < 2:
        return Place(module.kind)
    flat = module.kind in ("Conv1D", "Embedding")
    return Place(module.kind, *((weight[0], weight[1]) if flat else (weight[1], weight[0])))


# ------------------------------------------------------------------------------------------------ features


def _features(
    config: Mapping[str, Any],
    pairs: tuple[Pair, ...],
    others: tuple[TensorInfo, ...],
    files: Iterable[Any],
    scalings: Mapping[str, Scaling],
) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    found.update(_of_config(config, pairs, scalings))
    found.update(_of_others(config, others))
    found.update(_of_pairs(pairs))
    if any(entry.name == "added_tokens.json" for entry in files):
        found["added-tokens"] = ()
    return found


def _of_config(
    config: Mapping[str, Any], pairs: tuple[Pair, ...], scalings: Mapping[str, Scaling]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    if config.get("peft_type") != "LORA":
        yield "not-lora", ()
    if config.get("use_rslora"):
        yield "rslora", ()
    known = [(pair, scalings[pair.module]) for pair in pairs if pair.module in scalings]
    tables = (("rank-pattern", "rank", config.get("r")), ("alpha-pattern", "alpha", config.get("lora_alpha")))
    for word, attribute, usual in tables:
        unlike = [pair for pair, scaling in known if getattr(scaling, attribute) != usual]
        if unlike:
            yield word, _names(unlike)
    odd = [pair for pair, scaling in known if pair.kind != "experts" and pair.rank not in (scaling.rank, None)]
    if odd:
        yield "rank-differs", _names(odd)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_TAKES_FROM_BASE):
        yield "init-changes-base", ()


def _of_others(config: Mapping[str, Any], others: Iterable[TensorInfo]) -> dict[str, tuple[str, ...]]:
    """Each tensor that is no half of a pair, under one word; and what the config says without a tensor."""
    found: dict[str, list[str]] = {}
    for tensor in others:
        found.setdefault(_role(tensor.name, config), []).append(tensor.name)
    for word, field in (("dora", "use_dora"), ("lora-bias", "lora_bias"), ("saved-modules", "modules_to_save")):
        if config.get(field):
            found.setdefault(word, [])
    if config.get("trainable_token_indices"):
        found.setdefault("trainable-tokens", [])
    if config.get("bias") not in (None, "none"):
        found.setdefault("bias", [])
    whole = (*found.get("saved-modules", ()), *found.get("whole-weights", ()))
    saved = [name for name in whole if any(f".{word}." in f".{name}" for word in _VOCABULARY)]
    if saved:
        found["saved-vocabulary"] = saved
    return {word: tuple(names) for word, names in found.items()}


def _role(name: str, config: Mapping[str, Any]) -> str:
    if _MAGNITUDE.fullmatch(name):
        return "dora"
    if _LORA_BIAS.fullmatch(name):
        return "lora-bias"
    if name.endswith(".base_layer.weight"):
        return "base-copies"
    if "trainable_tokens_" in name:
        return "trainable-tokens"
    if name.endswith(".bias") and config.get("bias") not in (None, "none"):
        return "bias"
    if config.get("peft_type") != "LORA" or ".lora_" in name or not name.startswith(_PREFIX):
        return "unpaired"
    if {"modules_to_save", "default"} & set(name.split(".")):  # an adapter's name where PEFT saves none
        return "unpaired"
    listed = (*(config.get("modules_to_save") or ()), *(_HEADS if config.get("task_type") in _CLASSIFIERS else ()))
    return "saved-modules" if any(f".{word}." in name for word in listed) else "whole-weights"


def _of_pairs(pairs: tuple[Pair, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    ranks = {pair.rank for pair in pairs if pair.kind != "experts"}
    groups = {
        "embedding": [p for p in pairs if p.kind == "embedding" or p.leaf in ("embed_tokens", "wte")],
        "lm-head": [p for p in pairs if p.leaf in ("lm_head", "embed_out")],
        "fused-experts": [p for p in pairs if p.kind == "experts"],
        "per-expert": [p for p in pairs if p.expert is not None],
        "adapter-name-in-keys": [p for p in pairs if p.adapter],
        "other-prefix": [p for p in pairs if not p.prefix],
        "wrapper-in-keys": [p for p in pairs if any(word in f"{p.module}." for word in _WRAPPERS)],
        "half-pairs": [p for p in pairs if p.halves < 2],
        "vision": [p for p in pairs if _TOWERS & set(p.module.split("."))],
        "torn-pairs": [p for p in pairs if _is_torn(p)],
        "mixed-ranks": list(pairs) if len(ranks) > 1 else [],
        "layer-subset": list(incomplete(pairs)),
    }
    return ((word, _names(group)) for word, group in groups.items() if group)


def _is_torn(pair: Pair) -> bool:
    """Whether A and B are of different ranks, or one of them is empty (as trainers of sharded models leave them)."""
    shapes = [tensor.shape for tensor in pair.tensors]
    if any(not shape or 0 in shape for shape in shapes):
        return True
    return len(shapes) == 2 and len(shapes[1]) > 1 and shapes[0][0] != shapes[1][1]


def incomplete(pairs: Iterable[Pair], layers: int | None = None) -> tuple[Pair, ...]:
    """The pairs of kinds of module that lack a pair in some layer, of those that the adapter or the base has."""
    kinds: dict[str, dict[int, list[Pair]]] = {}
    for pair in pairs:
        if pair.layer is not None and pair.expert is None:
            kinds.setdefault(_kind(pair), {}).setdefault(pair.layer, []).append(pair)
    seen = max((layer for found in kinds.values() for layer in found), default=-1) + 1
    wanted = max(seen, layers or 0)
    lacking = [found for found in kinds.values() if len(found) < wanted]
    return tuple(pair for found in lacking for group in found.values() for pair in group)


def _kind(pair: Pair) -> str:
    """The path behind the layer's number: `self_attn.q_proj`."""
    match = _LAYER.search(pair.module)
    return pair.module[match.end() :] if match is not None else pair.module


def _names(pairs: Iterable[Pair]) -> tuple[str, ...]:
    return tuple(name for pair in pairs for name in pair.names)
