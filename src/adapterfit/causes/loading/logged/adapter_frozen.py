"""The adapter was loaded for inference: none of its numbers can be trained.

What this means: every parameter of the model is frozen, the adapter's too. The loss hangs on nothing that learns, and the first
`backward` raises "element 0 of tensors does not require grad"; or the optimizer is refused before, because it gets no parameters.

Why it happens: `PeftModel.from_pretrained` and `load_adapter` load for inference unless they are told otherwise. A saved
adapter_config.json says `"inference_mode": true`, so `get_peft_model(model, PeftConfig.from_pretrained(...))` freezes a new adapter
as well. A merged or switched-off adapter leaves the frozen base alone, and an adapter that is not the active one takes no part.

Detection: `model.print_trainable_parameters()` says 0; `model.active_adapters` names another adapter.

Fix: `PeftModel.from_pretrained(base, adapter, is_trainable=True)`, or `model.load_adapter(adapter, name, is_trainable=True)` and then
`model.set_adapter(name)`.

Workaround: set `requires_grad = True` on the parameters whose name holds the adapter's own letters (`lora_`), before the optimizer is made.

Prevention: print the number of trainable parameters before every training, and stop at 0.

Broken:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    torch.optim.AdamW([one for one in model.parameters() if one.requires_grad])
    # raises ValueError: optimizer got an empty parameter list
    model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
    # raises RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn
    again = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), PeftConfig.from_pretrained("adapter"))
    again.get_nb_trainable_parameters()[0]  # -> 0

Fixed:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", is_trainable=True)
    as_trained(model)  # -> True
    model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
    sum(one.grad is not None for one in model.parameters())  # -> 8
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.gradient import TRAINABLE, read_gradient
from adapterfit.causes.heard import suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="beginner",
    minutes=2,
    messages=(
        "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
        "ValueError: optimizer got an empty parameter list",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = ("is_trainable", "trainable params: 0", "continue training")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: nothing has a gradient, and the text tells that nothing is trainable, or how the adapter was loaded."""
    told = read_gradient(symptoms)
    if told is None or not told.frozen:
        return
    yield suspect(
        symptoms, "nothing in the model can be trained: the adapter was loaded for inference", told.frozen, (*told.lines, *told.frozen_lines),
        fix="PeftModel.from_pretrained(base, adapter, is_trainable=True); for a second adapter load_adapter(..., is_trainable=True), then set_adapter",
        apart=TRAINABLE,
    )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Nothing trainable is told, or the call that loads; a training with parameters is checkpointing's."""
    raised = "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
    return {
        "fires": [
            "The trainer freezes my LoRA adapter when the PEFT model is handed over: grad_norm stays 0.",
            f"trainable params: 0 || all params: 792,587,264 || trainable%: 0.0\n{raised}",
            f"model = PeftModel.from_pretrained(model, 'out/checkpoint-100')\ntrainer.train()\n{raised}",
            "model = PeftModel.from_pretrained(base, 'adapter')\nValueError: optimizer got an empty parameter list",
        ],
        "silent": [
            f"trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.06\nUserWarning: None of the inputs have requires_grad=True. Gradients will be None\n{raised}",
            'Traceback (most recent call last):\n  File "run.py", line 3, in <module>\n    SGD([])\nValueError: optimizer got an empty parameter list',
        ],
    }
