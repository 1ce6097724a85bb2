"""A method of PeftModel is called on a model that PEFT never wrapped.

What this means: `merge_and_unload`, `add_weighted_adapter` and the like belong to PeftModel. The model at hand is the base itself, so
Python finds no such attribute. If an adapter was loaded at all, then not into this object.

Why it happens: `AutoModelForCausalLM.from_pretrained` returns the base (with a transformers integration of adapters, but without
PEFT's methods); the result of `PeftModel.from_pretrained` or `get_peft_model` was not kept; a trainer's model was unwrapped; or the
installed PEFT is too old to have the method and passes the question on to the base, which then stands in the message.

Detection: an AttributeError for a name that only PeftModel has, on a class that is not PEFT's. Frames of `peft/peft_model.py` below it
mean that the model is wrapped, and PEFT too old.

Fix: `model = PeftModel.from_pretrained(base, "adapter")`, then call the method on that; or upgrade PEFT.

Workaround: `AutoPeftModelForCausalLM.from_pretrained("adapter")` loads base and adapter, wrapped.

Prevention: keep what `PeftModel.from_pretrained` and `merge_and_unload` return; they do not change the name you passed in.

Broken:
    model = AutoModelForCausalLM.from_pretrained("base")
    model.merge_and_unload()  # raises AttributeError: 'LlamaForCausalLM' object has no attribute 'merge_and_unload'

Fixed:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    merged = model.merge_and_unload()
    as_trained(merged)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import older, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "AttributeError: 'LlamaForCausalLM' object has no attribute 'merge_and_unload'",
        "AttributeError: 'MistralForCausalLM' object has no attribute 'add_weighted_adapter'",
    ),
)
#: Names that PeftModel or its tuners have, and models of transformers and diffusers do not (peft 0.21.2, transformers 5.23.0).
_METHODS = frozenset(
    {
        "merge_and_unload", "merge_adapter", "unmerge_adapter", "unload", "add_weighted_adapter", "get_base_model",
        "print_trainable_parameters", "get_nb_trainable_parameters", "create_or_update_model_card", "peft_config", "merge_and_upload",
        "disable_adapter", "subtract_mutated_init",
    }
)  # fmt: skip
_SAID = re.compile(r"'?(?P<owner>[A-Za-z_][\w.]{0,80})'? (?:object )?has no attribute '?(?P<name>\w{1,60})'?")
#: Words that speak of this cause where no symptom decides.
#: Methods that transformers itself gives every model.
_MIXIN = frozenset(
    {"add_adapter", "load_adapter", "set_adapter", "enable_adapters", "disable_adapters", "active_adapters"}
)
HINTS = ("merge_and_unload", "add_weighted_adapter")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: who lacks which attribute; PEFT's own frames and version tell an old PEFT from a bare model."""
    bare = said(symptoms, "no adapter layers found in the model")
    if bare:
        yield suspect(
            symptoms, "no layer of this model carries an adapter", 0.8, bare, fix="model = PeftModel.from_pretrained(base, adapter), and use that model",
            apart="what was done with the model before: unload() and merge_and_unload() take the adapter out",
        )  # fmt: skip
    for line in said(symptoms, "has no attribute"):
        found = _SAID.search(symptoms.lines[line])
        if (
            found is None
            or not _is_method(found["name"], found["owner"])
            or found["owner"].lower().startswith(("peft", "module"))
        ):
            continue
        wrapped = any(frame.library == "peft" for frame in symptoms.frames) or older(symptoms, "peft", "0.3.0") is True
        yield suspect(
            symptoms, f"{show(found['owner'], 80)} is the bare base: {found['name']} is a method of PeftModel", 0.5 if wrapped else 0.86 if found["name"] in _METHODS else 0.45, [line],
            fix=f"model = PeftModel.from_pretrained(base, adapter), then model.{found['name']}(…)",
            apart="print(type(model)): a PeftModel means that the installed PEFT is too old for the method",
        )  # fmt: skip
        return


def _is_method(name: str, owner: str) -> bool:
    """A method of PeftModel, or one about adapters that a library adds to it, asked of a model's own class."""
    added = any(word in name for word in ("lora", "peft")) and not name.startswith("_") and name not in _MIXIN
    return name in _METHODS or (added and owner.endswith(("ForCausalLM", "ForConditionalGeneration", "ForSequenceClassification", "Model")))  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A bare model; a wrapped one of an old PEFT; a method of generation."""
    return {
        "fires": [
            "AttributeError: 'GemmaForCausalLM' object has no attribute 'merge_and_unload'",
            "AttributeError: 'Qwen2ForCausalLM' object has no attribute 'print_trainable_parameters'",
        ],
        "silent": [
            "AttributeError: 'BertModel' object has no attribute 'prepare_inputs_for_generation'",
            (
                'File "/x/site-packages/peft/peft_model.py", line 260, in __getattr__\n'
                "AttributeError: 'GemmaForCausalLM' object has no attribute 'merge_and_unload'"
            ),
        ],
    }
