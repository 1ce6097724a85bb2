"""A folder on disk, or one file: regular files only, inside the root, unchanged while they are read.

Plain `open` on a FIFO blocks for ever, `mmap` of a file that shrinks kills the process, and a link may lead
anywhere. So every file is opened without following links, relative to the root's own descriptor, checked to
be a regular file with the size it had when it was first seen, and read with `pread`.
"""

# ruff: noqa: PTH100, PTH116, PTH118 - descriptors and scandir, not paths: pathlib can neither open relative to one nor is it cheap to import

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from adapterfit import limits
from adapterfit.errors import BadInput, CannotCheck
from adapterfit.read.sources.memory import outside
from adapterfit.records import Flaw
from adapterfit.text import show

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = _FLAGS | getattr(os, "O_BINARY", 0)
_FOLDER = _FLAGS | getattr(os, "O_DIRECTORY", 0)
#: Windows opens neither folders nor relative to one; there the path is opened as a whole.
_RELATIVE = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "pread")
_BLOB = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
#: Names whose absence or strangeness matters to an adapter or a base; anything else is only noted.
_MATTERS = re.compile(
    r"(?:.*/)?(?:(?:adapter_|generation_)?config\.json|.*\.(?:safetensors|bin|pt|pth|npz|index\.json))\Z"
)

#: How many times as many entries of a folder are looked at by name alone (a million takes about a second).
_LISTED = 50


class _Identity(NamedTuple):
    device: int
    inode: int
    size: int
    modified: int


