"""Part of the base's weights is not there.

What this means: the shard index of the base names shards that are not in its folder. transformers cannot load such a
base. Where no shard is there at all, only names are known, no shapes; what is reported then rests on the config alone.

Why it happens: a download that was interrupted, or made with a filter (`--include "*.json"`); a full disk; a Hub cache
of which files were removed by hand; a clone without `git lfs pull`.

Detection: every shard that `weight_map` names must be a regular file beside the index.

Fix: download the base again, into the same place: `hf download OWNER/NAME` fetches only what is missing.

Workaround: for a first answer the config alone is enough: `adapterfit check ADAPTER --base BASE/config.json`.

Prevention: let `hf download` finish before you train or check; it says so with the path on its last line.

Setup:
    whole = AutoModelForCausalLM.from_pretrained("base")
    shutil.rmtree("base")
    whole.save_pretrained("base", max_shard_size="20KB")
    lost = sorted(Path("base").glob("model-*.safetensors"))[1]
    lost.rename("lost.safetensors")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises FileNotFoundError: No such file or directory: ... model-00002-of-

Fixed:
    shutil.move("lost.safetensors", lost)  # hf download OWNER/NAME fetches only what is missing
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=("FileNotFoundError: No such file or directory: …/model-00002-of-00004.safetensors",),
    codes=("base-shard-missing", "base-weights-not-there"),
)

#: A shard of a base, by the names that transformers gives them.
_SHARD = re.compile(r"(?:model|pytorch_model|consolidated)[-.]\d{1,5}(?:-of-\d{1,5})?\.(?:safetensors|bin|pth)")
_ABSENT = ("no such file", "does not exist", "not found", "cannot find", "can't find", "does not appear to have")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a shard of the base is looked for and is not there."""
    for error in symptoms.errors:
        shard = _SHARD.search(error.message)
        if shard is not None and any(word in error.message.lower() for word in _ABSENT):
            yield suspect(
                symptoms, f"{quote(shard[0])}, a part of the base, is not in its folder", 0.85, [error.line],
                fix="hf download OWNER/NAME --local-dir BASE: it fetches only what is missing",
                apart="ls of the base's folder beside weight_map of its index",
            )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A shard; an adapter's file."""
    line = "FileNotFoundError: No such file or directory: /models/base/{}"
    return {
        "fires": [line.format("model-00002-of-00004.safetensors"), line.format("pytorch_model-00001-of-00002.bin")],
        "silent": [line.format("adapter_model.safetensors")],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """A base known by its config alone is complete in its way."""
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"metadata": {}, "weight_map": {"a": first, "b": second}}
    files = {
        "config.json": json.dumps(dict(make.base().config)).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        first: make.safetensors({"a": ("F32", (1,))}),
        second: make.safetensors({"b": ("F32", (1,))}),
    }

    def without(*names: str) -> Any:
        return make.base_folder({name: data for name, data in files.items() if name not in names})

    return {
        "silent": [make.lora(), without(), without("model.safetensors.index.json")],
        "fires": [without(second), without(first, second)],
    }
