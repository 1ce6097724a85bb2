"""`rank_pattern` and `alpha_pattern` for another release: which key counts for a module has been decided in three ways.

Until 0.13.2 the first key of both tables together that fits, for both; in 0.14 each table by itself; until then a key has to stand
behind a dot. Since 0.15 it may be the whole name, or an alternative (peft `tuners/lora/model.py`, `utils/other.py: get_pattern_key`).
Where reader and writer disagree about a module, the tables are written anew: every module by its whole name, which all read alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapterfit.consumers.versions import version_range
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.peft_rules import resolved
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.expect.patterns import Patterns
from adapterfit.records import AdapterConfig
from adapterfit.text import quote, shorten

_A = re.compile(r"base_model\.model\.(?P<module>.+)\.(?:lora_A\.weight|lora_embedding_A|hada_w1_a|lokr_w[12](?:_a)?)")
Reading = tuple[Any, Any]


def tables_for(config: AdapterConfig, opened: Opened, version: str) -> dict[str, Any]:
    """The tables to be set, where they have to be; else nothing.

    Raises:
        CannotConvert: The release that wrote them is not known well enough to say what they meant.
    """
    if config.peft_type not in ("LORA", "LOHA", "LOKR") or not _tables(config):
        return {}
    modules = sorted({match["module"] for name in opened.tensors() if (match := _A.fullmatch(name))})
    meant, other = (readings(config, modules, writer) for writer in (config.oldest, config.newest))
    unclear = [module for module in modules if meant[module] != other[module]]
    if unclear:
        raise CannotConvert(
            f"rank_pattern and alpha_pattern mean two things for {shorten(map(quote, unclear))}, as PEFT {config.oldest} reads them and "
            f"as {config.newest} does, and the config does not say which wrote it",
            tuple(unclear),
        )
    if meant == readings(config, modules, version):
        return {}
    alpha = _alpha(config)
    ranks = {module: reading[0] for module, reading in meant.items() if reading[0] != config.values["r"]}
    alphas = {module: reading[1] for module, reading in meant.items() if reading[1] != config.values[alpha]}
    written = {"rank_pattern": ranks, "alpha_pattern": alphas}
    again = AdapterConfig(config.file, config.raw, {**config.values, **written}, config.peft_type)
    if readings(again, modules, version) != meant:
        raise CannotConvert(f"no tables make PEFT {version} read what these mean", ("rank_pattern", "alpha_pattern"))
    return written


def _tables(config: AdapterConfig) -> bool:
    return bool(config.values.get("rank_pattern") or config.values.get("alpha_pattern"))


def _alpha(config: AdapterConfig) -> str:
    return "lora_alpha" if config.peft_type == "LORA" else "alpha"


def readings(config: AdapterConfig, modules: list[str], version: str) -> dict[str, Reading]:
    """Module → its rank and its alpha, as a release reads them."""
    values, alpha = config.values, _alpha(config)
    if version in version_range(">=0.15"):
        return {
            module: (resolved(values, module, "rank_pattern", "r"), resolved(values, module, "alpha_pattern", alpha))
            for module in modules
        }
    shared = version in version_range("<0.14")
    return {module: _older(values, module, alpha, shared=shared) for module in modules}


def _older(values: Mapping[str, Any], module: str, alpha: str, *, shared: bool) -> Reading:
    ranks, alphas = values.get("rank_pattern") or {}, values.get("alpha_pattern") or {}
    if shared:
        key = _key({**ranks, **alphas}, module)
        return ranks.get(key, values["r"]), alphas.get(key, values[alpha])
    return ranks.get(_key(ranks, module), values["r"]), alphas.get(_key(alphas, module), values[alpha])


def _key(table: Mapping[str, Any], module: str) -> str:
    r"""`next(filter(lambda key: re.match(rf".*\.{key}$", name), keys), name)`."""
    patterns = Patterns()
    try:
        return next((key for key in table if patterns.start(rf".*\.{key}$", module)), module)
    except BadInput as bad:
        raise CannotConvert(bad.flaw.message) from None
