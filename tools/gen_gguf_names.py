"""Generate src/adapterfit/conversion/gguf_names.json: what llama.cpp calls the modules of some model types.

Names come from gguf's own map (`pip install gguf`), modules from transformers built on empty tensors. The architecture's name and
whether the rows of q and k are reordered are from llama.cpp's converters (`conversion/*.py`); tests/oracles/test_gguf.py compares
every entry with what `convert_lora_to_gguf.py` makes of a real adapter, where LLAMA_CPP names a copy of llama.cpp.
"""

import json
import re
from pathlib import Path

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM

TARGET = Path(__file__).resolve().parents[1] / "src/adapterfit/conversion/gguf_names.json"
#: model_type → architecture in gguf, whether its converter reorders the rows of q and k for rotary embeddings.
TYPES = {
    "arcee": ("arcee", True),
    "cohere": ("command-r", False),
    "cohere2": ("cohere2", False),
    "ernie4_5": ("ernie4_5", False),
    "exaone4": ("exaone4", False),
    "gemma": ("gemma", False),
    "gemma2": ("gemma2", False),
    "gemma3_text": ("gemma3", False),
    "glm4": ("glm4", False),
    "granite": ("granite", True),
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "nemotron": ("nemotron", False),
    "olmo": ("olmo", True),
    "olmo2": ("olmo2", False),
    "phi": ("phi2", False),
    "phi3": ("phi3", False),
    "qwen2": ("qwen2", False),
    "qwen2_moe": ("qwen2moe", False),
    "qwen3": ("qwen3", False),
    "qwen3_moe": ("qwen3moe", False),
    "smollm3": ("smollm3", True),
    "stablelm": ("stablelm", False),
    "starcoder2": ("starcoder2", False),
}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "pad_token_id": 0,
}


def names(model_type: str, arch: str) -> dict[str, str]:
    """Module with `#` for the layer → gguf's name with `#` likewise."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SMALL))
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    table = gguf.get_tensor_name_map(number, SMALL["num_hidden_layers"])
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            theirs = table.get_name(name)
            if theirs is not None:
                found[re.sub(r"\.\d+\.", ".#.", name)] = re.sub(r"\.\d+\.", ".#.", theirs)
    return dict(sorted(found.items()))


def main() -> None:
    """Write the table."""
    table = {}
    for model_type, (arch, reordered) in sorted(TYPES.items()):
        table[model_type] = {"arch": arch, "reordered": reordered, "modules": names(model_type, arch)}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry, sort_keys=True)}" for key, entry in table.items())
    TARGET.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
