"""Embeddings beside the base's own numbers: copies of them are left out, trained ones get the base's number of rows.

Beside the pipeline, and imported by `fix` alone: a check reads no numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from adapterfit.edits import WIDENS, Drop, Edit, Extend, Pad, Trim
from adapterfit.expect.places import places
from adapterfit.plans import Step
from adapterfit.records import DTYPE_BITS, Misshape, TensorInfo
from adapterfit.text import quote, shorten
from adapterfit.verify.replay import Held, as_numbers, bits

if TYPE_CHECKING:
    from adapterfit.read.source import Source
    from adapterfit.records import Base, Diff, ModuleTree, Report

_PREFIX = "base_model.model."
_FLOATS = ("F64", "F32", "F16", "BF16")
_SAVED = ".modules_to_save."
#: How PEFT calls the base's own weight below a layer that it put around it.
_ITSELF = (".base_layer.weight", ".original_module.weight")
#: Numbers compared at once.
_NUMBERS = 1 << 20


def steps(now: Report, source: Source, *, drop_copies: bool) -> Iterator[Step]:
    """What is to be done about embeddings and heads.

    Args:
        now: The report on the adapter after the cures, on the records.
        source: The adapter's files.
        drop_copies: Whether copies are left out that hinder nobody.

    Raises:
        CannotCheck: A file changed while it was read.
    """
    base, diff = now.case.base, now.diff
    if base is None or diff is None or base.opened is None or not (drop_copies or diff.misshapen):
        return
    theirs = weights_of(base, diff.expectation.tree.class_name, diff.expectation.tree.tied)
    with contextlib.closing(base.opened):
        sight = _Sight(now, diff, source, base.opened, theirs)
        yield from _copies(sight, list(diff.overwrites) if drop_copies else [])
        yield from _resized(sight)


class _Sight(NamedTuple):
    """What the steps are made from: the report, both places numbers are read from, and the base's tensors by parameter."""

    now: Report
    diff: Diff
    mine: Source
    base: Source
    theirs: Mapping[str, TensorInfo]

    @property
    def tokens(self) -> int | None:
        return self.now.case.adapter.tokenizer_rows

    def own(self, parameter: str) -> TensorInfo | None:
        """The base's tensor of a parameter."""
        return self.theirs.get(parameter)


# ------------------------------------------------------------------------------------------------ copies


def _copies(sight: _Sight, equal: list[TensorInfo]) -> Iterator[Step]:
    """Weights of the base's own that hold the same numbers: needless, or of another number of rows."""
    same = [(mine, own) for mine in (*equal, *_unequal(sight.diff)) if (own := _same(sight, mine)) is not None]
    needless = [mine for mine, own in same if mine.shape[0] <= own.shape[0]]
    more = [(mine, own.shape[0]) for mine, own in same if mine.shape[0] > own.shape[0]]
    if needless:
        yield _left_out(needless, "every row of it has the base's own numbers", "safe", "")
    if more:
        rows = max(mine.shape[0] - own for mine, own in more)
        of_no_token = sight.tokens is not None and all(sight.tokens <= own for _, own in more)
        said = f"its first rows have the base's own numbers, {rows:,} more follow"
        said += (
            f", which belong to no token: the tokenizer beside the adapter has {sight.tokens:,}" if of_no_token else ""
        )
        far = "" if of_no_token else f"{rows:,} rows are lost: tokens that were added have no embedding then"
        yield _left_out([mine for mine, _ in more], said, "safe" if of_no_token else "unsafe", far)


def _unequal(diff: Diff) -> list[TensorInfo]:
    """Copies of the base's weights that differ in the number of rows; modules that were trained whole are none."""
    return [
        each.tensor
        for each in diff.misshapen
        if each.wanted[1:] == each.tensor.shape[1:] and _parameter(each.tensor) and _SAVED not in each.model_key
    ]


def _same(sight: _Sight, mine: TensorInfo) -> TensorInfo | None:
    """The base's weight that a tensor has the numbers of, in all rows that both have."""
    own = sight.own(_parameter(mine))
    if own is None or mine.shape[1:] != own.shape[1:] or not same_rows(sight.mine, mine, sight.base, own):
        return None
    return own


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


# ------------------------------------------------------------------------------------------------ trained rows


