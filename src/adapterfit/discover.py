"""Members of an axis, by file name: one module of a package is one member."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import ModuleType


@cache
def members(package: str) -> Mapping[str, ModuleType]:
    """The modules directly in `package` (a name of ours, never of an input), by file name, in sorted order."""
    root = importlib.import_module(package)
    return {name: importlib.import_module(f"{package}.{name}") for name in names(package, root)}


def names(package: str, root: ModuleType | None = None) -> tuple[str, ...]:
    """The member names of `package`, without importing them. Folders and names that start with `_` are not members."""
    root = root or importlib.import_module(package)
    found = (i.name for i in pkgutil.iter_modules(root.__path__) if not i.ispkg and not i.name.startswith("_"))
    return tuple(sorted(found))


@cache
def member(package: str, name: str) -> ModuleType | None:
    """One member, or None. `name` may come from a file: it is looked up in the closed set, never imported blindly."""
    return importlib.import_module(f"{package}.{name}") if name in names(package) else None
