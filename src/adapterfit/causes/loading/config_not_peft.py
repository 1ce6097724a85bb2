"""adapter_config.json was not written for PEFT.

What this means: the file has no `peft_type`. mlx-lm and AdapterHub call their configs by the same name; others copy a
model's config.json to it. PEFT stops at once.

Why it happens: the adapter was trained with another library, or the wrong file was renamed.

Detection: the fields of the file tell whose it is.

Fix: load the adapter with the library it belongs to, or convert weights and config.

Workaround: where only the one field is missing, add `"peft_type": "LORA"`.

Prevention: keep adapters of different libraries in folders whose names say which.
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """PEFT's own config is silent."""
    files = make.as_files(make.lora("llama"))
    bad = [
        b'{"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8}}',
        b'{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
        b'{"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}',
        b"{}",
    ]
    return {"silent": [make.folder(files)], "fires": [make.folder({**files, make.CONFIG: each}) for each in bad]}


CAUSE = Cause(
    messages=(
        "KeyError: 'peft_type'",
        "TypeError: The PeftConfig config that is trying to be loaded is missing required keys: {'peft_type'}.",
        "TypeError: PeftConfig.__init__() got an unexpected keyword argument '_name_or_path'",
    ),
    codes=("config-not-peft",),
)
