"""The module tree of a base: from architecture facts and its config, else, with doubts, from its checkpoint's names.

Facts (`architectures/<model_type>.json`) hold one line per module pattern, with sizes and conditions as formulas over
config fields. They are generated from transformers and proven against it; see `tools/gen_architectures.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.expect.checkpoint import Rule, adapter_renames, contradictions, load_rules
from adapterfit.expect.fields import Facts, Fields
from adapterfit.expect.formulas import FormulaError, UnknownFieldError, integer
from adapterfit.expect.growth import Growth, Turn
from adapterfit.expect.packed import mark
from adapterfit.records import Base, Flaw, Module, ModuleTree, Shape
from adapterfit.text import quote, show

_FACTS = Path(__file__).parent / "architectures"


# ------------------------------------------------------------------------------------------------ facts


@cache
def facts(model_type: str) -> Facts | None:
    """The facts of a model type, or None. `model_type` may come from a file: it is looked up in a closed set."""
    if model_type not in known_types():
        return None
    return Facts(_load(f"{model_type}.json"))


@cache
def known_types() -> frozenset[str]:
    """The model types that have facts."""
    names = os.listdir(_FACTS)  # noqa: PTH208 - hundreds of files: names alone are several times faster than paths
    return frozenset(name[:-5] for name in names if name.endswith(".json") and name[0] != "_")


@cache
def _load(name: str) -> Mapping[str, Any]:
    loaded: dict[str, Any] = json.loads((_FACTS / name).read_text(encoding="utf-8"))
    return MappingProxyType(loaded)


def common() -> Mapping[str, Any]:
    """What all types share: class names of activations, and the renamings that end every model's list."""
    return _load("_common.json")


@cache
def classes(model_type: str) -> Mapping[str, str]:
    """Task word → class name. `bare` and `FEATURE_EXTRACTION` are AutoModel's; empty for an unknown type."""
    found: dict[str, str] = {}
    known = facts(model_type)
    for name, entry in (known["classes"] if known else {}).items():
        for task in entry["tasks"]:
            found.setdefault(task, name)
    if "bare" in found:
        found["FEATURE_EXTRACTION"] = found["bare"]
    return MappingProxyType(found)


def class_names(model_type: str) -> frozenset[str]:
    """Every class that the facts of this type know, those included that no task leads to; empty for an unknown type."""
    known = facts(model_type)
    return frozenset(known["classes"] if known else ())


# ------------------------------------------------------------------------------------------------ trees


def tree(base: Base, class_name: str) -> ModuleTree:
    """The modules of `class_name` built from this base's config, checked against its headers.

    An unknown type or class gives a tree from the headers, with doubts.

    Raises:
        BadInput: The config holds values that no model can be built from.
    """
    found = facts(base.model_type)
    if found is None or class_name not in found["classes"]:
        return tree_from_headers(base, class_name)
    try:
        return _grown(base, found, class_name)
    except UnknownFieldError as gap:
        return replace(tree_from_headers(base, class_name), doubts=(f"{gap}; module names and kinds are guessed",))
    except FormulaError as problem:
        raise BadInput(_implausible(base, str(problem))) from problem


def _grown(base: Base, found: Facts, class_name: str) -> ModuleTree:
    entry = found["classes"][class_name]
    fields = Fields(found, base.config or {}, facts)
    growth = Growth(fields, facts, common)
    try:
        growth.grow(found, class_name)
    except UnknownFieldError:
        raise
    except FormulaError as problem:
        outside = fields.doubts()
        if not outside:
            raise
        raise UnknownFieldError(outside[0]) from problem
    converts = entry.get("converts_adapters", found["converts_adapters"])  # by the type of the class's own config
    compared = bool(base.tensors) and not base.quantisation
    rules = load_rules(found, class_name, growth.sub_models, common) if converts or compared else []
    grown = ModuleTree(
        class_name=class_name,
        model_type=base.model_type,
        modules=tuple(growth.modules),
        known="facts",
        prefix=entry["prefix"],
        aliases={names[0]: names[1] for names in (*_links(entry["aliases"], fields), *_inner(growth, "aliases"))},
        tied=_tied(entry, fields, growth),
        input_embeddings=_embeddings("input_embeddings", entry, fields, growth),
        output_embeddings=_embeddings("output_embeddings", entry, fields, growth),
        unembedded=_unembedded(entry, fields, growth),
        config=fields.prompt_config(entry.get("config", "")),
        adapter_renames=adapter_renames(rules, entry["prefix"]) if converts else (),
        expert_fusion=found["expert_fusion"],
        doubts=_doubts(entry, fields, growth),
    )
    grown = replace(grown, doubts=(*grown.doubts, *_unfounded(grown)))
    return reconcile(grown, base, rules) if compared else mark(grown, base)


