"""What was given as the base is an adapter, or holds one beside the model.

What this means: the folder has an `adapter_config.json`. Without a `config.json` it is no base at all. With one,
`from_pretrained` of transformers loads that adapter too, without being asked; the second adapter then sits on top of it.

Why it happens: the two folders were given in the wrong order; or the output folder of a training run, which holds the
adapter and a copy of the base's config, was taken for the base; or an adapter was saved into the folder of its base.

Detection: `adapter_config.json` in the folder given as the base.

Fix: name the model that the adapter was trained on: `base_model_name_or_path` in its `adapter_config.json` says which.
If the folder is a real model, move the adapter's two files into a folder of their own.

Workaround: none needed.

Prevention: keep adapters out of the folders of models.

Setup:
    shutil.copytree("adapter", "run")  # the output of an earlier training
    base = AutoModelForCausalLM.from_pretrained("base")
    trained = train(base, LoraConfig(r=4, target_modules=["o_proj"]))  # the adapter that is wanted

Broken:
    "base-is-adapter" in found("adapter", "run")  # -> True
    base = AutoModelForCausalLM.from_pretrained("run")  # loads the base of that adapter and, unasked, the adapter itself
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Already found a `peft_config` attribute in the model.
    # warns: Found missing adapter keys while loading the checkpoint
    as_trained(model)  # -> False

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import json
from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("UserWarning: Already found a `peft_config` attribute in the model.",),
    minutes=2,
    codes=("base-is-adapter", "base-holds-adapter"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A base without an adapter_config.json is silent."""
    config = {"config.json": json.dumps(dict(make.base().config)).encode()}
    adapter = {"adapter_config.json": make.config_json(), "adapter_model.safetensors": make.safetensors({})}
    return {
        "silent": [make.lora(), make.base_folder(config)],
        "fires": [make.base_folder(adapter), make.base_folder({**config, **adapter})],
    }
