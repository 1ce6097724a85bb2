"""A repository on the Hugging Face Hub, read by range requests: a header costs one request, weights none.

Only `--online` comes here. Everything goes through huggingface_hub's own session, so that its endpoint, token,
proxies and offline switch count. It uses `requests` before its version 1 and an `httpx` since; both are spoken.
"""

from __future__ import annotations

import re
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from adapterfit import limits
from adapterfit.errors import BadInput, CannotCheck
from adapterfit.read.sources.memory import outside
from adapterfit.records import Flaw
from adapterfit.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes fetched at once from where a file is first read: 97 % of all safetensors headers on the Hub fit.
WINDOW_BYTES = 100_000
#: Seconds of silence, and seconds in all, after which a request is given up.
SILENCE_SECONDS = 10.0
REQUEST_SECONDS = 60.0
#: Tries per request, for what may pass by itself; the pause before the second doubles for the third.
TRIES = 3
PAUSE_SECONDS = 0.5
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19})")


class _Answer(NamedTuple):
    status: int
    headers: Any
    chunks: Iterator[bytes]


class _PassingError(Exception):
    """Something that may be gone at the next try; its text says what."""


class HubSource:
    """The files of one revision of one model repository.

    Args:
        repo: `owner/name`, or `name` alone for the oldest models.
        revision: A branch, tag or commit; the default branch where empty. It is resolved once, so that all
            reads see one commit.

    Raises:
        CannotCheck: The Hub says no, is not reached, or contradicts itself.
    """

    def __init__(self, repo: str, revision: str = "") -> None:
        self.label = f"hf://{show(repo)}" + (f"@{show(revision)}" if revision else "")
        self._repo = repo
        info = _info(repo, revision or None, self.label)
        self.revision: str = info.sha or revision or "main"
        self._sizes, self.flaws = _listed(info.siblings or (), self.label)
        self._windows: dict[str, tuple[int, bytes]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted, relative, `/`-separated."""
        return tuple(sorted(self._sizes))

    def size(self, name: str) -> int:
        """Size in bytes, as the Hub lists it; where it does not, as the first answer says."""
        if name not in self._sizes:
            raise CannotCheck(f"{show(name)} is not in {self.label}")
        known = self._sizes[name]
        if known is None:
            data, known = self._fetch(name, 0, WINDOW_BYTES)
            self._sizes[name], self._windows[name] = known, (0, data)
        return known

    def close(self) -> None:
        """Nothing stays open: every request is one of its own."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        size = self.size(name)
        if offset < 0 or length < 0 or offset + length > size:
            raise BadInput(outside(name, offset, length, size))
        start, window = self._windows.get(name, (0, b""))
        if not start <= offset <= offset + length <= start + len(window):
            wanted = min(max(length, WINDOW_BYTES), size - offset)
            window, total = self._fetch(name, offset, wanted)
            if total != size or len(window) != wanted:
                raise CannotCheck(
                    _contradiction(self.label, name, f"lists {size:,} bytes, but sends a file of {total:,}")
                )
            start, self._windows[name] = offset, (offset, window)
        return window[offset - start : offset - start + length]

    def _fetch(self, name: str, offset: int, length: int) -> tuple[bytes, int]:
        """Up to `length` bytes from `offset`, and the size of the whole file. An empty range costs nothing."""
        if length == 0:
            return b"", offset
        what = f"{show(name)} of {self.label}"
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                with _get(self._url(name), f"bytes={offset}-{offset + length - 1}") as answer:
                    return _body(answer, offset, length, what)
            except _PassingError as error:
                reason = str(error)
            except CannotCheck:
                raise
            except Exception as error:  # noqa: BLE001 - three HTTP libraries, one meaning: it was not reached
                reason = _network(error, what)
        raise CannotCheck(f"{what} could not be read in {TRIES} tries: {reason}")

    def _url(self, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self._repo, name, revision=self.revision)


# ------------------------------------------------------------------------------------------------ listing


def _info(repo: str, revision: str | None, label: str) -> Any:
    from huggingface_hub import HfApi

    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            return HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=SILENCE_SECONDS)
        except Exception as error:  # noqa: BLE001 - as above; what comes out is one line either way
            status = getattr(getattr(error, "response", None), "status_code", 0)
            reason = _refusal(status, type(error).__name__, label) if status else _network(error, label)
            if status and status not in _PASSING:
                raise CannotCheck(reason) from None
    raise CannotCheck(reason)


def _listed(siblings: Any, label: str) -> tuple[dict[str, int | None], tuple[Flaw, ...]]:
    sizes: dict[str, int | None] = {}
    flaws: list[Flaw] = []
    for sibling in siblings:
        name, size = sibling.rfilename, sibling.size
        if len(sizes) >= limits.FOLDER_ENTRIES:
            problem = f"{label} has more than {limits.FOLDER_ENTRIES:,} files: the listing is partial"
            flaws.append(Flaw("over-limit", problem, severity="warning", refused=False, predicted="none"))
            break
        if not isinstance(name, str) or not _plain(name):
            problem = f"{label} lists the file {show(name)}, which is no relative path; it was left out"
            flaws.append(Flaw("path-escapes", problem, predicted="none"))
            continue
        sizes[name] = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
    return sizes, tuple(flaws)


