"""Whether two samples are of the same weight, whatever it was cast to in between.

What is robust, exactly: a weight and what is left of it after a cast to float16 or to bfloat16 (to the nearest), in either
direction and whatever both are kept in now, are the same. Two casts of one float32 weight, one to float16 and one to
bfloat16, are the same within the sum of their roundings. A change that such a rounding explains is not seen; any other is,
if it touches one of the sampled numbers; with a digest on both sides, and neither in float16, any number at all.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable

from adapterfit.records import WeightSample

#: Half the spacing of bfloat16 and of float16, relative; and of float16's smallest numbers, absolute.
_NEAR, _TINY = 2.0**-8 + 2.0**-11, 2.0**-24


def same(one: WeightSample, other: WeightSample) -> bool | None:
    """Whether the two are of one weight; None where shapes differ, so that nothing can be said."""
    if one.shape != other.shape or len(one.values) != len(other.values):
        return None
    pairs = list(zip(one.values, other.values))
    swapped = [(after, before) for before, after in pairs]
    unchanged = one.values == other.values  # the usual case, and told at once
    if unchanged or any(_is_cast(each, rounded) for each in (pairs, swapped) for rounded in (float, _bfloat16)):
        decided = one.digest and other.digest and "F16" not in (one.dtype, other.dtype)
        return one.digest == other.digest if decided else True
    return _is_cast(pairs, _float16) or _is_cast(swapped, _float16) or _both_cast(one, other)


def _is_cast(pairs: Iterable[tuple[float, float]], rounded: Callable[[float], float]) -> bool:
    return all(_equal(rounded(before), after) for before, after in pairs)


def _both_cast(one: WeightSample, other: WeightSample) -> bool:
    """Two roundings of one weight: each side has only numbers of its own type, whatever they are kept in now."""
    if not (_all(one, _float16) and _all(other, _bfloat16)) and not (_all(one, _bfloat16) and _all(other, _float16)):
        return False
    return all(
        _equal(a, b) or abs(a - b) <= _NEAR * max(abs(a), abs(b)) + _TINY for a, b in zip(one.values, other.values)
    )


def _all(sample: WeightSample, rounded: Callable[[float], float]) -> bool:
    return all(_equal(rounded(number), number) for number in sample.values)


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _float16(number: float) -> float:
    try:
        return float(struct.unpack("<e", struct.pack("<e", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def _bfloat16(number: float) -> float:
    if not math.isfinite(number):
        return number
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(struct.unpack("<f", struct.pack("<I", kept))[0])
