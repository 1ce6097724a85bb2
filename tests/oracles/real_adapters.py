"""Adapters that the real PEFT made on tiny bases, for the code of engines to load."""

import json

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def base_of(kind, folder, **more):
    """A tiny model, and its folder with a config."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SHAPE, **more)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    return model


def adapter_of(model, folder, **config):
    """An adapter with random numbers in it, saved by PEFT."""
    plain = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**{**plain, **config}))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    wrapped.save_pretrained(folder)
    return folder


def renamed(folder, change):
    """The same adapter with every tensor under another name."""
    path = folder / "adapter_model.safetensors"
    tensors = {change(name): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    return folder


def edited(folder, *gone, **fields):
    """The same adapter with another config."""
    path = folder / "adapter_config.json"
    raw = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in raw.items() if key not in gone}))
    return folder


def experts_of(folder):
    """A Mixtral and an adapter with `target_parameters`; the base lies in `base`."""
    model = base_of("mixtral", folder / "base", num_local_experts=4, num_experts_per_tok=2)
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    return adapter_of(model, folder / "adapter", target_parameters=parameters)
