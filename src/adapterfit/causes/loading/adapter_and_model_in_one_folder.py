"""An adapter and a model lie in one folder.

What this means: `PeftModel.from_pretrained` takes the adapter. `AutoModel.from_pretrained` uses the model in the folder as
the base, not the one the adapter names; some trainers and servers refuse the folder.

Why it happens: the merged model was saved over the adapter, or the base's config.json was copied beside it.

Detection: config.json and adapter_config.json stand side by side; the finding says whether model weights do too.

Fix: move the adapter's files into a folder of their own.

Workaround: load with `PeftModel.from_pretrained(base, folder)`.

Prevention: save merged models into a new folder.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """An adapter alone is silent."""
    files = make.as_files(make.lora("llama"))
    model = {"config.json": b"{}", "model.safetensors": files[make.WEIGHTS]}
    return {
        "silent": [make.folder(files)],
        "fires": [make.folder({**files, **model}), make.folder({**files, "config.json": b"{}"})],
    }


CAUSE = Cause(
    severity="warning",
    messages=("Your repo has a LoRA adapter and a base model.",),
    codes=("adapter-and-model-in-one-folder",),
    minutes=2,
)
