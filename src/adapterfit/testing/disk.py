"""Lay a built sample on disk, for the demo and for tests that start a process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def lay(folder: Path | str, files: Mapping[str, bytes]) -> Path:
    """Write files, name → bytes, into a new or empty folder; returns it.

    Raises:
        FileExistsError: A file of that name is already there.
    """
    root = Path(folder)
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
    return root
