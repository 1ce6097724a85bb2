"""A progress bar for what is written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Callable

#: A copy of fewer bytes is written before a bar could be read.
_LARGE = 256 * 1024 * 1024


@contextlib.contextmanager
def shown() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, where a person looks and there is something to wait for."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("writing", total=None, visible=False)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=total >= _LARGE)

        yield progress
