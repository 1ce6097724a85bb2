"""Putting a tuner method's layers into a base, on names and shapes only: `BaseTuner.inject_adapter` of peft 0.21.2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterfit import limits
from adapterfit.expect import experts
from adapterfit.expect.methods._layer import InjectionFails, Undecided
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import (
    ALL_LINEAR,
    CONDENSE_FROM,
    EMBEDDING_NAMES,
    Selection,
    all_linear,
    condense,
    ends_with_any,
    pattern_key,
    saved_modules,
    select,
)
from adapterfit.expect.wrapped import Wrapped
from adapterfit.records import Module, ModuleTree

_PREFIX = "base_model.model."
#: The one value with which PEFT accepts that nothing matches.
_DUMMY = "dummy-target-modules"
_DEFAULTS = Path(__file__).with_name("default_targets.json")


@dataclass(frozen=True)
class Injected:
    """The wrapped base, the config as PEFT leaves it, the targets in order, and what it warns about."""

    wrapped: Wrapped
    config: Mapping[str, Any]
    targets: tuple[str, ...]
    warns: tuple[str, ...]
    doubts: tuple[str, ...]


def inject(method: Any, tree: ModuleTree, given: Mapping[str, Any]) -> Injected:
    """Raises `InjectionFails` with the line PEFT would raise, `Undecided` where we cannot tell."""
    config = dict(given)
    method.prepare(config)
    patterns = Patterns()
    if tree.expert_fusion and config["peft_type"] == "LORA":
        config = experts.convert_config(config, tree, patterns)
    tied = _tie(config, tree, patterns)
    config.update(_default_targets(method, config, tree.model_type))
    if config.get("layer_replication"):
        tree = _replicated(tree, config["layer_replication"])
    _expand_targets(config, tree)
    dummy = config.get("target_modules") == _DUMMY
    chosen = Selection((), (), 0) if dummy else select(tree.modules, config, patterns)
    wrapped = Wrapped(tree, _PREFIX)
    modules = {module.name: module for module in tree.modules}
    targets = [name for name in chosen.matched if not _is_tied(name, tied)]
    later = [module.name for module in tree.modules if _is_tied(module.name, tied)]
    for name in targets:
        _wrap(wrapped, modules[name], method, config, patterns)
    parameters = _inject_parameters(wrapped, method, config, patterns)
    for name in later:
        _wrap(wrapped, modules[name], method, config, patterns)
    targets += later
    if not targets and not parameters and not dummy:
        _nothing_matched(chosen, config)
    doubts = save_modules(wrapped, config) + _train_tokens(wrapped, config)
    return Injected(wrapped, config, tuple(targets), _warnings(chosen, targets, parameters, config, patterns), doubts)


# -------------------------------------------------------------------------------------------- targets


def _default_targets(method: Any, config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """What PEFT's own tables say for a model type where the config leaves the targets open."""
    found: dict[str, Any] = {}
    wanted = {"target_modules": method.TARGETS, **getattr(method, "MORE_TARGETS", {})}
    for field, table in wanted.items():
        if config.get(field) is not None:
            continue
        default = _defaults()[table].get(model_type)
        if default is not None:
            found[field] = default
        elif field != "target_modules" or not config.get("target_parameters"):
            either = "`target_modules` or `target_parameters`in" if table in ("LORA", "ADALORA") else f"`{field}` in"
            raise InjectionFails("ValueError", f"Please specify {either} `peft_config`")
    return found


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Mapping[str, Any]]:
    loaded: Mapping[str, Mapping[str, Any]] = json.loads(_DEFAULTS.read_bytes())["tables"]
    return loaded


def _expand_targets(config: dict[str, Any], tree: ModuleTree) -> None:
    """`all-linear` becomes full names; a long list becomes the fewest suffixes."""
    targets = config.get("target_modules")
    if isinstance(targets, str) and targets.lower() == ALL_LINEAR:
        config["target_modules"] = targets = all_linear(tree, config.get("task_type"))
    if isinstance(targets, list) and len(set(targets)) >= CONDENSE_FROM and config["peft_type"] != "IA3":
        if "" in targets:
            raise InjectionFails("ValueError", "target_modules should not contain an empty string.")
        config["target_modules"] = condense(targets, (module.name for module in tree.modules))


def _wrap(wrapped: Wrapped, module: Module, method: Any, config: Mapping[str, Any], patterns: Patterns) -> None:
    slots = method.layer(module, module.name, _rank(config, module.name, patterns), config)
    wrapped.tuned.setdefault(module.name, []).append(slots)


