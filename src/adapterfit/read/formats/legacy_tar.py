"""The tar archives of torch before 0.1.10; today's torch refuses them with `weights_only=True`."""

from __future__ import annotations

from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights

_SAID = "RuntimeError: Cannot use ``weights_only=True`` with files saved in the legacy .tar format."


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it is a tar archive."""
    return head[257:262] == b"ustar" or head[:9].rstrip(b"\0") in (b"sys_info", b"storages", b"tensors", b"pickle")


def read(source: Source, name: str) -> Weights:
    """Refused, named as what it is."""
    problem = "is a tar archive, perhaps of torch before 0.1.10, which was a way to run code; it is not opened"
    said = "" if name.endswith(".safetensors") else _SAID
    return impostor(
        source,
        name,
        "legacy_tar",
        problem,
        "save it again with a torch of your own choice",
        code="legacy-tar",
        raised=said,
    )