def _unfounded(grown: ModuleTree) -> Iterator[str]:
    """A doubt where embeddings or shared parameters are named that were not built: a part of a type whose own names are others."""
    built = {module.name: module.params for module in grown.modules}
    named = [name for name in (grown.input_embeddings, grown.output_embeddings) if name and name not in built]
    for name in (name for names in grown.tied for name in names):
        owner, _, leaf = name.rpartition(".")
        if leaf not in built.get(owner, ()):
            named.append(name)
    if named:
        yield f"the facts about {show(named[0])}: they name it, and no such part is built from this config"


def _unembedded(entry: Mapping[str, Any], fields: Fields, growth: Growth) -> str:
    """The class that raises when PEFT asks for its input embeddings, as it does of a class with ties of its own; the base's where there is one."""
    if not fields.value(entry.get("asks", "false")):
        return ""
    base = next((module for module in growth.modules if module.name == entry["prefix"]), growth.modules[0])
    return base.class_name


def _embeddings(key: str, entry: Mapping[str, Any], fields: Fields, growth: Growth) -> str:
    """The path of the embeddings; `@path`: those of the part there."""
    if entry[key][:1] != "@":
        return str(fields.value(entry[key]))
    path = entry[key][1:]
    for at, found, name, inner in growth.sub_models:
        if at == path:
            own = inner.value(found["classes"][name][key])
            return f"{path}.{own}" if own else ""
    return ""


def _tied(entry: Mapping[str, Any], fields: Fields, growth: Growth) -> tuple[tuple[str, ...], ...]:
    """Parameters that are one, by the class's own facts and by those of its parts, which tie as their own configs say."""
    group_of: dict[str, list[str]] = {}
    groups = []
    for names in (*_ties(entry["tied"], fields, growth.modules), *_inner(growth, "tied")):
        group = next((group_of[name] for name in names if name in group_of), None)
        if group is None:
            group = []
            groups.append(group)
        group += [name for name in names if name not in group]
        group_of.update(dict.fromkeys(names, group))
    return tuple(map(tuple, groups))


def _ties(links: list[list[Any]], fields: Fields, grown: list[Module]) -> Iterator[tuple[str, ...]]:
    for link in links:
        if isinstance(link[-1], dict) and link[-1].get("whole"):
            yield from _one_weight(link, fields, grown)
        else:
            yield from _links([link], fields)


def _inner(growth: Growth, key: str) -> Iterator[tuple[str, ...]]:
    """What the facts of the parts say is `tied`, or goes by two names (`aliases`), of what was built of them."""
    links = [(path, found["classes"][name][key], fields) for path, found, name, fields in growth.sub_models]
    if not any(given for _, given, _ in links):
        return
    known = {module.name for module in growth.modules}
    for path, given, fields in links:
        placed = [[link[0], *(f"{path}.{n}" if isinstance(n, str) else n for n in link[1:])] for link in given]
        for names in _ties(placed, fields, growth.modules) if key == "tied" else _links(placed, fields):
            owners = {name.rpartition(".")[0] for name in names} if key == "tied" else {names[1]}
            if owners <= known:
                yield names


def _one_weight(link: list[Any], fields: Fields, grown: list[Module]) -> Iterator[tuple[str, ...]]:
    """The parameters of whole modules that share them, but for those named in `but`."""
    apart = link[-1].get("but", ())
    for first, *others in _sharers(link, fields):
        for module in grown:
            if module.name == first or module.name.startswith(f"{first}."):
                rest = module.name[len(first) :]
                for name in (name for name in module.params if name not in apart):
                    yield f"{first}{rest}.{name}", *(f"{other}{rest}.{name}" for other in others)


def _sharers(link: list[Any], fields: Fields) -> Iterator[list[str]]:
    """Modules that share: those named; over a range, those for which `when` holds, one set for each value of `by`."""
    when, *names, spec = link
    if "by" not in spec:
        if fields.value(when):
            yield names
        return
    sets: dict[Any, list[str]] = {}
    for at in _range(spec, fields):
        turn = Turn(fields, (at,))
        if turn.value(when):
            sets.setdefault(turn.value(spec["by"]), []).append(names[0].replace("*", str(at)))
    yield from (found for found in sets.values() if found[1:])


def _range(spec: Mapping[str, Any], fields: Fields) -> range:
    start, stop = spec["from"], integer(fields.value(spec["to"]))
    if stop - start > limits.LAYERS:
        raise FormulaError(f"{stop} layers; at most {limits.LAYERS} are plausible")
    return range(start, stop, spec.get("step", 1))


