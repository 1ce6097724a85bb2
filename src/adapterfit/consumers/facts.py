"""What is known about a consumer, version by version: one TOML file each, beside this module, validated by this schema.

A file is `<name>.toml` and holds::

    name = "peft"                       # as in --for
    title = "PEFT"                      # as people write it
    newest = "0.21.2"                   # the newest version looked at
    releases = ["0.20.0", "0.21.2"]     # optional: the versions known, oldest first; a range given to --for means these
    install = "pip install 'peft=={version}'"       # optional
    aliases = ["hf-peft"]               # optional: other names that --for understands

    [[claim]]
    id = "unknown-config-keys"          # kebab-case: what the claim is about; several ranges may share an id
    versions = ">=0.6,<0.14"            # empty: every version. Ranges of one id never overlap
    beside = "transformers>=5.6"        # optional: it holds only where this other library has such a version
    what = "An unknown key of adapter_config.json raises TypeError."
    value = "raises"                    # optional: what a rule reads (text, number, boolean, list or table)
    source = "peft 0.13.2 config.py, PeftConfigMixin.from_pretrained"
    date = 2026-11-25                   # when it was last seen to be so
    mark = "read"                       # read: in the source or the documentation; suspected: not even that
    unrun = "It needs a GPU."           # optional: why no run will ever bear it out

Rules read `claim(id, version)`. A claim marked *suspected* never makes more than a note: `known` leaves it out.
The third mark, *executed*, is not written here: a run of the program sets it, with its date (`runs.py`), for the versions
that were run; and a run that went otherwise makes the claim a suspected one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapterfit.consumers import runs
from adapterfit.consumers.versions import Range, version, version_range
from adapterfit.record import dataclass

_HERE = Path(__file__).parent
#: What a person may say; the third mark is `EXECUTED`.
MARKS = ("read", "suspected")
EXECUTED = "executed"
_HEAD = {"name": str, "title": str, "newest": str, "releases": list, "install": str, "aliases": list, "claim": list}
_NEEDED = ("name", "title", "newest", "claim")
_CLAIM = {"id": str, "versions": str, "what": str, "source": str, "date": dt.date, "mark": str}
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9.]+)*")


@dataclass(frozen=True)
class Claim:
    """One dated statement about a range of versions. `value` is what rules read; None where the claim only says it.

    As it stands in `Facts.claims` it is what the file says; `Facts.at` has it with what running the version showed.
    """

    id: str
    versions: Range
    what: str
    source: str
    date: dt.date
    mark: str
    value: Any = None
    beside: str = ""
    unrun: str = ""

    def holds(self, at: str, others: Mapping[str, str]) -> bool:
        """Whether it speaks of a version, beside these versions of other libraries."""
        if at not in self.versions:
            return False
        name, within = split_beside(self.beside)
        return not name or (name in others and others[name] in within)


@dataclass(frozen=True)
class Facts:
    """Everything known about one consumer. `ran`: version, claim and digest of its value → what a run of that version showed."""

    name: str
    title: str
    newest: str
    claims: tuple[Claim, ...]
    releases: tuple[str, ...] = ()
    install: str = ""
    aliases: tuple[str, ...] = ()
    ran: Mapping[tuple[str, str, str], runs.Run] = field(default_factory=dict)

    def at(self, version: str, others: Mapping[str, str] = MappingProxyType({})) -> Iterator[Claim]:
        """The claims that hold for a version, with mark and date of its run where there was one.

        `others`: the versions of the libraries beside it, by name.
        """
        return (self.seen(claim, version) for claim in self.claims if claim.holds(version, others))

    def seen(self, claim: Claim, version: str) -> Claim:
        """The claim, executed or refuted at that version; as it stands where this claim was not run."""
        run = self.ran.get((version, claim.id, runs.digest(claim.value))) if self.ran else None
        if run is None:
            return claim
        return dataclasses.replace(claim, mark=EXECUTED if run.confirmed else "suspected", date=run.date)

    def claim(self, name: str, at: str, others: Mapping[str, str] = MappingProxyType({})) -> Claim | None:
        """The claim called `name` that holds for a version, suspected ones included; None where nothing is said."""
        return next((each for each in self.at(at, others) if each.id == name), None)

    def known(self, name: str, at: str, default: Any = None, others: Mapping[str, str] = MappingProxyType({})) -> Any:
        """The value of a claim that was executed or read; `default` where there is none."""
        found = self.claim(name, at, others)
        return default if found is None or found.mark == "suspected" else found.value

    def rules(self, at: str, others: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
        """The values of all claims that hold and were executed or read, by id."""
        return {c.id: c.value for c in self.at(at, others) if c.value is not None and c.mark != "suspected"}


_BESIDE = re.compile(r"(?P<name>[a-z]+)(?P<range>[<>=!].*)")


@cache
def split_beside(text: str) -> tuple[str, Range]:
    """`transformers>=5.6` as a name and a range; an empty text as no name.

    Raises:
        ValueError: It is neither.
    """
    match = _BESIDE.fullmatch(text)
    if match is None and text:
        raise ValueError(f"beside is no library and range: {text!r}")
    return (match["name"], version_range(match["range"])) if match else ("", version_range(""))


@cache
def names() -> tuple[str, ...]:
    """The consumers that have facts."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.toml")))


