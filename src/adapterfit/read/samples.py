"""Some numbers of a weight, from a file's bytes or from a live tensor: what tells one base from another of its shapes.

The places depend on the shape alone, and the numbers are taken as they stand, so that re-sharding, renaming a folder and
the way a model was opened change nothing; what a cast may change is `causes/sameness.py`'s business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from adapterfit import limits
from adapterfit.read.source import Source
from adapterfit.records import Shape, TensorInfo, WeightSample

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Numbers in a row at one place: a run costs one read.
_RUN = 4
_CHUNK = 1 << 22
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_CODES = {"F64": "d", "F32": "f", "F16": "e"}
#: torch's spelling → safetensors'.
_LIVE = {"torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}


@lru_cache(maxsize=4096)
def places(shape: Shape) -> tuple[tuple[int, int], ...]:
    """`(start, length)` of the runs in a weight of this shape, counted in numbers; the whole of a small one."""
    import hashlib
    import math

    count = math.prod(shape)
    if count <= limits.STAMP_VALUES:
        return ((0, count),) if count else ()
    name = "x".join(map(str, shape))
    drawn = (hashlib.sha256(f"{name} {at}".encode()).digest() for at in range(limits.STAMP_VALUES // _RUN))
    return tuple((int.from_bytes(each[:8], "big") % (count - _RUN + 1), _RUN) for each in drawn)


def of_file(source: Source, info: TensorInfo, *, full: bool = False) -> WeightSample | None:
    """A sample of a tensor in a file; None where its numbers are packed, of another type, or not in one piece.

    Raises:
        CannotCheck: The file changed while it was read.
    """
    size = _SIZES.get(info.dtype)
    if size is None or info.span is None:
        return None
    start = info.span[0]
    values: list[float] = []
    for at, count in places(info.shape):
        values += _decoded(source.read(info.file, start + at * size, count * size), info.dtype)
    digest = _digest(info.shape, _of_file(source, info, size)) if full else ""
    return WeightSample(info.shape, info.dtype, tuple(values), digest)


def of_live(parameter: Any, *, full: bool = False) -> WeightSample | None:
    """A sample of a live parameter; None where it is packed, on the meta device, or a part of the whole only."""
    dtype = _LIVE.get(str(parameter.dtype))
    sharded = hasattr(parameter, "ds_shape") or hasattr(parameter, "full_tensor")
    if dtype is None or sharded or parameter.device.type == "meta":
        return None
    shape = tuple(int(size) for size in parameter.shape)
    flat = parameter.detach().reshape(-1)
    values = [number for at, count in places(shape) for number in flat[at : at + count].tolist()]
    digest = _digest(shape, _of_live(flat)) if full else ""
    return WeightSample(shape, dtype, tuple(map(_single, values) if dtype == "F64" else values), digest)


def spread(names: Iterable[str], most: int) -> list[str]:
    """At most so many of the names, evenly chosen."""
    listed = list(names)
    return listed if len(listed) <= most else [listed[at * len(listed) // most] for at in range(most)]


# ------------------------------------------------------------------------------------------------ numbers


def _decoded(data: bytes, dtype: str) -> list[float]:
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + data[at : at + 2])[0] for at in range(0, len(data), 2)]
    numbers = struct.unpack(f"<{len(data) // _SIZES[dtype]}{_CODES[dtype]}", data)
    return [_single(number) for number in numbers] if dtype == "F64" else list(numbers)


def _single(number: float) -> float:
    """The number as float32 has it."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


# ------------------------------------------------------------------------------------------------ all of them


def _of_file(source: Source, info: TensorInfo, size: int) -> Iterator[Any]:
    import numpy as np

    start, end = info.span or (0, 0)
    for at in range(start, end, _CHUNK * size):
        data = source.read(info.file, at, min(_CHUNK * size, end - at))
        if info.dtype == "BF16":
            yield (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            yield np.frombuffer(data, f"<f{size}").astype(np.float32)


def _of_live(flat: Any) -> Iterator[Any]:
    for at in range(0, len(flat), _CHUNK):
        yield flat[at : at + _CHUNK].float().cpu().numpy()


def _digest(shape: Shape, chunks: Iterator[Any]) -> str:
    """SHA-256 of all numbers as bfloat16, to the nearest and at a tie to the even one; every NaN is the same NaN."""
    import hashlib

    import numpy as np

    found = hashlib.sha256("x".join(map(str, shape)).encode())
    for chunk in chunks:
        bits = np.ascontiguousarray(chunk, dtype="<f4").view(np.uint32)
        rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2")
        rounded[(bits & 0x7FFFFFFF) > 0x7F800000] = 0x7FC0
        found.update(rounded.tobytes())
    return found.hexdigest()[:32]


def of_files(source: Source, tensors: Mapping[str, TensorInfo], *, full: bool = False) -> dict[str, WeightSample]:
    """Samples by name, read in the order in which the numbers lie; tensors of which there is none are left out."""
    ordered = sorted(tensors.items(), key=lambda item: (item[1].file, item[1].span or (0, 0)))
    found = {name: of_file(source, info, full=full) for name, info in ordered}
    return {name: sample for name, sample in found.items() if sample is not None}
