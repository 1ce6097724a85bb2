"""Whether a config was certainly written before some version of PEFT."""

from __future__ import annotations

from adapterfit.records import Case


def written_before(case: Case, version: str) -> bool:
    """True only where every PEFT that can have written the config is older than `version`."""
    config = case.adapter.config
    return config is not None and bool(config.newest) and _numbers(config.newest) < _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) if part.isascii() and part.isdigit() else 0 for part in parts)
