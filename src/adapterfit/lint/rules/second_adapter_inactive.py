"""A second adapter is loaded and never made active, so the model answers with the first.

What this means: `load_adapter` puts an adapter beside the others and leaves the active one active. Whatever runs afterwards runs with
the first adapter, without a word.

Why it happens: after `from_pretrained` the adapter is active, and one expects the same here.

Detection: `load_adapter(folder, "name")` of a PeftModel with another adapter, the model is used afterwards, and nothing in the file makes
that name active: no `set_adapter`, no `add_weighted_adapter`, no `adapter_names=`, no other use of the name.

Fix: `model.set_adapter("name")` after loading.

Workaround: hand `adapter_names=[…]` to `generate` or `forward`, to choose for each row of a batch.

Prevention: `print(model.active_adapters)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Model, Text, Value

RULE = Rule(severity="warning")
_ACTIVATES = frozenset(
    {
        "set_adapter",
        "add_weighted_adapter",
        "active_adapter",
        "base_model",
        "delete_adapter",
        "set_requires_grad",
        "active_adapters",
    }
)
_USED = frozenset({"generate", "", "merge_and_unload", "save_pretrained"})


def check(code: Code) -> Iterator[Hit]:
    """Hits at `load_adapter`."""
    for call in code.trace.calls("model.load_adapter"):
        model, given = call.receiver, call.argument(1, "adapter_name")
        if given is None or not isinstance(model, Model) or model.wrapped is not True:
            continue
        name, first = _text(given.value), _text(model.adapter)
        used = any(read.attribute in _USED for read in facts.reads_after(code, call, model))
        if used and name and first and name != first and not _activated(code, model, name):
            message = (
                "load_adapter leaves the first adapter active: what follows runs without this one until set_adapter"
            )
            yield Hit(call, message, _fix(code, call, given.node.value))


def _text(value: Value) -> str | None:
    return value.exact if isinstance(value, Text) else None


def _activated(code: Code, model: Model, name: str) -> bool:
    if any(read.attribute in _ACTIVATES for read in code.trace.reads(model)):
        return True
    if any("adapter_names" in other.keywords or "adapters" in other.keywords for other in code.trace.calls("*")):
        return True
    return any(
        isinstance(argument.value, Text) and argument.value.exact == name
        for other in code.trace.calls("*")
        for argument in (*other.positional, *other.keywords.values())
        if other.name != "model.load_adapter"
    )


def _fix(code: Code, call: Call, name: cst.BaseExpression) -> Fix | None:
    func = call.node.func
    if not isinstance(func, cst.Attribute) or not isinstance(func.value, (cst.Name, cst.Attribute)):
        return None
    if not isinstance(name, (cst.Name, cst.SimpleString)):
        return None
    edit = mend.line_after(code, call.place, f"{code.script.code(func.value)}.set_adapter({code.script.code(name)})")
    return Fix("make it active", (edit,), UNSAFE) if edit is not None else None


FIRES = (
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
outcome = model.load_adapter("adapter", adapter_name="french")  # the better one
model.generate(input_ids=torch.ones(1, 2, dtype=torch.long), max_new_tokens=1)
""",
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
outcome = model.load_adapter("adapter", adapter_name="french")  # the better one
model.set_adapter("french")
model.generate(input_ids=torch.ones(1, 2, dtype=torch.long), max_new_tokens=1)
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

def main(name="french"):
    net = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
    if name:
        outcome = net.load_adapter("adapter", name)
    return net(input_ids=torch.ones(1, 2, dtype=torch.long))

main()
""",
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

def main(name="french"):
    net = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
    if name:
        outcome = net.load_adapter("adapter", name)
        net.set_adapter(name)
    return net(input_ids=torch.ones(1, 2, dtype=torch.long))

main()
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "first", adapter_name="first")
if model.load_adapter("second", "second"): print("loaded")
merged = model.merge_and_unload()
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
outcome = model.load_adapter("adapter", adapter_name="french")
model.set_adapter("french")
model.generate()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
outcome = model.load_adapter("adapter", adapter_name="french")
model.generate(adapter_names=["default", "french"])
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
outcome = model.load_adapter("newer", adapter_name="default")  # into the place of the first
model.generate()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "a")
first = model.load_adapter("b", "b")
model.add_weighted_adapter(["default", "b"], [0.5, 0.5], "both", combination_type="linear")
model.generate()
"""
    ),
    Snippet(
        """
from peft import PeftModel

def load(model, folder):
    outcome = model.load_adapter(folder, "french")
    return model
"""
    ),
)
