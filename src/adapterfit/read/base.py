"""A base model's folder → `Base`: config, the names and shapes of its tensors, its tokenizer's size.

Weights are read by their headers only, in transformers' own order of preference, one read per header.
"""

from __future__ import annotations

import re
from dataclasses import field, replace

from adapterfit.errors import BadInput
from adapterfit.read.base_config import UNRECOGNISED, BaseConfig, quantisation, read_base_config, runs_code
from adapterfit.read.index import ShardIndex, is_index_name, read_index
from adapterfit.read.source import Source
from adapterfit.read.tokenizer import counted
from adapterfit.read.weights import read_weights
from adapterfit.record import dataclass
from adapterfit.records import Base, Flaw, Later, TensorInfo, Weights
from adapterfit.text import shorten, show

#: What transformers takes by itself, best first (measured on 5.23: a single file wins over an index beside it).
_STANDARD = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
#: What it takes when asked for a variant, and what other libraries write; best first.
_OTHERS = (
    r"model\.[\w-]+\.safetensors",
    r"model\.safetensors\.index\.[\w-]+\.json",
    r"pytorch_model\.[\w-]+\.bin",
    r"pytorch_model\.bin\.index\.[\w-]+\.json",
    r"diffusion_pytorch_model(\.[\w-]+)?\.safetensors",
    r"diffusion_pytorch_model\.safetensors\.index(\.[\w-]+)?\.json",
    r"consolidated\.safetensors",
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)")
_WEIGHTS = re.compile(r"(?!adapter_)[^/]+\.(safetensors|bin|pt)")
#: Weights that transformers 5 does not load and we do not read.
_FOREIGN = {
    ".gguf": "GGUF, the format of llama.cpp",
    ".h5": "TensorFlow's",
    ".msgpack": "Flax's",
    ".pth": "the format of Meta's own download",
    ".onnx": "ONNX",
}
_NO_WEIGHTS = "OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory"
_SNAPSHOT = re.compile(r"snapshots[/\\]([0-9a-f]{40})([/\\]|$)")


@dataclass(frozen=True)
class _Found:
    """Tensors by checkpoint name, whether they are all, and what was wrong on the way."""

    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    complete: bool = False
    flaws: tuple[Flaw, ...] = ()


def read_base(source: Source) -> Base:
    """Read a base model. Nothing the files can do wrong raises: it is in `flaws`.

    Raises:
        CannotCheck: A file vanished, changed while it was read, or may not be read.
    """
    names = tuple(name for name in source.names() if "/" not in name)
    config = _config(source, names)
    found = _weights(source, names)
    return Base(
        label=source.label,
        config=config.raw,
        config_file=config.file,
        tensors=found.tensors,
        complete=found.complete,
        tokenizer=Later(lambda: counted(source)),
        opened=source,
        revision=_revision(source),
        quantisation=quantisation(config.raw),
        remote_code=runs_code(config.raw),
        flaws=(
            *_of_the_base(source.flaws),
            *_not_a_base(names),
            *config.flaws,
            *_no_config(names, config, found),
            *found.flaws,
        ),
    )


def _revision(source: Source) -> str:
    given: str = getattr(source, "revision", "")
    match = _SNAPSHOT.search(source.label)
    return given or (match.group(1) if match else "")


def _config(source: Source, names: tuple[str, ...]) -> BaseConfig:
    if "config.json" in names:
        return read_base_config(source, "config.json")
    # A lone file that the user named is taken for what it holds, whatever it is called.
    if len(names) == 1 and names[0].endswith(".json") and not is_index_name(names[0]):
        return read_base_config(source, names[0])
    return BaseConfig()


def _no_config(names: tuple[str, ...], config: BaseConfig, found: _Found) -> tuple[Flaw, ...]:
    """A folder that does not say what it is. A lone weights file that the user named is no such folder."""
    if config.file or "adapter_config.json" in names:
        return ()
    if not found.tensors:
        problem = "has neither a config.json nor weights that can be read"
        return () if found.flaws else (_flaw("base-empty", problem, raised=UNRECOGNISED),)
    problem = "has weights but no config.json: what it is can be told from the names of its tensors only"
    flaw = _flaw("base-config-missing", problem, "", "warning", refused=False, raised=UNRECOGNISED)
    return (flaw,) if len(names) > 1 else ()


