"""Values of a config that PEFT does not check, and what comes of them. Measured with PEFT 0.21.2."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from adapterfit import limits
from adapterfit.read import peft_facts
from adapterfit.read.peft_facts import Method
from adapterfit.records import Flaw
from adapterfit.text import shorten, show

#: Ranks and counts beyond these cannot be meant; the largest rank seen in the wild is 1,000.
_LARGEST_RANK = 65_536
_LARGEST_COUNT = 10_000_000
_LARGEST_ALPHA = 1_000_000
#: Methods whose `r` is not a plain rank: AdaLoRA takes `init_r`, OFT a number of blocks or 0, SuperTuning null.
_OTHER_RANK = frozenset(("ADALORA", "OFT", "SUPERTUNING"))
#: Methods that refuse a rank of 0 or less in these words.
_WORDED = frozenset(("LORA", "LOHA", "LOKR", "HRA", "HIRA", "LILY", "MISS", "POLY", "SHIRA", "SHADOW", "DEFT"))
_INITS = frozenset(
    ("gaussian", "eva", "olora", "pissa", "corda", "loftq", "orthogonal", "mica", "lora_ga", "true", "false")
)
_COUNTS = ("num_virtual_tokens", "num_layers", "token_dim", "num_attention_heads", "num_transformer_submodules",
           "encoder_hidden_size", "encoder_num_layers", "num_ranks", "num_tasks", "adapter_len", "adapter_layers")  # fmt: skip
_OWN = frozenset(("r", "peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision",
                  "lora_alpha", "alpha", "rank_pattern", "alpha_pattern", "bias", "layer_replication",
                  "trainable_token_indices", *_COUNTS))  # fmt: skip
#: Methods that refuse layers beside a `target_modules` that is one pattern; the others ignore them.
_REFUSE_BESIDE = frozenset(("LORA", "ADALORA", "DEFT", "FOURIERFT", "HRA", "PSOFT", "WAVEFT", "C3A", "HIRA", "MISS",
                            "UNILORA", "SHADOW", "DELORA"))  # fmt: skip
#: Methods that take a `layers_pattern` without `layers_to_transform`, and ignore it.
_TAKE_ALONE = frozenset(("C3A", "HIRA", "MISS", "UNILORA", "GRALORA", "RANDLORA", "ADAMSS"))
#: Methods whose refusal of that ends without a blank.
_WITHOUT_BLANK = frozenset(("LILY", "PEANUT", "TINYLORA", "SHADOW"))
_OFT_GONE = (
    "ValueError: OFT has been updated since PEFT 0.14.0. Your trained adapter weights are incompatible with the latest "
    "version of OFT. Please retrain your adapter weights with newer PEFT versions. Alternatively, downgrade PEFT to "
    "version 0.13.0 to use the old adapter weights."
)


class _Config(NamedTuple):
    raw: Mapping[str, Any]
    facts: Method
    odd: frozenset[str]
    file: str

    def flaw(self, key: str, problem: str, **more: Any) -> Flaw:
        """A flaw of one field; `value` is what it holds where that is not the whole field."""
        value = more.pop("value", self.raw.get(key))
        words = str(value) if self.is_odd(value) else shown(value)
        fields = {"code": "bad-config-value", "severity": "error", "predicted": "raises", "refused": False, **more}
        return Flaw(
            message=f"{show(self.file)} says {show(key)} = {words}: {problem}", where=self.file, found=words, **fields
        )

    def is_odd(self, value: object) -> bool:
        """Whether this text stands for a number that JSON does not have, such as NaN."""
        return isinstance(value, str) and value in self.odd


def constructing(raw: Mapping[str, Any], facts: Method, odd: frozenset[str], file: str) -> Iterator[Flaw]:
    """What PEFT stumbles over, or should, when it builds the config and matches modules."""
    config = _Config(raw, facts, odd, file)
    for look in (_task, _clashes, _kinds, _names, _layers, _replication, _stamp):
        yield from look(config)


def injecting(raw: Mapping[str, Any], facts: Method, odd: frozenset[str], file: str) -> Iterator[Flaw]:
    """What PEFT stumbles over, or should, when it creates the adapter's layers."""
    config = _Config(raw, facts, odd, file)
    for look in (_tables, _rank, _dropout, _alpha, _bias, _init, _counts, _tokens):
        yield from look(config)


