"""Values of a config that are written as something else, and can be read in one way only: a number or `true` as text, a task in small letters.

Configs that a person or a script wrote hold them; PEFT takes them as they are, and stumbles over numbers and tasks; any text is true to it, "false" too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from adapterfit.edits import SetConfig
from adapterfit.records import Case, Fix, Flaw
from adapterfit.text import show

_WHOLE = ("r", "init_r", "num_virtual_tokens")
_NUMBERS = ("lora_alpha", "alpha", "lora_dropout", "module_dropout", "rank_dropout")
_FLAGS = ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "inference_mode")
_TABLES = ("rank_pattern", "alpha_pattern")
_TASKS = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
#: With numbers as text nobody trains: PEFT stops. With a flag as text it does.
_BOTH = (
    "false, as the text says: somebody wrote it into the file after training",
    "true, as PEFT takes any text for it: the training was given this text, and the file is as it was saved",
)
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?\Z", re.ASCII)


def cure(case: Case, flaw: Flaw) -> Fix | None:
    """Write the value of this flaw as what it says; nothing where it may say more than one thing."""
    raw = case.adapter.config.raw if case.adapter.config is not None else {}
    edits = [
        SetConfig(key, new)
        for key, new in readings(raw).items()
        if _written(raw[key]) == flaw.found and _seems(case, key, new)
    ]
    unclear = [key for key in _FLAGS if _is_no(raw.get(key)) and _written(raw[key]) == flaw.found]
    if unclear:
        return Fix("unsafe", f"say what {unclear[0]} was in training: true or false", readings=_BOTH)
    if not edits:
        return None
    said = ", ".join(f"{edit.key} = {_written(edit.value)}" for edit in edits)
    return Fix("safe", f"write what the text says: {said}", tuple(edits))


def _written(value: Any) -> str:
    """As a flaw shows it."""
    return show(json.dumps(value, ensure_ascii=False), 80)


def _seems(case: Case, key: str, value: Any) -> bool:
    """Whether the tensors have that rank, where they have one."""
    rows = {tensor.shape[0] for tensor in case.adapter.tensors if ".lora_A" in tensor.name and tensor.shape}
    return key != "r" or not rows or value in rows


def readings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Field → what its value says."""
    found = {}
    for key, value in raw.items():
        new = _read(key, value)
        if new is not None and (new != value or type(new) is not type(value)):
            found[key] = new
    return found


def _is_no(value: Any) -> bool:
    return isinstance(value, str) and value.lower() == "false"


def _read(key: str, value: Any) -> Any:
    """What a field is meant to hold; None where that is not known, or it is so already."""
    if key in _TABLES and value is None:
        return {}
    if key in _WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return None
    if key in (*_WHOLE, *_NUMBERS) and _NUMBER.match(value):
        number = float(value)
        whole = number.is_integer() and (key in _WHOLE or "." not in value)
        return int(number) if whole else None if key in _WHOLE else number
    if key in _FLAGS:
        return True if value.lower() == "true" else None
    if key == "task_type":
        task = value.upper().replace("-", "_")
        return task if task in _TASKS else None
    return None
