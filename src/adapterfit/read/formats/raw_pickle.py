"""A bare pickle: something `pickle.dump` wrote, not `torch.save`. It is not loaded; what it asks for is named."""

from __future__ import annotations

import re

from adapterfit import limits
from adapterfit.read.formats._flaws import impostor
from adapterfit.read.source import Source
from adapterfit.records import Weights

#: What the oldest protocol looks like: it is text, and begins by naming a class, or with a list or dict.
_TEXT = re.compile(rb"\(*(?:c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n|i[A-Za-z_][\w.]*\n|[dl]p\d+\n)")
_TORCH = b"\x80\x02\x8a\n"
_WINDOW = 1 << 20


def claims(head: bytes, size: int) -> bool:  # noqa: ARG001
    """Whether it starts as a pickle does, without torch's magic number.

    A safetensors header of 640 bytes starts with the same two bytes; there a small number and a brace follow.
    """
    if head[:1] != b"\x80":
        return bool(_TEXT.match(head))
    header = head[4:8] == b"\0\0\0\0" and head[8:9] in (b"{", b" ")
    return 2 <= head[1:2].ljust(1)[0] <= 5 and not header and not head.startswith(_TORCH)


def read(source: Source, name: str) -> Weights:
    """Refused. The first thing in it that a plain dict does not need is named."""
    from adapterfit.read.formats._closed_pickle import Ended, Refused, read_pickle

    data = source.read(name, 0, min(source.size(name), _WINDOW))
    try:
        read_pickle(data, 0, limits.PICKLE_OPCODES)
    except Ended:
        pass
    except Refused as bad:
        if bad.code == "pickle-not-plain":
            return impostor(source, name, "raw_pickle", f"is a bare pickle that {bad.problem}", code=bad.code)
    problem = "is a bare pickle, not a file of torch.save; it was not loaded"
    return impostor(source, name, "raw_pickle", problem, "save the adapter again with model.save_pretrained")
