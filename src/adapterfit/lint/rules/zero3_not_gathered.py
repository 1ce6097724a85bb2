"""An adapter is saved under DeepSpeed ZeRO-3 without gathering its parameters.

What this means: with ZeRO stage 3 every process holds a part of each parameter, and what the model shows are empty tensors. Saved as
they are, the adapter's tensors have the shape [0]: loading raises `size mismatch … torch.Size([0])`, or fills nothing.

Why it happens: with stage 2 the same line writes a whole adapter.

Detection: `save_pretrained` of a PeftModel that goes into `deepspeed.initialize`, or into a Trainer, with a config whose `zero_optimization`
has `stage` 3 (a dict in the code, or a JSON file at a literal path), outside of `GatheredParameters` and without `state_dict=`.

Fix: `trainer.save_model(folder)` with `stage3_gather_16bit_weights_on_model_save`; or save inside
`deepspeed.zero.GatheredParameters(model.parameters())`. It is not mended: who must gather, and where, depends on the launch.

Workaround: `zero_to_fp32.py` on a checkpoint of the same run.

Prevention: `adapterfit.save`, which refuses partitioned tensors; newer PEFT refuses them too.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint import facts
from adapterfit.lint.rule import Code, Hit, Rule, Snippet
from adapterfit.lint.trace import Call, follows
from adapterfit.lint.values import Constant, Model, Object, Table, Value

RULE = Rule(cause="zero3-empty-weights")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `save_pretrained`."""
    split = list(_split(code))
    for call in code.trace.calls("model.save_pretrained"):
        model = call.receiver
        gathered = "state_dict" in call.keywords or "deepspeed.GatheredParameters" in call.place.within
        if gathered or not call.whole or not isinstance(model, Model) or model.wrapped is not True:
            continue
        if any(follows(event, call) and facts.same(value, model) for event, value in split):
            yield Hit(
                call,
                "under ZeRO-3 each process holds parts only: this writes empty tensors; gather the parameters first",
            )


def _split(code: Code) -> Iterator[tuple[Call, Value]]:
    """The calls from which on a model is split, and that model."""
    for call in code.trace.calls("deepspeed.initialize"):
        config = call.value(None, "config") if "config" in call.keywords else call.value(None, "config_params")
        if _is_stage_3(code, config):
            yield call, call.value(1, "model")
    for call in code.trace.calls("transformers.*", "trl.*"):
        if call.name.endswith("Trainer.train") and isinstance(call.receiver, Object):
            arguments = call.receiver.arguments.get("args")
            if isinstance(arguments, Object) and _is_stage_3(code, arguments.arguments.get("deepspeed")):
                yield call, call.receiver.arguments.get("model")


def _is_stage_3(code: Code, config: Value) -> bool:
    if isinstance(config, Table):
        part = config.get("zero_optimization")
        return isinstance(part, Table) and part.get("stage") == Constant(3)
    found = code.disk.json(config)
    section = found.get("zero_optimization") if isinstance(found, dict) else None
    return isinstance(section, dict) and section.get("stage") == 3


_STAGE_3 = '{"zero_optimization": {"stage": 3}}'
FIRES = (
    Snippet(
        """
import deepspeed
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

CONFIG = {"train_batch_size": 1, "zero_optimization": {"stage": 3}}
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
engine, optimizer, _, _ = deepspeed.initialize(model=model, config=CONFIG)
engine.module.save_pretrained("out")
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
trainer = Trainer(model=model, args=TrainingArguments(output_dir="out", deepspeed="ds.json"))
trainer.train()
trainer.model.save_pretrained("out")
""",
        files={"ds.json": _STAGE_3},
    ),
    Snippet(
        """
import deepspeed as ds
from peft import PeftModel

def run(model: PeftModel):
    engine = ds.initialize(model=model, config=dict(zero_optimization=dict(stage=3)))[0]
    model.save_pretrained("out")
"""
    ),
)
SILENT = (
    Snippet(
        """
import deepspeed
from peft import PeftModel

def run(model: PeftModel):
    engine, *_ = deepspeed.initialize(model=model, config={"zero_optimization": {"stage": 2}})
    model.save_pretrained("out")
"""
    ),
    Snippet(
        """
import deepspeed
from peft import PeftModel

def run(model: PeftModel):
    deepspeed.initialize(model=model, config={"zero_optimization": {"stage": 3}})
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        model.save_pretrained("out")
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import Trainer, TrainingArguments

def run(model: PeftModel):
    trainer = Trainer(model=model, args=TrainingArguments("out", deepspeed="ds.json"))
    trainer.train()
    trainer.save_model("out")
""",
        files={"ds.json": _STAGE_3},
    ),
    Snippet(
        """
import deepspeed
from peft import PeftModel

def run(model: PeftModel, gathered):
    deepspeed.initialize(model=model, config={"zero_optimization": {"stage": 3}})
    model.save_pretrained("out", state_dict=gathered)
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import Trainer, TrainingArguments

def run(model: PeftModel, ds="elsewhere/ds.json"):
    trainer = Trainer(model=model, args=TrainingArguments("out", deepspeed=ds))
    trainer.train()
    model.save_pretrained("out")
"""
    ),
)