@cache
def load(name: str) -> Facts:
    """The facts of one consumer.

    Raises:
        KeyError: There are none; `name` may come from a user: it is looked up in a closed set.
        ValueError: The file is not as this schema says.
    """
    if name not in names():
        raise KeyError(name)
    document = parse((_HERE / f"{name}.toml").read_bytes())
    wrong = tuple(problems(document, name))
    if wrong:
        raise ValueError(f"{name}.toml: {'; '.join(wrong)}")
    claims = tuple(
        Claim(**{**entry, "versions": version_range(entry["versions"])}) for entry in map(dict, document["claim"])
    )
    head = {key: document[key] for key in ("name", "title", "newest", "install") if key in document}
    releases, aliases = (tuple(document.get(key, ())) for key in ("releases", "aliases"))
    return Facts(**head, claims=claims, releases=releases, aliases=aliases, ran=runs.read(name))


def parse(data: bytes) -> dict[str, Any]:
    """TOML as a table; its reader is part of Python since 3.11."""
    if sys.version_info >= (3, 11):
        import tomllib as toml  # novm
    else:
        import tomli as toml
    document: dict[str, Any] = toml.loads(data.decode("utf-8"))
    return document


def problems(document: Mapping[str, Any], name: str) -> Iterator[str]:
    """Every way in which a document is not as the schema says; nothing for a good one."""
    yield from (f"no {key}" for key in _NEEDED if key not in document)
    for key, value in document.items():
        if key not in _HEAD:
            yield f"unknown key {key}"
        elif not isinstance(value, _HEAD[key]):
            yield f"{key} is no {_HEAD[key].__name__}"
    if document.get("name") != name:
        yield f"name is {document.get('name')!r} in {name}.toml"
    entries = [entry for entry in document.get("claim", ()) if isinstance(entry, Mapping)]
    for entry in entries:
        yield from (f"claim {entry.get('id')!r}: {problem}" for problem in _of_claim(entry))
    yield from _overlaps(entries, tuple(document.get("releases", ())))


def _of_claim(entry: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in _CLAIM.items():
        if not isinstance(entry.get(key), kind):
            yield f"{key} is no {kind.__name__}"
    yield from (f"unknown key {key}" for key in entry if key not in _CLAIM and key not in ("value", "beside", "unrun"))
    if "unrun" in entry and not str(entry["unrun"]).strip().endswith("."):
        yield "unrun is no sentence that says why"
    if entry.get("mark") not in MARKS:
        yield f"mark is none of {', '.join(MARKS)}; executed is what a run says"
    if not _ID.fullmatch(str(entry.get("id"))):
        yield "id is not kebab-case"
    if not str(entry.get("source")).strip() or not str(entry.get("what")).strip():
        yield "what and source must say something"
    try:
        version_range(str(entry.get("versions")))
        split_beside(str(entry.get("beside", "")))
    except ValueError as wrong:
        yield str(wrong)


def _overlaps(entries: list[Mapping[str, Any]], releases: tuple[str, ...]) -> Iterator[str]:
    """Two claims of one id that hold for the same version; tried at every bound, and at the releases."""
    ranges: dict[tuple[str, str], list[Range]] = {}
    for entry in entries:
        try:
            key = (str(entry.get("id")), str(entry.get("beside", "")))
            ranges.setdefault(key, []).append(version_range(str(entry.get("versions"))))
        except ValueError:
            continue
    for (name, _), group in ranges.items():
        bounds = {".".join(map(str, bound.numbers)) for each in group for _, bound in each.parts}
        probes = {"0", *releases, *bounds, *(f"{bound}.0.0.0.1" for bound in bounds)}  # between two bounds, too
        twice = [probe for probe in sorted(probes, key=version) if sum(probe in each for each in group) > 1]
        if twice:
            yield f"claim {name!r} says two things about {twice[0]}"
