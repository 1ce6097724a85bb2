"""The causes, found by walking the family folders."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
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
def all_causes() -> tuple[Entry, ...]:
    """Every cause, sorted by id."""
    found = []
    for family in pkgutil.iter_modules(causes.__path__):
        if not family.ispkg:
            continue
        package = importlib.import_module(f"{causes.__name__}.{family.name}")
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith("_"):
                module = importlib.import_module(f"{package.__name__}.{info.name}")
                found.append(Entry(info.name.replace("_", "-"), family.name, module.CAUSE, module))
    return tuple(sorted(found, key=lambda entry: entry.id))


@lru_cache(maxsize=1)
def by_code() -> dict[str, Entry]:
    """Reader's flaw code → the cause that owns it."""
    return {code: entry for entry in all_causes() for code in entry.cause.codes}