def _links(entries: Iterable[list[Any]], fields: Fields) -> Iterator[tuple[str, ...]]:
    """The names of each entry that holds for this config; an entry over a range once for each number, in place of `*`; `*+1` is the next."""
    for when, *names in entries:
        if not fields.value(when):
            continue
        if not isinstance(names[-1], dict):
            yield tuple(names)
            continue
        for at in _range(names[-1], fields):
            yield tuple(name.replace("*+1", str(at + 1)).replace("*", str(at)) for name in names[:-1])


def _doubts(entry: Mapping[str, Any], fields: Fields, growth: Growth) -> tuple[str, ...]:
    gaps = [f"the facts about {entry_doubt}" for entry_doubt in entry["doubts"]]
    return tuple(dict.fromkeys((*gaps, *fields.doubts(), *growth.doubts)))


def _implausible(base: Base, why: str) -> Flaw:
    return Flaw(
        "base-config-implausible",
        f"{show(base.config_file or base.label)}: no {show(base.model_type)} model can be built from this config: {why}",
        where=base.config_file or base.label,
        found=why,
        remedy="compare config.json with the one on the model's page",
    )


def reconcile(grown: ModuleTree, base: Base, rules: Iterable[Rule]) -> ModuleTree:
    """`grown`, with a doubt where the checkpoint's headers contradict it.

    The config decides, not the header: `from_pretrained` builds every module from config.json and then raises a
    RuntimeError about sizes that differ (measured on transformers 5.23), so such a base cannot be loaded at all. A
    checkpoint with more or fewer layers than the config loads, with the config's. Packed weights of a quantised base
    have other shapes than the modules they make; they are not compared.
    """
    doubts = contradictions(grown, base, rules)
    return replace(grown, doubts=(*grown.doubts, *doubts)) if doubts else grown


# ------------------------------------------------------------------------------------------------ without facts

_EMBEDDING_WORDS = ("emb", "wte", "wpe", "shared")
_NORM_WORDS = ("norm", "ln_", "layernorm", "ln1", "ln2")
_BY_RANK = {2: "Linear", 3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}


def tree_from_headers(base: Base, class_name: str = "") -> ModuleTree:
    """Modules by their names in the checkpoint, kinds by their shapes: good for a comparison, never for *fits*."""
    params: dict[str, dict[str, Shape]] = {}
    for name, info in base.tensors.items():
        path, _, leaf = name.rpartition(".")
        for at in range(path.count(".")):
            params.setdefault(".".join(path.split(".")[: at + 1]), {})
        params.setdefault(path, {})[leaf] = info.shape
    params.setdefault("", {})
    if len(params) > limits.MODULES:
        raise BadInput(_implausible(base, f"{len(params)} modules"))
    parents = {name.rpartition(".")[0] for name in params if name}
    modules = tuple(
        Module(name, _guessed(name, own, parent=name in parents), own)
        for name, own in sorted(params.items(), key=_order)
    )
    return ModuleTree(
        class_name=class_name or base.architecture,
        model_type=base.model_type,
        modules=modules if base.tensors else (),
        known="headers",
        config={key: value for key, value in (base.config or {}).items() if isinstance(key, str)},
        doubts=(_unknown(base, class_name),),
    )


def _order(item: tuple[str, Any]) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in item[0].split("."))


def _guessed(name: str, own: Mapping[str, Shape], *, parent: bool) -> str:
    weight = own.get("weight")
    if parent or weight is None:
        return "container" if parent else "other"
    leaf = name.rpartition(".")[2].lower()
    if len(weight) == 1:
        return "norm" if any(word in leaf for word in _NORM_WORDS) else "other"
    if len(weight) == 2 and any(word in leaf for word in _EMBEDDING_WORDS):
        return "Embedding"
    return _BY_RANK.get(len(weight), "other")


def _unknown(base: Base, class_name: str) -> str:
    part = (base.config or {}).get("_class_name")
    if not base.model_type and isinstance(part, str):
        return (
            f"the base is a {quote(part)} of diffusers, whose modules adapterfit knows by their checkpoint names only"
        )
    if not base.model_type:
        return (
            "the base has no config.json that names its model type, so its modules are known by checkpoint names only"
        )
    if facts(base.model_type) is None:
        return (
            f"adapterfit has no facts yet about model type {quote(base.model_type)}; module names and kinds are guessed"
        )
    return f"adapterfit has no facts about class {quote(class_name)} of model type {quote(base.model_type)}"
