"""The whole state dict of a PeftModel is saved, instead of its adapter.

What this means: `model.state_dict()` of a PeftModel holds the whole base as well, under PEFT's names, and the adapter under names that
carry its name in the model (`lora_A.default.weight`). Such a file is as large as the base, lies beside no `adapter_config.json`,
most loaders find nothing in it, and PEFT overwrites the base with what it holds.

Why it happens: `torch.save(model.state_dict(), path)` is how any other model is saved.

Detection: `torch.save` or safetensors' `save_file` of `state_dict()` of a PeftModel. Silent where the file itself loads a state dict
into a PeftModel again, and where the dict is worked over or is part of a larger checkpoint.

Fix: `model.save_pretrained(folder)`; it writes the adapter alone, with its config.

Workaround: `torch.save(get_peft_model_state_dict(model), path)` where it has to be one file; keep the config too.

Prevention: `adapterfit.save(model, folder)`, which reads back what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend, texts
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Model, Weights

RULE = Rule(severity="warning", cause="extra-weights-not-in-adapter")


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that write."""
    if any(_is_peft(call.receiver) for call in code.trace.calls("model.load_state_dict")):
        return
    for call in code.trace.calls(*facts.WRITERS):
        weights = facts.written(call)
        if not isinstance(weights, Weights) or weights.only_adapter or weights.changed or not _is_peft(weights.of):
            continue
        if weights.of is not None and not weights.of.outer:
            message = "this writes the whole base with the adapter inside, under names that fit neither; save_pretrained writes the adapter"
            yield Hit(call, message, _fix(code, call, weights))


def _is_peft(model: object) -> bool:
    return isinstance(model, Model) and model.wrapped is True


def _fix(code: Code, call: Call, weights: Weights) -> Fix | None:
    """Only where the file is called as PEFT calls it: then its folder is where the adapter was meant to be."""
    path = call.argument(1, "filename" if call.name == "safetensors.save_file" else "f")
    taken = weights.origin.func if weights.origin is not None else None
    inline = call.argument(0, "obj")
    if path is None or not texts.is_adapter_file(path.value) or not isinstance(taken, cst.Attribute):
        return None
    folder = facts.folder_of(code, path)
    if not folder or inline is None or inline.node.value is not weights.origin or not call.dropped:
        return None
    new = f"{mend.text(code, taken.value)}.save_pretrained({folder})"
    return Fix("save the adapter", (mend.replaced(code, call.node, new),), UNSAFE)


FIRES = (
    Snippet(
        """
import os
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

out = "out"
os.makedirs(out, exist_ok=True)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
torch.save(model.state_dict(), os.path.join(out, "adapter_model.bin"))  # done
""",
        """
import os
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

out = "out"
os.makedirs(out, exist_ok=True)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
model.save_pretrained(out)  # done
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from safetensors.torch import save_file

def export(net: PeftModel, folder):
    save_file(net.state_dict(), f"{folder}/adapter_model.safetensors")
""",
        """
from peft import PeftModel
from safetensors.torch import save_file

def export(net: PeftModel, folder):
    net.save_pretrained(folder)
""",
        UNSAFE,
        runs=True,
        then='from peft import AutoPeftModelForCausalLM\nexport(AutoPeftModelForCausalLM.from_pretrained("adapter"), "out")\n',
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
weights = model.state_dict()
torch.save(weights, "lora.pt")
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel

def finish(model, path):
    if isinstance(model, PeftModel):
        torch.save(model.state_dict(), path)
"""
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
torch.save(get_peft_model_state_dict(model), "adapter.pt")
"""
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
torch.save(model.state_dict(), "checkpoint.pt")
model.load_state_dict(torch.load("checkpoint.pt", weights_only=True))  # its own way of resuming
"""
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
trained = {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}
torch.save(trained, "lora.pt")
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model = model.merge_and_unload()
torch.save(model.state_dict(), "merged.pt")
"""
    ),
    Snippet(
        """
import torch
from torch import nn

peft_model = nn.Linear(2, 2)
torch.save(peft_model.state_dict(), "adapter_model.bin")
"""
    ),
)