def _rank(config: Mapping[str, Any], name: str, patterns: Patterns) -> Any:
    table = config.get("rank_pattern")
    if config["peft_type"] == "ADALORA" or not isinstance(table, Mapping) or not table:
        return config.get("r")
    key = pattern_key(table, name, patterns)
    return config.get("r") if key is None else table[key]


def _inject_parameters(wrapped: Wrapped, method: Any, config: Mapping[str, Any], patterns: Patterns) -> tuple[str, ...]:
    """`target_parameters`: parameters that are no module's weight matrix, such as fused experts."""
    wanted = frozenset(config.get("target_parameters") or ())
    if not wanted:
        return ()
    if not hasattr(method, "parameter_layer"):
        raise Undecided(f"target_parameters with {config['peft_type']}")
    found = []
    for module in wrapped.tree.modules:
        hits = [name for name in module.params if ends_with_any(f"{module.name}.{name}", wanted)]
        for param in hits:
            _wrap_parameter(wrapped, module, param, method, config, patterns)
            found.append(f"{module.name}.{param}")
    return tuple(found)


def _wrap_parameter(
    wrapped: Wrapped, module: Module, param: str, method: Any, config: Mapping[str, Any], patterns: Patterns
) -> None:
    if not module.name:
        raise InjectionFails(
            "ValueError",
            f"Targeting an nn.Parameter on the top-level module is not supported (parameter '{param}'). ",
        )
    if module.kind not in {"container", "other"} and module.name in wrapped.tuned:
        raise InjectionFails(
            "ValueError",
            f"Trying to wrap an `nn.Parameter` of layer '{module.name}' of type {module.class_name}, which is not a "
            "valid target. Make sure that this layer is not also targeted with `target_modules`. For some models, "
            "PEFT will do this automatically, try setting `target_modules=[]` to prevent it.",
        )
    rank = _rank(config, f"{module.name}.{param}", patterns)
    slots = method.parameter_layer(module.params[param], rank, config, transposed=module.transposed_experts)
    wrapped.tuned.setdefault(module.name, []).append(slots)


def _nothing_matched(chosen: Selection, config: Mapping[str, Any]) -> None:
    """The four messages of NoMatchingPeftModuleError."""
    targets = config.get("target_modules")
    if chosen.excluded and not chosen.unmatched:
        line = (
            "All modules were excluded. This is likely unintended. "
            "Check your `target_modules`, `exclude_modules` and `modules_to_save` configuration."
        )
        raise InjectionFails("NoMatchingPeftModuleError", line)
    if not chosen.excluded and not targets:
        line = (
            "No `target_modules` passed but also no `target_parameters` found. Please check the values for "
            "these arguments."
        )
        raise InjectionFails("NoMatchingPeftModuleError", line)
    if chosen.excluded:
        line = (
            "No modules were targeted for adaptation. "
            "This might be caused by a combination of mismatched target modules and excluded modules. "
            "Please check your `target_modules` and `exclude_modules` configuration. You may also have "
            "only targeted modules that are marked to be saved (`modules_to_save`)."
        )
    else:
        line = (
            f"Target modules {_as_set(targets)} not found in the base model. "
            "Please check the target modules and try again."
        )
    if config.get("layers_to_transform") is not None:
        line += f" Note: You specified 'layers_to_transform': {config['layers_to_transform']}."
    if config.get("layers_pattern") is not None:
        line += f" You also specified 'layers_pattern': {config['layers_pattern']}."
    raise InjectionFails("NoMatchingPeftModuleError", line)


def _as_set(targets: Any) -> str:
    """How Python prints PEFT's set of targets; its order there is arbitrary, here sorted."""
    if isinstance(targets, str):
        return targets
    return "{" + ", ".join(repr(name) for name in sorted(set(targets))) + "}" if targets else "set()"


def _warnings(
    chosen: Selection, targets: Sequence[str], parameters: Sequence[str], config: Mapping[str, Any], patterns: Patterns
) -> tuple[str, ...]:
    found = []
    if config.get("exclude_modules") and not chosen.excluded:
        found.append(
            f"You have passed exclude_modules={_as_set(config['exclude_modules'])} but no modules were excluded. "
            "Please check that exclude_modules was set correctly."
        )
    elif config.get("target_modules") and not targets and config["target_modules"] != _DUMMY:
        found.append(f"target_modules={_as_set(config['target_modules'])} were set but no module was matched.")
    elif config.get("target_parameters") and not parameters:
        found.append(f"target_parameters={config['target_parameters']} were set but no parameter was matched.")
    for field in ("rank_pattern", "alpha_pattern"):
        table = config.get(field)
        if config["peft_type"] != "ADALORA" and isinstance(table, Mapping):
            idle = [key for key in table if not any(pattern_key({key: 0}, name, patterns) for name in targets)]
            if idle:
                listed = sorted(idle)
                found.append(
                    f"The following {field} keys did not match any targeted module and were ignored: {listed}."
                )
    return tuple(found)


