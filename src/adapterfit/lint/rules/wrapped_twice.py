"""`get_peft_model` wraps a model that is a PeftModel already.

What this means: there are two wrappers around one another, and every name of the new adapter goes through both
(`base_model.model.base_model.model.…`). It trains, and it is saved; on a plain base none of its names exists.

Why it happens: a notebook cell run twice, a second stage of training, or a model that came wrapped from somewhere else.

Detection: the model handed to `get_peft_model` comes from `get_peft_model` or from a `from_pretrained` of PEFT, and was not
merged or unloaded in between.

Fix: wrap once. For a second adapter beside the first: `model.add_adapter("name", config)`.

Workaround: merge the first one before: `model = model.merge_and_unload()`.

Prevention: heed PEFT's warning "Already found a `peft_config` attribute in the model".
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint.rule import Code, Hit, Rule, Snippet
from adapterfit.lint.values import Model

RULE = Rule(cause="wrapped-twice")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `get_peft_model` and at PeftModel's own constructor."""
    for call in code.trace.calls("peft.get_peft_model", "peft.PeftModel", "peft.PeftModelForCausalLM"):
        model = call.value(0, "model")
        if isinstance(model, Model) and model.wrapped is True:
            yield Hit(
                call, "this model is a PeftModel already: the new adapter's names go through both and fit no plain base"
            )


FIRES = (
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
model = get_peft_model(model, LoraConfig())
model = get_peft_model(model, LoraConfig())
"""
    ),
    Snippet(
        """
from peft import PeftModel, LoraConfig, get_peft_model as wrap
from transformers import AutoModelForCausalLM

class Stage:
    def __init__(self):
        self.net = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "first")

    def second(self):
        return wrap(self.net, LoraConfig(r=4))
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
model.merge_and_unload()
second = get_peft_model(model, LoraConfig())
""",
        also=("merge-result-dropped",),
    ),
)
SILENT = (
    Snippet(
        """
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

def ensure(model):
    if not isinstance(model, PeftModel):
        model = get_peft_model(model, LoraConfig())
    return model

ensure(ensure(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())))
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
model = model if hasattr(model, "peft_config") else get_peft_model(model, LoraConfig())
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
model = model.unload()
model = get_peft_model(model, LoraConfig())
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

for rank in (4, 8):
    model = AutoModelForCausalLM.from_pretrained("base")
    model = get_peft_model(model, LoraConfig(r=rank))
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model

def prepare(peft_model):
    return get_peft_model(peft_model, LoraConfig())
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM

model = prepare_model_for_kbit_training(AutoModelForCausalLM.from_pretrained("base"))
model = get_peft_model(model, LoraConfig())
model.add_adapter("second", LoraConfig())
"""
    ),
)
