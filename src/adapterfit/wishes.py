"""Repairs that no finding asks for, but the user, or the base's own numbers: beside the pipeline, and imported by `fix` alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.edits import Drop, SetConfig
from adapterfit.expect.places import places
from adapterfit.plans import Step
from adapterfit.record import dataclass
from adapterfit.records import DTYPE_BITS, TensorInfo
from adapterfit.text import quote, shorten
from adapterfit.verify.replay import Held, as_numbers, bits

if TYPE_CHECKING:
    from adapterfit.read.source import Source
    from adapterfit.records import Base, Report

_PREFIX = "base_model.model."
_FLOATS = ("F64", "F32", "F16", "BF16")
#: Numbers compared at once.
_NUMBERS = 1 << 20


@dataclass(frozen=True)
class Wishes:
    """What is wanted beside an adapter that fits.

    `base_name` is to stand in its config; `drop_copies`: weights that the base has anyway are left out.
    """

    base_name: str | None = None
    drop_copies: bool = False


def steps(now: Report, source: Source, wishes: Wishes) -> tuple[Step, ...]:
    """The steps that come after all cures.

    Args:
        now: The report on the adapter after the cures, on the records.
        source: The adapter's files.
        wishes: What the user asked for.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    return (*_named(now, wishes.base_name), *_copies(now, source, wishes))


def _named(now: Report, name: str | None) -> Iterator[Step]:
    config = now.case.adapter.config
    if name is None or config is None or config.raw.get("base_model_name_or_path") == name:
        return
    was = quote(config.raw.get("base_model_name_or_path"), 200)
    yield Step(
        "base-name-differs",
        f"adapter_config.json names the base {was}; --base-name asks for {quote(name, 200)}",
        f"set base_model_name_or_path to {quote(name, 200)}",
        "safe",
        (SetConfig("base_model_name_or_path", name),),
    )


# ------------------------------------------------------------------------------------------------ the base's own numbers


def _copies(now: Report, source: Source, wishes: Wishes) -> Iterator[Step]:
    """Weights of the base's own that hold the same numbers: needless, or of another number of rows."""
    base, diff = now.case.base, now.diff
    if base is None or diff is None or base.opened is None:
        return
    equal = list(diff.overwrites) if wishes.drop_copies else []
    unequal = [
        each.tensor for each in diff.misshapen if each.wanted[1:] == each.tensor.shape[1:] and _parameter(each.tensor)
    ]
    if not equal and not unequal:
        return
    theirs = _weights(base, diff.expectation.tree.class_name, diff.expectation.tree.tied)
    with contextlib.closing(base.opened):
        same = [
            (mine, theirs[_parameter(mine)])
            for mine in (*equal, *unequal)
            if _parameter(mine) in theirs
            and mine.shape[1:] == theirs[_parameter(mine)].shape[1:]
            and same_rows(source, mine, base.opened, theirs[_parameter(mine)])
        ]
    needless = [mine for mine, own in same if mine.shape == own.shape]
    fewer = [mine for mine, own in same if mine.shape[0] < own.shape[0]]
    more = [(mine, own.shape[0]) for mine, own in same if mine.shape[0] > own.shape[0]]
    if needless or fewer:
        yield _left_out([*needless, *fewer], "every row of it has the base's own numbers", "safe", "")
    if more:
        rows = max(mine.shape[0] - own for mine, own in more)
        tokens = now.case.adapter.tokenizer_rows
        of_no_token = tokens is not None and all(tokens <= own for _, own in more)
        said = f"its first rows have the base's own numbers, {rows:,} more follow"
        said += f", which belong to no token: the tokenizer beside the adapter has {tokens:,}" if of_no_token else ""
        far = "" if of_no_token else f"{rows:,} rows are lost: tokens that were added have no embedding then"
        yield _left_out([mine for mine, _ in more], said, "safe" if of_no_token else "unsafe", far)


def _left_out(tensors: list[TensorInfo], why: str, safety: str, far: str) -> Step:
    names = shorten(quote(each.name) for each in tensors)
    return Step(
        "embeddings-saved-needlessly",
        f"the file carries {names}: {why}",
        "leave the copy of the base's own weight out: the base's then stays",
        safety,
        tuple(Drop(each.name) for each in tensors),
        far,
    )


def _parameter(tensor: TensorInfo) -> str:
    """The base's own parameter that a tensor lands on; empty where it lands on none."""
    if not tensor.name.startswith(_PREFIX) or not tensor.name.endswith(".weight") or ".lora_" in tensor.name:
        return ""
    return tensor.name[len(_PREFIX) :].replace(".base_layer.weight", ".weight")


def _weights(base: Base, class_name: str, tied: Any) -> Mapping[str, TensorInfo]:
    """The base's tensors by the names of its parameters, tied ones under each of theirs."""
    found = dict(places(base, class_name))
    for group in tied:
        held = next((found[name] for name in group if name in found), None)
        found.update({name: held for name in group if held is not None and name not in found})
    return found


def same_rows(mine_in: Source, mine: TensorInfo, base_in: Source, own: TensorInfo) -> bool:
    """Whether two weights have the same numbers in every row that both have; another type is compared by value.

    Two zeros of unlike sign are not the same. A weight that does not lie in one piece, or is packed, is not compared.
    """
    if mine.span is None or own.span is None or not mine.shape or not own.shape:
        return False
    if mine.dtype != own.dtype and not {mine.dtype, own.dtype} <= set(_FLOATS):
        return False
    rows, width = min(mine.shape[0], own.shape[0]), math.prod(mine.shape[1:])
    step = max(1, _NUMBERS // max(1, width))
    for start in range(0, rows, step):
        count = min(step, rows - start)
        if not _alike(_slice(mine_in, mine, start, count), _slice(base_in, own, start, count)):
            return False
    return True


def _slice(source: Source, info: TensorInfo, start: int, count: int) -> Held:
    width = math.prod(info.shape[1:])
    row = width * DTYPE_BITS[info.dtype] // 8
    first = (info.span or (0, 0))[0] + start * row
    part = TensorInfo(info.name, info.dtype, (count, width), info.file, (first, first + count * row))
    return Held(info.dtype, part.shape, array=bits(source, part))


def _alike(mine: Held, own: Held) -> bool:
    import numpy as np

    if mine.dtype == own.dtype:
        return bool(np.array_equal(mine.array, own.array))
    ours, theirs = as_numbers(mine), as_numbers(own)
    return bool(np.array_equal(ours, theirs) and np.array_equal(np.signbit(ours), np.signbit(theirs)))
