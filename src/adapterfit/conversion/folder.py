"""Write a new folder: staging beside it, every file synced, one rename. Nothing is ever written over."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from adapterfit.errors import CannotCheck
from adapterfit.text import quote

_MODE = 0o644


def write_folder(target: Path, files: Mapping[str, Iterable[bytes]]) -> None:
    """Write files, each given piece by piece, into a folder that does not exist yet.

    Raises:
        CannotCheck: Something is there already, or it cannot be written; nothing is left behind.
    """
    if os.path.lexists(target):
        raise CannotCheck(f"{quote(target)} is there already: nothing is written over")
    try:
        with _staging(target) as folder:
            for name, pieces in files.items():
                _write(folder / name, pieces)
            folder.rename(target)
    except OSError as error:
        raise CannotCheck(f"{quote(target)} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(_MODE)