# -------------------------------------------------------------------------------------------- tied weights


def tied_with_embedding(tree: ModuleTree) -> tuple[str, ...]:
    """The modules whose weight is the input embedding's."""
    weight = f"{tree.input_embeddings}.weight"
    group = next((group for group in tree.tied if weight in group), ())
    return tuple(name.rpartition(".")[0] for name in group if name != weight)


def _tie(config: dict[str, Any], tree: ModuleTree, patterns: Patterns) -> frozenset[str]:
    """`ensure_weight_tying` (LoRA): rewrites the config in place; returns the modules tied to the embedding's LoRA."""
    tied = tied_with_embedding(tree)
    if not config.get("ensure_weight_tying") or not tied or config["peft_type"] != "LORA":
        return frozenset()
    saved, targets = list(config.get("modules_to_save") or ()), config.get("target_modules")
    if any(name.rpartition(".")[2] in EMBEDDING_NAMES for name in saved):
        kept = _without(saved + [tree.input_embeddings] * (tree.input_embeddings not in saved), tied, patterns)
        config.update(modules_to_save=kept, modules_to_tie=sorted(tied))
        return frozenset()
    if isinstance(targets, str):
        if not any(patterns.full(targets, name) for name in EMBEDDING_NAMES):
            return frozenset()
        config["target_modules"] = rf"(?:{targets}|^{re.escape(tree.input_embeddings)}$)"
        return frozenset(tied)
    if not any(name.rpartition(".")[2] in EMBEDDING_NAMES for name in targets or ()):
        return frozenset()
    config["target_modules"] = _without(sorted({*(targets or ()), tree.input_embeddings}), tied, patterns)
    return frozenset(tied)


def _without(names: Iterable[str], tied: Iterable[str], patterns: Patterns) -> list[str]:
    kept = list(names)
    for key in tied:
        hit = next((name for name in kept if patterns.start(rf"(^|.*\.){name}($|\..*)", key)), None)
        if hit is not None:
            kept.remove(hit)
    return kept


def _is_tied(name: str, tied: frozenset[str]) -> bool:
    return bool(tied) and ends_with_any(name, tied)


# -------------------------------------------------------------------------------------------- whole copies


def save_modules(wrapped: Wrapped, config: Mapping[str, Any]) -> tuple[str, ...]:
    """`modules_to_save`: full copies of modules, matched by a bare `endswith`."""
    wanted = [name for name in config.get("modules_to_save") or () if isinstance(name, str)]
    hits = saved_modules(wrapped.tree, wanted)
    if str(config.get("task_type")) in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"):
        hits = list(dict.fromkeys([*hits, *saved_modules(wrapped.tree, wanted, wrapped.prefix)]))
    tie = frozenset(config.get("modules_to_tie") or ())
    for name in hits:
        wrapped.saved[name] = False
    for module in wrapped.tree.modules:
        if tie and module.name.endswith(tuple(tie)):
            wrapped.saved[module.name] = True
    return _clashes(wrapped)


def _clashes(wrapped: Wrapped) -> tuple[str, ...]:
    """Arrangements whose outcome depends on the order in which PEFT replaces modules; we do not follow it there."""
    saved = set(wrapped.saved)
    names = {module.name for module in wrapped.tree.modules}
    nested = [name for name in saved if any(name.startswith(other + ".") for other in saved)]
    both = [name for name in wrapped.tuned if any(name == other or name.startswith(other + ".") for other in saved)]
    both += [name for name in saved if any(name.startswith(other + ".") for other in wrapped.tuned)]
    if nested or both:
        return (f"modules_to_save and other wrappers overlap at {sorted({*nested, *both})[0]}",)
    if not saved <= names:
        return (f"modules_to_save reaches {sorted(saved - names)[0]}, a second path of a shared module",)
    return ()


# -------------------------------------------------------------------------------------------- single rows


