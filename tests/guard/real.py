"""Real models and real PEFT, tiny: a base, an adapter trained by a stroke of the pen, and its files to be broken."""

from __future__ import annotations

import copy
import json
import os
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from adapterfit.testing.bases import CONFIGS

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@cache
def _built(family, seed, changes):
    import torch
    import transformers

    raw = {**CONFIGS[family], **json.loads(changes)}
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    made = transformers.AutoConfig.for_model(**raw)
    return getattr(transformers, raw["architectures"][0])._from_config(made).float().eval()


def base(family="llama", seed=0, **changes):
    """A fresh copy of a tiny base with random weights."""
    return copy.deepcopy(_built(family, seed, json.dumps(changes)))


@contextmanager
def quiet():
    """Without PEFT's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trained(model, kind="LoraConfig", **config):
    """The model with an adapter whose every number is random, as after a training."""
    import peft
    import torch

    with quiet():
        wrapped = peft.get_peft_model(model, getattr(peft, kind)(**config))
    torch.manual_seed(7)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(torch.randn(parameter.shape) / 4)
    return wrapped.eval()


def saved(folder, model=None, kind="LoraConfig", **config):
    """The folder of an adapter saved by PEFT."""
    wrapped = trained(model if model is not None else base(), kind, **(config or LORA))
    with quiet():
        wrapped.save_pretrained(str(folder))
    return Path(folder)


def plain_load(model, folder, **kwargs):
    """`PeftModel.from_pretrained`, unguarded."""
    import peft

    with quiet():
        return peft.PeftModel.from_pretrained(model, str(folder), **kwargs)


def tensors(folder):
    """The tensors of the adapter's file."""
    from safetensors.torch import load_file

    return load_file(str(Path(folder, WEIGHTS)))


def rewrite(folder, change):
    """The adapter's file with its tensors replaced by `change(tensors)`."""
    from safetensors.torch import save_file

    save_file(
        {name: tensor.contiguous() for name, tensor in change(tensors(folder)).items()}, str(Path(folder, WEIGHTS))
    )


def rename(folder, change):
    """Every tensor under another name."""
    rewrite(folder, lambda held: {change(name): tensor for name, tensor in held.items()})


def reconfigure(folder, **fields):
    """Other values in adapter_config.json."""
    path = Path(folder, CONFIG)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")


def outputs(model):
    """Logits for fixed tokens."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(12).reshape(1, 12)).logits
