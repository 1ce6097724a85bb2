"""An adapter's weights are loaded with `load_state_dict`, under names that a PeftModel does not use.

What this means: in the file a tensor is called `….lora_A.weight`, in the model `….lora_A.default.weight`: the adapter's name is
put in while loading. `load_state_dict` does not do that, so it raises, or with `strict=False` loads nothing and says nothing.

Why it happens: the file's names look like the model's, and `strict=False` is the usual advice for partial checkpoints.

Detection: `load_state_dict` on a PeftModel with weights from an adapter's file (called `adapter_model.*`, or beside an
`adapter_config.json`), or from `get_peft_model_state_dict`.

Fix: `set_peft_model_state_dict(model, weights)`, which puts the adapter's name in and gives back the same kind of result.

Workaround: `model.load_adapter(folder, adapter_name="default")`, or `PeftModel.from_pretrained` from the start.

Prevention: look at `unexpected_keys` of what loading gives back.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import SAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Model, Text

RULE = Rule(cause="adapter-name-in-keys")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `load_state_dict` of a PeftModel."""
    for call in code.trace.calls("model.load_state_dict"):
        model = call.receiver
        if not isinstance(model, Model) or model.wrapped is not True:
            continue
        if facts.adapter_weights(code, call.value(0, "state_dict")) is not None:
            message = (
                "names in an adapter's file lack the adapter's name that a PeftModel's have (lora_A.weight, lora_A.default.weight): "
                "nothing is loaded; set_peft_model_state_dict puts it in"
            )
            yield Hit(call, message, _fix(code, call, model))


def _fix(code: Code, call: Call, model: Model) -> Fix | None:
    receiver, given = call.node.func, call.argument(0, "state_dict")
    extra = set(call.keywords) - {"state_dict", "strict"}
    named = model.adapter.exact if isinstance(model.adapter, Text) else None
    found = mend.name_of(code, "peft.set_peft_model_state_dict")
    if (
        not isinstance(receiver, cst.Attribute)
        or given is None
        or extra
        or model.outer
        or not call.whole
        or found is None
    ):
        return None
    if named is None:
        return None
    name, imports = found
    more = "" if named == "default" else f", adapter_name={facts.quoted(receiver, named)}"
    new = f"{name}({mend.text(code, receiver.value)}, {mend.text(code, given.node.value)}{more})"
    return Fix("load it with set_peft_model_state_dict", (*imports, mend.replaced(code, call.node, new)), SAFE)


FIRES = (
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
model.load_state_dict(load_file("adapter/adapter_model.safetensors"), strict=False)
""",
        """
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
set_peft_model_state_dict(model, load_file("adapter/adapter_model.safetensors"))
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import peft, torch
from transformers import AutoModelForCausalLM

config = peft.LoraConfig(r=4, target_modules=["q_proj"])
policy = peft.get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config, adapter_name="policy")
weights = torch.load(
    "adapter/adapter_model.bin",
    map_location="cpu",
    weights_only=True,
)
result = policy.load_state_dict(
    weights,  # from the last run
    strict=False,
)
print(result.unexpected_keys)
""",
        """
import peft, torch
from transformers import AutoModelForCausalLM

config = peft.LoraConfig(r=4, target_modules=["q_proj"])
policy = peft.get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config, adapter_name="policy")
weights = torch.load(
    "adapter/adapter_model.bin",
    map_location="cpu",
    weights_only=True,
)
result = peft.set_peft_model_state_dict(policy, weights, adapter_name="policy")
print(result.unexpected_keys)
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel, get_peft_model_state_dict

def copy(model: PeftModel, other: PeftModel):
    model.load_state_dict(get_peft_model_state_dict(other), strict=False)
"""
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
model.load_state_dict(torch.load("adapter_checkpoint.pt"))  # saved from model.state_dict()
"""
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
weights = torch.load("adapter_model.bin", weights_only=True)
weights = {name.replace(".weight", ".default.weight"): tensor for name, tensor in weights.items()}
model.load_state_dict(weights, strict=False)
""",
        also=("load-result-unread",),
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
result = set_peft_model_state_dict(model, torch.load("adapter_model.bin", weights_only=True))
"""
    ),
    Snippet(
        """
import torch

def restore(peft_model, path="adapter_model.bin"):
    peft_model.load_state_dict(torch.load(path, weights_only=True))  # whatever peft_model is
"""
    ),
)
