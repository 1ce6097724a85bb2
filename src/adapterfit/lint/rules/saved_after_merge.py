"""A PeftModel is saved after its adapter was merged away; the merged model is not.

What this means: `merge_and_unload` gives back the merged model and leaves the PeftModel without any adapter layer. Saving the PeftModel
writes an `adapter_config.json` and a weights file without a single tensor.

Why it happens: two names for what looks like one thing, and the old one is the one that is saved.

Detection: `save_pretrained` or `push_to_hub` of a PeftModel whose merged model was given another name before.

Fix: save what `merge_and_unload` gave back; or, where the adapter is wanted, save it before merging.

Workaround: none; the adapter's tensors are gone from that object.

Prevention: give both one name: `model = model.merge_and_unload()`.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call, follows
from adapterfit.lint.values import Model

RULE = Rule(cause="empty-adapter")


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that save."""
    merges = [call for call in code.trace.calls("model.merge_and_unload", "model.unload") if not call.dropped]
    for call in code.trace.calls("model.save_pretrained", "model.push_to_hub"):
        model = call.receiver
        if not isinstance(model, Model) or model.wrapped is not True or model.outer:
            continue
        before = [merge for merge in merges if follows(merge, call) and _is(merge.receiver, model)]
        if before:
            message = "this PeftModel has no adapter left since it was merged: what is saved has not one tensor"
            yield Hit(call, message, _fix(code, before[-1], call))


def _is(value: object, model: Model) -> bool:
    return isinstance(value, Model) and bool(value.ids & model.ids)


def _fix(code: Code, merge: Call, call: Call) -> Fix | None:
    statement, func = merge.place.statement, call.node.func
    if merge.place.scope is not call.place.scope or not isinstance(func, cst.Attribute):
        return None
    if not isinstance(statement, cst.Assign) or statement.value is not merge.node or len(statement.targets) != 1:
        return None
    name = statement.targets[0].target
    if not isinstance(name, cst.Name):
        return None
    return Fix("save the merged model", (mend.replaced(code, func.value, name.value),), UNSAFE)


FIRES = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
merged = model.merge_and_unload()
model.save_pretrained("merged", safe_serialization=True)
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
merged = model.merge_and_unload()
merged.save_pretrained("merged", safe_serialization=True)
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import AutoPeftModelForCausalLM
tuned = AutoPeftModelForCausalLM.from_pretrained("adapter"); plain = tuned.merge_and_unload()
(tuned).save_pretrained("out")
""",
        """
from peft import AutoPeftModelForCausalLM
tuned = AutoPeftModelForCausalLM.from_pretrained("adapter"); plain = tuned.merge_and_unload()
plain.save_pretrained("out")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel

def export(model: PeftModel, folder):
    model.merge_and_unload().save_pretrained(folder)
    model.push_to_hub("me/adapter")
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel

def export(model: PeftModel, folder):
    model.push_to_hub("me/adapter")
    model.merge_and_unload().save_pretrained(folder)
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model = model.merge_and_unload()
model.save_pretrained("merged")
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(base, "adapter")
merged = model.merge_and_unload()
base.save_pretrained("merged")  # the same object
"""
    ),
    Snippet(
        """
import sys
from peft import PeftModel

def export(model: PeftModel):
    if "--merge" in sys.argv:
        return model.merge_and_unload()
    model.save_pretrained("adapter")
"""
    ),
)
