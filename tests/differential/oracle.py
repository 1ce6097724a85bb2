"""The judge: what the installed PEFT really does with an adapter on a base."""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Truth:
    """`outcome` in our words; the exception as `Kind: message`; names PEFT dropped or left at their start value."""

    outcome: str
    raised: str = ""
    dropped: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    warned: tuple[str, ...] = field(default=())


@cache
def _loaded(folder: str, auto: str):
    import torch
    import transformers

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(transformers, auto).from_pretrained(folder).float().eval()


def base_model(folder: Path | str, auto: str):
    """A fresh copy of a base."""
    return copy.deepcopy(_loaded(str(folder), auto))


def load(model, adapter: Path | str) -> Truth:
    """`PeftModel.from_pretrained(model, adapter)`, observed."""
    import peft
    import torch

    seen: dict[str, list[str]] = {}
    plain = peft.PeftModel.load_adapter

    def observed(self, *args, **kwargs):
        result = plain(self, *args, **kwargs)
        seen["missing"] = [key for key in result.missing_keys if "prompt_encoder" not in key]
        seen["unexpected"] = [key for key in result.unexpected_keys if key != "prompt_embeddings"]
        return result

    torch.manual_seed(999)
    peft.PeftModel.load_adapter = observed
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = peft.PeftModel.from_pretrained(model, str(adapter))
    except Exception as error:
        return Truth("raises", f"{type(error).__name__}: {error}")
    finally:
        peft.PeftModel.load_adapter = plain
    told = tuple(str(w.message) for w in caught)
    names = set(loaded.state_dict())
    dropped = frozenset(key for key in seen["unexpected"] if not _is_second_copy(key, names))
    missing = frozenset(seen["missing"])
    if not dropped and not missing:
        return Truth("loads", warned=told)
    outcome = "loads-without-effect" if _does_nothing(loaded, missing) else "loads-partly"
    return Truth(outcome, dropped=dropped, missing=missing, warned=told)


def _is_second_copy(key: str, names: set[str]) -> bool:
    """A saved module's bias under its wrapper's own name, which `bias="all"` saves beside the plain one."""
    return ".modules_to_save." in key and key.replace(".modules_to_save.", ".modules_to_save.default.") in names


def _does_nothing(model, missing: frozenset[str]) -> bool:
    """Whether no tensor of the adapter landed and the start values have no effect."""
    prefix = type(model.base_model).prefix if hasattr(type(model.base_model), "prefix") else ""
    own = {
        name
        for name in model.state_dict()
        if prefix and prefix in name and ".default" in name and "ranknum" not in name
    }
    copies = any(".modules_to_save." in name or "trainable_tokens_delta" in name for name in model.state_dict())
    init = getattr(model.peft_config["default"], "init_lora_weights", True)
    return bool(own) and own <= missing and not copies and init is not False
