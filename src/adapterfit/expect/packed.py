"""Packed modules: the Linear layers of a quantised base, and what each method does with them.

A quantiser puts a class of its own in the place of `nn.Linear`. Names and features stay; whether a method can wrap it, and whether it
still computes what it should, depends on both. packed.json holds what was seen when every method was loaded and run on modules packed
by the libraries themselves (`make packed`). Which modules a quantiser leaves alone: transformers 5.23
`quantizers/base.py` (`get_keys_to_not_convert`) and `quantizers_utils.py` (`should_convert_module`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterfit.errors import BadInput
from adapterfit.expect.methods._layer import InjectionFails, Undecided
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.versions import LOADER, below, rule
from adapterfit.records import Base, Module, ModuleTree, Raised

_FACTS = Path(__file__).with_name("packed.json")
#: Where a quantiser's table names modules that stay as they are.
_LEFT_ALONE = ("modules_to_not_convert", "llm_int8_skip_modules", "linear_weights_not_to_quantize", "ignore")
#: A quantiser that leaves the head alone even where the config names others; elsewhere a list stands in for the rule.
_HEAD_STAYS = frozenset({"awq"})
#: Classes whose weights transformers keeps in float32 (`_keep_in_fp32_modules`), so that they are not packed.
_KEPT = {**dict.fromkeys(("t5", "mt5", "umt5", "udop", "pop2piano"), ("wo",)), "blip-2": ("qformer",)}
_MATRICES = ("Linear", "Conv1D")
_OUTCOMES = frozenset({"applied", "loads", "nothing", "differs", "fails"})
_PLAIN = frozenset({"F16", "BF16", "F32", "F64"})
#: Options that make another thing of a method, as far as packed modules are concerned; each value but these is one.
_VARIANTS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "LORA": {
        "use_dora": (False, None),
        "lora_bias": (False, None),
        "use_qalora": (False, None),
        "use_bdlora": (None, False),
        "alora_invocation_tokens": (None,),
        "arrow_config": (None,),
        "kasa_config": (None,),
        "velora_config": (None,),
        "monteclora_config": (None,),
        "layer_replication": (None, []),
        "init_lora_weights": (True, False, None, "gaussian"),
    },
    "MISS": {"init_weights": (True, False, None)},
}


@lru_cache(maxsize=1)
def facts() -> Mapping[str, Any]:
    """What was measured: packing → class, library, and method → what became of it; and with which versions."""
    loaded: Mapping[str, Any] = json.loads(_FACTS.read_bytes())
    return loaded


# ------------------------------------------------------------------------------------------------ which modules


def mark(tree: ModuleTree, base: Base) -> ModuleTree:
    """`tree` with `packing` set on the modules that this base's quantiser replaces."""
    packing = _packing(base.quantisation)
    if not packing or tree.known == "live":
        return tree
    left_alone = _left_alone(tree, base, packing)
    modules = tuple(
        _as_packed(module, packing)
        if _can_be_packed(module) and not left_alone(module.name) and not _is_plain(module, base)
        else module
        for module in tree.modules
    )
    return replace(tree, modules=modules)


def _can_be_packed(module: Module) -> bool:
    """A matrix, or the matrices of fused experts."""
    experts = module.kind in ("other", "container") and any(len(shape) > 2 for shape in module.params.values())
    return module.kind in _MATRICES or experts


def _packing(quantisation: str) -> str:
    """`gptq-4bit` → `gptq`: only bitsandbytes has a class for each number of bits."""
    return quantisation if quantisation.startswith("bitsandbytes") else re.sub(r"-\d+bit$", "", quantisation)


def _as_packed(module: Module, packing: str) -> Module:
    """What stands there once it is packed; the class only where one is known before the hardware is."""
    if module.kind not in _MATRICES:
        return replace(module, packing=packing)
    weight = module.params["weight"]
    params = {**module.params, "weight": weight[::-1]} if module.kind == "Conv1D" else module.params
    known = facts()["packings"].get(packing, {})
    name = "…Linear" if known.get("by_hardware", True) else known["class"]
    return replace(module, kind="Linear", params=params, class_name=name, packing=packing)


def _left_alone(tree: ModuleTree, base: Base, packing: str) -> Any:
    """A test of module names, by the list in the config or by transformers' own rule."""
    table = _table(base.config or {})
    listed = next((table[key] for key in _LEFT_ALONE if isinstance(table.get(key), list)), None)
    names = [name for name in listed or () if isinstance(name, str) and name]
    if listed is None or packing in _HEAD_STAYS:
        names += [tree.output_embeddings] if tree.output_embeddings else []
        names += [name.rpartition(".")[0] for group in tree.tied for name in group]
        names += [module.name for module in tree.modules if module.params][-1:]
    names += _KEPT.get(tree.model_type, ())
    only = _only(table)
    patterns = Patterns()

    def test(name: str) -> bool:
        if only and not any(name.endswith(each) for each in only):
            return True
        return any(name.endswith(key) or _starts(patterns, key, name) for key in names)

    return test


def _starts(patterns: Patterns, key: str, name: str) -> bool:
    """The match of transformers, up to the border of a module; a key that is no pattern is taken by its letters."""
    key = key.removeprefix("re:")
    try:
        return patterns.start(rf"(?:{key})(?:(?<=\.)|(?=\.|$))", name) is not None
    except BadInput as bad:
        if bad.flaw.code != "regex-invalid":
            raise
        return name == key or name.startswith(f"{key}.")


