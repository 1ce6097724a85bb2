"""Numbers stored as another type because the user asks for it: safe where none of them is rounded, else with how far it goes.

Beside the pipeline, and imported by `fix` alone: a check reads no numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from adapterfit.edits import WIDENS, Cast
from adapterfit.plans import Step
from adapterfit.records import DTYPE_BITS, TensorInfo
from adapterfit.repair import numbers

if TYPE_CHECKING:
    from adapterfit.read.source import Source
    from adapterfit.records import Report

_FLOATS = ("F64", "F32", "F16", "BF16")
#: Types of which the second holds every number of the first.
_HELD = WIDENS | {("F32", "F64")}
#: Numbers compared at once.
_NUMBERS = 1 << 20


class _Loss(NamedTuple):
    """How far the numbers of a tensor are off, relative to its largest; how many become infinite; False: not measured."""

    off: float = 0.0
    infinite: int = 0
    measured: bool = True


def steps(now: Report, source: Source, dtype: str | None) -> Iterator[Step]:
    """One step for all floating-point tensors of another type.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    others = [one for one in now.case.adapter.tensors if one.dtype in _FLOATS and one.dtype != dtype]
    if dtype is None or not others:
        return
    losses = [_loss(source, one, dtype) for one in others]
    rounded = [one for one in losses if one != _Loss()]
    was = " and ".join(sorted({one.dtype for one in others}))
    yield Step(
        "dtype-wished",
        f"{len(others):,} tensors are stored as {was}; --dtype asks for {dtype}",
        f"store them as {dtype}" + ("" if rounded else ": every number stays what it is"),
        "unsafe" if rounded else "safe",
        tuple(Cast(one.name, dtype) for one in others),
        _far(rounded, len(others)) if rounded else "",
    )


def _far(rounded: list[_Loss], count: int) -> str:
    said = f"numbers of {len(rounded):,} of {count:,} tensors are rounded, by up to {max(one.off for one in rounded):.1e} of the largest of their tensor"
    infinite = sum(one.infinite for one in rounded)
    unseen = sum(not one.measured for one in rounded)
    said += f"; {infinite:,} numbers are too large and become infinite" if infinite else ""
    return said + (f"; {unseen:,} tensors were not measured" if unseen else "")


def _loss(source: Source, info: TensorInfo, dtype: str) -> _Loss:
    """What a cast changes: read in pieces, and compared with what comes back."""
    if (info.dtype, dtype) in _HELD:
        return _Loss()
    if info.span is None:
        return _Loss(measured=False)
    import numpy as np

    off = largest = 0.0
    infinite = 0
    for bits in _pieces(source, info):
        before = numbers.to_float64(bits, info.dtype)
        after = numbers.to_float64(numbers.cast(bits, info.dtype, dtype), dtype)
        finite = np.isfinite(before)
        infinite += int((finite & ~np.isfinite(after)).sum())
        largest = max(largest, float(np.max(np.abs(before), initial=0.0, where=finite)))
        both = finite & np.isfinite(after)
        with np.errstate(all="ignore"):
            off = max(off, float(np.max(np.abs(before - after), initial=0.0, where=both)))
    return _Loss(off / largest if largest else off, infinite)


def _pieces(source: Source, info: TensorInfo) -> Iterator[Any]:
    start, _ = info.span or (0, 0)
    width, count = DTYPE_BITS[info.dtype] // 8, math.prod(info.shape)
    for at in range(0, count, _NUMBERS):
        some = min(_NUMBERS, count - at)
        first = start + at * width
        yield numbers.read(source, TensorInfo(info.name, info.dtype, (some,), info.file, (first, first + some * width)))
