"""Write `src/adapterfit/expect/default_targets.json`: what PEFT targets for a model type when a config leaves it open.

A table that equals an earlier one is written as that one's name. Run with the `dev` extra installed:
`python tools/gen_default_targets.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "src/adapterfit/expect/default_targets.json"
#: Tables that are no tuner's `target_module_mapping`.
MORE = {
    "IA3": "TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING",
    "IA3_FEEDFORWARD": "TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING",
}


def tables() -> dict[str, Mapping[str, Any]]:
    """Method → model type → targets; LoRA's first, since most others are copies of it."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import constants

    found = {name: getattr(constants, table) for name, table in MORE.items()}
    for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items():
        table = getattr(tuner, "target_module_mapping", None)
        if table:
            found[kind.value] = table
    ranked = sorted(found, key=lambda name: (name != "LORA", name))
    return {name: dict(sorted(found[name].items())) for name in ranked}


def shortened(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Copies by the name of the first of their kind."""
    first: dict[str, str] = {}
    short: dict[str, Any] = {}
    for name, table in found.items():
        text = json.dumps(table)
        short[name] = first.get(text, table)
        first.setdefault(text, name)
    return short


def main() -> None:
    """Write the file."""
    import peft

    found = tables()
    made = {"made_by": "python tools/gen_default_targets.py", "peft": peft.__version__, "tables": shortened(found)}
    OUT.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{OUT.name}: " + ", ".join(f"{name} {len(table)}" for name, table in found.items()))


if __name__ == "__main__":
    main()
