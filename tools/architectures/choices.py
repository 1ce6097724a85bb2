"""Sizes that are one simple formula or another, by a condition: all conditions are tried with all formulas at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapterfit.expect.formulas import FormulaError, compile_formula
from architectures.monomials import COEFFICIENTS, cost, scaled

#: Samples that each side of a condition must have; samples that are looked at; formulas and conditions that are kept.
_SIDE, _SAMPLES, _KEPT, _NESTED = 3, 300, 600, 100
_LARGEST = 2**31
_NONE = -(2**40)
Row = Any


def choice(envs: list[Any], values: list[int], literals: dict[str, int], depth: int) -> str:
    """`condition ? one : other` for these values, nested `depth` times at most; empty where there is none.

    `literals`: conditions → bit mask over the samples.
    """
    step = max(1, len(envs) // _SAMPLES)
    at = list(range(0, len(envs), step))
    texts, fits = _fitting([envs[n] for n in at], np.array([values[n] for n in at], dtype=np.int64))
    names = [text for text in literals if not text.startswith("!")]
    rows = np.array([[literals[text] >> n & 1 for n in at] for text in names], dtype=np.float32).reshape(-1, len(at))
    return _Search(texts, fits, names, rows).best(np.ones(len(at), dtype=np.float32), depth) if names else ""


class _Search:
    """`fits`: formulas × samples; `rows`: conditions × samples."""

    def __init__(self, texts: list[str], fits: Row, names: list[str], rows: Row) -> None:
        self.texts, self.fits, self.names, self.rows = texts, fits, names, rows

    def best(self, care: Row, depth: int) -> str:
        """The shortest that is right on the samples in `care`."""
        yes, no = self.rows * care, (1 - self.rows) * care
        wide = (yes.sum(axis=1) >= _SIDE) & (no.sum(axis=1) >= _SIDE)
        then, other = self._solved(yes), self._solved(no)
        found = [
            f"{self.names[at]} ? {self.texts[then[at]]} : {self.texts[other[at]]}"
            for at in np.flatnonzero(wide & (then >= 0) & (other >= 0))
        ]
        if found or depth < 2:
            return min(found, key=len, default="")
        for at in np.flatnonzero(wide & ((then >= 0) != (other >= 0)))[:_NESTED]:
            inner = self.best(no[at] if then[at] >= 0 else yes[at], depth - 1)
            if inner and then[at] >= 0:
                found.append(f"{self.names[at]} ? {self.texts[then[at]]} : ({inner})")
            elif inner:
                found.append(f"{self.names[at]} ? ({inner}) : {self.texts[other[at]]}")
        return min(found, key=len, default="")

    def _solved(self, sides: Row) -> Row:
        """For each side the first formula that is right on all of it; -1 where none is."""
        if not self.texts:
            return np.full(len(sides), -1)
        right = self.fits @ sides.T == sides.sum(axis=1)
        return np.where(right.any(axis=0), right.argmax(axis=0), -1)


def _fitting(envs: list[Any], values: Row) -> tuple[list[str], Row]:
    """Formulas that are right on some samples, simplest first, and on which."""
    atoms = _atoms(envs)
    found: dict[bytes, str] = {}

    def note(text: str, right: Row) -> None:
        if right.sum() >= _SIDE:
            key = np.packbits(right).tobytes()
            if key not in found or cost(text) < cost(found[key]):
                found[key] = text

    for value in sorted(set(values.tolist())):
        note(str(value), values == value)
    names, table = list(atoms), np.array(list(atoms.values()), dtype=np.int64).reshape(-1, len(envs))
    known = table != _NONE
    for c in COEFFICIENTS:
        for at in np.flatnonzero(((table * c == values) & known).sum(axis=1) >= _SIDE):
            note(scaled(names[at], c), (table[at] * c == values) & known[at])
    for one, name in enumerate(names):
        both = known & known[one]
        product = table * table[one]
        quotient = table[one] // np.where(table == 0, 1, table)
        for c in COEFFICIENTS[:4]:
            for at in np.flatnonzero(((product * c == values) & both).sum(axis=1) >= _SIDE):
                if at >= one:
                    note(scaled(f"{name}*{names[at]}", c), (product[at] * c == values) & both[at])
            sound = both & (table != 0)
            for at in np.flatnonzero(((quotient * c == values) & sound).sum(axis=1) >= _SIDE):
                if at != one:
                    note(scaled(f"{name}//{names[at]}", c), (quotient[at] * c == values) & sound[at])
    items = sorted(found.items(), key=lambda item: (cost(item[1]), item[1]))
    items = sorted(items, key=lambda item: -int(np.frombuffer(item[0], np.uint8).astype(bool).sum()))[:_KEPT]
    items.sort(key=lambda item: (cost(item[1]), item[1]))
    fits = np.array(
        [np.unpackbits(np.frombuffer(key, np.uint8), count=len(envs)) for key, _ in items], dtype=np.float32
    )
    return [text for _, text in items], fits.reshape(-1, len(envs))


def _atoms(envs: list[Any]) -> dict[str, list[int]]:
    """Fields and items of lists that are numbers on some samples, with `_NONE` where they are not."""
    loops = [loop for loop in ("i", "j") if loop in envs[0]]
    found = {}
    for key in envs[0]:
        if key.endswith(("token_id", "token_index")):
            continue
        listed = any(isinstance(env.get(key), (list, tuple)) for env in envs)
        inner = [f"{key}[{at}]" for at in (*loops, f"len({key})-1", *(f"{loop}-1" for loop in loops), *range(8))]
        for text in [f"len({key})", *inner] if listed else [key]:
            values = [_value(text, env) for env in envs]
            if len(set(values)) > 1:
                found[text] = values
    return found


def _value(text: str, env: Any) -> int:
    try:
        value = compile_formula(text)(env)
    except (FormulaError, KeyError, TypeError):
        return _NONE
    return value if type(value) is int and abs(value) < _LARGEST else _NONE
