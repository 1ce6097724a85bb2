"""sha256 of a large new file, read back while more of it is written: a second core's work, done in the same time."""

from __future__ import annotations

import hashlib
import os
import threading

from adapterfit.errors import CannotWrite
from adapterfit.plans import FileHash

#: Bytes read at once: they are still in the processor's cache when they are hashed.
PIECE = 512 * 1024
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
#: Whether a file can be read by one thread while another writes it, each from where it stands.
CAN_FOLLOW = hasattr(os, "preadv")


class Following:
    """One file that grows; nothing of it is read before it was written, and all of it is by the time it has ended."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, _READ)
        self._grown = threading.Condition()
        self._size = 0
        self._ended = self._given_up = False
        self._found: FileHash | OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reached(self, size: int, *, ended: bool = False) -> None:
        """There are so many bytes by now."""
        with self._grown:
            self._size, self._ended = size, ended
            self._grown.notify()

    def result(self) -> FileHash:
        """Size and sha256; waits until all of it was read.

        Raises:
            CannotWrite: It could not be read back.
        """
        self._thread.join()
        if isinstance(self._found, FileHash):
            return self._found
        raise CannotWrite("what was written could not be read back") from self._found

    def stop(self) -> None:
        """Leave off."""
        with self._grown:
            self._given_up = True
            self._grown.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._found = self._digest()
        except OSError as error:
            self._found = error
        finally:
            os.close(self._descriptor)

    def _digest(self) -> FileHash | None:
        digest, held, at = hashlib.sha256(), memoryview(bytearray(PIECE)), 0
        while (size := self._more_than(at)) > at:
            while at < size and not self._given_up:
                count = os.preadv(self._descriptor, [held[: min(PIECE, size - at)]], at)
                if not count:
                    return None
                digest.update(held[:count])
                at += count
        if self._given_up or os.fstat(self._descriptor).st_size != at:
            return None
        return FileHash(at, digest.hexdigest())

    def _more_than(self, read: int) -> int:
        """How many bytes there are, once there is a piece more than were read, or no more will come."""
        with self._grown:
            self._grown.wait_for(lambda: self._given_up or self._ended or self._size - read >= PIECE)
            return 0 if self._given_up else self._size
