"""Builders of tiny samples: a base known by its config alone and an adapter that fits it, to be broken on purpose.

`make.lora("llama")` is a sample; its methods return changed copies. Nothing here touches a disk, torch or the network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Mapping
from typing import Any, Callable

from adapterfit.consumers.choice import choose
from adapterfit.expect import modules
from adapterfit.expect.expectation import expect
from adapterfit.read.adapter import read_adapter
from adapterfit.read.base import read_base
from adapterfit.read.config import parse_config
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.memory import MemorySource
from adapterfit.record import dataclass
from adapterfit.records import Adapter, Base, Case, Later, Shape, Stamp, TensorInfo, Weights
from adapterfit.testing import forge
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay

__all__ = ["forge"]  # files written by hand, good and bad: the causes' examples reach them through `make`
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


@dataclass(frozen=True)
class Sample:
    """A case, with ways to break it. Every method returns a new sample."""

    case: Case

    @property
    def adapter(self) -> Adapter:
        """The adapter of the case."""
        return self.case.adapter

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the adapter's tensors."""
        return tuple(tensor.name for tensor in self.adapter.tensors)

    def renamed(self, change: Callable[[str], str]) -> Sample:
        """Every tensor under another name."""
        return self._tensors(lambda t: dataclasses.replace(t, name=change(t.name)))

    def dropped(self, wanted: Callable[[str], bool]) -> Sample:
        """Without the tensors whose name `wanted` accepts."""
        return self._tensors(lambda t: None if wanted(t.name) else t)

    def reshaped(self, wanted: Callable[[str], bool], change: Callable[[Shape], Shape]) -> Sample:
        """With another shape for the tensors whose name `wanted` accepts."""
        return self._tensors(lambda t: dataclasses.replace(t, shape=change(t.shape)) if wanted(t.name) else t)

    def added(self, tensors: Mapping[str, Shape], dtype: str = "F32") -> Sample:
        """With further tensors."""
        weights = self._weights()
        more = tuple(TensorInfo(name, dtype, shape, weights.file) for name, shape in tensors.items())
        return self._adapter(weights=dataclasses.replace(weights, tensors=weights.tensors + more))

    def with_config(self, **fields: Any) -> Sample:
        """With other values in adapter_config.json."""
        return self._config({**self._raw(), **fields})

    def without_config(self, *fields: str) -> Sample:
        """Without some fields of adapter_config.json."""
        return self._config({key: value for key, value in self._raw().items() if key not in fields})

    def with_values(self, values: Mapping[str, Any]) -> Sample:
        """With summaries of the tensors' numbers, as `--values` reads them."""
        return self._adapter(values=values)

    def with_stamp(self, stamp: Stamp) -> Sample:
        """With an `adapterfit.json` beside it."""
        return self._adapter(stamp=stamp)

    def on(self, family: str, **config: Any) -> Sample:
        """The same adapter on another base."""
        return Sample(dataclasses.replace(self.case, base=base(family, **config)))

    def on_base(self, other: Base | None) -> Sample:
        """The same adapter on a base given as a record, or on none."""
        return Sample(dataclasses.replace(self.case, base=other))

    def loaded_by(self, consumer: str, loader: str | None = None) -> Sample:
        """The same sample, loaded by these versions: `peft==0.6.2,transformers==4.35.2`; and by this call."""
        from adapterfit.consumers.choice import choose

        return Sample(dataclasses.replace(self.case, consumer=choose(consumer, loader)))

    def with_tokenizer(self, rows: int) -> Sample:
        """With a tokenizer of so many tokens beside the adapter."""
        return self._adapter(tokenizer=Later(lambda: rows))

    def _raw(self) -> dict[str, Any]:
        if self.adapter.config is None:
            raise ValueError("this sample has no config")
        return dict(self.adapter.config.raw)

    def _weights(self) -> Weights:
        if self.adapter.weights is None:
            raise ValueError("this sample has no weights")
        return self.adapter.weights

    def _config(self, raw: Mapping[str, Any]) -> Sample:
        return self._adapter(config=parse_config(json.dumps(raw).encode(), CONFIG))

    def _tensors(self, change: Callable[[TensorInfo], TensorInfo | None]) -> Sample:
        weights = self._weights()
        kept = tuple(new for new in map(change, weights.tensors) if new is not None)
        return self._adapter(weights=dataclasses.replace(weights, tensors=kept))

    def _adapter(self, **changes: Any) -> Sample:
        return Sample(dataclasses.replace(self.case, adapter=dataclasses.replace(self.adapter, **changes)))


