"""A model is saved as `accelerator.prepare` gave it back, without being unwrapped.

What this means: `prepare` gives back the model as the launch asks for it: as it was on one device, inside DistributedDataParallel on
several, inside FSDP or DeepSpeed where that is configured. `save_pretrained` on it works on one device and raises, or writes a shard, on more.

Why it happens: it was tried on one device.

Detection: `save_pretrained` of a PeftModel that came back from `Accelerator.prepare`, without `unwrap_model`.

Fix: `accelerator.unwrap_model(model).save_pretrained(…)`. It is safe: on one device it is the same model.

Workaround: keep the PeftModel under a name of its own, and save that.

Prevention: with FSDP and ZeRO-3 hand over `state_dict=accelerator.get_state_dict(model)` as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import mend
from adapterfit.lint.rule import SAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Model

RULE = Rule(cause="wrapper-prefix")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `save_pretrained`."""
    for call in code.trace.calls("model.save_pretrained"):
        model = call.receiver
        if isinstance(model, Model) and model.outer == "accelerate" and model.wrapped is True:
            message = "accelerator.prepare may have put this model into DistributedDataParallel: on several devices this raises; unwrap it"
            yield Hit(call, message, _fix(code, call, model))


def _fix(code: Code, call: Call, model: Model) -> Fix | None:
    prepared, func = code.trace.call_of(model.origin), call.node.func
    if prepared is None or prepared.place.scope is not call.place.scope or not isinstance(func, cst.Attribute):
        return None
    owner = prepared.node.func
    if not isinstance(owner, cst.Attribute) or not isinstance(owner.value, (cst.Name, cst.Attribute)):
        return None
    new = f"{code.script.code(owner.value)}.unwrap_model({mend.text(code, func.value)})"
    return Fix("unwrap it", (mend.replaced(code, func.value, new),), SAFE)


FIRES = (
    Snippet(
        """
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

accelerator = Accelerator(cpu=True)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model, optimizer = accelerator.prepare(model, optimizer)
if accelerator.is_main_process:
    model.save_pretrained("out")
""",
        """
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

accelerator = Accelerator(cpu=True)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model, optimizer = accelerator.prepare(model, optimizer)
if accelerator.is_main_process:
    accelerator.unwrap_model(model).save_pretrained("out")
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import accelerate
from peft import PeftModel

def save(acc: accelerate.Accelerator, net: PeftModel):
    ready = acc.prepare(net)
    ready.save_pretrained("out", state_dict=acc.get_state_dict(ready))
""",
        """
import accelerate
from peft import PeftModel

def save(acc: accelerate.Accelerator, net: PeftModel):
    ready = acc.prepare(net)
    acc.unwrap_model(ready).save_pretrained("out", state_dict=acc.get_state_dict(ready))
""",
        SAFE,
        runs=True,
        then='from peft import AutoPeftModelForCausalLM\nsave(accelerate.Accelerator(cpu=True), AutoPeftModelForCausalLM.from_pretrained("adapter"))\n',
    ),
    Snippet(
        """
from accelerate import Accelerator
from peft import PeftModel

class Run:
    def __init__(self, model: PeftModel):
        self.accelerator = Accelerator()
        self.model = self.accelerator.prepare(model)

    def save(self):
        self.model.save_pretrained("out")
"""
    ),
)
SILENT = (
    Snippet(
        """
from accelerate import Accelerator
from peft import PeftModel

def save(model: PeftModel):
    accelerator = Accelerator()
    model = accelerator.prepare(model)
    accelerator.unwrap_model(model).save_pretrained("out")
"""
    ),
    Snippet(
        """
from accelerate import Accelerator
from peft import PeftModel

def save(model: PeftModel):
    accelerator = Accelerator()
    prepared = accelerator.prepare(model)
    model.save_pretrained("out")
"""
    ),
    Snippet(
        """
from kitchen import Accelerator
from peft import PeftModel

def save(model: PeftModel):
    accelerator = Accelerator()
    model = accelerator.prepare(model)
    model.save_pretrained("out")
"""
    ),
    Snippet(
        """
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

accelerator = Accelerator()
peft_model = accelerator.prepare(AutoModelForCausalLM.from_pretrained("base"))
peft_model.save_pretrained("out")  # no adapter in it
"""
    ),
)
