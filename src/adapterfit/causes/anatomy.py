"""What a tuner's tensor says about the module it was made for: its width, its height, and the rank.

A tensor's *leaf* is what follows the module's path in its name (`lora_A.weight`). Shapes as PEFT 0.21.2 saves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from adapterfit.causes import evidence
from adapterfit.computed import by_name
from adapterfit.records import Diff, Module, Shape, Slot, TensorInfo


class Axes(NamedTuple):
    """Which axis of a tensor is the rank, which the module's size, and whether that is its `in` or its `out`."""

    rank: int | None
    size: int | None
    side: str = ""


#: Leaf → axes. A method that is not here says too little about its module by shape alone.
AXES: Mapping[str, Axes] = {
    "lora_A.weight": Axes(0, 1, "in"),
    "lora_B.weight": Axes(1, 0, "out"),
    "lora_B.bias": Axes(None, 0, "out"),
    "lora_A": Axes(0, 1, "in"),
    "lora_B": Axes(1, 0, "out"),
    "lora_E": Axes(0, None),
    "lora_embedding_A": Axes(0, 1, "in"),
    "lora_embedding_B": Axes(1, 0, "out"),
    "hada_w1_a": Axes(1, 0, "out"),
    "hada_w1_b": Axes(0, 1, "in"),
    "hada_w2_a": Axes(1, 0, "out"),
    "hada_w2_b": Axes(0, 1, "in"),
}
_MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude_vector.weight")
_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
_WRAPPED = ("Linear", "Conv1D", "Embedding", *_CONVOLUTIONS)


def sides(module: Module | None) -> Mapping[str, int]:
    """`in` and `out` of a module that a tuner can wrap; empty for any other, and for none."""
    weight = module.params.get("weight", ()) if module is not None else ()
    if module is None or module.kind not in _WRAPPED or len(weight) < 2:
        return {}
    if module.kind in ("Conv1D", "Embedding"):
        return {"in": weight[0], "out": weight[1]}
    groups = module.groups if module.kind in _CONVOLUTIONS else 1
    return {"in": weight[1] * groups, "out": weight[0]}


def size(leaf: str, shape: Shape) -> tuple[str, int] | None:
    """Which side of its module a tensor shows, and how large it is; None where the shape does not say."""
    axes = AXES.get(leaf)
    if axes is not None and axes.size is not None and axes.size < len(shape):
        return axes.side, shape[axes.size]
    if leaf in _MAGNITUDES and shape:
        return "out", shape[0] if len(shape) == 1 else shape[1]
    if leaf == "ia3_l" and len(shape) > 1:
        return ("in", shape[1]) if shape[0] == 1 else ("out", shape[0])
    return None


def lokr_sides(tensors: Iterable[TensorInfo]) -> Mapping[str, int]:
    """`in` and `out` of a LoKr module: the products of its two factors' sizes; empty where a factor is not there."""
    shapes = {evidence.parts(tensor.name).leaf: tensor.shape for tensor in tensors}
    found = {"in": 1, "out": 1}
    for factor in ("lokr_w1", "lokr_w2"):
        rows = shapes.get(factor) or shapes.get(f"{factor}_a")
        columns = shapes.get(factor) or shapes.get(f"{factor}_b")
        if rows is None or columns is None or len(rows) != 2 or len(columns) != 2:
            return {}
        found = {"in": found["in"] * columns[1], "out": found["out"] * rows[0]}
    return found


def rank(leaf: str, shape: Shape) -> int | None:
    """The rank a tensor has; None for one that has none."""
    axes = AXES.get(leaf)
    return shape[axes.rank] if axes is not None and axes.rank is not None and axes.rank < len(shape) else None


def belongs(module: Module | None, leaf: str, shape: Shape) -> bool:
    """Whether a tensor of this leaf and shape, whatever its rank, can be this module's."""
    own = sides(module)
    if module is None or not own or ("embedding" in leaf and module.kind != "Embedding"):
        return False
    known = size(leaf, shape)
    if known is None:
        return True
    flat = leaf in _MAGNITUDES or leaf in ("lora_B.bias", "ia3_l")
    return own[known[0]] == known[1] and (flat or len(shape) in (2, len(module.params["weight"])))


def holder(name: str, by_name: Mapping[str, Module]) -> str:
    """The fused module of that path, also under the name that transformers 5 gives its parent."""
    for path in (name, name.replace(".block_sparse_moe.", ".mlp.")):
        if of_experts(by_name.get(path)):
            return path
    return ""


def of_experts(module: Module | None) -> dict[str, Shape]:
    """The three-dimensional parameters of a module."""
    return {name: shape for name, shape in module.params.items() if len(shape) == 3} if module is not None else {}


def modules(diff: Diff) -> Mapping[str, Module]:
    """The base's modules by name."""
    return by_name(diff.expectation.tree)


def of_modules(tensors: Iterable[TensorInfo]) -> Mapping[str, list[TensorInfo]]:
    """The tensors of tuner layers by the module they are made for, in the file's order."""
    found: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        parts = evidence.parts(tensor.name)
        if parts.leaf and parts.prefixed and not parts.leaf.startswith("trainable_tokens_"):
            found.setdefault(parts.module, []).append(tensor)
    return found


def sit(diff: Diff, names: Mapping[TensorInfo, str]) -> bool:
    """Whether every tensor, under its new name, has a module or parameter of the base that it can be for.

    Unlike `evidence.lands` this asks the base alone, not the config: it also answers where the config selects other
    modules, or none.
    """
    by_name = modules(diff)
    taken = list(names.values())
    alone = len(set(taken)) == len(taken)
    slots = evidence.slots_by_key(diff)  # those of `target_parameters` lie on no module of their own
    there = (_sits(by_name, tensor, name) or _has_slot(slots, tensor, name) for tensor, name in names.items())
    if not alone or not all(there):
        return False
    return _lokr_sits(by_name, names) and _slots_agree(diff, names)


def _has_slot(slots: Mapping[str, Slot], tensor: TensorInfo, name: str) -> bool:
    return name in slots and slots[name].shape == tensor.shape


def _slots_agree(diff: Diff, names: Mapping[TensorInfo, str]) -> bool:
    """Whether tensors whose shape says nothing about a module have the one of their slot, where there is one."""
    slots = evidence.slots_by_key(diff)
    silent = ((tensor, slots[name]) for tensor, name in names.items() if name in slots and _is_silent(tensor, name))
    return all(tensor.shape == slot.shape for tensor, slot in silent)


def _is_silent(tensor: TensorInfo, name: str) -> bool:
    return size(evidence.parts(name).leaf, tensor.shape) is None


def _lokr_sits(by_name: Mapping[str, Module], names: Mapping[TensorInfo, str]) -> bool:
    """Whether the factors of every LoKr module make its sizes; no single one of them shows these."""
    held: dict[str, list[TensorInfo]] = {}
    for tensor, name in names.items():
        if evidence.parts(name).leaf.startswith("lokr_"):
            held.setdefault(evidence.parts(name).module, []).append(tensor)
    made = {module: lokr_sides(tensors) for module, tensors in held.items()}
    return all(not own or own == sides(by_name.get(module)) for module, own in made.items())


def _sits(by_name: Mapping[str, Module], tensor: TensorInfo, name: str) -> bool:
    parts = evidence.parts(name)
    if not parts.prefixed:
        return False
    if parts.leaf:
        return belongs(by_name.get(parts.module), parts.leaf, tensor.shape)
    path, _, param = parts.module.replace(".base_layer.", ".").rpartition(".")
    module = by_name.get(path)
    return module is not None and module.params.get(param) == tensor.shape
