"""sha256 of files, read in pieces; that of the largest one by a second thread, while the first does something else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Callable

from adapterfit.errors import CannotCheck
from adapterfit.plans import FileHash
from adapterfit.repair.staging import CHUNK, Original
from adapterfit.text import show

#: Smaller files are hashed before a thread has started.
_LARGE = 16 * 1024 * 1024
#: Bytes read at once: they are still in the processor's cache when they are hashed.
_PIECE = 512 * 1024


def hashed(source: Original, names: Iterable[str], meanwhile: Callable[[], None] | None = None) -> dict[str, FileHash]:
    """Each file's size and sha256.

    Args:
        source: The files.
        names: Which of them.
        meanwhile: Work that is done in this thread while another hashes the largest file.

    Raises:
        CannotCheck: A file changed meanwhile.
    """
    listed = list(names)
    largest = max(listed, key=source.size, default="")
    opened = getattr(source, "descriptor", None)
    if meanwhile is None or opened is None or not hasattr(os, "preadv") or not listed or source.size(largest) < _LARGE:
        if meanwhile is not None:
            meanwhile()
        return {name: _hash(source, name) for name in listed}
    from concurrent.futures import ThreadPoolExecutor

    descriptor = os.dup(opened(largest))
    try:
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(_digest, descriptor, source.size(largest), show(largest))
            meanwhile()
            found = {name: _hash(source, name) for name in listed if name != largest}
            found[largest] = digest.result()
    finally:
        os.close(descriptor)
    source.size(largest)  # raises where it is not the file that was hashed
    return {name: found[name] for name in listed}


def _hash(source: Original, name: str) -> FileHash:
    digest = hashlib.sha256()
    size = source.size(name)
    for start in range(0, size, CHUNK):
        digest.update(source.read(name, start, min(CHUNK, size - start)))
    source.size(name)
    return FileHash(size, digest.hexdigest())


def _digest(descriptor: int, size: int, name: str) -> FileHash:
    """Of a file that is open already; nothing but the descriptor is shared with the other thread."""
    digest = hashlib.sha256()
    held = memoryview(bytearray(_PIECE))
    at = 0
    while at < size:
        count = os.preadv(descriptor, [held[: min(_PIECE, size - at)]], at)
        if not count:
            raise CannotCheck(f"changed-while-reading: {name} became shorter while it was read")
        digest.update(held[:count])
        at += count
    return FileHash(size, digest.hexdigest())