def _plain(name: str) -> bool:
    parts = name.split("/")
    return "\\" not in name and "\0" not in name and all(part not in ("", ".", "..") for part in parts)


# ------------------------------------------------------------------------------------------------ asking


@contextmanager
def _get(url: str, span: str) -> Iterator[_Answer]:
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # lazily exported

    session: Any = get_session()
    headers = {**build_hf_headers(), "Range": span, "Accept-Encoding": "identity"}
    if callable(getattr(session, "stream", None)):  # httpx; a requests.Session has an attribute `stream` that is False
        with session.stream("GET", url, headers=headers, timeout=SILENCE_SECONDS) as response:
            yield _Answer(response.status_code, response.headers, response.iter_raw(65_536))
    else:
        with closing(session.get(url, headers=headers, timeout=SILENCE_SECONDS, stream=True)) as response:
            yield _Answer(response.status_code, response.headers, response.raw.stream(65_536, decode_content=False))


def _body(answer: _Answer, offset: int, length: int, what: str) -> tuple[bytes, int]:
    """The bytes asked for and the size of the whole file."""
    if answer.status in _PASSING:
        raise _PassingError(f"the Hub answers {answer.status}")
    said = _RANGE.fullmatch(answer.headers.get("content-range") or "")
    if answer.status == 416 and said and int(said.group(3)) <= offset:
        return b"", int(said.group(3))
    if answer.status not in (200, 206):
        raise CannotCheck(_refusal(answer.status, answer.headers.get("x-error-code") or "", what))
    if (answer.headers.get("content-encoding") or "identity") != "identity":
        raise CannotCheck(f"{what}: the server compresses what was asked for plain; a proxy on the way may do that")
    if answer.status == 200:
        return _whole(answer, offset, length, what)
    if not said or said.group(1) is None or int(said.group(1)) != offset:
        raise CannotCheck(f"{what}: the server sends another range than the one it was asked for")
    total = int(said.group(3))
    wanted = min(length, max(total - offset, 0))
    data = _taken(answer.chunks, wanted)
    if len(data) < wanted:
        raise _PassingError(f"the connection ended after {len(data):,} of {wanted:,} bytes")
    return data, total


def _whole(answer: _Answer, offset: int, length: int, what: str) -> tuple[bytes, int]:
    """A server that ignores ranges: what lies before the range is read and thrown away, if it is not much."""
    total = answer.headers.get("content-length") or ""
    if not re.fullmatch(r"\d{1,19}", total):
        raise CannotCheck(f"{what}: the server ignores ranges and does not say how long the file is")
    if min(offset + length, int(total)) > 2 * limits.HEADER_BYTES:
        raise CannotCheck(f"{what}: the server ignores ranges, and what is wanted lies too far into the file")
    wanted = min(offset + length, int(total))
    data = _taken(answer.chunks, wanted)
    if len(data) < wanted:
        raise _PassingError(f"the connection ended after {len(data):,} of {wanted:,} bytes")
    return data[offset:], int(total)


def _taken(chunks: Iterator[bytes], wanted: int) -> bytes:
    end = time.monotonic() + REQUEST_SECONDS
    taken = bytearray()
    for chunk in chunks:
        taken += chunk[: wanted - len(taken)]
        if len(taken) >= wanted:
            break
        if time.monotonic() > end:
            raise _PassingError(f"only {len(taken):,} of {wanted:,} bytes came in {REQUEST_SECONDS:.0f} s")
    return bytes(taken)


# ------------------------------------------------------------------------------------------------ saying no


def _refusal(status: int, code: str, what: str) -> str:
    if "Gated" in code or status == 403:
        return f"hub-access-denied: {what} is gated: ask for access on its page on the Hub, then run: hf auth login"
    if "Revision" in code:
        return f"{what}: the Hub does not know this revision"
    if status == 401 or "RepositoryNotFound" in code or "RepoNotFound" in code:
        return (
            f"hub-access-denied: {what} does not exist, or is private and you are not logged in (the Hub answers "
            f"{status}): check the spelling, or run: hf auth login"
        )
    if status == 404:
        return f"{what}: the Hub does not have it (it answers 404)"
    return f"{what}: the Hub answers {status}"


def _network(error: Exception, what: str) -> str:
    name = type(error).__name__
    if name == "OfflineModeIsEnabled":
        return f"{what}: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it, or leave --online out"
    return f"{what}: the Hub was not reached ({show(name)})"


def _contradiction(label: str, name: str, problem: str) -> str:
    return f"changed-while-reading: {label} {problem} for {show(name)}; run the check again"
