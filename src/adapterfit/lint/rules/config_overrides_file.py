"""A saved adapter is loaded with a config from the code, instead of its own.

What this means: `PeftModel.from_pretrained(…, config=…)` uses that config and does not read the adapter's. Another `lora_alpha` scales the
adapter differently, without a word; another rank or other targets raise or leave tensors out.

Why it happens: the training script has the config at hand, and passing it looks more careful.

Detection: `config=` of `PeftModel.from_pretrained` is a config made in the code, not one read by `from_pretrained`.

Fix: leave it out; the adapter's own config is read then.

Workaround: read it, change it, pass it: `config = PeftConfig.from_pretrained(folder)`.

Prevention: keep a config with the adapter it belongs to, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.values import Config

RULE = Rule(severity="warning", cause="config-edited")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `PeftModel.from_pretrained`."""
    for call in facts.loads(code):
        given = call.argument(4, "config")
        if given is not None and isinstance(given.value, Config) and not given.value.from_file:
            message = "with config= the adapter's own config is not read: where they differ, it is scaled or placed differently, in silence"
            named = given.node.keyword is not None
            fix = (
                Fix("read the adapter's own config", (mend.without_argument(code, call.node, given.node),), UNSAFE)
                if named
                else None
            )
            yield Hit(call, message, fix)


FIRES = (
    Snippet(
        """
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj"])
model = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained("base"),
    "adapter",
    config=config,
)
""",
        """
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

config = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj"])
model = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained("base"),
    "adapter",
)
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import peft, transformers

base = transformers.AutoModelForCausalLM.from_pretrained("base")
model = peft.PeftModelForCausalLM.from_pretrained(base, "adapter", config=peft.LoraConfig(r=4), is_trainable=True)
""",
        """
import peft, transformers

base = transformers.AutoModelForCausalLM.from_pretrained("base")
model = peft.PeftModelForCausalLM.from_pretrained(base, "adapter", is_trainable=True)
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import IA3Config, PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", "default", False, IA3Config())
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM

config = PeftConfig.from_pretrained("adapter")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", config=config)
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM

settings = AutoConfig.from_pretrained("base")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base", config=settings), "adapter")
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), peft_config=LoraConfig())
"""
    ),
    Snippet(
        """
from peft import PeftModel

def load(base, folder, config=None):
    return PeftModel.from_pretrained(base, folder, config=config)
"""
    ),
)
