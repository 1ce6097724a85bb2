"""Rule: what the engine does about one thing that is special about an adapter (the words are in `sight.py`).

`answer`: `refused` · `ignored` (its tensors fall away) · `differs` · `flags` · `unknown` · `note` · `honoured` (nothing to say). `allowed`: modules of
`modules_to_save` that are fine. `in_file`: only where the file has tensors of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect, of_tensor

FIELDS = {"feature": str, "answer": str, "allowed": list, "in_file": bool}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """One effect where the adapter has the feature."""
    feature = value["feature"]
    if feature not in sight.features or value["answer"] == "honoured":
        return
    saved = sight.config.get("modules_to_save")
    if value.get("in_file") and not sight.features[feature]:
        return
    at = sight.features[feature]
    if "allowed" in value and set(saved or ()) <= set(value["allowed"]) and _all_under(at, value["allowed"]):
        return
    kind = ANSWERS[value["answer"]]
    if kind == "dropped" and not at:  # nothing in the file falls away
        kind = "note"
    name = at[0] if at else ""
    words: dict[str, Any] = {"saved": saved, **of_tensor(name)}
    yield effect(kind, value, f"{feature.replace('-', ' ')}: {value['answer']}", at, **words)


def _all_under(names: tuple[str, ...], modules: list[str]) -> bool:
    return all(any(f".{module}." in name for module in modules) for name in names)
