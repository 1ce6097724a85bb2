"""A compiled model's state dict is saved, with `_orig_mod.` in every name.

What this means: `torch.compile(model)` keeps the model as `_orig_mod`, so its state dict, and what `get_peft_model_state_dict` picks out of it,
have names that begin with `_orig_mod.`. PEFT finds no place for such names and drops them.

Why it happens: the compiled model answers to every method of the model inside, so nothing tells them apart.

Detection: `torch.save` or safetensors' `save_file` of the state dict of a PeftModel that went through `torch.compile`.
`save_pretrained` is right: it is the inner model's own.

Fix: take the state dict of `model._orig_mod`.

Workaround: `adapterfit check` offers to rename the keys of a file that was saved so.

Prevention: `model.save_pretrained(folder)`; or `model.compile()`, which changes no name.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.values import Constant, Weights

RULE = Rule(cause="wrapper-prefix")


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that write."""
    for call in code.trace.calls(*facts.WRITERS):
        weights = facts.written(call)
        if not isinstance(weights, Weights) or weights.renamed or weights.of is None or weights.of.outer != "compiled":
            continue
        taken = code.trace.call_of(weights.origin)
        if weights.of.wrapped is True and not (taken and taken.value(None, "unwrap_compiled") == Constant(True)):
            message = 'every name in this file will begin with "_orig_mod.", left by torch.compile: PEFT drops them all'
            yield Hit(call, message, _fix(code, weights))


def _fix(code: Code, weights: Weights) -> Fix | None:
    taken = code.trace.call_of(weights.origin)
    if taken is None:
        return None
    given = taken.argument(0, "model")
    func = taken.node.func
    model = given.node.value if given is not None else func.value if isinstance(func, cst.Attribute) else None
    if not isinstance(model, (cst.Name, cst.Attribute)):
        return None
    return Fix("take it of the model inside", (mend.inserted(mend.span(code, model)[1], "._orig_mod"),), UNSAFE)


FIRES = (
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
model = torch.compile(model)
torch.save(get_peft_model_state_dict(model), "adapter.bin")
""",
        """
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
model = torch.compile(model)
torch.save(get_peft_model_state_dict(model._orig_mod), "adapter.bin")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import PeftModel

def export(model: PeftModel):
    quick = torch.compile(model)
    weights = quick.state_dict()
    torch.save(weights, "lora.pt")
""",
        """
import torch
from peft import PeftModel

def export(model: PeftModel):
    quick = torch.compile(model)
    weights = quick._orig_mod.state_dict()
    torch.save(weights, "lora.pt")
""",
        UNSAFE,
        runs=True,
        then='from peft import AutoPeftModelForCausalLM\nexport(AutoPeftModelForCausalLM.from_pretrained("adapter"))\n',
    ),
    Snippet(
        """
import torch
from peft import AutoPeftModelForCausalLM, get_peft_model_state_dict
from safetensors.torch import save_file

model = torch.compile(AutoPeftModelForCausalLM.from_pretrained("adapter"))
save_file(tensors=get_peft_model_state_dict(model=model), filename="adapter.safetensors")
""",
        """
import torch
from peft import AutoPeftModelForCausalLM, get_peft_model_state_dict
from safetensors.torch import save_file

model = torch.compile(AutoPeftModelForCausalLM.from_pretrained("adapter"))
save_file(tensors=get_peft_model_state_dict(model=model._orig_mod), filename="adapter.safetensors")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
fast = torch.compile(model)
torch.save({k: v.cpu() for k, v in fast.state_dict().items() if "lora_" in k}, "tuned.pt")
""",
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
fast = torch.compile(model)
torch.save({k: v.cpu() for k, v in fast._orig_mod.state_dict().items() if "lora_" in k}, "tuned.pt")
""",
        UNSAFE,
        runs=True,
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import PeftModel

def save(model: PeftModel, path):
    fast = torch.compile(model)
    state = {k.replace("_orig_mod.", ""): v for k, v in fast.state_dict().items()}
    torch.save(state, path)
    torch.save({k: v for k, v in fast.state_dict().items() if not k.startswith("_orig_mod.")}, path)  # who wrote it knows
"""
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = torch.compile(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4)))
model.save_pretrained("adapter")  # the inner model's own
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel, get_peft_model_state_dict

def export(model: PeftModel):
    quick = torch.compile(model)
    weights = {name.replace("_orig_mod.", ""): tensor for name, tensor in get_peft_model_state_dict(quick).items()}
    torch.save(weights, "adapter.bin")
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel, get_peft_model_state_dict

def export(model: PeftModel):
    quick = torch.compile(model)
    torch.save(get_peft_model_state_dict(quick, unwrap_compiled=True), "adapter.bin")
"""
    ),
    Snippet(
        """
import torch
from transformers import AutoModelForCausalLM

adapter_net = torch.compile(AutoModelForCausalLM.from_pretrained("base"))
torch.save(adapter_net.state_dict(), "whole.pt")  # no PEFT in it
"""
    ),
)
