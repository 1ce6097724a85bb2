"""How much a pasted text speaks like the page of a cause: the words that both use, rare ones counting more.

A word counts by its rarity among the pages (log of pages over pages that use it), and once more for each doubling of its number.
It tells apart guesses that as many words speak for; it makes none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import log, sqrt
from typing import TYPE_CHECKING

from adapterfit.diagnose.registry import Entry, all_causes

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

_WORD = re.compile(r"[a-z_][a-z0-9_]{2,60}")
#: Characters of the text that are read; a page has some thousand.
_MOST = 60_000
#: A cause's own name counts as if its page said it so often.
_NAME = 2


def likeness(symptoms: Symptoms, entries: Iterable[Entry]) -> Mapping[str, float]:
    """Cause → the cosine of its page and the text, from 0 (no word in common) to 1."""
    weights = _rarity()
    text = _vector(Counter(_words(symptoms.folded[:_MOST])), weights)
    return {entry.id: _product(text, _vector(_page(entry), weights)) for entry in entries}


@lru_cache(maxsize=1)
def _rarity() -> Mapping[str, float]:
    pages = [_page(entry) for entry in all_causes()]
    used = Counter(word for page in pages for word in page)
    return {word: log(len(pages) / number) for word, number in used.items()}


def _page(entry: Entry) -> Counter[str]:
    own = (*entry.cause.messages, *getattr(entry.module, "HINTS", ()), *[entry.id] * _NAME)
    return Counter(_words(" ".join((entry.page, *own)).lower()))


def _words(text: str) -> list[str]:
    whole = _WORD.findall(text.replace("-", " "))
    return whole + [part for word in whole if "_" in word for part in word.split("_") if len(part) > 2]


def _vector(words: Counter[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Words and their weights, of length 1; a word that no page uses counts nothing."""
    raw = {word: (1 + log(number)) * weights[word] for word, number in words.items() if weights.get(word)}
    length = sqrt(sum(weight * weight for weight in raw.values())) or 1.0
    return {word: weight / length for word, weight in raw.items()}


def _product(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())
