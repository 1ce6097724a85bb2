"""The causes, found by walking the family folders."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
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
    """Every cause that files can show, sorted by id."""
    found = [entry for family in _packages(causes) for entry in _members(family, family)]
    return tuple(sorted(found, key=lambda entry: entry.id))


@lru_cache(maxsize=1)
def all_causes() -> tuple[Entry, ...]:
    """Those, and the ones that only a log shows (each family's folder `logged`), sorted by id."""
    logged = [entry for family in _packages(causes) for inner in _packages(family) for entry in _members(inner, family)]
    return tuple(sorted((*checked(), *logged), key=lambda entry: entry.id))


def _packages(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(package.__path__):
        if info.ispkg:
            yield importlib.import_module(f"{package.__name__}.{info.name}")


def _members(package: ModuleType, family: ModuleType) -> Iterator[Entry]:
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg and not info.name.startswith("_"):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            yield Entry(info.name.replace("_", "-"), family.__name__.rpartition(".")[2], module.CAUSE, module)


@lru_cache(maxsize=1)
def by_code() -> dict[str, Entry]:
    """Reader's flaw code → the cause that owns it."""
    return {code: entry for entry in checked() for code in entry.cause.codes}