def base(family: str = "llama", **config: Any) -> Base:
    """A tiny base known by its config alone; `config` overrides fields of it."""
    raw = {**CONFIGS[family], **config}
    return read_base(MemorySource({"config.json": json.dumps(raw).encode()}, label=f"tiny-{family}"))


def lora(family: str = "llama", **config: Any) -> Sample:
    """A LoRA that fits; by default on two projections of every layer."""
    return adapter(family, **{"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config})


def adapter(family: str = "llama", **config: Any) -> Sample:
    """An adapter of any known method that fits a tiny base, tensor by tensor what PEFT would save."""
    where = config.pop("base", None) or base(family)
    class_name = config.pop("base_class", None) or where.architecture
    parsed = parse_config(config_json(**config), CONFIG)
    found = expect(modules.tree(where, class_name), parsed)
    if found.raised is not None or found.doubts:
        raise ValueError(f"PEFT would not make this adapter: {found.raised or found.doubts}")
    slots = (slot for slot in found.slots if not slot.optional)
    saved = {_as_saved(slot.key): slot.shape for slot in slots}
    tensors = tuple(TensorInfo(name, "F32", shape, WEIGHTS) for name, shape in sorted(saved.items()))
    record = Adapter("sample", config=parsed, weights=Weights(WEIGHTS, "safetensors", 0, tensors))
    return Sample(Case(record, where, choose(None)))


def _as_saved(key: str) -> str:
    """DoRA's vector is saved without the suffix under which it is looked up."""
    return key[: -len(".weight")] if key.endswith("lora_magnitude_vector.weight") else key


def folder(files: Mapping[str, bytes], family: str = "llama") -> Sample:
    """An adapter folder given as bytes, on a tiny base."""
    return Sample(Case(read_adapter(MemorySource(dict(files), label="sample")), base(family), choose(None)))


def weights_file(files: Mapping[str, bytes], family: str = "llama") -> Sample:
    """Weight files given as bytes, beside a valid adapter_config.json."""
    return folder({CONFIG: config_json(), **files}, family)


def base_folder(files: Mapping[str, bytes]) -> Sample:
    """A plain LoRA on a base folder given as bytes."""
    where = read_base(MemorySource(dict(files), label="base"))
    return Sample(dataclasses.replace(lora().case, base=where))


def config_json(**fields: Any) -> bytes:
    """adapter_config.json of a plain LoRA, with fields overridden."""
    plain = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "example/tiny",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"] if fields.get("peft_type", "LORA") != "IA3" else None,
        "inference_mode": True,
    }
    if fields.get("peft_type", "LORA") != "LORA":
        plain = {key: plain[key] for key in ("peft_type", "task_type", "base_model_name_or_path", "inference_mode")}
    return json.dumps({**plain, **fields}).encode()


def safetensors(tensors: Mapping[str, tuple[str, Shape]], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        end = at + math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(at)


def as_files(sample: Sample) -> dict[str, bytes]:
    """A sample as the files of its folder, the tensors all zero."""
    tensors = {tensor.name: (tensor.dtype, tensor.shape) for tensor in sample.adapter.tensors}
    config = sample.adapter.config
    found = {WEIGHTS: safetensors(tensors, {"format": "pt"})}
    return {**found, CONFIG: json.dumps(dict(config.raw), indent=2).encode()} if config is not None else found


def on_disk(sample: Sample, mode: int = 0o644) -> Sample:
    """The sample as read from a folder that is gone afterwards; its weights file had this mode."""
    with tempfile.TemporaryDirectory(prefix="adapterfit-") as folder:
        root = lay(folder, as_files(sample))
        (root / WEIGHTS).chmod(mode)
        with contextlib.closing(FolderSource(root)) as source:
            return Sample(dataclasses.replace(sample.case, adapter=read_adapter(source)))
