"""What is run on a row's folder, inside the fenced process. Each returns (flaws as dicts, facts as plain JSON)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from adapterfit import pipeline
from adapterfit.discover import members
from adapterfit.errors import CannotCheck
from adapterfit.read.adapter import read_adapter
from adapterfit.read.base import read_base
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.memory import MemorySource
from adapterfit.read.weights import read_weights
from adapterfit.records import Flaw, Weights
from adapterfit.testing import make

__all__ = ["CannotCheck", "adapter", "base", "check", "warm_up", "weights"]


def warm_up(work: Path) -> None:
    """Everything that is loaded on first use is loaded before the fence closes."""
    import difflib  # noqa: F401
    import importlib
    import pkgutil
    import signal  # noqa: F401
    import threading  # noqa: F401
    import unicodedata  # noqa: F401
    import zlib  # noqa: F401

    import adapterfit

    for module in pkgutil.walk_packages(adapterfit.__path__, "adapterfit."):
        if module.name.split(".")[1] not in ("__main__", "cli", "exact", "guard", "lint"):
            importlib.import_module(module.name)
    read_weights(MemorySource({"adapter_model.safetensors": b""}), "adapter_model.safetensors")
    for name in ("x.bin", "x.safetensors"):
        read_weights(MemorySource({name: b"\x80\x02}."}), name)
    read_base(MemorySource({"config.json": b"{}", "tokenizer.json": b"{}"}))
    FolderSource(work / "path").names()
    for axis in ("read.dialects", "expect.methods"):
        members(f"adapterfit.{axis}")
    prompt = make.adapter(peft_type="PROMPT_TUNING", num_virtual_tokens=3)  # reads which models read no words
    for sample in (
        make.lora(),
        make.lora(target_modules=None),
        prompt,
    ):  # the second reads PEFT's tables of default targets
        pipeline.check(sample.adapter, base=make.base())
    check(str(work / "path"))


def weights(folder: str) -> Any:
    """Every weights file of the folder, and the flaws of the folder itself."""
    source = FolderSource(folder)
    read = [read_weights(source, name) for name in source.names() if name.endswith((".safetensors", ".bin", ".npz"))]
    return _flaws(source.flaws, *(each.flaws for each in read)), [_facts(each) for each in read]


def adapter(folder: str) -> Any:
    """The folder as an adapter: every flaw of the folder, the config and the weights."""
    read = read_adapter(FolderSource(folder))
    config = read.config.flaws if read.config is not None else ()
    weights = read.weights.flaws if read.weights is not None else ()
    facts = {
        "layout": read.layout,
        "known": read.config is not None and read.config.known,
        "rows": read.tokenizer_rows,
        "others": [other.file for other in read.others],
        "predicted": [[flaw.code, flaw.predicted, ascii(flaw.raised)] for flaw in (*read.flaws, *config)],
    }
    return _flaws(read.flaws, config, weights), facts


def check(folder: str) -> Any:
    """The whole check of the folder, on a tiny base that is known by its config alone."""
    report = pipeline.check(folder, base=make.base())
    found = [
        {"code": each.code or each.id, "refused": False, "message": each.message, "id": each.id}
        for each in report.findings
    ]
    return found, {"verdict": report.verdict, "predicted": report.predicted}


def base(folder: str) -> Any:
    """The folder as a base model."""
    read = read_base(FolderSource(folder))
    facts = {
        "tensors": sorted(map(ascii, read.tensors))[:20],
        "complete": read.complete,
        "model_type": ascii(read.model_type),
        "rows": read.tokenizer_rows,
    }
    return _flaws(read.flaws), facts


def snapshot(folder: str) -> Any:
    """The one snapshot of the folder, which is laid out as a repository of the Hub cache."""
    return base(str(next(Path(folder, "snapshots").iterdir())))


def _flaws(*groups: tuple[Flaw, ...]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(flaw) for group in groups for flaw in group]


def _facts(read: Weights) -> dict[str, Any]:
    names = [tensor.name for tensor in read.tensors[:20]]
    shapes = [list(map(str, tensor.shape)) for tensor in read.tensors[:20]]
    return {
        "format": read.format,
        "count": len(read.tensors),
        "names": [ascii(name) for name in names],
        "shapes": shapes,
    }
