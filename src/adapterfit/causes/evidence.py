"""What several causes ask of a comparison: where a tensor would land, what its name says, which shapes go together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from adapterfit.records import Diff, Shape, Slot, TensorInfo

PREFIX = "base_model.model."
#: First letters of the attributes that tuner methods put on a module (peft 0.21.2, `PEFT_TYPE_TO_PREFIX_MAPPING`).
TUNER_PREFIXES = (
    "lora_", "ia3_", "hada_", "lokr_", "oft_", "boft_", "vera_", "ln_tuning_", "fourierft_", "hra_", "vblora_",
    "bone_", "miss_", "poly_", "randlora_", "shira_", "c3a_", "road_", "trainable_tokens_", "waveft_", "osf_",
    "delora_", "gralora_", "adamss_", "lily_", "peanut_", "psoft_", "pvera_", "tinylora_", "beft_", "deft_",
    "frod_", "glora_", "hira_", "unilora_", "supertuning_", "adaption_", "internal_xlora_", "shadow_",
)  # fmt: skip


#: What PEFT says, until 0.21 as a ValueError, where it finds nothing to wrap. Source: `tuners/tuners_utils.py` of 0.3.0 to 0.21.2.
_NO_TARGET = (
    "not found in the base model",
    "No modules were targeted for adaptation",
    "No `target_modules` passed but also no",
    "types compatible with",  # VeRA and its like, which look for the largest layer first
)


class Parts(NamedTuple):
    """`base_model.model.a.b.lora_A.weight` → module `a.b`, leaf `lora_A.weight`, prefixed true."""

    module: str
    leaf: str
    prefixed: bool


@lru_cache(maxsize=65536)
def parts(name: str) -> Parts:
    """A tensor's name taken apart; `leaf` is empty for a tensor that is no tuner's (a saved module, a bias)."""
    prefixed = name.startswith(PREFIX)
    rest = name[len(PREFIX) :] if prefixed else name
    segments = rest.split(".")
    at = next((i for i, part in enumerate(segments) if part.startswith(TUNER_PREFIXES)), None)
    if at is None:
        return Parts(rest, "", prefixed)
    return Parts(".".join(segments[:at]), ".".join(segments[at:]), prefixed)


def tuner_tensors(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """The tensors that belong to a tuner layer."""
    return [tensor for tensor in tensors if parts(tensor.name).leaf]


def slots_by_key(diff: Diff) -> Mapping[str, Slot]:
    """The slots by the name they are looked up by."""
    return {slot.key: slot for slot in diff.expectation.slots}


def shape_at(diff: Diff, name: str, slots: Mapping[str, Slot]) -> Shape | None:
    """The shape of what a tensor called `name` would land on, or None where nothing is called so."""
    slot = slots.get(name) or slots.get(f"{name}.weight" if name.endswith("lora_magnitude_vector") else name)
    return slot.shape if slot is not None else diff.expectation.state.get(name)


def lands(diff: Diff, renames: Mapping[TensorInfo, str]) -> bool:
    """Whether every tensor, under its new name, finds a place of its own with exactly its shape."""
    slots = slots_by_key(diff)
    taken = {match.slot.key for match in diff.matched}
    targets = list(renames.values())
    free = len(set(targets)) == len(targets) and not taken & set(targets)
    return free and all(shape_at(diff, name, slots) == tensor.shape for tensor, name in renames.items())


def empty_keys(diff: Diff) -> tuple[str, ...]:
    """The names of the slots that no tensor fills, those that training never changes left out."""
    return tuple(slot.key for slot in diff.missing if not slot.optional)


def layer_number(module: str) -> int | None:
    """The first number in a module's path: `model.layers.7.mlp` → 7."""
    return next((int(part) for part in module.split(".") if is_number(part)), None)


def no_target(diff: Diff) -> bool:
    """Whether PEFT finds nothing to wrap: then no slot is known, and names must be held against the base itself."""
    raised = diff.raised
    if raised is None or raised.stage != "inject":
        return False
    return raised.kind == "NoMatchingPeftModuleError" or any(words in raised.line for words in _NO_TARGET)


def cannot_generate(diff: Diff) -> bool:
    """Whether the task's class of PEFT looks for a method that only a base for generation has."""
    raised = diff.raised
    return raised is not None and raised.stage == "inject" and "prepare_inputs_for_generation" in raised.line


def unasked_targets(diff: Diff) -> bool:
    """Whether PEFT is not told what to wrap, and has no list of its own for this model type."""
    raised = diff.raised
    return raised is not None and raised.stage == "inject" and raised.line.startswith("Please specify `target_modules`")


def unasked(diff: Diff, names: Mapping[TensorInfo, str]) -> list[str]:
    """Empty slots of modules for which the file has nothing even under the new names."""
    filled = {parts(name).module for name in names.values()} | {match.slot.module for match in diff.matched}
    return [slot.key for slot in diff.missing if slot.role == "tuner" and slot.module not in filled]


def keys_of(names: Iterable[str]) -> list[str]:
    """The keys under which PEFT looks for tensors of these names: DoRA's vector has a suffix there."""
    return [
        key
        for name in names
        for key in ((name, f"{name}.weight") if name.endswith("lora_magnitude_vector") else (name,))
    ]


def count(number: int, noun: str) -> str:
    """`1 key`, `8 keys`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def layers_said(numbers: Iterable[int | None]) -> str:
    """` in layer 3`, ` in layers 0-15, 20`; nothing where no number is known."""
    known = sorted({number for number in numbers if number is not None})
    runs: list[tuple[int, int]] = []
    for number in known:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    more = f" and {len(shown) - 5} more ranges" if len(shown) > 5 else ""
    return f" in layer{'s' if len(known) > 1 else ''} {', '.join(shown[:5])}{more}" if known else ""


def comparable(diff: Diff) -> bool:
    """Whether names and shapes can be held against something: slots, or a base in which PEFT finds no target.

    False for a method that is not modelled, and where the injection fails for another reason.
    """
    found = diff.expectation
    if diff.raised is not None and diff.raised.stage != "load":
        return no_target(diff) and bool(found.tree.modules)
    return bool(found.slots or found.targets)


def is_number(part: str) -> bool:
    """Whether a segment is a number as Python and PEFT write it; "²" is a digit to `str.isdigit` and to nobody else."""
    return part.isascii() and part.isdigit()
