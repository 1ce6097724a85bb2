"""Adapters that the shared matrix does not have, for claims of which none of its loads speaks: saved ones with one thing changed.

    python tools/claim_probes.py --adapters DIR --out DIR

`--adapters` as for `tools/measure_loads.py`, which then measures what is written. The logits stay those of the saver: what each
change does to a load is for the load to say.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.numpy

_SAVER = "p0.7.1-t4.36.2"


def _named(name: str) -> str:
    """With the adapter's name in the key."""
    return name.replace(".weight", ".default.weight")


#: Name → the adapter it comes from, what its config says instead, and how its keys are changed.
PROBES: dict[str, tuple[str, dict[str, Any], Callable[[str], str]]] = {
    "no_target": ("lora_plain", {"target_modules": ["nowhere"]}, str),
    "task_type_unknown": ("lora_plain", {"task_type": "NOTHING"}, str),
    "pattern_alone": ("lora_plain", {"layers_pattern": "layers"}, str),
    "layers_beside_pattern": ("lora_regex", {"layers_to_transform": [0, 1]}, str),
    "name_in_keys": ("lora_plain", {}, _named),
    "adalora_no_total": ("adalora", {"total_step": None}, str),
    "head_is_target": ("lora_mts_head", {"target_modules": ["q_proj", "v_proj", "lm_head"]}, str),
    "patterns_of_two": ("lora_plain", {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"self_attn.q_proj": 32}}, str),
}


def main() -> int:
    """Write them below a folder of the saver."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for probe, (kind, changes, rename) in PROBES.items():
        there, made = given.adapters / _SAVER / kind, given.out / _SAVER / probe
        shutil.copytree(there, made, dirs_exist_ok=True)
        config = {**json.loads((there / "adapter_config.json").read_text("utf-8")), **changes}
        (made / "adapter_config.json").write_text(json.dumps(config), "utf-8")
        tensors = safetensors.numpy.load_file(there / "adapter_model.safetensors")
        renamed = {rename(name): tensor for name, tensor in tensors.items()}
        safetensors.numpy.save_file(renamed, made / "adapter_model.safetensors", {"format": "pt"})
        meta = {**json.loads((there / "_meta.json").read_text("utf-8")), "kind": probe, "probe": True}
        (made / "_meta.json").write_text(json.dumps(meta), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
