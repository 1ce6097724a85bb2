"""The adapter lies in a folder below the one that was given.

What this means: PEFT looks into the given folder only. An adapter that is not called "default" is saved into a folder
of its own name, and a Trainer saves into `checkpoint-N`.

Why it happens: `get_peft_model(model, config, adapter_name="x")` was used for the training, or the output folder of a
training was given instead of a checkpoint.

Detection: a sub-folder holds adapter_config.json, the folder itself does not; or config and weights lie apart.

Fix: give the sub-folder.

Workaround: `PeftModel.from_pretrained(base, folder, subfolder="x")`.

Prevention: leave the adapter's name at "default" where one adapter is enough.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """Checkpoints below a whole adapter are silent."""
    files = make.as_files(make.lora("llama"))
    below = {f"english/{name}": data for name, data in files.items()}
    steps = {f"checkpoint-{step}/{name}": data for name, data in files.items() for step in (20, 100)}
    both = make.folder({**files, **steps})
    return {"silent": [make.folder(files), both], "fires": [make.folder(below), make.folder(steps)]}


CAUSE = Cause(
    messages=(
        "ValueError: Can't find 'adapter_config.json' at 'my-adapter'",
        "ValueError: Can't find a valid checkpoint at checkpoint-300",
    ),
    codes=("adapter-in-subfolder",),
    minutes=1,
)
