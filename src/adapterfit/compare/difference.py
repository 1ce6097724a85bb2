"""Stage 3 of 7: compare. Which tensors of the file land where, which are dropped, which slots stay empty.

Source: peft 0.21.2 `utils/save_and_load.py` (`set_peft_model_state_dict`), `peft_model.py` (`load_adapter`), and
`torch.nn.Module.load_state_dict(strict=False)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from adapterfit.compare.arrival import Arrival, ConversionFails, arrivals
from adapterfit.compare.remaps import remapped
from adapterfit.records import Diff, Expectation, Match, Misshape, Raised, Shape, Slot, TensorInfo


def compare(tensors: Iterable[TensorInfo], found: Expectation) -> Diff:
    """The file beside the expectation. Where the injection itself fails there is nothing to compare with."""
    tensors = tuple(tensors)
    if found.raised is not None:
        return Diff(found, extra=tensors, raised=found.raised)
    try:
        came = arrivals(tensors, found)
    except ConversionFails as fails:
        return Diff(found, extra=tensors, raised=fails.raised)
    came, failure = remapped(came, found)
    if found.config.get("loader rules", {}).get("loader"):
        from adapterfit.compare.native import is_native, natively

        came = natively(came, found) if is_native(found) else came
    return _land(came, failure, found)


def _land(came: list[Arrival], failure: Raised | None, found: Expectation) -> Diff:
    by_key = {slot.key: slot for slot in found.slots}
    # Before 0.21 PEFT puts the adapter's name into every tuner's key, into one that has it as well: it then hits nothing. So
    # does the loader of transformers, since it converts names by itself; and to a second adapter the name is the first one's.
    rules = found.config.get("loader rules", {})
    # But what PEFT converts for transformers 5 leaves without the name, whoever had it.
    second = rules.get("loader") == "PeftModel.load_adapter"
    converted = found.prefix == "lora_" and bool(found.tree.adapter_renames or found.tree.expert_fusion)
    inserted = rules.get("adapter-name-inserted") == "always" and not converted
    twice = inserted or bool(rules.get("converts")) or second
    # Copies and rows are looked up by the name without the adapter's; one that has it is not found.
    by_model_key = {slot.model_key: slot for slot in found.slots if slot.role not in _LOOKED_UP}
    unnamed = {slot.model_key for slot in found.slots if slot.role in _LOOKED_UP} - set(by_key)
    lost = {slot.model_key for slot in found.slots if twice and slot.role == "tuner" and slot.model_key != slot.key}
    unread = _UNREAD if rules.get("vera-projection") else ()
    matched: list[Match] = []
    overwrites: list[TensorInfo] = []
    misshapen: list[Misshape] = []
    extra: list[TensorInfo] = []
    filled: set[str] = set()
    for arrival in came:
        slot = by_key.get(arrival.key) or by_model_key.get(arrival.key)
        if (
            not arrival.lands
            or arrival.key in lost
            or arrival.key in unnamed
            or (slot is None and arrival.key not in found.state)
            or (slot is not None and slot.model_key in filled)
        ):
            extra.extend(arrival.sources)
        elif arrival.key not in unread and arrival.shape != (
            wanted := slot.shape if slot is not None else found.state[arrival.key]
        ):
            filled.add(slot.model_key if slot is not None else arrival.key)
            misshapen.extend(_misshape(source, arrival, slot, wanted) for source in arrival.sources)
        elif slot is not None:
            filled.add(slot.model_key)
            matched.extend(Match(source, slot) for source in arrival.sources)
        else:
            overwrites.extend(arrival.sources)
    empty = tuple(slot for slot in found.slots if slot.model_key not in filled)
    filled |= {slot.shares for slot in found.slots if slot.shares and slot.model_key in filled}
    missing = tuple(slot for slot in empty if slot.model_key not in filled and slot.shares not in filled)
    renamed = {s.name: a.key for a in came for s in a.sources if s.name != a.key}
    idle = _idle(found)
    twice = [t for t in extra if _is_second_copy(t, matched) or _is_permutation(t, matched) or idle(t)]
    return Diff(
        found,
        matched=tuple(matched),
        overwrites=tuple(overwrites),
        misshapen=tuple(misshapen),
        extra=tuple(tensor for tensor in extra if tensor not in twice),
        redundant=tuple(twice),
        missing=_due(missing, matched),
        renamed=renamed,
        warned=_warned(empty, found),
        raised=_raised(came, misshapen, missing, found, failure),
    )


_LOOKED_UP = ("saved-module", "tokens")
#: Projections that PEFT before 0.21 looks for by name, and does not read: any size passes.
_UNREAD = tuple(f"base_model.{method}_{side}" for method in ("vera", "pvera") for side in "AB")


def _due(missing: tuple[Slot, ...], matched: list[Match]) -> tuple[Slot, ...]:
    """A whole module that need not be in the file is there or not: of one that is there by half, the rest was lost."""
    if not any(match.slot.role == "saved-module" and match.slot.optional for match in matched):
        return missing
    from dataclasses import replace

    return tuple(replace(slot, optional=False) if slot.role == "saved-module" else slot for slot in missing)


_WRAPPED = re.compile(r"\.modules_to_save(\.default)?(?=\.)")


def _is_second_copy(tensor: TensorInfo, matched: list[Match]) -> bool:
    """`bias="all"` saves every name that ends in `.bias`, a saved module's twice: once under its wrapper's own name."""
    plain = _WRAPPED.sub("", tensor.name, count=1)
    return plain != tensor.name and any(m.tensor.name == plain and m.tensor.shape == tensor.shape for m in matched)


def _is_permutation(tensor: TensorInfo, matched: list[Match]) -> bool:
    """BOFT's `boft_P` is made from the sizes of the blocks; PEFT 0.11 and 0.12 saved it along, newer ones make it and look for none."""
    blocks = f"{tensor.name.removesuffix('boft_P')}boft_R"
    return tensor.name.endswith(".boft_P") and any(m.tensor.name == blocks for m in matched)


