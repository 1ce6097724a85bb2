"""What the methods with one random projection for the whole model share: VeRA, PVeRA, RandLoRA."""

from __future__ import annotations

from adapterfit.expect.methods._layer import fails, features
from adapterfit.records import Module


def largest(modules: tuple[Module, ...], method: str) -> tuple[int, int]:
    """The largest inputs and the largest outputs among the targets, for which the projection is made (`_find_dim`)."""
    sizes = [features(module) for module in modules if module.kind in ("Linear", "Conv1D")]
    if not sizes:
        fails(f"No layers types compatible with {method} were found. Please check `peft_config.target_modules`.")
    return max(width for width, _ in sizes), max(height for _, height in sizes)
