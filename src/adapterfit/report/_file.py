"""Write a rendered report to a file: whole or not at all, and never over what was checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from adapterfit.errors import CannotCheck
from adapterfit.text import quote

if TYPE_CHECKING:
    from collections.abc import Iterable


def write(text: str, output: str, checked: Iterable[str], *, option: str = "--output", apart: bool = False) -> None:
    """Write `text` to `output`.

    Args:
        text: the whole report.
        output: a path of the user's.
        checked: files and folders that were checked; they, and the files in them, are never replaced.
        option: what the user named the file with.
        apart: whether not even a new file may lie in them.

    Raises:
        CannotCheck: the file cannot be written, or would replace one that was checked.
    """
    path = Path(output)
    try:
        path = path.resolve()
        if path.exists() and any(_within(path, Path(root)) for root in checked):
            raise CannotCheck(f"{option} {quote(output)} would replace a file that was checked; choose another name")
        if apart and any(_within(path, Path(root)) for root in checked):
            raise CannotCheck(f"{option} {quote(output)} lies in a folder that is only read; choose a place outside")
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")  # a device or a pipe: there is nothing to replace
        else:
            _replace(path, text)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise CannotCheck(f"cannot write {option} {quote(output)}: {reason}") from error


def _within(path: Path, root: Path) -> bool:
    root = root.resolve()
    return root == path or root in path.parents


def _replace(path: Path, text: str) -> None:
    import tempfile

    handle, staged = tempfile.mkstemp(prefix=f".{path.name[:50]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(staged).chmod(0o666 & ~mask)
        Path(staged).replace(path)
    except BaseException:
        Path(staged).unlink()
        raise
