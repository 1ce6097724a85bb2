"""Rule: something to know about the engine, whatever the adapter.

`answer`: `note` (the default), `flags` (it must be told something to be right) or `unknown` (it keeps the answer open).
It may be restricted to adapters with a `feature`, to bases of some `types`, to adapters of modules with some `leaves`, or
to adapters in another layout than PEFT's (`foreign`), or to bases with more than a language model (`multimodal`).
`{scale}` in the note is what PEFT applies; `several` is said instead where its modules have several scales.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.answers import Effect, Sight
from adapterfit.consumers.rules._effects import effect, scales

FIELDS = {
    "feature": str, "answer": str, "types": list, "leaves": list, "foreign": bool, "multimodal": bool, "several": str,
}  # fmt: skip


def effects(value: Mapping[str, Any], sight: Sight) -> Iterator[Effect]:
    """The note, as it stands in the claim."""
    if _concerns(value, sight):
        found = scales(sight)
        said = {**value, "note": value["several"]} if len(found) > 1 and "several" in value else value
        yield effect(value.get("answer", "note"), said, "", scale=found[0] if found else "its scale")


def _concerns(value: Mapping[str, Any], sight: Sight) -> bool:
    return (
        value.get("feature", "") in ("", *sight.features)
        and sight.model_type in value.get("types", (sight.model_type,))
        and ("leaves" not in value or any(pair.leaf in value["leaves"] for pair in sight.pairs))
        and not (value.get("multimodal") and not {"vision_config", "audio_config"} & set(sight.base_config))
        and not (value.get("foreign") and sight.dialect in ("peft", "transformers"))
    )
