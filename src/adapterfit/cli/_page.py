"""The page of a cause or of a rule of lint, taken from its own file. Used by `explain`, by the documentation and by laws."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adapterfit.causes.cause import Cause
    from adapterfit.diagnose.registry import Entry

#: What every page answers, in this order.
HEADINGS = ("What this means", "Why it happens", "Detection", "Fix", "Workaround", "Prevention")
#: What follows them: code that is run by `make pages`, behind what the setup makes of the prelude's files; or why it is not.
CODES = ("Needs", "With", "Setup", "Not run", "Broken", "Fixed")
#: The family of rules.
LINT = "lint"
_HEADING = re.compile(rf"^({'|'.join((*HEADINGS, *CODES))}):", re.MULTILINE)


class Code(NamedTuple):
    """The code of a page. `not_run` says why it is not run, if it is not; `needs` is a library it needs beside the usual ones.

    `older` are the releases with which the broken code is run, and only it, as pip reads them: one to a line.
    """

    setup: str = ""
    broken: str = ""
    fixed: str = ""
    not_run: str = ""
    needs: str = ""
    older: str = ""

    @property
    def runs(self) -> bool:
        """Whether `make pages` runs it."""
        return bool(self.broken and self.fixed and not self.not_run)


class Page(NamedTuple):
    """A cause or a rule as people read it. `sections`: heading → its paragraphs, in the order of the file.

    `family` of a rule is `lint`, and `see` the cause it prevents; its code is run by the tests of lint.
    """

    id: str
    family: str
    title: str
    sections: Mapping[str, tuple[str, ...]]
    cause: Cause
    code: Code = Code()
    see: str = ""

    @property
    def head(self) -> str:
        """What stands below the title."""
        if self.family == LINT:
            return f"{self.cause.severity} · adapterfit lint"
        cause = self.cause
        return f"{cause.severity} · {self.family} · {cause.level} · {cause.minutes} minutes · {cause.versions}"


def pages() -> dict[str, Page]:
    """Every cause's page, by id."""
    from adapterfit.diagnose.registry import all_causes

    return {entry.id: parse(entry) for entry in all_causes()}


def parse(entry: Entry) -> Page:
    """Take a cause's docstring apart: the title, then the sections, then the code."""
    title, sections, codes = _parts(entry.page)
    needs, older, setup, not_run, broken, fixed = (codes.get(heading, "") for heading in CODES)
    code = Code(setup, broken, fixed, " ".join(not_run.split()), needs, older)
    return Page(entry.id, entry.family, title, sections, entry.cause, code)


def _parts(text: str) -> tuple[str, dict[str, tuple[str, ...]], dict[str, str]]:
    """A docstring's title, its sections and its code."""
    title, *parts = _HEADING.split(text)
    texts = dict(zip(parts[0::2], parts[1::2]))
    sections = {heading: _paragraphs(text) for heading, text in texts.items() if heading in HEADINGS}
    codes = {heading: textwrap.dedent(text).strip() for heading, text in texts.items() if heading in CODES}
    return title.strip(), sections, codes


def rules() -> dict[str, Page]:
    """Every rule's page, by id. The rules are read, not imported: they are made of libcst, which may not be there."""
    folder = Path(__file__).parents[1] / "lint" / "rules"
    return {path.stem.replace("_", "-"): _rule(path) for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}


def _rule(path: Path) -> Page:
    from adapterfit.causes.cause import Cause

    tree = ast.parse(path.read_text("utf-8"))
    title, sections, _ = _parts(ast.get_docstring(tree) or "")
    given = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)
             and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    head = {word.arg: ast.literal_eval(word.value) for word in getattr(given.get("RULE"), "keywords", [])}
    texts = [_texts(call) for call in getattr(given.get("FIRES"), "elts", []) if isinstance(call, ast.Call)]
    broken, fixed = next((both for both in texts if both[1]), texts[0] if texts else ("", ""))
    cause = Cause(severity=head.get("severity", "error"))
    identity = path.stem.replace("_", "-")
    return Page(identity, LINT, title, sections, cause, Code("", broken, fixed), head.get("cause", ""))


def _texts(call: ast.Call) -> tuple[str, str]:
    """The code of a snippet as it stands and mended."""
    texts = [node.value.strip() for node in call.args if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return (texts[0], texts[1] if len(texts) > 1 else "") if texts else ("", "")


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(_sentence(" ".join(part.split())) for part in text.split("\n\n") if part.strip())


def _sentence(paragraph: str) -> str:
    """With a capital, as a paragraph of its own; our own name has none."""
    return paragraph if paragraph.startswith("adapterfit") else paragraph[:1].upper() + paragraph[1:]
