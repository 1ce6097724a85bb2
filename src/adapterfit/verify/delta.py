"""ΔW of every touched module before and after: what a LoRA adds to a weight, scale · B · A, in float64.

Where both factors have the bits they had and the scale is the same number, so is ΔW, and nothing is computed. Where they were cut, joined
or scaled, the matrices are multiplied out, a block of rows at a time, and compared; rows of layers that were fused or taken
apart are compared one layer below the other, in the order in which the edits name them. The rows of all A span few dimensions: in an
orthonormal basis of these the rows of ΔW are as long and as far apart as they are, and the product costs a tenth.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from adapterfit.edits import Copy, Edit, Rename, is_bit_exact, makes, uses
from adapterfit.plans import Shown
from adapterfit.records import TensorInfo
from adapterfit.text import quote, show
from adapterfit.verify.replay import Blocks, Held, Readable, as_numbers, bits, groups

#: How far apart two rows of ΔW may be, relative to how long its rows can be, where numbers were only moved: float64 adds up in another order.
MOVED = 1e-12
#: The same where they were scaled or cast: a few roundings of the type they are stored in.
_COMPUTED = {"F64": 1e-12, "F32": 1e-6, "F16": 4e-3, "BF16": 4e-2}
#: The smallest number of a type that has all its digits: what is smaller is rounded as far as this is.
_NORMAL = {"F64": 2.0**-1022, "F32": 2.0**-126, "F16": 2.0**-14, "BF16": 2.0**-126}
#: Rows and columns of a matrix, and numbers, that are computed with at once.
_ROWS = 256
_COLUMNS = 512
_NUMBERS = 1 << 18
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?P<rest>\.weight|\.default\.weight|)\Z"
)
_PLAIN = re.compile(r"[\w.]+\Z", re.ASCII)
_PREFIX = "base_model.model."


class Pair(NamedTuple):
    """The two factors of one module, and the scale that the config gives it; None where that cannot be told."""

    module: str
    a: TensorInfo
    b: TensorInfo
    scale: float | None


class Side(NamedTuple):
    """One of the two adapters: its files, tensors and config."""

    files: Readable
    tensors: tuple[TensorInfo, ...]
    config: Mapping[str, Any]


def same_delta(before: Side, after: Side, edits: Sequence[Edit]) -> Shown:
    """Compare ΔW of all modules of two adapters, one made of the other by edits."""
    method = after.config.get("peft_type")
    if method != "LORA":
        said = f"ΔW: {show(method)} is not the product of two factors; its tensors are compared as bytes"
        return Shown("delta", "not-checked", said)
    old, new = _pairs(before), _pairs(after)
    if not new:
        return Shown(
            "delta", "not-checked", "ΔW: there are no LoRA factors to multiply; the bytes above are what was compared"
        )
    trace = _traced(before, edits)
    exact, computed, rescaled, unknown, worst = 0, 0, [], [], 0.0
    for olds, news in _joined(old, new, trace, edits):
        if len(olds) == len(news) and all(_is_kept(*both, trace.kept) for both in zip(olds, news)):
            other = [(old, new) for old, new in zip(olds, news) if old.scale != new.scale]
            exact += len(news) - len(other)
            rescaled += other
            continue
        far, tolerance = _difference(before, olds, after, news, edits)
        if far is None:
            unknown += [pair.module for pair in news]
        elif far > tolerance:
            said = f"ΔW of {quote(news[0].module)} is another: a row is off by {far:.1e} of the longest"
            return Shown("delta", "failed", said)
        else:
            computed, worst = computed + len(news), max(worst, far)
    return _said(exact, computed, worst, rescaled, unknown)


def _said(exact: int, computed: int, worst: float, rescaled: list[tuple[Pair, Pair]], unknown: list[str]) -> Shown:
    parts = [f"the same in {exact:,} modules, bits and scale"] if exact else []
    parts += [f"the same in {computed:,}, multiplied out in float64 (off by at most {worst:.0e})"] if computed else []
    if rescaled:
        old, new = rescaled[0]
        before = "" if old.scale is None else f"{old.scale:g} to "
        said = f"at the scale that the plan sets in {len(rescaled):,}, such as {before}{_number(new)}"
        parts.append(f"{said}, the bits the same")
    if not parts:
        return Shown("delta", "not-checked", f"ΔW: no rule says how to compare {show(unknown[0])}")
    rest = f"; not compared: {len(unknown):,}, such as {show(unknown[0])}" if unknown else ""
    return Shown("delta", "proven", f"ΔW is {', '.join(parts)}{rest}")


def _number(pair: Pair) -> str:
    return "an unreadable one" if pair.scale is None else f"{pair.scale:g}"


# ------------------------------------------------------------------------------------------------ pairs


def _pairs(side: Side) -> dict[str, Pair]:
    """B's name → its pair. Factors of fused experts are left out: their product is no ΔW."""
    by_name = {tensor.name: tensor for tensor in side.tensors}
    found = {}
    for name, b in by_name.items():
        match = _FACTOR.match(name)
        if match is None or match["side"] != "B":
            continue
        stem = f"{match['module']}.lora_{match['embedding'] or ''}"
        a = by_name.get(f"{stem}A{match['rest']}")
        if a is not None and len(a.shape) == len(b.shape) >= 2 and ".experts" not in f".{name}":
            found[name] = Pair(match["module"], a, b, scale(match["module"], side.config))
    return found