class FolderSource:
    """The regular files under `path`, or the one file `path` is.

    Folders whose name starts with a dot are not entered, nor those deeper than `limits.FOLDER_DEPTH`.

    Raises:
        CannotCheck: `path` does not exist, is neither file nor folder, or must not be listed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = os.fspath(path)
        mode = _mode(given)
        self.label = show(given)
        self._flaws: list[Flaw] = []
        self._targets: dict[str, str] = {}
        self._seen: dict[str, _Identity] = {}
        self._open: tuple[str, int] | None = None
        self._modes: dict[str, int] = {}
        self._names: tuple[str, ...] = ()
        self._name_set: frozenset[str] | None = None
        if stat.S_ISDIR(mode):
            self.root = os.path.realpath(given)
            self._names = tuple(sorted(self._walk()))
        elif stat.S_ISREG(mode):
            folder, name = os.path.split(os.path.abspath(given))
            self.root = os.path.realpath(folder)
            self._names = (name,)
            self._targets[name] = os.path.realpath(given)  # the user named it, so its link may lead anywhere
        else:
            raise CannotCheck(f"{self.label} is {_kind(mode)}, neither a folder nor a file")
        self.flaws: tuple[Flaw, ...] = tuple(self._flaws)

    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted, relative, `/`-separated; names that are not UTF-8 carry surrogates."""
        return self._names

    def size(self, name: str) -> int:
        """Size in bytes; raises `CannotCheck` where another file has taken the name since it was first seen."""
        seen = self._seen.get(name)
        if seen is None:
            self.descriptor(name)
            return self._seen[name].size
        try:
            self._unchanged(name, os.stat(self._path(name), follow_symlinks=False))
        except OSError:
            raise CannotCheck(_changed(name)) from None
        return seen.size

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        descriptor = self.descriptor(name)
        size = self._seen[name].size
        if offset < 0 or length < 0 or offset + length > size:
            raise BadInput(outside(name, offset, length, size))
        try:
            data = _pread(descriptor, offset, length)
            self._unchanged(name, os.fstat(descriptor))
        except OSError as error:
            raise CannotCheck(f"{show(name)} cannot be read: {error.strerror}") from None
        if len(data) != length:
            raise CannotCheck(_changed(name))
        return data

    def fill(self, name: str, offset: int, into: memoryview) -> None:
        """As `read`, into memory that is there already."""
        if not hasattr(os, "preadv"):
            into[:] = self.read(name, offset, len(into))
            return
        descriptor = self.descriptor(name)
        if offset < 0 or offset + len(into) > self._seen[name].size:
            raise BadInput(outside(name, offset, len(into), self._seen[name].size))
        done = 0
        try:
            while done < len(into) and (more := os.preadv(descriptor, [into[done:]], offset + done)):
                done += more
            self._unchanged(name, os.fstat(descriptor))
        except OSError as error:
            raise CannotCheck(f"{show(name)} cannot be read: {error.strerror}") from None
        if done != len(into):
            raise CannotCheck(_changed(name))

    def close(self) -> None:
        """Let go of the file that was read last."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def __del__(self) -> None:
        if getattr(self, "_open", None) is not None and os is not None:  # None while the interpreter ends
            self.close()

    def mode(self, name: str) -> int:
        """The permission bits of a folder below the root, or of a file that was read, such as 0o644; 0 where it was not."""
        return self._modes.get(name, 0)

    # ------------------------------------------------------------------------------------------- open

    def descriptor(self, name: str) -> int:
        """A descriptor to read the file from, kept until another is read: a `.bin` is read in hundreds of pieces."""
        if self._open is None or self._open[0] != name:
            self.close()
            self._open = (name, self._opened(name))
        return self._open[1]

    def _opened(self, name: str) -> int:
        """A new descriptor, checked to be a regular file and the one that was seen before."""
        if name not in self._known():
            raise CannotCheck(f"{show(name)} is not in {self.label}")
        target = self._targets.get(name)
        try:
            descriptor = self._descend(name) if target is None else os.open(target, _FILE)
        except OSError as error:
            gone = error.errno in (errno.ELOOP, errno.ENOENT, errno.ENOTDIR)
            reason = _changed(name) if gone else f"{show(name)} cannot be opened: {error.strerror}"
            raise CannotCheck(reason) from None
        try:
            self._unchanged(name, os.fstat(descriptor))
        except CannotCheck:
            os.close(descriptor)
            raise
        return descriptor

    def _path(self, name: str) -> str:
        return self._targets.get(name) or os.path.join(self.root, *name.split("/"))

    def _known(self) -> frozenset[str]:
        if self._name_set is None:
            self._name_set = frozenset(self._names)
        return self._name_set

    def _descend(self, name: str) -> int:
        """Open `name` one component at a time, so that none of them may have become a link meanwhile."""
        if not _RELATIVE:
            return os.open(self._path(name), _FILE)
        *folders, last = name.split("/")
        here = os.open(self.root, _FOLDER)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER, dir_fd=here)
                os.close(here)
                here = inner
            return os.open(last, _FILE, dir_fd=here)
        finally:
            os.close(here)

    def _unchanged(self, name: str, now: os.stat_result) -> None:
        found = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
        seen = self._seen.get(name)
        if not stat.S_ISREG(now.st_mode) or (seen is not None and seen != found):
            raise CannotCheck(_changed(name))
        if seen is None:
            self._seen[name] = _Identity(*found)
        self._modes[name] = stat.S_IMODE(now.st_mode)

    # ------------------------------------------------------------------------------------------- list

    def _walk(self) -> Iterator[str]:
        pending = [("", 0)]
        left = limits.FOLDER_ENTRIES
        while pending:
            prefix, depth = pending.pop()
            for entry in self._entries(prefix):
                left -= 1
                if left < 0:
                    self._note(_too_many(self.label))
                    return
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if entry.name.startswith("."):
                        continue
                    if depth < limits.FOLDER_DEPTH:
                        pending.append((name + "/", depth + 1))
                        self._modes[name] = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                    else:
                        self._note(_too_deep(name))
                elif self._is_file(entry, name):
                    yield name

    def _entries(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self.root, prefix)) as found:
                entries: list[os.DirEntry[str]] = []
                for seen, entry in enumerate(found):
                    most = limits.FOLDER_ENTRIES * (2 if _MATTERS.match(entry.name) else 1)
                    if len(entries) <= most:
                        entries.append(entry)
                    if seen > _LISTED * limits.FOLDER_ENTRIES:
                        break
        except OSError as error:
            problem = f"{show(prefix) or self.label} cannot be listed: {error.strerror}"
            if not prefix:
                raise CannotCheck(problem) from None
            self._note(Flaw("not-readable", problem, where=prefix, severity="warning", refused=False, predicted="none"))
            return []
        # Where there are too many, what matters to an adapter is not among those that are left out.
        return sorted(entries, key=lambda entry: (not _MATTERS.match(entry.name), entry.name))

    def _is_file(self, entry: os.DirEntry[str], name: str) -> bool:
        if entry.is_symlink():
            return self._may_follow(entry.path, name)
        if entry.is_file(follow_symlinks=False):
            return True
        mode = entry.stat(follow_symlinks=False).st_mode
        self._note(_strange(name, f"is {_kind(mode)}"))
        return False

    def _may_follow(self, path: str, name: str) -> bool:
        target = os.path.realpath(path)
        try:
            mode = os.stat(target, follow_symlinks=False).st_mode
        except OSError:
            mode = stat.S_IFLNK
        if stat.S_ISLNK(mode):  # nothing there, or a link that comes back to itself
            self._note(_strange(name, "is a link that leads nowhere", code="dangling-link"))
            return False
        if not (_inside(target, self.root) or _in_hub_cache(target, self.root)):
            self._note(
                _strange(name, "is a link that leads out of the folder; it was not followed", code="path-escapes")
            )
            return False
        if stat.S_ISREG(mode):
            self._targets[name] = target
            return True
        if not stat.S_ISDIR(mode):
            self._note(_strange(name, f"is a link to {_kind(mode)}"))
        return False

    def _note(self, flaw: Flaw) -> None:
        if all(flaw.code != other.code or flaw.code != "over-limit" for other in self._flaws):
            self._flaws.append(flaw)


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        raise CannotCheck(f"{show(path)} does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is not a path"
        raise CannotCheck(f"{show(path)} cannot be opened: {reason}") from None


def _pread(descriptor: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes; fewer only at the end of the file."""
    parts = []
    while length > 0:
        if hasattr(os, "pread"):
            part = os.pread(descriptor, min(length, 1 << 30), offset)
        else:
            os.lseek(descriptor, offset, os.SEEK_SET)
            part = os.read(descriptor, min(length, 1 << 30))
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inside(target: str, root: str) -> bool:
    return target == root or target.startswith(os.path.join(root, ""))


