"""An adapter's weights are loaded into the base model, which has no place for them.

What this means: an adapter's file holds tensors such as `base_model.model.….lora_A.weight`. A base model has no parameter of
that name, so `load_state_dict` raises, and with `strict=False` it loads nothing at all and says nothing: the model answers as if
it had never been trained.

Why it happens: `load_state_dict` is how every other checkpoint is loaded, and `strict=False` makes the error go away.

Detection: `load_state_dict` (or safetensors' `load_model`) on a model that comes from `transformers`, with weights that were read
from an adapter's file: one called `adapter_model.*`, or one beside an `adapter_config.json`.

Fix: `PeftModel.from_pretrained(model, folder)`, which builds the places from `adapter_config.json` and fills them.

Workaround: where the config is lost, wrap the model with `get_peft_model` and the config it was trained with, then
`set_peft_model_state_dict(model, weights)`.

Prevention: load adapters through PEFT only; `adapterfit.load` proves afterwards that every tensor arrived.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Argument, Call
from adapterfit.lint.values import Model, Value

RULE = Rule(cause="loader-drops-keys-silently")
#: Calls after which a base model does have places for an adapter.
_INJECTED = ("model.add_adapter", "model.load_adapter")

_TAKEN_OUT = ("model.merge_and_unload", "model.unload")
#: Libraries whose functions leave a model's layers as they are; `local` are functions of the file, which are looked into.
_HARMLESS = frozenset(
    {"torch", "transformers", "accelerate", "safetensors", "deepspeed", "builtins", "local", "model", "peft"}
)


def check(code: Code) -> Iterator[Hit]:
    """Hits at `load_state_dict` of a base, and at safetensors' `load_model`."""
    for call in code.trace.calls("model.load_state_dict"):
        weights = facts.adapter_weights(code, call.value(0, "state_dict"))
        if weights is not None and _is_bare(code, call, call.receiver):
            yield _hit(code, call, facts.source_argument(code, weights), call.node.func)
    for call in code.trace.calls("safetensors.load_model"):
        if facts.is_adapter(code, call.value(1, "filename")) and _is_bare(code, call, call.value(0, "model")):
            yield _hit(code, call, call.argument(1, "filename"), call.node.args[0].value)


def _is_bare(code: Code, call: Call, model: Value) -> bool:
    if not isinstance(model, Model) or model.wrapped is not False:
        return False
    injected = False
    for other in code.trace.calls("*"):
        if other.at >= call.at:
            break
        given = [argument.value for argument in (*other.positional, *other.keywords.values())]
        handed_on = _may_inject(other.name) and any(facts.same(value, model) for value in given)
        if handed_on or (other.name in _INJECTED and facts.same(other.receiver, model)):
            injected = True
        elif other.name in _TAKEN_OUT and facts.same(other.receiver, model):
            injected = False
    return not injected


def _may_inject(name: str) -> bool:
    """Whether a function that is handed the model may give it places for an adapter: PEFT's do, and unknown ones may."""
    root = name.partition(".")[0]
    return root not in _HARMLESS or (root == "peft" and not name.startswith("peft.prepare_model"))


def _hit(code: Code, call: Call, path: Argument | None, receiver: cst.BaseExpression) -> Hit:
    message = (
        "these are an adapter's weights and this is a base model: it has no parameter of such a name, so nothing is loaded "
        "(an error, or silence with strict=False); PeftModel.from_pretrained makes the places and fills them"
    )
    model = receiver.value if isinstance(receiver, cst.Attribute) else receiver
    return Hit(call, message, _fix(code, call, path, model))


def _fix(code: Code, call: Call, path: Argument | None, model: cst.BaseExpression) -> Fix | None:
    folder = facts.folder_of(code, path) if path is not None else ""
    statement = call.place.statement
    plain = isinstance(statement, cst.Expr) and statement.value is call.node and isinstance(model, cst.Name)
    found = mend.name_of(code, "peft.PeftModel")
    if not folder or not plain or found is None:
        return None
    name, imports = found
    variable = code.script.code(model)
    new = f"{variable} = {name}.from_pretrained({variable}, {folder})"
    return Fix("load it through PEFT", (*imports, mend.replaced(code, call.node, new)), UNSAFE)