def scale(module: str, config: Mapping[str, Any]) -> float | None:
    """Alpha / r of one module, alpha / sqrt(r) with rsLoRA; None where a pattern's regular expression decides."""
    if not config:  # none is there: what alpha was nobody knows
        return None
    module = module[len(_PREFIX) :] if module.startswith(_PREFIX) else module
    values = []
    for field, table in (("lora_alpha", "alpha_pattern"), ("r", "rank_pattern")):
        patterns = config.get(table) or {}
        if not isinstance(patterns, Mapping) or not all(isinstance(key, str) and _PLAIN.match(key) for key in patterns):
            return None
        own = [value for key, value in patterns.items() if module == key or module.endswith("." + key)]
        values.append(own[0] if own else config.get(field, 8))
    alpha, rank = values
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values) or rank <= 0:
        return None
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else float(rank))


class Trace(NamedTuple):
    """Which tensors belong together: the number of its group by name before and after, and who kept its bytes from whom."""

    old: dict[str, int]
    new: dict[str, int]
    kept: dict[str, str]


def _traced(before: Side, edits: Sequence[Edit]) -> Trace:
    trace = Trace({}, {}, {})
    for number, (tensors, blocks) in enumerate(groups(before.tensors, edits)):
        trace.old.update({tensor.name: number for tensor in tensors})
        after = _kept({tensor.name: tensor.name for tensor in tensors}, blocks)
        trace.new.update(dict.fromkeys(after, number))
        trace.kept.update({new: old for new, old in after.items() if old is not None})
    return trace


def _kept(table: dict[str, str | None], blocks: Blocks) -> dict[str, str | None]:
    """The tensors after edits, by name, and whose bytes and shape they kept; None where they are made of others."""
    for block in blocks:
        if isinstance(block[0], Rename):
            table.update([(makes(edit)[0], table.pop(uses(edit)[0])) for edit in block])
        elif isinstance(block[0], Copy):
            table[block[0].new] = table[block[0].name]
        else:
            for name in uses(block[0]):
                del table[name]
            table.update(dict.fromkeys(makes(block[0])))
    return table


def _joined(
    old: Mapping[str, Pair], new: Mapping[str, Pair], trace: Trace, edits: Sequence[Edit]
) -> Iterator[tuple[list[Pair], list[Pair]]]:
    """Pairs before and after that edits bring together, each in the order in which the edits name their B."""
    named = (name for edit in edits for name in (*uses(edit), *makes(edit)))
    place = {
        name: at for at, name in enumerate(named)
    }  # the last time: some are scaled or padded before all are joined
    root: dict[int, int] = {}

    def find(number: int) -> int:
        while root.setdefault(number, number) != number:
            number = root[number]
        return number

    sides = ((old, trace.old), (new, trace.new))
    for pairs, number in sides:
        for name, pair in pairs.items():
            root[find(number[pair.a.name])] = find(number[name])
    found: dict[int, tuple[list[Pair], list[Pair]]] = {}
    for at, (pairs, number) in enumerate(sides):
        for name in sorted(pairs, key=lambda name: place.get(name, -1)):
            found.setdefault(find(number[name]), ([], []))[at].append(pairs[name])
    return iter([both for both in found.values() if both[1]])


# ------------------------------------------------------------------------------------------------ numbers


def _is_kept(old: Pair, new: Pair, kept: Mapping[str, str]) -> bool:
    """The same two factors, bit for bit."""
    return kept.get(new.a.name) == old.a.name and kept.get(new.b.name) == old.b.name


