"""Putting a tuner method's layers into a base, on names and shapes only: `BaseTuner.inject_adapter` of peft 0.21.2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterfit.computed import by_name
from adapterfit.expect import experts, packed
from adapterfit.expect.extras import ask_for_ties, is_tied, refuse_wrapped_heads, save_modules, tie, train_tokens
from adapterfit.expect.methods._layer import InjectionFails, Undecided, taken_then
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.replication import replicated
from adapterfit.expect.targets import (
    ALL_LINEAR,
    CONDENSE_FROM,
    Selection,
    all_linear,
    condense,
    ends_with_any,
    pattern_key,
    select,
)
from adapterfit.expect.versions import LOADER, below, rule
from adapterfit.expect.wrapped import Wrapped
from adapterfit.record import dataclass
from adapterfit.records import Module, ModuleTree

_PREFIX = "base_model.model."
#: The one value with which PEFT accepts that nothing matches.
_DUMMY = "dummy-target-modules"
#: Modules that PEFT refuses to wrap in these model types, whose fast kernels pass over them; and by which methods.
_FUSED_IN_MAMBA = ("conv1d", "out_proj")
_MAMBA_TYPES = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
_LORA_LIKE = frozenset({"LORA", "ADALORA", "XLORA", "RANDLORA"})
_DEFAULTS = Path(__file__).with_name("default_targets.json")
#: Since when the refusal of a method without targets names target_parameters too.
_EITHER = {"LORA": "0.17", "ADALORA": "0.18"}


@dataclass(frozen=True)
class Injected:
    """The wrapped base, the config as PEFT leaves it, the targets in order, and what it warns about."""

    wrapped: Wrapped
    config: Mapping[str, Any]
    targets: tuple[str, ...]
    warns: tuple[str, ...]
    doubts: tuple[str, ...]
    packed: Mapping[str, str]


def inject(method: Any, tree: ModuleTree, given: Mapping[str, Any]) -> Injected:
    """Raises `InjectionFails` with the line PEFT would raise, `Undecided` where we cannot tell."""
    config = dict(given)
    method.prepare(config)
    patterns = Patterns()
    if tree.expert_fusion and config["peft_type"] == "LORA":
        if rule(config, "moe-conversion"):
            raise InjectionFails("TypeError", str(rule(config, "moe-conversion")))
        config = experts.convert_config(config, tree, patterns)
    ask_for_ties(tree, config)
    tied = tie(config, tree, patterns)
    if not hasattr(method, "choose"):
        config.update(_default_targets(method, config, tree))
    if config.get("layer_replication"):
        tree = replicated(tree, config["layer_replication"])
    _expand_targets(config, tree)
    dummy = config.get("target_modules") == _DUMMY
    chosen = Selection((), (), 0) if dummy else _choose(method, tree, config, patterns)
    wrapped = Wrapped(
        tree,
        _PREFIX,
        if_missing=rule(config, "missing-keys", "warns"),
        inner="" if rule(config, "layers") == "subclasses" else getattr(method, "INNER", "base_layer"),
        if_missing_saved="raises" if rule(config, "missing-saved-modules", "raises") == "raises" else "silent",
    )
    modules = by_name(tree)
    settled = config
    if hasattr(method, "survey"):
        config = {**config, "surveyed": method.survey(tuple(modules[name] for name in chosen.matched), config, tree)}
    targets = [name for name in chosen.matched if not is_tied(name, tied)]
    later = [module.name for module in tree.modules if is_tied(module.name, tied)]
    _no_child_beside_its_parent(targets, modules, method)
    broken = packed.survey([modules[name] for name in (*targets, *later)], config)
    for name in targets:
        _wrap(wrapped, modules[name], method, config, patterns)
    parameters = _inject_parameters(wrapped, method, _turned(config, [modules[name] for name in targets]), patterns)
    for name in later:
        _wrap(wrapped, modules[name], method, config, patterns)
    targets += later
    if not targets and not parameters and not dummy:
        _nothing_matched(chosen, config)
    if hasattr(method, "finish"):
        method.finish(wrapped, config)
    doubts = save_modules(wrapped, config) + train_tokens(wrapped, config)
    packed.save_whole(wrapped.saved, tree)
    refuse_wrapped_heads(wrapped, config)
    if hasattr(method, "shared"):
        wrapped.shared = method.shared(config)
    warns = _warnings(chosen, targets, parameters, config, patterns)
    return Injected(wrapped, settled, tuple(targets), warns, doubts, broken)


def _choose(method: Any, tree: ModuleTree, config: Mapping[str, Any], patterns: Patterns) -> Selection:
    """PEFT's own rule for targets; one method has another."""
    if hasattr(method, "choose"):
        return Selection(method.choose(tree, config), (), 0)
    return select(tree.modules, config, patterns)