def _in_hub_cache(target: str, root: str) -> bool:
    """The one permitted way out: `<repo>/snapshots/<revision>/name` → `<repo>/blobs/<hex>`."""
    blobs, blob = os.path.split(target)
    repo, folder = os.path.split(blobs)
    return folder == "blobs" and bool(_BLOB.match(blob)) and _inside(root, os.path.join(repo, "snapshots"))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a named pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def _strange(name: str, problem: str, code: str = "not-a-regular-file") -> Flaw:
    matters = bool(_MATTERS.match(name))
    return Flaw(
        code=code,
        message=f"{show(name)} {problem}",
        where=name,
        severity="error" if matters else "note",
        refused=matters,
        predicted="none",
    )


def _too_many(label: str) -> Flaw:
    return Flaw(
        code="over-limit",
        message=f"{label} has more than {limits.FOLDER_ENTRIES:,} entries: the listing is partial",
        severity="warning",
        refused=False,
        predicted="none",
    )


def _too_deep(name: str) -> Flaw:
    return Flaw(
        code="over-limit",
        message=f"{show(name)} lies deeper than {limits.FOLDER_DEPTH} folders and was not looked at: the listing is partial",
        where=name,
        severity="note",
        refused=False,
        predicted="none",
    )


def _changed(name: str) -> str:
    return f"changed-while-reading: {show(name)} changed, or was replaced, while it was read; run the check again"
