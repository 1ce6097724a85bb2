"""A saved adapter is loaded into a model that PEFT already wraps.

What this means: `PeftModel.from_pretrained` wraps what it is given. Around a PeftModel, every name gets one more `base_model.model.`, so
the adapter's tensors find no place: PEFT warns about missing keys, and the model keeps the new, untrained adapter.

Why it happens: the training script's `get_peft_model` line was left in the script that loads.

Detection: the model handed to `PeftModel.from_pretrained` comes from `get_peft_model` or from another `from_pretrained` of PEFT.

Fix: leave `get_peft_model` out: `from_pretrained` makes the adapter itself, from the saved config.

Workaround: `model.load_adapter(folder, "name")` then `model.set_adapter("name")` loads a further adapter into a PeftModel.

Prevention: `get_peft_model` for a new adapter, `PeftModel.from_pretrained` for a saved one, never both.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.tree import dotted
from adapterfit.lint.values import Model

RULE = Rule(cause="wrapped-twice")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `PeftModel.from_pretrained`."""
    for call in facts.loads(code):
        model = call.value(0, "model")
        if isinstance(model, Model) and model.wrapped is True:
            message = "this model is a PeftModel already: wrapped once more, every name gets longer and the adapter's tensors find no place"
            yield Hit(call, message, _fix(code, model, call))


def _fix(code: Code, model: Model, call: Call) -> Fix | None:
    """Leave the wrapping away, where it stands on the line directly above and binds the name it is given."""
    wrap, given = code.trace.call_of(model.origin), call.argument(0, "model")
    if wrap is None or wrap.name != "peft.get_peft_model" or given is None or wrap.place.line is None:
        return None
    statement, block = wrap.place.statement, wrap.place.block
    if not isinstance(statement, cst.Assign) or statement.value is not wrap.node or len(statement.targets) != 1:
        return None
    inner = wrap.argument(0, "model")
    name = dotted(statement.targets[0].target)
    same = inner is not None and name == dotted(inner.node.value) == dotted(given.node.value) != ""
    below = block[block.index(wrap.place.line) + 1 :][:1]
    edit = mend.without_statement(code, wrap.place) if same and below == (call.place.line,) else None
    return Fix("leave get_peft_model out", (edit,), UNSAFE) if edit is not None else None


FIRES = (
    Snippet(
        """
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

config = LoraConfig(r=4, target_modules=["q_proj"])
model = AutoModelForCausalLM.from_pretrained("base")
model = get_peft_model(model, config)
model = PeftModel.from_pretrained(model, "adapter")
""",
        """
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

config = LoraConfig(r=4, target_modules=["q_proj"])
model = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(model, "adapter")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import peft
from transformers import AutoModelForCausalLM

def wrapped():
    return peft.get_peft_model(AutoModelForCausalLM.from_pretrained("base"), peft.LoraConfig())

tuned = peft.PeftModel.from_pretrained(model=wrapped(), model_id="adapter")
"""
    ),
    Snippet(
        """
from peft import AutoPeftModelForCausalLM, PeftModelForCausalLM

first = AutoPeftModelForCausalLM.from_pretrained("stage-1", is_trainable=True)
second = PeftModelForCausalLM.from_pretrained(first, "stage-2")
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import AutoPeftModelForCausalLM, PeftModel

first = AutoPeftModelForCausalLM.from_pretrained("stage-1").merge_and_unload()
second = PeftModel.from_pretrained(first, "stage-2")
"""
    ),
    Snippet(
        """
import sys
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
if len(sys.argv) > 1:
    model = PeftModel.from_pretrained(model, sys.argv[1], is_trainable=True)
else:
    model = get_peft_model(model, LoraConfig())
"""
    ),
    Snippet(
        """
from graph import get_peft_model  # not PEFT's
from peft import PeftModel

model = get_peft_model("base")
model = PeftModel.from_pretrained(model, "adapter")
"""
    ),
    Snippet(
        """
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

peft_model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
peft_model.save_pretrained("adapter")
peft_model = AutoModelForCausalLM.from_pretrained("base")
peft_model = PeftModel.from_pretrained(peft_model, "adapter")
"""
    ),
)
