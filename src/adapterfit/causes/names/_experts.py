"""A LoRA with one pair of matrices per expert, for a base whose experts lie in one parameter: fused without loss.

PEFT reads the A of a parameter (E, out, in) as (E r, in), expert after expert, and its B as (out, r E), rank after rank. For
every expert gate and up are stacked as in any fused layer: A = [A_gate; A_up], B on a block diagonal. Source: peft 0.21.2
`tuners/lora/layer.py` (`ParamWrapper`), which knows no dropout, no DoRA and no bias.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterfit.causes import anatomy, evidence, reconfigure
from adapterfit.causes.names._fusing import Cannot
from adapterfit.causes.reconfigure import Strength
from adapterfit.edits import Edit, Fill, Join, JoinDiagonal, Pad, Rename, Reshape, Scale, SetConfig
from adapterfit.records import Case, Diff, Module, Shape, TensorInfo

_NAME = re.compile(
    re.escape(evidence.PREFIX) + r"(?P<module>(?P<holder>.*\.experts)\.(?P<at>\d+)\.(?P<leaf>\w+))\.(?P<leaf2>.+)",
    re.ASCII,
)
_A, _B = "lora_A.weight", "lora_B.weight"
GATE_UP, DOWN = "gate_up_proj", "down_proj"
#: Leaf of an expert's Linear → the parameter it is in, and its place there.
PLACES: Mapping[str, tuple[str, int]] = {
    "gate_proj": (GATE_UP, 0), "up_proj": (GATE_UP, 1), "down_proj": (DOWN, 0), "w1": (GATE_UP, 0), "w3": (GATE_UP, 1), "w2": (DOWN, 0),
}  # fmt: skip


@dataclass
class Experts:
    """The experts of one layer: `path` in the base, `parts[leaf][number]` the tensors of that Linear by their leaf."""

    path: str
    module: Module
    parts: dict[str, dict[int, dict[str, TensorInfo]]] = field(default_factory=dict)
    names: dict[tuple[str, int], str] = field(default_factory=dict)


def found(case: Case, by_name: Mapping[str, Module]) -> dict[str, Experts]:
    """Every layer of the base with fused experts for which the file has tensors expert by expert."""
    layers: dict[str, Experts] = {}
    for tensor in case.adapter.tensors:
        match = _NAME.match(tensor.name)
        path = anatomy.holder(match["holder"], by_name) if match is not None else ""
        if match is None or not path:
            continue
        one = layers.setdefault(path, Experts(path, by_name[path]))
        leaf, at = match["leaf"], int(match["at"])
        one.parts.setdefault(leaf, {}).setdefault(at, {})[match["leaf2"]] = tensor
        one.names[leaf, at] = match["module"]
    return layers


def strengths(case: Case, layers: Mapping[str, Experts]) -> dict[str, Strength] | None:
    """Rank and alpha of every expert's Linear as the config gave them in training; None where the tensors differ."""
    ranks = {}
    for one in layers.values():
        for (leaf, at), name in one.names.items():
            a = one.parts[leaf][at].get(_A)
            ranks[name] = a.shape[0] if a is not None and len(a.shape) == 2 else 0
    config = case.adapter.config
    return reconfigure.strengths(config.values, ranks) if config is not None else None


def cure(case: Case, diff: Diff, layers: Mapping[str, Experts]) -> tuple[Edit, ...]:
    """The edits for all these layers, and the config that goes with them.

    Raises:
        Cannot: They would not be exact.
    """
    config = case.adapter.config
    if config is None or not reconfigure.is_plain(config.values) or config.values.get("use_dora"):
        raise Cannot("this kind of LoRA is more than the product of two matrices")
    if config.values.get("target_parameters") or config.values.get("lora_bias"):
        raise Cannot("the config already has parameters, or a bias, beside them")
    then = strengths(case, layers)
    linears = _linears(case, diff, layers)
    if then is None or linears is None:
        raise Cannot("the config's ranks and those of the tensors differ")
    rslora = bool(config.values.get("use_rslora"))
    edits: list[Edit] = []
    parameters: dict[str, Strength] = {}
    for one in layers.values():
        made, strength = _layer(one, then, rslora=rslora)
        edits += made
        parameters.update(strength)
    fused = {*PLACES, "gate"} if diff.expectation.tree.expert_fusion else set()
    for name in [name for name in linears if name.rpartition(".")[2] in fused]:
        parameters[f"{name}.weight"] = linears.pop(name)  # as a target_module PEFT would take it for an expert's
    if not linears and not parameters:
        raise Cannot("no name in the file is that of a layer")
    if config.values.get("lora_dropout"):
        edits.append(SetConfig("lora_dropout", 0.0))
    return (*edits, *reconfigure.edits(case, diff.expectation.tree, linears, parameters))


def _linears(case: Case, diff: Diff, layers: Mapping[str, Experts]) -> dict[str, Strength] | None:
    """Every other LoRA layer of the file, with its rank and alpha; all of them must be the base's."""
    experts = {
        tensor.name
        for one in layers.values()
        for held in one.parts.values()
        for t in held.values()
        for tensor in t.values()
    }
    rest = anatomy.of_modules(tensor for tensor in case.adapter.tensors if tensor.name not in experts)
    ranks = reconfigure.ranks_in(rest)
    by_name, config = anatomy.modules(diff), case.adapter.config
    if ranks is None or config is None or not all(anatomy.sides(by_name.get(name)) for name in ranks):
        return None
    return reconfigure.strengths(config.values, ranks)


