"""Condense the config fields of every PEFT release into `src/adapterfit/read/peft_fields.json`.

    python tools/gen_peft_fields.py FIELDS.json ENUMS.json

FIELDS.json: {version: {class: {field: default}}}; ENUMS.json: {"by_version": {version: {"peft_types": […],
"task_types": […], "peft_type_to_config_class": {type: [class]}}}}. What a value may be is taken from the
annotations of the installed PEFT, which must be the newest version of the tables.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent.parent / "src" / "adapterfit" / "read" / "peft_fields.json"
#: PEFT 0.2.0 is not in the tables; its adapters still lie around. Measured from files it wrote.
OLDEST = "0.2.0"
OLDEST_TYPES = ("LORA", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
OLDEST_GONE = {"LORA": {"enable_lora": None, "merge_weights": False}}
OLDEST_LACKS = {"LORA": {"init_lora_weights"}}
#: Not written by `save_pretrained`, and ignored with a warning when it is there.
NEVER_WRITTEN = "runtime_config"
#: Annotations that say less than the code behind them demands.
STRICTER = {"rank_pattern": "dict?", "alpha_pattern": "dict?", "lora_alpha": "float", "alpha": "float"}


def main() -> None:
    """Read both tables, write the condensed one."""
    fields, enums = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    releases = enums["by_version"]
    versions = list(releases)
    kinds = _kinds()
    types = {
        name: _method(name, versions, fields, releases, kinds.get(name, {}))
        for name in sorted({kind for entry in releases.values() for kind in entry["peft_type_to_config_class"]})
    }
    document = {
        "versions": [OLDEST, *versions],
        "task_types": releases[versions[-1]]["task_types"],
        "types": types,
    }
    OUT.write_text(_compact(document))
    print(f"{OUT.name}: {len(types)} methods, {OUT.stat().st_size:,} bytes")


def _method(name: str, versions: list[str], fields: dict, releases: dict, kinds: dict[str, str]) -> dict[str, Any]:
    seen: dict[str, list[tuple[int, Any]]] = {}
    places = []
    cls = ""
    for place, version in enumerate(versions, start=1):
        classes = releases[version]["peft_type_to_config_class"].get(name)
        if not classes:
            continue
        cls = classes[0]
        places.append(place)
        for field, default in fields[version][cls].items():
            if field != NEVER_WRITTEN:
                seen.setdefault(field, []).append((place, default))
    _add_oldest(name, seen, places)
    return {
        "class": cls,
        "first": min(places),
        "last": _last(max(places), versions),
        "fields": {field: _field(seen[field], versions, kinds.get(field, "any")) for field in seen},
    }


def _add_oldest(name: str, seen: dict[str, list[tuple[int, Any]]], places: list[int]) -> None:
    if name not in OLDEST_TYPES:
        return
    places.append(0)
    for field, history in seen.items():
        if history[0][0] == 1 and field not in OLDEST_LACKS.get(name, ()):
            history.insert(0, (0, history[0][1]))
    for field, default in OLDEST_GONE.get(name, {}).items():
        seen[field] = [(0, default)]


def _field(history: list[tuple[int, Any]], versions: list[str], kind: str) -> list[Any]:
    changes = [history[0]]
    changes += [now for before, now in zip(history, history[1:]) if now[1] != before[1]]
    newest = history[-1][1]
    kind = kind if newest is not None or kind.endswith("?") or kind == "any" else kind + "?"
    entry = [history[0][0], _last(history[-1][0], versions), kind, newest]
    return entry if len(changes) == 1 else [*entry, changes]


def _last(place: int, versions: list[str]) -> int:
    """-1 for a field that the newest version still has."""
    return -1 if place == len(versions) else place


def _kinds() -> dict[str, dict[str, str]]:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    found = {}
    for peft_type, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items():
        hints = typing.get_type_hints(cls)
        found[peft_type.value] = {
            field.name: STRICTER.get(field.name) or _kind(hints[field.name]) for field in dataclasses.fields(cls)
        }
    return found


def _kind(hint: Any) -> str:
    """An annotation as `int|str?`: alternatives joined by `|`, a trailing `?` where null is one of them."""
    names = sorted(set(_alternatives(hint)))
    null = "?" if "null" in names else ""
    return "|".join(name for name in names if name != "null") + null


def _alternatives(hint: Any) -> list[str]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        return [name for arg in args for name in _alternatives(arg)]
    if origin is typing.Literal:
        return ["str"]
    if hint is type(None):
        return ["null"]
    if origin in (list, tuple):
        return [f"list[{_kind(args[0])}]"]
    if origin is dict or hint is dict:
        return ["dict"]
    if hint in (bool, int, float, str):
        return [hint.__name__]
    return ["dict" if dataclasses.is_dataclass(hint) else "str"]


def _compact(document: dict[str, Any]) -> str:
    """One line per method, so that a change can be reviewed."""
    head = {key: value for key, value in document.items() if key != "types"}
    lines = [
        f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}" for name, value in document["types"].items()
    ]
    return json.dumps(head)[:-1] + ', "types": {\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    main()
