"""Gradient checkpointing cuts the adapter off: the inputs of the first layer need no gradient.

What this means: the adapter is trainable, and still no gradient reaches it. `backward` raises "element 0 of tensors does not require
grad"; where only some layers are checkpointed, or the adapter also sits elsewhere, it trains in part and nobody says so.

Why it happens: the reentrant kind of checkpointing follows gradients only where an input of the stretch has one. The base's
embeddings are frozen, so the first layer's input has none. `enable_input_require_grads` gives it one; PEFT calls it by itself
where checkpointing is on before the adapter is added (and newer transformers where it is turned on afterwards), own loops and
older libraries do not.

Detection: torch's warning "None of the inputs have requires_grad=True", or the error, with a number of trainable parameters above 0
and `gradient_checkpointing` in the arguments.

Fix: `model.enable_input_require_grads()` before the training; or `gradient_checkpointing_kwargs={"use_reentrant": False}`, whose
kind of checkpointing does not need it.

Workaround: train without gradient checkpointing, with a smaller batch.

Prevention: after the first step, look whether each `lora_B` has a gradient.

With:
    peft==0.3.0
    transformers==4.28.1
    tokenizers==0.13.3
    huggingface_hub==0.36.2

Setup:
    LlamaForCausalLM(llama(num_key_value_heads=4)).save_pretrained("base")  # grouped heads came with transformers 4.31
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))

Broken:
    # with peft 0.3
    from peft import LoraConfig, get_peft_model
    base = AutoModelForCausalLM.from_pretrained("base")
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    lora = get_peft_model(base, config)
    base.gradient_checkpointing_enable()
    tokens = torch.tensor([[1, 10, 20, 30]])
    lora.train()(input_ids=tokens, labels=tokens).loss.backward()
    # raises RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    base.enable_input_require_grads()
    model = get_peft_model(base, LoraConfig(**OPTIONS))
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
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
    level="intermediate",
    minutes=5,
    messages=(
        "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
        "UserWarning: None of the inputs have requires_grad=True. Gradients will be None",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = ("enable_input_require_grads", "gradient_checkpointing", "use_reentrant")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: nothing has a gradient although parameters are trainable, or checkpointing warns of it."""
    told = read_gradient(symptoms)
    if told is None or not told.cut:
        return
    yield suspect(
        symptoms, "gradient checkpointing gives the adapter no gradient: the first layer's input needs none", told.cut, (*told.lines, *told.cut_lines),
        fix='model.enable_input_require_grads() before training, or gradient_checkpointing_kwargs={"use_reentrant": False}',
        apart=TRAINABLE,
    )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The warning, or checkpointing told; nothing trainable is another cause, and so is a text that speaks of no adapter."""
    raised = "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
    return {
        "fires": [
            f"LoRA training\ntorch/utils/checkpoint.py:31: UserWarning: None of the inputs have requires_grad=True. Gradients will be None\n{raised}",
            f"--lora_r 8 --gradient_checkpointing True\n{raised}",
            f"trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.06\nusing peft\n{raised}",
        ],
        "silent": [
            f"trainable params: 0 || all params: 792,587,264 || trainable%: 0.0\n{raised}",
            raised,
        ],
    }