def _only(table: Mapping[str, Any]) -> list[str]:
    """GPTQ's `modules_in_block_to_quantize`: the tails of the only modules that are packed."""
    found = table.get("modules_in_block_to_quantize")
    rows = found if isinstance(found, list) else []
    flat = [name for row in rows for name in (row if isinstance(row, list) else [row])]
    return [name for name in flat if isinstance(name, str)]


def _table(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The quantiser's table, of the whole or of its text part."""
    inner = (value for value in config.values() if isinstance(value, dict))
    for holder in (config, *inner):
        found = holder.get("quantization_config")
        if isinstance(found, dict):
            return found
    return {}


def _is_plain(module: Module, base: Base) -> bool:
    """Whether the checkpoint holds these very weights in plain numbers, whatever the config says."""
    held = [
        (base.tensors.get(f"{module.name}.{name}"), shape) for name, shape in module.params.items() if len(shape) > 1
    ]
    return all(one is not None and one.dtype in _PLAIN and one.shape == tuple(shape) for one, shape in held)


# ------------------------------------------------------------------------------------------------ what becomes of it


def survey(targets: Sequence[Module], config: Mapping[str, Any]) -> dict[str, str]:
    """The targets that are packed and that the method does not work on, as `Expectation.packed` has them.

    Raises:
        InjectionFails: The real PEFT raised this when it was measured.
        Undecided: Nobody has measured it.
    """
    found = {}
    for module in targets:
        told = _told(module, config) if module.packing and module.kind == "Linear" else "applied"
        how, _, line = told.partition(" ")
        if how == "raises":
            alike = (other.name for other in targets if other.packing == module.packing)
            raise InjectionFails(*_line(line, module), dict.fromkeys(alike, how))
        if how == "fails":
            found[module.name] = f"fails {': '.join(_line(line, module))}"
        elif how != "applied":
            found[module.name] = how
    return found


def _told(module: Module, config: Mapping[str, Any]) -> str:
    """What was measured for this method, with its options, on modules packed like this one."""
    peft_type = str(config["peft_type"])
    name = " ".join((peft_type, *_options(peft_type, config)))
    told = str(_methods(module).get(name, ""))
    how = told.partition(" ")[0]
    older = LOADER in config and below(str(rule(config, "peft")), facts()["measured"]["peft"])
    if how != "raises" and (how not in _OUTCOMES or (older and peft_type != "LORA")):
        versions = f" with peft {rule(config, 'peft')}" if older and how else ""
        raise Undecided(f"what {name} does on modules packed by {module.packing}{versions} was not measured")
    if how == "loads" and not _runs_elsewhere(name):
        raise Undecided(f"{name} loads on modules packed by {module.packing}, but was not run on any")
    return "applied" if how == "loads" else told


def failure(found: Mapping[str, str]) -> Raised | None:
    """What the first forward pass raises, where any packed module fails in it."""
    line = next((told.partition(" ")[2] for told in found.values() if told.startswith("fails ")), "")
    kind, _, words = line.partition(": ")
    return Raised(kind, words, stage="forward") if line else None


def save_whole(names: Mapping[str, bool], tree: ModuleTree) -> None:
    """`modules_to_save` on packed modules: the copy is packed too, and its plain weight finds no place.

    Raises:
        InjectionFails: The real PEFT raised this when it was measured.
        Undecided: Nobody has measured it.
    """
    for module in (module for module in tree.modules if module.packing):
        told = str(_methods(module).get("LORA modules_to_save", ""))
        if module.name in names and told.startswith("raises "):
            raise InjectionFails(*_line(told.removeprefix("raises "), module), {module.name: "raises"})
        if any(module.name == name or module.name.startswith(f"{name}.") for name in names):
            raise Undecided(
                f"what becomes of a saved copy of {module.name}, packed by {module.packing}, was not measured"
            )


def refuse_parameters(module: Module) -> None:
    """`target_parameters` of a module whose weights are packed.

    Raises:
        Undecided: Nobody has measured it.
    """
    if module.packing:
        raise Undecided(f"target_parameters on {module.name}, packed by {module.packing}, were not measured")


def _methods(module: Module) -> Mapping[str, Any]:
    found: Mapping[str, Any] = facts()["packings"].get(module.packing, {}).get("methods", {})
    return found


def _runs_elsewhere(name: str) -> bool:
    """Whether a method did right on every packed subclass of `nn.Linear` that was run."""
    found = [
        str(entry["methods"].get(name, ""))
        for entry in facts()["packings"].values()
        if "torch.nn.modules.linear.Linear" in entry["ancestors"] and entry["methods"].get(name) != "loads"
    ]
    return bool(found) and all(told == "applied" for told in found)


def _options(peft_type: str, config: Mapping[str, Any]) -> Iterator[str]:
    for field, usual in _VARIANTS.get(peft_type, {}).items():
        value = config.get(field)
        if value in usual:
            continue
        if isinstance(value, str):
            yield f"{field}={re.sub(r'_[0-9]+$', '', value)}"
        else:
            yield field


def _line(told: str, module: Module) -> tuple[str, str]:
    """The exception's class and words, about this module's class."""
    kind, _, words = told.partition(": ")
    name = module.class_name or "…"
    words = words.replace("…{class}", f"…{name.removeprefix('…')}").replace("{class}", name)
    return kind, words.replace("{module}", module.name)
