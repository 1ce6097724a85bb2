"""Notes: what users say about a cause or a rule that holds for some versions only. One Markdown file, one note.

A note lies in `causes/notes/<id>/<date>-<words>.md`; its head are lines `source: …` (an https address), `versions: …` and,
if wanted, `by: …`; after an empty line comes the text: paragraphs and code, without HTML, links and pictures. Notes come
from anybody, so their text is shown as other untrusted text is, and a law holds the form.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from adapterfit.text import show

FOLDER = Path(__file__).parents[1] / "causes" / "notes"
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-[a-z0-9]+(-[a-z0-9]+)*")
_FENCE = "```"


class Note(NamedTuple):
    """One note. `blocks`: paragraphs as text, code as lines; every line of both is safe to print."""

    page: str
    name: str
    date: str
    source: str
    versions: str
    by: str
    blocks: tuple[str | tuple[str, ...], ...]


@lru_cache(maxsize=1)
def notes() -> dict[str, tuple[Note, ...]]:
    """Every page's notes, the newest first."""
    found: dict[str, list[Note]] = {}
    for path in sorted(FOLDER.glob("*/*.md"), reverse=True):
        found.setdefault(path.parent.name, []).append(parse(path.parent.name, path.stem, path.read_text("utf-8")))
    return {page: tuple(sorted(own, key=lambda note: note.date, reverse=True)) for page, own in found.items()}


def parse(page: str, name: str, text: str) -> Note:
    """Take a note apart.

    Raises:
        ValueError: It is not in the form of a note.
    """
    head, gap, body = text.partition("\n\n")
    fields = {key.strip(): show(value.strip()) for key, _, value in (line.partition(":") for line in head.splitlines())}
    dated = _NAME.fullmatch(name)
    if not gap or dated is None or not {"source", "versions"} <= fields.keys() <= {"source", "versions", "by"}:
        raise ValueError(f"{page}/{name}: a note is called DATE-words.md and begins with source: and versions:")
    return Note(page, name, dated[1], fields["source"], fields["versions"], fields.get("by", ""), tuple(_blocks(body)))


def _blocks(body: str) -> list[str | tuple[str, ...]]:
    """Paragraphs and code in turn."""
    blocks: list[str | tuple[str, ...]] = []
    for at, part in enumerate(re.split(rf"^{_FENCE}.*$", body, flags=re.MULTILINE)):
        if at % 2:
            blocks.append(tuple(show(line) for line in part.strip("\n").expandtabs().splitlines()))
        else:
            blocks += [show(" ".join(text.split()), None) for text in part.split("\n\n") if text.strip()]
    return blocks


def head(note: Note) -> str:
    """One line: when, for what, from where."""
    by = f", by {note.by}" if note.by else ""
    return f"{note.date}{by}, for {note.versions}: {note.source}"
