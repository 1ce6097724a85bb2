"""What lies where a literal path in a script points to: only whether it is an adapter's folder, and its small JSON files.

Looked at from the script's own folder and from the working folder, and never outside of them: a script is data, and its
paths are not to lead anywhere.
"""

from __future__ import annotations

from pathlib import Path

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.lint.values import Text, Value
from adapterfit.read import strictjson
from adapterfit.read.config import parse_config
from adapterfit.read.stamp import parse_stamp
from adapterfit.records import AdapterConfig, Stamp

_CONFIG = "adapter_config.json"
_STAMP = "adapterfit.json"


class Disk:
    """Looks things up for one script that lies in `folder`; without one nothing is looked up."""

    def __init__(self, folder: Path | None) -> None:
        self._roots = [folder, Path()] if folder is not None else []

    def is_adapter(self, path: Value) -> bool:
        """Whether a path is literal and an adapter's folder, or a file in one."""
        return self._find(path, _CONFIG) is not None

    def config(self, path: Value) -> AdapterConfig | None:
        """The config of the adapter at a literal path, None where there is none or it cannot be read."""
        data = self._read(self._find(path, _CONFIG), limits.CONFIG_BYTES)
        try:
            return parse_config(data, _CONFIG) if data is not None else None
        except BadInput:
            return None

    def stamp(self, path: Value) -> Stamp | None:
        """The stamp beside the adapter at a literal path, None where there is none or it cannot be read."""
        data = self._read(self._find(path, _STAMP), limits.STAMP_BYTES)
        try:
            return parse_stamp(data) if data is not None else None
        except BadInput:
            return None

    def json(self, path: Value) -> object:
        """The JSON file at a literal path, None where there is none or it cannot be read."""
        found = next((candidate for candidate in self._candidates(path) if candidate.is_file()), None)
        data = self._read(found, limits.CONFIG_BYTES)
        try:
            return strictjson.loads(data, what="the file") if data is not None else None
        except BadInput:
            return None

    def exists(self, path: Value) -> bool:
        """Whether a literal path is there."""
        return any(candidate.exists() for candidate in self._candidates(path))

    def _find(self, path: Value, name: str) -> Path | None:
        for candidate in self._candidates(path):
            for folder in (candidate, candidate.parent):
                try:
                    if (folder / name).is_file() and (folder == candidate or candidate.is_file()):
                        return folder / name
                except OSError:
                    continue
        return None

    def _candidates(self, path: Value) -> list[Path]:
        literal = path.exact if isinstance(path, Text) else None
        if not literal or len(literal) > limits.NAME_CHARS or not literal.isprintable():
            return []
        found = []
        for root in self._roots:
            try:
                whole, inside = root.resolve(), (root / literal).resolve()
            except (OSError, ValueError, RuntimeError):
                continue
            if whole in inside.parents:
                found.append(inside)
        return found

    def _read(self, path: Path | None, most: int) -> bytes | None:
        try:
            return path.read_bytes() if path is not None and path.stat().st_size <= most else None
        except OSError:
            return None
