"""The folder has a config but no weights.

What this means: PEFT injects empty adapter layers, then looks for adapter_model.safetensors and adapter_model.bin. With
neither there it takes the folder for a Hub id and fails with a message about repository names.

Why it happens: the weights were too large for the upload or are kept in Git LFS that was not pulled; the save was
interrupted; or only the config was copied.

Detection: the names of the files in the folder.

Fix: fetch the weights from where the adapter came from.

Workaround: none: the config alone holds nothing that was learned.

Prevention: copy the whole folder.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """A whole adapter is silent."""
    files = make.as_files(make.lora("llama"))
    config = {make.CONFIG: files[make.CONFIG]}
    fires = [make.folder(config), make.folder({**config, "model.safetensors": files[make.WEIGHTS]})]
    return {"silent": [make.folder(files)], "fires": fires}


CAUSE = Cause(
    messages=(
        "HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': './my-adapter'.",
        "ValueError: Can't find weights for my-adapter in my-adapter or in the Hugging Face Hub.",
    ),
    codes=("weights-file-missing",),
)
