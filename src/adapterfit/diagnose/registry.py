"""The causes, found by walking the family folders."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from adapterfit import causes
from adapterfit.causes.cause import Cause


class Entry(NamedTuple):
    """A cause with its id, its family (the folder's name) and the module that holds its page and its checks."""

    id: str
    family: str
    cause: Cause
    module: Any

    @property
    def page(self) -> str:
        """The page: the module's docstring."""
        return str(self.module.__doc__ or "")


@lru_cache(maxsize=1)
def checked() -> tuple[Entry, ...]:
    """Every cause that compares what was read, sorted by id."""
    return _sorted(entry for family in _packages(causes) for entry in _members(family, family))


@lru_cache(maxsize=1)
def all_causes() -> tuple[Entry, ...]:
    """Those, the ones that name what a reader saw (folder `read` of a family), and those that only a log shows (`logged`)."""
    return _sorted((*checked(), *_inside("read"), *_inside("logged")))


def _inside(folder: str, name: str = "") -> Iterator[Entry]:
    """The causes in that folder of every family; with a `name`, the one in the file of that name."""
    for family in _packages(causes):
        for inner in _packages(family):
            if inner.__name__.endswith(f".{folder}"):
                yield from _members(inner, family, name)


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.id))


def _packages(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            yield importlib.import_module(f"{package.__name__}.{info.name}")


def _members(package: ModuleType, family: ModuleType, name: str = "") -> Iterator[Entry]:
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg and not info.name.startswith("_") and name in ("", info.name):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            yield Entry(info.name.replace("_", "-"), family.__name__.rpartition(".")[2], module.CAUSE, module)


@lru_cache(maxsize=256)
def by_code(code: str) -> Entry | None:
    """The cause that owns a reader's flaw; what only names flaws is imported when there is one to be named.

    Most are called as the flaw is: then no other is imported.
    """
    namesake = _inside("read", code.replace("-", "_"))
    return _compared().get(code) or _owners(namesake).get(code) or _named().get(code)


@lru_cache(maxsize=1)
def _compared() -> dict[str, Entry]:
    return _owners(checked())


@lru_cache(maxsize=1)
def _named() -> dict[str, Entry]:
    return _owners(_inside("read"))


def _owners(entries: Iterable[Entry]) -> dict[str, Entry]:
    return {code: entry for entry in entries for code in entry.cause.codes}
