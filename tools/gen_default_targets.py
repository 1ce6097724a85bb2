"""Write `src/adapterfit/expect/default_targets.json`: what PEFT targets for a model type when a config leaves it open.

Run with the `dev` extra installed: `python tools/gen_default_targets.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

OUT = Path(__file__).parents[1] / "src/adapterfit/expect/default_targets.json"
TABLES = {
    "LORA": "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING",
    "ADALORA": "TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING",
    "IA3": "TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING",
    "IA3_FEEDFORWARD": "TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING",
    "LOHA": "TRANSFORMERS_MODELS_TO_LOHA_TARGET_MODULES_MAPPING",
    "LOKR": "TRANSFORMERS_MODELS_TO_LOKR_TARGET_MODULES_MAPPING",
}


def main() -> None:
    import peft
    from peft.utils import constants

    tables = {name: dict(sorted(getattr(constants, source).items())) for name, source in TABLES.items()}
    made = {"made_by": "python tools/gen_default_targets.py", "peft": peft.__version__, "tables": tables}
    OUT.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{OUT.name}: " + ", ".join(f"{name} {len(table)}" for name, table in tables.items()))


if __name__ == "__main__":
    main()
