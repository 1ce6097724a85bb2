"""A saved adapter's config is read and its weights are not: the model runs with a new adapter.

What this means: `get_peft_model` makes a new adapter. Given the config of a saved one it makes the same places and leaves them at their
start values. LoRA starts as zero, so the model answers like the base; other methods, and `init_lora_weights: false`, start at random.

Why it happens: `PeftConfig.from_pretrained` looks as if it loaded the adapter.

Detection: `get_peft_model` with a config that was read from an adapter's folder, where the model is then only used (`generate`, `eval`,
`merge_and_unload`, a pipeline): nothing loads weights into it, and nothing trains it.

Fix: `PeftModel.from_pretrained(model, folder)`; it reads config and weights.

Workaround: `model.load_adapter(folder, "default")` afterwards.

Prevention: `get_peft_model` for new adapters, `PeftModel.from_pretrained` for saved ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call, Event, Read
from adapterfit.lint.values import Config, Model, Value

RULE = Rule(cause="slots-left-empty")
_USED = frozenset({"generate", "eval", "merge_and_unload", "predict"})
#: What hints at training, or at weights that come from elsewhere.
_OTHERWISE = frozenset(
    {
        "train",
        "parameters",
        "named_parameters",
        "load_adapter",
        "load_state_dict",
        "print_trainable_parameters",
        "named_modules",
    }
)


def check(code: Code) -> Iterator[Hit]:
    """Hits at `get_peft_model`."""
    for call in code.trace.calls("peft.get_peft_model"):
        config, model = call.value(1, "peft_config"), call.result
        if not isinstance(config, Config) or not config.from_file or not isinstance(model, Model):
            continue
        events = [event for event in code.trace.events[call.at + 1 :] if _concerns(event, model)]
        used = any(isinstance(event, Read) and event.attribute in _USED for event in events)
        if used and not any(_otherwise(event, model) for event in events):
            message = "this makes a new adapter with the saved one's config; its weights are never loaded: use PeftModel.from_pretrained"
            yield Hit(call, message, _fix(code, call, config))


def _concerns(event: Event, model: Model) -> bool:
    values: list[Value] = []
    if isinstance(event, Call):
        given = [*event.positional, *event.keywords.values()]
        values = [event.receiver, *(argument.value for argument in given)]
    elif isinstance(event, Read):
        values = [event.model]
    return any(facts.same(value, model) for value in values)


def _otherwise(event: Event, model: Model) -> bool:
    """Training, loading, or handing the model to something that may do either."""
    if isinstance(event, Read):
        return event.attribute in _OTHERWISE
    if isinstance(event, Call):
        handed_on = not facts.same(event.receiver, model) and not isinstance(event.result, Model)
        return handed_on and event.name != "transformers.pipeline"
    return True


def _fix(code: Code, call: Call, config: Config) -> Fix | None:
    model, read = call.argument(0, "model"), code.trace.call_of(config.origin)
    path = read.argument(0, "pretrained_model_name_or_path") if read is not None else None
    found = mend.name_of(code, "peft.PeftModel")
    if model is None or path is None or found is None or len(call.node.args) != 2:
        return None
    if not isinstance(path.node.value, (cst.Name, cst.SimpleString, cst.Attribute)) or read is None:
        return None
    if read.place.scope is not call.place.scope:
        return None
    name, imports = found
    new = f"{name}.from_pretrained({mend.text(code, model.node.value)}, {mend.text(code, path.node.value)})"
    return Fix("load the saved adapter", (*imports, mend.replaced(code, call.node, new)), UNSAFE)


FIRES = (
    Snippet(
        """
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM

config = PeftConfig.from_pretrained("adapter")
model = AutoModelForCausalLM.from_pretrained("base")
model = get_peft_model(model, config)  # tuned
model.eval()
""",
        """
from peft import PeftConfig, get_peft_model, PeftModel
from transformers import AutoModelForCausalLM

config = PeftConfig.from_pretrained("adapter")
model = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(model, "adapter")  # tuned
model.eval()
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import peft
from transformers import AutoModelForCausalLM as Base

def merged(folder):
    settings = peft.LoraConfig.from_pretrained(folder)
    net = peft.get_peft_model(Base.from_pretrained("base"), settings)
    return net.merge_and_unload()

merged("adapter")
""",
        """
import peft
from transformers import AutoModelForCausalLM as Base

def merged(folder):
    settings = peft.LoraConfig.from_pretrained(folder)
    net = peft.PeftModel.from_pretrained(Base.from_pretrained("base"), folder)
    return net.merge_and_unload()

merged("adapter")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM

class Chat:
    def __init__(self, folder):
        self.model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), PeftConfig.from_pretrained(folder + "/v2"))

    def say(self, ids):
        return self.model.generate(input_ids=ids)
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), PeftConfig.from_pretrained("adapter"))
Trainer(model=model).train()  # the same settings, a new adapter
model.eval()
"""
    ),
    Snippet(
        """
import torch
from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), PeftConfig.from_pretrained("adapter"))
outcome = set_peft_model_state_dict(model, torch.load("adapter/adapter_model.bin", weights_only=True))
model.eval()
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4))
model.eval()
"""
    ),
    Snippet(
        """
import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), PeftConfig.from_pretrained("adapter"))
optimizer = torch.optim.AdamW(model.parameters())
model.eval()
"""
    ),
    Snippet(
        """
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM

def fresh(folder):
    return get_peft_model(AutoModelForCausalLM.from_pretrained("base"), PeftConfig.from_pretrained(folder))
"""
    ),
)
