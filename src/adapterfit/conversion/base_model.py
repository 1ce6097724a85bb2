"""A base model's folder, to be written again with some of its tensors changed: same shards, same index, same other files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapterfit.conversion.numbers import Tensor, stored
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.output import Stream, WeightsFile
from adapterfit.errors import CannotConvert
from adapterfit.expect.places import Pieces, pieces, places
from adapterfit.read.source import Source
from adapterfit.read.weights import read_weights
from adapterfit.records import Base, TensorInfo
from adapterfit.repair.staging import Output
from adapterfit.text import quote, shorten

_INDEX = ".index.json"
#: What makes one parameter of the weights of all experts.
_STACK = ("stack", 0)
#: Other copies of the weights, and what belongs to a training or to an adapter: not part of a model that is loaded.
_LEFT_OUT = (
    ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".safetensors", ".safetensors.index.json",
)  # fmt: skip


@dataclass(frozen=True)
class Copied:
    """A file that stays as it is."""

    name: str
    source: Source

    def size(self) -> int:
        """Bytes it has."""
        return self.source.size(self.name)

    def write(self, output: Output) -> None:
        """Copy it."""
        output.copy(self.source, self.name, 0, self.size())


@dataclass(frozen=True)
class Model:
    """A base with its files open, and where each parameter of its modules stands."""

    base: Base
    source: Source
    named: Mapping[str, TensorInfo]
    pieces: Mapping[str, Pieces]

    def tensor(self, parameter: str) -> Tensor | None:
        """The tensor that becomes this parameter as it is."""
        info = self.named.get(parameter)
        return stored(self.source, info) if info is not None else None

    def piece(self, info: TensorInfo) -> Tensor:
        """A tensor of the checkpoint."""
        return stored(self.source, info)

    def expert(self, name: str) -> TensorInfo | None:
        """The checkpoint's tensor of this name, where it is one of many that are stacked."""
        of_this = (info for one in self.pieces.values() if _STACK in one.ops for part in one.parts for info in part)
        return next((info for info in of_this if info.name == name), None)

    def written(
        self, new: Mapping[str, Tensor], of_pieces: Mapping[str, Tensor], more: Mapping[str, tuple[str, Tensor]]
    ) -> list[Stream]:
        """Its shards, with some tensors changed, and with more of them.

        Args:
            new: Parameter → its new tensor.
            of_pieces: Name in the checkpoint → its new tensor.
            more: Name in the checkpoint → the shard it goes to, and the tensor.
        """
        replaced = {**of_pieces, **{self.named[parameter].name: tensor for parameter, tensor in new.items()}}
        shards: dict[str, dict[str, Tensor]] = {}
        for info in self.base.tensors.values():
            shards.setdefault(info.file, {})[info.name] = replaced.get(info.name) or stored(self.source, info)
        for name, (file, tensor) in more.items():
            shards[file][name] = tensor
        return [WeightsFile(file, tensors, self._metadata(file)) for file, tensors in sorted(shards.items())]

    def _metadata(self, file: str) -> Mapping[str, str]:
        return read_weights(self.source, file).metadata

    def others(self) -> list[str]:
        """The files beside the weights that belong to the model."""
        names = [name for name in self.source.names() if "/" not in name]
        ours = ("receipt.json", "adapterfit.json")  # of a base that was merged before
        return [
            name
            for name in names
            if not name.endswith(_LEFT_OUT) and not name.startswith("adapter_") and name not in ours
        ]

    def left_out(self) -> list[str]:
        """The files beside the shards that are not written again."""
        kept = {*self.others(), *(info.file for info in self.base.tensors.values()), *self.indexes()}
        return [name for name in self.source.names() if name not in kept]

    def indexes(self) -> list[str]:
        """The index of the shards, where there is one."""
        sharded = len({info.file for info in self.base.tensors.values()}) > 1
        names = [name for name in self.source.names() if "/" not in name and name.endswith(".safetensors" + _INDEX)]
        return names if sharded or names else []

    def json(self, name: str) -> Any:
        """A JSON file of the folder."""
        return json.loads(self.source.read(name, 0, self.source.size(name)))


def opened_model(opened: Opened) -> Model:
    """The base of an adapter.

    Raises:
        CannotConvert: There is none with readable safetensors weights, or they are packed.
    """
    base = opened.base
    if base is None or base.opened is None or not base.tensors:
        flaws = sorted(base.flaws, key=lambda flaw: not flaw.refused) if base is not None else ()
        why = next((f": {flaw.message}" for flaw in flaws), "")
        raise CannotConvert(f"a merged model needs the base's weights: give them with --base{why}", ("--base",))
    if base.quantisation:
        raise CannotConvert(
            f"the base is quantised ({quote(base.quantisation)}): its packed weights cannot be added to"
        )
    if not base.complete:
        raise CannotConvert("the base's weights are not all there: nothing is merged into a part of a model")
    odd = [info.file for info in base.tensors.values() if not info.file.endswith(".safetensors") or info.span is None]
    if odd:
        raise CannotConvert(
            f"only bases in safetensors are merged into; this one is in {shorten(sorted(set(odd)))}", tuple(set(odd))
        )
    return Model(base, base.opened, places(base, base.architecture), pieces(base, base.architecture))


def json_bytes(value: Any) -> bytes:
    """As transformers writes its JSON."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def with_more(index: Any, more: Mapping[str, tuple[str, Tensor]]) -> Any:
    """An index that knows further tensors."""
    sizes: Iterable[int] = (tensor.size for _, tensor in more.values())
    total = index.get("metadata", {}).get("total_size")
    metadata = {**index.get("metadata", {}), **({"total_size": total + sum(sizes)} if isinstance(total, int) else {})}
    return {
        **index,
        "metadata": metadata,
        "weight_map": {**index["weight_map"], **{name: file for name, (file, _) in more.items()}},
    }