# -------------------------------------------------------------------------------------------- targets


def _default_targets(method: Any, config: Mapping[str, Any], tree: ModuleTree) -> dict[str, Any]:
    """What PEFT's own tables say for a model type where the config leaves the targets open."""
    found: dict[str, Any] = {}
    wanted = {"target_modules": method.TARGETS, **getattr(method, "MORE_TARGETS", {})}
    for field, table in wanted.items():
        if config.get(field) is not None:
            continue
        default = _default(table, tree.model_type, config) if table else None
        if default is None and field == "target_modules" and hasattr(method, "default_targets"):
            default = method.default_targets(tree)
        if default is not None:
            found[field] = default
        elif field != "target_modules" or not config.get("target_parameters"):
            if _below(config, "0.3"):
                raise InjectionFails("TypeError", "'NoneType' object is not iterable")
            either = f"`{field}` in"
            if table in ("LORA", "ADALORA") and not _below(config, _EITHER[table]):
                either = "`target_modules` or `target_parameters`in"
            raise InjectionFails("ValueError", f"Please specify {either} `peft_config`")
    return found


def _default(name: str, model_type: str, config: Mapping[str, Any]) -> Any:
    """The targets of a model type; of an older PEFT what its own table said, None where it said nothing or there was none."""
    for release, otherwise in _table("then", name, ()):
        if _below(config, release):
            if otherwise is None or model_type in otherwise:
                return (otherwise or {}).get(model_type)
            break
    return _table("tables", name, {}).get(model_type)


def _below(config: Mapping[str, Any], release: str) -> bool:
    """Whether the PEFT that is asked about is older than a release."""
    return LOADER in config and below(str(rule(config, "peft")), release)


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(_DEFAULTS.read_bytes())
    return loaded


def _table(kind: str, name: str, newest: Any) -> Any:
    """What the file says of a method's default targets; a table that is a name stands for that other one."""
    tables = _defaults()[kind]
    found = tables.get(name, newest)
    return tables[found] if isinstance(found, str) else found


def _expand_targets(config: dict[str, Any], tree: ModuleTree) -> None:
    """`all-linear` becomes full names; a long list becomes the fewest suffixes."""
    targets = config.get("target_modules")
    how = rule(config, "all-linear", "full names")
    if isinstance(targets, str) and targets.lower() == ALL_LINEAR and how != "a pattern":
        if rule(config, "linear-again") and config["peft_type"] == "LORA":
            raise InjectionFails("ValueError", str(rule(config, "linear-again")))
        config["target_modules"] = targets = all_linear(tree, config.get("task_type"), how)
    if isinstance(targets, list) and len(set(targets)) >= CONDENSE_FROM and config["peft_type"] != "IA3":
        if "" in targets:
            raise InjectionFails("ValueError", "target_modules should not contain an empty string.")
        config["target_modules"] = condense(targets, (module.name for module in tree.modules))


def _wrap(wrapped: Wrapped, module: Module, method: Any, config: Mapping[str, Any], patterns: Patterns) -> None:
    _not_inside_mamba(wrapped.tree, module, config)
    taken_then(module, config)
    slots = method.layer(module, module.name, _rank(config, module.name, patterns), config)
    if slots is not None:
        wrapped.tuned.setdefault(module.name, []).append(slots)
    child = getattr(method, "INSIDE", {}).get(module.kind)
    if child is not None:
        _wrap_child(wrapped, module, child, method, config, patterns)


def _turned(config: dict[str, Any], targets: Sequence[Module]) -> dict[str, Any]:
    """The config for what is wrapped afterwards: LoRA sets `fan_in_fan_out` right for each layer, and leaves it so."""
    plain = [module.kind for module in targets if module.kind in ("Linear", "Conv1D") and not module.packing]
    if config["peft_type"] != "LORA" or not plain:
        return config
    return {**config, "fan_in_fan_out": plain[-1] == "Conv1D"}


def _no_child_beside_its_parent(targets: Sequence[str], modules: Mapping[str, Module], method: Any) -> None:
    """No decision where a module is targeted by itself that is also wrapped together with its parent."""
    inside = getattr(method, "INSIDE", {})
    chosen = frozenset(targets)
    for name in targets:
        parent, _, leaf = name.rpartition(".")
        if inside and parent in chosen and inside.get(modules[parent].kind) == leaf:
            raise Undecided(f"{name} is targeted beside its {modules[parent].kind}, which wraps it too")


