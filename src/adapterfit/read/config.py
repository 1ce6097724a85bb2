"""`adapter_config.json` → AdapterConfig: as it stands, as PEFT would take it, and all that is wrong with it at once.

No PEFT class is built, nothing named in it is imported, opened or fetched, and no number in it is looped over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import config_checks, config_patterns, config_trust, peft_facts, strictjson
from adapterfit.read.source import Source
from adapterfit.records import AdapterConfig, Flaw
from adapterfit.text import quote, show

CONFIG_NAME = "adapter_config.json"
#: Numbers that Python's JSON takes, and strict JSON does not: kept as text, so that the field can be named.
_ODD = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|-?[0-9][0-9.]*[eE]\+?[0-9]{3,}', re.DOTALL)
_ODD_HINT = re.compile(rb"Infinity|NaN|[eE]\+?[0-9]{3}")
#: What to do with a config that is no PEFT config, by the program it comes from.
_FOREIGN = {
    "mlx": ("an mlx-lm config", "fuse or convert it with mlx-lm; PEFT cannot load it as it is"),
    "adapterhub": ("a config of the AdapterHub library (adapters)", "load it with model.load_adapter of that library"),
    "model": (
        "the config of a model, not of an adapter",
        "give the folder of the adapter, or load this one without PEFT",
    ),
    "nameless": ("a PEFT config without its peft_type", 'add the peft_type of the training, such as "LORA", to it'),
    "other": ("not a PEFT config", "give the folder that holds the adapter's own adapter_config.json"),
}
_TYPE_ERRORS = (
    (list, "TypeError: list indices must be integers or slices, not str"),
    (str, "TypeError: string indices must be integers, not 'str'"),
)


def read_config(source: Source, name: str = CONFIG_NAME) -> AdapterConfig:
    """Read and check a config. What is wrong with it is a flaw of the result.

    Raises:
        CannotCheck: The file must not be read, or changed meanwhile.
    """
    size = source.size(name)
    if size > limits.CONFIG_BYTES:
        problem = f"has {size:,} bytes; a config of more than {limits.CONFIG_BYTES:,} is not read"
        return _unread(name, Flaw("over-limit", f"{show(name)} {problem}", where=name, predicted="none"))
    return parse_config(source.read(name, 0, size), name)


def parse_config(data: bytes, file: str = CONFIG_NAME) -> AdapterConfig:
    """Check the bytes of a config; `file` is its name for the messages."""
    try:
        raw, odd = _document(data, file)
    except BadInput as error:
        return _unread(file, error.flaw)
    flaws = [*_twice(raw, file)]
    if config_kind(raw) != "peft":
        return AdapterConfig(file, raw, {}, flaws=(*flaws, _not_peft(raw, file)))
    return _checked(raw, odd, file, flaws)


def config_kind(raw: Mapping[str, Any]) -> str:
    """What wrote it: `peft`, `mlx`, `adapterhub`, `model` (a model's own config), `nameless` or `other`."""
    if "peft_type" in raw:
        return "peft"
    if {"lora_parameters", "fine_tune_type", "lora_layers"} & raw.keys():
        return "mlx"
    if "config" in raw and ("model_class" in raw or "hidden_size" in raw or "model_type" in raw):
        return "adapterhub"
    if "architectures" in raw or "model_type" in raw or "_name_or_path" in raw:
        return "model"
    if "r" in raw and ("lora_alpha" in raw or "target_modules" in raw):
        return "nameless"
    return "other"


def _checked(raw: dict[str, Any], odd: frozenset[str], file: str, flaws: list[Flaw]) -> AdapterConfig:
    given = raw["peft_type"]
    facts = peft_facts.method(given) if isinstance(given, str) else None
    known = facts is not None and not facts.last
    # In the order in which PEFT would come to them: the first that raises is the one people see.
    if facts is None or facts.last:
        flaws.append(_unknown_type(given, facts, file))
    if facts is not None:
        flaws.extend(config_checks.constructing(raw, facts, odd, file))
        flaws.extend(config_patterns.check(raw, facts, file))
        flaws.extend(config_checks.injecting(raw, facts, odd, file))
    flaws.extend(config_trust.check(raw, file))
    fields = facts.fields.values() if facts is not None and known else ()
    values = {field.name: raw.get(field.name, field.default) for field in fields if not field.last}
    oldest, newest = peft_facts.dated(given, raw, raw.get("peft_version")) if facts is not None else ("", "")
    return AdapterConfig(
        file=file,
        raw=raw,
        values=values or dict(raw),
        peft_type=given if isinstance(given, str) else "",
        known=known,
        unknown_keys=tuple(sorted(key for key in raw if key not in values and key != "runtime_config"))
        if known
        else (),
        oldest=oldest,
        newest=newest,
        flaws=tuple(flaws),
    )


def _unread(file: str, flaw: Flaw) -> AdapterConfig:
    return AdapterConfig(file, {}, {}, flaws=(flaw,))


# --------------------------------------------------------------------------------------------- as JSON


def _document(data: bytes, file: str) -> tuple[dict[str, Any], frozenset[str]]:
    """The table in the file, and the odd numbers that stand in it as text."""
    if not data.strip():
        raise BadInput(_not_json(data, file, "is empty" if not data else "holds nothing but blanks"))
    plain, odd = _odd_as_text(data)
    try:
        document = strictjson.loads(plain, what=show(file), code="config-not-json", duplicates="keep")
    except BadInput as error:
        raise BadInput(_not_json(data, file, error.flaw.message[len(show(file)) + 1 :])) from None
    if not isinstance(document, dict):
        raise BadInput(_not_json(data, file, f"holds {_named(document)} where a table is due"))
    if largest(document) > limits.CONFIG_ITEMS:
        problem = f"holds a list or table of more than {limits.CONFIG_ITEMS:,} entries"
        raise BadInput(Flaw("over-limit", f"{show(file)} {problem}", where=file, predicted="none"))
    return document, odd


def largest(value: object) -> int:
    """The length of the longest list or table in a parsed document."""
    if isinstance(value, dict):
        return max(len(value), max(map(largest, value.values()), default=0))
    if isinstance(value, list):
        inner = (largest(each) for each in value if isinstance(each, (dict, list)))
        return max(len(value), max(inner, default=0))
    return 0


def _odd_as_text(data: bytes) -> tuple[bytes, frozenset[str]]:
    if not _ODD_HINT.search(data):
        return data, frozenset()
    odd: set[str] = set()

    def quoted(match: re.Match[bytes]) -> bytes:
        token = match.group()
        if token.startswith(b'"') or _finite(token):
            return token
        odd.add(token[:40].decode("ascii"))
        return b'"' + token[:40] + b'"'

    return _ODD.sub(quoted, data), frozenset(odd)


def _finite(token: bytes) -> bool:
    return token[:1] not in b"NI" and token[:2] != b"-I" and abs(float(token[:400])) != float("inf")


def _not_json(data: bytes, file: str, problem: str) -> Flaw:
    raised = _as_peft_reads(data)
    return Flaw(
        code="config-not-json",
        message=f"{show(file)} {problem}",
        where=file,
        predicted="raises" if raised else "silent",
        raised=raised,
        remedy="fetch the file again, or write it anew: r is the number of rows of a lora_A, target_modules are the "
        "module names in the tensor names",
    )


def _as_peft_reads(data: bytes) -> str:
    """What PEFT's own `json.load` says about these bytes; empty where it reads them as a table."""
    try:
        document = json.loads(data.decode("utf-8").replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {show(error, 300)}"
    if isinstance(document, dict):
        return ""
    missing = f"TypeError: argument of type '{type(document).__name__}' is not iterable"
    return next((line for kind, line in _TYPE_ERRORS if isinstance(document, kind)), missing)


def _named(value: object) -> str:
    names = {"list": "a list", "str": "a string", "bool": "true or false", "NoneType": "null"}
    return names.get(type(value).__name__, "a number")


def _twice(value: object, file: str, path: str = "") -> Iterator[Flaw]:
    """A flaw for every key that stands twice in one table, at any depth."""
    if isinstance(value, list):
        for each in value:
            yield from _twice(each, file, path)
    elif isinstance(value, dict):
        for key, values in getattr(value, "twice", ()):
            yield _duplicate(file, path + key, values)
        for key, inner in value.items():
            if isinstance(inner, (dict, list)):
                yield from _twice(inner, file, f"{path}{key}.")


def _duplicate(file: str, key: str, values: tuple[Any, ...]) -> Flaw:
    seen = " and ".join(config_checks.shown(value) for value in values[:4])
    differ = any(value != values[0] for value in values)
    kept = f"PEFT takes the last, {config_checks.shown(values[-1])}; other readers take the first or refuse"
    return Flaw(
        code="duplicate-config-key",
        message=f"{show(file)} has the key {quote(key)} {len(values)} times ({seen}); {kept}",
        where=file,
        found=show(seen),
        severity="error" if differ else "warning",
        refused=False,
        predicted="silent",
        remedy="keep the one that the adapter was trained with",
    )


# --------------------------------------------------------------------------------------------- as PEFT


def _not_peft(raw: Mapping[str, Any], file: str) -> Flaw:
    kind, remedy = _FOREIGN[config_kind(raw)]
    return Flaw(
        code="config-not-peft",
        message=f"{show(file)} is {kind}: it has no peft_type",
        where=file,
        found=show(", ".join(sorted(raw)), 120),
        expected="peft_type",
        raised="KeyError: 'peft_type'",
        remedy=remedy,
    )


def _unknown_type(given: object, facts: peft_facts.Method | None, file: str) -> Flaw:
    unhashable = isinstance(given, (list, dict))
    line = f"TypeError: unhashable type: '{type(given).__name__}'" if unhashable else f"KeyError: {show(repr(given))}"
    return Flaw(
        code="unknown-peft-type",
        message=f"{show(file)} says peft_type = {config_checks.shown(given)}: {_why_unknown(given, facts)}",
        where=file,
        found=config_checks.shown(given),
        expected="a method of PEFT, such as LORA",
        raised=line,
        remedy=_type_remedy(given, facts),
    )


def _why_unknown(given: object, facts: peft_facts.Method | None) -> str:
    if facts is not None:
        return f"PEFT had this method from {facts.first} to {facts.last} and no longer has it"
    if isinstance(given, str) and peft_facts.method(given.upper()) is not None:
        return "PEFT spells its methods in capitals"
    return f"no PEFT up to {peft_facts.newest()} has a method of this name"


def _type_remedy(given: object, facts: peft_facts.Method | None) -> str:
    if given == "BONE":
        return 'write "MISS" as peft_type and rename .bone_ to .miss_ in the tensor names, or use PEFT 0.18.1'
    if facts is not None:
        return f"use PEFT {facts.last}"
    if isinstance(given, str) and peft_facts.method(given.upper()) is not None:
        return f'write "{given.upper()}"'
    return "ask the author which fork or release of PEFT it was trained with"
