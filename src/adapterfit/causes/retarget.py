"""A config that selects exactly the modules the tensors are for: full paths, taken from the tensors themselves."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from adapterfit.causes import anatomy, evidence
from adapterfit.edits import Edit, Rename, SetConfig
from adapterfit.records import Case, Diff, Fix, Module, TensorInfo
from adapterfit.text import quote, shorten

#: Fields that narrow `target_modules`; a list of full paths says everything they say.
NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules")
_PLAIN = re.compile(r"[A-Za-z0-9_.]+")
#: How PEFT itself begins the patterns that it writes; every path of a module but the shortest has a dot before its last name.
_ANYWHERE = r".*\."


def config_edits(case: Case, diff: Diff, names: Mapping[TensorInfo, str]) -> tuple[Edit, ...] | None:
    """Edits of adapter_config.json under which PEFT wraps exactly the modules that the tensors, so named, are for.

    None where that cannot be said in `target_modules`, or where rank and alpha tables would change their meaning.
    """
    config = case.adapter.config
    by_name = anatomy.modules(diff)
    paths = {old: new for old, new in _paths(case, names) if not of_parameter(case, by_name, new)}
    if config is None or not paths or not all(anatomy.sides(by_name.get(path)) for path in paths.values()):
        return None
    if not _tables_stay(config.values, paths) or config.values.get("layer_replication"):
        return None
    edits: list[Edit] = [SetConfig("target_modules", sorted(set(paths.values())))]
    if config.peft_type == "IA3":  # among the targets, word for word; a vector of one row is for the inputs
        inputs = {evidence.parts(names.get(t, t.name)).module for t in case.adapter.tensors if t.shape[:1] == (1,)}
        edits.append(SetConfig("feedforward_modules", sorted(inputs & set(paths.values()))))
    edits += [SetConfig(field, None) for field in NARROWING if config.raw.get(field) is not None]
    return tuple(edits)


def by_tensors(case: Case, diff: Diff, refused: Collection[str] = ()) -> Fix | None:
    """The cure that targets what the tensors were trained for; None where they are for other modules, or for a refused one."""
    held = anatomy.of_modules(case.adapter.tensors)
    every = {tensor: tensor.name for group in held.values() for tensor in group}
    if not held or not held.keys().isdisjoint(refused) or not anatomy.sit(diff, every):
        return None
    edits = config_edits(case, diff, {})
    said = f"set target_modules to the full paths of the {evidence.count(len(held), 'module')} in the file"
    return Fix("safe", said, edits) if edits is not None else None


def of_parameter(case: Case, by_name: Mapping[str, Module], path: str) -> bool:
    """Whether tensors of this module are for its parameters (`target_parameters`), not for a layer that is wrapped."""
    outer = path.partition(".base_layer")[0]
    module = by_name.get(outer)
    if module is None:
        return False
    if any(len(shape) == 3 for shape in module.params.values()) and not anatomy.sides(module):
        return True
    named = case.adapter.config.values.get("target_parameters") if case.adapter.config is not None else None
    own = tuple(f".{outer}.{param}" for param in module.params)
    return isinstance(named, list) and any(name.endswith(f".{target}") for name in own for target in named)


def _paths(case: Case, names: Mapping[TensorInfo, str]) -> Iterator[tuple[str, str]]:
    """The module of every tuner tensor: its path as the file has it, and as it is after the renaming."""
    for tensor in case.adapter.tensors:
        new = evidence.parts(names.get(tensor, tensor.name))
        if new.leaf and new.prefixed and not new.leaf.startswith("trainable_tokens_"):
            yield evidence.parts(tensor.name).module, new.module


def _tables_stay(values: Mapping[str, Any], paths: Mapping[str, str]) -> bool:
    """Whether rank and alpha tables say the same about the new paths: only plain suffixes can be compared."""
    tables = (key for field in ("rank_pattern", "alpha_pattern") for key in values.get(field) or ())
    keys = [key[len(_ANYWHERE) :] if key.startswith(_ANYWHERE) else key for key in tables]
    moved = {old: new for old, new in paths.items() if old != new}
    return not moved or all(
        _PLAIN.fullmatch(key) and all(_ends(old, key) == _ends(new, key) for old, new in moved.items()) for key in keys
    )


def _ends(path: str, key: str) -> bool:
    return f".{path}".endswith(f".{key}")


def renaming(case: Case, diff: Diff, names: Mapping[TensorInfo, str], what: str = "") -> Fix | None:
    """The cure that gives tensors the names under which they land; with the config changed where it must be.

    None where the tensors do not all find a place of their own with exactly their shape.
    """
    renames = tuple(Rename(tensor.name, name) for tensor, name in names.items() if tensor.name != name)
    first = renames[0] if renames else None
    others = {tensor.name for tensor in case.adapter.tensors} - {rename.old for rename in renames}
    if first is None or not others.isdisjoint(rename.new for rename in renames):
        return None
    said = f"rename {evidence.count(len(renames), 'key')}{what}, such as {quote(first.old)} to {quote(first.new)}"
    if evidence.lands(diff, names):
        return Fix("safe", said, renames)
    edits = config_edits(case, diff, names) if anatomy.sit(diff, names) else None
    if edits is None:
        return None
    said += f"; and set target_modules to the full paths of these modules ({_targets_said(edits)})"
    return Fix("safe", said, (*renames, *edits))


def _targets_said(edits: Iterable[Edit]) -> str:
    listed = next(e.value for e in edits if isinstance(e, SetConfig) and e.key == "target_modules")
    return shorten(listed, 2)
