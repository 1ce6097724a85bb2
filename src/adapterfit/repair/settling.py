"""New files on their way to the disk: the wait for each is spent on other work, and on many files at a time.

A sync costs little work and much waiting, the more the more files there are: it is put off until there is something else
to do meanwhile, such as the proof. What is written of a large file is on its way while the rest of it is written. All of it
is done before the folder gets its name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable

from adapterfit.repair.disk import Disk

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

#: A file of so many bytes, and so many files, take longer to be written than threads to start.
_LARGE = 16 * 1024 * 1024
_MANY = 64
#: Bytes of a file that are brought to the disk while more of it is written.
_STRETCH = 64 * 1024 * 1024
#: Syncs at a time: a file system writes its journal once for all that wait for it.
_AT_A_TIME = 16
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
#: Windows syncs only what is open for writing, so there it cannot be put off.
CAN_WAIT = hasattr(os, "O_NOFOLLOW")


class Settling:
    """Files that must be on the disk by `finish`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: list[str] = []
        self._pool: Executor | None = None
        self._running: list[Future[None]] = []
        self._started: tuple[str, int, Future[None]] | None = None

    def started(self, path: str, size: int) -> None:
        """A file that is being written, of which there are so many bytes by now."""
        if not CAN_WAIT or size < _STRETCH:
            return
        if self._started is not None and self._started[0] == path:
            _, before, running = self._started
            if size - before < _STRETCH or not running.done():
                return
        self._started = (path, size, self._threads().submit(self._sync, path, self._disk.start))
        self._running.append(self._started[2])

    def add(self, path: str, size: int) -> None:
        """A file that is written and closed."""
        self._waiting.append(path)
        if self._pool is not None or size >= _LARGE or len(self._waiting) >= _MANY:
            pool = self._threads()
            self._running += [pool.submit(self._sync, each, self._disk.sync) for each in self._waiting]
            self._waiting.clear()

    def finish(self) -> None:
        """Wait until all of them are on the disk; raises `OSError` where one is not."""
        for path in self._waiting:
            self._sync(path, self._disk.sync)
        self._waiting.clear()
        for each in self._running:
            each.result()
        self.stop()

    def stop(self) -> None:
        """Leave off: what has not begun is not synced any more."""
        pool: Any = self._pool
        self._pool = None
        self._waiting.clear()
        for each in self._running:
            each.cancel()
        self._running.clear()
        if pool is not None:
            pool.shutdown()

    def _threads(self) -> Executor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_AT_A_TIME)
        return self._pool

    def _sync(self, path: str, call: Callable[[int], None]) -> None:
        descriptor = os.open(path, _READ)
        try:
            call(descriptor)
        finally:
            self._disk.close(descriptor)
