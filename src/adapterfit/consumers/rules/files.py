"""Rule: the files and config fields an engine must find.

`weights`: endings of the weights file it reads. `keys`: fields of adapter_config.json it cannot do without; `{missing}`
in the line stands for those that are not there. `largest`: bytes of the weights file. `answer` is `refused` unless given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import ANSWERS, effect

FIELDS = {"weights": list, "keys": list, "largest": int, "answer": str}


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """Refused where one is missing."""
    kind = ANSWERS[value.get("answer", "refused")]
    endings = tuple(value.get("weights", ()))
    if endings and sight.weights_file and not sight.weights_file.endswith(endings):
        yield effect(kind, value, f"reads {', '.join(endings)} only", page="weights-refused-by-engine")
    missing = [key for key in value.get("keys", ()) if key not in sight.raw]
    if missing:
        yield effect(
            kind,
            value,
            f"needs {', '.join(missing)} in adapter_config.json",
            missing=repr(set(missing)),
            first=repr(missing[0]),
        )
    if sight.weights_size > value.get("largest", sight.weights_size):
        yield effect(kind, value, f"takes files of at most {value['largest']:,} bytes")
