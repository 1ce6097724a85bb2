"""Where sizes do not fit: is there one field of the config under which every tensor has the size that PEFT makes? Expect and compare, asked again.

What a field does to which size differs from method to method (VeRA's vectors have `r` elements, PSOFT's r (r - 1) / 2, RandLoRA's
bases width / r), so nothing is derived here: a few values that the sizes suggest are tried, and taken if everything then fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from math import isqrt

from adapterfit.records import AdapterConfig, Diff, Misshape

#: Fields, and values of each, that are tried at most: a config has some ten numbers, and sizes suggest some five values.
_FIELDS, _VALUES = 24, 8
#: Tensors whose sizes suggest values: those of one module say what all of them say.
_LOOKED_AT = 6
#: No size suggests a value beyond it: some methods make as many tensors, or divide as long, as a field says.
_LARGEST = 10_000_000


def resized(diff: Diff, config: AdapterConfig, again: Callable[[AdapterConfig], Diff]) -> tuple[tuple[str, int], ...]:
    """Each field with the value under which all that did not fit does, and all that fitted still does; mostly one or none.

    Args:
        diff: The comparison, in which tensors have other shapes than they should.
        config: The config it was made with.
        again: Compares the same tensors with what another config makes on the same base.
    """
    fields = [name for name, value in config.values.items() if type(value) is int and value > 0]
    return tuple(
        (name, value)
        for name in fields[:_FIELDS]
        for value, now in _tried(diff, config, name, again)
        if _fits(diff, now)
    )


def _tried(
    diff: Diff, config: AdapterConfig, name: str, again: Callable[[AdapterConfig], Diff]
) -> Iterator[tuple[int, Diff]]:
    """The comparison under each value of a field; under one only, if the field has nothing to do with what differs."""
    for value in _suggested(diff.misshapen, config.values[name]):
        now = again(dataclasses.replace(config, values={**config.values, name: value}))
        yield value, now
        if now.raised is None and now.misshapen == diff.misshapen:
            return


def _suggested(wrong: tuple[Misshape, ...], given: int) -> list[int]:
    """Values of a field for which a size that differs may be what it is: in proportion to it, to its square, or inversely."""
    pairs = dict.fromkeys(
        pair
        for entry in wrong[:_LOOKED_AT]
        for pair in zip(entry.found, entry.wanted)
        if pair[0] != pair[1] and min(pair) > 0
    )
    found = dict.fromkeys(
        value for pair in pairs for value in _values(*pair, given) if 0 < value <= _LARGEST and value != given
    )
    return list(found)[:_VALUES]


def _values(found: int, wanted: int, given: int) -> Iterator[int]:
    yield from (given * found // wanted for _ in range(given * found % wanted == 0))
    yield from (given * wanted // found for _ in range(given * wanted % found == 0))
    yield found
    for square in (given * given * found // wanted, 2 * found):  # r^2 elements, or r (r - 1) / 2 of them
        yield from (isqrt(square), isqrt(square) + 1)


def _fits(before: Diff, now: Diff) -> bool:
    """Whether nothing has the wrong size any more, and nothing else has become wrong."""
    lacking = {slot.key for slot in before.missing}
    return (
        now.raised is None
        and not now.misshapen
        and not now.expectation.doubts
        and len(now.extra) <= len(before.extra)
        and {slot.key for slot in now.missing} <= lacking
        and len(now.matched) >= len(before.matched) + len(before.misshapen)
    )