def _not_inside_mamba(tree: ModuleTree, module: Module, config: Mapping[str, Any]) -> None:
    """`_check_lora_target_modules_mamba` of PEFT, which goes by the last name of a target and the base's model type."""
    leaf = module.name.rpartition(".")[2]
    if tree.model_type in _MAMBA_TYPES and leaf in _FUSED_IN_MAMBA and config["peft_type"] in _LORA_LIKE:
        raise InjectionFails(
            "ValueError",
            f"[PEFT:PeftType.{config['peft_type']}] Module '{leaf}' is incompatible with Mamba-based models "
            f"(model_type='{tree.model_type}'). Incompatible modules: {_as_set(_FUSED_IN_MAMBA)}. "
            "Please remove it from `target_modules` to avoid compatibility issues.",
        )


def _wrap_child(
    wrapped: Wrapped, module: Module, leaf: str, method: Any, config: Mapping[str, Any], patterns: Patterns
) -> None:
    """A child that PEFT wraps together with its parent, with the parent's rank."""
    name = f"{module.name}.{leaf}" if module.name else leaf
    child = next((each for each in wrapped.tree.modules if each.name == name), None)
    if child is None:
        raise Undecided(f"{module.class_name or module.kind} has no {leaf}")
    slots = method.layer(child, name, _rank(config, module.name, patterns), config)
    wrapped.tuned.setdefault(name, []).append(slots)


def _rank(config: Mapping[str, Any], name: str, patterns: Patterns) -> Any:
    table = config.get("rank_pattern")
    if config["peft_type"] == "ADALORA" or not isinstance(table, Mapping) or not table:
        return config.get("r")
    how = rule(config, "pattern-keys", "now")
    if how != "now" and config["peft_type"] != "LORA":
        how = "anywhere"
    both = config.get("alpha_pattern") if rule(config, "pattern-tables", "apart") == "shared" else None
    searched = {**table, **both} if isinstance(both, Mapping) else table
    key = pattern_key(searched, name, patterns, how)
    return table.get(name if key is None else key, config.get("r")) if how != "now" else table.get(key, config.get("r"))


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
    packed.refuse_parameters(module)
    rank = _rank(config, f"{module.name}.{param}", patterns)
    slots = method.parameter_layer(module.params[param], rank, config, transposed=module.transposed_experts)
    started = method.parameter_start(module, param, rank, config)
    if started != rank:
        slots = method.parameter_layer(module.params[param], started, config, transposed=module.transposed_experts)
    wrapped.tuned.setdefault(module.name, []).append(slots)


def _nothing_matched(chosen: Selection, config: Mapping[str, Any]) -> None:
    """The four messages of NoMatchingPeftModuleError; older versions have fewer, and raise a ValueError."""
    older = rule(config, "nothing-matched")
    kind = "NoMatchingPeftModuleError" if older is None else "ValueError"
    targets = config.get("target_modules")
    if older == "one message":
        raise InjectionFails(kind, _not_found(targets))
    if chosen.excluded and not chosen.unmatched:
        settings = "`target_modules` and" if older == "of modules" else "`target_modules`,"
        saved = "" if older == "of modules" else " and `modules_to_save`"
        line = (
            "All modules were excluded. This is likely unintended. "
            f"Check your {settings} `exclude_modules`{saved} configuration."
        )
        raise InjectionFails(kind, line)
    if not chosen.excluded and not targets and older not in ("of modules", "of saved modules"):
        line = (
            "No `target_modules` passed but also no `target_parameters` found. Please check the values for "
            "these arguments."
        )
        raise InjectionFails(kind, line)
    if chosen.excluded:
        line = (
            "No modules were targeted for adaptation. "
            "This might be caused by a combination of mismatched target modules and excluded modules. "
            "Please check your `target_modules` and `exclude_modules` configuration. You may also have "
            "only targeted modules that are marked to be saved (`modules_to_save`)."
        )
    else:
        line = _not_found(targets)
    if config.get("layers_to_transform") is not None:
        line += f" Note: You specified 'layers_to_transform': {config['layers_to_transform']}."
    if config.get("layers_pattern") is not None:
        line += f" You also specified 'layers_pattern': {config['layers_pattern']}."
    raise InjectionFails(kind, line)


def _not_found(targets: Any) -> str:
    return (
        f"Target modules {_as_set(targets)} not found in the base model. Please check the target modules and try again."
    )


def _as_set(targets: Any) -> str:
    """How Python prints PEFT's set of targets; its order there is arbitrary, here sorted."""
    if not isinstance(targets, (list, tuple)):
        return str(targets)
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
