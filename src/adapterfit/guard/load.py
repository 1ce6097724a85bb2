"""`adapterfit.load`: `PeftModel.from_pretrained`, checked before and proven after."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterfit import pipeline
from adapterfit.errors import AdapterMisfit, CannotCheck
from adapterfit.guard import proof
from adapterfit.guard.directions import refuse_strayed, shows_after_load
from adapterfit.guard.numbers import Numbers, summaries
from adapterfit.guard.offload import refuse_overwriting
from adapterfit.guard.refuse import refuse_misfit
from adapterfit.read.adapter import read_adapter
from adapterfit.read.config import parse_config
from adapterfit.read.live import is_live
from adapterfit.read.locate import is_hub_id, locate
from adapterfit.records import Adapter, AdapterConfig
from adapterfit.text import quote, show

if TYPE_CHECKING:
    import os

    from peft import PeftModel

_PREFIXES = ("base_model.model.", "base_model.")


def load(base_model: Any, adapter: str | os.PathLike[str], *, allow: Collection[str] = (), **kwargs: Any) -> PeftModel:
    """Load an adapter as `PeftModel.from_pretrained` does, or say why not before anything can go wrong.

    The adapter is checked against the live model first; where it does not fit, the model is left untouched. After
    PEFT has loaded it, every tensor of the file is held against the model bit for bit (cast to the model's dtype),
    and every slot of the adapter must have been filled.

    Args:
        base_model: The base, an `nn.Module`.
        adapter: A folder, or a Hub id, which is downloaded as PEFT would.
        allow: What is accepted all the same: predictions (`loads-partly`, `cannot-tell`) and ids of findings.
        kwargs: Handed to `PeftModel.from_pretrained` as they are.

    Raises:
        AdapterMisfit: It does not fit (the model is untouched), or PEFT did not do what it should (then load the
            base again). Its `report` is the check.
        CannotCheck: The adapter is not there, or changed meanwhile.
    """
    if isinstance(allow, str):
        raise TypeError(f"allow takes a collection of words, such as ({allow!r},)")
    if not is_live(base_model):
        raise CannotCheck(
            f"load needs the base as a live model (an nn.Module), not a {show(type(base_model).__name__)}"
        )
    folder = _folder(adapter, kwargs)
    source = locate(str(Path(folder, kwargs.get("subfolder") or "")), kind="adapter")
    found = _as_loaded(read_adapter(source), base_model, kwargs)
    numbers = Numbers(source)
    found = dataclasses.replace(found, values=summaries(numbers, found.tensors))
    report = pipeline.check(found, base=base_model)
    refuse_misfit(report, (*allow, "cannot-tell") if shows_after_load(report) else allow)
    refuse_overwriting(base_model, report, allow)
    before = proof.overwritten(base_model, numbers, report)
    from peft import PeftModel

    model = PeftModel.from_pretrained(base_model, folder, **kwargs)
    lacking = proof.shortfall(model, kwargs.get("adapter_name", "default"), numbers, report)
    lacking = dataclasses.replace(lacking, overwritten=tuple(before & frozenset(lacking.in_base)))
    told = lacking.without_predicted(report) if report.predicted in allow else lacking
    if told:
        line = (
            f"PEFT loaded {show(found.label)} without an error, but {told.said()}; load the base again before you go on"
        )
        raise AdapterMisfit(line, report, told.names)
    refuse_strayed(model, kwargs.get("adapter_name", "default"), report, allow)
    return model


# ------------------------------------------------------------------------------------------------ what PEFT reads


def _folder(adapter: str | os.PathLike[str], kwargs: Mapping[str, Any]) -> str:
    """The local folder of the adapter, so that what is checked is what is loaded.

    Raises:
        CannotCheck: There is no such folder, and no such repository on the Hub or in its cache.
    """
    name = str(adapter)
    if Path(name).is_dir():
        return name
    if Path(name).exists():
        raise CannotCheck(f"{show(name)} is a file: PEFT loads a folder with adapter_config.json and the weights")
    if not is_hub_id(name):
        raise CannotCheck(f"there is no adapter at {quote(name)}: no such folder, and it is not a Hub id")
    return _downloaded(name, kwargs)


def _downloaded(repo: str, kwargs: Mapping[str, Any]) -> str:
    from huggingface_hub import snapshot_download

    asked = {key: kwargs[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in kwargs}
    inside = f"{kwargs['subfolder']}/" if kwargs.get("subfolder") else ""
    wanted = [inside + name for name in ("adapter_config.json", "adapter_model.*", "adapterfit.json", "tokenizer.json")]
    try:
        return str(snapshot_download(repo, allow_patterns=wanted, **asked))
    except Exception as error:
        raise CannotCheck(f"{show(repo)} cannot be downloaded from the Hub: {show(error)}") from error


def _as_loaded(found: Adapter, base_model: Any, kwargs: Mapping[str, Any]) -> Adapter:
    """The adapter as PEFT takes it when it is given `config` or `key_mapping`."""
    config = kwargs.get("config")
    if config is not None:
        found = dataclasses.replace(found, config=_given(config))
    mapping = kwargs.get("key_mapping")
    if mapping is None and found.config is not None and found.config.values.get("num_virtual_tokens") is None:
        mapping = getattr(base_model, "_checkpoint_conversion_mapping", None)
    if not mapping or found.weights is None:
        return found
    renamed = tuple(dataclasses.replace(t, name=_mapped(t.name, mapping)) for t in found.weights.tensors)
    return dataclasses.replace(found, weights=dataclasses.replace(found.weights, tensors=renamed))


def _given(config: Any) -> AdapterConfig:
    """A `PeftConfig` as if it had been written to a file."""
    plain = config.to_dict()
    return parse_config(json.dumps(plain, default=_as_json).encode(), "the given config")


def _as_json(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def _mapped(name: str, mapping: Mapping[str, str]) -> str:
    """A name after `key_mapping`: the first pattern that matches, prefix left aside."""
    prefix = next((each for each in _PREFIXES if name.startswith(each)), "")
    bare = name[len(prefix) :]
    for pattern, replacement in mapping.items():
        changed, times = re.subn(pattern, replacement, bare)
        if times:
            return prefix + changed
    return name
