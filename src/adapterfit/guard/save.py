"""`adapterfit.save`: PEFT's `save_pretrained`, and nothing stays on disk that could not be loaded again.

The files are written to a folder beside the target, read again by our own reader, held against the live base and against
the numbers in the model, stamped, and only then moved into place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterfit import pipeline
from adapterfit.errors import AdapterMisfit, CannotCheck
from adapterfit.guard import proof
from adapterfit.guard.numbers import Numbers, summaries
from adapterfit.guard.plain import merged, plain_model
from adapterfit.guard.refuse import refuse_misfit
from adapterfit.guard.stamp import changes_base, write_stamp
from adapterfit.read.adapter import read_adapter
from adapterfit.read.locate import locate
from adapterfit.text import quote, shorten, show

_PEFT_MODEL = "peft.peft_model.PeftModel"
#: Around the whole model: the model inside is what is saved.
_OUTER = {
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "deepspeed.runtime.engine.DeepSpeedEngine": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
_FSDP = "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel"
_CONFIG = "adapter_config.json"


def save(
    model: Any, folder: str | os.PathLike[str], *, allow: Collection[str] = ("never-trained",), **kwargs: Any
) -> Path:
    """Save an adapter as `PeftModel.save_pretrained` does, or say why it would be worth nothing.

    Wrappers of `torch.compile` and DDP are taken off first. Refused are models without an adapter, adapters without
    tensors, tensors that are shards of the whole (ZeRO-3, FSDP), a `state_dict` that lacks tensors, and whatever would
    not load again on this very base.

    Args:
        model: The trained `PeftModel`, wrapped or not.
        folder: Where to; made if it is not there. Nothing in it changes unless all is well.
        allow: What is accepted all the same: predictions and ids of findings.
        kwargs: Handed to `save_pretrained` as they are, `state_dict` for example.

    Returns:
        The folder.

    Raises:
        AdapterMisfit: What would be saved does not fit the model it was trained on.
        CannotCheck: It cannot be written, or `model` is no `PeftModel`.
    """
    target = Path(folder)
    trained = _unwrapped(model)
    state = kwargs.get("state_dict")
    if state is None:
        _refuse_partitioned(trained)
    else:
        kwargs["state_dict"] = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    changed = changes_base(trained) or merged(trained)
    with _staging(target) as staging, _uncompiled(trained):
        trained.save_pretrained(str(staging), **kwargs)
        for name in _saved(staging):
            _examine(trained, staging / name, name or "default", allow, kwargs)
            write_stamp(staging / name, trained, allow=allow, changed=changed)
        _move(staging, target)
    return target


# ------------------------------------------------------------------------------------------------ before


def _ancestors(module: Any) -> set[str]:
    return {f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__}


def _unwrapped(model: Any) -> Any:
    while True:
        ancestors = _ancestors(model)
        if _PEFT_MODEL in ancestors:
            return model
        inner = next((attribute for name, attribute in _OUTER.items() if name in ancestors), None)
        if inner is None:
            raise CannotCheck(f"save needs a PeftModel, not a {show(type(model).__name__)}")
        model = getattr(model, inner)


def _refuse_partitioned(model: Any) -> None:
    """ZeRO-3 leaves empty parameters, FSDP flat ones, and either only a part of the numbers on this process."""
    if any(_FSDP in _ancestors(module) for module in model.modules()):
        raise AdapterMisfit(
            "the model is sharded by FSDP: what this process holds is a part. Save with the full state dict: "
            "state = accelerator.get_state_dict(model); adapterfit.save(unwrapped_model, folder, state_dict=state)"
        )
    parts = [name for name, parameter in model.named_parameters() if parameter.requires_grad and _is_part(parameter)]
    if parts:
        raise AdapterMisfit(
            f"{len(parts)} trained parameters are shards or empty ({shorten(parts)}): ZeRO-3 or FSDP keeps the rest "
            "elsewhere. Gather first: with deepspeed.zero.GatheredParameters(model.parameters()): adapterfit.save(…)",
            names=tuple(parts),
        )


def _is_part(parameter: Any) -> bool:
    whole = getattr(parameter, "ds_shape", None)
    return parameter.numel() == 0 or (whole is not None and tuple(whole) != tuple(parameter.shape))


@contextlib.contextmanager
def _uncompiled(model: Any) -> Iterator[None]:
    """With every compiled child replaced by what was compiled, and put back afterwards: `_orig_mod.` is no name to save."""
    swapped = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in list(parent.named_children())
        if _COMPILED in _ancestors(child)
    ]
    try:
        for parent, name, child in swapped:
            setattr(parent, name, child._orig_mod)  # noqa: SLF001 - torch's own name for it, and the only way to it
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)


# ------------------------------------------------------------------------------------------------ after


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside the target, gone afterwards."""
    if target.exists() and not target.is_dir():
        raise CannotCheck(f"{show(target)} is no folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name[:50]}.", dir=target.parent))
    except OSError as error:
        raise CannotCheck(f"cannot write beside {show(target)}: {error.strerror}") from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _saved(staging: Path) -> list[str]:
    """The adapters that were written: `` for the one called default, else the name of its folder."""
    found = [path.parent.relative_to(staging).as_posix() for path in staging.rglob(_CONFIG)]
    if not found:
        raise AdapterMisfit("save_pretrained wrote no adapter_config.json: not the main process, or no adapter")
    return ["" if name == "." else name for name in sorted(found)]


def _examine(model: Any, folder: Path, adapter_name: str, allow: Collection[str], arguments: Mapping[str, Any]) -> None:
    """What was written, against the base and against the numbers in the model.

    A start that is subtracted while saving (PiSSA → LoRA) leaves other numbers than the model's: they are not compared.
    """
    base = plain_model(model)
    with contextlib.closing(locate(str(folder), kind="adapter")) as source:
        numbers = Numbers(source)
        found = read_adapter(source)
        if not found.tensors:
            raise AdapterMisfit(f"the adapter {quote(adapter_name)} has no tensors: nothing would have been saved")
        found = dataclasses.replace(
            found, label=f"the adapter {quote(adapter_name)}", values=summaries(numbers, found.tensors)
        )
        report = pipeline.check(found, base=base)
        refuse_misfit(report, ("cannot-tell", *allow))
        lacking = proof.shortfall(model, adapter_name, numbers, report, arguments.get("state_dict"))
        told = lacking.without_predicted(report) if report.predicted in allow else lacking
        if told and not arguments.get("path_initial_model_for_weight_conversion"):
            raise AdapterMisfit(f"what was written is not what the model holds: {told.said()}", report, told.names)


def _move(staging: Path, target: Path) -> None:
    """Into place: by one rename where nothing is there yet, else file by file, the config last."""
    try:
        _open_up(staging)
        if not target.exists():
            staging.replace(target)
            return
        files = sorted((path for path in staging.rglob("*") if path.is_file()), key=lambda path: path.name == _CONFIG)
        for path in files:
            place = target / path.relative_to(staging)
            if path.name == "README.md" and place.exists():
                continue  # the user's own page; PEFT's was made without knowing it
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    except OSError as error:
        raise CannotCheck(f"cannot write {show(target)}: {error.strerror}") from error


def _open_up(staging: Path) -> None:
    """Modes by the umask: `mkdtemp` makes a folder, and safetensors 0.8 a file, that its owner alone may read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (staging, *staging.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
