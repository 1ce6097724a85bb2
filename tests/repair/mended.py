"""Real adapters, broken on purpose, mended, and loaded by the real PEFT beside the unbroken one."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import adapterfit
from adapterfit.testing.bases import CONFIGS

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@cache
def base_folder(family, where):
    """The folder of a tiny base with random weights, and nothing of PEFT in it."""
    import torch
    import transformers

    raw = CONFIGS[family]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = getattr(transformers, raw["architectures"][0])._from_config(transformers.AutoConfig.for_model(**raw))
    model.float().eval().save_pretrained(where)
    return Path(where)


def model(folder):
    """The base, fresh."""
    import transformers

    name = json.loads(Path(folder, "config.json").read_text("utf-8"))["architectures"][0]
    return getattr(transformers, name).from_pretrained(folder).float().eval()


def adapter(folder, base, kind="LoraConfig", **config):
    """An adapter saved by PEFT, every number of it random."""
    import peft
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model(base), getattr(peft, kind)(**(config or LORA)))
        torch.manual_seed(7)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data.copy_(torch.randn(parameter.shape) / 4)
        wrapped.save_pretrained(str(folder))
    return Path(folder)


def trained_on_fewer_rows(base, folder, less, **config):
    """A LoRA on the base cut down to `less` rows fewer, saved with its embeddings; returns its logits there.

    Of modules that are trained whole only the first rows change, as only tokens that occur are trained.
    """
    import peft
    import torch

    def shrunk():
        small = model(base)
        small.resize_token_embeddings(small.get_input_embeddings().num_embeddings - less)
        return small

    torch.manual_seed(3)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(shrunk(), peft.LoraConfig(**{**LORA, **config}))
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                reached = parameter[:9] if "modules_to_save" in name else parameter
                reached.add_(torch.randn_like(reached) / 4)
        wrapped.save_pretrained(str(folder))
        loaded = peft.PeftModel.from_pretrained(shrunk(), str(folder)).eval()
        return loaded(input_ids=torch.arange(12).reshape(1, 12)).logits


def outputs(base, folder):
    """Logits of the base with this adapter, loaded by PEFT; and the warnings."""
    import peft
    import torch

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(model(base), str(folder)).eval()
    missing = [str(one.message) for one in seen if "missing adapter keys" in str(one.message)]
    with torch.no_grad():
        return loaded(input_ids=torch.arange(12).reshape(1, 12)).logits, missing


def tensors(folder):
    """The tensors of an adapter's file, by safetensors."""
    from safetensors.torch import load_file

    return load_file(str(Path(folder, WEIGHTS)))


def broken(whole, folder, change=None, **fields):
    """A copy with its tensors as `change` returns them, and other fields in its config."""
    from safetensors.torch import save_file

    shutil.copytree(whole, folder)
    if change is not None:
        save_file({name: one.contiguous() for name, one in change(tensors(whole)).items()}, str(Path(folder, WEIGHTS)))
    path = Path(folder, CONFIG)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}, indent=2), "utf-8")
    return Path(folder)


def mend(folder, base, out, **options):
    """`adapterfit.fix`, which must write something."""
    receipt = adapterfit.fix(folder, base=str(base), out=out, **options)
    assert receipt.out == str(out), receipt.plan
    return receipt
