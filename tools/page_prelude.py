"""What the code on every page starts from: run in an empty folder, it makes a tiny base and an adapter for it.

`base` is a folder with a two-layer Llama of random weights, `adapter` one with a LoRA for it, saved by the real PEFT. Its
trained numbers are noise: what matters is whether they arrive. `trained` are the logits the model had when its adapter was
saved, `untrained` those of the base alone. A page's setup changes these files as users' files get changed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import peft
import safetensors
import torch
import transformers
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import adapterfit

#: The file with an adapter's tensors, and the one that says what they are.
WEIGHTS, CONFIG = "adapter/adapter_model.safetensors", "adapter/adapter_config.json"
TOKENS = torch.tensor([[1, 10, 20, 30, 40, 50]])
#: The options of the adapter in `adapter`.
OPTIONS: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def llama(**changes: Any) -> LlamaConfig:
    """The config of a base small enough for a page."""
    sizes = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 64, "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2,
    }  # fmt: skip
    return LlamaConfig(**{**sizes, **changes})


def noise(model: torch.nn.Module) -> torch.nn.Module:
    """Stands for a training: every trainable number changes."""
    seeded = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=seeded).to(parameter.dtype) * 0.2
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    """What the model answers to six tokens; without a head, its hidden states."""
    with torch.no_grad():
        output = model.eval()(input_ids=TOKENS)
    return output.logits if "logits" in output else output.last_hidden_state


def train(base: torch.nn.Module, config: PeftConfig, folder: str = "adapter") -> torch.Tensor:
    """Wrap, train, and save a new adapter in place of what was in the folder; gives its logits."""
    model = noise(get_peft_model(base, config))
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    return logits(model)


def image_pipe(width: int = 32) -> Any:
    """A tiny pipeline of diffusers, of the kind of Stable Diffusion; `width` is what its cross attention reads."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8), layers_per_block=1, sample_size=8, norm_num_groups=2, cross_attention_dim=width,
        attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    others = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    return StableDiffusionPipeline(unet=unet, scheduler=DDIMScheduler(), requires_safety_checker=False, **others)


def train_images(folder: str, **options: Any) -> torch.Tensor:
    """Train a LoRA for that pipeline, and save it as diffusers does; gives a step of the picture."""
    pipe = image_pipe()
    targets = ["to_q", "to_k", "to_v"]
    pipe.unet.requires_grad_(requires_grad=False)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, **options))
    noise(pipe.unet)
    pipe.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    return picture(pipe)


def picture(pipe: Any) -> torch.Tensor:
    """A step of a picture."""
    unet = pipe.unet.eval()
    with torch.no_grad():
        return unet(torch.ones(1, 4, 8, 8), 1, torch.ones(1, 3, unet.config.cross_attention_dim)).sample


def tokenizer(tokens: int) -> PreTrainedTokenizerFast:
    """A tokenizer of that many tokens."""
    from tokenizers import Tokenizer, models

    words = {f"w{number}": number for number in range(tokens)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="w0")


def change_config(folder: str = "adapter", **fields: Any) -> None:
    """Edit adapter_config.json (or config.json, where the folder has that alone)."""
    path = Path(folder, "adapter_config.json" if Path(folder, "adapter_config.json").exists() else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_names(change: Any, folder: str = "adapter") -> None:
    """Save the adapter's tensors under other names; a tensor whose name becomes empty is left out."""
    path = Path(folder, "adapter_model.safetensors")
    named = {change(name): tensor for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in named.items() if name}, path, {"format": "pt"})


def as_trained(model: torch.nn.Module) -> bool:
    """Whether the model answers as it did when its adapter was saved."""
    return torch.allclose(logits(model), trained, atol=1e-4)


def as_base(model: torch.nn.Module) -> bool:
    """Whether the model answers as if there were no adapter."""
    return torch.allclose(logits(model), untrained, atol=1e-4)


def found(
    adapter: str = "adapter", base: str | None = "base", *, values: bool = False, notes: bool = False
) -> list[str]:
    """The ids of what `adapterfit check` finds; what it only mentions is left out, unless `notes` are asked for."""
    findings = adapterfit.check(adapter, base=base, values=values).findings
    return sorted({one.id for one in findings if notes or one.severity != "note"})


def change_header(change: Any, file: str = WEIGHTS) -> None:
    """Edit the header of a safetensors file; `change` is given it as a dict, and may give back the text to write instead."""
    data = Path(file).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    text = (change(header) or json.dumps(header)).encode()
    Path(file).write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


torch.manual_seed(0)
if not Path("base").exists():
    LlamaForCausalLM(llama()).save_pretrained("base")
    untrained = logits(AutoModelForCausalLM.from_pretrained("base"))
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    torch.save((untrained, trained), "logits.pt")
untrained, trained = torch.load("logits.pt", weights_only=True)
torch.manual_seed(1)
