"""Names of a checkpoint → names of the runtime, as transformers' loader maps them; and what the shapes then say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from adapterfit.expect.fields import Facts
from adapterfit.record import dataclass
from adapterfit.records import Base, LoadRename, ModuleTree, Shape
from adapterfit.text import show

Rule = Mapping[str, Any]
Common = Callable[[], Mapping[str, Any]]


def load_rules(
    found: Facts, class_name: str, sub_models: Iterable[tuple[str, Facts, str, Any]], common: Common
) -> list[Rule]:
    """What transformers does to names when it loads this class: its own rules, those of sub-models, those of all."""
    entry = found["classes"][class_name]
    rules = list(_own_rules(found, class_name))
    for path, other, name, _ in sub_models:
        inside = path == entry["prefix"] or path.startswith(f"{entry['prefix']}.")
        scope = path[len(entry["prefix"]) + 1 :] if inside else path
        rules += [
            {**rule, "scope": ".".join(filter(None, (scope, _within(other, name, rule.get("scope")))))}
            for rule in _own_rules(other, name)
        ]
    return [*rules, *common()["rules"]]


def _within(found: Facts, class_name: str, scope: str | None) -> str | None:
    """A rule's scope as a path in its class: transformers leaves out the base's name, where the scope is of the base."""
    if scope is None:
        return None
    entry, paths = found["classes"][class_name], set()
    for path, kind, name, *_ in entry["modules"]:
        paths.add(path)
        if kind == "=":
            paths |= {f"{path}.{line[0]}" for line in found["fragments"][name]}
    whole = ".".join(filter(None, (entry["prefix"], scope)))
    return whole if whole in paths else scope


def _own_rules(found: Facts, class_name: str) -> Sequence[Rule]:
    name = found["classes"][class_name]["rules"]
    rules: Sequence[Rule] = found["rules"][name] if name else ()
    return rules


def adapter_renames(rules: Iterable[Rule], prefix: str) -> tuple[LoadRename, ...]:
    """The renamings (not the conversions) among these rules, as PEFT applies them to an adapter's names, in order."""
    return tuple(LoadRename(*_as_one(rule, prefix)) for rule in rules if "ops" not in rule)


def _as_one(rule: Rule, base_prefix: str) -> tuple[str, str]:
    """A rule as one pattern and one replacement for `re.sub(…, count=1)`; a scope becomes part of the pattern."""
    pattern, target = "|".join(rule["from"]), rule["to"][0]
    if "scope" not in rule:
        return pattern, target
    scope = f"{re.escape(rule['scope'])}\\." if rule["scope"] else ""
    outer = f"{re.escape(base_prefix)}\\.{scope}" if base_prefix else scope
    at = f"(?P<at>{outer}|(?!{outer}){scope})"
    shifted = re.sub(r"\\1", r"\\g<2>" if pattern.startswith("^") else r"\\g<3>", target)
    if pattern.startswith("^"):
        return f"^{at}{pattern[1:]}", f"\\g<at>{shifted}"
    return f"^{at}(?P<mid>.*?)(?:{pattern})", f"\\g<at>\\g<mid>{shifted}"


# ------------------------------------------------------------------------------------------------ loading


@dataclass(frozen=True)
class _Converter:
    """A rule that makes tensors out of tensors: patterns with what takes their place, targets, operations."""

    sources: tuple[tuple[re.Pattern[str], str], ...]
    targets: tuple[str, ...]
    ops: tuple[tuple[Any, ...], ...]