def shown(value: object) -> str:
    """A value of the config as it stands there, short and safe to print."""
    if isinstance(value, (list, dict)) and len(value) > 8:
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value):,}"
    return show(json.dumps(value, ensure_ascii=False), 80)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _python(value: object) -> str:
    """The name of its type in an error of Python's."""
    return "dict" if isinstance(value, dict) else type(value).__name__


# ------------------------------------------------------------------------------------------ rank and scale


def _rank(config: _Config) -> Iterator[Flaw]:
    kind = config.facts.peft_type
    key = "init_r" if kind == "ADALORA" else "r"
    if key not in config.raw or (kind in _OTHER_RANK and key == "r"):
        return
    value = config.raw[key]
    problem = _rank_problem(value)
    if problem:
        value = float("inf") if config.is_odd(value) else value
        yield config.flaw(
            key, problem, code="bad-rank", expected="a whole number above 0", raised=_rank_line(value, kind)
        )


def _rank_problem(value: Any) -> str:
    if not _is_int(value):
        return "a rank is a whole number above 0"
    if value <= 0:
        return "a rank is at least 1"
    return "no such rank can be meant" if value > _LARGEST_RANK else ""


def _rank_line(value: Any, kind: str) -> str:
    if kind not in _WORDED:
        return ""
    if _is_int(value):
        return (
            f"ValueError: `r` should be a positive integer value but the value passed is {value}" if value <= 0 else ""
        )
    if isinstance(value, (bool, float)):
        place = f"but found element of type {_python(value)} at pos 0"
        return (
            f"TypeError: empty(): argument 'size' (position 1) must be tuple of ints, {place}" if kind == "LORA" else ""
        )
    return f"TypeError: '<=' not supported between instances of '{_python(value)}' and 'int'"


def _alpha(config: _Config) -> Iterator[Flaw]:
    for key in ("lora_alpha", "alpha"):
        field = config.facts.fields.get(key)
        if field is None or key not in config.raw or (config.raw[key] is None and field.default is None):
            continue
        yield from _one_alpha(config, key, config.raw[key], key)


def _one_alpha(config: _Config, key: str, value: Any, label: str) -> Iterator[Flaw]:
    if config.is_odd(value):
        yield config.flaw(label, "the adapter's effect becomes NaN or infinite", value=value, predicted="silent")
    elif not _is_number(value) and not isinstance(value, bool):
        line = f"TypeError: unsupported operand type(s) for /: '{_python(value)}' and 'int'"
        yield config.flaw(label, "a number is due", value=value, raised=line if key == "lora_alpha" else "")
    else:
        problem = _alpha_problem(value)
        if problem:
            severity = "error" if value == 0 else "warning"
            yield config.flaw(label, problem, value=value, severity=severity, predicted="silent")


def _alpha_problem(value: float) -> str:
    if isinstance(value, bool):
        return "a number is due; PEFT counts true as 1 and false as 0"
    if value == 0:
        return "the adapter is multiplied by 0 and has no effect"
    if value < 0:
        return "the adapter is subtracted instead of added"
    return "no such scale can be meant" if value > _LARGEST_ALPHA else ""


def _dropout(config: _Config) -> Iterator[Flaw]:
    key = "lora_dropout"
    if key not in config.raw or key not in config.facts.fields:
        return
    value = config.raw[key]
    if config.is_odd(value):
        infinite = value != "NaN" and not str(value).startswith("-")
        line = "ValueError: dropout probability has to be between 0 and 1, but got inf"
        yield _dropout_flaw(config, "raises" if infinite else "silent", line if infinite else "")
    elif not _is_number(value) and not isinstance(value, bool):
        yield _dropout_flaw(
            config, "raises", f"TypeError: '>' not supported between instances of '{_python(value)}' and 'float'"
        )
    elif value > 1:
        line = f"ValueError: dropout probability has to be between 0 and 1, but got {value}"
        yield _dropout_flaw(config, "raises", line)
    elif value < 0:
        yield _dropout_flaw(config, "silent", "")