def _difference(
    before: Side, olds: Sequence[Pair], after: Side, news: Sequence[Pair], edits: Sequence[Edit]
) -> tuple[float | None, float]:
    """The largest distance of two rows of ΔW relative to the longest, and what it may be; None where no rule compares them."""
    if not olds or any(pair.scale is None for pair in (*olds, *news)):
        return None, 0.0
    columns = {math.prod(pair.a.shape[1:]) for pair in (*olds, *news)}
    if len(columns) != 1 or not all(_can_multiply(pair) for pair in (*olds, *news)):
        return None, 0.0
    import numpy as np

    named = {name for pair in (*olds, *news) for name in (pair.a.name, pair.b.name)}
    moved = all(is_bit_exact(edit) for edit in edits if named & {*uses(edit), *makes(edit)})
    types = {one.dtype for pair in (*olds, *news) for one in (pair.a, pair.b)}
    stored = max(_COMPUTED[each] for each in types)
    floor = 0.0 if moved else max(_NORMAL[each] for each in types)
    # A fused layer of which only some parts had an adapter gets rows of zeros for the others: they add nothing.
    dense = sum(pair.b.shape[0] for pair in olds) != sum(pair.b.shape[0] for pair in news)
    wide = [_matrix(side.files, pair.a) for side, pairs in ((before, olds), (after, news)) for pair in pairs]
    is_finite = all(_is_finite(side.files, pair.b) for side, pairs in ((before, olds), (after, news)) for pair in pairs)
    narrow = _narrowed(wide) if is_finite else wide
    off = longest = 0.0
    both = itertools.zip_longest(
        _blocks_of(before, olds, narrow[: len(olds)], floor, dense=dense),
        _blocks_of(after, news, narrow[len(olds) :], floor, dense=dense),
    )
    for ours, theirs in both:
        if ours is None or theirs is None or ours.shape != theirs.shape:
            return None, 0.0
        bound = ours[:, -1]
        longest = max(longest, float(np.max(bound, initial=0.0, where=np.isfinite(bound))))
        with np.errstate(all="ignore"):
            apart = ours[:, :-1] - theirs[:, :-1]
            same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
            lengths = np.linalg.norm(np.where(same[:, :-1], 0.0, apart), axis=1)
        off = max(off, float(np.max(np.nan_to_num(lengths, nan=np.inf), initial=0.0)))
    return (off / longest if longest else off), MOVED if moved else stored


def _can_multiply(pair: Pair) -> bool:
    return {pair.a.dtype, pair.b.dtype} <= _COMPUTED.keys() and pair.a.shape[0] == math.prod(pair.b.shape[1:])


def _narrowed(wide: list[Any]) -> list[Any]:
    """The rows of matrices in an orthonormal basis of all of them: as long, and as far apart, as they were."""
    import numpy as np

    columns = wide[0].shape[1]
    if sum(map(len, wide)) >= columns or not all(np.isfinite(each).all() for each in wide):
        return wide
    short: Any = np.zeros((0, sum(map(len, wide))))
    for start in range(0, columns, _COLUMNS):
        piece = np.concatenate([each[:, start : start + _COLUMNS] for each in wide])
        short = np.linalg.qr(np.concatenate([short, piece.T]), mode="r")
    return np.split(short.T, np.cumsum([len(each) for each in wide])[:-1])


def _blocks_of(
    side: Side, pairs: Sequence[Pair], factors: Sequence[Any], floor: float, *, dense: bool
) -> Iterator[Any]:
    """ΔW of several modules, one below the other, `_ROWS` rows at a time; with `dense` without those for which B has only zeros.

    In the last column stands how long a row can be: what is added up, without regard to direction. A float64 is off by a few
    millionths of a millionth of this at most, however much of it cancels out. No number counts as smaller than `floor`.
    """
    import numpy as np

    held: list[Any] = []
    for pair, a in zip(pairs, factors):
        scale, columns = pair.scale or 0.0, math.prod(pair.a.shape[1:])
        lengths = np.linalg.norm(a, axis=1) + floor * math.sqrt(columns)
        for b in _rows_of(side.files, pair.b):
            with np.errstate(all="ignore"):  # what is not finite stays so, and compares as it is
                block = np.column_stack([scale * (b @ a), abs(scale) * ((np.abs(b) + floor) @ lengths)])
            held.append(block[np.any(b != 0, axis=1)] if dense else block)
            while sum(map(len, held)) >= _ROWS:
                whole = np.concatenate(held)
                yield whole[:_ROWS]
                held = [whole[_ROWS:]]
    rest = np.concatenate(held) if held else np.zeros((0, 0))
    if len(rest):
        yield rest


def _is_finite(files: Readable, info: TensorInfo) -> bool:
    import numpy as np

    return all(bool(np.isfinite(rows).all()) for rows in _rows_of(files, info))


def _matrix(files: Readable, info: TensorInfo) -> Any:
    """A tensor as a matrix of numbers."""
    import numpy as np

    whole, at = np.empty((info.shape[0], math.prod(info.shape[1:]))), 0
    for rows in _rows_of(files, info):
        whole[at : at + len(rows)] = rows
        at += len(rows)
    return whole


def _rows_of(files: Readable, info: TensorInfo) -> Iterator[Any]:
    """The rows of such a matrix, some at a time; they alone are in memory where they lie in one piece."""
    count, width = info.shape[0], math.prod(info.shape[1:])
    step = min(_ROWS, max(1, _NUMBERS // max(1, width)))
    if info.span is None:
        whole = _numbers(files, info)
        yield from (whole[start : start + step] for start in range(0, count, step))
        return
    first, row = info.span[0], (info.span[1] - info.span[0]) // max(1, count)
    for start in range(0, count, step):
        some = min(step, count - start)
        span = (first + start * row, first + (start + some) * row)
        yield _numbers(files, dataclasses.replace(info, shape=(some, *info.shape[1:]), span=span))


def _numbers(files: Readable, info: TensorInfo) -> Any:
    held = Held(info.dtype, info.shape, array=bits(files, info))
    return as_numbers(held).reshape(info.shape[0], math.prod(info.shape[1:]))
