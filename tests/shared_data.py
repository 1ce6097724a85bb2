"""The data that lies beside the checkout, where it does: `../shared`. Tests read it and skip, saying so, without it."""

from __future__ import annotations

import contextlib
import os
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"
MATRIX = ROOT / "matrix"
CORPUS = ROOT / "corpus"


def need(path: Path) -> Path:
    """The path, or a skip that says what is missing."""
    if not path.exists():
        pytest.skip(f"the shared data is not here: {path.name}", allow_module_level=True)
    return path


@cache
def unpacked(archive: Path) -> Path:
    """An archive of the shared data, unpacked once per machine and kept in the temporary folder."""
    stamp = f"{archive.stem}-{archive.stat().st_size}-{int(archive.stat().st_mtime)}"
    target = Path(tempfile.gettempdir()) / f"adapterfit-tests-{os.getuid()}" / stamp
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent))
        with tarfile.open(archive) as tar:
            tar.extractall(staging, filter="data")
        with contextlib.suppress(OSError):  # another worker was first
            staging.rename(target)
    return target


def savers() -> list[str]:
    """The peft and transformers pairs whose adapters are there, such as `p0.21.2-t5.23.0`."""
    return sorted(path.name.removesuffix(".tar.xz") for path in (MATRIX / "adapters").glob("*.tar.xz"))


def adapters(saver: str) -> list[Path]:
    """The adapter folders a pair saved, each with its `adapter_config.json`."""
    root = unpacked(need(MATRIX / "adapters" / f"{saver}.tar.xz")) / saver
    return [path if (path / "adapter_config.json").exists() else path / "other" for path in sorted(root.iterdir())]


def bases() -> Path:
    """The folder of tiny bases."""
    return unpacked(need(MATRIX / "bases.tar.xz")) / "bases"