class _Sized(NamedTuple):
    """A trained tensor with another number of rows than the base: what mends it, and why that may not be safe, else empty."""

    name: str
    rows: int
    wanted: int
    edits: tuple[Edit, ...]
    doubt: str


def _resized(sight: _Sight) -> Iterator[Step]:
    """Trained embeddings, heads and their LoRA with the base's number of rows; nothing where anything else differs, too."""
    copies = {one.name for one in _unequal(sight.diff)}
    left = [each for each in sight.diff.misshapen if each.tensor.name not in copies]
    found = [_sized(sight, each) for each in left]
    if not left or any(one is None for one in found):
        return
    for more in (False, True):
        group = [one for one in found if one is not None and (one.rows > one.wanted) is more]
        if group:
            yield _step(group, more=more)


def _step(group: list[_Sized], *, more: bool) -> Step:
    first, doubts = group[0], list(dict.fromkeys(one.doubt for one in group if one.doubt))
    names = shorten(quote(one.name) for one in group)
    count = abs(first.rows - first.wanted)
    how = f"cut off the last {count:,} rows" if more else f"let the base's own last {count:,} rows stand behind them"
    return Step(
        "vocabulary-grown" if more else "vocabulary-shrunk",
        f"{names}: {first.rows:,} rows, where the base has {first.wanted:,}",
        how,
        "unsafe" if doubts else "safe",
        tuple(edit for one in group for edit in one.edits),
        "; ".join(doubts),
    )


def _sized(sight: _Sight, each: Misshape) -> _Sized | None:
    """What gives one tensor the base's number of rows; None where that is not known."""
    leaf = each.tensor.name.rpartition(f"{each.module}.")[2] if each.module else ""
    axis = 1 if leaf.startswith("lora_embedding_A") else 0
    adapted = leaf.startswith(("lora_embedding_A", "lora_B."))
    if len(each.found) != len(each.wanted) or each.found != each.tensor.shape:
        return None
    if any(one != other for at, (one, other) in enumerate(zip(each.found, each.wanted)) if at != axis):
        return None
    if not _has_rows(sight.diff.expectation.tree, each.module):
        return None
    if adapted:
        return None if sight.diff.expectation.config.get("use_dora") else _adapted(sight, each, axis)
    return _saved(sight, each) if _SAVED in each.model_key else None


def _adapted(sight: _Sight, each: Misshape, axis: int) -> _Sized:
    """A LoRA: rows that it does not have are not changed, which zeros say exactly."""
    rows, wanted = each.found[axis], each.wanted[axis]
    proven = any(
        _parameter(one) == f"{each.module}.weight" and _same(sight, one) is not None for one in _unequal(sight.diff)
    )
    doubt = _doubt(sight, each.module, rows, wanted) or ("" if proven else _UNKNOWN_BASE)
    edit: Edit = Trim(each.tensor.name, axis, wanted) if rows > wanted else Pad(each.tensor.name, axis, wanted)
    return _Sized(each.tensor.name, rows, wanted, (edit,), doubt)


#: Another base of the same sizes would look like this.
_UNKNOWN_BASE = "nothing in the file shows that this is the base of the training"


def _saved(sight: _Sight, each: Misshape) -> _Sized | None:
    """A module that was trained whole: rows that it does not have are the base's own."""
    mine, own = each.tensor, sight.own(f"{each.module}.weight")
    rows, wanted = each.found[0], each.wanted[0]
    if own is None or own.shape != each.wanted or own.span is None:
        return None
    equal, telling = equal_rows(sight.mine, mine, sight.base, own)
    untouched = equal == min(rows, wanted)
    doubt = "" if telling else _UNKNOWN_BASE
    if not untouched or rows > wanted:
        doubt = _doubt(sight, each.module, rows, wanted) or doubt
    edit = Trim(mine.name, 0, wanted) if rows > wanted else _extend(sight, mine, own)
    # With resized embeddings PEFT writes a trained one twice, and reads one of them.
    second = f"{_PREFIX}{each.module}{_SAVED}weight"
    twice = [Drop(one.name) for one in sight.diff.extra if one.name == second and one.shape == mine.shape]
    return _Sized(mine.name, rows, wanted, (edit, *twice), doubt) if edit is not None else None