def _dropout_flaw(config: _Config, predicted: str, raised: str) -> Flaw:
    severity = "error" if predicted == "raises" else "warning"
    problem = "a dropout lies between 0 and 1"
    return config.flaw("lora_dropout", problem, severity=severity, predicted=predicted, raised=raised)


def _tables(config: _Config) -> Iterator[Flaw]:
    """`rank_pattern` and `alpha_pattern`: name → number."""
    for key in ("rank_pattern", "alpha_pattern"):
        field = config.facts.fields.get(key)
        if field is None or key not in config.raw or config.facts.peft_type == "ADALORA":
            continue
        value = config.raw[key]
        if not isinstance(value, dict):
            if value is None and field.default is None:
                continue
            line = f"AttributeError: '{_python(value)}' object has no attribute 'keys'"
            yield config.flaw(key, "a table of module name → number is due; write {} for none", raised=line)
        elif config.facts.peft_type != "OSF":
            yield from _table_values(config, key, value)


def _table_values(config: _Config, key: str, table: Mapping[str, Any]) -> Iterator[Flaw]:
    for name, value in table.items():
        label = f"{key}[{name}]"
        if key == "alpha_pattern":
            yield from _one_alpha(config, "lora_alpha", value, label)
        elif _rank_problem(value):
            line = _rank_line(value, config.facts.peft_type)
            yield config.flaw(label, _rank_problem(value), value=value, code="bad-rank", raised=line)


# ------------------------------------------------------------------------------------------------- names


def _names(config: _Config) -> Iterator[Flaw]:
    for key in ("target_modules", "modules_to_save", "exclude_modules", "target_parameters"):
        value = config.raw.get(key)
        if key not in config.facts.fields or not isinstance(value, list):
            continue
        strangers = [each for each in value if not isinstance(each, str)]
        empty = [each for each in value if isinstance(each, str) and not each.strip(".")]
        if strangers:
            loud = key in ("target_modules", "modules_to_save")
            line = f"AttributeError: '{_python(strangers[0])}' object has no attribute 'split'" if loud else ""
            yield config.flaw(
                key, "every entry is the name of a module", raised=line, predicted="raises" if loud else "none"
            )
        elif empty:
            yield config.flaw(key, "an entry without a name matches no module", severity="warning", predicted="silent")
        elif len(set(value)) < len(value):
            twice = sorted({each for each in value if value.count(each) > 1}) if len(value) < 1000 else []
            yield config.flaw(key, f"names stand twice ({shorten(twice)}); harmless", severity="note", predicted="none")


#: Methods whose own config checks this field.
_OWN_BIAS = ("UNILORA",)


def _bias(config: _Config) -> Iterator[Flaw]:
    if "bias" not in config.facts.fields or "bias" not in config.raw or config.facts.peft_type in _OWN_BIAS:
        return
    value = config.raw["bias"]
    if not isinstance(value, str):
        line = f"AttributeError: '{_python(value)}' object has no attribute 'endswith'"
        yield config.flaw("bias", '"none", "all" or "lora_only" is due', raised=line)
    elif value not in ("none", "all") and not value.endswith("_only"):
        line = f"NotImplementedError: Requested bias: {show(value)}, is not implemented."
        yield config.flaw("bias", '"none", "all" or "lora_only" is due', raised=line)


def _init(config: _Config) -> Iterator[Flaw]:
    value = config.raw.get("init_lora_weights")
    if config.facts.peft_type != "LORA" or not isinstance(value, str):
        return
    if not value or value.lower() in _INITS or re.fullmatch(r"pissa_niter_[0-9]{1,6}", value.lower()):
        return
    line = f"ValueError: Unknown initialization init_lora_weights={show(repr(value))}"
    known = "pissa" not in value.lower()
    yield config.flaw("init_lora_weights", "no PEFT knows this start value", raised=line if known else "")


