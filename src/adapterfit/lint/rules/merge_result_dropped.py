"""What `merge_and_unload` gives back is thrown away, and the emptied PeftModel is used on.

What this means: `merge_and_unload` gives back the merged base. The PeftModel it is called on stays one, without any adapter layer left:
`save_pretrained` then writes an adapter with no tensor in it, and merging once more raises.

Why it happens: the name sounds as if it happened in place, as with `model.eval()`. For the outputs it even does.

Detection: `merge_and_unload()` or `unload()` of a PeftModel whose result nothing takes, where that PeftModel is used afterwards.
Using the base that was handed to PEFT, or `get_base_model()`, is right: that very object is the merged model.

Fix: `model = model.merge_and_unload()`. Safe where all that follows works on the merged model as well.

Workaround: `model.get_base_model()` afterwards.

Prevention: write merging and saving in one go: `model.merge_and_unload().save_pretrained(folder)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import SAFE, UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call, Read
from adapterfit.lint.values import Model

RULE = Rule(severity="warning", cause="empty-adapter")
#: What can be done with a merged model as with a PeftModel, with the same or, where that was wrong, the right result.
_EITHER = frozenset(
    {"generate", "eval", "to", "cuda", "cpu", "half", "float", "bfloat16", "save_pretrained", "config", "device"}
)

#: The other way to the merged model.
_TAKES_OUT = frozenset({"get_base_model", "base_model"})


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls whose result nothing takes."""
    for call in code.trace.calls("model.merge_and_unload", "model.unload"):
        model = call.receiver
        if not call.dropped or not isinstance(model, Model) or model.wrapped is not True or model.outer:
            continue
        uses = list(facts.reads_after(code, call, model))
        taken_out = any(use.attribute in _TAKES_OUT for use in uses)
        if (uses or _is_attribute(call)) and not taken_out:
            message = "the merged model is what this gives back; the PeftModel it is called on answers like it, but saves an empty adapter"
            yield Hit(call, message, _fix(code, call, uses))


def _is_attribute(call: Call) -> bool:
    """`self.model`: who uses it afterwards is not seen here."""
    return isinstance(call.node.func, cst.Attribute) and isinstance(call.node.func.value, cst.Attribute)


def _fix(code: Code, call: Call, uses: list[Read]) -> Fix | None:
    func, statement = call.node.func, call.place.statement
    if not isinstance(func, cst.Attribute) or not isinstance(statement, cst.Expr) or statement.value is not call.node:
        return None
    if not isinstance(func.value, (cst.Name, cst.Attribute)):
        return None
    name = code.script.code(func.value)
    harmless = all(use.attribute in _EITHER and _named(use.node) == name and _here(use, call) for use in uses)
    safety = SAFE if uses and harmless and isinstance(func.value, cst.Name) else UNSAFE
    return Fix("keep the merged model", (mend.inserted(mend.span(code, call.node)[0], f"{name} = "),), safety)


def _named(node: cst.BaseExpression) -> str:
    return node.value.value if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name) else ""


def _here(use: Read, call: Call) -> bool:
    return use.place.scope is call.place.scope


FIRES = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model.merge_and_unload()  # fold it in
model.save_pretrained("merged")
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model = model.merge_and_unload()  # fold it in
model.save_pretrained("merged")
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import AutoPeftModelForCausalLM as Auto

tuned = Auto.from_pretrained("adapter")
tuned.merge_and_unload(
    safe_merge=True,
)
tuned.eval()
tuned.generate(input_ids=torch.ones(1, 2, dtype=torch.long), max_new_tokens=2)
""",
        """
import torch
from peft import AutoPeftModelForCausalLM as Auto

tuned = Auto.from_pretrained("adapter")
tuned = tuned.merge_and_unload(
    safe_merge=True,
)
tuned.eval()
tuned.generate(input_ids=torch.ones(1, 2, dtype=torch.long), max_new_tokens=2)
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

class Server:
    def __init__(self):
        self.model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")

    def prepare(self):
        self.model.merge_and_unload()

Server().prepare()
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

class Server:
    def __init__(self):
        self.model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")

    def prepare(self):
        self.model = self.model.merge_and_unload()

Server().prepare()
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

def merged(base, adapter):
    model = PeftModel.from_pretrained(base, adapter)
    model.merge_and_unload()
    return model

merged(AutoModelForCausalLM.from_pretrained("base"), "adapter").save_pretrained("out")
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

def merged(base, adapter):
    model = PeftModel.from_pretrained(base, adapter)
    model = model.merge_and_unload()
    return model

merged(AutoModelForCausalLM.from_pretrained("base"), "adapter").save_pretrained("out")
""",
        UNSAFE,
        runs=True,
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
tuned = PeftModel.from_pretrained(base, "adapter")
tuned.merge_and_unload()
base.save_pretrained("merged")  # the same object as what was given back
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

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model.merge_adapter()  # in place, and can be undone
model.generate()
model.unmerge_adapter()
"""
    ),
    Snippet(
        """
from git import Repo

peft_model = Repo(".")
peft_model.merge_and_unload()
peft_model.save_pretrained("merged")
"""
    ),
    Snippet(
        """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(base, "adapter")
if "--merge" in sys.argv:
    model.merge_and_unload()
    base.save_pretrained("merged")
else:
    model.save_pretrained("again")
"""
    ),
    Snippet(
        """
from diffusers import PixArtTransformer2DModel
from peft import PeftModel

model = PeftModel.from_pretrained(PixArtTransformer2DModel.from_pretrained("base", subfolder="transformer"), "adapter")
model.merge_and_unload()
plain = model.get_base_model()
plain.save_pretrained("merged")
"""
    ),
)
