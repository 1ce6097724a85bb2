"""Write `src/adapterfit/expect/wordless.json`: the model types that PEFT cannot put a prompt in front of, and what it says.

PEFT looks for the word embeddings by `config.get_text_config().vocab_size` (0.21.2 `peft_model.py`, `_setup_prompt_encoder`);
a config without words has none. Run with the `dev` extra installed:

    python tools/gen_wordless.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
OUT = Path(__file__).parents[1] / "src/adapterfit/expect/wordless.json"


def lines() -> dict[str, str]:
    """Model type → `AttributeError: …`, of its default config."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    found = {}
    for kind in CONFIG_MAPPING_NAMES:
        try:
            config = CONFIG_MAPPING[kind]()
        except Exception as error:
            print(f"{kind}: no default config: {error}".splitlines()[0][:160])
            continue
        try:
            _ = config.get_text_config().vocab_size
        except (AttributeError, ValueError) as error:
            found[kind] = f"{type(error).__name__}: {error}"
    return dict(sorted(found.items()))


def main() -> None:
    import transformers

    found = lines()
    text = json.dumps({"transformers": transformers.__version__, "raises": found}, indent=1, ensure_ascii=False)
    OUT.write_text(text + "\n", encoding="utf-8")
    print(f"{OUT.name}: {len(found)} model types")


if __name__ == "__main__":
    main()
