"""`adapterfit.stamp`: a fingerprint of the base, in `adapterfit.json` beside the adapter.

Nothing the adapter consists of is touched: no key in `adapter_config.json`, no byte of the weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from adapterfit import limits, pipeline
from adapterfit.causes import layers
from adapterfit.errors import BadInput, CannotCheck
from adapterfit.expect.places import places
from adapterfit.guard.plain import merged, plain_model
from adapterfit.guard.refuse import refuse_misfit
from adapterfit.read import samples
from adapterfit.read.adapter import read_adapter
from adapterfit.read.live import is_live
from adapterfit.read.locate import locate
from adapterfit.read.source import Source
from adapterfit.read.stamp import FILE, SCHEMA, as_json, parse_stamp
from adapterfit.read.vocabulary import vocabulary_digest
from adapterfit.records import Base, ModuleTree, Report, Stamp, WeightSample
from adapterfit.text import show

#: Starts that change the base's weights when the adapter is put on it: then a wrapped base is not the base.
_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")


def stamp(
    adapter: str | os.PathLike[str],
    base: Any = None,
    *,
    full: bool = False,
    online: bool = False,
    allow: Collection[str] = (),
) -> Path:
    """Record beside an adapter which base it belongs to; `check` and `load` compare from then on.

    Args:
        adapter: The adapter's folder.
        base: As for `check`; or the trained `PeftModel` itself. None: the one the adapter names, from the Hub cache.
        full: Also take a digest of all numbers of the touched modules; reads them all.
        online: Whether the network may be asked for the base.
        allow: What is accepted of an adapter that does not fit: predictions and ids of findings.

    Returns:
        The file that was written.

    Raises:
        AdapterMisfit: The adapter does not fit this base: the stamp would say what is not so.
        CannotCheck: Something is not there, or the folder must not be written to (a link, the Hub's cache).
    """
    folder = _own_folder(adapter)
    if is_live(base) and merged(base):
        raise CannotCheck("an adapter is merged into the base's weights right now; call unmerge_adapter() first")
    return write_stamp(
        folder, base, full=full, online=online, allow=allow, changed=is_live(base) and changes_base(base)
    )


def write_stamp(
    folder: Path, base: Any, *, full: bool = False, online: bool = False, allow: Collection[str] = (), changed: bool
) -> Path:
    """As `stamp`. `changed`: the live base's numbers are not the base's own, so they are not kept."""
    given = plain_model(base) if is_live(base) else base
    with contextlib.closing(locate(str(folder), kind="adapter")) as source:
        found = dataclasses.replace(read_adapter(source), stamp=None)
        report = pipeline.check(found, base=given, online=online)
        if report.case.base is None:
            raise CannotCheck("a stamp needs the base: name it, or download the one that the adapter names")
        refuse_misfit(report, ("cannot-tell", *allow))
        made = _stamp(report, report.case.base, given, source, full=full, changed=changed)
    return _write(folder, made)


# ------------------------------------------------------------------------------------------------ the stamp


def _stamp(report: Report, base: Base, given: Any, source: Source, *, full: bool, changed: bool) -> Stamp:
    tree = report.diff.expectation.tree if report.diff is not None else base.tree
    names = touched_weights(report, tree) if tree is not None else []
    asked = samples.spread(names, limits.STAMP_WEIGHTS)
    adapter = report.case.adapter
    tensors = {tensor.name: tensor for tensor in adapter.tensors}
    return Stamp(
        file=FILE,
        libraries=_libraries(),
        base_name=_name(report, base),
        commit=base.revision or _commit(given),
        config=layers.config_fields(base.config),
        class_name=tree.class_name if tree is not None else base.architecture,
        inventory=layers.inventory(tree) if tree is not None and tree.known != "headers" else {},
        content={} if changed else _content(asked, base, given, tree, full=full),
        touched=len({name.rpartition(".")[0] for name in names}),
        rows=layers.vocabulary_rows(tree) if tree is not None else None,
        tokens=base.tokenizer_rows,
        tokenizer=vocabulary_digest(base.opened) if base.opened is not None else "",
        adapter_config=adapter.config,
        adapter_content=samples.of_files(
            source, {name: tensors[name] for name in samples.spread(sorted(tensors), limits.STAMP_TENSORS)}
        ),
    )


def touched_weights(report: Report, tree: ModuleTree) -> list[str]:
    """Weights of the modules that the adapter acts on; of every Linear, for one that acts on the input alone."""
    matched = report.diff.matched if report.diff is not None else ()
    touched = {match.slot.module for match in matched if match.slot.role == "tuner"} - {""}
    kinds = () if touched else ("Linear", "Conv1D")
    return [
        f"{module.name}.{name}"
        for module in tree.modules
        if module.name in touched or module.kind in kinds
        for name, shape in module.params.items()
        if len(shape) > 1
    ]


def _content(
    names: Collection[str], base: Base, given: Any, tree: ModuleTree | None, *, full: bool
) -> Mapping[str, WeightSample]:
    if is_live(given):
        own = dict(given.named_parameters(remove_duplicate=False))
        found = {name: samples.of_live(own[name], full=full) for name in names if name in own}
        return {name: sample for name, sample in found.items() if sample is not None}
    if base.opened is None or tree is None:
        return {}
    known = places(base, tree.class_name)
    return samples.of_files(base.opened, {name: known[name] for name in names if name in known}, full=full)


def changes_base(model: Any) -> bool:
    """Whether an adapter on this live model changed the base's weights when it was put on."""
    configs = getattr(model, "peft_config", None)
    return isinstance(configs, Mapping) and any(map(_changes, configs.values()))


def _changes(config: Any) -> bool:
    start = getattr(config, "init_lora_weights", None)
    by_start = isinstance(start, str) and start.lower().startswith(_CHANGING)
    return by_start or getattr(config, "kasa_config", None) is not None


def _name(report: Report, base: Base) -> str:
    """What people call the base: as the adapter or the model records it, without a machine's folders."""
    config = report.case.adapter.config
    recorded = config.raw.get("base_model_name_or_path") if config is not None else None
    live = (base.config or {}).get("_name_or_path")
    name = next((each for each in (recorded, live, base.label) if isinstance(each, str) and each), "")
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    inside = name.startswith(("/", ".", "~")) or len(parts) > 2 or ":" in name
    return (parts[-1] if inside and parts else name)[: limits.NAME_CHARS]


def _commit(given: Any) -> str:
    found = getattr(getattr(given, "config", None), "_commit_hash", None)
    return found if isinstance(found, str) else ""


def _libraries() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in ("adapterfit", "peft", "transformers", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# ------------------------------------------------------------------------------------------------ the file


def _own_folder(adapter: str | os.PathLike[str]) -> Path:
    """The folder, if it is the user's own to write to.

    Raises:
        CannotCheck: It is no folder, a link, in the Hub's cache, or has links for files.
    """
    folder = Path(adapter)
    if not folder.is_dir():
        raise CannotCheck(f"{show(folder)} is no folder: a stamp lies beside an adapter on disk")
    if folder.is_symlink():
        raise CannotCheck(f"{show(folder)} is a link; name the folder itself")
    if any(each.name == "snapshots" and (each.parent / "blobs").is_dir() for each in folder.resolve().parents):
        raise CannotCheck(f"{show(folder)} lies in the Hub's cache, which nobody should write to; download to a folder")
    linked = sorted(each.name for each in folder.iterdir() if each.is_symlink() and each.name.startswith("adapter"))
    if linked:
        raise CannotCheck(f"{show(folder)} holds links ({show(linked[0])}); stamp the folder the files lie in")
    return folder


def _write(folder: Path, made: Stamp) -> Path:
    import tempfile

    path = folder / FILE
    _must_be_ours(path)
    text = json.dumps(as_json(made), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    if len(text) > limits.STAMP_BYTES:
        raise CannotCheck(f"the stamp would have {len(text):,} bytes; at most {limits.STAMP_BYTES:,} are read again")
    parse_stamp(text.encode())  # what cannot be read again is not written
    try:
        handle, staged = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            Path(staged).chmod(0o666 & ~mask)
            Path(staged).replace(path)
        except BaseException:
            Path(staged).unlink()
            raise
    except OSError as error:
        raise CannotCheck(f"cannot write {show(path)}: {error.strerror}") from error
    return path


def _must_be_ours(path: Path) -> None:
    """Only a stamp is ever replaced."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CannotCheck(f"{show(path)} is a link or no regular file; it is not replaced")
    if not path.exists():
        return
    head = path.read_bytes()[: limits.STAMP_BYTES]
    with contextlib.suppress(BadInput):
        parse_stamp(head)
        return
    if SCHEMA.rpartition("/")[0].encode() not in head[:200]:
        raise CannotCheck(f"{show(path)} is another program's file; it is not replaced")
