"""A Git LFS pointer: the few lines Git keeps in place of a large file that was never fetched."""

from __future__ import annotations

import re

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts as every pointer does."""
    return head.startswith(b"version https://git-lfs")


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    size = source.size(name)
    pointer = source.read(name, 0, min(size, 512)).decode("ascii", "replace")
    real = re.search(r"^size (\d{1,20})\s*$", pointer, re.MULTILINE)
    whole = f": the real file has {int(real.group(1)):,} bytes" if real else ""
    problem = f"is a Git LFS pointer ({size:,} bytes), not the weights{whole}. Run: git lfs pull"
    return impostor(source, name, "lfs_pointer", problem, "git lfs pull", expected=real.group(1) if real else "")
