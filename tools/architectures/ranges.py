"""Ties and second paths that repeat with the number of a layer: one entry over a range in place of one for each."""

from __future__ import annotations

from typing import Any

from architectures.grow import Grower
from architectures.learn import Env

Entry = tuple[str, ...]


def starred(entries: list[Entry]) -> list[tuple[Entry, int]]:
    """Each entry whose names all have a number at one depth, as (names with `*` in its place, the number)."""
    found = []
    for entry in entries:
        numbers = [[at for at, part in enumerate(name.split(".")) if part.isdecimal()] for name in entry]
        first = next((name.split(".")[at[0]] for name, at in zip(entry, numbers) if at), None)
        if first is not None:
            found.append((tuple(_star(name, at, first) for name, at in zip(entry, numbers)), int(first)))
    return found


def _star(name: str, at: list[int], number: str) -> str:
    parts = name.split(".")
    if at and parts[at[0]] == number:
        parts[at[0]] = "*"
    return ".".join(parts)


def links(grower: Grower, what: str, envs: list[Env], lists: list[list[Entry]]) -> list[list[Any]]:
    """`[condition, names…]`, and with a range `[condition, names with *, {"from": …, "to": …}]`."""
    lists = [list(entries) for entries in lists]
    found: list[list[Any]] = []
    templates = sorted({template for entries in lists for template, _ in starred(entries)})
    for template in templates:
        spans = [sorted(number for one, number in starred(entries) if one == template) for entries in lists]
        if len({len(span) for span in spans if span}) < 2 or not all(map(_consecutive, spans)):
            continue
        starts = {span[0] for span in spans if span}
        if len(starts) != 1:
            continue
        start = starts.pop()
        before = len(grower.doubts)
        having = [at for at, span in enumerate(spans) if span]
        stop = grower.number(what, [envs[at] for at in having], [spans[at][-1] + 1 for at in having])
        if len(grower.doubts) > before:
            del grower.doubts[before:]
            continue
        condition = grower.condition(f"{what} {template}", envs, [bool(span) for span in spans])
        found.append([condition, *template, {"from": start, "to": stop}])
        for entries in lists:
            entries[:] = [one for one in entries if template not in {star for star, _ in starred([one])}]
    for entry in sorted({item for items in lists for item in items}):
        condition = grower.condition(f"{what} {entry}", envs, [entry in items for items in lists])
        found.append([condition, *entry])
    return found


def _consecutive(span: list[int]) -> bool:
    return span == list(range(span[0], span[-1] + 1)) if span else True


def pairs_of_growing(lists: list[list[Entry]]) -> list[list[Entry]]:
    """Groups of tied names whose number is not the same in all samples, as pairs of each name with the group's first."""
    sizes: dict[str, set[int]] = {}
    for groups in lists:
        for group in groups:
            sizes.setdefault(group[0], set()).add(len(group))
    return [
        [
            entry
            for group in groups
            for entry in ([group] if len(sizes[group[0]]) == 1 else [(name, group[0]) for name in group[1:]])
        ]
        for groups in lists
    ]
