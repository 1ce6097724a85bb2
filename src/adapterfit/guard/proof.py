"""The proof after a load: what the file holds is what the model holds, bit for bit, and nothing was left out.

PEFT's own word for what belongs to an adapter (`get_peft_model_state_dict`, the way back from model to file) is held
against the bytes of the file, which our own reader reads. Neither the check before nor PEFT's loader is relied on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from adapterfit.guard.numbers import Numbers, is_held, is_sharded
from adapterfit.guard.offload import with_offloaded
from adapterfit.record import dataclass
from adapterfit.records import Report, TensorInfo
from adapterfit.text import shorten

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

_SAID = {
    "dropped": "of its tensors are not in the model",
    "different": "of its tensors hold other numbers in the model",
    "unfilled": "tensors of the adapter kept their start value",
    "overwritten": "of its tensors have overwritten the base's own weights",
    "unread": "of its tensors could not be read again",
}


@dataclass(frozen=True)
class Shortfall:
    """What is wrong after a load, as names: of the file, and for `unfilled` of the model. Empty is false.

    `in_base` are tensors of the file that landed on the base's own parameters; they are no fault by themselves.
    """

    dropped: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    unfilled: tuple[str, ...] = ()
    overwritten: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    in_base: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """All names at fault."""
        return tuple(name for kind in _SAID for name in getattr(self, kind))

    def said(self) -> str:
        """`2 of its tensors are not in the model (…)`, for every kind."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return "; ".join(
            f"{len(found[kind])} {said} ({shorten(found[kind])})" for kind, said in _SAID.items() if found[kind]
        )

    def without_predicted(self, report: Report) -> Shortfall:
        """Less what the report said would happen."""
        if report.diff is None:
            return self
        dropped = {tensor.name for tensor in report.diff.extra}
        empty = {_bare(slot.key) for slot in report.diff.missing}
        return Shortfall(
            dropped=tuple(name for name in self.dropped if name not in dropped),
            different=self.different,
            unfilled=tuple(name for name in self.unfilled if _bare(name) not in empty),
            unread=self.unread,
        )


def shortfall(
    model: Any, adapter_name: str, numbers: Numbers, report: Report, state: Tensors | None = None
) -> Shortfall:
    """Hold the file against a `PeftModel` that was loaded from it, or against its whole `state` gathered elsewhere.

    A bias of the base's own that the file lacks keeps the base's number: no fault where the check knows that the writer's
    PEFT never trained any (0.7 to 0.9).
    """
    from peft import get_peft_model_state_dict

    numbers.unchanged()
    state = with_offloaded(model, model.state_dict()) if state is None else state
    held = get_peft_model_state_dict(model, state_dict=state, adapter_name=adapter_name, save_embedding_layers=False)
    places = _Places(held, state, adapter_name, report)
    wrong: dict[str, list[str]] = {kind: [] for kind in (*_SAID, "in_base")}
    filled: set[object] = set()
    for name, arrived in _arriving(model, adapter_name, numbers, report):
        place = places.of(name)
        if arrived is None:
            wrong["unread"].append(name)
        if place is None:
            wrong["dropped"].append(name)
            continue
        where, kept = place
        filled |= {where, _address(kept)}
        if where not in held:
            wrong["in_base"].append(name)
        if arrived is not None and not _holds(kept, arrived, numbers):
            wrong["different"].append(name)
    empty = [name for name, kept in held.items() if not filled & {name, _address(kept) or name}]
    lost = report.diff is None or any(found.id == "bias-not-saved" for found in report.findings)
    wrong["unfilled"] = [name for name in empty if lost or not (name.endswith(".bias") and name in state)]
    return Shortfall(**{kind: tuple(names) for kind, names in wrong.items()})


class _Places:
    """Where in the model a tensor of the file should be: under PEFT's own name for it, else where the check says."""

    def __init__(self, held: Tensors, state: Tensors, adapter_name: str, report: Report) -> None:
        self.held, self.state = held, state
        matched = report.diff.matched if report.diff is not None else ()
        self.keys = {match.tensor.name: _named(match.slot.model_key, adapter_name) for match in matched}

    def of(self, name: str) -> tuple[str, torch.Tensor] | None:
        """Name and tensor, or None."""
        for candidate in (name, _bare(name)):
            if candidate in self.held:
                return candidate, self.held[candidate]
        key = self.keys.get(name, name)
        return (key, self.state[key]) if key in self.state else None


