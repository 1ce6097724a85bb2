"""The judge: what the installed PEFT really does with an adapter on a base."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
#: Tensors of a method's own that PEFT never saves, and that hold nothing that training changes.
UNSAVED = ("ranknum",)
#: Beyond this share of the largest logit two models differ; one that starts without effect is off by 2e-7.
CLOSE = 1e-5


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


def load(fresh: Callable[[], Any], adapter: Path | str) -> Truth:
    """`PeftModel.from_pretrained(fresh(), adapter)`, observed; `fresh` makes a base, and again one to compare with."""
    import peft
    import torch

    seen: dict[str, list[str]] = {}
    plain = peft.peft_model.set_peft_model_state_dict

    def observed(*args, **kwargs):
        result = plain(*args, **kwargs)
        seen["missing"], seen["unexpected"] = list(result.missing_keys), list(result.unexpected_keys)
        return result

    model = fresh()
    base = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    torch.manual_seed(999)
    peft.peft_model.set_peft_model_state_dict = observed
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = peft.PeftModel.from_pretrained(model, str(adapter))
    except Exception as error:
        return Truth("raises", f"{type(error).__name__}: {error}")
    finally:
        peft.peft_model.set_peft_model_state_dict = plain
    told = tuple(str(w.message) for w in caught)
    names = _names(adapter)
    dropped, missing = _dropped(loaded, seen, names), _missing(loaded, seen, base, names)
    if not dropped and not missing:
        return Truth("loads", warned=told)
    nothing = not (set(loaded.state_dict()) - set(seen["missing"])) and not _is_prompt(loaded)
    outcome = "loads-without-effect" if nothing and _same(loaded, fresh()) else "loads-partly"
    return Truth(outcome, dropped=dropped, missing=missing, warned=told)


def _is_prompt(model) -> bool:
    return model.peft_config["default"].is_prompt_learning


def _own_prompt(model) -> set[str]:
    """What a prompt encoder takes out of the file by itself."""
    return set(_saved(model)) if _is_prompt(model) else set()


def _saved(model) -> dict[str, Any]:
    """What PEFT would save of this model."""
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return peft.get_peft_model_state_dict(model)
        except NotImplementedError:  # a class without input embeddings: PEFT loads for it, and cannot save by itself
            return peft.get_peft_model_state_dict(model, save_embedding_layers=False)


def _dropped(model, seen: dict[str, list[str]], names: dict[str, Any]) -> frozenset[str]:
    """The tensors of the file that reached nothing, but for those that are there twice."""
    own = _own_prompt(model)
    return frozenset(key for key in seen["unexpected"] if key not in own and not _twice(key, names))


def _twice(key: str, names: dict[str, Any]) -> bool:
    """Whether a tensor is also in the file under the name of the module it is a copy of."""
    import torch

    plain = key.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
    return plain != key and plain in names and torch.equal(names[plain], names[key])


def _missing(model, seen: dict[str, list[str]], base: set[int], names: dict[str, Any]) -> frozenset[str]:
    """The adapter's own tensors that stayed as they started, under whatever other name they may have been filled."""
    state = model.state_dict(keep_vars=True)
    filled = {id(tensor) for key, tensor in state.items() if key not in seen["missing"]}
    empty = {
        key
        for key in seen["missing"]
        if id(state[key]) not in base | filled
        and "." in key.rpartition("base_layer.")[2]
        and "prompt_encoder" not in key
        and not _unsaved(key, model)
    }
    aside = _own_prompt(model) | {key for key in _saved(model) if key.endswith(".shira_indices")}
    return frozenset(empty | {key for key in aside if key not in names})


def _unsaved(key: str, model) -> bool:
    projected = getattr(model.peft_config["default"], "save_projection", True)
    return any(part in UNSAVED or (part == "tinylora_P" and not projected) for part in key.split("."))


def _names(adapter: Path | str) -> dict[str, Any]:
    from peft.utils.save_and_load import load_peft_weights

    return load_peft_weights(str(adapter), device="cpu")


def _same(model, base) -> bool:
    """Whether the model computes what its base computes."""
    ours, theirs = _logits(model), _logits(base)
    return float((ours - theirs).abs().max()) <= CLOSE * max(1.0, float(theirs.abs().max()))


def _logits(model):
    import torch

    more = _inputs(getattr(model, "get_base_model", lambda: model)())
    if getattr(model, "peft_type", None) in ("POLY", "MULTITASK_PROMPT_TUNING"):
        more["task_ids"] = torch.tensor([0])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model(**more)[0]


def _inputs(base) -> dict[str, Any]:
    """Something to look at, to hear or to read, the same each time."""
    import torch

    ids = torch.tensor([[1, 10, 20, 30, 40, 50]])
    more = {"decoder_input_ids": ids} if getattr(base.config, "is_encoder_decoder", False) else {}
    random = torch.Generator().manual_seed(0)
    config = base.config
    if base.main_input_name == "pixel_values":
        size = config.image_size
        return {"pixel_values": torch.randn(1, config.num_channels, size, size, generator=random)}
    if base.main_input_name == "input_features":
        frames = 2 * config.max_source_positions
        return {"input_features": torch.randn(1, config.num_mel_bins, frames, generator=random), **more}
    return {"input_ids": ids, **more}


#: Parts of messages beside which stands what a file cannot show: the order of a set, the repr of a module or class.
VAGUE = (
    " not found in the base model",
    "is not supported",
    "not supported, currently",
    "is not a plain torch.nn.Linear",
    "does not support target modules of type",
    "cannot be applied to modules of type",
    "is incompatible with Mamba-based models",
)


def same_line(ours: str, theirs: str) -> bool:
    """Equal, up to what cannot be known."""
    if ours == theirs:
        return True
    vague = any(part in ours and part in theirs for part in VAGUE)
    return vague and ours.partition(":")[0] == theirs.partition(":")[0]
