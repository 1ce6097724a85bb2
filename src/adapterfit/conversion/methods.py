"""Methods beside LoRA whose change of a weight can be computed: LoHa, LoKr and IA3, and how they do it.

Sources: peft 0.21.2, `tuners/loha/layer.py`, `tuners/lokr/layer.py`, `tuners/ia3/layer.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.consumers.versions import version_range
from adapterfit.conversion.neutral import Change, Neutral, Rest
from adapterfit.conversion.numbers import Tensor
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.peft_rules import as_loaded, resolved
from adapterfit.errors import CannotConvert
from adapterfit.records import AdapterConfig, Shape
from adapterfit.text import quote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: peft_type → the suffixes of its tensors.
METHODS = {
    "LOHA": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    "LOKR": ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    "IA3": ("ia3_l",),
}
_PREFIX = "base_model.model."


def of_another_method(opened: Opened, config: AdapterConfig) -> Neutral:
    """An adapter of one of `METHODS` → the neutral form.

    Raises:
        CannotConvert: It is damaged, or PEFT itself would not load it whole.
    """
    pattern = re.compile(rf"(?P<module>.+)\.(?P<role>{'|'.join(METHODS[config.peft_type])})")
    found: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    for name, tensor in opened.tensors().items():
        match = pattern.fullmatch(name[len(_PREFIX) :]) if name.startswith(_PREFIX) else None
        if match is None:
            others.append(name)
        else:
            found.setdefault(match["module"], {})[match["role"]] = tensor
    as_loaded(config, found)
    changes = tuple(_change(module, tensors, config) for module, tensors in found.items())
    rest = (Rest(f"tensors that {config.peft_type} does not have", tuple(others)),) if others else ()
    return Neutral((), {}, rest, _notes(config), changes)


def _change(module: str, tensors: Mapping[str, Tensor], config: AdapterConfig) -> Change:
    if config.peft_type == "IA3":
        ends = config.values.get("feedforward_modules") or ()
        if isinstance(ends, str):
            raise CannotConvert("feedforward_modules is a pattern: not converted", ("feedforward_modules",))
        return Change(module, "IA3", tensors, feedforward=any(module.endswith(end) for end in ends))
    if unscaled(config):
        return Change(module, config.peft_type, tensors, 1.0)
    rank = resolved(config.values, module, "rank_pattern", "r")
    alpha = resolved(config.values, module, "alpha_pattern", "alpha")
    return Change(module, config.peft_type, tensors, alpha / rank)


def unscaled(config: AdapterConfig) -> bool:
    """Whether a LoKr was trained with scale 1, whatever its alpha says: PEFT before 0.14 took no notice of it.

    Raises:
        CannotConvert: It has an alpha that counts or not, and the config does not say which release wrote it.
    """
    patterns = config.values.get("rank_pattern") or config.values.get("alpha_pattern")
    if config.peft_type != "LOKR" or (config.values["r"] == config.values["alpha"] and not patterns):
        return False
    older, newest = (each in version_range("<0.14") for each in (config.oldest, config.newest))
    if older != newest:
        raise CannotConvert(
            f"LoKr's alpha counts since PEFT 0.14, before it the scale was 1, and the config does not tell which wrote it "
            f"({config.oldest} to {config.newest}): set peft_version in adapter_config.json, or alpha to r",
            ("alpha",),
        )
    return newest


def _notes(config: AdapterConfig) -> tuple[str, ...]:
    said = "PEFT before 0.14, which wrote this, trained LoKr with scale 1 whatever its alpha says: so it is converted."
    return (said,) if unscaled(config) else ()


# --------------------------------------------------------------------------------------------------- computed


def delta(change: Change, shape: Shape) -> Array:
    """ΔW of LoHa or LoKr in float32, as PEFT computes it.

    Args:
        change: The module's tensors.
        shape: That of the module's weight.

    Raises:
        CannotConvert: Tensors are missing, or their product has another size.
    """
    import numpy as np

    parts = {role: tensor.floats().astype(np.float32) for role, tensor in change.tensors.items()}
    try:
        product = _hadamard(parts) if change.method == "LOHA" else _kronecker(parts)
        found: Array = (product * np.float32(change.scale)).reshape(shape)
    except (KeyError, ValueError):
        raise CannotConvert(
            f"{quote(change.module)}: its tensors do not make up a weight of shape {shape}", (change.module,)
        ) from None
    return found


def _hadamard(parts: Mapping[str, Array]) -> Array:
    sides = []
    for side in ("1", "2"):
        a, b = parts[f"hada_w{side}_a"], parts[f"hada_w{side}_b"]
        sides.append(_tucker(parts[f"hada_t{side}"], a, b) if f"hada_t{side}" in parts else a @ b)
    product: Array = sides[0] * sides[1]
    return product


def _kronecker(parts: Mapping[str, Array]) -> Array:
    import numpy as np

    first = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_w2" in parts:
        second = parts["lokr_w2"]
    elif "lokr_t2" in parts:
        second = _tucker(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    if second.ndim > 2:
        first = first.reshape(*first.shape, *(1 for _ in second.shape[2:]))
    product: Array = np.kron(first, second)
    return product


def _tucker(core: Array, a: Array, b: Array) -> Array:
    """`core` (i, j, *kernel), `a` (i, out), `b` (j, in) → (out, in, *kernel)."""
    import numpy as np

    found: Array = np.einsum("ij...,jr,ip->pr...", core, b, a)
    return found
