"""A base whose layers lie on the disk: PEFT writes the adapter into the base's own file while it loads it.

`PeftModel._update_offload` of peft 0.21.2 saves every safetensors file that accelerate reads offloaded layers from anew, under
PEFT's names and with the adapter in it. In the Hub's cache (a folder with `--` in its name) it chooses another place; of an absolute
path it loses the first slash, and so writes below the working directory. A relative path it writes over.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterfit.errors import AdapterMisfit
from adapterfit.records import Report
from adapterfit.text import quote

ID = "base-offloaded"


def refuse_overwriting(base_model: Any, report: Report, allow: Collection[str]) -> None:
    """Raise where loading an adapter would write over a file of the base.

    Raises:
        AdapterMisfit: It would; the model and its files are untouched.
    """
    files = sorted(set(_written_over(base_model))) if ID not in allow else []
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        line = (
            f"layers of this base lie on the disk, and PEFT would write the adapter into the base's own file {quote(files[0])}{more}. "
            f'Load the base on one device, or a copy of it and pass allow=("{ID}",). See: adapterfit explain {ID}'
        )
        raise AdapterMisfit(line, report, tuple(files))


def with_offloaded(model: Any, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict with the numbers that accelerate keeps elsewhere in the place of its empty tensors."""
    if not any(tensor.device.type == "meta" for tensor in state.values()):
        return state
    found = dict(state)
    for name, module in model.named_modules():
        kept = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
        if kept is None:
            continue
        for leaf, _ in module.named_parameters(recurse=False):
            key = f"{name}.{leaf}"
            if key in found and found[key].device.type == "meta":
                found[key] = kept[leaf]
    return found


def _written_over(model: Any) -> Iterator[str]:
    """Files that layers of the base are read from, and that PEFT saves anew."""
    places = getattr(model, "hf_device_map", None)
    if not isinstance(places, Mapping) or not {"cpu", "disk"} & {str(place) for place in places.values()}:
        return
    for name, module in model.named_modules():
        hook = getattr(module, "_hf_hook", None)
        index = getattr(getattr(getattr(hook, "weights_map", None), "dataset", None), "index", None)
        for leaf, device in (getattr(hook, "original_devices", None) or {}).items():
            entry = index.get(f"{name}.{leaf}") if isinstance(index, Mapping) and str(device) == "meta" else None
            file = entry.get("safetensors_file") if isinstance(entry, Mapping) else None
            if isinstance(file, str) and os.path.realpath(_saved_as(file)) == os.path.realpath(file):
                yield file


def _saved_as(file: str) -> str:
    """Where PEFT writes what it read from `file`."""
    parts = file.split(os.sep)  # noqa: PTH206 - as PEFT does it: the empty first part of an absolute path is lost
    marked = next((at for at, part in enumerate(parts) if "--" in part), None)
    return str(Path(*(f"{part}-peft" if at == marked else part for at, part in enumerate(parts))))
