"""Write what the real PEFT saves, names and shapes, for every adapter of the differential tests: tests/gold/saved.json.

Run `python tools/gen_gold.py` with the `dev` extra installed; the ordinary tests compare with it without torch.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOLD = ROOT / "tests" / "gold" / "saved.json"


def saved(name: str) -> dict[str, Any]:
    """The adapter that PEFT itself makes of a fresh base: family, config, and each tensor's shape."""
    import broken
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    family, config = broken.ADAPTERS[name]
    case = broken.sample(name).case
    made = PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]](**case.adapter.config.raw)
    model = peft.get_peft_model(broken.real_base(case, case.base.architecture), made)
    tensors = {key: list(tensor.shape) for key, tensor in peft.get_peft_model_state_dict(model).items()}
    return {"family": family, "config": config, "tensors": tensors}


def main() -> None:
    """Write the file, one tensor per line."""
    sys.path.insert(0, str(ROOT / "tests" / "differential"))
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import broken

    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(io.StringIO()):
        adapters = {name: saved(name) for name in broken.ADAPTERS}
    made = {"peft": version("peft"), "transformers": version("transformers")}
    lines = [f' "made": {json.dumps(made)},']
    for name, one in adapters.items():
        tensors = ",\n".join(f"   {json.dumps(key)}: {shape}" for key, shape in one["tensors"].items())
        head = f'  "family": {json.dumps(one["family"])},\n  "config": {json.dumps(one["config"])},'
        lines.append(f' {json.dumps(name)}: {{\n{head}\n  "tensors": {{\n{tensors}\n  }}\n }},')
    GOLD.parent.mkdir(exist_ok=True)
    GOLD.write_text("{\n" + "\n".join(lines).rstrip(",") + "\n}\n", "utf-8")
    print(f"{len(adapters)} adapters, {sum(len(one['tensors']) for one in adapters.values())} tensors")


if __name__ == "__main__":
    main()
