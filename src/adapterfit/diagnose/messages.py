"""Lines that the pages of causes show, found in a pasted text: what no procedure reads is known by its own words.

A page's `messages` are the lines its users see. Names, numbers and lists in them are each user's own and are left out. Where
another cause has already explained the line, the words alone do not tell the two apart, and both are answered alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from adapterfit.causes.lost import read_names
from adapterfit.diagnose.registry import Entry, all_causes
from adapterfit.records import Fix, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

#: How likely a cause is whose line stands in the text: alone, or beside others with the same line.
_ALONE, _SHARED = 0.8, 0.7
#: The same where that line is all there is, and how many lines and causes that may be.
_GUESSED, _SHORT, _FEW = 0.3, 3, 5
#: Lists of names and shapes: procedures read these, and the words around them say nothing.
_READ = (
    "found missing adapter keys", "size mismatch for", "target modules", "copying a param", "missing key(s)", "unexpected key(s)",
    "expected target modules", "lora key not loaded", "(none", "(no message", "(nothing", "cannot copy out of meta tensor", "no modules were targeted", "mat1 and mat2 shapes",
)  # fmt: skip
#: Errors that Python itself raises about anything: the names in them count, and so does who raised them.
_PYTHON = frozenset({"TypeError", "AttributeError", "KeyError", "ZeroDivisionError", "IndexError"})
#: A user's own part of a line.
_OWN = re.compile(
    r"(?<!\w)'[^']*'|\"[^\"]*\"|`+[^`]*`+|\{[^}]*\}|\[[^\]]*\]|[\w-]*[/\\][\w./\\-]*\w|\b\w+(?:\.\w+){2,}|\.\.\.|…|-?\d+(?:\.\d+)*"
)
_KIND = re.compile(r"(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Warning|Exception)): ")
#: A line must have so many words of its own, and so many letters, to be known by them.
_WORDS, _LETTERS = 3, 18
_CHARS = 240


class _Line(NamedTuple):
    """A page's line: the error's class, its longest words in lower case, and the pattern of all of it."""

    entry: Entry
    kind: str
    words: str
    pattern: re.Pattern[str]


def recognised_by_message(symptoms: Symptoms, found: list[Suspicion]) -> Iterator[Suspicion]:
    """Causes without a procedure of their own whose page shows a line of this text, beside those that procedures found."""
    yield from _by_names(symptoms)
    heard = [(line, number) for line in _lines() for number in [_heard_in(symptoms, line)] if number >= 0]
    many = len({line.entry.id for line, _ in heard}) > 1
    for line, number in heard:
        quoted = show(" ".join(symptoms.lines[number].split()), _CHARS)
        explained = max((one.likelihood for one in found if quoted in one.evidence), default=0.0)
        yield _of_page(line.entry, explained or (_SHARED if many else _ALONE), quoted)


def guessed_by_message(symptoms: Symptoms) -> Iterator[Suspicion]:
    """For a line or two that no procedure answers: the causes whose pages show that line, as long as they are few.

    They are guesses: whoever pastes one line says neither who raised it nor what else there was.
    """
    lines = [line for line in symptoms.lines if line.strip()]
    if symptoms.frames or len(lines) > _SHORT:
        return
    said = {" ".join(line.lower().split()): line for line in lines}
    heard: dict[str, tuple[Entry, str]] = {}
    for entry in all_causes():
        for message in entry.cause.messages:
            whole = said.get(" ".join(message.lower().split()))
            matched = [
                line
                for words, line in said.items()
                if any(each.pattern.search(words) for each in _made(entry, message))
            ]
            for line in [whole] if whole is not None else matched:
                heard.setdefault(entry.id, (entry, line))
    if len(heard) <= _FEW:
        for entry, line in heard.values():
            yield _of_page(entry, _GUESSED, show(" ".join(line.split()), _CHARS))


def _by_names(symptoms: Symptoms) -> Iterator[Suspicion]:
    """Those that missing names tell of, or do not tell from others."""
    readings = read_names(symptoms)
    for entry in all_causes() if readings else ():
        names = readings.get(entry.id)
        if names is not None and not hasattr(entry.module, "recognise"):
            yield _of_page(entry, names.likelihood, show(" ".join(symptoms.lines[names.lines[0]].split()), _CHARS))


def _of_page(entry: Entry, likelihood: float, quoted: str) -> Suspicion:
    """An answer in the words of the cause's page."""
    return Suspicion(
        entry.id,
        _uncapped(_heading(entry, "")),
        likelihood,
        evidence=(quoted,),
        fix=Fix("unsafe", _heading(entry, "Fix")),
        apart=detection(entry),
    )


def detection(entry: Entry) -> str:
    """What to look at, to know whether it is this cause, in the words of its page; a check is named where it looks for that cause."""
    run = "adapterfit check ADAPTER --base BASE: " if hasattr(entry.module, "check") else ""
    return f"{run}{_uncapped(_heading(entry, 'Detection'))}"


def _uncapped(sentence: str) -> str:
    """A sentence that stands behind a colon; names keep their capitals."""
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() or sentence[1:2] == " " else sentence


def _heard_in(symptoms: Symptoms, line: _Line) -> int:
    """The line of the text in which a page's line stands; -1 where it does not."""
    if line.words not in symptoms.folded:
        return -1
    match = line.pattern.search(symptoms.folded)
    if match is None:
        return -1
    number = _number(symptoms, match.start())
    if line.kind in _PYTHON and not any(e.kind == line.kind and e.line == number and e.library in {"peft", "transformers", "torch"} for e in symptoms.errors):  # fmt: skip
        return -1
    return number


def _number(symptoms: Symptoms, position: int) -> int:
    from bisect import bisect_right

    return max(0, bisect_right(symptoms.starts, position) - 1)


@lru_cache(maxsize=1)
def _lines() -> tuple[_Line, ...]:
    """What can be looked for; a cause with a procedure has read its lines there."""
    bare = [entry for entry in all_causes() if not hasattr(entry.module, "recognise")]
    return tuple(line for entry in bare for message in entry.cause.messages for line in _made(entry, message))


def _made(entry: Entry, message: str) -> Iterator[_Line]:
    kind = _KIND.match(message)
    said = message[kind.end() :] if kind is not None else message
    if said.lower().startswith(_READ):
        return
    name = kind[1] if kind is not None else ""
    parts = [said] if name in _PYTHON else _OWN.split(said)
    kept = [" ".join(part.lower().split()).rstrip(".,:;") for part in parts if re.search(r"[A-Za-z]{2}", part)]
    words = re.findall(r"[a-z_]{2,}", " ".join(kept))
    if len(words) >= _WORDS and sum(map(len, words)) >= _LETTERS:
        joined = r".{0,300}?".join(map(re.escape, kept))
        yield _Line(entry, name, max(kept, key=len), re.compile(joined))


def _heading(entry: Entry, heading: str) -> str:
    """The first sentence below a heading of the page; without one, the page's title."""
    if not heading:
        return entry.page.strip().partition("\n")[0].rstrip(".")
    text = entry.page.partition(f"\n{heading}:")[2].partition("\n\n")[0]
    words = " ".join(text.split())
    return re.split(r"(?<=[a-z`)])\. ", words)[0].rstrip(".")
