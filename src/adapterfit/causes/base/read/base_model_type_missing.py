"""The base's config.json does not say which architecture it is.

What this means: there is no `config.json`, or no `model_type` in it, so neither `AutoModel` nor adapterfit can tell which modules
the base has. What fits and what does not is then told from the names in its weights, if at all.

Why it happens: the file is from another tool (an inference engine, a converter, a training script of its own), or was
written by hand.

Detection: a folder with weights has no `config.json`, or its `model_type` is absent or no text, and it is not a diffusers config (which has `_class_name`).

Fix: add the `model_type` of the original model to `config.json`, such as `"model_type": "llama"`.

Workaround: load the base by its class, such as `LlamaForCausalLM.from_pretrained(...)`.

Prevention: save models with `save_pretrained`, which writes the field.

Setup:
    config = json.loads(Path("base/config.json").read_text())
    del config["model_type"]
    Path("base/config.json").write_text(json.dumps(config))  # written by another tool

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises ValueError: Unrecognized model in base. Should have a `model_type` key in its config.json.

Fixed:
    change_config("base", model_type="llama")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    severity="note",
    level="intermediate",
    messages=("ValueError: Unrecognized model in …. Should have a `model_type` key in its config.json.",),
    codes=("base-model-type-missing", "base-config-missing"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A diffusers model has no `model_type` and needs none."""
    return {
        "silent": [make.lora(), make.base_folder({"config.json": b'{"_class_name": "UNet2DConditionModel"}'})],
        "fires": [
            *(make.base_folder({"config.json": text}) for text in (b"{}", b'{"model_type": 5}')),
            make.base_folder({"model.safetensors": make.safetensors({"a": ("F32", (1,))}), "README.md": b""}),
        ],
    }
