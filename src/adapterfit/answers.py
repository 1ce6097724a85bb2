"""The records of what an engine does with an adapter: frozen, no behaviour beyond what is read off them.

An engine is a consumer other than PEFT: a server, a converter, another library, a hosted service. `consumers/` makes
these records, the reports show them. They stand apart from `records` because a check without `--for` never needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from adapterfit.record import dataclass
from adapterfit.records import Later, NotChecked, TensorInfo

# ------------------------------------------------------------------------------------------------ the adapter, seen


@dataclass(frozen=True)
class Scaling:
    """What PEFT multiplies a module's `lora_B @ lora_A` by: `factor` = `alpha` / `rank`, or `alpha` / √`rank`."""

    rank: int
    alpha: float
    factor: float


@dataclass(frozen=True)
class Pair:
    """The two matrices of one module, as the file has them.

    `module` is the path behind `base_model.model.`, `prefix` what stood before it, `adapter` an adapter's name in the
    keys (`default`). `kind`: `linear`, `embedding`, or `experts` (fused, from `target_parameters`). `layer` and `expert`
    are the numbers in the path. `rank` is the tensors' own; `width` and `height` are the module's, where A and B are there.
    """

    module: str
    tensors: tuple[TensorInfo, ...]
    prefix: str = ""
    adapter: str = ""
    kind: str = "linear"
    layer: int | None = None
    expert: int | None = None
    rank: int | None = None
    width: int | None = None
    height: int | None = None
    halves: int = 2

    @property
    def leaf(self) -> str:
        """The last part of the path; `experts` for fused experts."""
        return "experts" if self.kind == "experts" else self.module.rpartition(".")[2]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors in the file."""
        return tuple(tensor.name for tensor in self.tensors)


@dataclass(frozen=True)
class Place:
    """A module of the base: its kind (`Linear`, `Embedding`, …) and the sizes an adapter of it must have."""

    kind: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Sight:
    """An adapter as an engine's loader sees it: config, pairs, and everything that is not a pair.

    `features`: what is special about it (see `consumers/sight.py` for the words) → the tensors concerned, which may be
    none. `places` are the base's modules, None where no base was given; `guessed` where they are known by checkpoint
    names only. `scalings`: module → what PEFT applies; a module is missing where that cannot be told.
    """

    label: str
    layout: str
    dialect: str
    method: str
    config: Mapping[str, Any]
    raw: Mapping[str, Any]
    pairs: tuple[Pair, ...]
    others: tuple[TensorInfo, ...]
    features: Mapping[str, tuple[str, ...]]
    files: tuple[str, ...]
    weights_file: str
    weights_size: int
    scalings: Mapping[str, Scaling]
    places: Mapping[str, Place] | None = None
    guessed: bool = False
    base: str = ""
    architecture: str = ""
    model_type: str = ""
    base_config: Mapping[str, Any] = field(default_factory=dict)
    layers: int | None = None
    tokenizer: Later | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor that training made: copies of the base's own weights are left out."""
        copies = set(self.features.get("base-copies", ()))
        paired = [name for pair in self.pairs for name in pair.names]
        return (*paired, *(tensor.name for tensor in self.others if tensor.name not in copies))


# ------------------------------------------------------------------------------------------------ the answer


@dataclass(frozen=True)
class Effect:
    """What one claim means for one adapter.

    `kind`: `refused` (the engine raises), `dropped` (`at` falls away), `scaled` (another scale, see `Answer.ratios`),
    `differs` (the model computes something else), `flags` (accepted with the right launch flags), `unknown` (cannot be
    told), `note`. `says` is the engine's own line. `page` is the cause that explains it. `run` is the line with which `cure` ends.
    """

    kind: str
    message: str
    says: str = ""
    at: tuple[str, ...] = ()
    cure: str = ""
    run: str = ""
    page: str = ""
    claim: str = ""
    mark: str = ""
    source: str = ""
    date: str = ""


#: What an engine does → the kinds of effect that make it so.
DECIDES = {
    "raises": ("refused",),
    "loads-without-effect": ("dropped",),
    "loads-partly": ("dropped", "differs", "scaled"),
    "loads-differently": ("differs", "scaled"),
}


@dataclass(frozen=True)
class Ratio:
    """The scale an engine applies to a module, beside the scale PEFT applies; None where it cannot be told."""

    module: str
    trained: float
    served: float | None

    @property
    def value(self) -> float | None:
        """Engine's scale ÷ PEFT's scale."""
        return self.served / self.trained if self.served is not None and self.trained else None


@dataclass(frozen=True)
class Answer:
    """What one engine does with the adapter, in the words of `Report.predicted`.

    `accepted`: `yes`, `with-flags`, `no`, `unknown`. `applied` of `tensors` LoRA tensors (and others that training
    changed) reach the model; None where that cannot be told. `launch` are the flags or calls to load it with. `asked`
    is false in the table of `--for all`. `known`: there are facts about this version. `cure` is the one cure that helps with
    all that keeps the engine from applying it as PEFT does, and `run` the line with which it ends.
    """

    name: str
    title: str
    version: str
    predicted: str
    accepted: str
    tensors: int = 0
    applied: int | None = None
    ratios: tuple[Ratio, ...] = ()
    effects: tuple[Effect, ...] = ()
    launch: tuple[str, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    asked: bool = True
    known: bool = True
    cure: str = ""
    run: str = ""

    @property
    def deciding(self) -> tuple[Effect, ...]:
        """The effects that make it what `predicted` says; none where it loads or cannot be told."""
        return tuple(effect for effect in self.effects if effect.kind in DECIDES.get(self.predicted, ()))
