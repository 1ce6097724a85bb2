"""What a word on the command line means: a folder, a file, or a model on the Hub.

Only what the command line names is opened, and the local cache's entry of the base id that an adapter records.
A path that stands *inside* an adapter is never followed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from adapterfit.errors import CannotCheck
from adapterfit.read.index import is_index_name
from adapterfit.read.source import Source
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.part import PartSource
from adapterfit.text import quote, show

#: The Hub's own rule for ids, plus: no id looks like a path.
_ID = re.compile(r"(?:[A-Za-z0-9_][\w.-]{0,95}/)?[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w./+-]{0,199}", re.ASCII)
_HF = re.compile(r"hf://(?:models/)?([^/@]+(?:/[^/@]+)?)(?:@(refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(.*))?")
#: Files by which a repository is found in the local cache: one of them is in every download.
_LANDMARKS = (
    "config.json",
    "adapter_config.json",
    "model.safetensors.index.json",
    "model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "adapter_model.bin",
    "tokenizer_config.json",
    "README.md",
    ".gitattributes",
)


#: Weights beside an index that are no shards of it: a single-file model.
_SINGLE = ("model.safetensors", "pytorch_model.bin")


class HubId(NamedTuple):
    """`hf://repo@revision/folder`; revision and folder may be empty."""

    repo: str
    revision: str = ""
    folder: str = ""


def locate(text: str, *, kind: str, online: bool = False) -> Source:
    """Open what the user named.

    Args:
        text: The word of the command line.
        kind: `adapter` or `base`, for the messages and for which neighbours of a single file belong to it.
        online: Whether the Hub may be asked for what its local cache does not have.

    Raises:
        CannotCheck: There is no such thing; one line says what was tried.
    """
    if text.startswith("hf://"):
        return _from_hub(_parsed(text), text, online=online)
    path = Path(text)
    if text and _is_there(path):
        return FolderSource(_snapshot_of(path)) if path.is_dir() else _file(path, kind)
    if not is_hub_id(text):
        raise CannotCheck(f"there is no {kind} at {quote(text)}: no such file or folder, and it is not a Hub id")
    return _from_hub(HubId(text), text, online=online)


def is_hub_id(text: str) -> bool:
    """Whether `text` may be `owner/name` (or the `name` of one of the oldest models); a path never is."""
    bad_end = text.endswith((".git", ".", "-"))
    return bool(_ID.fullmatch(text)) and not bad_end and "--" not in text and ".." not in text and len(text) <= 96


def base_in_cache(base_name: object, revision: object = None) -> Source | None:
    """The local Hub cache's entry of the base that an adapter records, or None. The network is never asked.

    Both values come out of a file: what does not look like an id, or like a plain revision, is not looked up.
    """
    if not isinstance(base_name, str) or not is_hub_id(base_name):
        return None
    if revision is not None and not (isinstance(revision, str) and _is_revision(revision)):
        return None
    found = _cached(HubId(base_name, revision or ""))
    return found if found is not None and _says_something(found.names()) else None


def _says_something(names: tuple[str, ...]) -> bool:
    """Whether an entry of the cache holds more of a model than, say, its tokenizer."""
    return "config.json" in names or _has_weights(names)


def _has_weights(names: tuple[str, ...]) -> bool:
    return any(name.endswith((".safetensors", ".bin")) for name in names)


def _is_revision(text: str) -> bool:
    return bool(_REVISION.fullmatch(text)) and ".." not in text and not text.endswith("/")


def _parsed(text: str) -> HubId:
    from urllib.parse import unquote

    match = _HF.fullmatch(text)
    repo, revision, folder = (
        (match.group(1), unquote(match.group(2) or ""), match.group(3) or "") if match else ("", "", "")
    )
    folder = folder.strip("/")
    whole = is_hub_id(repo) and (not revision or _is_revision(revision))
    if not whole or any(part in ("", ".", "..") for part in folder.split("/") if folder) or "\\" in folder:
        raise CannotCheck(f"{quote(text)} is not of the form hf://owner/name, hf://owner/name@revision or …/folder")
    return HubId(repo, revision, folder)


# ------------------------------------------------------------------------------------------------ paths


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):  # too long a name, or a NUL in it: not a path
        return False


def _file(path: Path, kind: str) -> Source:
    """One file; with the config beside it, and, for an index, with the shards beside it."""
    name, index = path.name, is_index_name(path.name)
    config = "config.json" if kind == "base" else "adapter_config.json"
    if (name.endswith(".json") and not index) or not (index or (path.parent / config).exists()):
        return FolderSource(path)
    whole = FolderSource(path.parent)
    if name not in whole.names():  # a link out of its folder: the user named it, so it is followed, alone
        return FolderSource(path)
    ending = ".bin" if ".bin.index." in name else ".safetensors"

    def kept(other: str) -> str | None:
        shard = index and other.endswith(ending) and "/" not in other and other not in _SINGLE
        return other if other in (name, config) or shard else None

    return PartSource(whole, kept, show(path))


def _snapshot_of(folder: Path) -> Path:
    """The one snapshot of a repository's folder in the Hub cache; any other folder as it is."""
    snapshots = folder / "snapshots"
    if not (snapshots.is_dir() and (folder / "blobs").is_dir()):
        return folder
    found = [each for each in snapshots.iterdir() if not each.name.startswith(".")]
    if len(found) != 1:
        raise CannotCheck(f"{show(folder)} is a Hub cache folder with {len(found)} snapshots: name one of them")
    return found[0]


# ------------------------------------------------------------------------------------------------ the Hub


def _from_hub(wanted: HubId, text: str, *, online: bool) -> Source:
    found = _cached(wanted)
    # A cache entry without weights is what an earlier look at the config left behind.
    if online and (found is None or not _has_weights(found.names())):
        from adapterfit.read.sources.hub import HubSource

        found = _folder_of(HubSource(wanted.repo, wanted.revision), wanted)
    if found is None:
        tried = "" if text.startswith("hf://") else f"there is no file or folder {quote(text)}, and "
        at = f" --revision {show(wanted.revision)}" if wanted.revision else ""
        raise CannotCheck(
            f"{tried}{show(wanted.repo)} is not in the local Hub cache; add --online, or download it: "
            f"hf download {show(wanted.repo)}{at}"
        )
    return found


def _cached(wanted: HubId) -> Source | None:
    """The snapshot in the local cache, by huggingface_hub's own look-up; None where there is none."""
    from huggingface_hub import constants

    # The real look-up costs 0.1 s to import; most ids are not in the cache, which this one `stat` tells.
    if not (Path(constants.HF_HUB_CACHE) / f"models--{wanted.repo.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    prefix = f"{wanted.folder}/" if wanted.folder else ""
    for name in _LANDMARKS:
        path = try_to_load_from_cache(wanted.repo, prefix + name, revision=wanted.revision or None)
        if isinstance(path, str):
            return _folder_of(FolderSource(path[: -len(prefix + name) - 1]), wanted)
    return None


def _folder_of(source: Source, wanted: HubId) -> Source:
    if not wanted.folder:
        return source
    prefix = f"{wanted.folder}/"
    part = PartSource(source, lambda name: name[len(prefix) :] if name.startswith(prefix) else None, source.label)
    if not part.names():
        raise CannotCheck(f"{source.label} has no folder {quote(wanted.folder)}")
    return part
