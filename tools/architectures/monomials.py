"""Products and quotients of up to three fields over a few samples, searched all at once for a size, as it is or as a sum.

A model with long lists in its config has a hundred fields and items of lists, and a million products of them. None is kept:
each leaves a number that is linear in its values, so that `c*m + d*n` is found by its number as well; what is found so is
proven on all samples by who asks.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np

COEFFICIENTS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
_FEW = (1, 2, 3, 4)
#: Candidates for one size, and sums among them.
_ALIKE, _MOST, _SUMS = 24, 20, 60
_BUCKETS = 22
#: Stands for what is zero on all samples, and no size.
_NOWHERE = np.uint64(2**63 + 1)
#: Fields larger than this are no sizes, and their products would leave the range of machine numbers.
_LARGEST = 2**31
Row = Any


def scaled(text: str, coefficient: int) -> str:
    """`//` binds to the left, so the coefficient of a quotient stands behind it."""
    if coefficient == 1:
        return text
    return f"{text}*{coefficient}" if "//" in text else f"{coefficient}*{text}"


def cost(text: str) -> tuple[int, int, int]:
    """Fewer operations first, plain fields before lists, then the shorter."""
    return sum(map(text.count, "*/+-")), text.count("len(") + text.count("["), len(text)


class Monomials:
    """f, f*g, f//g, f//g*(f//g), f//g*h, f//g//h, f*g*h of these fields; `atoms`: text → values over the samples."""

    def __init__(self, atoms: Mapping[str, Sequence[int]]) -> None:
        kept = {text: values for text, values in atoms.items() if all(abs(value) < _LARGEST for value in values)}
        self.names = list(kept)
        values = np.array(list(kept.values()), dtype=np.int64)
        rng = random.Random(len(kept))
        self.weights = np.array([rng.getrandbits(63) | 1 for _ in next(iter(kept.values()), ())], dtype=np.uint64)
        self.starts: list[int] = [0]
        self.spell: list[Callable[[int], str]] = []
        self.rows: list[tuple[Row, Row, Row]] = []
        self.simple = 0
        self.tables: dict[int, tuple[Row, Row, Row]] = {}
        if kept:
            self._fill(values)
            self.numbers, self.first, self.last = (np.concatenate(parts) for parts in zip(*self.rows))

    def _fill(self, atoms: Row) -> None:
        names, every = self.names, np.arange(len(atoms))
        self._put(atoms, lambda at: names[at])
        one, other = np.array([(a, b) for a in every for b in every if names[a] <= names[b]]).T
        self._put(atoms[one] * atoms[other], lambda at: f"{names[one[at]]}*{names[other[at]]}")
        whole = every[(atoms != 0).all(axis=1)]
        above, below = (grid.ravel() for grid in np.meshgrid(every, whole, indexing="ij"))
        above, below = above[above != below], below[above != below]
        quotients = atoms[above] // atoms[below]
        some = quotients.any(axis=1)
        above, below, quotients = above[some], below[some], quotients[some]
        said = [f"{names[a]}//{names[b]}" for a, b in zip(above, below)]
        self._put(quotients, lambda at: said[at])
        self._put(quotients * quotients, lambda at: f"{said[at]}*({said[at]})")
        self.simple = self.starts[-1]
        for at in every:  # piece by piece: all of them at once do not fit
            self._put(quotients * atoms[at], lambda row, at=at: f"{said[row]}*{names[at]}")  # type: ignore[misc]
        for at in whole:
            self._put(quotients // atoms[at], lambda row, at=at: f"{said[row]}//{names[at]}")  # type: ignore[misc]
        for at in every:
            two, three = (side + at for side in np.triu_indices(len(atoms) - at))
            self._put(atoms[at] * atoms[two] * atoms[three], _product(names, int(at), two, three))

    def _put(self, values: Row, spell: Callable[[int], str]) -> None:
        numbers = values.astype(np.uint64) @ self.weights
        numbers[~values.any(axis=1)] = _NOWHERE
        self.rows.append((numbers, values[:, 0], values[:, -1]))
        self.starts.append(self.starts[-1] + len(values))
        self.spell.append(spell)

    def text(self, row: int) -> str:
        """The formula of one row."""
        block = bisect_right(self.starts, row) - 1
        return self.spell[block](row - self.starts[block])

    def _number(self, target: Sequence[int]) -> Any:
        return np.array(target, dtype=np.int64).astype(np.uint64) @ self.weights

    def _table(self, times: int) -> tuple[Row, Row, Row]:
        """The numbers of all rows times this, sorted; which row each is of; whether there is one that begins so."""
        if times not in self.tables:
            numbers = self.numbers * np.uint64(times)
            order = np.argsort(numbers, kind="stable")
            there = np.zeros(1 << _BUCKETS, dtype=bool)
            there[numbers >> np.uint64(64 - _BUCKETS)] = True
            self.tables[times] = (numbers[order], order, there)
        return self.tables[times]

    # ---------------------------------------------------------------------------------------- what fits

    def candidates(self, target: Sequence[int]) -> list[str]:
        """Formulas that fit the few samples: c*m, else m±constant and c*m + d*n; simplest first."""
        if not self.names:
            return []
        found: list[str] = []
        for c in COEFFICIENTS:
            if all(t % c == 0 for t in target):
                found += [scaled(text, c) for text in self._equal([t // c for t in target])]
        if found:
            return sorted(dict.fromkeys(found), key=cost)
        for rows in (slice(0, self.simple), slice(self.simple, len(self.numbers))):
            found = self._shifted(target, rows) + self._sums(target, rows)
            if found:
                break
        return sorted(dict.fromkeys(found), key=cost)[:_SUMS]

    def _equal(self, target: Sequence[int]) -> list[str]:
        """The first rows with these values; those that stand first are the simplest."""
        table, order, _ = self._table(1)
        number = self._number(target)
        start, stop = np.searchsorted(table, number, side="left"), np.searchsorted(table, number, side="right")
        return [self.text(int(row)) for row in order[start : min(stop, start + _ALIKE)]]

    def _shifted(self, target: Sequence[int], rows: slice) -> list[str]:
        """`target` as c*m and a constant."""
        found = []
        goal, ones = self._number(target), self._number([1] * len(target))
        for c in _FEW:
            rest = target[0] - c * self.first[rows]
            flat = (rest == target[-1] - c * self.last[rows]) & (rest != 0)
            moved = self.numbers[rows][flat] * np.uint64(c) + rest[flat].astype(np.uint64) * ones
            for at in np.flatnonzero(flat)[moved == goal]:
                shift = int(rest[at])
                text = scaled(self.text(int(at) + rows.start), c)
                found.append(f"{text}{'+' if shift > 0 else '-'}{abs(shift)}")
        return found

    def _sums(self, target: Sequence[int], rows: slice) -> list[str]:
        """`target` as c*m + d*n: the number of d*n is what that of c*m leaves."""
        found: list[str] = []
        goal = self._number(target)
        for c in _FEW:
            left = goal - self.numbers[rows] * np.uint64(c)
            for d in _FEW:
                table, order, there = self._table(d)
                likely = np.flatnonzero(there[left >> np.uint64(64 - _BUCKETS)])
                at = np.minimum(np.searchsorted(table, left[likely]), len(table) - 1)
                same = np.flatnonzero(table[at] == left[likely])[:_MOST]
                found += [
                    f"{scaled(self.text(int(likely[one]) + rows.start), c)}+{scaled(self.text(int(order[at[one]])), d)}"
                    for one in same
                ]
        return found


def _product(names: list[str], one: int, two: Row, three: Row) -> Callable[[int], str]:
    return lambda row: f"{names[one]}*{names[two[row]]}*{names[three[row]]}"
