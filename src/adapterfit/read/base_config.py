"""A base's `config.json`: parsed strictly, looked at for numbers that cannot be and for code it would have run.

Nothing in it is obeyed: no class named by it is imported, no count in it is looped over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit import limits
from adapterfit.errors import BadInput
from adapterfit.read import strictjson
from adapterfit.read.oddnumbers import set_aside
from adapterfit.read.source import Source
from adapterfit.record import dataclass
from adapterfit.records import Flaw
from adapterfit.text import quote, shorten, show

#: The field's lowest and highest plausible value. Largest seen: 126 layers, 5,243,391 rows, 131,072 wide.
_COUNTS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(
        ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth"),
        (0, limits.LAYERS),
    ),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "num_heads"), (1, 65_536)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "intermediate_size"), (1, 10_000_000)),
    **dict.fromkeys(("vocab_size",), (0, 100_000_000)),
}
#: Keys by which a config makes transformers import or download code, and since when they are tamed.
_CODE = {
    "auto_map": "transformers runs Python files of this model, if it is loaded with trust_remote_code=True",
    "custom_pipelines": "pipeline() runs Python files of this model, if it is called with trust_remote_code=True",
    "_attn_implementation_internal": "transformers before 5.3 downloads and runs the kernel it names (CVE-2026-4372)",
}
_DEEP = 4
#: What AutoModel says about a base that does not say what it is.
UNRECOGNISED = "ValueError: Unrecognized model in the base's folder. Should have a `model_type` key in its config.json."


@dataclass(frozen=True)
class BaseConfig:
    """`raw` is the config as it stands, or None where there is none that can be read."""

    raw: Mapping[str, Any] | None = None
    file: str = ""
    flaws: tuple[Flaw, ...] = ()


def read_base_config(source: Source, name: str) -> BaseConfig:
    """Read `config.json`; what is wrong with it is a flaw."""
    try:
        raw, odd = _document(source, name)
    except BadInput as error:
        return BaseConfig(None, name, (error.flaw,))
    flaws = (*_twice(raw, name), *_odd(odd, name), *_typeless(raw, name), *_implausible(raw, name), *_code(raw, name))
    return BaseConfig(raw, name, flaws)


def quantisation(config: Mapping[str, Any] | None) -> str:
    """How the weights are packed, such as `gptq-4bit`, `fp8`, `bitsandbytes-4bit`; empty where they are not."""
    tables = [config or {}, *(table for _, table in _nested(config or {}))]
    for table in tables:
        found = table.get("quantization_config", table.get("quantization"))
        if isinstance(found, dict) and found:
            return show(_packing(found), 60)
    return ""


def runs_code(config: Mapping[str, Any] | None) -> bool:
    """Whether loading this model by `AutoModel` would want code from its own folder."""
    return bool((config or {}).get("auto_map"))


def _packing(found: Mapping[str, Any]) -> str:
    method = found.get("quant_method")
    if not isinstance(method, str):
        method = _nameless_packing(found)
    bits = found.get("bits", found.get("w_bit"))
    if found.get("load_in_4bit") is True:
        bits = 4
    elif found.get("load_in_8bit") is True:
        bits = 8
    return f"{method}-{bits}bit" if isinstance(bits, int) and not isinstance(bits, bool) else method


def _nameless_packing(found: Mapping[str, Any]) -> str:
    """The method of files that do not say it: ModelOpt's, old bitsandbytes ones, MLX's."""
    if isinstance(found.get("quant_algo"), str):
        return f"modelopt-{found['quant_algo'].lower()}"
    if any(key in found for key in ("load_in_4bit", "load_in_8bit")):
        return "bitsandbytes"
    return "mlx" if "group_size" in found else "unknown"


def _document(source: Source, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    size = source.size(name)
    if size > limits.CONFIG_BYTES:
        problem = f"has {size:,} bytes; a config of more than {limits.CONFIG_BYTES:,} is not read"
        raise BadInput(Flaw("over-limit", f"{show(name)} {problem}", where=name, predicted="none"))
    data, odd = set_aside(source.read(name, 0, size))
    if not data.strip():
        raise BadInput(_not_json(name, "is empty" if not data else "holds nothing but blanks"))
    try:
        document = strictjson.loads(data, what=show(name), code="base-config-not-json", duplicates="keep")
    except BadInput as error:
        raise BadInput(_not_json(name, error.flaw.message[len(show(name)) + 1 :] + _committed_link(data))) from None
    if not isinstance(document, dict):
        raise BadInput(_not_json(name, f"holds a {type(document).__name__} where a table is due"))
    return document, odd


def _committed_link(data: bytes) -> str:
    text = data.strip()
    inside = text.startswith(b"../../blobs/") and len(text) < 200
    return "; it is the text of a link into a Hub cache, committed in place of the file" if inside else ""


def _not_json(name: str, problem: str) -> Flaw:
    return Flaw(
        "base-config-not-json",
        f"{show(name)} of the base {problem}",
        where=name,
        raised=f"OSError: It looks like the config file at '{show(name)}' is not a valid JSON file.",
        remedy="fetch the file again from where the base came from",
    )


def _twice(raw: dict[str, Any], name: str) -> Iterator[Flaw]:
    names = [key for _, table in (("", raw), *_nested(raw)) for key, _ in getattr(table, "twice", ())]
    if names:
        problem = f"of the base has {shorten(names)} more than once; the last one counts"
        yield _note("base-config-key-twice", name, problem, severity="warning", predicted="silent")


def _odd(odd: tuple[str, ...], name: str) -> Iterator[Flaw]:
    huge = [number for number in odd if number.lstrip("-").isdigit()]
    if huge:
        yield _note("base-config-implausible", name, f"of the base holds the number {huge[0]}…", severity="error")


def _typeless(raw: Mapping[str, Any], name: str) -> Iterator[Flaw]:
    if "_class_name" in raw or isinstance(raw.get("model_type"), str):
        return
    problem = "of the base has no model_type: AutoModel cannot tell which class it is, and neither can this check"
    yield _note("base-model-type-missing", name, problem, predicted="raises", raised=UNRECOGNISED)


def _implausible(raw: Mapping[str, Any], name: str) -> Iterator[Flaw]:
    for path, table in (("", raw), *_nested(raw)):
        for key, (low, high) in _COUNTS.items():
            value = table.get(key)
            problem = _wrong(value, low, high)
            if problem:
                yield _count_flaw(name, f"{path}{key}", value, problem)


def _wrong(value: object, low: int, high: int) -> str:
    if value is None or isinstance(value, list):
        return ""
    if isinstance(value, dict) and value and all(type(one) is int for one in value.values()):
        return ""  # one for each part, as LXMERT counts its layers
    if isinstance(value, bool) or not isinstance(value, int):
        return f"a whole number is due, not a {type(value).__name__}"
    return "" if low <= value <= high else f"{low:,} to {high:,} is plausible"


def _count_flaw(name: str, key: str, value: object, problem: str) -> Flaw:
    plain = key.rpartition(".")[2]
    kind = type(value).__name__
    typed = isinstance(value, int) and not isinstance(value, bool)
    # Measured on transformers 5.23: the types are checked there; of the numbers only these come to light by themselves.
    line = f"TypeError: Field '{plain}' expected int, got {kind} (value: {show(repr(value), 60)})"
    if typed:
        line = "ZeroDivisionError: integer division or modulo by zero" if value == 0 and "head" in plain else ""
    empty = typed and "layer" in plain and isinstance(value, int) and value <= 0
    return Flaw(
        "base-config-implausible",
        f"{show(name)} of the base says {show(key)} = {show(repr(value), 60)}: {problem}",
        where=name,
        found=show(repr(value), 60),
        expected=problem,
        predicted="warns" if empty else "raises",
        raised=line,
        remedy="fetch the config again from where the base came from",
    )


def _code(raw: Mapping[str, Any], name: str) -> Iterator[Flaw]:
    for key, consequence in _CODE.items():
        if raw.get(key):
            problem = f"of the base has {key} ({_asked_for(raw[key])}): {consequence}. This check obeyed nothing of it"
            yield _note("base-runs-code", name, problem, severity="warning" if key.startswith("_") else "note")


def _asked_for(value: object) -> str:
    return shorten(str(each) for each in value.values()) if isinstance(value, dict) else quote(value, 120)


def _nested(table: Mapping[str, Any], path: str = "", depth: int = 1) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The configs inside a config (`text_config`, `vision_config` …) with their dotted path."""
    for key, value in table.items():
        if isinstance(value, dict) and key.endswith("_config") and depth < _DEEP:
            yield f"{path}{key}.", value
            yield from _nested(value, f"{path}{key}.", depth + 1)


def _note(
    code: str, name: str, problem: str, *, severity: str = "note", predicted: str = "none", raised: str = ""
) -> Flaw:
    message = f"{show(name)} {problem}"
    return Flaw(code, message, where=name, severity=severity, refused=False, predicted=predicted, raised=raised)
