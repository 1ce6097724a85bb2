r"""The base's shard index names a file outside the base's folder.

What this means: `model.safetensors.index.json` says which shard holds which tensor. One of its shard names is no
plain file name: it leads into another folder (`../x.safetensors`, `/abs/x.safetensors`, `C:\x`), holds a control
character, or does not end as a shard does. adapterfit did not open it.

Why it happens: transformers, diffusers and accelerate join such a name to the folder as it stands and load what lies
there, without a word. So a model from a stranger can pull in other weights than its own, and on Windows a name like
`\\host\share` sends your login to that host. Rarely it is innocent: a hand-made index for shards kept in a sub-folder.

Detection: every value of `weight_map` must be one path component, under POSIX and Windows rules alike, that ends in
`.safetensors` (or `.bin` for `pytorch_model.bin.index.json`).

Fix: if the model is a stranger's, do not load it, and report it to whoever published it. If it is your own, move the
shards beside the index and write plain names into `weight_map`.

Workaround: none; a name that leads elsewhere is never followed here.

Prevention: download models by `hf download`, and save your own with `save_pretrained`, which writes plain names.

Setup:
    LlamaForCausalLM(llama()).save_pretrained("elsewhere")  # other weights, outside the base's folder
    names = load_file("base/model.safetensors")
    os.rename("base/model.safetensors", "own.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../elsewhere/model.safetensors")}
    Path("base/model.safetensors.index.json").write_text(json.dumps(index))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")  # loads the file outside, and says nothing
    as_base(base)  # -> False
    found()  # -> ['shard-path-escapes']

Fixed:
    os.remove("base/model.safetensors.index.json")
    shutil.move("own.safetensors", "base/model.safetensors")  # beside the index, or without one
    base = AutoModelForCausalLM.from_pretrained("base")
    as_base(base)  # -> True
    found()  # -> []
"""

from __future__ import annotations

import json
from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("(none: the load reports nothing)",), level="advanced", minutes=15, codes=("shard-path-escapes",)
)


def examples(make: Any) -> dict[str, list[Any]]:
    """Names that are one component are silent, however odd; all others fire."""
    config = json.dumps(dict(make.base().config)).encode()

    def on(shard: str) -> Any:
        index = {"metadata": {}, "weight_map": {"a": shard}}
        return make.base_folder({"config.json": config, "model.safetensors.index.json": json.dumps(index).encode()})

    evil = ("../../x.safetensors", "/abs/x.safetensors", "a/../b.safetensors", "C:\\x.safetensors", "x\0.safetensors")
    return {
        "silent": [make.lora(), on("model-00001-of-00001.safetensors"), on("a b…c.safetensors")],
        "fires": [on(shard) for shard in evil],
    }
