"""How names arrive at `model.load_adapter`, the loader of transformers itself: what it loses, and what it finds that PEFT does not.

Source: transformers 5.23.0 `integrations/peft.py`, `core_model_loading.py`; 4.57.6 `integrations/peft.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from adapterfit.compare.arrival import Arrival
from adapterfit.records import Expectation

NAME = "model.load_adapter"
_PREFIX = "base_model.model."
_MAGNITUDE = "lora_magnitude_vector"


def is_native(found: Expectation) -> bool:
    """Whether the loader of transformers is asked about."""
    return _rules(found).get("loader") == NAME


def natively(came: Iterable[Arrival], found: Expectation) -> list[Arrival]:
    """The arrivals as this loader takes them; what it passes over does not land."""
    rules, roles = _rules(found), {slot.key: slot.role for slot in found.slots}
    modules = {slot.key: slot.module for slot in found.slots}
    arrived = []
    for arrival in came:
        key = _found_as(arrival.key, found) if rules.get("converts") else arrival.key
        shared = str(found.config.get("peft_type")) in rules.get("lost-state", ()) and modules.get(key) == ""
        lost = shared or _lost(arrival, roles.get(key, ""), rules)
        arrived.append(dataclasses.replace(arrival, key=key, lands=not lost))
    return arrived


def _lost(arrival: Arrival, role: str, rules: Mapping[str, Any]) -> bool:
    below = str(rules.get("prefix", ""))
    if below and any(
        source.name.startswith(_PREFIX) and not source.name.startswith(below) for source in arrival.sources
    ):
        return True
    if rules.get("dora", True) is False and arrival.sources[0].name.endswith(f".{_MAGNITUDE}"):
        return True
    copies = rules.get("copies", True)
    return (role in ("saved-module", "tokens") and copies is False) or (role == "tokens" and copies == "tokens")


def _found_as(key: str, found: Expectation) -> str:
    """The name under which it is there: its own, else with the prefix of the base model added or taken away.

    What belongs to a wrapped module (a saved copy, tokens) must hold the module's whole path by itself: it is renamed first.
    """
    copies = {slot.key for slot in found.slots if slot.role != "tuner"}
    known = {*(slot.key for slot in found.slots), *found.state}
    bare = key[len(_PREFIX) :] if key.startswith(_PREFIX) else key
    within = f"{found.tree.prefix}." if found.tree.prefix else ""
    ways = [bare, f"{within}{bare}", *([bare[len(within) :]] if within and bare.startswith(within) else [])]
    if not within and "." in bare:  # a base without a head, which may be the inner part of the one that was saved
        ways.append(bare.partition(".")[2])
    there = (_PREFIX + way for way in ways if _PREFIX + way in known and (way in bare or _PREFIX + way not in copies))
    return next(there, key)


def _rules(found: Expectation) -> Mapping[str, Any]:
    rules: Mapping[str, Any] = found.config.get("loader rules", {})
    return rules
