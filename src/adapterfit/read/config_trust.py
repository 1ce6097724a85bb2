"""What a config would make a loader import, open or fetch. Here it is only looked at, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.records import Flaw
from adapterfit.text import quote, shorten, show

#: What AutoPeftModel may import since PEFT 0.20; before, it imported whatever the file named.
_MAY_IMPORT = ("diffusers", "lerobot", "megatron-core", "transformers")
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines")
_LONGEST_PATH = 512
_DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SUBCONFIGS = ("arrow_config", "eva_config", "loftq_config", "corda_config", "lora_ga_config", "adapters")


def check(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    """Every such field, all at once. Nothing it names is touched."""
    for look in (_auto_mapping, _megatron, _code_keys, _tokenizer, _base_path, _revision, _named_files):
        yield from look(raw, file)


def _flaw(file: str, problem: str, code: str, **more: Any) -> Flaw:
    fields = {"severity": "warning", "predicted": "none", "refused": False, **more}
    return Flaw(code=code, message=f"{show(file)} {problem}", where=file, **fields)


def _imports(file: str, problem: str, **more: Any) -> Flaw:
    return _flaw(file, f"{problem}. Nothing was imported here", "config-imports-code", **more)


# ------------------------------------------------------------------------------------------------- imports


def _auto_mapping(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    value = raw.get("auto_mapping")
    if value is None:
        return
    library = value.get("parent_library") if isinstance(value, dict) else None
    name = value.get("base_model_class") if isinstance(value, dict) else None
    if not isinstance(library, str) or not isinstance(name, str):
        problem = "has an auto_mapping without parent_library and base_model_class: AutoPeftModel cannot use it"
        yield _imports(file, problem, severity="note")
    elif not _DOTTED.fullmatch(library) or not _DOTTED.fullmatch(name) or name.startswith("__"):
        yield _imports(file, f"has an auto_mapping to {quote(library, 80)} and {quote(name, 80)}, which is no class of a model", severity="error")  # fmt: skip
    elif library.split(".", 1)[0] not in _MAY_IMPORT:
        problem = f"makes AutoPeftModel before PEFT 0.20 import {quote(library, 80)}; later ones refuse it"
        severity = "note" if "." in library else "warning"
        yield _imports(file, problem, severity=severity, remedy="load it with PeftModel.from_pretrained(base, …)")


def _megatron(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    core, config = raw.get("megatron_core", "megatron.core"), raw.get("megatron_config")  # PEFT's default
    if not config:
        if isinstance(core, str) and core.split(".")[0] != "megatron":
            yield _imports(file, f"names {quote(core, 80)} as megatron_core; without a megatron_config it is not used", severity="note")  # fmt: skip
        return
    if isinstance(core, str) and core.startswith("megatron"):
        line = "ModuleNotFoundError: No module named 'megatron'"
        yield _imports(file, f"makes PEFT import {quote(core, 80)}", predicted="raises", raised=line)
        return
    line = (
        f"ValueError: config.megatron_core={show(repr(core))} does not start with a valid prefix (['megatron']) which is "
        "unsupported due to being a potential security risk. If you think it should be supported, please raise an issue "
        "in PEFT."
    )
    problem = f"makes PEFT before 0.20 import {quote(core, 80)}; later ones refuse it"
    yield _imports(file, problem, severity="error", predicted="raises", raised=line)


def _code_keys(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    found = [key for key in _CODE_KEYS if raw.get(key)]
    if found:
        yield _imports(file, f"has {shorten(found)}: PEFT drops that, other loaders may run code for it")


def _tokenizer(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    options = raw.get("tokenizer_kwargs")
    if isinstance(options, dict) and options.get("trust_remote_code"):
        name = quote(raw.get("tokenizer_name_or_path"), 80)
        problem = f"makes prompt tuning load the tokenizer {name} with trust_remote_code: code of that repository runs"
        yield _imports(file, problem, severity="error")


# --------------------------------------------------------------------------------------------------- paths


def _base_path(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    if "base_model_name_or_path" not in raw:
        return
    value = raw["base_model_name_or_path"]
    problem, severity = _path_problem(value)
    if not problem:
        return
    if value is None or value == "":
        written = "null" if value is None else '""'
        words = f"has base_model_name_or_path = {written}: {problem}; --base says where it is"
        yield _flaw(file, words, "base-path-not-portable", severity=severity, found=written)
        return
    words = f"names the base {quote(value, 80)}: {problem}. It was neither opened nor fetched; --base says where the base is"
    yield _flaw(file, words, "base-path-not-portable", severity=severity, found=quote(value, 80))


def _path_problem(value: object) -> tuple[str, str]:
    if value is None or value == "":
        return "no base is named, so AutoPeftModel and servers cannot find it", "note"
    if not isinstance(value, str):
        return "a name is due", "warning"
    if len(value) > _LONGEST_PATH or any(ord(char) < 32 or ord(char) == 127 for char in value):
        return "that is no name of a model", "warning"
    place = local_place(value)
    if place in ("an address", "a network share"):
        return f"{place}, not a model id", "warning"
    return (f"{place} of the machine it was trained on", "note") if place else ("", "")


def local_place(value: str) -> str:
    """What kind of place outside the Hub a path names; empty for a Hub id or a bare name."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.\-]+:/", value):
        return "an address"
    if value.startswith(("\\\\", "//")):
        return "a network share"
    if value.startswith("~"):
        return "a folder in someone's home"
    if value.startswith("/") or re.match(r"[A-Za-z]:", value):
        return "an absolute path"
    if value.startswith(".") or "/../" in value or "\\" in value or value.count("/") > 1:
        return "a relative path"
    return ""


def _revision(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    value = raw.get("revision")
    if value is None or (isinstance(value, str) and _COMMIT.fullmatch(value)):
        return
    moves = isinstance(value, str) and not value.startswith("-")
    problem = "a branch or tag can move" if moves else "that is no revision"
    yield _flaw(
        file, f"names the base's revision {quote(value, 80)}: {problem}", "base-revision-moves", severity="note"
    )


def _named_files(raw: Mapping[str, Any], file: str) -> Iterator[Flaw]:
    named = [text for key in _SUBCONFIGS for text in _texts(raw.get(key)) if local_place(text)]
    tokenizer = raw.get("tokenizer_name_or_path")
    if isinstance(tokenizer, str) and local_place(tokenizer):
        named.append(tokenizer)
    if named:
        yield _flaw(
            file, f"names other places ({shorten(named)}); none was opened", "base-path-not-portable", severity="note"
        )


def _texts(value: object) -> Iterator[str]:
    """The strings directly in a table or list."""
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from (each for each in entries if isinstance(each, str))
