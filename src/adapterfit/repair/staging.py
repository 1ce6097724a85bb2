"""A new folder, whole or not at all: staged beside its place, synced late, moved there by one rename.

Rename onto a folder that is not empty fails, and that is all that keeps two repairs apart: the second one loses. A process
that is killed leaves its staging folder behind; the next one that writes beside it removes it. The two are told apart by a
lock on the folder itself, which the kernel lets go of when its process ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Callable, Protocol

from adapterfit.errors import CannotWrite
from adapterfit.plans import FileHash
from adapterfit.repair.disk import Disk
from adapterfit.repair.following import CAN_FOLLOW, Following
from adapterfit.repair.settling import CAN_WAIT, Settling
from adapterfit.text import quote, show

_MARK = ".adapterfit-"
_STAGING = re.compile(r"\..{1,40}\.adapterfit-[0-9a-f]{16}\Z", re.DOTALL)
_HUB_REPO = re.compile(r"(?:models|datasets|spaces)--.")
#: Bytes held at once where the kernel cannot copy by itself, and bytes it is asked to copy at once.
CHUNK = 4 * 1024 * 1024
#: Bytes of a name on every common file system.
_NAME_BYTES = 255
#: Names for a staging folder before it is used without a lock.
_TRIES = 3
_KERNEL_CHUNK = 64 * 1024 * 1024
#: A file of so many bytes is read back while it is written.
_LARGE = 16 * 1024 * 1024
#: Why the kernel does not copy between two descriptors: other file systems, old kernels.
_NOT_HERE = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM)

Progress = Callable[[int], None]


class Original(Protocol):
    """What bytes are copied from: the files an adapter was read from."""

    def size(self, name: str) -> int:
        """Size in bytes; raises `CannotCheck` where the file is no longer the one that was seen."""
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        ...


class Output:
    """One new file. What is written is counted by `progress`; `reached` is told how much there is of it by now."""

    def __init__(
        self, path: str, disk: Disk, progress: Progress | None = None, reached: Progress | None = None
    ) -> None:
        self._disk = disk
        self._progress = progress
        self._reached = reached
        self.descriptor = disk.create(path)
        self.position = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """All of `data`."""
        left = memoryview(data).cast("B")
        while left:
            self._count(written := self._disk.write(self.descriptor, left[:CHUNK]))
            left = left[written:]

    def zeros(self, count: int) -> None:
        """So many zero bytes."""
        block = bytes(min(count, CHUNK))
        while count:
            self.write(block[: min(count, CHUNK)])
            count -= min(count, CHUNK)

    def copy(self, source: Original, name: str, start: int, end: int) -> None:
        """The bytes `[start, end)` of a file of the source, without holding more than a few of them.

        Raises:
            CannotCheck: The file changed meanwhile.
        """
        start = self._copied_by_kernel(source, name, start, end)
        while start < end:
            data = source.read(name, start, min(CHUNK, end - start))
            self.write(data)
            start += len(data)
        source.size(name)  # raises where another file has taken the name, or this one was written to

    def _copied_by_kernel(self, source: Original, name: str, start: int, end: int) -> int:
        """How far the kernel came by itself."""
        opened = getattr(source, "descriptor", None)
        if opened is None or not hasattr(os, "copy_file_range"):
            return start
        descriptor: int | None = opened(name)
        if descriptor is None:
            return start
        while start < end:
            try:
                done = self._disk.copy_range(descriptor, self.descriptor, start, min(_KERNEL_CHUNK, end - start))
            except OSError as error:
                if error.errno in _NOT_HERE:
                    return start
                raise
            if done == 0:  # the file ends here: reading it says what happened
                return start
            self._count(done)
            start += done
        return start

    def _count(self, done: int) -> None:
        self.position += done
        if self._progress is not None:
            self._progress(done)
        if self._reached is not None:
            self._reached(self.position)


def summed(progress: Callable[[int, int], None] | None, total: int) -> Progress | None:
    """What calls `progress` with the bytes written so far and those to write in all."""
    if progress is None:
        return None
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    return add


class Staging:
    """A folder on its way to `out`; nothing is at `out` before `publish`, and all of it afterwards.

    Args:
        out: Where the folder shall be. Its parent must be there, it must not.
        apart_from: Files and folders that are read; `out` is not in them.
        room: Bytes that will be written.
        disk: What writes.
        progress: Called with every number of bytes that were written.
        follow: Whether large files are read back and hashed while they are written.

    Raises:
        CannotWrite: `out` is a place that is not written to, or the disk has not enough room.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        *,
        apart_from: Iterable[str] = (),
        room: int = 0,
        disk: Disk | None = None,
        progress: Progress | None = None,
        follow: bool = False,
    ) -> None:
        self.out = os.path.abspath(os.fspath(out))
        self._parent, name = os.path.split(self.out)
        self._disk = disk or Disk()
        self._settling = Settling(self._disk)
        self._follow = follow and CAN_FOLLOW
        self._following: dict[str, Following] = {}
        self._progress = progress
        self._lock: int | None = None
        self._stem = f".{name[:40]}{_MARK}"
        self._folders: list[str] = []
        self._read = [os.path.realpath(each) for each in apart_from]
        self.folder = ""
        self.swept: tuple[str, ...] = ()
        self._mask = 0
        try:
            _may_be_written(self.out, self._read)
            _has_room(self._parent, room)
        except (OSError, ValueError) as error:
            raise CannotWrite(f"{quote(self.out)} cannot be written: {_reason(error)}") from None

    def __enter__(self) -> Staging:  # noqa: PYI034 - Self is newer than Python 3.9
        try:
            self.swept = tuple(_sweep(self._parent, self._disk, self._read))
            self._make()
        except OSError as error:
            self._discard()
            raise CannotWrite(f"{quote(self.out)} cannot be written: {_reason(error)}") from error
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._discard()
        if isinstance(error, OSError):
            raise CannotWrite(f"{quote(self.out)} was not written: {_reason(error)}; nothing is left of it") from error

    def _make(self) -> None:
        """The staging folder, locked. Where another process takes it for a leftover before it is locked: another one."""
        for _ in range(_TRIES):
            self._discard()
            folder = os.path.join(self._parent, self._stem + secrets.token_hex(8))
            self.folder = folder
            self._disk.mkdir(folder, 0o777)
            self._mask = 0o777 & ~stat.S_IMODE(os.stat(folder).st_mode)
            self._disk.chmod(folder, 0o700)
            self._lock = _locked(folder)
            if self._lock is not None:
                return  # on a file system without locks none is had; but there nobody sweeps either

    @contextlib.contextmanager
    def file(self, name: str, mode: int | None = None) -> Iterator[Output]:
        """A new file `name` (relative, `/`-separated), on the disk after `settle`; `mode` None is what the umask leaves.

        Raises:
            CannotWrite: The name leads out of the folder.
        """
        path = self._path(name)
        output = Output(path, self._disk, self._progress, lambda size: self._grown(name, path, size))
        try:
            yield output
            if not CAN_WAIT:
                self._disk.sync(output.descriptor)
        finally:
            self._disk.close(output.descriptor)
        self._disk.chmod(path, (0o666 & ~self._mask) if mode is None else mode & 0o777)
        if CAN_WAIT:
            self._settling.add(path, output.position)
        if name in self._following:
            self._following[name].reached(output.position, ended=True)

    def _grown(self, name: str, path: str, size: int) -> None:
        self._settling.started(path, size)
        if self._follow and size >= _LARGE:
            if name not in self._following:
                self._following[name] = Following(path)
            self._following[name].reached(size)

    def folder_mode(self, name: str, mode: int | None) -> None:
        """What a folder of new files shall have; its owner may always write. None is what the umask leaves."""
        if mode is not None:
            self._disk.chmod(os.path.join(self.folder, *name.split("/")), (mode | 0o700) & 0o777)

    def hashes(self) -> dict[str, Callable[[], FileHash]]:
        """What gives size and sha256 of the large files, as they were read back."""
        return {name: one.result for name, one in self._following.items()}

    def settle(self) -> None:
        """Wait until every file is on the disk; raises `OSError` where one cannot be written there."""
        self._settling.finish()

    def publish(self, mode: int | None = None) -> None:
        """Move it to its place; `mode` None is what the umask leaves.

        Raises:
            CannotWrite: Something is there by now.
        """
        self.settle()
        for folder in (*reversed(self._folders), self.folder):
            self._disk.sync_folder(folder)
        self._disk.chmod(self.folder, (0o777 & ~self._mask) if mode is None else mode & 0o777)
        try:
            self._disk.rename(self.folder, self.out)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise CannotWrite(f"{quote(self.out)} is there by now: another process was first") from error
            raise
        self.folder = ""
        self._disk.sync_folder(self._parent)

    def _path(self, name: str) -> str:
        parts = name.split("/")
        if any(
            part in ("", ".", "..") or "\0" in part or (os.sep == "\\" and set(part) & {"\\", ":"}) for part in parts
        ):
            raise CannotWrite(f"{quote(name)} is no name for a file in a folder")
        for depth in range(1, len(parts)):
            folder = os.path.join(self.folder, *parts[:depth])
            if folder not in self._folders:
                self._disk.mkdir(folder, 0o777)
                self._folders.append(folder)
        return os.path.join(self.folder, *parts)

    def _discard(self) -> None:
        with _uninterrupted():
            self._settling.stop()
            for one in self._following.values():
                one.stop()
            if self.folder:
                with contextlib.suppress(OSError):
                    self._disk.remove(self.folder)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A Ctrl-C is heard afterwards: in the middle of a removal it would leave a part of the folder behind."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


