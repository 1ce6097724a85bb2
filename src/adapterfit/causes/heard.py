"""What several causes ask of a pasted text: which of its lines say something, and an answer made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from adapterfit.records import Fix, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import LogKey, Symptoms

#: Lines quoted with one answer, and characters of each.
_QUOTED = 3
_CHARS = 240
#: From here on an answer is called certain.
HIGH, MEDIUM = 0.9, 0.5
#: Words of TRL and LLaMA-Factory about a value head that is not there.
VALUE_HEAD = (
    "no v_head weight is found",
    "does not contain value head weights",
    "failed to load value_head",
    "failed to load value head",
)
#: Two answers that differ by less are as likely as each other; it only says which of them is named first.
ALIKE = 0.005

_Read = TypeVar("_Read")


def once(read: Callable[[Symptoms], _Read]) -> Callable[[Symptoms], _Read]:
    """A reading that some thirty causes ask for: made once for the text that was asked about last."""
    last: list[tuple[Symptoms, _Read]] = []

    @wraps(read)
    def asked(symptoms: Symptoms) -> _Read:
        known = last[0] if last else None
        if known is None or known[0] is not symptoms:
            known = (symptoms, read(symptoms))
            last[:] = [known]
        return known[1]

    return asked


def said(symptoms: Symptoms, *phrases: str, most: int = 20) -> tuple[int, ...]:
    """The lines in which one of the phrases begins; phrases are in lower case, with single spaces."""
    found: list[int] = []
    for phrase in phrases:
        at = symptoms.folded.find(phrase)
        while at >= 0 and len(found) < most:
            found.append(line_of(symptoms, at))
            at = symptoms.folded.find(phrase, at + len(phrase))
    return tuple(sorted(set(found)))


def line_of(symptoms: Symptoms, position: int) -> int:
    """The line in which a position of `text` lies."""
    from bisect import bisect_right

    return max(0, bisect_right(symptoms.starts, position) - 1)


def after(symptoms: Symptoms, phrase: str, chars: int = 200) -> str:
    """The text that follows the first place where a phrase stands; an empty string where it does not."""
    at = symptoms.folded.find(phrase)
    return symptoms.text[at + len(phrase) : at + len(phrase) + chars] if at >= 0 else ""


def between(symptoms: Symptoms, phrase: str, quotes: str = "'\"`") -> str:
    """What stands in quotes right after a phrase: `Can't find 'x' at 'y'` and `at ` gives `y`."""
    rest = after(symptoms, phrase, 400).lstrip(" :")
    if not rest or rest[0] not in quotes:
        return ""
    end = rest.find(rest[0], 1)
    return rest[1:end] if end > 0 else ""


def lacks_file(symptoms: Symptoms) -> bool:
    """Whether the Hub has the repository and hands it out, and only the file is not in it."""
    entry = said(symptoms, "entrynotfounderror", "entry not found for url")
    return bool(entry) and not said(symptoms, "repository not found", "repositorynotfounderror", "gatedrepoerror")


def config_is_missing(symptoms: Symptoms) -> tuple[int, ...]:
    """PEFT's line that a folder has no adapter_config.json, where nothing in the text tells why."""
    hub = any(url.status for url in symptoms.urls) or said(
        symptoms, "repository not found", "gated repo", "errno 2]", "errno 20]"
    )
    listed = any(not file.folder for file in symptoms.files)
    path = any(error.kind == "HFValidationError" for error in symptoms.errors)
    return () if hub or path or listed else said(symptoms, "can't find 'adapter_config.json' at")


def suspect(
    symptoms: Symptoms,
    message: str,
    likelihood: float,
    lines: Iterable[int] = (),
    *,
    fix: str = "",
    apart: str = "",
) -> Suspicion:
    """An answer of the cause that calls this; diagnose fills in the id."""
    quoted = [symptoms.lines[line] for line in sorted(set(lines))[:_QUOTED] if line < len(symptoms.lines)]
    return Suspicion(
        id="",
        message=message,
        likelihood=likelihood,
        confidence=words(likelihood),
        evidence=tuple(show(" ".join(line.split()), _CHARS) for line in quoted if line.strip()),
        fix=Fix("unsafe", fix) if fix else None,
        apart=apart,
    )


def words(likelihood: float) -> str:
    """A likelihood in the words of a report."""
    return "high" if likelihood >= HIGH else "medium" if likelihood >= MEDIUM else "low"


def at(keys: Iterable[LogKey]) -> tuple[int, ...]:
    """The lines of names."""
    return tuple(key.line for key in keys)


def older(symptoms: Symptoms, library: str, version: str) -> bool | None:
    """Whether a library in the text is older than a version; None where the text does not tell its version."""
    told = symptoms.versions.get(library)
    return None if told is None else _numbers(told) < _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:3]
    return tuple(int(part) if part.isascii() and part.isdigit() else 0 for part in parts)
