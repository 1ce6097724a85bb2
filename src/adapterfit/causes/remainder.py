"""What is left when every other cause has had its say, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterable

from adapterfit import discover
from adapterfit.causes import evidence
from adapterfit.records import Case, Diff, Shape
from adapterfit.text import show

#: The families whose causes can account for tensors and slots.
_FAMILIES = ("files", "loading", "config", "names", "shapes", "vocabulary", "versions", "base")
#: The causes that speak last.
LAST = ("loader_drops_keys_silently", "slots_left_empty")
#: Groups named in one sentence.
_SHOWN = 4
_INNER = ".base_layer"


def explained(case: Case, diff: Diff) -> frozenset[str]:
    """The tensor names and slot keys that another cause accounts for."""
    found: set[str] = set()
    for family in _FAMILIES:
        for name, module in discover.members(f"adapterfit.causes.{family}").items():
            check = getattr(module, "check", None)
            if check is None or name in LAST or ("values" in module.CAUSE.needs and case.adapter.values is None):
                continue
            for finding in check(case, diff):
                found |= finding.explains
    return frozenset(found)


def grouped(named: Iterable[tuple[str, Shape]]) -> str:
    """Tensors by the last name of their module, what they are and their shape, with their layers.

    `q_proj lora_A (8, 4096) in layers 0-15, q_proj lora_B (4096, 8) in layers 0-15`: other shapes are another group.
    """
    groups: dict[tuple[str, str, Shape], list[int | None]] = {}
    for name, shape in named:
        module, leaf = _split(name)
        last = (
            module[: -len(_INNER)].rpartition(".")[2] + _INNER if module.endswith(_INNER) else module.rpartition(".")[2]
        )
        groups.setdefault((last, leaf, shape), []).append(evidence.layer_number(module))
    shown = [
        f"{show(module)} {show(leaf)} {shape}{evidence.layers_said(layers)}"
        for (module, leaf, shape), layers in groups.items()
    ]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more groups" if len(shown) > _SHOWN else "")


def _split(name: str) -> tuple[str, str]:
    """A tensor's module, and what it is there: `lora_A`, `bias`."""
    parts = evidence.parts(name)
    if parts.leaf:
        leaf = parts.leaf[: -len(".weight")] if parts.leaf.endswith(".weight") else parts.leaf
        return parts.module, leaf
    module, _, param = parts.module.rpartition(".")
    return module, param
