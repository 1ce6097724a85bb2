"""The base is loaded without its head, and the adapter was trained with one.

What this means: `AutoModel` leaves the head away, and with it one level of names: `layers.0.…` instead of `model.layers.0.…`. An adapter
that was trained on `AutoModelForCausalLM` meets no name of it. PEFT warns about missing keys and loads nothing; where the names do
meet, the model still has no logits to give.

Why it happens: `AutoModel` is the shortest name, and loading the base works with it.

Detection: a model from `AutoModel.from_pretrained` is wrapped for a task that needs a head. The task is known from the class
(`PeftModelForCausalLM`), from `task_type` of a config in the code, or from the `adapter_config.json` at a literal path. With `trust_remote_code` the class is the
repository's own and may have a head; nothing is said then.

Fix: the class for that task: `AutoModelForCausalLM`, `AutoModelForSequenceClassification`, …

Workaround: none that is simpler; renaming the adapter's keys costs more.

Prevention: load with `AutoPeftModelForCausalLM` and its like, which take the right class by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.values import Constant, Model

RULE = Rule(cause="model-class-differs")
_HEADS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that wrap a model without a head."""
    for call in facts.wraps(code):
        model = call.value(0, "model")
        bare = model.bare if isinstance(model, Model) else None
        head = _HEADS.get(facts.task(code, call))
        if (
            head
            and bare is not None
            and bare.wrapped is False
            and bare.class_name == "AutoModel"
            and not _own_code(code, bare)
        ):
            message = f"AutoModel has no head and other names than {head}, which this adapter's task needs: its tensors meet nothing"
            yield Hit(call, message, _fix(code, bare, head))


def _own_code(code: Code, model: Model) -> bool:
    """Whether the class may be the repository's own, which has a head where its author gave it one (ChatGLM's has)."""
    made = code.trace.call_of(model.origin)
    if made is None or not made.whole:
        return True
    given = made.keywords.get("trust_remote_code")
    return given is not None and given.value != Constant(False)


def _fix(code: Code, model: Model, head: str) -> Fix | None:
    func = model.origin.func if model.origin is not None else None
    if not isinstance(func, cst.Attribute) or not isinstance(func.value, (cst.Name, cst.Attribute)):
        return None
    if isinstance(func.value, cst.Attribute):  # transformers.AutoModel
        return Fix(f"load it as {head}", (mend.replaced(code, func.value.attr, head),), UNSAFE)
    found = mend.name_of(code, f"transformers.{head}")
    if found is None:
        return None
    name, imports = found
    return Fix(f"load it as {head}", (*imports, mend.replaced(code, func.value, name)), UNSAFE)


FIRES = (
    Snippet(
        """
from peft import PeftModelForCausalLM
from transformers import AutoModel, AutoTokenizer

base = AutoModel.from_pretrained("base", device_map=None)  # in one piece
model = PeftModelForCausalLM.from_pretrained(base, "adapter")
""",
        """
from peft import PeftModelForCausalLM
from transformers import AutoModel, AutoTokenizer, AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base", device_map=None)  # in one piece
model = PeftModelForCausalLM.from_pretrained(base, "adapter")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import transformers
from peft import LoraConfig, TaskType, get_peft_model

config = LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["q_proj"])
model = get_peft_model(transformers.AutoModel.from_pretrained("base").to("cpu"), config)
""",
        """
import transformers
from peft import LoraConfig, TaskType, get_peft_model

config = LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["q_proj"])
model = get_peft_model(transformers.AutoModelForSequenceClassification.from_pretrained("base").to("cpu"), config)
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModel

def load(path="summary"):
    return PeftModel.from_pretrained(AutoModel.from_pretrained("t5"), path)
""",
        """
from peft import PeftModel
from transformers import AutoModel, AutoModelForSeq2SeqLM

def load(path="summary"):
    return PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained("t5"), path)
""",
        UNSAFE,
        files={"summary/adapter_config.json": '{"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM"}'},
        runs=True,
        then="load()\n",
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

model = get_peft_model(AutoModel.from_pretrained("base"), peft_config=LoraConfig(task_type="TOKEN_CLS"))
""",
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForTokenClassification

model = get_peft_model(AutoModelForTokenClassification.from_pretrained("base"), peft_config=LoraConfig(task_type="TOKEN_CLS"))
""",
        UNSAFE,
        runs=True,
    ),
)
SILENT = (
    Snippet(
        """
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModel

model = get_peft_model(AutoModel.from_pretrained("base"), LoraConfig(task_type=TaskType.FEATURE_EXTRACTION))
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModel

model = PeftModel.from_pretrained(AutoModel.from_pretrained("base"), "tuned")
""",
        files={"tuned/adapter_config.json": '{"peft_type": "LORA", "task_type": null}'},
    ),
    Snippet(
        """
from modelscope import AutoModel
from peft import PeftModelForCausalLM

model = PeftModelForCausalLM.from_pretrained(AutoModel.from_pretrained("base"), "adapter")
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModel

base = AutoModel.from_pretrained("base")
model = PeftModel.from_pretrained(base, "someone/lora")  # its task is not known here
"""
    ),
    Snippet(
        """
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModel

chatglm = AutoModel.from_pretrained("chatglm", trust_remote_code=True)  # its own class, with a head
model = get_peft_model(chatglm, LoraConfig(task_type=TaskType.CAUSAL_LM))
"""
    ),
)
