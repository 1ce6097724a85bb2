"""Lint one text or file: run the rules, leave out what is silenced, and mend what can be mended."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import libcst as cst

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.lint import files, noqa
from adapterfit.lint.notebook import Notebook, apply, is_python
from adapterfit.lint.rule import SAFE, Code, Edit, Fix, Hit, all_rules
from adapterfit.text import show

#: A rule fires on names that are imported, and on adapters: a file without the one or the other is not even parsed.
_IMPORTS = re.compile(
    r"\b(import|from)\s+(peft|torch|safetensors|transformers|trl|accelerate|deepspeed)\b|,\s*(peft|torch|safetensors)\b"
)
_ADAPTERS = re.compile("peft|adapter|load_state_dict|load_model", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """A rule's finding. Lines and columns from 1, as people count; in a notebook, within the cell."""

    rule: str
    severity: str
    message: str
    line: int
    column: int
    end_line: int
    end_column: int
    fix: Fix | None = None
    cell: int | None = None


@dataclass(frozen=True)
class Result:
    """One file, linted. `fixed` counts the findings mended; where there are any, `before` and `after` are its text without and with that.

    `unread` says what of it was not checked, and why.
    """

    path: str
    findings: tuple[Finding, ...] = ()
    unread: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    fixed: Mapping[str, int] = field(default_factory=dict)


def findings(text: str, folder: Path | None = None, chosen: Collection[str] | None = None) -> tuple[Finding, ...]:
    """The findings in a Python text, in its order. `chosen`: ids of the rules to run, all by default.

    Raises:
        CannotCheck: The text cannot be read.
    """
    if not _ADAPTERS.search(text) or not _IMPORTS.search(text):
        return ()
    code = Code(text, folder)
    quiet = noqa.suppressions(text)
    found: dict[tuple[str, int, int], Finding] = {}
    for entry in all_rules().values():
        if chosen is not None and entry.id not in chosen:
            continue
        for hit in _certain(code, list(entry.check(code))):
            key = (entry.id, *code.script.span(hit.at))
            finding = _finding(code, entry.id, entry.rule.severity, hit)
            if key in found and found[key].fix != hit.fix:  # called from two places that want two fixes
                finding = replace(finding, fix=None)
            if not noqa.silenced(entry.id, _lines(code, hit), quiet):
                found[key] = finding
    return tuple(sorted(found.values(), key=lambda item: (item.line, item.column, item.rule)))


def _certain(code: Code, hits: Sequence[Hit]) -> Iterator[Hit]:
    """Of hits in functions that are called from several places, those that hold at each of them.

    A loop's later rounds are no other place: what happens in one of them happens.
    """
    held: dict[cst.CSTNode, set[tuple[cst.CSTNode, ...]]] = {}
    for hit in hits:
        held.setdefault(hit.event.node, set()).add(hit.event.place.context)
    for hit in hits:
        if {event.place.context for event in code.trace.runs(hit.event.node)} <= held[hit.event.node]:
            yield hit


def _finding(code: Code, rule: str, severity: str, hit: Hit) -> Finding:
    start, end = code.script.span(hit.at)
    (line, column), (end_line, end_column) = code.script.where(start), code.script.where(end)
    return Finding(rule, severity, hit.message, line, column + 1, end_line, end_column + 1, hit.fix)


def _lines(code: Code, hit: Hit) -> set[int]:
    """The lines on which a comment silences a hit: where it begins and ends, and where its statement does."""
    nodes = [hit.at, hit.event.place.statement or hit.at]
    return {code.script.where(offset)[0] for node in nodes for offset in code.script.span(node)}


# ------------------------------------------------------------------------------------------------ files


