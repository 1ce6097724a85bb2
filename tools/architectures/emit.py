"""Learned trees as lines of data: one line per module pattern, equal sub-trees written once."""

from __future__ import annotations

import json
from typing import Any

from architectures.learn import Spec

Line = list[Any]


def lines(spec: Spec, path: str = "", condition: str = "true") -> list[Line]:
    """`[path, kind, class, parameters, more]` for this module and all below; `more` is left out where it is empty."""
    more: dict[str, Any] = {}
    if condition != "true":
        more["if"] = condition
    if spec.opaque:
        key, _, task = spec.opaque.partition(" ")
        more = {**more, **({"task": task} if task else {})}
        return [[path, "@", key, {}, more] if more else [path, "@", key]]
    if spec.each:
        more["each"] = spec.each
    if spec.times:
        more["times"] = spec.times
    if spec.groups != "1":
        more["groups"] = spec.groups
    if spec.transposed == "true":
        more["transposed"] = True
    if spec.by is not None:
        more["act" if not spec.by[1] else "by"] = spec.by[0] if not spec.by[1] else list(spec.by)
    params = {name: _shape(condition, dims) for name, (condition, dims) in spec.params.items()}
    head: Line = [path, spec.kind, "" if spec.by is not None else spec.cls]
    if params or more:
        head.append(params)
    if more:
        head.append(more)
    found = [head]
    for name, inner, child in spec.children:
        found += lines(child, f"{path}.{name}" if path else name, inner)
    return found


def _shape(condition: str, dims: list[str]) -> list[Any]:
    return [*dims] if condition == "true" else [{"if": condition}, *dims]


# ------------------------------------------------------------------------------------------------ sharing


class Fragments:
    """Sub-trees of at least `least` lines that stand outside of loops; the second time they are only named."""

    def __init__(self, least: int = 4) -> None:
        self.least = least
        self.names: dict[str, str] = {}
        self.bodies: dict[str, list[Line]] = {}
        self.uses: dict[str, int] = {}

    def share(self, spec: Spec, path: str = "", condition: str = "true", inside: bool = False) -> list[Line]:
        """`lines`, with big enough sub-trees replaced by `[path, "=", fragment]`."""
        own = lines(spec, path, condition)
        if len(own) >= self.least and not spec.each and not spec.times and not inside:
            name = self._name(spec)
            more = {} if condition == "true" else {"if": condition}
            return [[path, "=", name, {}, more] if more else [path, "=", name]]
        if spec.each or spec.times or spec.opaque:
            return own
        return [own[0]] + [
            line
            for name, inner, child in spec.children
            for line in self.share(child, f"{path}.{name}" if path else name, inner)
        ]

    def _name(self, spec: Spec) -> str:
        key = json.dumps(lines(spec))
        if key not in self.names:
            same = sum(1 for name in self.bodies if name.split("#")[0] == spec.cls)
            name = self.names[key] = spec.cls if not same else f"{spec.cls}#{same + 1}"
            self.bodies[name] = []
            self.bodies[name] = self.share(spec, inside=True)
        name = self.names[key]
        self.uses[name] = self.uses.get(name, 0) + 1
        return name


def inline_single_uses(classes: dict[str, list[Line]], bodies: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Put fragments that are named once back where they are named; the rest is returned."""
    while True:
        count: dict[str, int] = {}
        for body in (*classes.values(), *bodies.values()):
            for line in body:
                if line[1] == "=":
                    count[line[2]] = count.get(line[2], 0) + 1
        single = next((name for name in bodies if count.get(name, 0) <= 1), None)
        if single is None:
            return bodies
        body = bodies.pop(single)
        for owner in (*classes.values(), *bodies.values()):
            for at, line in enumerate(owner):
                if line[1:3] == ["=", single]:
                    owner[at : at + 1] = [_moved(part, line) for part in body]
                    break


def _moved(line: Line, target: Line) -> Line:
    path = ".".join(part for part in (target[0], line[0]) if part)
    moved = [path, *line[1:]]
    if not line[0] and len(target) > 4:
        more = {**target[4], **(moved[4] if len(moved) > 4 else {})}
        moved = [*moved[:3], moved[3] if len(moved) > 3 else {}, more]
    return moved


def text(facts: dict[str, Any]) -> str:
    """The file: keys in a fixed order, one line per module pattern, per field and per rule."""
    out = []
    for key, value in facts.items():
        if key in {"fragments", "classes"}:
            inner = ",\n".join(f"  {json.dumps(name)}: {_block(value[name], 3)}" for name in sorted(value))
            out.append(f' "{key}": {{\n{inner}\n }}' if value else f' "{key}": {{}}')
        elif isinstance(value, dict) and len(value) > 3:
            inner = ",\n".join(f"  {json.dumps(name)}: {_compact(value[name])}" for name in value)
            out.append(f' "{key}": {{\n{inner}\n }}')
        else:
            out.append(f' "{key}": {_compact(value)}')
    return "{\n" + ",\n".join(out) + "\n}\n"


def _block(value: Any, indent: int) -> str:
    pad = " " * indent
    if isinstance(value, dict):
        inner = ",\n".join(f"{pad}{json.dumps(k)}: {_block(v, indent + 1)}" for k, v in value.items())
        return "{\n" + inner + "\n" + pad[:-1] + "}" if value else "{}"
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return "[\n" + ",\n".join(f"{pad}{_compact(item)}" for item in value) + "\n" + pad[:-1] + "]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