# ------------------------------------------------------------------------------------------------ where


def _may_be_written(out: str, read: Iterable[str]) -> None:
    parent, name = os.path.split(out)
    if "\0" in out or not name or len(os.fsencode(name)) > _NAME_BYTES:
        raise CannotWrite(f"{quote(out)} is no name for a folder")
    if _STAGING.match(name):
        raise CannotWrite(f"{quote(out)} would be taken for what a killed repair left, and removed; give another name")
    if os.path.islink(out):
        raise CannotWrite(f"{quote(out)} is a link; give the folder itself")
    if os.path.exists(out):
        raise CannotWrite(
            f"{quote(out)} is there already; nothing is ever written over: give a folder that is not there yet"
        )
    if not os.path.isdir(parent):
        raise CannotWrite(f"the folder {quote(parent)} is not there; make it first")
    _check_links(parent)
    real = os.path.join(os.path.realpath(parent), name)
    if any(_HUB_REPO.match(part) for part in real.split(os.sep)):
        raise CannotWrite(
            f"{quote(out)} lies in the Hub's cache, which belongs to huggingface_hub; give another folder"
        )
    for root in read:
        if _lies_in(real, root):
            raise CannotWrite(f"{quote(out)} lies inside {quote(root)}, which is only read; give a folder outside")


