"""What single methods do to a file's tensors before they look for them: their own `_remap_adapter_state_dict_for_load`.

Source: peft 0.21.2 `tuners/<method>/model.py`. Names that merely get the adapter's name inserted are not listed here:
a slot is found by its name in the file as well as by its name in the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Callable, Optional

from adapterfit.compare.arrival import Arrival
from adapterfit.records import Expectation, Raised, Shape

Remapped = tuple[list[Arrival], Optional[Raised]]
_INDICES, _WEIGHTS = "_topk_indices", "_topk_weights"


def remapped(came: list[Arrival], found: Expectation) -> Remapped:
    """The tensors as the method looks for them, and what it raises meanwhile."""
    change = _CHANGES.get(str(found.config.get("peft_type")))
    return change(came, found) if change is not None else (came, None)


def _top_k(came: list[Arrival], found: Expectation) -> Remapped:
    """VB-LoRA: `…_topk_indices` and `…_topk_weights` become whole logits, one column per vector of the bank."""
    if not found.config.get("save_only_topk_weights"):
        return came, None
    by_key = {arrival.key: arrival for arrival in came}
    vectors = next((slot.shape[0] for slot in found.slots if slot.key == "base_model.vblora_vector_bank"), 0)
    used: set[str] = set()
    made = []
    for indices in (arrival for arrival in came if _INDICES in arrival.key):
        key = indices.key.replace(_INDICES, _WEIGHTS)
        if key not in by_key:
            return came, Raised("KeyError", repr(key))
        weights = by_key[key]
        shape = (*weights.shape[:-1], vectors)
        failure = _scatter_fails(indices.shape, weights.shape, shape)
        if failure is not None:
            return came, failure
        used |= {indices.key, key}
        made.append(Arrival(indices.key.replace(_INDICES, ""), shape, (*indices.sources, *weights.sources)))
    return [arrival for arrival in came if arrival.key not in used] + made, None


def _scatter_fails(index: Shape, weights: Shape, target: Shape) -> Raised | None:
    """`zeros(target).scatter(-1, index, weights with one more column)`, as torch refuses it."""
    source = (*weights[:-1], weights[-1] + 1) if weights else ()
    if not source or len(index) != len(target):
        return Raised("RuntimeError", "Index tensor must have the same number of dimensions as self tensor")
    fits = all(i <= s for i, s in zip(index, source)) and all(i <= t for i, t in zip(index[:-1], target[:-1]))
    if fits:
        return None
    return Raised(
        "RuntimeError",
        f"Expected index {list(index)} to be no larger than self {list(target)} apart from dimension {len(index) - 1} and "
        f"to be no larger size than src {list(source)}",
    )


def _shira(came: list[Arrival], found: Expectation) -> Remapped:
    """SHiRA takes its indices out of the file by name and never looks at their shape."""
    shapes = {slot.key: slot.shape for slot in found.slots if slot.key.endswith(".shira_indices")}
    return [dataclasses.replace(arrival, shape=shapes.get(arrival.key, arrival.shape)) for arrival in came], None


def _oft(came: list[Arrival], found: Expectation) -> Remapped:
    """OFT refuses the rotations of PEFT 0.14 and 0.15; 0.21 looks for them under a name they do not have here."""
    rules = found.config.get("loader rules", {})
    refused = ".oft_r" if rules.get("oft-old-files") == "raises" else ".oft_r."
    if "oft" in rules or not any(refused in f"{arrival.key}" for arrival in came):
        return came, None
    line = (
        "Trying to load old OFT checkpoint, which is no longer supported. Please install PEFT <= v0.15.2 to load it "
        "or train a new OFT adapter."
    )
    return came, Raised("ValueError", line)


def _projection(name: str) -> Callable[[list[Arrival], Expectation], Remapped]:
    """VeRA, PVeRA: the projection is asked for by name where the config says that it was saved."""

    def look(came: list[Arrival], found: Expectation) -> Remapped:
        there = {f"base_model.{name}_A", f"base_model.{name}_A.default"} & {arrival.key for arrival in came}
        if there or not found.config.get("save_projection"):
            return came, None
        line = f"Specified to load {name}_A and {name}_B from state dictionary however they were not present!"
        return came, Raised("ValueError", line)

    return look


def _frod(came: list[Arrival], found: Expectation) -> Remapped:
    """FRoD appends the adapter's name to every projection, even to one that has it; and asks for any of them."""
    prefixes = ("base_model.frod_V.", "base_model.frod_s_indices.", "base_model.frod_s_size.")
    came = [
        _doubled(arrival, f"{arrival.key}.default") if _is_named(arrival, prefixes) else arrival for arrival in came
    ]
    if not found.config.get("save_projection") or any(arrival.key.startswith(prefixes) for arrival in came):
        return came, None
    line = (
        "Specified to load FRoD projection tensors from state dictionary however they were not present. If this "
        "checkpoint was saved with `save_projection=False`, set `peft_config.save_projection` to `False` before loading "
        "so the projections are regenerated from the base model weights. Otherwise, re-save the adapter with "
        "`save_projection=True` to include these tensors."
    )
    return came, Raised("ValueError", line)


def _is_named(arrival: Arrival, prefixes: tuple[str, ...]) -> bool:
    return arrival.key.startswith(prefixes) and arrival.key.endswith(".default")


def _tiny(came: list[Arrival], _found: Expectation) -> Remapped:
    """TinyLoRA inserts the adapter's name into every vector's name, even into one that has it."""
    part, named = ".tinylora_v.", ".tinylora_v.default."
    return [_doubled(a, a.key.replace(part, named)) if named in a.key else a for a in came], None


def _doubled(arrival: Arrival, key: str) -> Arrival:
    return dataclasses.replace(arrival, key=key)


_CHANGES: Mapping[str, Callable[[list[Arrival], Expectation], Remapped]] = {
    "VBLORA": _top_k,
    "SHIRA": _shira,
    "OFT": _oft,
    "VERA": _projection("vera"),
    "PVERA": _projection("pvera"),
    "FROD": _frod,
    "TINYLORA": _tiny,
}