def _extend(sight: _Sight, mine: TensorInfo, own: TensorInfo) -> Extend | None:
    """The base's rows that the tensor lacks; None where it does not hold their numbers exactly."""
    if own.span is None or (mine.dtype != own.dtype and (own.dtype, mine.dtype) not in WIDENS):
        return None
    start = own.span[0] + mine.shape[0] * (own.span[1] - own.span[0]) // own.shape[0]
    digest = hashlib.sha256(sight.base.read(own.file, start, own.span[1] - start)).hexdigest()
    return Extend(mine.name, own.file, start, own.span[1], own.shape[0] - mine.shape[0], own.dtype, digest)


def _doubt(sight: _Sight, module: str, rows: int, wanted: int) -> str:
    """What another number of rows changes for the tokens that the adapter was trained with; empty where it is nothing."""
    count = abs(rows - wanted)
    if rows > wanted and (sight.tokens is None or sight.tokens > wanted):
        return f"{count:,} rows are lost: tokens that were added have no embedding then"
    tree = sight.diff.expectation.tree
    if module == tree.input_embeddings and not sight.diff.expectation.config.get("ensure_weight_tying"):
        return ""
    return f"the model has {count:,} logits {'fewer' if rows > wanted else 'more'} than in training"


def _has_rows(tree: ModuleTree, module: str) -> bool:
    """Whether a module has a row for each token."""
    ends = {name for name in (tree.input_embeddings, tree.output_embeddings) if name}
    return module in ends


# ------------------------------------------------------------------------------------------------ numbers


def _parameter(tensor: TensorInfo) -> str:
    """The base's own parameter that a tensor lands on; empty where it lands on none."""
    if not tensor.name.startswith(_PREFIX) or not tensor.name.endswith(".weight") or ".lora_" in tensor.name:
        return ""
    name = tensor.name[len(_PREFIX) :]
    return next((f"{name[: -len(end)]}.weight" for end in _ITSELF if name.endswith(end)), name)


def weights_of(base: Base, class_name: str, tied: Any) -> Mapping[str, TensorInfo]:
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
    if not _comparable(mine, own):
        return False
    return all(alike.all() for alike, _ in _rows_alike(mine_in, mine, base_in, own))


def equal_rows(mine_in: Source, mine: TensorInfo, base_in: Source, own: TensorInfo) -> tuple[int, int]:
    """In how many of the rows that both have two weights have the same numbers; and in how many of these not all are zero."""
    if not _comparable(mine, own):
        return 0, 0
    equal = telling = 0
    for alike, empty in _rows_alike(mine_in, mine, base_in, own):
        equal += int(alike.sum())
        telling += int((alike & ~empty).sum())
    return equal, telling


def _comparable(mine: TensorInfo, own: TensorInfo) -> bool:
    if mine.span is None or own.span is None or not mine.shape or not own.shape:
        return False
    return mine.dtype == own.dtype or {mine.dtype, own.dtype} <= set(_FLOATS)


def _rows_alike(mine_in: Source, mine: TensorInfo, base_in: Source, own: TensorInfo) -> Iterator[tuple[Any, Any]]:
    """For one piece after the other, which rows are the same, and which of the base are all zero."""
    rows, width = min(mine.shape[0], own.shape[0]), math.prod(mine.shape[1:])
    step = max(1, _NUMBERS // max(1, width))
    for start in range(0, rows, step):
        count = min(step, rows - start)
        theirs = _slice(base_in, own, start, count)
        yield _alike(_slice(mine_in, mine, start, count), theirs), ~theirs.array.any(axis=1)


def _slice(source: Source, info: TensorInfo, start: int, count: int) -> Held:
    width = math.prod(info.shape[1:])
    row = width * DTYPE_BITS[info.dtype] // 8
    first = (info.span or (0, 0))[0] + start * row
    part = TensorInfo(info.name, info.dtype, (count, width), info.file, (first, first + count * row))
    return Held(info.dtype, part.shape, array=bits(source, part))


def _alike(mine: Held, own: Held) -> Any:
    """Of each row whether it is the same, as an array."""
    import numpy as np

    if mine.dtype == own.dtype:
        return np.all(mine.array == own.array, axis=1)
    ours, theirs = as_numbers(mine), as_numbers(own)
    return np.all((ours == theirs) & (np.signbit(ours) == np.signbit(theirs)), axis=1)