#: Tensors of variants that act in training alone: a loader without the variant loses nothing.
_TRAINING_ONLY = (".lora_velora_embed", ".lora_monteclora_sampler.")


def _idle(found: Expectation) -> Callable[[TensorInfo], bool]:
    """Whether an older loader loses nothing with a tensor that it drops."""
    rules = found.config.get("loader rules", {})
    targets = frozenset(found.targets)

    def is_idle(tensor: TensorInfo) -> bool:
        if any(part in f"{tensor.name}." for part in _TRAINING_ONLY) or _is_mask(tensor):
            return True
        # The base's own weight, saved beside its LoRA, under the name of a wrapper that this loader does not have.
        plain, inner, _ = tensor.name.rpartition(".base_layer.weight")
        unwrapped = inner and rules.get("layers") == "subclasses"
        name = plain[len("base_model.model.") :]
        return bool(unwrapped) and name in targets and found.state.get(f"{plain}.weight") == tensor.shape

    return is_idle if rules else _is_mask


def _is_mask(tensor: TensorInfo) -> bool:
    """GPT-2's causal mask, a buffer called `bias`: `bias="all"` saved it along, and every base makes its own."""
    mask = tensor.name.endswith(".attn.bias") and tensor.dtype in ("BOOL", "U8") and len(tensor.shape) == 4
    return mask or (tensor.name.endswith(".attn.masked_bias") and not tensor.shape)


def _misshape(source: TensorInfo, arrival: Arrival, slot: Slot | None, wanted: Shape) -> Misshape:
    model_key = slot.model_key if slot is not None else arrival.key
    return Misshape(source, arrival.key, model_key, wanted, slot.module if slot is not None else "", arrival.shape)


