"""Which folders under a root hold a base model, by the names of their files alone."""

from __future__ import annotations

import os
from pathlib import Path

from adapterfit import limits
from adapterfit.errors import CannotCheck
from adapterfit.text import show

_ADAPTER = "adapter_config.json"
#: A folder with one of these, or a name that ends like a shard's index, is a base's.
_MARKS = ("config.json", "model.safetensors", "pytorch_model.bin")
_INDEX = (".safetensors.index.json", ".bin.index.json")


def bases_under(root: str) -> tuple[list[str], list[str]]:
    """Folders of bases, sorted, the root itself included, and folders that were not looked into. Links are not followed.

    Raises:
        CannotCheck: The root is no folder.
    """
    if not Path(root).is_dir():
        raise CannotCheck(f"{show(root)} is not a folder: --among takes the folder that holds the bases")
    found: list[str] = []
    passed: list[str] = []
    seen, top = 0, root.rstrip(os.sep).count(os.sep)

    def unread(error: OSError) -> None:
        passed.append(str(error.filename))

    for here, folders, files in os.walk(root, onerror=unread):
        seen += len(folders) + len(files)
        if seen > limits.MATCH_ENTRIES:
            passed.append(here)
            break
        if _ADAPTER not in files and any(name in _MARKS or name.endswith(_INDEX) for name in files):
            found.append(here)
        if here.count(os.sep) - top >= limits.MATCH_DEPTH:
            passed += [os.path.join(here, name) for name in folders]  # noqa: PTH118 - these are texts
            folders.clear()
    return sorted(found), sorted(passed)
