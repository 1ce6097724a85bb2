"""`model.state_dict` is replaced by a function that gives the adapter only.

What this means: `save_pretrained` takes `model.state_dict()` and picks the adapter out of it. Where that holds an adapter already, with
the adapter's name taken out of its names, PEFT of many versions finds nothing to pick and writes a file of 443 bytes without one tensor.

Why it happens: the first training scripts for LoRA (alpaca-lora) needed it with PEFT 0.2, and were copied ever since.

Detection: an assignment to `state_dict` of a PeftModel, of something that calls `get_peft_model_state_dict`.

Fix: leave the assignment out. Checkpoints of the Trainer hold the adapter alone by themselves since transformers 4.28.

Workaround: load an intermediate `checkpoint-…` of the run instead; those were written by another way.

Prevention: never assign to a method of a model.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint import mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.values import Model

RULE = Rule(cause="empty-adapter")


def check(code: Code) -> Iterator[Hit]:
    """Hits at assignments."""
    for store in code.trace.stores():
        picks = "peft.get_peft_model_state_dict" in store.mentions
        if store.attribute == "state_dict" and picks and isinstance(store.receiver, Model) and store.receiver.wrapped:
            message = "save_pretrained picks the adapter out of this itself; with this in place, many versions of PEFT write an empty one"
            edit = mend.without_statement(code, store.place)
            yield Hit(store, message, Fix("leave it out", (edit,), UNSAFE) if edit is not None else None)


FIRES = (
    Snippet(
        """
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
old_state_dict = model.state_dict
# only the adapter
model.state_dict = (
    lambda self, *_, **__: get_peft_model_state_dict(self, old_state_dict())
).__get__(model, type(model))

model.save_pretrained("out")
""",
        """
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
old_state_dict = model.state_dict
# only the adapter

model.save_pretrained("out")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import peft
from transformers import AutoModelForCausalLM

def train(save=False):
    net = peft.get_peft_model(AutoModelForCausalLM.from_pretrained("base"), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    kept = net.state_dict

    def only_adapter(*args, **kwargs):
        return peft.get_peft_model_state_dict(net, kept())

    if save:
        net.state_dict = only_adapter
    net.save_pretrained("out")

train()
""",
        """
import peft
from transformers import AutoModelForCausalLM

def train(save=False):
    net = peft.get_peft_model(AutoModelForCausalLM.from_pretrained("base"), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    kept = net.state_dict

    def only_adapter(*args, **kwargs):
        return peft.get_peft_model_state_dict(net, kept())

    if save:
        pass
    net.save_pretrained("out")

train()
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel, get_peft_model_state_dict as adapter_of
from transformers import AutoModelForCausalLM

m = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter"); m.state_dict = lambda: adapter_of(m)
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
state_dict = get_peft_model_state_dict(model)  # a variable of that name
model.save_pretrained("out")
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
model.state_dict = model.state_dict  # puts nothing else there
"""
    ),
    Snippet(
        """
from peft import get_peft_model_state_dict

class Wrapper:
    def __init__(self, model):
        self.state_dict = lambda: get_peft_model_state_dict(model)
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
model.adapter_state = get_peft_model_state_dict
"""
    ),
)
