"""What was written, read by the safetensors library, where it is installed: the same names, types and shapes as by our own reader."""

from __future__ import annotations

from collections.abc import Iterable

from adapterfit.plans import Shown
from adapterfit.records import TensorInfo
from adapterfit.text import quote, shorten, show


def by_safetensors(path: str, tensors: Iterable[TensorInfo]) -> Shown:
    """Open the file with safetensors itself.

    Args:
        path: The file on disk.
        tensors: What our own reader found in it.
    """
    try:
        import safetensors
    except ImportError:
        return Shown("safetensors", "not-checked", "the safetensors library is not installed here")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            found = {name: (view.get_dtype(), tuple(view.get_shape())) for name, view in views.items()}
    except Exception as error:  # noqa: BLE001 - whatever it says, the file is not sound
        return Shown("safetensors", "failed", f"safetensors cannot read it: {show(error)}")
    ours = {tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in tensors}
    if found != ours:
        differing = sorted(name for name in found.keys() | ours.keys() if found.get(name) != ours.get(name))
        return Shown(
            "safetensors", "failed", f"safetensors reads {shorten(map(quote, differing))} otherwise than we do"
        )
    version = getattr(safetensors, "__version__", "")
    return Shown(
        "safetensors", "proven", f"safetensors {show(version)} reads the same {len(found):,} names, types and shapes"
    )
