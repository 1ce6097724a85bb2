"""A third source of configs for the coverage, made from the source: each constant that it compares a field with, and every mix of kinds of layers.

The base is the default config with few layers. Each case gives one field a value on which the source of the config or the model
branches, or one beside it, or the value of the field that it is compared with; a list of words a mix of two; or a field by the
other name that the config class hears.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from architectures import edges, popped
from architectures.sample import attribute

Edit = tuple[tuple[str, ...], Any]
Branches = dict[str, list[Any]]
#: Nothing is built by these.
_IDLE = frozenset(("problem_type", "id2label", "label2id", "output_attentions", "use_cache", "return_dict"))
#: Words that lists of kinds of attention hold, whether or not the source of a type spells them out.
_KINDS = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")
_LAYERS = 4
#: Sizes of two sides, and places of layers.
_LISTS = ([224, 140], [2, 3], [0, 1], [1])


def drawn(model_type: str) -> Iterator[dict[str, Any]]:
    """All of them, as config.json files, in a fixed order."""
    start = edges.base(model_type)
    config = AutoConfig.for_model(model_type)
    for path, value in (*edits(config), *equal(config), *listed(config)):
        raw = edges.copied(start)
        edges.put(raw, path, value)
        yield raw
    for path, value in renamed(config):
        raw = {}
        edges.put(raw, path, value)
        yield raw


def edits(config: PreTrainedConfig, path: tuple[str, ...] = ()) -> Iterator[Edit]:
    """Every single change of this config and of its parts."""
    known = branches(type(config).__module__)
    for name in sorted({*known, *type(config).__dataclass_fields__} - _IDLE):
        value = attribute(config, name)
        if name.startswith("_"):
            continue
        if isinstance(value, PreTrainedConfig):
            yield from edits(value, (*path, name))
        elif _is_words(value):
            yield from (((*path, name), mix) for mix in _mixes(list(value), known.get(name, [])))
        elif hasattr(type(config), name) or value is not None:
            near = (float(one) if _is_whole(one) and isinstance(value, float) else one for one in known.get(name, []))
            yield from (((*path, name), one) for one in dict.fromkeys(near) if _is_other(one, value))


def equal(config: PreTrainedConfig, path: tuple[str, ...] = ()) -> Iterator[Edit]:
    """A field with the value of the other one that the source compares it with, and one beside it, both ways round."""
    for name in sorted(type(config).__dataclass_fields__):
        if isinstance(value := attribute(config, name), PreTrainedConfig):
            yield from equal(value, (*path, name))
    for pair in pairs(type(config).__module__):
        for name, other in (pair, pair[::-1]):
            value, wanted = attribute(config, name), attribute(config, other)
            if _is_whole(value) and _is_whole(wanted):
                yield from (((*path, name), one) for one in (wanted, 2 * wanted) if one != value)


def listed(config: PreTrainedConfig, path: tuple[str, ...] = ()) -> Iterator[Edit]:
    """Lists where the default is null, and lists, numbers and nulls under the names that the config class takes out of its arguments."""
    for name in sorted(type(config).__dataclass_fields__):
        value = attribute(config, name)
        if isinstance(value, PreTrainedConfig):
            yield from listed(value, (*path, name))
        elif "list" in str(type(config).__dataclass_fields__[name].type) and not _is_words(value):
            yield from (((*path, name), one) for one in _LISTS)
    for name in popped.named(type(config)):
        yield from (((*path, name), one) for one in (*_LISTS, 2, 8, None, True, False))


def renamed(config: PreTrainedConfig, path: tuple[str, ...] = ()) -> Iterator[Edit]:
    """Sizes and flags under the other name that the config class hears, to be given without the field's own."""
    for name in sorted({*type(config).__dataclass_fields__, *type(config).attribute_map}):
        value = attribute(config, name)
        if isinstance(value, PreTrainedConfig):
            yield from renamed(value, (*path, name))
        elif name in type(config).attribute_map and isinstance(value, int):
            near = (not value,) if isinstance(value, bool) else dict.fromkeys((2, 3, value + 1, 2 * value))
            yield from (((*path, name), one) for one in near if one != value)


@cache
def branches(module: str) -> Branches:
    """Each field that the files of a model branch on, with the values that decide and their neighbours."""
    folder = Path(str(importlib.import_module(module).__file__)).parent
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((*folder.glob("configuration_*.py"), *folder.glob("modeling_*.py"))):
        for name, value in _decided(ast.parse(file.read_text())):
            found.setdefault(name, {})[repr(value)] = value
    return {name: list(values.values()) for name, values in found.items()}


@cache
def pairs(module: str) -> list[tuple[str, str]]:
    """Each two fields that the files of a model compare with one another."""
    folder = Path(str(importlib.import_module(module).__file__)).parent
    found: dict[tuple[str, str], None] = {}
    for file in sorted((*folder.glob("configuration_*.py"), *folder.glob("modeling_*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare):
                left, right = list(_fields(node.left)), [name for side in node.comparators for name in _fields(side)]
                found.update(dict.fromkeys((one, other) for one in left for other in right if one != other))
    return list(found)


def _decided(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = [name for side in sides for name in _fields(side)]
            values = [value for side in sides for value in _values(side)]
            yield from ((name, value) for name in names for value in values)
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield from ((name, value) for name in _tested(node.test) for value in (True, False, 0, 1, 8, None))


def _fields(node: ast.expr) -> Iterator[str]:
    """The name of `config.name`, `self.config.name`, `self.name`, or of an item of such a list."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        yield str(node.args[1].value)  # getattr(config, "name", …)


def _tested(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BoolOp):
        for one in node.values:
            yield from _tested(one)
    elif isinstance(node, ast.UnaryOp):
        yield from _tested(node.operand)
    else:
        yield from _fields(node)


def _values(node: ast.expr) -> Iterator[Any]:
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        for one in node.elts:
            yield from _values(one)
    elif isinstance(node, ast.Constant):
        value = node.value
        yield value
        if value is None:
            yield from (0, 1, 8)
        elif type(value) is int:
            yield from (value - 1, value + 1, value + 3)


def _is_words(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(one, str) for one in value)


def _mixes(words: list[str], said: list[Any]) -> Iterator[list[str]]:
    """Lists of four in which each word that may stand there is alone, in turns with the first, and last."""
    first = words[0]
    kinds = _KINDS if first in _KINDS else ()
    for word in dict.fromkeys((*words, *(one for one in said if isinstance(one, str)), *kinds)):
        yield [word] * _LAYERS
        if word != first:
            yield [first, word] * (_LAYERS // 2)
            yield [first] * (_LAYERS - 1) + [word]


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_other(one: Any, value: Any) -> bool:
    """Whether this is another value than the default's, of a kind that may stand there."""
    if type(one) is type(value):
        return bool(one != value) and not (type(one) is int and one < 0)
    return one is None or value is None or (type(one) is int and isinstance(value, float))