class Document:
    """A file's text as Python, whichever kind of file it is."""

    def __init__(self, data: bytes, *, is_notebook: bool) -> None:
        """Decode a script or a notebook.

        Raises:
            CannotCheck: It is not in the encoding that it states (UTF-8, where it states none), or no notebook.
        """
        self._mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
        self._encoding = "utf-8" if is_notebook else _encoding(data)
        try:
            self.raw = data[len(self._mark) :].decode(self._encoding)
        except UnicodeDecodeError as error:
            raise CannotCheck(f"it is not {'UTF-8' if self._encoding == 'utf-8' else show(self._encoding)}") from error
        self._notebook = Notebook(self.raw) if is_notebook else None
        self.text = self._notebook.text if self._notebook is not None else self.raw
        self.unread = tuple(self._notebook.unread) if self._notebook is not None else ()

    def edited(self, edits: Sequence[Edit]) -> Document | None:
        """The document with these edits, None where they cannot be carried over or would leave no Python."""
        raw = self._notebook.edited(edits) if self._notebook is not None else apply(self.raw, edits)
        if raw is None:
            return None
        new = Document(self._mark + raw.encode(self._encoding), is_notebook=self._notebook is not None)
        return new if is_python(new.text) and len(new.unread) <= len(self.unread) else None

    def located(self, finding: Finding) -> Finding:
        """The finding with its cell, and lines counted within it."""
        if self._notebook is None:
            return finding
        start = sum(map(len, self.text.splitlines(keepends=True)[: finding.line - 1]))
        cell, first = self._notebook.cell_of(start)
        above = self.text.count("\n", 0, first)
        return replace(finding, line=finding.line - above, end_line=finding.end_line - above, cell=cell)

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return self._mark + self.raw.encode(self._encoding)


def _encoding(data: bytes) -> str:
    """What a script says it is encoded in, as Python reads it (PEP 263)."""
    try:
        found = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    except SyntaxError as error:
        raise CannotCheck(f"its encoding cannot be told: {show(error.msg)}") from error
    return "utf-8" if found == "utf-8-sig" else found


def lint(
    source: files.Source, chosen: Collection[str] | None = None, safeties: Collection[str] = ()
) -> tuple[Result, bytes]:
    """Lint one file and mend what `safeties` allow. Nothing is written; the mended bytes are handed back.

    Raises:
        CannotCheck: It cannot be read.
    """
    before = Document(source.data, is_notebook=source.path.suffix == ".ipynb")
    folder = source.path.parent
    after, fixed = before, dict[str, int]()
    found = findings(before.text, folder, chosen)
    for _round in range(limits.LINT_ROUNDS if safeties else 0):
        mended = _mend(after, [finding for finding in found if finding.fix and finding.fix.safety in safeties])
        if mended is None:
            break
        after, rules = mended
        for rule in rules:
            fixed[rule] = fixed.get(rule, 0) + 1
        found = findings(after.text, folder, chosen)
    located = tuple(map(after.located, found))
    texts = (before.raw, after.raw) if fixed else ("", "")  # of a large tree, what did not change is not kept
    return Result(str(source.path), located, after.unread, *texts, fixed), after.data


def _mend(document: Document, mendable: Sequence[Finding]) -> tuple[Document, list[str]] | None:
    """The document with as many of the fixes as do not meet one another; None where not one can be carried out."""
    taken: list[Edit] = []
    done: list[str] = []
    best: Document | None = None
    for finding in mendable:
        edits = [edit for edit in (finding.fix.edits if finding.fix else ()) if edit not in taken]
        if any(_meet(edit, other) for edit in edits for other in taken):
            continue
        new = document.edited([*taken, *edits])
        if new is not None and new.raw != document.raw:
            taken += edits
            done.append(finding.rule)
            best = new
    return (best, done) if best is not None else None


def _meet(one: Edit, two: Edit) -> bool:
    if one.start == one.end == two.start == two.end:
        return True  # two insertions at one place have no order
    return (one.start < two.end and two.start < one.end) or one.start == two.start


#: What `--fix` and `--unsafe-fixes` carry out.
SAFE_ONLY = (SAFE,)
