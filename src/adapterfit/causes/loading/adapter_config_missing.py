"""There is no adapter_config.json where PEFT looks for one.

What this means: PEFT needs the config to know the method, the rank and the modules. It looks into the given folder,
then takes the folder for a Hub id, and hides every reason behind one line: "Can't find 'adapter_config.json'".

Why it happens: only the weights were copied; the folder is a checkpoint written by a trainer without PEFT; an adapter
was merged and the whole model saved; or it is another program's adapter.

Detection: the names of the files in the folder.

Fix: copy the config from where the adapter came from. For a trainer's checkpoint: build the model with the LoraConfig of
the training, load the checkpoint's state dict into it, then `save_pretrained`. A merged model is loaded without PEFT.

Workaround: write the config by hand from the tensor names and shapes; `lora_alpha` must be known.

Prevention: save with `model.save_pretrained(folder)` of the PeftModel, and copy the whole folder.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """A whole adapter is silent."""
    files = make.as_files(make.lora("llama"))
    weights = files[make.WEIGHTS]
    bad: list[dict[str, bytes]] = [
        {},
        {make.WEIGHTS: weights},
        {"config.json": b"{}", "model.safetensors": weights},
        {"pytorch_model.bin": b"", "trainer_state.json": b"{}", "global_step7/mp_rank_00_model_states.pt": b""},
    ]
    return {"silent": [make.folder(files)], "fires": [make.folder(each) for each in bad]}


CAUSE = Cause(
    messages=(
        "ValueError: Can't find 'adapter_config.json' at 'my-adapter'",
        "ValueError: Can't find config.json at 'my-adapter'",
    ),
    codes=("adapter-config-missing", "merged-model-folder", "trainer-checkpoint"),
    minutes=10,
)
