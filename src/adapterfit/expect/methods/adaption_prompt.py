"""ADAPTION_PROMPT (LLaMA-Adapter): learned tokens and a gate in the attention of the last layers.

Saved, relative to an attention module: `adaption_prompt` (1, adapter_len, hidden size), `adaption_gate` (1). Only the last
`adapter_layers` layers of llama, mistral and gpt2 have them. PEFT says nothing about missing ones. Source: peft 0.21.2
`tuners/adaption_prompt/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, Undecided, fails, no_config, whole
from adapterfit.expect.versions import LOADER, rule
from adapterfit.records import LoadRename, Module, ModuleTree

KIND = "tuner"
PREFIX = "adaption_prompt_"
TARGETS = ""
RENAMES: tuple[LoadRename, ...] = ()
#: What PEFT calls the attention it wraps.
INNER = "model"
#: Model type → its attention modules, and the Linear inside whose dtype the prompt takes.
_MODELS = {"llama": ("self_attn", "q_proj"), "mistral": ("self_attn", "q_proj"), "gpt2": ("attn", "c_proj")}


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def inert(_config: Mapping[str, Any]) -> bool:
    """The gate starts closed."""
    return True


def choose(tree: ModuleTree, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The last attention modules, by the config's name for them or else PEFT's own."""
    if not tree.model_type:
        no_config(tree, "adaption prompts")
    if tree.model_type not in rule(config, "adaption-prompt-models", _MODELS):
        # Before 0.17 the line has no f before it.
        named = (
            tree.model_type if "adaption-prompt-models" not in config.get(LOADER, {}) else "{model.config.model_type}"
        )
        fails(f"Unsupported model type for adaption prompt: '{named}'.")
    target = config.get("target_modules") or _MODELS[tree.model_type][0]
    names = [module.name for module in tree.modules if module.name.endswith(f".{target}")]
    wanted = config.get("adapter_layers")
    if wanted is None:
        fails("'<' not supported between instances of 'int' and 'NoneType'", "TypeError")
    if not isinstance(wanted, int):
        raise Undecided(f"adapter_layers {wanted!r} is not a whole number")
    if len(names) < wanted:
        fails(f"Config specifies more adapter layers '{wanted}' than the model has '{len(names)}'.")
    return tuple(names[-wanted:])


def survey(modules: tuple[Module, ...], config: Mapping[str, Any], tree: ModuleTree) -> Mapping[str, int]:
    """The hidden size, once every chosen module is seen to be an attention."""
    inside = _MODELS[tree.model_type][1]
    names = {module.name for module in tree.modules}
    for module in modules:
        if f"{module.name}.{inside}" not in names:
            fails(f"'{module.class_name}' object has no attribute '{inside}'", "AttributeError")
    line = rule(config, "adaption-prompt")
    if line is not None and modules and tree.model_type != "gpt2":
        kind, _, said = str(line).partition(": ")
        fails(said.replace("{attention}", modules[0].class_name or "Attention"), kind)
    size = tree.config.get("hidden_size", tree.config.get("n_embd"))
    if not isinstance(size, int):
        raise Undecided(f"the base's hidden size is {size!r}")
    return {"hidden_size": size}


def layer(_module: Module, _name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    shape = (1, whole(config, "adapter_len"), config["surveyed"]["hidden_size"])
    return (
        LayerSlot("adaption_prompt", "adaption_prompt", shape, silent=True),
        LayerSlot("adaption_gate", "adaption_gate", (1,), silent=True),
    )
