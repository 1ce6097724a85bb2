"""What every PEFT release knew: its methods, their config fields and defaults. Generated data, read once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

_DATA = Path(__file__).with_name("peft_fields.json")
_RELEASE = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(\.dev|a|b|rc|\.?post)?")


class Field(NamedTuple):
    """One config field of one method.

    `first`/`last` are the releases that had it (`last` empty: the newest still has it). `kind` is what a value
    may be, as `int|list[int]?`. `defaults` are (since, default) pairs, oldest first.
    """

    name: str
    first: str
    last: str
    kind: str
    defaults: tuple[tuple[str, Any], ...]

    @property
    def default(self) -> Any:
        """The newest default."""
        return self.defaults[-1][1]


class Method(NamedTuple):
    """One `peft_type`: its config class, the releases that had it (`last` empty: the newest still has it)."""

    peft_type: str
    config_class: str
    first: str
    last: str
    fields: Mapping[str, Field]

    def fields_of(self, version: str) -> frozenset[str]:
        """The names of the fields that release wrote."""
        place = versions().index(version)
        return frozenset(name for name, field in self.fields.items() if _covers(field.first, field.last, place))

    def releases(self) -> tuple[str, ...]:
        """The releases that had this method, oldest first."""
        return tuple(v for place, v in enumerate(versions()) if _covers(self.first, self.last, place))


def _covers(first: str, last: str, place: int) -> bool:
    known = versions()
    return known.index(first) <= place and (not last or place <= known.index(last))


@lru_cache(maxsize=1)
def _data() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=1)
def versions() -> tuple[str, ...]:
    """Every PEFT release from 0.2.0 on, oldest first."""
    return tuple(_data()["versions"])


def newest() -> str:
    """The newest release these facts know."""
    return versions()[-1]


def task_types() -> tuple[str, ...]:
    """The task types of the newest release."""
    return tuple(_data()["task_types"])


def peft_types() -> tuple[str, ...]:
    """Every method any release had."""
    return tuple(_data()["types"])


@cache
def method(peft_type: str) -> Method | None:
    """The facts of one method, or None for one no release ever had."""
    entry = _data()["types"].get(peft_type)
    if entry is None:
        return None
    names = versions()
    fields = {name: _field(name, item, names) for name, item in entry["fields"].items()}
    return Method(peft_type, entry["class"], names[entry["first"]], _ended(entry["last"], names), fields)


def _field(name: str, item: list[Any], names: tuple[str, ...]) -> Field:
    history = item[4] if len(item) > 4 else [[item[0], item[3]]]
    defaults = tuple((names[since], default) for since, default in history)
    return Field(name, names[item[0]], _ended(item[1], names), item[2], defaults)


def _ended(place: int, names: tuple[str, ...]) -> str:
    return "" if place < 0 else names[place]


def owners(key: str) -> tuple[str, ...]:
    """The methods of the newest release whose config has `key`."""
    return tuple(
        name
        for name, entry in _data()["types"].items()
        if entry["last"] < 0 and entry["fields"].get(key, [0, 0])[1] < 0
    )


def parse_release(text: str) -> tuple[tuple[int, int, int], bool] | None:
    """`0.19.2.dev0@1234` as ((0, 19, 2), True); the flag says that it is not a release. None for anything else."""
    match = _RELEASE.match(text)
    if match is None:
        return None
    major, minor, patch, tail = match.groups()
    return (int(major), int(minor), int(patch or 0)), tail is not None and not tail.endswith("post")


def as_tuple(version: str) -> tuple[int, int, int]:
    """A release of ours, comparable."""
    parsed = parse_release(version)
    return parsed[0] if parsed is not None else (0, 0, 0)


@cache
def _written(peft_type: str, version: str) -> frozenset[str]:
    """The names of the fields that release wrote for a method that is known."""
    facts = method(peft_type)
    return facts.fields_of(version) if facts is not None else frozenset()


def dated(peft_type: str, keys: Iterable[str], peft_version: object = None) -> tuple[str, str]:
    """The oldest and the newest PEFT release that can have written a config with these keys.

    PEFT writes all fields it knows. So a file that holds every field of some release was written by the newest
    such release at most; a file that holds less was written by hand or by another program, and what it lacks
    proves nothing. A key bounds from below by the release that brought it. `peft_version`, written since 0.18,
    survives saving again with a newer release: it is a lower bound too.
    """
    facts = method(peft_type)
    known = versions()
    if facts is None:
        return known[0], known[-1]
    present = {key for key in keys if key in facts.fields}
    low = max((known.index(facts.fields[key].first) for key in present), default=known.index(facts.first))
    gone = [known.index(facts.fields[key].last) for key in present if facts.fields[key].last]
    high = min([*gone, known.index(facts.last or known[-1])])
    whole = [known.index(v) for v in facts.releases() if _written(peft_type, v) <= present | {"peft_type"}]
    if whole:
        high = min(high, max(whole))
    low = max(low, _stamp(peft_version))
    return known[min(low, high)], known[max(low, high)]


def _stamp(peft_version: object) -> int:
    """The place of the last release that is not younger than the stamp; 0 where there is no usable stamp."""
    parsed = parse_release(peft_version) if isinstance(peft_version, str) else None
    if parsed is None:
        return 0
    number, early = parsed
    places = [i for i, v in enumerate(versions()) if as_tuple(v) < number or (as_tuple(v) == number and not early)]
    return places[-1] if places else 0
