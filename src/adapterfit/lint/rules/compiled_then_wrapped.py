"""PEFT is put around a model that `torch.compile` has wrapped.

What this means: `torch.compile(model)` gives a wrapper that holds the model as `_orig_mod`. PEFT around it has names like
`base_model.model._orig_mod.model.…`: an adapter saved from it fits no plain base, and an adapter from files finds no place in it.

Why it happens: compiling early looks like the natural place for it.

Detection: the model handed to `get_peft_model` or `PeftModel.from_pretrained` comes from `torch.compile`.

Fix: wrap first, compile last. The fix takes the compiled wrapper off again (`model._orig_mod`), so nothing is compiled any more.

Workaround: `model.compile()`, which compiles in place and changes no name.

Prevention: compile last, or in place.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Model

RULE = Rule(cause="wrapper-prefix")


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that wrap."""
    for call in facts.wraps(code):
        model = call.value(0, "model")
        if isinstance(model, Model) and model.outer == "compiled":
            message = 'every name of this adapter gets "_orig_mod." from the compiled model: it fits no plain base, and no plain adapter fits it'
            yield Hit(call, message, _fix(code, call))


def _fix(code: Code, call: Call) -> Fix | None:
    given = call.argument(0, "model")
    if given is None or not isinstance(given.node.value, (cst.Name, cst.Attribute)):
        return None
    _, end = mend.span(code, given.node.value)
    return Fix("wrap the model itself", (mend.inserted(end, "._orig_mod"),), UNSAFE)


FIRES = (
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = torch.compile(AutoModelForCausalLM.from_pretrained("base"))
model = PeftModel.from_pretrained(model, "adapter")
""",
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = torch.compile(AutoModelForCausalLM.from_pretrained("base"))
model = PeftModel.from_pretrained(model._orig_mod, "adapter")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from torch import compile as fast
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
quick = fast(base, mode="reduce-overhead")
tuned = get_peft_model(model=quick, peft_config=LoraConfig(r=4, target_modules=["q_proj"]))
""",
        """
from torch import compile as fast
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
quick = fast(base, mode="reduce-overhead")
tuned = get_peft_model(model=quick._orig_mod, peft_config=LoraConfig(r=4, target_modules=["q_proj"]))
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import torch, peft, transformers

tuned = peft.get_peft_model(torch.compile(transformers.AutoModel.from_pretrained("base")), peft.LoraConfig())
"""
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model = torch.compile(model)
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
model.compile()  # in place
model = PeftModel.from_pretrained(model, "adapter")
"""
    ),
    Snippet(
        """
import re as torch
from peft import PeftModel

compiled = torch.compile("base")
model = PeftModel.from_pretrained(compiled, "adapter")
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

compiled_model = AutoModelForCausalLM.from_pretrained("base")
step = torch.compile(lambda x: x + 1)
model = PeftModel.from_pretrained(compiled_model, "adapter")
"""
    ),
)
