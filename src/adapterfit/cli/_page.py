"""The page of a cause, taken from the cause's own file. Used by `explain`, by the documentation and by a law."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapterfit import discover

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from adapterfit.causes.cause import Cause

#: What every page answers, in this order.
HEADINGS = ("What this means", "Why it happens", "Detection", "Fix", "Workaround", "Prevention")
_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}):[ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A cause as people read it. `sections`: heading → text, in the order of the file."""

    id: str
    family: str
    title: str
    sections: Mapping[str, str]
    cause: Cause


def families() -> dict[str, str]:
    """Cause id → its family. No cause is imported for it."""
    root = "adapterfit.causes"
    return {
        name.replace("_", "-"): family
        for family in discover.names(root)
        if family != "cause"
        for name in discover.names(f"{root}.{family}")
    }


def page(cause: str) -> Page:
    """The page of a known cause; `cause` is a key of `families()`."""
    family = families()[cause]
    module = importlib.import_module(f"adapterfit.causes.{family}.{cause.replace('-', '_')}")
    return parse(cause, family, module)


def parse(cause: str, family: str, module: ModuleType) -> Page:
    """Take a cause's docstring apart: the title, then the sections."""
    title, *parts = _HEADING.split(module.__doc__ or "")
    texts = (" ".join(text.split()) if "\n\n" not in text.strip() else text.strip() for text in parts[1::2])
    return Page(cause, family, title.strip(), dict(zip(parts[0::2], texts)), module.CAUSE)
