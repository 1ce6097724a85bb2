"""The page of a cause, taken from the cause's own file. Used by `explain`, by the documentation and by a law."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapterfit.causes.cause import Cause
    from adapterfit.diagnose.registry import Entry

#: What every page answers, in this order.
HEADINGS = ("What this means", "Why it happens", "Detection", "Fix", "Workaround", "Prevention")
_HEADING = re.compile(rf"^({'|'.join(HEADINGS)}):", re.MULTILINE)


class Page(NamedTuple):
    """A cause as people read it. `sections`: heading → its paragraphs, in the order of the file."""

    id: str
    family: str
    title: str
    sections: Mapping[str, tuple[str, ...]]
    cause: Cause


def pages() -> dict[str, Page]:
    """Every cause's page, by id."""
    from adapterfit.diagnose.registry import all_causes

    return {entry.id: parse(entry) for entry in all_causes()}


def parse(entry: Entry) -> Page:
    """Take a cause's docstring apart: the title, then the sections."""
    title, *parts = _HEADING.split(entry.page)
    sections = {heading: _paragraphs(text) for heading, text in zip(parts[0::2], parts[1::2])}
    return Page(entry.id, entry.family, title.strip(), sections, entry.cause)


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(_sentence(" ".join(part.split())) for part in text.split("\n\n") if part.strip())


def _sentence(paragraph: str) -> str:
    """With a capital, as a paragraph of its own; our own name has none."""
    return paragraph if paragraph.startswith("adapterfit") else paragraph[:1].upper() + paragraph[1:]
