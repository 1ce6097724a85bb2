"""The closed set of edits a cure may consist of. Pure data; `plan` tries them on records, `repair` carries them out.

Edits are applied in the order of their list. Each names tensors by the name they have at that moment; only renames that
follow each other directly happen at once, so that two tensors can exchange names. An edit that cannot be carried out (no
such tensor, a name that is taken, sizes that do not add up) raises `BadEdit`. An `axis` counts from 0; a dtype is written
as safetensors does (`F32`, `BF16`).
"""

from __future__ import annotations

from typing import Any, Union

from adapterfit.record import dataclass


@dataclass(frozen=True)
class Rename:
    """Give a tensor another name; its bytes stay."""

    old: str
    new: str


@dataclass(frozen=True)
class Drop:
    """Leave a tensor out."""

    name: str


@dataclass(frozen=True)
class Copy:
    """A second tensor with the same numbers under the name `new`; the first stays."""

    name: str
    new: str


@dataclass(frozen=True)
class Transpose:
    """Order the axes anew, as numpy does: axis i of the result is axis `axes[i]` of the tensor. `axes` is a permutation."""

    name: str
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Reshape:
    """The same numbers in the same (row-major) order under another shape of as many numbers."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Cast:
    """Another floating-point type, rounded to nearest even: F64, F32, F16 or BF16, from one of these."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Scale:
    """Multiply by a finite number; computed in float64, then rounded to the tensor's own floating-point type."""

    name: str
    factor: float


@dataclass(frozen=True)
class Split:
    """Cut into pieces along `axis`, in order; the sizes add up to the tensor's. The tensor itself is gone afterwards."""

    name: str
    axis: int
    into: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Join:
    """Put tensors of one dtype, equal on all other axes, one behind the other along `axis`. They are gone afterwards."""

    names: tuple[str, ...]
    new: str
    axis: int


@dataclass(frozen=True)
class JoinDiagonal:
    """Matrices of one dtype as the blocks of a block-diagonal one, zeros elsewhere: (a, b) and (c, d) give (a + c, b + d).

    With the LoRA A of each joined along axis 0 this is the exact product of a fused layer: B' A' = [B1 A1; B2 A2].
    """

    names: tuple[str, ...]
    new: str


@dataclass(frozen=True)
class Pad:
    """Zeros behind the last entry along `axis`, until it has `size` (at least what it has)."""

    name: str
    axis: int
    size: int


@dataclass(frozen=True)
class Trim:
    """Only the first `size` entries along `axis` (at most what it has)."""

    name: str
    axis: int
    size: int


@dataclass(frozen=True)
class Extend:
    """Rows of the base's own weight behind the last row: `rows` of them, the bytes `[start, end)` of a `file` of the base.

    `dtype` is what they are stored as: the tensor's own, or one that it holds exactly (F16 and BF16 in F32). `sha256` is of
    those bytes; other ones are not what the plan was made for.
    """

    name: str
    file: str
    start: int
    end: int
    rows: int
    dtype: str
    sha256: str


@dataclass(frozen=True)
class Fill:
    """A new tensor, every number of it `value`; a floating-point dtype."""

    new: str
    shape: tuple[int, ...]
    dtype: str
    value: float


@dataclass(frozen=True)
class Gather:
    """Take the whole tensors of these files as the weights: shards, a file under another name, a file that is cut off.

    It comes before any other edit. No two of the tensors have one name. What is written is one file, as with `SetFormat`.
    """

    files: tuple[str, ...]


@dataclass(frozen=True)
class SetFormat:
    """Write the weights as `adapter_model.safetensors`, whatever they were read from. The one `format`: safetensors."""

    format: str = "safetensors"


@dataclass(frozen=True)
class SetConfig:
    """Set a field of `adapter_config.json`; the file is made where there is none."""

    key: str
    value: Any


@dataclass(frozen=True)
class DropConfig:
    """Leave a field of `adapter_config.json` out; nothing where it is not there."""

    key: str


Edit = Union[
    Rename,
    Drop,
    Copy,
    Transpose,
    Reshape,
    Cast,
    Scale,
    Split,
    Join,
    JoinDiagonal,
    Pad,
    Trim,
    Extend,
    Fill,
    Gather,
    SetFormat,
    SetConfig,
    DropConfig,
]
#: What stands before the name of a file of the base, where those of both are read: no file of a folder has such a name.
OF_BASE = "\0base:"
#: Types of which the second holds every number of the first, where a tensor is filled up from another.
WIDENS = frozenset({("F16", "F32"), ("BF16", "F32"), ("F16", "F64"), ("BF16", "F64")})
#: Edits that compute: their numbers may be rounded. Every other edit moves bits unchanged (and adds zeros or constants).
ARITHMETIC = (Cast, Scale)
#: Edits of the config alone.
OF_CONFIG = (SetConfig, DropConfig)
#: Edits that name no tensor.
OF_NO_TENSOR = (Gather, SetFormat, *OF_CONFIG)


def is_bit_exact(edit: Edit) -> bool:
    """Whether every number that the edit keeps has the same bits afterwards."""
    return not isinstance(edit, ARITHMETIC)


def uses(edit: Edit) -> tuple[str, ...]:
    """The tensors that an edit names as they are before it."""
    if isinstance(edit, Rename):
        return (edit.old,)
    if isinstance(edit, (Join, JoinDiagonal)):
        return edit.names
    return () if isinstance(edit, (Fill, *OF_NO_TENSOR)) else (edit.name,)


def makes(edit: Edit) -> tuple[str, ...]:
    """The tensors that are there after the edit and that it made or changed."""
    if isinstance(edit, (Rename, Copy, Join, JoinDiagonal, Fill)):
        return (edit.new,)
    if isinstance(edit, Split):
        return tuple(name for name, _ in edit.into)
    return () if isinstance(edit, (Drop, *OF_NO_TENSOR)) else (edit.name,)
