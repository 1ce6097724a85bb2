"""Every call that changes the disk, in one place: a test makes any of them fail, or the process die at it."""

from __future__ import annotations

import os
import shutil

_CREATE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class Disk:
    """The real disk. Every method raises `OSError` as the call below it does."""

    def mkdir(self, path: str, mode: int) -> None:
        """A new folder; `mode` is narrowed by the umask."""
        os.mkdir(path, mode)

    def create(self, path: str) -> int:
        """A descriptor of a new file that nobody else may read yet; never one that is there, never through a link."""
        return os.open(path, _CREATE, 0o600)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of it; returns how many bytes."""
        return os.write(descriptor, data)

    def copy_range(self, source: int, target: int, start: int, count: int) -> int:
        """Copy inside the kernel, from `start` of the source to where the target stands; returns how many bytes."""
        done: int = os.copy_file_range(source, target, count, offset_src=start)
        return done

    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits."""
        os.chmod(path, mode)

    def sync(self, descriptor: int) -> None:
        """Wait until the file is on the disk."""
        os.fsync(descriptor)

    def start(self, descriptor: int) -> None:
        """Bring to the disk what is written of a file so far. Where there is no such call, `sync` does it all."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)

    def sync_folder(self, path: str) -> None:
        """Wait until a folder's entries are on the disk. Windows has no such call, and needs none."""
        if not hasattr(os, "O_DIRECTORY"):
            return
        descriptor = os.open(path, _FOLDER)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Let go of a file. Some file systems say only here that it could not be written."""
        os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        """Move a folder to its final name, which must not be taken by anything but an empty folder."""
        os.rename(old, new)

    def remove(self, path: str) -> None:
        """Remove a staging folder with all that is in it; it may have the mode of a source that nobody writes to by now."""
        os.chmod(path, 0o700)
        shutil.rmtree(path)
