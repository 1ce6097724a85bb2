"""What several rules ask of a script."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import mend, texts
from adapterfit.lint.rule import Code
from adapterfit.lint.trace import Argument, Call, Event, Read, follows
from adapterfit.lint.tree import dotted
from adapterfit.lint.values import Config, Constant, Model, Named, Text, Value, Weights

LOADERS = ("peft.PeftModel.from_pretrained", "peft.PeftModelFor*", "peft.PeftMixedModel.from_pretrained")
WRITERS = ("torch.save", "safetensors.save_file", "accelerate.Accelerator.save")


def loads(code: Code) -> Iterator[Call]:
    """Calls of `PeftModel.from_pretrained` and of its subclasses'."""
    return (call for call in code.trace.calls(*LOADERS) if call.name.endswith(".from_pretrained"))


def wraps(code: Code) -> Iterator[Call]:
    """Calls that put PEFT around a model, with a new adapter or one from files."""
    names = ("peft.get_peft_model", "peft.PeftModel", "peft.PeftMixedModel", "peft.PeftModelFor*", *LOADERS)
    calls = code.trace.calls(*names)
    return (call for call in calls if call.name.count(".") == 1 or call.name.endswith(".from_pretrained"))


def is_adapter(code: Code, path: Value) -> bool:
    """Whether a path is that of an adapter's weights: by PEFT's name for them, or by the config that lies beside."""
    if texts.is_adapter_file(path):
        return True
    is_file = texts.file_name(path).endswith((".bin", ".safetensors", ".pt", ".pth"))
    return is_file and code.disk.is_adapter(path)


def adapter_weights(code: Code, value: Value) -> Weights | None:
    """An adapter's state dict with the names that its file has, None for any other value."""
    if not isinstance(value, Weights) or value.changed:
        return None
    return value if value.only_adapter or is_adapter(code, value.path) else None


def same(one: Value, two: Value) -> bool:
    """Whether two values are, for sure, one model or share its weights."""
    return isinstance(one, Model) and isinstance(two, Model) and bool(one.family & two.family)


def after(code: Code, event: Event, *names: str) -> Iterator[Call]:
    """The calls of these names that can come after an event."""
    return (call for call in code.trace.calls(*names) if follows(event, call))


def reads_after(code: Code, event: Event, model: Model) -> Iterator[Read]:
    """The uses of exactly this object that can come after an event."""
    return (read for read in code.trace.reads(model) if follows(event, read))


def written(call: Call) -> Value:
    """What one of `WRITERS` writes."""
    return call.value(0, "tensors" if call.name == "safetensors.save_file" else "obj")


def is_true(value: Value) -> bool:
    """Whether a value is the constant True."""
    return value == Constant(True)


def task(code: Code, call: Call) -> str:
    """The task of the adapter that a call puts on a model: from the class, the config in the code, or the one on disk."""
    head = call.name.split(".")[1]
    if head.startswith("PeftModelFor"):
        return _CLASS_TASKS.get(head, "")
    config = call.value(1, "peft_config") if call.name == "peft.get_peft_model" else call.value(4, "config")
    if isinstance(config, Config) and not config.from_file:
        value = config.fields.get("task_type")
        named = value.name.rpartition(".")[2] if isinstance(value, Named) else ""
        return (value.exact or "") if isinstance(value, Text) else named
    on_disk = code.disk.config(config.path if isinstance(config, Config) else call.value(1, "model_id"))
    told = on_disk.raw.get("task_type") if on_disk is not None else None
    return told if isinstance(told, str) else ""


_CLASS_TASKS = {
    "PeftModelForCausalLM": "CAUSAL_LM",
    "PeftModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "PeftModelForSequenceClassification": "SEQ_CLS",
    "PeftModelForTokenClassification": "TOKEN_CLS",
    "PeftModelForQuestionAnswering": "QUESTION_ANS",
}


def source_argument(code: Code, weights: Weights) -> Argument | None:
    """The path that a state dict was read from, as an argument."""
    call = code.trace.call_of(weights.origin)
    if call is None:
        return None
    return call.argument(0, "f" if call.name == "torch.load" else "filename")


def folder_of(code: Code, argument: Argument) -> str:
    """The folder of a file, as code; empty where it cannot be told from how the path is written."""
    node, value = argument.node.value, argument.value
    if isinstance(node, cst.SimpleString) and isinstance(value, Text) and value.exact is not None:
        folder = value.exact.replace("\\", "/").rpartition("/")[0]
        return quoted(node, folder or ".")
    if isinstance(node, cst.Call) and dotted(node.func).endswith(("path.join", "hf_hub_download")):
        plain = len(node.args) == 2 and not any(arg.star or arg.keyword for arg in node.args)
        return mend.text(code, node.args[0].value) if plain else ""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Divide):
        return mend.text(code, node.left)
    if isinstance(node, cst.FormattedString) and len(node.parts) == 2:
        first, last = node.parts
        plain = (
            isinstance(first, cst.FormattedStringExpression) and first.conversion is None and first.format_spec is None
        )
        if plain and isinstance(last, cst.FormattedStringText) and last.value.count("/") == 1 and last.value[0] == "/":
            assert isinstance(first, cst.FormattedStringExpression)
            return mend.text(code, first.expression)
    return ""


def quoted(like: cst.CSTNode, text: str) -> str:
    """A string as code, in the quotes that `like` has."""
    quote = "'" if isinstance(like, cst.SimpleString) and like.quote == "'" else '"'
    plain = text.isprintable() and "\\" not in text and quote not in text
    return f"{quote}{text}{quote}" if plain else repr(text)
