"""What loading an adapter gives back is thrown away, and with it the only word on what did not arrive.

What this means: `load_adapter`, `set_peft_model_state_dict` and `load_state_dict(…, strict=False)` give back which tensors of the file had
no place and which places stayed empty. They print no warning about it. A second adapter that does not fit is loaded as zeros or noise.

Why it happens: `PeftModel.from_pretrained` does warn, so one expects the others to.

Detection: `load_adapter` of a PeftModel, or, with weights that were read from a file, `set_peft_model_state_dict` or `load_state_dict`
of a PeftModel with `strict=False`, as a statement of its own. What is copied from model to model in memory is no load.

Fix: keep the result and look at `unexpected_keys` (and, after `load_adapter`, `missing_keys`, where PEFT lists the adapter's own only).

Workaround: `adapterfit check` the adapter against the base beforehand.

Prevention: `adapterfit.load` for the first adapter; a line that looks at the result for any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Constant, Model, Value, Weights

RULE = Rule(severity="warning", cause="loader-drops-keys-silently")
_NAME = "load_result"


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls whose result nothing takes."""
    for call in code.trace.calls("model.load_adapter", "model.load_state_dict", "peft.set_peft_model_state_dict"):
        what = call.name.rpartition(".")[2]
        if call.dropped and _LOADS[what](code, call):
            message = (
                f"{what} does not warn: only its result says which tensors did not arrive, and that is thrown away"
            )
            yield Hit(call, message, _fix(code, call, method=what == "load_adapter"))


def _is_peft(call: Call) -> bool:
    return isinstance(call.receiver, Model) and call.receiver.wrapped is True


def _from_file(value: Value) -> bool:
    return isinstance(value, Weights) and value.of is None and not value.only_adapter


def _is_lenient(code: Code, call: Call) -> bool:
    """`strict=False`, with what a file holds. An adapter's own tensors never arrive this way: another rule says so."""
    weights = call.value(0, "state_dict")
    lenient = call.value(1, "strict") == Constant(False)
    return _is_peft(call) and lenient and _from_file(weights) and facts.adapter_weights(code, weights) is None


_LOADS: dict[str, Callable[[Code, Call], bool]] = {
    "load_adapter": lambda _, call: _is_peft(call),
    "load_state_dict": _is_lenient,
    "set_peft_model_state_dict": lambda _, call: _from_file(call.value(1, "peft_model_state_dict")),
}


def _fix(code: Code, call: Call, *, method: bool) -> Fix | None:
    statement = call.place.statement
    if not isinstance(statement, cst.Expr) or statement.value is not call.node or _NAME in mend.bound(code):
        return None
    keys = f"{_NAME}.missing_keys + {_NAME}.unexpected_keys" if method else f"{_NAME}.unexpected_keys"
    below = mend.line_after(
        code, call.place, f"assert not ({keys}), {_NAME}" if method else f"assert not {keys}, {_NAME}"
    )
    if below is None:
        return None
    start, _ = mend.span(code, call.node)
    return Fix(
        "keep the result and stop where something is left over", (mend.inserted(start, f"{_NAME} = "), below), UNSAFE
    )


FIRES = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model.load_adapter("adapter", adapter_name="second")  # the other one
model.set_adapter("second")
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
load_result = model.load_adapter("adapter", adapter_name="second")  # the other one
assert not (load_result.missing_keys + load_result.unexpected_keys), load_result
model.set_adapter("second")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

def main():
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
    if model is not None:
        set_peft_model_state_dict(
            model,
            load_file("adapter/adapter_model.safetensors"),
        )

main()
""",
        """
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

def main():
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
    if model is not None:
        load_result = set_peft_model_state_dict(
            model,
            load_file("adapter/adapter_model.safetensors"),
        )
        assert not load_result.unexpected_keys, load_result

main()
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
torch.save({name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}, "best.pt")
model.load_state_dict(torch.load("best.pt", weights_only=True), strict=False)
""",
        """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
torch.save({name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}, "best.pt")
load_result = model.load_state_dict(torch.load("best.pt", weights_only=True), strict=False)
assert not load_result.unexpected_keys, load_result
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("adapter")
_ = model.load_adapter("other", "other")
model.set_adapter("other")
"""
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import PeftModel, set_peft_model_state_dict

def restore(model: PeftModel, best, path):
    model.load_state_dict(best, strict=False)  # whatever best is
    set_peft_model_state_dict(model, best)
    model.load_state_dict(torch.load(path, weights_only=True))  # strict: it raises by itself
    model.load_state_dict({name: tensor for name, tensor in model.state_dict().items()}, strict=False)  # its own
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
outcome = model.load_adapter("adapter", adapter_name="second")
assert not outcome.unexpected_keys
model.set_adapter("second")
"""
    ),
    Snippet(
        """
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

def follow(teacher: PeftModel, student: PeftModel, rate):
    state = {name: tensor * rate for name, tensor in get_peft_model_state_dict(student).items()}
    set_peft_model_state_dict(teacher, state)  # in memory: nothing is loaded
"""
    ),
    Snippet(
        """
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
model.load_adapter("adapter")  # transformers' own, which prints a report
"""
    ),
    Snippet(
        """
from network import get_peft_model

switch = get_peft_model("ethernet")
switch.load_adapter("eth0")
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

def restore(model, weights):
    return set_peft_model_state_dict(model, weights)
"""
    ),
)
