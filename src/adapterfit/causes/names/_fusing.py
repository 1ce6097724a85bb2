"""A LoRA for one fused layer made into one for each of its parts, and the other way round. Both are exact.

With W = [W1; W2] stacked by rows, B A = [B1; B2] A: every part gets the whole A and its own rows of B. The other way,
[B1 A1; B2 A2] = diag(B1, B2) [A1; A2]: the ranks add up, and alpha grows with them so that the scale stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from adapterfit.causes import anatomy, evidence, reconfigure
from adapterfit.causes.reconfigure import Strength
from adapterfit.edits import Copy, Edit, Fill, Join, JoinDiagonal, Pad, Rename, Scale, Split
from adapterfit.records import Case, Diff, TensorInfo

if TYPE_CHECKING:
    from adapterfit.causes.names.fused_versus_split import Found

_A, _B = "lora_A.weight", "lora_B.weight"
#: One number per row of the layer: DoRA's magnitudes, the bias of `lora_bias`.
_PER_ROW = ("lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_B.bias")


class Cannot(Exception):
    """Why there is no exact cure."""


def cure(case: Case, diff: Diff, found: Iterable[Found], held: Mapping[str, list[TensorInfo]]) -> tuple[Edit, ...]:
    """The edits for all these layers, and the config that goes with them.

    Raises:
        Cannot: They would not be exact.
    """
    config = case.adapter.config
    if config is None or not reconfigure.is_plain(config.values):
        raise Cannot("this kind of LoRA is more than the product of two matrices")
    if config.values.get("target_parameters"):
        raise Cannot("the adapter has parameters of fused experts, too")
    ranks = reconfigure.ranks_in(anatomy.of_modules(case.adapter.tensors))
    now = reconfigure.strengths(config.values, ranks) if ranks is not None else None
    if now is None:
        raise Cannot("the config's ranks and those of the tensors differ")
    rslora = bool(config.values.get("use_rslora"))
    wanted, made = dict(now), []
    for one in found:
        leaves = [_leaves(held[name]) for name in one.file]
        parts = [wanted.pop(name) for name in one.file]
        if len(one.file) < len(one.base):
            made += list(_split(one, leaves[0]))
            wanted.update(dict.fromkeys(one.base, parts[0]))
        else:
            whole = reconfigure.stretched(parts[0], sum(part.rank for part in parts), rslora=rslora)
            made += list(_fuse(one, leaves, [_ratio(part, parts[0], rslora=rslora) for part in parts]))
            wanted[one.base[0]] = whole
    return (*made, *reconfigure.edits(case, diff.expectation.tree, wanted))


def _ratio(one: Strength, first: Strength, *, rslora: bool) -> float:
    wanted, given = (reconfigure.scale(each, rslora=rslora) for each in (first, one))
    if given != wanted and not (given and wanted):
        raise Cannot("a part is scaled by zero")
    return 1.0 if given == wanted else given / wanted


def _leaves(tensors: list[TensorInfo]) -> dict[str, TensorInfo]:
    found = {evidence.parts(tensor.name).leaf: tensor for tensor in tensors}
    if len(found) != len(tensors) or set(found) - {_A, _B, *_PER_ROW} or not {_A, _B} <= set(found):
        raise Cannot("these layers hold more than lora_A and lora_B")
    if any(len(found[leaf].shape) != 2 for leaf in (_A, _B)):
        raise Cannot("lora_A and lora_B are no matrices")
    return found


def _key(module: str, leaf: str) -> str:
    return f"{evidence.PREFIX}{module}.{leaf}"


def _split(one: Found, leaves: Mapping[str, TensorInfo]) -> Iterator[Edit]:
    """The whole A for every part, the rows of everything else cut."""
    for leaf, tensor in leaves.items():
        names = [_key(module, leaf) for module in one.base]
        if leaf != _A:
            yield Split(tensor.name, 0, tuple(zip(names, one.heights)))
            continue
        for name in names[:-1]:
            yield Copy(tensor.name, name)
        yield Rename(tensor.name, names[-1])


def _fuse(one: Found, parts: list[dict[str, TensorInfo]], ratios: list[float]) -> Iterator[Edit]:
    """A stacked, B on a block diagonal with empty rows for parts that have no adapter."""
    if len({tensor.dtype for part in parts for tensor in part.values()}) != 1:
        raise Cannot("the parts are stored in different types")
    if any(set(part) != set(parts[0]) for part in parts) or (any(one.gaps) and len(parts[0]) > 2):
        raise Cannot("only some of the parts have DoRA's magnitudes or a bias")
    whole = one.base[0]
    for leaf in parts[0]:
        names = tuple(part[leaf].name for part in parts)
        if leaf == _B:
            yield from (Scale(name, ratio) for name, ratio in zip(names, ratios) if ratio != 1.0)
            yield from _rows(one, [part[_B] for part in parts])
            yield JoinDiagonal(names, _key(whole, leaf)) if len(names) > 1 else Rename(names[0], _key(whole, leaf))
        elif len(names) > 1:
            yield Join(names, _key(whole, leaf), 0)
        else:
            yield Rename(names[0], _key(whole, leaf))


def _rows(one: Found, tensors: list[TensorInfo]) -> Iterator[Edit]:
    """Empty rows before the first B, and behind each."""
    before, *behind = one.gaps or (0,) * (len(tensors) + 1)
    first = tensors[0]
    for at, (tensor, gap) in enumerate(zip(tensors, behind)):
        if gap:
            yield Pad(tensor.name, 0, tensor.shape[0] + gap)
        if at == 0 and before:
            empty = f"{first.name}.before"
            yield Fill(empty, (before, first.shape[1]), first.dtype, 0.0)
            yield Join((empty, first.name), first.name, 0)
