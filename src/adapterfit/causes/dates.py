"""Whether a config was certainly written before some version of PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.records import Case, Diff

#: More digits than any part of a version has; Python refuses to read thousands of them.
_DIGITS = 9


def written_before(case: Case, version: str) -> bool:
    """True only where every PEFT that can have written the config is older than `version`."""
    config = case.adapter.config
    return config is not None and bool(config.newest) and _numbers(config.newest) < _numbers(version)


def written_since(case: Case, version: str) -> bool:
    """True only where no PEFT that can have written the config is older than `version`."""
    config = case.adapter.config
    return config is not None and bool(config.oldest) and _numbers(config.oldest) >= _numbers(version)


def is_older(release: str, version: str) -> bool:
    """Whether one version, as a file may state it, comes before another; what is no number counts as 0."""
    return _numbers(release) < _numbers(version)


def loader(diff: Diff) -> Mapping[str, Any]:
    """What is otherwise with an older loader, by name of the rule; empty for the newest."""
    rules: Mapping[str, Any] = diff.expectation.config.get("loader rules", {})
    return rules


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part[:_DIGITS]) if part.isascii() and part.isdigit() else 0 for part in parts)
