"""A file of the adapter has another name than the one PEFT looks for.

What this means: PEFT knows exactly three names: adapter_config.json, adapter_model.safetensors and adapter_model.bin.
A browser's "adapter_model (5).bin", a doubled ending, shards or the parts of a split file are not seen.

Why it happens: the file was downloaded twice, split for an upload, or saved by another program.

Detection: names that resemble the three, in the place of one of them.

Fix: rename the file, or join the parts: `cat adapter_model.safetensors.part* > adapter_model.safetensors`.

Workaround: none.

Prevention: download whole folders with `hf download`.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """Files that belong to no adapter are silent."""
    files = make.as_files(make.lora("llama"))
    config, weights = files[make.CONFIG], files[make.WEIGHTS]
    bad = [
        {"adapter_config (5).json": config, "adapter_model (5).safetensors": weights},
        {"adapter_config.json.json": config, make.WEIGHTS: weights},
        {make.CONFIG: config, "adapter_model.safetensors.partaa": weights, "adapter_model.safetensors.partab": b""},
        {make.CONFIG: config, "adapter_model-00001-of-00002.safetensors": weights},
    ]
    return {"silent": [make.folder({**files, "README.md": b""})], "fires": [make.folder(each) for each in bad]}


CAUSE = Cause(
    messages=("ValueError: Can't find 'adapter_config.json' at 'my-adapter'",),
    codes=("wrong-file-in-folder",),
    minutes=1,
)
