"""The vocabulary is resized after the adapter was loaded, instead of before.

What this means: an adapter trained with more tokens holds embeddings with more rows. Loaded into the base as it is, PEFT raises `size
mismatch for …embed_tokens…`; where it holds no embeddings, what is resized afterwards are layers that PEFT may already have wrapped.

Why it happens: in training scripts the order does not show, since there the adapter is new.

Detection: `resize_token_embeddings` on a model whose adapter came from files, or on the base it was put around, after that.

Fix: resize first, then load.

Workaround: none.

Prevention: load in the order of training: base, tokens, resize, adapter. `adapterfit check` says how many rows the adapter has.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call, follows
from adapterfit.lint.tree import dotted, walk

RULE = Rule(cause="vocabulary-grown")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `resize_token_embeddings`."""
    for call in code.trace.calls("model.resize_token_embeddings"):
        loads = [load for load in facts.loads(code) if follows(load, call) and facts.same(load.result, call.receiver)]
        first = (
            any(facts.same(other.receiver, call.receiver) and other.at < loads[0].at for other in _resizes(code))
            if loads
            else True
        )
        if not first and not _merged(code, loads[-1], call):
            message = "the adapter was loaded before this: if its embeddings have the new size, loading already failed; resize first"
            yield Hit(call, message, _fix(code, loads[-1], call))


def _merged(code: Code, load: Call, call: Call) -> bool:
    """Whether the adapter was taken in or out in between: then it is the plain model that gets another size."""
    ends = code.trace.calls("model.merge_and_unload", "model.unload")
    return any(follows(load, end) and follows(end, call) and facts.same(end.receiver, call.receiver) for end in ends)


def _resizes(code: Code) -> Iterator[Call]:
    return code.trace.calls("model.resize_token_embeddings")


def _fix(code: Code, load: Call, call: Call) -> Fix | None:
    """Swap the two where one directly follows the other."""
    block, upper = call.place.block, load.place.line
    base, receiver = load.argument(0, "model"), call.node.func
    if (
        upper is None
        or load.place.block != block
        or call.place.line not in block
        or not isinstance(receiver, cst.Attribute)
    ):
        return None
    if (
        block.index(call.place.line) != block.index(upper) + 1
        or base is None
        or not isinstance(base.node.value, cst.Name)
    ):
        return None
    if not isinstance(call.place.statement, cst.Expr) or not isinstance(receiver.value, cst.Name):
        return None
    if not _only_names(call.node, {receiver.value}, _bound(load)):
        return None
    edits = mend.moved_above(code, call.place, upper, {receiver.value: base.node.value.value})
    return Fix("resize before loading", edits, UNSAFE) if edits else None


def _bound(load: Call) -> set[str]:
    statement = load.place.statement
    return {dotted(target.target) for target in statement.targets} if isinstance(statement, cst.Assign) else {""}


def _only_names(node: cst.Call, apart: set[cst.Name], forbidden: set[str]) -> bool:
    """Whether the arguments use nothing that the line above binds."""
    names = (part for arg in node.args for part in walk(arg) if isinstance(part, cst.Name) and part not in apart)
    return "" not in forbidden and not any(name.value in forbidden for name in names)


FIRES = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

tokens = 40
model = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(model, "adapter")  # tuned
model.resize_token_embeddings(tokens)
model.eval()
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

tokens = 40
model = AutoModelForCausalLM.from_pretrained("base")
model.resize_token_embeddings(tokens)
model = PeftModel.from_pretrained(model, "adapter")  # tuned
model.eval()
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

def load(tokenizer):
    base = AutoModelForCausalLM.from_pretrained("base")
    tuned = PeftModel.from_pretrained(base, "adapter")
    tuned.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=8)  # as in training
    return tuned

load(range(40))
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

def load(tokenizer):
    base = AutoModelForCausalLM.from_pretrained("base")
    base.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=8)  # as in training
    tuned = PeftModel.from_pretrained(base, "adapter")
    return tuned

load(range(40))
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(base, "adapter")
tokenizer = AutoTokenizer.from_pretrained("adapter")
base.resize_token_embeddings(len(tokenizer))
"""
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("base")
model.resize_token_embeddings(len(AutoTokenizer.from_pretrained("adapter")))
model = PeftModel.from_pretrained(model, "adapter")
"""
    ),
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig())
model.resize_token_embeddings(32001)  # a new adapter: nothing was loaded
"""
    ),
    Snippet(
        """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
if len(sys.argv) > 1:
    model = PeftModel.from_pretrained(model, sys.argv[1])
else:
    model.resize_token_embeddings(32001)
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
other = AutoModelForCausalLM.from_pretrained("base")
other.resize_token_embeddings(32001)
"""
    ),
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model = model.merge_and_unload()
model.resize_token_embeddings(32064)  # padded for a server
"""
    ),
)
