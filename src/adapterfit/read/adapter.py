"""Stage 1 of 7: read. An adapter's folder, or one weights file → Adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from adapterfit.discover import members
from adapterfit.read import layout
from adapterfit.read.config import config_kind, read_config
from adapterfit.read.source import Source
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.stamp import read_stamp
from adapterfit.read.tokenizer import counted
from adapterfit.read.weights import read_weights
from adapterfit.records import Adapter, AdapterConfig, FileEntry, Flaw, Later, TensorInfo, ValueSummary, Weights
from adapterfit.text import shorten, show

_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".npz", ".gguf", ".ckpt")
#: Adapters of other programs: read, so that their names can be looked at; PEFT would not load them.
_FOREIGN = ("adapters.safetensors", "adapters.npz", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
#: Tensors that only a model with an adapter inside has.
_OF_AN_ADAPTER = re.compile(
    r"\.(?:lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_w|lokr_w|oft_R|vera_lambda|miss_block)[._]?"
)
#: Dialects that the causes of misnamed tensors look at themselves.
_NEAR = ("peft", "transformers")


def read_adapter(source: Source, values: bool = False) -> Adapter:
    """Read what PEFT would load, and look at what lies beside it.

    Flaws of the folder stand in the result's `flaws`; those of a file stand with that file (`config.flaws`,
    `weights.flaws`, `others[].flaws`).

    Args:
        source: A folder's files; or one weights file, with the config beside it where there is one.
        values: Whether the numbers of the tensors are read too.

    Raises:
        CannotCheck: A file must not be read, or changed meanwhile.
    """
    source = _with_parts(source)
    folder = layout.Folder(source.names(), source.label)
    config = read_config(source, layout.CONFIG) if layout.CONFIG in folder.names else None
    name = _chosen(folder)
    weights = read_weights(source, name) if name else None
    kind = layout.kind_of(
        folder, config_kind(config.raw) if config and config.raw else "peft" if config else "", bool(name)
    )
    whole = None if name else _inside_a_model(source, folder)
    joined = tuple(getattr(source, "joined", ()))
    others = tuple(read_weights(source, each) for each in (*_others(folder, name), *joined))
    stamp, unreadable = read_stamp(source, weights)
    found = _named_by_its_tensors(
        Adapter(
            label=source.label,
            files=tuple(FileEntry(each, source.size(each)) for each in folder.names),
            layout=kind,
            config=config,
            weights=weights,
            others=others,
            tokenizer=Later(lambda: counted(source)),
            values=_values(source, weights) if values else None,
            stamp=stamp,
        )
    )
    single = bool(name) and name not in layout.WEIGHTS
    return replace(
        _named_by_its_tensors(found),
        flaws=(
            *source.flaws,
            *_folder_flaws(found, folder, source, single, whole),
            *_disagreement(found),
            *_private(source, name),
            *unreadable,
        ),
    )


def _with_parts(source: Source) -> Source:
    """The source, with the parts of a split file as one where there is no whole one."""
    if any(name in layout.WEIGHTS for name in source.names()):
        return source
    from adapterfit.read.sources.joined import with_parts

    return with_parts(source)


def _private(source: Source, name: str) -> tuple[Flaw, ...]:
    """Safetensors 0.8 writes files that only their owner may read, whatever the umask."""
    mode = source.mode(name) if isinstance(source, FolderSource) and name else 0
    if mode not in (0o600, 0o400):
        return ()
    return (
        Flaw(
            "private-file-mode",
            f"{show(name)} may be read by its owner only (mode {mode:04o}): a server that runs as another user finds no adapter",
            where=name,
            found=f"{mode:04o}",
            expected="0644",
            severity="note",
            refused=False,
            predicted="none",
            remedy=f"chmod 644 {show(name)}",
        ),
    )


def _chosen(folder: layout.Folder) -> str:
    """The weights PEFT would load; or the one file that was given itself; empty where there is neither."""
    for name in layout.WEIGHTS:
        if name in folder.names:
            return name
    rest = [name for name in folder.names if name != layout.CONFIG]
    given = len(rest) == 1 and folder.label.endswith(show(rest[0])) and rest[0].lower().endswith(_ENDINGS)
    return rest[0] if given else ""


def _others(folder: layout.Folder, name: str) -> list[str]:
    second = [each for each in layout.WEIGHTS if each in folder.top and each != name]
    if name:
        return second
    return second + [each for each in _FOREIGN if each in folder.top] + layout.unseen_weights(folder)


def _named_by_its_tensors(found: Adapter) -> Adapter:
    """Names of another program's dialect say more about the layout than the names of files do."""
    read = found.weights or next(iter(found.others), None)
    name = dialect_of(read.tensors) if read is not None else ""
    return replace(found, layout=name) if name and name not in _NEAR else found