def _layer(one: Experts, then: Mapping[str, Strength], *, rslora: bool) -> tuple[list[Edit], dict[str, Strength]]:
    """The fused tensors of one layer. With both parameters PEFT wraps twice, the first one inside."""
    if set(one.parts) - set(PLACES) or one.module.transposed_experts:
        raise Cannot("these experts are laid out otherwise")
    shapes = anatomy.of_experts(one.module)
    used = [name for name in shapes if any(PLACES[leaf][0] == name for leaf in one.parts)]
    if {PLACES[leaf][0] for leaf in one.parts} != set(used):
        raise Cannot("the base has no such parameters")
    edits: list[Edit] = []
    strength = {}
    for name in used:
        inner = ".base_layer" if name != used[-1] else ""
        made, strength[f"{one.path}.{name}"] = _parameter(one, name, shapes[name], inner, then, rslora=rslora)
        edits += made
    return edits, strength


def _parameter(
    one: Experts, name: str, shape: Shape, inner: str, then: Mapping[str, Strength], *, rslora: bool
) -> tuple[list[Edit], Strength]:
    """One parameter of all experts of a layer."""
    count, out, width = shape
    leaves = sorted((leaf for leaf in one.parts if PLACES[leaf][0] == name), key=lambda leaf: PLACES[leaf][1])
    height = out // 2 if name == GATE_UP else out
    parts = []
    for leaf in leaves:
        held = one.parts[leaf]
        if sorted(held) != list(range(count)) or any(set(pair) != {_A, _B} for pair in held.values()):
            raise Cannot("some of the experts have no LoRA, or more than one")
        ranks = {pair[_A].shape[0] for pair in held.values()}
        sizes = {(pair[_A].shape[1:], pair[_B].shape) for pair in held.values()}
        if len(ranks) != 1 or sizes != {((width,), (height, min(ranks)))}:
            raise Cannot("the experts' matrices have other sizes than those of the base")
        parts.append(held)
    given = [{then[one.names[leaf, at]] for at in range(count)} for leaf in leaves]
    if any(len(each) != 1 for each in given):
        raise Cannot("the experts have different ranks or scales")
    each = [next(iter(strengths)) for strengths in given]
    total = sum(part.rank for part in each)
    ratios = [reconfigure.scale(part, rslora=rslora) / reconfigure.scale(each[0], rslora=rslora) for part in each]
    before = height if name == GATE_UP and PLACES[leaves[0]][1] == 1 else 0
    behind = height if name == GATE_UP and leaves and PLACES[leaves[-1]][1] == 0 else 0
    key = f"{evidence.PREFIX}{one.path}{inner}"
    edits = list(_stacked(parts, ratios, count, (before, behind), key, (total, out, width)))
    return edits, reconfigure.stretched(each[0], total, rslora=rslora)


def _stacked(
    parts: list[dict[int, dict[str, TensorInfo]]],
    ratios: list[float],
    count: int,
    gaps: tuple[int, int],
    key: str,
    sizes: tuple[int, int, int],
) -> Iterator[Edit]:
    """A: all experts' rows, expert after expert. B: (out, r, E) seen as (out, r E)."""
    total, out, _ = sizes
    order = [held[at] for at in range(count) for held in parts]
    if len({tensor.dtype for pair in order for tensor in pair.values()}) != 1:
        raise Cannot("the matrices are stored in different types")
    for held, ratio in zip(parts, ratios):
        if ratio != 1.0:
            yield from (Scale(held[at][_B].name, ratio) for at in range(count))
    a, b = f"{key}.{_A}", f"{key}.{_B}"
    yield Join(tuple(pair[_A].name for pair in order), a, 0)
    wholes = []
    for at in range(count):
        names = tuple(held[at][_B].name for held in parts)
        whole = f"{b}.{at}"
        yield JoinDiagonal(names, whole) if len(names) > 1 else Rename(names[0], whole)
        if gaps[1]:
            yield Pad(whole, 0, out)
        if gaps[0]:
            yield Fill(f"{whole}.before", (gaps[0], total), parts[0][at][_B].dtype, 0.0)
            yield Join((f"{whole}.before", whole), whole, 0)
        yield Reshape(whole, (out, total, 1))
        wholes.append(whole)
    yield Join(tuple(wholes), b, 2)
    yield Reshape(b, (out, total * count))


def read_by_peft(case: Case, diff: Diff, layers: Mapping[str, Experts]) -> bool:
    """Whether PEFT's own translation keeps every expert's scale: gate and up get twice the rank and twice the alpha."""
    then, config = strengths(case, layers), diff.expectation.config
    if then is None:
        return True
    rslora = bool(config.get("use_rslora"))
    for one in layers.values():
        for (leaf, _at), name in one.names.items():
            now = _now(config, f"{one.path}.{PLACES[leaf][0]}" if leaf in PLACES else "")
            if now is None or _differ(
                reconfigure.scale(now, rslora=rslora), reconfigure.scale(then[name], rslora=rslora)
            ):
                return now is None
    return True


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > 1e-9 * max(abs(one), abs(other))


def _now(config: Mapping[str, Any], parameter: str) -> Strength | None:
    """Rank and alpha that PEFT gives a fused parameter; None where that cannot be told."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not parameter or not isinstance(rank, int) or not isinstance(alpha, (int, float)):
        return None
    times = 2 if parameter.endswith(GATE_UP) else 1
    tables = [config.get(f) or {} for f in ("rank_pattern", "alpha_pattern")]
    if not all(isinstance(table, Mapping) for table in tables):
        return None
    found = [reconfigure.entry(table, parameter, given * times) for table, given in zip(tables, (rank, alpha))]
    return Strength(*found) if all(isinstance(value, (int, float)) and value for value in found) else None
