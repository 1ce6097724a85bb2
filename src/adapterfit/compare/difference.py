"""Stage 3 of 7: compare. Which tensors of the file land where, which are dropped, which slots stay empty.

Source: peft 0.21.2 `utils/save_and_load.py` (`set_peft_model_state_dict`), `peft_model.py` (`load_adapter`), and
`torch.nn.Module.load_state_dict(strict=False)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adapterfit.compare.arrival import Arrival, ConversionFails, arrivals
from adapterfit.records import Diff, Expectation, Match, Misshape, Raised, Shape, Slot, TensorInfo


def compare(tensors: Iterable[TensorInfo], found: Expectation) -> Diff:
    """The file beside the expectation. Where the injection itself fails there is nothing to compare with."""
    tensors = tuple(tensors)
    if found.raised is not None:
        return Diff(found, extra=tensors, raised=found.raised)
    try:
        came = arrivals(tensors, found)
    except ConversionFails as failure:
        return Diff(found, extra=tensors, raised=failure.raised)
    return _land(came, found)


def _land(came: list[Arrival], found: Expectation) -> Diff:
    by_key = {slot.key: slot for slot in found.slots}
    by_model_key = {slot.model_key: slot for slot in found.slots}
    matched: list[Match] = []
    overwrites: list[TensorInfo] = []
    misshapen: list[Misshape] = []
    extra: list[TensorInfo] = []
    filled: set[str] = set()
    for arrival in came:
        slot = by_key.get(arrival.key) or by_model_key.get(arrival.key)
        if (slot is None and arrival.key not in found.state) or (slot is not None and slot.model_key in filled):
            extra.extend(arrival.sources)
        elif arrival.shape != (wanted := slot.shape if slot is not None else found.state[arrival.key]):
            filled.add(slot.model_key if slot is not None else arrival.key)
            misshapen.extend(_misshape(source, arrival, slot, wanted) for source in arrival.sources)
        elif slot is not None:
            filled.add(slot.model_key)
            matched.extend(Match(source, slot) for source in arrival.sources)
        else:
            overwrites.extend(arrival.sources)
    missing = tuple(slot for slot in found.slots if slot.model_key not in filled)
    renamed = {s.name: a.key for a in came for s in a.sources if s.name != a.key}
    return Diff(
        found,
        matched=tuple(matched),
        overwrites=tuple(overwrites),
        misshapen=tuple(misshapen),
        extra=tuple(extra),
        missing=missing,
        renamed=renamed,
        warned=_warned(missing, found),
        raised=_raised(came, misshapen, missing, found),
    )


def _misshape(source: TensorInfo, arrival: Arrival, slot: Slot | None, wanted: Shape) -> Misshape:
    model_key = slot.model_key if slot is not None else arrival.key
    return Misshape(source, arrival.key, model_key, wanted, slot.module if slot is not None else "", arrival.shape)


def _warned(missing: tuple[Slot, ...], found: Expectation) -> tuple[str, ...]:
    """What "Found missing adapter keys" lists: parameters whose name holds the method's prefix and the adapter's."""
    if not found.prefix:
        return ()
    return tuple(s.model_key for s in missing if s.role == "tuner" and found.prefix in s.model_key)


def _raised(
    came: list[Arrival], misshapen: list[Misshape], missing: tuple[Slot, ...], found: Expectation
) -> Raised | None:
    """The first exception of the load, in PEFT's order: lookups of copies and rows, shapes, the prompt."""
    names = {arrival.key for arrival in came}
    for slot in missing:
        if slot.role in ("saved-module", "tokens") and slot.key not in names:
            return Raised("KeyError", repr(slot.key))
    loaded = [entry for entry in misshapen if not entry.model_key.startswith("prompt_encoder.")]
    if loaded:
        return Raised("RuntimeError", _mismatch_text(loaded, found.peft_class, found.state))
    prompt = next((slot for slot in found.slots if slot.role == "prompt"), None)
    if prompt is not None and prompt.key not in names:
        return Raised("KeyError", repr(prompt.key))
    if misshapen:
        entry = misshapen[0]
        return Raised(
            "RuntimeError",
            "Error(s) in loading state_dict for Embedding:\n\tsize mismatch for weight: "
            f"copying a param with shape {_size(entry.found)} from checkpoint, "
            f"the shape in current model is {_size(entry.wanted)}.",
        )
    return None


def _mismatch_text(misshapen: list[Misshape], peft_class: str, state: Mapping[str, Shape]) -> str:
    order = {key: at for at, key in enumerate(state)}
    unique = {entry.model_key: entry for entry in misshapen}
    lines = [
        f"size mismatch for {key}: copying a param with shape {_size(entry.found)} from checkpoint, "
        f"the shape in current model is {_size(entry.wanted)}."
        for key, entry in sorted(unique.items(), key=lambda item: order.get(item[0], len(order)))
    ]
    return f"Error(s) in loading state_dict for {peft_class}:\n\t" + "\n\t".join(lines)


def _size(shape: Shape) -> str:
    return f"torch.Size([{', '.join(map(str, shape))}])"
