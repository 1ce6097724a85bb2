"""What a rule is: the contract between the files in `rules` and the engine.

A rule's file holds the whole truth about it: its docstring is its page (headings as on a cause's page), `RULE` its head,
`check(code)` yields hits, `FIRES` and `SILENT` are snippets that the tests run. Its id is the file's name with hyphens.
Whether it has a fix, and a safe one, is what its snippets show.

A fix is *safe* where it gives what the code as it stands gives, on every run on which that was right: it can turn a wrong
result or an exception into the right result, and change nothing else in the file. Any other fix is *unsafe*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import libcst as cst

from adapterfit import discover
from adapterfit.lint.disk import Disk
from adapterfit.lint.flow import follow
from adapterfit.lint.script import Script
from adapterfit.lint.trace import Call, Store

SAFE, UNSAFE = "safe", "unsafe"


class Code:
    """What a rule looks at: the script, what it does, and what lies beside it."""

    def __init__(self, text: str, folder: Path | None = None) -> None:
        """Read a script without running it.

        Raises:
            CannotCheck: It cannot be read, or is too complex.
        """
        self.script = Script(text, folder)
        self.trace = follow(self.script.module)
        self.disk = Disk(folder)


class Edit(NamedTuple):
    """Replace the characters `[start, end)` by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Fix:
    """Edits that mend a hit, all of them or none."""

    summary: str
    edits: tuple[Edit, ...]
    safety: str = UNSAFE


@dataclass(frozen=True)
class Hit:
    """A rule fires at an event. `node` is what is marked, the event's own node where it is None."""

    event: Call | Store
    message: str
    fix: Fix | None = None
    node: cst.CSTNode | None = None

    @property
    def at(self) -> cst.CSTNode:
        """What is marked."""
        return self.node or self.event.node


@dataclass(frozen=True)
class Rule:
    """A rule's head. `cause`: the id of the cause that `adapterfit check` names when the harm is done, if there is one."""

    severity: str = "error"
    cause: str = ""


@dataclass(frozen=True)
class Snippet:
    """An example. `fixed`: what it looks like mended, empty where no fix is offered; `safety` of that fix.

    `files`: what lies beside it. `also`: other rules that rightly fire on it. `runs`: the mended code runs beside the tiny models that
    the tests make (a base in `base`, its adapter in `adapter`), with `then` below it where nothing in it calls its functions.
    `needs`: one more library that it imports; without it the tests say that it was not run.
    """

    code: str
    fixed: str = ""
    safety: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    runs: bool = False
    then: str = ""
    needs: str = ""
    also: tuple[str, ...] = ()


class Entry(NamedTuple):
    """A rule with its id and the module that holds all of it."""

    id: str
    rule: Rule
    module: Any

    @property
    def page(self) -> str:
        """Its page: the module's docstring."""
        return str(self.module.__doc__ or "")

    @property
    def family(self) -> str:
        """The family it stands under beside those of the causes."""
        return "lint"

    @property
    def cause(self) -> Rule:
        """Its head, where a page of a cause has the cause."""
        return self.rule

    @property
    def fixes(self) -> tuple[str, ...]:
        """The kinds of fix that its snippets show: none, `safe`, `unsafe` or both."""
        return tuple(sorted({snippet.safety for snippet in self.module.FIRES if snippet.fixed}))

    def check(self, code: Code) -> Iterator[Hit]:
        """Its hits in a script."""
        hits: Iterator[Hit] = self.module.check(code)
        return hits


def all_rules() -> dict[str, Entry]:
    """Every rule, by id."""
    found = discover.members("adapterfit.lint.rules")
    return {
        name.replace("_", "-"): Entry(name.replace("_", "-"), module.RULE, module) for name, module in found.items()
    }
