"""What `make pages` saw when it ran the code of the pages: `causes/verified.jsonl`, written by `tools/verify_pages.py`.

One line per page, so that two branches that add pages merge; the first line tells what the pages were run with.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapterfit.cli._page import Code, Page

FILE = Path(__file__).parents[1] / "causes" / "verified.jsonl"


class Verified(NamedTuple):
    """`versions`: library → version; `prelude`: its digest; `pages`: id → `code` (a digest), `date`, `broken`, `fixed`.

    A page that needs another library says `with` which version of it; one whose broken code is run with older releases, which.
    """

    versions: Mapping[str, str]
    prelude: str
    pages: Mapping[str, Mapping[str, str]]


def read() -> Verified:
    """The file."""
    rows = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    head = next(row for row in rows if "versions" in row)
    return Verified(head["versions"], head["prelude"], {row["page"]: row for row in rows if "page" in row})


def digest(code: Code) -> str:
    """What changes whenever the code of a page does."""
    older = f"\0{code.older}" if code.older else ""
    return _short(f"{code.setup}\0{code.broken}\0{code.fixed}{older}".encode())


def prelude_digest(path: Path) -> str:
    """What changes whenever the code that all pages start from does."""
    return _short(path.read_bytes())


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def lines(page: Page) -> tuple[str, ...]:
    """The page's last lines: whether its code was run, with what and when, and what it did."""
    if page.code.not_run:
        return (f"Not verified here: {page.code.not_run}",)
    verified = read()
    seen = verified.pages.get(page.id)
    if not page.code.runs or seen is None:
        return ("Not verified: this code was never run.",)
    if seen["code"] != digest(page.code):
        return (f"Not verified: the code has changed since it was run on {seen['date']}.",)
    versions = ", ".join(f"{name} {version}" for name, version in verified.versions.items())
    versions += f", {seen['with']}" if seen.get("with") else ""
    return (
        f"Verified with {versions} on {seen['date']}.",
        f"Broken: {seen['broken']}.",
        f"Fixed: {seen['fixed']}.",
    )