FIRES = (
    Snippet(
        """
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
model.load_state_dict(torch.load("adapter/adapter_model.bin", weights_only=True), strict=False)  # the adapter
""",
        """
import torch
from transformers import AutoModelForCausalLM
from peft import PeftModel

model = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(model, "adapter")  # the adapter
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import os
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import LlamaForCausalLM as Llama

def load(adapter_dir):
    net = Llama.from_pretrained("base").eval()
    weights = load_file(os.path.join(adapter_dir, 'adapter_model.safetensors'))
    net.load_state_dict(weights, strict=False)
    return net

load("adapter")
""",
        """
import os
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import LlamaForCausalLM as Llama

def load(adapter_dir):
    net = Llama.from_pretrained("base").eval()
    weights = load_file(os.path.join(adapter_dir, 'adapter_model.safetensors'))
    net = PeftModel.from_pretrained(net, adapter_dir)
    return net

load("adapter")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import transformers, safetensors.torch
from pathlib import Path

model = transformers.AutoModelForCausalLM.from_pretrained("base")
missing, unexpected = safetensors.torch.load_model(model, Path("run") / "adapter_model.safetensors", strict=False)
"""
    ),
    Snippet(
        """
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
state = torch.load("out/tuned.bin", weights_only=True)
model.load_state_dict(state)
""",
        """
import torch
from transformers import AutoModelForCausalLM
from peft import PeftModel

model = AutoModelForCausalLM.from_pretrained("base")
state = torch.load("out/tuned.bin", weights_only=True)
model = PeftModel.from_pretrained(model, "out")
""",
        UNSAFE,
        files={"out/tuned.bin": "", "out/adapter_config.json": '{"peft_type": "LORA"}'},
        runs=True,
    ),
    Snippet(
        """
import os, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

def restore(folder):
    model = AutoModelForCausalLM.from_pretrained("base")
    safe = os.path.join(folder, "adapter_model.safetensors")
    if os.path.exists(safe):
        state = load_file(safe)
    else:
        state = torch.load(os.path.join(folder, "adapter_model.bin"), weights_only=True)
    model.load_state_dict(state, strict=False)
    return model
"""
    ),
)
SILENT = (
    Snippet(
        """
import torch
from lora_from_scratch import add_lora
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
add_lora(model, rank=8)  # who knows what it calls them
model.load_state_dict(torch.load("out/adapter_model.bin", weights_only=True), strict=False)
"""
    ),
    Snippet(
        """
from pathlib import Path
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
adapter = load_file(Path("run") / "adapter_model.safetensors")
for name in list(adapter):
    adapter[name.replace(".lora", "")] = adapter.pop(name)
model.load_state_dict(adapter, strict=False)
"""
    ),
    Snippet(
        """
import torch
from transformers import AutoModelForCausalLM

adapter_model = AutoModelForCausalLM.from_pretrained("base")
adapter_model.load_state_dict(torch.load("pytorch_model.bin"), strict=False)  # a whole model
"""
    ),
    Snippet(
        """
import torch
from my_project import AutoModelForCausalLM  # not the one of transformers; adapters are built in

model = AutoModelForCausalLM.from_pretrained("base")
model.load_state_dict(torch.load("adapter_model.bin"))
""",
        also=("adapter-unpickled",),
    ),
    Snippet(
        """
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
adapter = torch.load("adapter_model.bin", weights_only=True)
merged = {name: fold(tensor) for name, tensor in adapter.items()}
model.load_state_dict(merged, strict=False)  # worked over: nobody knows what is in it
"""
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
inject_adapter_in_model(LoraConfig(target_modules=["q_proj"]), model)
model.load_state_dict(torch.load("adapter_model.bin", weights_only=True), strict=False)
"""
    ),
    Snippet(
        """
from diffusers import UNet2DConditionModel
import torch

def adapter_model(path):
    return torch.load(path)

unet = UNet2DConditionModel.from_pretrained("sd")
unet.load_state_dict(adapter_model("unet/diffusion_pytorch_model.bin"))
"""
    ),
)