def _values(source: Source, weights: Weights | None) -> Mapping[str, ValueSummary]:
    from adapterfit.read.values import summaries

    return summaries(source, weights.tensors) if weights is not None else {}


# --------------------------------------------------------------------------------------------------- flaws


def _inside_a_model(source: Source, folder: layout.Folder) -> Flaw | None:
    """An adapter inside a whole model's file, as `torch.save(model.state_dict())` and FSDP's trainers leave it."""
    for name in layout.whole_models(folder)[:1]:
        names = [tensor.name for tensor in read_weights(source, name).tensors]
        own = [each for each in names if _OF_AN_ADAPTER.search(each)]
        if own:
            return layout.inside_a_model(folder, name, (len(own), len(names)), config=layout.CONFIG in folder.names)
    return None


def _folder_flaws(
    found: Adapter, folder: layout.Folder, source: Source, single: bool, whole: Flaw | None
) -> Iterator[Flaw]:
    said = {flaw.where for flaw in source.flaws}
    if whole is not None and not folder.holders(layout.CONFIG, *layout.WEIGHTS):
        yield whole
    elif found.config is None and layout.CONFIG not in said:
        yield layout.missing_config(folder, found.layout)
    elif found.weights is None and not said & set(layout.WEIGHTS) and _is_peft(found.config):
        yield (
            _never_reached(layout.missing_weights(folder)) if _raises(found.config) else layout.missing_weights(folder)
        )
    if not single:
        yield from layout.beside(folder)


def _raises(config: AdapterConfig | None) -> bool:
    return config is not None and any(flaw.predicted == "raises" and flaw.severity == "error" for flaw in config.flaws)


def _never_reached(flaw: Flaw) -> Flaw:
    """The loader stops at the config, before it looks for the weights; `raised` is what it would say if it came so far."""
    return replace(flaw, predicted="none")


def _is_peft(config: AdapterConfig | None) -> bool:
    """A config that PEFT would go on with; with any other it never comes to the weights."""
    return config is not None and (bool(config.peft_type) or not config.raw)


def dialect_of(tensors: tuple[TensorInfo, ...]) -> str:
    """The one dialect that claims the tensor names; empty where none or several do."""
    names = [tensor.name for tensor in tensors]
    claimed = [name for name, member in members("adapterfit.read.dialects").items() if member.claims(names)]
    return claimed[0] if len(claimed) == 1 else ""


def _disagreement(found: Adapter) -> Iterator[Flaw]:
    """`adapter_model.bin` beside `adapter_model.safetensors`: the second is never looked at by PEFT."""
    second = next((each for each in found.others if each.file in layout.WEIGHTS), None)
    if found.weights is None or second is None:
        return
    loaded = f"PEFT loads {show(found.weights.file)} without a word"
    if second.refused:
        problem = f"{show(second.file)} lies beside {show(found.weights.file)} and cannot be read; {loaded}"
        yield Flaw("two-weights-disagree", problem, severity="note", refused=False, predicted="silent")
        return
    first, other = ({tensor.name: tensor.shape for tensor in each.tensors} for each in (found.weights, second))
    differing = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
    if differing and not found.weights.refused:
        yield Flaw(
            code="two-weights-disagree",
            message=f"{show(found.weights.file)} and {show(second.file)} differ in {len(differing):,} tensors "
            f"({shorten(differing)}); {loaded}",
            severity="warning",
            refused=False,
            predicted="silent",
            remedy="delete the one that is out of date",
        )
