"""Files: found, read with limits, and replaced whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.text import quote

SUFFIXES = (".py", ".ipynb")
#: Folders that hold other people's code, or copies.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"})


class Source(NamedTuple):
    """A file's bytes, and the file as it was when they were read."""

    path: Path
    data: bytes


def find(paths: Sequence[str]) -> Iterator[Path]:
    """The scripts and notebooks that these paths name or hold, each once.

    Raises:
        CannotCheck: A path is not there, is neither, or holds too many.
    """
    seen: set[Path] = set()
    for given in paths:
        path = Path(given)
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as error:
            raise CannotCheck(
                f"cannot read {quote(given)}: {getattr(error, 'strerror', None) or 'no such path'}"
            ) from error
        if not stat.S_ISDIR(mode) and path.suffix not in SUFFIXES:
            raise CannotCheck(f"{quote(given)} is neither a folder nor a .py or .ipynb file")
        for found in _walk(path, 0) if stat.S_ISDIR(mode) else (path,):
            if found not in seen:
                seen.add(found)
                yield found
        if len(seen) > limits.LINT_FILES:
            raise CannotCheck(
                f"{quote(given)} holds more than {limits.LINT_FILES:,} scripts; name its parts one by one"
            )


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED and not entry.name.startswith(".") and depth < limits.LINT_FOLDER_DEPTH:
                yield from _walk(folder / entry.name, depth + 1)
        elif entry.name.endswith(SUFFIXES) and entry.is_file():
            yield folder / entry.name


def read(path: Path) -> Source:
    """A regular file's bytes.

    Raises:
        CannotCheck: It cannot be read, is no regular file or too large.
    """
    most = limits.LINT_NOTEBOOK_BYTES if path.suffix == ".ipynb" else 4 * limits.LINT_CHARACTERS
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CannotCheck("it is no regular file")
            data = file.read(most + 1)
    except OSError as error:
        raise CannotCheck(f"it cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise CannotCheck(f"it has more than {most:,} bytes")
    return Source(path, data)


def given(data: bytes) -> Source:
    """What was handed in on the standard input, as a script of the working folder.

    Raises:
        CannotCheck: It is too large.
    """
    if len(data) > 4 * limits.LINT_CHARACTERS:
        raise CannotCheck(f"it has more than {4 * limits.LINT_CHARACTERS:,} bytes")
    return Source(Path("<stdin>"), data)


def replace(source: Source, data: bytes) -> None:
    """Replace the file by `data`: staged beside it, then renamed; its permissions stay.

    Raises:
        CannotCheck: It cannot be written, or changed since it was read.
    """
    import tempfile

    staged = ""
    try:
        target = source.path.resolve()
        if not target.stat().st_mode & 0o222:  # a rename would go through all the same
            raise CannotCheck("it cannot be written: it is read-only")
        if target.read_bytes() != source.data:
            raise CannotCheck("it changed while it was linted; run lint again")
        handle, staged = tempfile.mkstemp(prefix=f".{target.name[:50]}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(staged).chmod(stat.S_IMODE(target.stat().st_mode))
        Path(staged).replace(target)
        staged = ""
    except OSError as error:
        raise CannotCheck(f"it cannot be written: {error.strerror}") from error
    finally:
        if staged:
            Path(staged).unlink()
