"""A PeftModel is handed to a Trainer of TRL together with a PEFT config.

What this means: the Trainer wraps the model it gets for the config it gets. A model that is a PeftModel already is refused by newer TRL;
older versions merged the first adapter into the base or wrapped it twice. What is saved then fits no plain base.

Why it happens: both ways are in the examples, and each is right by itself.

Detection: `peft_config=` of a Trainer from `trl`, with a `model` that comes from PEFT.

Fix: one of the two. The fix leaves `peft_config` out, so that the adapter that is there is trained.

Workaround: hand over the plain base, and let the Trainer wrap it.

Prevention: wrap in one place.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint import mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.values import Config, Model

RULE = Rule(cause="wrapped-twice")


def check(code: Code) -> Iterator[Hit]:
    """Hits at the making of a Trainer."""
    for call in code.trace.calls("trl.*"):
        model, given = call.value(0, "model"), call.keywords.get("peft_config")
        if not call.name.endswith("Trainer") or given is None or not isinstance(given.value, Config):
            continue
        if isinstance(model, Model) and model.wrapped is True:
            message = (
                "this model has an adapter already, and the Trainer makes one more for peft_config: pass one of the two"
            )
            edit = mend.without_argument(code, call.node, given.node)
            yield Hit(
                call, message, Fix("leave peft_config out", (edit,), UNSAFE) if given.node.keyword is not None else None
            )


_TRAINED = """
from datasets import Dataset
from peft import AutoPeftModelForCausalLM
from trl import SFTConfig

arguments = SFTConfig(output_dir="out", max_steps=1, report_to=[], use_cpu=True, bf16=False, save_strategy="no")
model = AutoPeftModelForCausalLM.from_pretrained("adapter", is_trainable=True)
train(model, args=arguments, train_dataset=Dataset.from_dict({"text": ["a b c"]}))
"""
FIRES = (
    Snippet(
        """
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

data = Dataset.from_dict({"text": ["a b c"]})
arguments = SFTConfig(output_dir="out", max_steps=1, report_to=[], use_cpu=True, bf16=False, save_strategy="no")
config = LoraConfig(r=4, task_type="CAUSAL_LM")
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config)
trainer = SFTTrainer(model, arguments, peft_config=config, train_dataset=data)
trainer.train()
""",
        """
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

data = Dataset.from_dict({"text": ["a b c"]})
arguments = SFTConfig(output_dir="out", max_steps=1, report_to=[], use_cpu=True, bf16=False, save_strategy="no")
config = LoraConfig(r=4, task_type="CAUSAL_LM")
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config)
trainer = SFTTrainer(model, arguments, train_dataset=data)
trainer.train()
""",
        UNSAFE,
        runs=True,
        needs="trl",
    ),
    Snippet(
        """
import trl
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig

data = Dataset.from_dict({"prompt": ["a b"], "chosen": ["c"], "rejected": ["d"]})
trainer = trl.DPOTrainer(
    model=AutoPeftModelForCausalLM.from_pretrained("adapter", is_trainable=True),
    args=trl.DPOConfig(output_dir="out", report_to=[], use_cpu=True, bf16=False),
    train_dataset=data,
    peft_config=LoraConfig(r=4),  # for DPO
)
""",
        """
import trl
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig

data = Dataset.from_dict({"prompt": ["a b"], "chosen": ["c"], "rejected": ["d"]})
trainer = trl.DPOTrainer(
    model=AutoPeftModelForCausalLM.from_pretrained("adapter", is_trainable=True),
    args=trl.DPOConfig(output_dir="out", report_to=[], use_cpu=True, bf16=False),
    train_dataset=data,  # for DPO
)
""",
        UNSAFE,
        runs=True,
        needs="trl",
    ),
    Snippet(
        """
from peft import LoraConfig, PeftModel
from trl.trainer.sft_trainer import SFTTrainer as T

def train(model: PeftModel, **more):
    T(peft_config=LoraConfig(), model=model, **more).train()
""",
        """
from peft import LoraConfig, PeftModel
from trl.trainer.sft_trainer import SFTTrainer as T

def train(model: PeftModel, **more):
    T(model=model, **more).train()
""",
        UNSAFE,
        runs=True,
        then=_TRAINED,
        needs="trl",
    ),
)
SILENT = (
    Snippet(
        """
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

trainer = SFTTrainer(AutoModelForCausalLM.from_pretrained("base"), peft_config=LoraConfig(r=4))
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

trainer = SFTTrainer(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig()), peft_config=None)
"""
    ),
    Snippet(
        """
from peft import LoraConfig, PeftModel
from gym import SFTTrainer

def train(model: PeftModel):
    SFTTrainer(model, peft_config=LoraConfig())
"""
    ),
    Snippet(
        """
from peft import AutoPeftModelForCausalLM, LoraConfig
from trl import DPOTrainer

merged = AutoPeftModelForCausalLM.from_pretrained("sft").merge_and_unload()
DPOTrainer(model=merged, peft_config=LoraConfig())
"""
    ),
)
