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
from typing import Any, NamedTuple

import safetensors.numpy

_SAVER = "p0.7.1-t4.36.2"


class Probe(NamedTuple):
    """The adapter it comes from, what its config says instead, how its keys are changed (an empty key is left out), and its saver."""

    kind: str
    changes: dict[str, Any]
    rename: Callable[[str], str] = str
    saver: str = _SAVER


def _named(name: str) -> str:
    """With the adapter's name in the key."""
    return name.replace(".weight", ".default.weight")


def _halved(name: str) -> str:
    """Without the B of one layer."""
    return "" if ".layers.0." in name and ".lora_B." in name else name


#: Ways to start that came one after the other; an adapter of any of them is an adapter like any other.
_INITS = ("gaussian", "pissa", "olora", "eva", "corda", "orthogonal", "lora_ga")
PROBES: dict[str, Probe] = {
    "no_target": Probe("lora_plain", {"target_modules": ["nowhere"]}),
    "task_type_unknown": Probe("lora_plain", {"task_type": "NOTHING"}),
    "pattern_alone": Probe("lora_plain", {"layers_pattern": "layers"}),
    "layers_beside_pattern": Probe("lora_regex", {"layers_to_transform": [0, 1]}),
    "name_in_keys": Probe("lora_plain", {}, _named),
    "adalora_no_total": Probe("adalora", {"total_step": None}),
    "head_is_target": Probe("lora_mts_head", {"target_modules": ["q_proj", "v_proj", "lm_head"]}),
    "below_a_saved_module": Probe("lora_allproj", {"modules_to_save": ["mlp"]}),
    "patterns_of_two": Probe("lora_plain", {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"self_attn.q_proj": 32}}),
    "end_of_a_name": Probe("lora_plain", {"target_modules": ["attn.q_proj", "attn.v_proj"]}),
    "layers_of_experts": Probe("lora_mixtral_experts", {"layers_to_transform": [0, 1]}),
    "targets_left_open": Probe("lora_plain", {"target_modules": None}),
    "targets_left_open_lokr": Probe("lokr", {"target_modules": None}),
    "all_linear_named": Probe("lora_allproj", {"target_modules": "all-linear"}),
    "half_a_layer": Probe("lora_plain", {}, _halved),
    "dora_of_embedding": Probe("lora_embed", {"use_dora": True}),
    "conv3d": Probe("lora_qwen2vl", {"target_modules": ["patch_embed.proj"]}, saver="p0.13.2-t4.45.2"),
    **{f"init_{init}": Probe("lora_plain", {"init_lora_weights": init}) for init in _INITS},
}


def main() -> int:
    """Write them below a folder of the saver."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for probe, (kind, changes, rename, saver) in PROBES.items():
        there, made = given.adapters / saver / kind, given.out / saver / probe
        shutil.copytree(there, made, dirs_exist_ok=True)
        config = {**json.loads((there / "adapter_config.json").read_text("utf-8")), **changes}
        (made / "adapter_config.json").write_text(json.dumps(config), "utf-8")
        tensors = safetensors.numpy.load_file(there / "adapter_model.safetensors")
        renamed = {rename(name): tensor for name, tensor in tensors.items() if rename(name)}
        safetensors.numpy.save_file(renamed, made / "adapter_model.safetensors", {"format": "pt"})
        meta = {**json.loads((there / "_meta.json").read_text("utf-8")), "kind": probe, "probe": True}
        (made / "_meta.json").write_text(json.dumps(meta), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