def _not_a_base(names: tuple[str, ...]) -> tuple[Flaw, ...]:
    if "adapter_config.json" not in names:
        return ()
    if "config.json" in names:
        problem = "holds an adapter beside the model: transformers loads that adapter too, without being asked"
        return (_flaw("base-holds-adapter", problem, "adapter_config.json", predicted="silent", refused=False),)
    problem = "is itself an adapter (it has adapter_config.json and no config.json): name the model it was trained on"
    return (_flaw("base-is-adapter", problem, "adapter_config.json", severity="error", predicted="silent"),)


def _weights(source: Source, names: tuple[str, ...]) -> _Found:
    name, note = _preferred(names)
    if not name:
        loose = [each for each in names if _WEIGHTS.fullmatch(each)]
        return _loose(source, loose) if loose else _no_weights(source, names)
    found = _sharded(source, read_index(source, name), names) if is_index_name(name) else _files(source, [name])
    return _Found(found.tensors, found.complete, (*note, *found.flaws))


def _preferred(names: tuple[str, ...]) -> tuple[str, tuple[Flaw, ...]]:
    for name in _STANDARD:
        if name in names:
            return name, ()
    for pattern in _OTHERS:
        matches = [name for name in names if re.fullmatch(pattern, name) and not _SHARD.fullmatch(name)]
        if matches:
            return matches[0], _variant(matches)
    indexes = [name for name in names if is_index_name(name)]
    return (indexes[0] if len(indexes) == 1 else ""), ()


def _variant(matches: list[str]) -> tuple[Flaw, ...]:
    name = matches[0]
    if not name.startswith(("model.", "pytorch_model.")):
        return ()
    asked = name.split(".")[-3 if name.endswith(".index.json") else -2]
    problem = (
        f"has weights under a name that transformers takes only when asked (variant={asked!r}): {show(name)} was read"
    )
    return (_flaw("base-variant-only", problem, name, severity="note", predicted="none", refused=False),)


def _no_weights(source: Source, names: tuple[str, ...]) -> _Found:
    for name in names:
        kind = next((text for ending, text in _FOREIGN.items() if name.lower().endswith(ending)), "")
        if name.lower().endswith(".gguf") or _is_gguf(source, name, names):
            problem = f"is a GGUF file ({show(name)}): reading one is not built yet, so nothing of it was read"
            remedy = "name the folder of the original model (config.json and safetensors) instead"
            return _Found(flaws=(_flaw("gguf-not-supported-yet", problem, name, predicted="none", remedy=remedy),))
        if kind and "config.json" in names:
            problem = f"has its weights in {kind} format only ({show(name)}); no tensor of it was read"
            return _Found(flaws=(_flaw("base-format-unsupported", problem, name, raised=_NO_WEIGHTS),))
    return _Found()


def _is_gguf(source: Source, name: str, names: tuple[str, ...]) -> bool:
    return len(names) == 1 and source.size(name) >= 4 and source.read(name, 0, 4) == b"GGUF"


def _loose(source: Source, names: list[str]) -> _Found:
    if len(names) == 1:
        return _files(source, names)
    sets = {(match.group(1), match.group(3)) for match in map(_SHARD.fullmatch, names) if match}
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if len(sets) != 1 or len(shards) != len(names):
        problem = f"has several weight files and no index, so nobody knows which belong together: {shorten(names)}"
        return _Found(flaws=(_flaw("base-weights-unclear", problem, severity="warning", raised=_NO_WEIGHTS),))
    found = _files(source, shards)
    ((stem, count),) = sets
    problem = f"has {len(shards)} of {int(count)} shards ({show(stem)}-…) and no index that lists them"
    whole = found.complete and len(shards) == int(count)
    return _Found(found.tensors, whole, (_flaw("base-index-missing", problem, raised=_NO_WEIGHTS), *found.flaws))


def _sharded(source: Source, index: ShardIndex, names: tuple[str, ...]) -> _Found:
    present = set(names)
    missing = [shard for shard in index.shards if shard not in present]
    found = _files(source, [shard for shard in index.shards if shard in present])
    refused = any(flaw.refused for flaw in index.flaws)
    whole = found.complete and not missing and not refused and bool(index.shards)
    flaws = (*index.flaws, *_missing(index, missing), *found.flaws, *(_disagreeing(index, found) if whole else ()))
    return _Found(found.tensors, whole, flaws)


