"""What well-known calls give back: models, state dicts, configs, paths, and things that hold them."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable

from adapterfit.lint import texts
from adapterfit.lint.trace import Call
from adapterfit.lint.tree import dotted
from adapterfit.lint.values import (
    UNKNOWN,
    Config,
    Constant,
    Items,
    Model,
    Object,
    Outcome,
    Table,
    Tensor,
    Text,
    Value,
    Weights,
)

_MODEL_LIBRARIES = "transformers|diffusers"
_NO_MODEL = r"\w*(DataCollator\w*|Config|Tokenizer|TokenizerFast|Processor|Extractor|Pipeline|Trainer|Arguments|Output|Callback)"
_MODEL = re.compile(
    rf"({_MODEL_LIBRARIES})\.(?!{_NO_MODEL}\b)(?P<cls>\w*(Model|For[A-Z])\w*)(\.from_pretrained|\.from_config)?"
)
_PEFT = re.compile(r"peft\.(Peft(?:Mixed)?Model\w*)")
_PEFT_LOADED = re.compile(r"peft\.(Peft(?:Mixed)?Model\w*)\.from_pretrained")
_AUTO_PEFT = re.compile(r"peft\.(AutoPeftModel\w*)\.from_pretrained")
_CONFIG = re.compile(r"peft\.(\w+Config)(\.from_pretrained|\.from_json_file)?")
_TRAINER = re.compile(
    r"(transformers|trl)\.\w*(Trainer|TrainingArguments)|trl\.\w+Config|accelerate\.Accelerator|\w+\.GenerationConfig"
)
#: Methods that give back the model they are called on.
_SAME = frozenset(
    {
        "to",
        "cuda",
        "cpu",
        "xpu",
        "half",
        "float",
        "bfloat16",
        "double",
        "type",
        "eval",
        "train",
        "requires_grad_",
        "apply",
        "share_memory",
    }
)
_SAME_FUNCTIONS = frozenset(
    {
        "peft.prepare_model_for_kbit_training",
        "peft.prepare_model_for_int8_training",
        "peft.prepare_model_for_training",
        "torch.Module",
    }
)
_OUTER = {
    "torch.compile": "compiled",
    "torch.DistributedDataParallel": "ddp",
    "torch.DataParallel": "dp",
    "torch.FullyShardedDataParallel": "fsdp",
}
_MERGED = ("model.merge_and_unload", "model.unload")
_numbers = itertools.count(1)


def fresh() -> frozenset[int]:
    """An identity that no other value has."""
    return frozenset({next(_numbers)})


def result(call: Call) -> Value:
    """What a call gives back, as far as it is known."""
    handler = _HANDLERS.get(call.name)
    if handler is not None:
        return handler(call)
    for pattern, make in _PATTERNS:
        found = pattern.fullmatch(call.name)
        if found is not None:
            return make(call, found)
    return _method(call)


def _method(call: Call) -> Value:
    kind, _, name = call.name.rpartition(".")
    if isinstance(call.receiver, Model):
        if name in _SAME:
            return call.receiver
        if call.name in _MERGED and call.receiver.outer == "":
            return _unwrapped(call.receiver)
        if name == "get_base_model" and call.receiver.base is not None and not call.receiver.outer:
            return call.receiver.base
    if isinstance(call.receiver, Weights) and name in {"copy", "items"}:
        return call.receiver
    if call.name == "safetensors.safe_open.get_tensor" and isinstance(call.receiver, Object) and call.node.args:
        return Tensor(Weights(path=call.receiver.arguments.get("path")), dotted(call.node.args[0].value))
    if kind == "accelerate.Accelerator":
        return _accelerate(name, call)
    return UNKNOWN


def _unwrapped(model: Model) -> Value:
    if model.base is not None:
        return dataclasses.replace(model.base, wrapped=False, trainable=None)
    return Model(wrapped=False, ids=fresh(), origin=model.origin)


def _base(call: Call, found: re.Match[str]) -> Value:
    wrapped = False if call.name.startswith(("transformers.", "diffusers.")) else None
    return Model(
        class_name=found.group("cls"), wrapped=wrapped, source=call.value(0, _BASE_PATH), ids=fresh(), origin=call.node
    )


_BASE_PATH = "pretrained_model_name_or_path"


def _get_peft_model(call: Call) -> Value:
    return _around(call, call.value(0, "model"), "PeftModel", config=call.value(1, "peft_config"), loaded=False)


def _peft_constructor(call: Call, found: re.Match[str]) -> Value:
    return _around(call, call.value(0, "model"), found.group(1), config=call.value(1, "peft_config"), loaded=False)


def _peft_loaded(call: Call, found: re.Match[str]) -> Value:
    trainable = _flag(call, call.value(3, "is_trainable"), given=call.argument(3, "is_trainable") is not None)
    model = _around(call, call.value(0, "model"), found.group(1), config=call.value(4, "config"), loaded=True)
    return dataclasses.replace(
        model, source=call.value(1, "model_id"), trainable=trainable, adapter=_adapter_name(call, 2)
    )


def _flag(call: Call, value: Value, *, given: bool) -> bool | None:
    if not given:
        return False if call.whole else None
    return value.value if isinstance(value, Constant) and isinstance(value.value, bool) else None


def _adapter_name(call: Call, position: int) -> Value:
    if call.argument(position, "adapter_name") is None and call.whole:
        return Text("default", "default")
    return call.value(position, "adapter_name")


def _around(call: Call, base: Value, class_name: str, *, config: Value, loaded: bool) -> Model:
    return Model(
        class_name=class_name,
        wrapped=True,
        loaded=loaded,
        trainable=not loaded,
        base=base if isinstance(base, Model) else None,
        config=config,
        adapter=_adapter_name(call, 2),
        ids=fresh(),
        origin=call.node,
    )


def _auto_peft(call: Call, found: re.Match[str]) -> Value:
    flag = call.argument(None, "is_trainable")
    trainable = _flag(call, flag.value if flag else UNKNOWN, given=flag is not None)
    return Model(
        class_name=found.group(1), wrapped=True, loaded=True, trainable=trainable, source=call.value(0, _BASE_PATH),
        ids=fresh(), origin=call.node,
    )  # fmt: skip


def _config(call: Call, found: re.Match[str]) -> Value:
    if found.group(2):
        path = call.value(0, _BASE_PATH)
        return Config(found.group(1), path=path, from_file=True, origin=call.node)
    return Config(found.group(1), fields=_table(call), origin=call.node)


def _table(call: Call) -> Table:
    return Table({name: argument.value for name, argument in call.keywords.items()}, call.whole)


def _object(call: Call, _found: re.Match[str]) -> Value:
    return made(call.name, call)


def made(name: str, call: Call) -> Value:
    """What a call of a class, or of one derived from it, makes; unknown where nothing is known of that class."""
    if _TRAINER.fullmatch(name) is None:
        return UNKNOWN
    given = zip(_FIRST.get(name, ("model",) if name.endswith("Trainer") else ()), call.positional)
    table = _table(call)
    entries = {**{name: argument.value for name, argument in given}, **table.entries}
    return Object(name, Table(entries, table.whole), ids=fresh())


#: What the first arguments of a class are called; of a Trainer, the first is its model.
_FIRST = dict.fromkeys(
    ("transformers.Trainer", "transformers.Seq2SeqTrainer", "trl.SFTTrainer", "trl.RewardTrainer"), ("model", "args")
)


def _set_state(call: Call) -> Value:
    model = call.value(0, "model")
    return Outcome(model) if isinstance(model, Model) else UNKNOWN


def _outer(call: Call) -> Value:
    inner = call.value(
        0, {"torch.DistributedDataParallel": "module", "torch.DataParallel": "module"}.get(call.name, "model")
    )
    if not isinstance(inner, Model):
        return UNKNOWN
    return put_into(inner, _OUTER[call.name], call)


def put_into(inner: Model, outer: str, call: Call) -> Model:
    """A model put into something that hands calls on to it."""
    return Model(outer=outer, inner=inner, wrapped=inner.wrapped, loaded=inner.loaded, ids=fresh(), origin=call.node)


def _same(call: Call) -> Value:
    return call.value(0, "model")


def _deepspeed(call: Call) -> Value:
    model = call.value(None, "model") if "model" in call.keywords else call.value(1, "model")
    engine: Value = put_into(model, "deepspeed", call) if isinstance(model, Model) else UNKNOWN
    return Items((engine, UNKNOWN, UNKNOWN, UNKNOWN))


def _accelerate(name: str, call: Call) -> Value:
    values = [argument.value for argument in call.positional]
    if name == "prepare":
        out = [put_into(value, "accelerate", call) if isinstance(value, Model) else value for value in values]
        return UNKNOWN if not call.whole or not out else out[0] if len(out) == 1 else Items(tuple(out))
    if name == "unwrap_model" and values:
        model = values[0]
        return model.inner if isinstance(model, Model) and model.inner and model.outer != "compiled" else model
    if name == "get_state_dict" and values and isinstance(values[0], Model):
        return Weights(of=values[0].bare, origin=call.node)
    return UNKNOWN


def _read_weights(call: Call) -> Value:
    return Weights(path=call.value(0, "f" if call.name == "torch.load" else "filename"), origin=call.node)


def _state_dict(call: Call) -> Value:
    return Weights(of=call.receiver if isinstance(call.receiver, Model) else None, origin=call.node)


def _adapter_state(call: Call) -> Value:
    model = call.value(0, "model")
    return Weights(of=model if isinstance(model, Model) else None, only_adapter=True, origin=call.node)


def _dict(call: Call) -> Value:
    if len(call.positional) == 1 and not call.keywords and call.whole:
        value = call.positional[0].value
        return value if isinstance(value, (Weights, Table)) else UNKNOWN
    return _table(call) if not call.positional else UNKNOWN


def _join_path(call: Call) -> Value:
    return texts.join_path([argument.value for argument in call.positional]) if call.whole else UNKNOWN


def _path(call: Call) -> Value:
    """`Path(a, b)`, `str(path)`, `open(path)`: the path stays what it is."""
    return (
        texts.join_path([argument.value for argument in call.positional]) if call.positional and call.whole else UNKNOWN
    )


def _first(call: Call) -> Value:
    return call.positional[0].value if call.positional and call.whole else UNKNOWN


def _of_receiver(call: Call) -> Value:
    return call.receiver


def _joined_path(call: Call) -> Value:
    return (
        texts.join_path([call.receiver, *(argument.value for argument in call.positional)]) if call.whole else UNKNOWN
    )


def _hub_file(call: Call) -> Value:
    name = call.value(1, "filename")
    return Text(None, "/" + texts.file_name(name)) if isinstance(name, Text) and texts.file_name(name) else UNKNOWN


_HANDLERS: dict[str, Callable[[Call], Value]] = {
    "peft.get_peft_model": _get_peft_model,
    "peft.get_peft_model_state_dict": _adapter_state,
    "peft.set_peft_model_state_dict": _set_state,
    "peft.load_peft_weights": lambda call: Weights(origin=call.node, changed=True),
    "torch.load": _read_weights,
    "safetensors.load_file": _read_weights,
    "safetensors.safe_open": lambda call: Object(call.name, Table({"path": call.value(0, "filename")}), ids=fresh()),
    "model.state_dict": _state_dict,
    "deepspeed.initialize": _deepspeed,
    "os.path.join": _join_path,
    "pathlib.Path": _path,
    "pathlib.PurePath": _path,
    "builtins.str": _first,
    "builtins.open": _first,
    "os.fspath": _first,
    "os.path.abspath": _first,
    "os.path.expanduser": _first,
    "builtins.dict": _dict,
    "collections.OrderedDict": _dict,
    "copy.copy": _first,
    "text.joinpath": _joined_path,
    "text.format": lambda call: texts.filled(call.receiver, texts.BRACES),
    "text.open": _of_receiver,
    "text.resolve": _of_receiver,
    "text.absolute": _of_receiver,
    "text.as_posix": _of_receiver,
    "text.expanduser": _of_receiver,
    "huggingface_hub.hf_hub_download": _hub_file,
    "transformers.cached_file": _hub_file,
    **dict.fromkeys(_OUTER, _outer),
    **dict.fromkeys(_SAME_FUNCTIONS, _same),
}
_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[Call, re.Match[str]], Value]], ...] = (
    (_PEFT_LOADED, _peft_loaded),
    (_PEFT, _peft_constructor),
    (_AUTO_PEFT, _auto_peft),
    (_CONFIG, _config),
    (_TRAINER, _object),
    (_MODEL, _base),
)


def of_annotation(name: str) -> Value:
    """What a parameter is that is annotated with a class of a library."""
    found = _PEFT.fullmatch(name)
    if found is not None:
        return Model(class_name=found.group(1), wrapped=True, ids=fresh())
    if name in {"accelerate.Accelerator"} or re.fullmatch(r"(transformers|trl)\.\w*Trainer", name):
        return Object(name, Table(whole=False), ids=fresh())
    return UNKNOWN


def attribute(value: Value, name: str) -> Value | None:
    """What an attribute of a known value is; None where that is not known."""
    if isinstance(value, Model):
        if name == "module" and value.outer in {"ddp", "dp", "fsdp", "deepspeed"}:
            return value.inner
        if name == "_orig_mod" and value.outer == "compiled":
            return value.inner
        if name == "base_model" and value.wrapped and value.base is not None and not value.outer:
            return value.base  # the tuner, which hands on to the base inside it
    if isinstance(value, Object) and name == "model" and name in value.arguments.entries:
        return value.arguments.get(name)
    if isinstance(value, Text) and name == "parent":
        exact = value.exact
        parent = exact.rsplit("/", 1)[0] if exact and "/" in exact else None
        return Text(parent, parent or "")
    return None