def _lies_in(real: str, root: str) -> bool:
    return real == root or real.startswith(os.path.join(root, ""))


def _check_links(path: str) -> None:
    """No part of the way is a link that somebody else made: he could lead the files anywhere."""
    if not hasattr(os, "getuid"):
        return
    while path != os.path.dirname(path):
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.getuid()):
            raise CannotWrite(f"{quote(path)} is a link of another user; give the folder it leads to")
        path = os.path.dirname(path)


def _has_room(parent: str, room: int) -> None:
    free = shutil.disk_usage(parent).free
    if room > free:
        raise CannotWrite(f"there is not enough room in {quote(parent)}: {room:,} bytes are needed, {free:,} are free")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    return show(getattr(error, "strerror", None) or type(error).__name__)


# ------------------------------------------------------------------------------------------------ leftovers


def _sweep(parent: str, disk: Disk, read: Iterable[str]) -> Iterator[str]:
    """Remove the staging folders of processes that are gone, but not what is read now; yields their names."""
    if not _can_lock():
        return
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if _STAGING.match(entry.name) and entry.is_dir(follow_symlinks=False)]
    for name in names:
        path = os.path.join(parent, name)
        with contextlib.suppress(OSError):
            real = os.path.realpath(path)
            if os.lstat(path).st_uid != os.getuid() or any(_lies_in(root, real) for root in read):
                continue
            lock = _locked(path)
            if lock is not None:
                try:
                    disk.remove(path)
                    yield name
                finally:
                    os.close(lock)


def _can_lock() -> bool:
    return os.name == "posix"


def _locked(folder: str) -> int | None:
    """A descriptor that holds the lock of a folder; None where another process has it, or the folder is gone."""
    if not _can_lock():
        return None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(folder, follow_symlinks=False).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
