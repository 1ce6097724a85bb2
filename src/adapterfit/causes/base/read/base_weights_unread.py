"""The base's weights are in a format, or under a name, that was not read or is not loaded by itself.

What this means: either no weights of the base were read, and what is reported rests on its config alone; or they were
read under a name that transformers takes only when asked for it (`variant="fp16"`).

Why it happens: the folder is a download for another program: GGUF for llama.cpp, `consolidated.00.pth` of Meta's own
download, `tf_model.h5` or `flax_model.msgpack` from before transformers 5; or it holds several weight files that
nothing says belong together; or it is no model's folder at all: one level too high, or a download that failed.

Detection: by the names in the folder, and for GGUF by its first four bytes. Nothing of such a file is parsed.

Fix: name the folder of the original model, with `config.json` and safetensors: the one the adapter was trained on.

Workaround: `--base path/to/config.json` of the same model is enough for a first answer.

Prevention: keep the original beside every converted copy; adapters are trained on the original.

Setup:
    os.rename("base/model.safetensors", "base/model.fp16.safetensors")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    # raises OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory base.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base", variant="fp16")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import json
from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    minutes=5,
    messages=(
        "OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory",
        "FileNotFoundError: No safetensors found in models/base",
        "OSError: Error no file named pytorch_model.bin, model.safetensors, tf_model.h5, model.ckpt.index or flax_model.msgpack found in directory",
    ),
    codes=(
        "gguf-not-supported-yet",
        "base-format-unsupported",
        "base-variant-only",
        "base-weights-unclear",
        "base-empty",
    ),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """Weights under the usual name are silent, whatever lies beside them."""
    config = {"config.json": json.dumps(dict(make.base().config)).encode()}
    weights = make.safetensors({"a": ("F32", (1,))})
    others = (
        {"model-q4.gguf": b"GGUF\3\0\0\0"},
        {"tf_model.h5": b"x"},
        {"model.fp16.safetensors": weights},
        {"x.safetensors": weights, "y.safetensors": weights},
    )
    return {
        "silent": [make.lora(), make.base_folder({**config, "model.safetensors": weights, "tf_model.h5": b"x"})],
        "fires": [make.base_folder({}), *(make.base_folder({**config, **files}) for files in others)],
    }
