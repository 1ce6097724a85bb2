"""Which stages a backbone hands out: drawn, and as the facts know them, by their places.

Files say it by name (`out_features`) or by place (`out_indices`), and neither is a field of the config class.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

#: The name of the places in samples and facts.
STAGES = "out_stages"
#: How often a file says which, and says so by name.
_SAID = 0.6


def known(cls: type) -> bool:
    """Whether configs of this class are backbones'."""
    return issubclass(cls, BackboneConfigMixin)


def hand_out(cls: type[PreTrainedConfig], usual: dict[str, Any], raw: dict[str, Any], rng: random.Random) -> None:
    """Say it in this drawn config: as many as the model around it takes, where that says so (`usual`)."""
    try:
        names: list[str] = cls(**copy.deepcopy(raw)).stage_names
    except Exception:
        return
    count = len(usual.get("out_features", usual.get("out_indices", ())))
    count = count if count <= len(names) else 0
    if count or rng.random() < _SAID:
        places = sorted(rng.sample(range(len(names)), count or rng.randint(1, len(names))))
        by_name = rng.random() < _SAID
        raw["out_features" if by_name else "out_indices"] = [names[at] if by_name else at for at in places]


def named(config: PreTrainedConfig, env: dict[str, Any], prefix: str) -> None:
    """Put the places into the sample of this config, in place of how the config class keeps them."""
    if isinstance(config, BackboneConfigMixin) and getattr(config, "stage_names", None):
        for name in ("_out_features", "_out_indices"):
            env.pop(prefix + name, None)
        env[prefix + STAGES] = [at % len(config.stage_names) for at in config.out_indices]
