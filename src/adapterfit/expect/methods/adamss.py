"""ADAMSS: the base's weight is split into subspaces by clustering, each adapted by a low-rank pair.

Saved, relative to a module: `adamss_A.<i>` (rank, r), `adamss_B.<i>` (rows of the segment, rank) per subspace, `adamss_newB`
(r, I), one more column with a bias. Which rows a segment has is found by K-means on the base's values and not saved; PEFT
takes any shape from the file. Source: peft 0.21.2 `tuners/adamss/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, Undecided
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "adamss_"
TARGETS = "ADAMSS"
RENAMES: tuple[LoadRename, ...] = ()
_WHY = (
    "AdaMSS finds its segments anew by clustering the base's values, with scikit-learn, which PEFT does not bring along "
    "(without it: ImportError); whether they are those of the training cannot be read from names and shapes"
)


def prepare(_config: Mapping[str, Any]) -> None:
    """What PEFT does depends on what is installed and on the base's values."""
    raise Undecided(_WHY)


def inert(config: Mapping[str, Any]) -> bool:
    """`adamss_B` starts at zero."""
    return config.get("init_weights") == "orthogonal"


def layer(_module: Module, _name: str, _rank: int, _config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """Never reached: `prepare` ends before."""
    raise Undecided(_WHY)