def _warned(missing: tuple[Slot, ...], found: Expectation) -> tuple[str, ...]:
    """What "Found missing adapter keys" lists: parameters whose name holds the method's prefix and the adapter's."""
    if not found.prefix:
        return ()
    return tuple(
        s.model_key for s in missing if s.role == "tuner" and s.if_missing == "warns" and found.prefix in s.model_key
    )


def _raised(
    came: list[Arrival],
    misshapen: list[Misshape],
    missing: tuple[Slot, ...],
    found: Expectation,
    failure: Raised | None,
) -> Raised | None:
    """The first exception of the load, in PEFT's order: lookups of copies and rows, the method's own, shapes, the prompt."""
    names = {arrival.key for arrival in came}
    for slot in missing:
        if slot.role in _LOOKED_UP and slot.if_missing == "raises" and slot.key not in names:
            # Without the wrapper of PEFT, into a base that transformers loads by itself, names have no prefix.
            plain = found.config.get("loader rules", {}).get("loader") == "model.load_adapter"
            return Raised("KeyError", repr(slot.key.removeprefix("base_model.model.") if plain else slot.key))
    if failure is not None:
        return failure
    loaded = [entry for entry in misshapen if not entry.model_key.startswith("prompt_encoder.")]
    reported = found.config.get("loader rules", {}).get("report")
    if loaded and reported:
        kind, _, line = str(reported).partition(": ")
        return Raised(kind, line)
    if loaded:
        return Raised("RuntimeError", _mismatch_text(loaded, found.peft_class, found.state))
    return _prompt_raised(names, misshapen, found)


def _prompt_raised(names: set[str], misshapen: list[Misshape], found: Expectation) -> Raised | None:
    """What the prompt's own loading raises: a lookup, then the shape of the rows, then those of its other tensors."""
    prompt = next((slot for slot in found.slots if slot.role == "prompt"), None)
    if prompt is not None and prompt.key not in names:
        return Raised("KeyError", repr(prompt.key))
    rows = next((entry for entry in misshapen if entry.key == "prompt_embeddings"), None)
    if rows is not None and found.config.get("peft_type") == "CARTRIDGE":
        return _cartridge_raised(rows)
    if rows is not None:
        return Raised("RuntimeError", f"Error(s) in loading state_dict for Embedding:\n\t{_mismatch('weight', rows)}")
    if misshapen:
        lines = [_mismatch(entry.key, entry) for entry in misshapen]
        return Raised(
            "RuntimeError", "Error(s) in loading state_dict for MultitaskPromptEmbedding:\n\t" + "\n\t".join(lines)
        )
    return None


def _cartridge_raised(rows: Misshape) -> Raised | None:
    """A cartridge copies its rows by hand, so that a single column would be spread over all."""
    tokens, width = rows.wanted
    if len(rows.found) != 2 or rows.found[0] != tokens:
        line = f"Invalid `prompt_embeddings` shape. Expected ({tokens}, hidden), got {rows.found}."
        return Raised("ValueError", line)
    if rows.found[1] == 1:
        return None
    line = (
        f"The size of tensor a ({width}) must match the size of tensor b ({rows.found[1]}) at non-singleton dimension 1"
    )
    return Raised("RuntimeError", line)


def _mismatch_text(misshapen: list[Misshape], peft_class: str, state: Mapping[str, Shape]) -> str:
    order = {key: at for at, key in enumerate(state)}
    unique = {entry.model_key: entry for entry in misshapen}
    ranked = sorted(unique.items(), key=lambda item: order.get(item[0], len(order)))
    lines = [_mismatch(key, entry) for key, entry in ranked]
    return f"Error(s) in loading state_dict for {peft_class}:\n\t" + "\n\t".join(lines)


def _mismatch(name: str, entry: Misshape) -> str:
    return (
        f"size mismatch for {name}: copying a param with shape {_size(entry.found)} from checkpoint, "
        f"the shape in current model is {_size(entry.wanted)}."
    )


def _size(shape: Shape) -> str:
    return f"torch.Size([{', '.join(map(str, shape))}])"
