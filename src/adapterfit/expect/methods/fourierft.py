"""FOURIERFT: ΔW is the inverse Fourier transform of a few learned frequencies.

Saved, relative to a module: `fourierft_spectrum` (n,), n being `n_frequency`, or what `n_frequency_pattern` says for the
module. Where the frequencies lie is drawn from `random_loc_seed` and not saved. Source: peft 0.21.2 `tuners/fourierft/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, fails, features, no_layers_with_regex, parameter, unsupported
from adapterfit.expect.methods.c3a import by_dotted_pattern
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "fourierft_"
TARGETS = "FOURIERFT"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `FourierFTConfig.__post_init__`."""
    no_layers_with_regex(config)


def inert(config: Mapping[str, Any]) -> bool:
    """The spectrum is random by default."""
    return bool(config.get("init_weights", False))


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    refuse_unknown(module)
    count = by_dotted_pattern(config, "n_frequency", name)
    refuse_count(count, module)
    return (parameter("fourierft_spectrum", (count,)),)


def refuse_unknown(module: Module) -> None:
    """PEFT's refusal, which FourierFT and WaveFT share; it takes Conv1D too, although it does not say so."""
    if module.kind not in ("Linear", "Conv1D"):
        line = "Currently, only the following modules are supported: `torch.nn.Linear`."
        unsupported(module, line, "TypeError")


def refuse_count(count: int, module: Module) -> None:
    """A spectrum has at least one entry and at most as many as the matrix."""
    width, height = features(module)
    if count <= 0:
        fails(f"`n_frequency` should be a positive integer value but the value passed is {count}")
    if count > width * height:
        fails(
            "`n_frequency` should be less than or equal to the product of the input and output dimensions but the value "
            f"passed is {count} and the product is {width * height}"
        )