def _missing(index: ShardIndex, missing: list[str]) -> tuple[Flaw, ...]:
    if not missing:
        return ()
    raised = f"FileNotFoundError: No such file or directory: {show(missing[0])}"
    if len(missing) == len(index.shards):
        count = sum(len(tensors) for tensors in index.shards.values())
        problem = f"has an index of {count:,} tensors but none of its {len(missing)} shards: shapes are not known"
        flaw = _flaw("base-weights-not-there", problem, index.file, severity="warning", raised=raised)
    else:
        problem = (
            f"lacks {len(missing)} of the {len(index.shards)} shards that {show(index.file)} names: {shorten(missing)}"
        )
        flaw = _flaw("base-shard-missing", problem, index.file, raised=raised, remedy="download the base again")
    return (flaw,)


def _disagreeing(index: ShardIndex, found: _Found) -> tuple[Flaw, ...]:
    listed = {tensor for tensors in index.shards.values() for tensor in tensors}
    flaws = []
    absent = sorted(listed - found.tensors.keys())
    if absent:
        problem = f"has no {shorten(absent)}, which {show(index.file)} lists"
        flaws.append(_flaw("index-tensor-absent", problem, index.file, predicted="warns", refused=False))
    unlisted = sorted(found.tensors.keys() - listed)
    if unlisted:
        problem = (
            f"has {shorten(unlisted)} in a shard though {show(index.file)} does not list it; it is loaded all the same"
        )
        flaws.append(_note("index-tensor-unlisted", problem, index.file))
    elsewhere = [
        t for shard, tensors in index.shards.items() for t in tensors if _in_other(found.tensors.get(t), shard)
    ]
    if elsewhere:
        problem = f"has {shorten(elsewhere)} in another shard than {show(index.file)} says; it is loaded all the same"
        flaws.append(_note("index-tensor-elsewhere", problem, index.file))
    return tuple(flaws)


def _in_other(tensor: TensorInfo | None, shard: str) -> bool:
    return tensor is not None and tensor.file != shard


def _files(source: Source, names: list[str]) -> _Found:
    tensors: dict[str, TensorInfo] = {}
    flaws: list[Flaw] = []
    complete = True
    for name in names:
        weights = _read(source, name)
        flaws += (*_of_the_base(weights.flaws), *_twice(tensors, weights))
        complete = complete and not weights.refused
        tensors.update((tensor.name, tensor) for tensor in weights.tensors)
    return _Found(tensors, complete, tuple(flaws))


def _of_the_base(flaws: tuple[Flaw, ...]) -> tuple[Flaw, ...]:
    """What readers of any file saw, said so that nobody takes it for the adapter's."""
    return tuple(replace(flaw, message=f"In the base: {flaw.message}") for flaw in flaws)


def _read(source: Source, name: str) -> Weights:
    try:
        return read_weights(source, name)
    except BadInput as error:
        return Weights(name, "", source.size(name), flaws=(error.flaw,))


def _twice(tensors: dict[str, TensorInfo], weights: Weights) -> tuple[Flaw, ...]:
    both = [tensor for tensor in weights.tensors if tensor.name in tensors]
    if not both:
        return ()
    differ = [t for t in both if tensors[t.name].shape != t.shape]
    first = (differ or both)[0]
    other = tensors[first.name]
    problem = (
        f"has {shorten(t.name for t in both)} in two shards, {show(other.file)} {list(other.shape)} and "
        f"{show(first.file)} {list(first.shape)}; the last one is loaded"
    )
    severity = "error" if differ else "warning"
    return (_flaw("tensor-in-two-shards", problem, weights.file, severity, predicted="silent", refused=False),)


def _flaw(
    code: str,
    problem: str,
    where: str = "",
    severity: str = "error",
    *,
    refused: bool = True,
    predicted: str = "raises",
    raised: str = "",
    remedy: str = "",
) -> Flaw:
    message = f"The base {problem}"
    return Flaw(
        code, message, where, severity=severity, refused=refused, predicted=predicted, raised=raised, remedy=remedy
    )


def _note(code: str, problem: str, where: str) -> Flaw:
    return _flaw(code, problem, where, "note", refused=False, predicted="none")
