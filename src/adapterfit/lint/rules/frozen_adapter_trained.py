"""A saved adapter is trained on without `is_trainable=True`, so it is frozen.

What this means: `PeftModel.from_pretrained` loads for inference: none of the adapter's parameters takes a gradient. Training then raises
`element 0 of tensors does not require grad`; with gradient checkpointing it may run and change nothing.

Why it happens: `get_peft_model` gives a model that can be trained, and one expects the same here.

Detection: a model from `PeftModel.from_pretrained` or `AutoPeftModel….from_pretrained` without `is_trainable` is handed to a Trainer whose
`train` is called. A script is passed over that sets `requires_grad` anywhere, in a Trainer or a callback of its own, or that hands the
model to a function which is not in it.

Fix: `is_trainable=True`. It is safe: as it stands, no training happens.

Workaround: `model.requires_grad_`-loops over the adapter's parameters.

Prevention: look at `model.print_trainable_parameters()` before a long run.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import SAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call, Read, follows
from adapterfit.lint.tree import walk
from adapterfit.lint.values import Model, Object

RULE = Rule(cause="")
#: What may make parameters trainable, or bring others that are.
_THAWS = frozenset(
    {"requires_grad_", "parameters", "named_parameters", "modules", "named_modules", "add_adapter", "load_adapter", "set_adapter",
     "set_requires_grad", "base_model", "unload", "merge_and_unload"}
)  # fmt: skip


#: Whose functions leave alone what is handed to them, and the script's own, which are followed.
_KNOWN = ("builtins.", "transformers.", "peft.", "trl.", "torch.", "accelerate.", "local", "model")


def check(code: Code) -> Iterator[Hit]:
    """Hits at the call that loads the adapter."""
    if _sets_gradients(code.script.module):
        return
    for call in code.trace.calls("transformers.*", "trl.*"):
        trainer = call.receiver
        if not call.name.endswith("Trainer.train") or not isinstance(trainer, Object):
            continue
        model = trainer.arguments.get("model")
        load = code.trace.call_of(model.origin) if isinstance(model, Model) and model.trainable is False else None
        if not isinstance(model, Model) or model.wrapped is not True or model.outer or load is None:
            continue
        if "peft_config" not in trainer.arguments.entries and not (
            _thawed(code, load, model) or _handed_out(code, load, model)
        ):
            message = "loaded for inference: no parameter of this adapter takes a gradient, so the training below raises or changes nothing"
            yield Hit(load, message, _fix(code, load))


def _thawed(code: Code, load: Call, model: Model) -> bool:
    later = (event for event in code.trace.events if isinstance(event, Read) and follows(load, event))
    reads = (event for event in later if facts.same(event.model, model))
    return any(read.attribute in _THAWS for read in reads)


def _handed_out(code: Code, load: Call, model: Model) -> bool:
    """Whether something that is not known gets the model: it may make it trainable."""
    later = (event for event in code.trace.events if isinstance(event, Call) and follows(load, event))
    calls = (event for event in later if not event.name.startswith(_KNOWN))
    return any(
        facts.same(given.value, model) for call in calls for given in (*call.positional, *call.keywords.values())
    )


def _sets_gradients(module: cst.Module) -> bool:
    """Whether anything in the script makes parameters trainable: methods of a Trainer or a callback run at times unknown."""
    return any(_makes_trainable(part) for part in walk(module))


def _makes_trainable(part: cst.CSTNode) -> bool:
    """`x.requires_grad_()`, or `x.requires_grad = ...`, of anything but False."""
    if isinstance(part, cst.Call) and isinstance(part.func, cst.Attribute):
        return part.func.attr.value == "requires_grad_" and not (part.args and _is_false(part.args[0].value))
    if not isinstance(part, cst.Assign) or _is_false(part.value):
        return False
    targets = [target.target for target in part.targets]
    return any(isinstance(one, cst.Attribute) and one.attr.value == "requires_grad" for one in targets)


def _is_false(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name) and node.value == "False"


def _fix(code: Code, load: Call) -> Fix | None:
    edits = (
        mend.with_keyword(code, load.node, "is_trainable", "True") if load.argument(3, "is_trainable") is None else ()
    )
    return Fix("load it to be trained", edits, SAFE) if edits else None


FIRES = (
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

data = [{"input_ids": torch.ones(3, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)}]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")  # go on
arguments = TrainingArguments(output_dir="out", max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
Trainer(model=model, args=arguments, train_dataset=data).train()
""",
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

data = [{"input_ids": torch.ones(3, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)}]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", is_trainable=True)  # go on
arguments = TrainingArguments(output_dir="out", max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
Trainer(model=model, args=arguments, train_dataset=data).train()
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import AutoPeftModelForSeq2SeqLM as Auto
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

data = [{"input_ids": torch.ones(3, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)}]
arguments = Seq2SeqTrainingArguments(output_dir="out", max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
trainer = Seq2SeqTrainer(Auto.from_pretrained("summary"), arguments, train_dataset=data)
trainer.train(resume_from_checkpoint=False)
""",
        """
import torch
from peft import AutoPeftModelForSeq2SeqLM as Auto
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

data = [{"input_ids": torch.ones(3, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)}]
arguments = Seq2SeqTrainingArguments(output_dir="out", max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
trainer = Seq2SeqTrainer(Auto.from_pretrained("summary", is_trainable=True), arguments, train_dataset=data)
trainer.train(resume_from_checkpoint=False)
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class Logging(Trainer):
    def log(self, logs, *rest):
        print(self.model, logs)

data = [{"input_ids": torch.ones(3, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)}]
arguments = TrainingArguments(output_dir="out", max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
base = AutoModelForCausalLM.from_pretrained("base")
base.requires_grad_(False)
model = PeftModel.from_pretrained(base, "adapter")
print(model)
Logging(model=model, args=arguments, train_dataset=data).train()
""",
        """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class Logging(Trainer):
    def log(self, logs, *rest):
        print(self.model, logs)

data = [{"input_ids": torch.ones(3, dtype=torch.long), "labels": torch.ones(3, dtype=torch.long)}]
arguments = TrainingArguments(output_dir="out", max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
base = AutoModelForCausalLM.from_pretrained("base")
base.requires_grad_(False)
model = PeftModel.from_pretrained(base, "adapter", is_trainable=True)
print(model)
Logging(model=model, args=arguments, train_dataset=data).train()
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

model = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained("base"),
    "adapter",
    is_trainable=False
)
SFTTrainer(model=model).train()
""",
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

class Thawing(Trainer):
    def create_optimizer(self):
        for name, parameter in self.model.named_parameters():
            if "lora_" in name:
                parameter.requires_grad = True
        return super().create_optimizer()

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
Thawing(model=model).train()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback

class Thaw(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **rest):
        for parameter in model.parameters():
            parameter.requires_grad_()

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
Trainer(model=model, callbacks=[Thaw()]).train()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

from training.tools import make_trainable

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
make_trainable(model)
Trainer(model=model).train()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", is_trainable=True)
Trainer(model=model).train()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
Trainer(model=model).evaluate()
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
for name, parameter in model.named_parameters():
    parameter.requires_grad = "lora_" in name
Trainer(model=model).train()
"""
    ),
    Snippet(
        """
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, Trainer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model.add_adapter("second", LoraConfig())
Trainer(model=model).train()
"""
    ),
    Snippet(
        """
from peft import PeftModel

def train(base, folder, **options):
    model = PeftModel.from_pretrained(base, folder, **options)
    return Trainer(model=model).train()
"""
    ),
)