# ------------------------------------------------------------------------------------------------ layers


def _layers(config: _Config) -> Iterator[Flaw]:
    value = config.raw.get("layers_to_transform")
    if value is None or "layers_to_transform" not in config.facts.fields:
        return
    entries = value if isinstance(value, list) else [value]
    if not all(_is_int(each) for each in entries):
        yield config.flaw("layers_to_transform", "numbers of layers are due", raised="")
    elif any(each < 0 for each in entries):
        problem = "layers are counted from 0; a negative number matches none"
        yield config.flaw("layers_to_transform", problem, severity="warning", predicted="silent")


def _replication(config: _Config) -> Iterator[Flaw]:
    value = config.raw.get("layer_replication")
    if value is None or "layer_replication" not in config.facts.fields:
        return
    key = "layer_replication"
    pairs = value if isinstance(value, list) else [value]
    if not all(isinstance(each, list) and len(each) == 2 and all(map(_is_int, each)) for each in pairs):
        yield config.flaw(key, "pairs of [first layer, layer after the last] are due")
    elif any(first < 0 or end <= first for first, end in pairs):
        yield config.flaw(key, "a range ends before it starts, so it repeats no layer")
    elif sum(end - first for first, end in pairs) > limits.LAYERS:
        total = sum(end - first for first, end in pairs)
        yield config.flaw(key, f"{total:,} layers; no model has so many", raised="")


def _counts(config: _Config) -> Iterator[Flaw]:
    for key in _COUNTS:
        field = config.facts.fields.get(key)
        if field is None or key not in config.raw or config.raw[key] is None:
            continue
        value = config.raw[key]
        if not _is_int(value) or value <= 0:
            yield config.flaw(key, "a whole number above 0 is due", expected="a whole number above 0")
        elif value > _LARGEST_COUNT:
            yield config.flaw(key, "no such number can be meant", raised="")


def _tokens(config: _Config) -> Iterator[Flaw]:
    for key in ("trainable_token_indices", "token_indices"):
        value = config.raw.get(key)
        if value is None or key not in config.facts.fields:
            continue
        lists = list(value.values()) if isinstance(value, dict) else [value]
        if not all(isinstance(each, list) for each in lists):
            yield config.flaw(key, "a list of token numbers is due, or a table of module name → such a list")
        elif not all(_is_int(token) for each in lists for token in each):
            yield config.flaw(
                key, "token numbers are whole numbers", raised="TypeError: new(): invalid data type 'str'"
            )
        elif any(token < 0 for each in lists for token in each):
            yield config.flaw(key, "token numbers start at 0", severity="warning", predicted="silent")
        elif any(len(set(each)) < len(each) for each in lists):
            yield config.flaw(key, "a token stands twice", severity="warning", predicted="silent")


# ------------------------------------------------------------------------------------------------ the rest


def _task(config: _Config) -> Iterator[Flaw]:
    value = config.raw.get("task_type")
    known = peft_facts.task_types()
    if value is None or (isinstance(value, str) and value in known):
        return
    line = (
        f"ValueError: Invalid task type: '{show(value)}'. Must be one of the following task types: {', '.join(known)}."
    )
    yield config.flaw("task_type", f"one of {', '.join(known)} or null is due", raised=line)