class Loader:
    """transformers' `rename_source_key` for one class: all renamings in turn, then at most one converter."""

    def __init__(self, tree: ModuleTree, rules: Iterable[Rule]) -> None:
        self.params = {
            f"{module.name}.{name}" if module.name else name: shape
            for module in tree.modules
            for name, shape in module.params.items()
        }
        self.prefix = tree.prefix
        self.renamings: list[tuple[re.Pattern[str], str]] = []
        self.converters: list[_Converter] = []
        for rule in rules:
            if "ops" in rule:
                parts = [_as_one({**rule, "from": [source]}, tree.prefix) for source in rule["from"]]
                sources = tuple((re.compile(pattern), replacement) for pattern, replacement in parts)
                self.converters.append(_Converter(sources, tuple(rule["to"]), tuple(map(tuple, rule["ops"]))))
            else:
                pattern, replacement = _as_one(rule, tree.prefix)
                self.renamings.append((re.compile(pattern), replacement))

    def place(self, name: str) -> tuple[str, _Converter | None, int]:
        """Where a checkpoint's tensor goes, by which converter, as which of its sources."""
        placed = self._renamed(name)
        if placed[0] not in self.params and name in self.params:
            return self._prefixed(name), None, 0
        return placed

    def _renamed(self, name: str) -> tuple[str, _Converter | None, int]:
        for pattern, replacement in self.renamings:
            name = pattern.sub(replacement, name, count=1)
        for converter in self.converters:
            for at, (source, replacement) in enumerate(converter.sources):
                if source.search(name):
                    return self._prefixed(source.sub(replacement, name, count=1)), converter, at
        return self._prefixed(name), None, 0

    def _prefixed(self, name: str) -> str:
        """With or without the base model's prefix, whichever the model has."""
        if not self.prefix:
            return name
        if (
            name.startswith(self.prefix)
            and (short := re.sub(f"^{re.escape(self.prefix)}.", "", name, count=1)) in self.params
        ):
            return short
        longer = f"{self.prefix}.{name}"
        return longer if longer in self.params else name


def contradictions(tree: ModuleTree, base: Base, rules: Iterable[Rule]) -> tuple[str, ...]:
    """Where the checkpoint's shapes differ from the modules that config.json makes."""
    rules = list(rules)
    if any("unknown" in rule for rule in rules):
        return ()
    loader = Loader(tree, rules)
    stacks: dict[tuple[str, _Converter], dict[int, list[Shape]]] = {}
    wrong: list[str] = []
    for name, info in base.tensors.items():
        target, converter, source = loader.place(name)
        if converter is not None:
            stacks.setdefault((target, converter), {}).setdefault(source, []).append(info.shape)
        elif target in loader.params and loader.params[target] != info.shape:
            wrong.append(_said(target, info.shape, loader.params[target]))
    wrong += _wrong_stacks(stacks, loader.params) if base.complete else []
    if not wrong:
        return ()
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    where = f"config.json and the checkpoint of {show(base.label)} contradict each other"
    return (f"{where}: {wrong[0]}{more}; from_pretrained raises a RuntimeError about mismatched sizes",)


def _said(target: str, shape: Shape, wanted: Shape) -> str:
    return f"{show(target)} is {list(shape)} in the checkpoint, {list(wanted)} by the config"


def _wrong_stacks(
    stacks: Mapping[tuple[str, _Converter], Mapping[int, list[Shape]]], params: Mapping[str, Shape]
) -> list[str]:
    wrong = []
    for (target, converter), parts in stacks.items():
        whole = len(parts) == len(converter.sources) and len(converter.targets) == 1
        made = _made(converter, parts) if whole else None
        if made is not None and target in params and params[target] != made:
            wrong.append(_said(target, made, params[target]))
    return wrong


def _made(converter: _Converter, parts: Mapping[int, list[Shape]]) -> Shape | None:
    """The shape that the operations make of these; None where they do not go together."""
    groups = [parts[at] for at in sorted(parts)]
    for op, *dims in converter.ops:
        if op == "stack":
            if any(len(set(group)) != 1 for group in groups):
                return None
            groups = [[(len(group), *group[0])] for group in groups]
        elif op == "concatenate":
            shapes = [shape for group in groups for shape in group]
            dim = dims[0]
            if any(len(shape) <= dim for shape in shapes) or len({_without(s, dim) for s in shapes}) != 1:
                return None
            groups = [[(*shapes[0][:dim], sum(s[dim] for s in shapes), *shapes[0][dim + 1 :])]]
        elif op == "transpose":
            groups = [[_swapped(shape, dims[0], dims[1]) for shape in group] for group in groups]
        else:
            return None
    return groups[0][0] if len(groups) == 1 and len(groups[0]) == 1 else None


def _without(shape: Shape, dim: int) -> Shape:
    return (*shape[:dim], *shape[dim + 1 :])


def _swapped(shape: Shape, one: int, other: int) -> Shape:
    items = list(shape)
    if max(one, other) < len(items):
        items[one], items[other] = items[other], items[one]
    return tuple(items)
