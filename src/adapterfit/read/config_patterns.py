"""Patterns of a config that PEFT compiles: how long, how many, and do they compile? They are never run here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit import limits
from adapterfit.read.peft_facts import Method
from adapterfit.records import Flaw
from adapterfit.text import quote, show

#: A name without regex characters always compiles.
_PLAIN = re.compile(r"[\w.\-/]*", re.ASCII)
#: The expression PEFT builds around an entry; the key says where it stands.
_AROUND = {
    "target_modules": "{}",
    "exclude_modules": "{}",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
    "rank_pattern": r"(.*\.)?({})$",
    "alpha_pattern": r"(.*\.)?({})$",
}


def check(raw: Mapping[str, Any], facts: Method, file: str) -> Iterator[Flaw]:
    """Patterns that are too long, too many, or do not compile."""
    left = limits.PATTERNS_CHARS
    for key, pattern in _patterns(raw, facts):
        if len(pattern) > limits.PATTERN_CHARS:
            yield _too_long(
                file, key, f"a pattern of {len(pattern):,} characters; {limits.PATTERN_CHARS:,} are looked at"
            )
            continue
        if _PLAIN.fullmatch(pattern):
            continue
        left -= len(pattern)
        if left < 0:
            yield _too_long(file, key, f"patterns of more than {limits.PATTERNS_CHARS:,} characters together")
            return
        problem = _problem(_AROUND[key].format(pattern) if _AROUND[key] != "{}" else pattern)
        if problem:
            yield _invalid(file, key, pattern, problem)


def _patterns(raw: Mapping[str, Any], facts: Method) -> Iterator[tuple[str, str]]:
    for key in _AROUND:
        value = raw.get(key)
        if key not in facts.fields or value is None or _idle(key, raw):
            continue
        if isinstance(value, str):
            # The literal is not a pattern.
            if key in ("target_modules", "exclude_modules", "layers_pattern") and value.lower() != "all-linear":
                yield key, value
        elif key in ("modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern") and isinstance(
            value, (list, dict)
        ):
            yield from ((key, each) for each in value if isinstance(each, str))


def _idle(key: str, raw: Mapping[str, Any]) -> bool:
    """PEFT compiles a layers_pattern only where layers_to_transform stands beside it."""
    return key == "layers_pattern" and raw.get("layers_to_transform") is None


def _problem(expression: str) -> str:
    """What compiling it raises, as PEFT prints it; empty where it compiles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(expression)
        except re.error as error:
            return f"error: {show(error)}"
        except RecursionError:
            return "RecursionError: maximum recursion depth exceeded"
        except OverflowError as error:
            return f"OverflowError: {show(error)}"
    return ""


def _invalid(file: str, key: str, pattern: str, raised: str) -> Flaw:
    return Flaw(
        code="regex-invalid",
        message=f"{show(file)}: {key} holds {quote(pattern, 80)}, which is not a valid regular expression",
        where=file,
        found=quote(pattern, 80),
        refused=False,
        raised=raised,
        remedy="correct the pattern, or list the module names",
    )


def _too_long(file: str, key: str, problem: str) -> Flaw:
    message = f"{show(file)}: {key} holds {problem}; its matches were not worked out"
    return Flaw("over-limit", message, where=file, refused=False, severity="warning", predicted="none")
