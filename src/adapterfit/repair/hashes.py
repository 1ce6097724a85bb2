"""sha256 of files, read in pieces; that of the largest one by a second thread, while the first does something else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Callable

from adapterfit.errors import CannotCheck
from adapterfit.plans import FileHash
from adapterfit.repair.following import PIECE
from adapterfit.repair.staging import CHUNK, Original
from adapterfit.text import show

#: Smaller files are hashed before a thread has started.
_LARGE = 16 * 1024 * 1024


def hashed(source: Original, names: Iterable[str]) -> dict[str, FileHash]:
    """Each file's size and sha256.

    Raises:
        CannotCheck: A file changed meanwhile.
    """
    with hashing(source, names) as found:
        return found()


@contextlib.contextmanager
def hashing(
    source: Original, names: Iterable[str], begun: Mapping[str, Callable[[], FileHash]] | None = None
) -> Iterator[Callable[[], dict[str, FileHash]]]:
    """Hash files while this thread does something else; what it gives returns each one's size and sha256, once they are known.

    Args:
        source: The files.
        names: Which of them.
        begun: Those that somebody else is hashing already.

    Raises:
        CannotCheck: A file changed meanwhile.
    """
    begun = begun or {}
    order = list(names)
    listed = [name for name in order if name not in begun]
    with _hashing(source, listed) as ours:

        def all_of_them() -> dict[str, FileHash]:
            found = {**ours(), **{name: begun[name]() for name in order if name in begun}}
            return {name: found[name] for name in order}

        yield all_of_them


@contextlib.contextmanager
def _hashing(source: Original, listed: list[str]) -> Iterator[Callable[[], dict[str, FileHash]]]:
    largest = max(listed, key=source.size, default="")
    opened = getattr(source, "descriptor", None)
    if opened is None or not hasattr(os, "preadv") or not listed or source.size(largest) < _LARGE:
        yield lambda: {name: _hash(source, name) for name in listed}
        return
    from concurrent.futures import ThreadPoolExecutor

    descriptor, given_up = os.dup(opened(largest)), threading.Event()
    try:
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(_digest, descriptor, source.size(largest), show(largest), given_up)

            def all_of_them() -> dict[str, FileHash]:
                found = {name: _hash(source, name) for name in listed if name != largest}
                found[largest] = digest.result()
                source.size(largest)  # raises where it is not the file that was hashed
                return {name: found[name] for name in listed}

            try:
                yield all_of_them
            finally:
                given_up.set()
    finally:
        os.close(descriptor)


def _hash(source: Original, name: str) -> FileHash:
    digest = hashlib.sha256()
    size = source.size(name)
    for start in range(0, size, CHUNK):
        digest.update(source.read(name, start, min(CHUNK, size - start)))
    source.size(name)
    return FileHash(size, digest.hexdigest())


def _digest(descriptor: int, size: int, name: str, given_up: threading.Event) -> FileHash:
    """Of a file that is open already; nothing but the descriptor is shared with the other thread."""
    digest = hashlib.sha256()
    held = memoryview(bytearray(PIECE))
    at = 0
    while at < size and not given_up.is_set():
        count = os.preadv(descriptor, [held[: min(PIECE, size - at)]], at)
        if not count:
            raise CannotCheck(f"changed-while-reading: {name} became shorter while it was read")
        digest.update(held[:count])
        at += count
    return FileHash(size, digest.hexdigest())
