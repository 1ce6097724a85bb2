"""An adapter is called "lora", or by another part of "lora_".

What this means: the names of LoRA's tensors begin with `lora_`, and PEFT tells an adapter's tensors by its name in them. A name that is
part of `lora_` is found everywhere. PEFT 0.15 and later say so ("should not be contained in the prefix"); earlier ones wrote and read
names with pieces missing, and loaded nothing.

Why it happens: "lora" is what one would call it.

Detection: a literal adapter name that is part of `lora_`, for a LoRA config, or `lora` itself for an adapter from files.

Fix: any other name. It is a fix for the whole file only where the literal is used for nothing else.

Workaround: none in versions that raise.

Prevention: name adapters after what they were trained for; leave it away where there is one: it is `default`.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Argument, Call
from adapterfit.lint.tree import walk
from adapterfit.lint.values import Config, Items, Model, Text
from adapterfit.text import quote

RULE = Rule(severity="warning", cause="adapter-name-in-keys")
_PREFIX = "lora_"
#: Methods that take an adapter's name, and where.
_METHODS = {
    "model.load_adapter": 1,
    "model.add_adapter": 0,
    "model.set_adapter": 0,
    "model.delete_adapter": 0,
    "model.add_weighted_adapter": 2,
}


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that give an adapter its name."""
    for call in [*facts.wraps(code), *code.trace.calls("model.load_adapter", "model.add_adapter")]:
        given = _given(call)
        name = given.value.exact if given is not None and isinstance(given.value, Text) else None
        if given is not None and name and name in _PREFIX and _meets(call, name):
            message = f"the adapter's name {quote(name)} is part of {quote(_PREFIX)}, by which PEFT knows LoRA's own tensors: names get mixed up"
            yield Hit(call, message, _fix(code, name), given.node)


def _given(call: Call) -> Argument | None:
    if call.name in _METHODS and not (isinstance(call.receiver, Model) and call.receiver.wrapped):
        return None
    return call.argument(_METHODS.get(call.name, 2), "adapter_name")


def _meets(call: Call, name: str) -> bool:
    """Whether the tensors have that prefix. Where the method is not known, only a name that speaks of LoRA tells."""
    config = call.value(1, "peft_config")
    if isinstance(config, Config):
        return "lora" in config.class_name.lower()
    return name in ("lora", _PREFIX)


def _fix(code: Code, name: str) -> Fix | None:
    """Rename it at once wherever it names an adapter; not at all where the same text stands for something else too."""
    names = {id(node): node for call in code.trace.calls("peft.*", "model.*") for node in _name_nodes(call, name)}
    if any(id(node) not in names for node in _literals(code, name)):
        return None
    new = f"{name.rstrip('_')}_adapter"
    edits = tuple(mend.replaced(code, node, facts.quoted(node, new)) for node in names.values())
    return Fix(f"call it {new}", edits, UNSAFE) if edits and not list(_literals(code, new)) else None


def _name_nodes(call: Call, name: str) -> Iterator[cst.SimpleString]:
    position = _METHODS.get(call.name, 2 if call.name.startswith("peft.") else None)
    given = call.argument(position, "adapter_name")
    if given is None:
        return
    values = given.value.items if isinstance(given.value, Items) else (given.value,)
    node = given.node.value
    nodes = [element.value for element in node.elements] if isinstance(node, (cst.List, cst.Tuple)) else [node]
    for value, part in zip(values, nodes):
        if isinstance(part, cst.SimpleString) and isinstance(value, Text) and value.exact == name:
            yield part


def _literals(code: Code, name: str) -> Iterator[cst.SimpleString]:
    for node in walk(code.script.module):
        if isinstance(node, cst.SimpleString) and node.evaluated_value == name:
            yield node


FIRES = (
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

config = LoraConfig(r=4, target_modules=["q_proj"])
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config, adapter_name="lora")
model.set_adapter('lora')
""",
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

config = LoraConfig(r=4, target_modules=["q_proj"])
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config, adapter_name="lora_adapter")
model.set_adapter('lora_adapter')
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]), "a")
""",
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]), "a_adapter")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

NAME = "lora"
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", adapter_name=NAME)
"""
    ),
    Snippet(
        """
from peft import PeftModel

def both(model: PeftModel, kind="lora"):
    result = model.load_adapter("adapter", "lora")
    return result, kind
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4), adapter_name="lora_1")
"""
    ),
    Snippet(
        """
from peft import IA3Config, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), IA3Config(), adapter_name="a")
"""
    ),
    Snippet(
        """
from peft import IA3Config, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), IA3Config(), adapter_name="lora")  # its prefix is ia3_
"""
    ),
    Snippet(
        """
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("sd")
pipe.load_lora_weights("adapter", adapter_name="lora")
pipe.load_adapter("adapter", "lora")
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "lora")  # its folder
"""
    ),
)