def _train_tokens(wrapped: Wrapped, config: Mapping[str, Any]) -> tuple[str, ...]:
    """`trainable_token_indices`: single rows of an embedding, replaced."""
    wanted = config.get("trainable_token_indices")
    if wanted is None:
        return ()
    tree = wrapped.tree
    layers = wanted if isinstance(wanted, Mapping) else {tree.input_embeddings or "embed_tokens": wanted}
    for name in layers:
        if name in (config.get("modules_to_save") or ()):
            raise InjectionFails(
                "ValueError",
                "The embedding layer is already marked to be trained fully, either specify "
                f"`modules_to_save=[..., \"{name}\", ...]` or `trainable_tokens={{'{name}': x}}` but not both.",
            )
    tied = tied_with_embedding(tree) if tree.config.get("tie_word_embeddings") else ()
    skip, mismatch = _tied_rows(layers, tied, config)
    for name, indices in layers.items():
        if name not in skip:
            _wrap_tokens(wrapped, name, indices)
    embedding = wrapped.tokens.get(tree.input_embeddings)
    if tied and embedding and (config.get("ensure_weight_tying") or not mismatch):
        for module in tree.modules:
            if module.name.endswith(tied) and module.name not in wrapped.tokens:
                wrapped.tokens[module.name] = 0
    overlap = [name for name in wrapped.tokens if name in wrapped.tuned or name in wrapped.saved]
    return (f"trainable_token_indices and another wrapper meet at {overlap[0]}",) if overlap else ()


def _tied_rows(
    layers: Mapping[str, Any], tied: tuple[str, ...], config: Mapping[str, Any]
) -> tuple[frozenset[str], bool]:
    """Layers left to the tie, and whether tied layers name different rows."""
    if len(layers) < 2 or not tied:
        return frozenset(), False
    first = next(iter(layers.values()))
    mismatch = any(indices != first for indices in layers.values())
    if mismatch and config.get("ensure_weight_tying"):
        raise Undecided("ensure_weight_tying with different token rows for tied layers")
    return (frozenset() if mismatch else frozenset(layers) & frozenset(tied)), mismatch


def _wrap_tokens(wrapped: Wrapped, wanted: str, indices: Any) -> None:
    hits = [module for module in wrapped.tree.modules if module.name.endswith(wanted)]
    if not hits:
        line = (
            f"Target modules {{{wanted!r}}} not found in the base model. Please check the target modules and try again."
        )
        raise InjectionFails("ValueError", line)
    if not isinstance(indices, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in indices):
        raise Undecided("trainable_token_indices are not whole numbers")
    for module in hits:
        shape = module.params.get("weight", ())
        if len(shape) != 2:
            raise Undecided(f"trainable tokens on {module.name}, which has no 2-D weight")
        beyond = next((index for index in indices if not -shape[0] <= index < shape[0]), None)
        if beyond is not None:
            line = f"index {beyond} is out of bounds for dimension 0 with size {shape[0]}"
            raise InjectionFails("IndexError", line)
        wrapped.tokens[module.name] = len(indices)


# -------------------------------------------------------------------------------------------- replication


def _replicated(tree: ModuleTree, spans: Any) -> ModuleTree:
    """`layer_replication`: the layer list rebuilt from `[start, end)` spans, weights shared."""
    if not _are_spans(spans):
        raise Undecided("layer_replication is not a list of [start, end] pairs")
    if sum(end - start for start, end in spans) > limits.LAYERS:
        raise Undecided(f"layer_replication asks for more than {limits.LAYERS} layers")
    stack = _layer_stack(tree)
    layers: dict[int, list[Module]] = {}
    for module in tree.modules:
        head, _, rest = (
            module.name[len(stack) + 1 :].partition(".") if module.name.startswith(stack + ".") else ("",) * 3
        )
        if head.isdigit():
            layers.setdefault(int(head), []).append(replace(module, name=rest))
    order = [index for start, end in spans for index in range(start, end)]
    if any(index not in layers for index in order):
        raise InjectionFails("IndexError", f"index {max(order)} is out of range")
    rebuilt = [
        replace(module, name=f"{stack}.{at}" + (f".{module.name}" if module.name else ""))
        for at, index in enumerate(order)
        for module in layers[index]
    ]
    before, after = _around(tree, stack)
    return replace(tree, modules=(*before, *rebuilt, *after))


def _are_spans(spans: Any) -> bool:
    return isinstance(spans, list) and all(
        isinstance(span, list) and len(span) == 2 and all(isinstance(i, int) for i in span) and 0 <= span[0] <= span[1]
        for span in spans
    )


def _layer_stack(tree: ModuleTree) -> str:
    names = {module.name for module in tree.modules}
    root = ""
    while f"{root}model" in names:
        root += "model."
    if f"{root}bert" in names:
        root += "bert."
    for stack in ("layers", "encoder.layer", "h"):
        if f"{root}{stack}" in names:
            return f"{root}{stack}"
    raise InjectionFails(
        "ValueError",
        "Could not locate the layers attribute in the model. Expected Llama, Bert or Falcon compatible architectures.",
    )


def _around(tree: ModuleTree, stack: str) -> tuple[list[Module], list[Module]]:
    before: list[Module] = []
    after: list[Module] = []
    side = before
    for module in tree.modules:
        if module.name.startswith(stack + "."):
            continue
        side.append(module)
        if module.name == stack:
            side = after
    return before, after