def _bare(key: str) -> str:
    """A name as PEFT saves it: DoRA's vector is also found under `.weight`, and an adapter's name may stand inside."""
    key = re.sub(r"(lora_magnitude_vector)(\.default)?(\.weight)?$", r"\1", key)
    return re.sub(r"\.default(?=\.[^.]+$|$)", "", key)


def _named(model_key: str, adapter_name: str) -> str:
    """A key of the model for an adapter of another name than `default`."""
    return re.sub(r"\.default(?=\.|$)", lambda _: f".{adapter_name}", model_key)


def _address(tensor: Any) -> object:
    """Equal for tensors that share their storage; None where there is none (the meta device, an empty tensor)."""
    address = tensor.data_ptr() if not is_sharded(tensor) else 0
    return (tensor.device, address, tuple(tensor.shape)) if address else None


# ------------------------------------------------------------------------------------------------ the file


def _arriving(
    model: Any, adapter_name: str, numbers: Numbers, report: Report
) -> Iterator[tuple[str, TensorInfo | torch.Tensor | None]]:
    """The file's tensors by name, not read yet; None for one that cannot be read.

    Those that the loader joins (experts) are read, and joined as PEFT itself does it.
    """
    joined = _joined(report)
    parts: dict[str, torch.Tensor] = {}
    for info in report.case.adapter.tensors:
        part = numbers.read(info) if info.name in joined else None
        if part is None:
            yield info.name, info if numbers.has(info) else None
        else:
            parts[info.name] = part
    if parts:
        from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

        config = model.peft_config[adapter_name]
        yield from convert_peft_adapter_state_dict_for_transformers(model, config, parts, adapter_name).items()


def _holds(held: Any, arrived: TensorInfo | torch.Tensor, numbers: Numbers) -> bool:
    """Whether a tensor of the model holds exactly what arrived, as far as its dtype can."""
    return numbers.are(arrived, held) if isinstance(arrived, TensorInfo) else is_held(arrived, held)


def _joined(report: Report) -> frozenset[str]:
    """Tensors of the file of which several make one of the model's."""
    matched = report.diff.matched if report.diff is not None else ()
    count: dict[str, int] = {}
    for match in matched:
        count[match.slot.model_key] = count.get(match.slot.model_key, 0) + 1
    return frozenset(match.tensor.name for match in matched if count[match.slot.model_key] > 1)


# ------------------------------------------------------------------------------------------------ the base's own


def overwritten(base_model: Any, numbers: Numbers, report: Report) -> frozenset[str]:
    """Tensors of the file that would change the base's own weights, looked at before they do.

    The embedding of a base that was resized for the training is the one case in which that is meant: its old rows are
    equal, and only rows at its end differ.
    """
    own = dict(base_model.named_parameters(remove_duplicate=False))
    return frozenset(info.name for info, key in _landing(report, own) if _changes(numbers, info, own[key]))


def _landing(report: Report, own: Mapping[str, Any]) -> Iterator[tuple[TensorInfo, str]]:
    known: Iterable[TensorInfo] = report.diff.overwrites if report.diff is not None else report.case.adapter.tensors
    for info in known:
        key = re.sub(r"^base_model\.(model\.)?", "", info.name).replace(".base_layer.", ".")
        if key in own:
            yield info, key


def _changes(numbers: Numbers, info: TensorInfo, parameter: Any) -> bool:
    found = numbers.look(info)
    if found is None or found.shape != parameter.shape or parameter.device.type == "meta":
        return True
    kept = parameter.detach().cpu()
    differs = (found.to(kept.dtype) != kept) & (found != kept.to(found.dtype))
    if not bool(differs.any()):
        return False
    rows = differs.reshape(len(differs), -1).any(dim=1)
    first = int(rows.int().argmax())
    return not (first > 0 and found.dim() == 2 and bool(rows[first:].all()))