def _clashes(config: _Config) -> Iterator[Flaw]:
    """Fields that exclude each other."""
    raw = config.raw
    pattern, layers = raw.get("layers_pattern"), raw.get("layers_to_transform")
    kind = config.facts.peft_type
    if isinstance(raw.get("target_modules"), str) and kind in _REFUSE_BESIDE:
        for key in ("layers_to_transform", *(("layers_pattern",) if kind != "DELORA" else ())):
            if raw.get(key) is not None:
                line = f"ValueError: `{key}` cannot be used when `target_modules` is a str."
                yield config.flaw(key, "it cannot stand beside a target_modules that is one pattern", raised=line)
                return
    if pattern and layers is None and kind not in _TAKE_ALONE and "layers_pattern" in config.facts.fields:
        end = "" if kind in _WITHOUT_BLANK else " "
        line = f"ValueError: When `layers_pattern` is specified, `layers_to_transform` must also be specified.{end}"
        yield config.flaw("layers_pattern", "it says nothing without layers_to_transform", raised=line)
    if kind == "OFT" and "oft_block_size" not in raw:
        problem = "oft_block_size is missing: OFT was written anew in 0.14 and such adapters cannot be converted"
        yield config.flaw("r", problem, code="oft-generation-changed", raised=_OFT_GONE, remedy="use PEFT 0.13.2")
    if raw.get("lora_bias") is True and raw.get("use_dora") is True:
        line = "ValueError: The argument lora_bias=True is not supported for DoRA, please pass use_dora=False"
        yield config.flaw("lora_bias", "it cannot stand beside use_dora", raised=line)


def _stamp(config: _Config) -> Iterator[Flaw]:
    if "runtime_config" in config.raw:
        yield config.flaw(
            "runtime_config",
            "PEFT ignores it in a file",
            code="runtime-config-ignored",
            severity="note",
            predicted="warns",
        )
    value = config.raw.get("peft_version")
    if value is not None and not (isinstance(value, str) and peft_facts.parse_release(value)):
        problem = "not a version; nothing is concluded from it"
        yield config.flaw("peft_version", problem, code="peft-version-unreadable", severity="note", predicted="none")


def _kinds(config: _Config) -> Iterator[Flaw]:
    """Values of a type that the field does not have, for fields without a check of their own."""
    for key, value in config.raw.items():
        field = config.facts.fields.get(key)
        if field is None or key in _OWN or key.endswith("dropout") or _matches(value, field.kind):
            continue
        if field.kind.startswith("bool"):
            if value is None or value in (0, 1):
                continue
            truth = "true" if value else "false"
            yield config.flaw(
                key, f"true or false is due; PEFT counts it as {truth}", predicted="silent", severity="error"
            )
        else:
            yield _wrong_kind(config, key, value, field.kind)


_LATE = {
    "target_modules": "TypeError: '{}' object is not iterable",
    "modules_to_save": "TypeError: '{}' object is not iterable",
    "exclude_modules": "TypeError: argument of type '{}' is not iterable",
}


def _wrong_kind(config: _Config, key: str, value: object, kind: str) -> Flaw:
    due = f"{_words(kind)} is due"
    if key == "target_parameters" and isinstance(value, str):
        return config.flaw(key, due, raised="TypeError: `target_parameters` must be a list of strings or None.")
    if key in _LATE and isinstance(value, (int, float)):
        return config.flaw(key, due, raised=_LATE[key].format(_python(value)), refused=True)
    if key == "modules_to_save" and isinstance(value, str):
        return config.flaw(key, "a list of names is due; PEFT takes every letter for a name")
    if key in {"modules_to_save", "target_modules"}:
        return config.flaw(key, due, severity="warning", predicted="silent")
    return config.flaw(key, due, severity="warning", predicted="none")


def _words(kind: str) -> str:
    names = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "dict": "a table"}
    parts = [names.get(part, f"a list ({part[5:-1]})") for part in kind.rstrip("?").split("|")]
    return " or ".join([*parts, "null"] if kind.endswith("?") else parts)


def _matches(value: object, kind: str) -> bool:
    if kind == "any" or (value is None and kind.endswith("?")):
        return True
    return any(_is(value, part) for part in kind.rstrip("?").split("|"))


def _is(value: object, part: str) -> bool:
    if part.startswith("list"):
        inner = part[5:-1]
        return isinstance(value, list) and (inner == "str" or all(_is(each, inner) for each in value))
    checks = {
        "int": _is_int(value),
        "float": _is_number(value),
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "dict": isinstance(value, dict),
    }
    return checks.get(part, True)
