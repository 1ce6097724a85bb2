"""How names in a file arrive at the loader: the renamings and fusions that PEFT and transformers apply on the way.

Source: peft 0.21.2 `utils/transformers_weight_conversion.py` (`convert_peft_adapter_state_dict_for_transformers`),
`tuners/lora/model.py` (`_remap_adapter_state_dict_for_load`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterfit.record import dataclass
from adapterfit.records import Expectation, Fusion, LoadRename, Raised, Shape, TensorInfo

_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Arrival:
    """A tensor as the loader sees it: its name then, its shape, and what in the file it was made of.

    `lands` is false where the loader passes over it, whatever its name.
    """

    key: str
    shape: Shape
    sources: tuple[TensorInfo, ...]
    lands: bool = True


class ConversionFails(Exception):
    """The loader would raise while it converts the names."""

    def __init__(self, kind: str, line: str) -> None:
        super().__init__(line)
        self.raised = Raised(kind, line, stage="convert")


def arrivals(tensors: Iterable[TensorInfo], found: Expectation) -> list[Arrival]:
    """Every tensor of the file under the name PEFT looks it up by."""
    came = []
    fused: dict[tuple[str, str], dict[str, list[TensorInfo]]] = {}
    rules = found.config.get("loader rules", {})
    for tensor in tensors:
        key = _mapped(tensor.name, found.tree.key_mapping) if found.prefix else tensor.name
        if found.prefix == "lora_" or rules.get("converts"):
            key = _converted(key, found.tree.adapter_renames, rules)
        expert = _expert(key, found.fusion) if found.fusion is not None else None
        if expert is None:
            came.append(Arrival(_renamed(key, found.renames), tensor.shape, (tensor,)))
        else:
            fused.setdefault(expert[:2], {}).setdefault(expert[2], []).append(tensor)
    for (holder, factor), parts in fused.items():
        came.append(_fuse(holder, factor, parts, found.fusion))
    return came


def _renamed(key: str, renames: Sequence[LoadRename]) -> str:
    for rename in renames:
        key = re.sub(rename.pattern, rename.replacement, key, count=1)
    return key


def _mapped(name: str, mapping: Sequence[LoadRename]) -> str:
    """The renamings of the model's class for its own checkpoints, as PEFT 0.16 and later apply them: the first that hits."""
    prefix = _PREFIX if name.startswith(_PREFIX) else "base_model." if name.startswith("base_model.") else ""
    bare = name[len(prefix) :]
    for rename in mapping:
        renamed, hits = re.subn(rename.pattern, rename.replacement, bare)
        if hits:
            return prefix + renamed
    return name


def _converted(name: str, renames: Sequence[LoadRename], rules: Mapping[str, Any]) -> str:
    """Transformers' renamings for this class of base, which PEFT applies to keys with `.lora_` only, and its own loader to all.

    A renaming whose result is a suffix of the old name is undone: PEFT takes it for a missing prefix. Keys without
    PEFT's own prefix get it on the way out. PEFT 0.19 did not undo, and left its prefix before names that lie outside of `model`.
    """
    if not renames or not (rules.get("converts") or ".lora_" in name):
        return name
    bare = name.replace(f"{_PREFIX}model.", "model.", 1)
    if rules.get("prefix-taken-away", True):
        bare = bare.replace(_PREFIX, "", 1)
    renamed = _renamed(bare, renames)
    if rules.get("renaming-undone", True) and name.endswith(renamed):
        renamed = name
    return renamed if renamed.startswith("base_model.") else _PREFIX + renamed


_EXPERT = re.compile(r"(?P<holder>.*\.experts)\.(?P<number>[^.]+)\.(?P<leaf>\w+)\.(?P<factor>lora_[AB])\.")


def _expert(key: str, fusion: Fusion) -> tuple[str, str, str] | None:
    """`….experts.3.w1.lora_A.weight` → where the fused tensor goes, which factor, and the old leaf."""
    match = _EXPERT.match(key)
    if match is None or match["leaf"] not in (*fusion.gate_up, fusion.down):
        return None
    inner = ".base_layer" if match["leaf"] in fusion.gate_up else ""
    return match["holder"] + inner, match["factor"], match["leaf"]


def _fuse(holder: str, factor: str, parts: dict[str, list[TensorInfo]], fusion: Fusion | None) -> Arrival:
    """Stack the experts, join gate and up: A (n·r·E, in), B block-diagonal (n·out, n·r·E)."""
    order = [leaf for leaf in (*(fusion.gate_up if fusion else ()), *parts) if leaf in parts]
    shapes = [_same(parts[leaf]) for leaf in dict.fromkeys(order)]
    experts = [len(parts[leaf]) for leaf in dict.fromkeys(order)]
    if any(len(shape) != 2 for shape in shapes):
        raise ConversionFails("ValueError", "To convert this LoRA adapter, the LoRA weights all need to have 2 dims")
    if len(set(experts)) != 1 or len({shape[1] if factor == "lora_A" else 0 for shape in shapes}) != 1:
        raise ConversionFails("RuntimeError", "Sizes of tensors must match except in dimension 1.")
    if factor == "lora_A":
        shape: Shape = (experts[0] * sum(rows for rows, _ in shapes), shapes[0][1])
    else:
        shape = (sum(rows for rows, _ in shapes), experts[0] * sum(columns for _, columns in shapes))
    sources = tuple(tensor for leaf in dict.fromkeys(order) for tensor in parts[leaf])
    return Arrival(f"{holder}.{factor}.weight", shape, sources)


def _same(tensors: list[TensorInfo]) -> Shape:
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) != 1:
        one, other = sorted(shapes)[:2]
        raise ConversionFails(
            "RuntimeError",
            f"stack expects each tensor to be equal size, but got {list(one)} at entry 0 and {list(other)} at entry 1",
        )
    return shapes.pop()
