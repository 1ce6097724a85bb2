"""sha256 of files, read in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from adapterfit.plans import FileHash
from adapterfit.repair.staging import CHUNK, Original


def hashed(source: Original, names: Iterable[str]) -> dict[str, FileHash]:
    """Each file's size and sha256.

    Raises:
        CannotCheck: A file changed meanwhile.
    """
    return {name: _hash(source, name) for name in names}


def _hash(source: Original, name: str) -> FileHash:
    digest = hashlib.sha256()
    size = source.size(name)
    for start in range(0, size, CHUNK):
        digest.update(source.read(name, start, min(CHUNK, size - start)))
    source.size(name)
    return FileHash(size, digest.hexdigest())
