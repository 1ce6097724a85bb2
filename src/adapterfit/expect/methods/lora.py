"""LORA, with its variants: ΔW = scale · B A, one pair per targeted module.

Saved, relative to a module with I inputs and O outputs: `lora_A.weight` (r, I), `lora_B.weight` (O, r);
Embedding `lora_embedding_A` (r, num), `lora_embedding_B` (dim, r); convolutions `lora_A.weight`
(r, in_channels, *kernel), `lora_B.weight` (O, r / groups, 1, …); a 3-D parameter (E, d1, d2)
`lora_A.weight` (r·E, in), `lora_B.weight` (out, r·E). Source: peft 0.21.2 `tuners/lora/layer.py`, `variants.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    InjectionFails,
    LayerSlot,
    Undecided,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
    submodule,
    unsupported,
)
from adapterfit.expect.versions import LOADER, rule
from adapterfit.records import LoadRename, Module, Shape

KIND = "tuner"
PREFIX = "lora_"
TARGETS = "LORA"
#: DoRA's vector became a module in 0.12; the saved name did not change, so PEFT adds the suffix on loading.
RENAMES = (LoadRename(r"lora_magnitude_vector\Z", "lora_magnitude_vector.weight"),)

_SUPPORTED = (
    "Currently, only the following modules are supported: `torch.nn.Linear`, `torch.nn.Embedding`, `torch.nn.Conv1d`, "
    "`torch.nn.Conv2d`, `torch.nn.Conv3d`, `transformers.pytorch_utils.Conv1D`, `torch.nn.MultiheadAttention.`."
)
#: A module of this kind is wrapped together with this child of it.
INSIDE: Mapping[str, str] = {"MultiheadAttention": "out_proj"}
_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
#: Config fields that choose a variant, and the kinds of module each is made for (`lora_variants` of each layer).
_VARIANTS: Mapping[str, tuple[str, ...]] = {
    "use_dora": ("Linear", "Conv1D", "Embedding", *_CONVOLUTIONS),
    "arrow_config": ("Linear", "Conv1D"),
    "use_bdlora": ("Linear", "Conv1D"),
    "alora_invocation_tokens": ("Linear", "Conv1D"),
    "velora_config": ("Linear", "Conv1D"),
    "monteclora_config": ("Linear", "Conv1D"),
    "kasa_config": ("Linear", "Conv1D"),
}
#: `init_lora_weights` values that PEFT knows and that need nothing but the base; others raise.
_INITS = ("gaussian", "eva", "orthogonal", "olora", "mica", "lora_ga")


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `LoraConfig.__post_init__` that a loaded config can trip."""
    no_layers_with_regex(config)
    if isinstance(config.get("target_parameters"), str):
        raise InjectionFails("TypeError", "`target_parameters` must be a list of strings or None.")
    if config.get("lora_bias") and config.get("use_dora"):
        raise InjectionFails(
            "ValueError", "The argument lora_bias=True is not supported for DoRA, please pass use_dora=False"
        )
    init = config.get("init_lora_weights")
    if config.get("lora_bias") and not isinstance(init, bool):
        fails(
            "The argument lora_bias=True is only supported with init_lora_weights=True or False, "
            f"got init_lora_weights={init} instead."
        )
    if init == "loftq":
        raise Undecided(f"init_lora_weights={init!r} needs data or packages that a file cannot show")
    if config.get("megatron_config"):
        raise Undecided("megatron_config makes PEFT import Megatron")


def inert(config: Mapping[str, Any]) -> bool:
    """Whether an adapter whose tensors were not loaded leaves the base's outputs as they are.

    Every initialization but `false` starts with ΔW = 0; PiSSA and OLoRA subtract from the base what they add. A base
    whose layers are repeated, or that KaSA has cut small directions from, is another one.
    """
    init = config.get("init_lora_weights", True)
    subtracts = isinstance(init, str) and (init.startswith("pissa") or init.lower() == "olora")
    later = subtracts and config.get("alora_invocation_tokens")  # aLoRA adds it behind the invocation only
    changed = config.get("layer_replication") or config.get("kasa_config") is not None or later
    return bool(init) and not changed


def layer(module: Module, name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors that a targeted module gets, in the order of the model's state dict."""
    if module.kind not in ("Linear", "Conv1D", "Embedding", "MultiheadAttention", *_CONVOLUTIONS):
        unsupported(module, _SUPPORTED)
    _made_for(module, config)
    if module.kind == "MultiheadAttention":
        return _attention(module, rank, config)
    if module.kind == "Embedding" and config.get("lora_bias"):
        raise InjectionFails("ValueError", "lora_bias=True is not supported for Embedding.")
    positive_rank(rank)
    variant = _variant(module, config)
    _known_init(module, config, rank)
    if module.kind == "Embedding":
        return _embedding(module, rank, variant)
    slots = _convolution(module, rank) if module.kind in _CONVOLUTIONS else _linear(module, name, rank, config)
    if config.get("lora_bias"):
        slots += (submodule("lora_B", (features(module)[1],), "bias"),)
    return slots + _of_variant(module, rank, variant, config)


def _attention(module: Module, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The joint projection of `nn.MultiheadAttention`, (3 E, E); its `out_proj` is wrapped beside it (`INSIDE`)."""
    weight = module.params.get("in_proj_weight")
    if weight is None:
        fails("Only same embed for query/key/value is supported as of now for MultiheadAttention.")
    if config.get("use_dora"):
        fails("MultiheadAttention does not support DoRA (yet), please set use_dora to False")
    for key, name in (("velora_config", "VeLoRA"), ("kasa_config", "KaSA")):
        if config.get(key) is not None:
            fails(f"MultiheadAttention does not support {name}, please set `{key}=None`.")
    if _variant(module, config) or isinstance(config.get("init_lora_weights"), str):
        raise Undecided("a variant or a special initialisation of LoRA on nn.MultiheadAttention")
    positive_rank(rank)
    slots = submodule("lora_A", (rank, weight[1])), submodule("lora_B", (weight[0], rank))
    return (*slots, submodule("lora_B", (weight[0],), "bias")) if config.get("lora_bias") else slots


def _made_for(module: Module, config: Mapping[str, Any]) -> None:
    """Kinds of module that an older PEFT stumbles over."""
    if rule(config, "lora-on-conv1d") == "raises" and module.kind == "Conv1D" and not config.get("enable_lora"):
        line = "cannot access local variable 'new_module' where it is not associated with a value"
        raise InjectionFails("UnboundLocalError", line)
    if rule(config, "lora-on-embedding") == "raises" and module.kind == "Embedding":
        raise InjectionFails("AttributeError", "'Embedding' object has no attribute 'bias'")


def _known_init(module: Module, config: Mapping[str, Any], rank: int) -> None:
    init = config.get("init_lora_weights")
    known = rule(config, "lora-inits", ["*"])
    if isinstance(init, str) and LOADER in config and known != ["*"] and not init.lower().startswith(tuple(known)):
        raise InjectionFails("ValueError", f"Unknown initialization init_lora_weights={init!r}")
    if isinstance(init, str) and module.kind in ("Embedding", *_CONVOLUTIONS) and LOADER not in config:
        _of_no_linear(module, init)
        return
    if not isinstance(init, str) or init in _INITS or init.lower() in ("gaussian", "olora", "mica"):
        if init == "orthogonal" and rank % 2:
            raise InjectionFails(
                "ValueError", f"Orthogonal initialization requires the LoRA rank to be even, got {rank} instead."
            )
        return
    if init.startswith(("pissa", "corda")):
        return
    raise InjectionFails("ValueError", f"Unknown initialization init_lora_weights={init!r}")


def _of_no_linear(module: Module, init: str) -> None:
    """An embedding starts the same way whatever is written there; a convolution knows one word."""
    if module.kind != "Embedding" and init.lower() != "gaussian" and init != "lora_ga":
        raise InjectionFails("ValueError", f"Unknown initialization init_lora_weights={init!r}")


def _variant(module: Module, config: Mapping[str, Any]) -> str:
    wanted = _wanted(config)
    if not wanted:
        return ""
    if "use_dora" in wanted and module.kind not in rule(config, "dora-kinds", _VARIANTS["use_dora"]):
        raise InjectionFails("ValueError", f"{module.kind} does not support DoRA yet, please set it to False")
    supported = wanted == ("mica",) or module.kind in _VARIANTS.get(wanted[0], ())
    if len(wanted) > 1 or not supported:
        raise InjectionFails("ValueError", f"Invalid or unsupported variant combination: {wanted!r}")
    return wanted[0]


def _wanted(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The variants that a config asks for, as PEFT prints them."""
    mica = ("mica",) if config.get("init_lora_weights") == "mica" else ()
    return tuple(sorted([*(key for key in _VARIANTS if _is_on(config.get(key))), *mica]))


def _is_on(value: Any) -> bool:
    """Whether a field chooses its variant; an empty table does, since PEFT makes an object of it."""
    return bool(value) or isinstance(value, Mapping)


def _linear(module: Module, name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    width, height = features(module)
    init = config.get("init_lora_weights")
    if isinstance(init, str) and not rule(config, "lora-inits"):
        rank, width, height = _of_init(init, module, rank, width, height)
    if _is_on(config.get("use_bdlora")):
        width_a, rank_b = _block_diagonal(name, width, rank, config["use_bdlora"])
        return submodule("lora_A", (rank, width_a)), submodule("lora_B", (height, rank_b))
    return submodule("lora_A", (rank, width)), submodule("lora_B", (height, rank))


def _of_init(init: str, module: Module, rank: int, width: int, height: int) -> tuple[int, int, int]:
    """Rank and sides where the start values are parts of the weight: of those there are no more than its lesser side.

    OLoRA takes a Conv1D's weight, which lies the other way round, as it is.
    """
    least = min(width, height)
    if init.startswith("corda"):
        fails(
            "`eigens` attribute not found for layer, please run `preprocess_corda` first. "
            "More information can be found at examples/corda_finetuning/README.md."
        )
    if init.startswith("pissa_niter_") and rank > least:
        raise Undecided(f"init_lora_weights={init!r} with a rank above {least}, the lesser side of {module.name}")
    if init.lower() == "mica" and rank > least:
        shape = (height, width)
        fails(
            f"MiCA requires `r` <= min(in_features, out_features) but got r={rank} for a layer with "
            f"weight shape {shape} (max usable r is {least})."
        )
    if init.lower() == "olora" and module.kind == "Conv1D":
        width, height = height, width
    drawn = init.startswith("pissa") or init.lower() == "olora"
    return (min(rank, least) if drawn else rank), width, height


def _block_diagonal(name: str, width: int, rank: int, options: Any) -> tuple[int, int]:
    """Second dimensions of A and B under BD-LoRA: the block-diagonal one of them is divided by the blocks."""
    if not isinstance(options, Mapping):
        raise Undecided("use_bdlora is not a table")
    blocks = options.get("nblocks", 1)
    in_a = any(part in name for part in options.get("target_modules_bd_a") or ())
    in_b = any(part in name for part in options.get("target_modules_bd_b") or ())
    if in_a and in_b:
        raise InjectionFails("ValueError", f"Target {name} matches both A and B block-diagonal patterns")
    if options.get("match_strict", True) and not (in_a or in_b):
        raise InjectionFails(
            "ValueError",
            f"Target {name} matches neither A nor B block-diagonal patterns."
            "If this is intentional, set match_strict=False in BdLoraConfig during initialization. ",
        )
    if not isinstance(blocks, int) or blocks < 1 or (in_a and width % blocks) or (in_b and rank % blocks):
        raise Undecided(f"use_bdlora with {blocks!r} blocks")
    return (width // blocks if in_a else width), (rank // blocks if in_b else rank)


def _embedding(module: Module, rank: int, variant: str) -> tuple[LayerSlot, ...]:
    rows, dim = features(module)
    slots = parameter("lora_embedding_A", (rank, rows)), parameter("lora_embedding_B", (dim, rank))
    return (*slots, submodule("lora_magnitude_vector", (dim,))) if variant == "use_dora" else slots


def _convolution(module: Module, rank: int) -> tuple[LayerSlot, ...]:
    channels, height = features(module)
    if rank % module.groups:
        raise InjectionFails(
            "ValueError",
            f"Targeting a {module.class_name or module.kind} with groups={module.groups} and rank {rank}. "
            "Currently, support is limited to conv layers where the rank is divisible by groups. ",
        )
    kernel = module.params["weight"][2:]
    return (
        submodule("lora_A", (rank, channels, *kernel)),
        submodule("lora_B", (height, rank // module.groups, *(1 for _ in kernel))),
    )


def _of_variant(module: Module, rank: int, variant: str, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    width, height = features(module)
    if variant == "use_dora":
        ones = tuple(1 for _ in module.params["weight"][2:])
        shape: Shape = (1, height, *ones) if ones else (height,)
        return (submodule("lora_magnitude_vector", shape),)
    if variant == "arrow_config" and config["arrow_config"].get("task_adapter_names") is None:
        raise InjectionFails("AttributeError", "'NoneType' object has no attribute 'copy'")
    if variant == "kasa_config" and module.kind == "Conv1D":
        line = "KaSA does not support `fan_in_fan_out=True` layers (e.g. Conv1D). Please target nn.Linear layers."
        raise InjectionFails("ValueError", line)
    if variant == "kasa_config" and rank >= min(width, height):
        fails(
            f"KaSA requires `r` ({rank}) to be smaller than min(in_features, out_features) ({min(width, height)}) so that "
            "at least one singular component of the base weight is preserved after truncation."
        )
    if variant == "kasa_config":
        return (parameter("lora_diag", (rank,)),)
    if variant == "velora_config":
        return (parameter("lora_velora_embed", (_velora_group(width, config["velora_config"]),)),)
    if variant == "monteclora_config":
        return _monteclora(rank, config["monteclora_config"])
    return ()


def _velora_group(width: int, options: Any) -> int:
    groups = options.get("num_groups", 32) if isinstance(options, Mapping) else None
    if not isinstance(groups, int) or groups < 1:
        raise Undecided(f"velora_config with num_groups={groups!r}")
    return -(-width // groups)


def _monteclora(rank: int, options: Any) -> tuple[LayerSlot, ...]:
    samples = options.get("num_samples", 8) if isinstance(options, Mapping) else None
    if not isinstance(samples, int) or samples < 1:
        raise Undecided(f"monteclora_config with num_samples={samples!r}")
    shapes: Mapping[str, Shape] = {
        "std_prior": (rank,),
        "expert_weights_prior": (samples,),
        "expert_weights": (samples,),
        "gaussian_var_prior": (rank, rank),
    }
    return tuple(submodule("lora_monteclora_sampler", shape, leaf) for leaf, shape in shapes.items())


#: Further start values that look at the weight of a parameter's module.
_OF_WEIGHT = ("loftq", "orthogonal", "lora_ga")


def _no_variant(config: Mapping[str, Any]) -> None:
    """`resolve_lora_variant` knows none for a parameter."""
    wanted = _wanted(config)
    if wanted:
        raise InjectionFails("ValueError", f"Invalid or unsupported variant combination: {wanted!r}")


def parameter_start(module: Module, param: str, rank: int, config: Mapping[str, Any]) -> int:
    """The rank where start values are parts of a weight: PEFT takes that of the parameter's module, whichever parameter it is.

    Measured with 0.21.2: of another parameter than `weight`, and of experts, A and B get the sizes of the module's weight.
    """
    init = config.get("init_lora_weights")
    drawn = isinstance(init, str) and (init.startswith("pissa") or init.lower() == "olora")
    wanted = drawn or (isinstance(init, str) and (init.startswith("corda") or init.lower() in _OF_WEIGHT))
    if not wanted or LOADER in config:
        return rank
    if "weight" not in module.params:
        raise InjectionFails("AttributeError", f"'{module.class_name}' object has no attribute 'weight'")
    if param != "weight" and (drawn or len(module.params[param]) > 2):
        raise Undecided(f"init_lora_weights={init!r} for {module.name}.{param}, whose module has a weight beside it")
    return min(rank, *module.params[param]) if drawn else rank


def parameter_layer(shape: Shape, rank: int, config: Mapping[str, Any], *, transposed: bool) -> tuple[LayerSlot, ...]:
    """The tensors for a parameter targeted by itself (`target_parameters`): 2-D (out, in) or 3-D (E, d1, d2).

    From 0.19.1 on a 3-D parameter is read as (E, out, in) unless its module sets `is_transposed`.
    """
    if len(shape) not in (2, 3):
        raise InjectionFails(
            "ValueError",
            f"lora.ParamWrapper was initialized with {len(shape)} dimensional Parameter, but only 2d and 3d are supported.",
        )
    for key in ("lora_dropout", "fan_in_fan_out", "lora_bias", "use_dora"):
        if config.get(key):
            word = "!= 0" if key == "lora_dropout" else "" if key == "fan_in_fan_out" else "=True"
            line = f"lora.ParamWrapper does not work with {key}{' ' if key == 'lora_dropout' else ''}{word}."
            raise InjectionFails("ValueError", line)
    for key in ("velora_config", "kasa_config"):
        if config.get(key) is not None:
            raise InjectionFails("ValueError", f"lora.ParamWrapper does not work when `{key}` is set.")
    positive_rank(rank)
    if LOADER not in config:
        _no_variant(config)
    experts, first, second = shape if len(shape) == 3 else (1, shape[1], shape[0])
    if len(shape) == 3 and rule(config, "parameter-delta") == "raises":
        if first == second:
            raise Undecided(
                "the sides of square experts are exchanged, and their product is not turned: it loads as something else"
            )
        line = f"The size of tensor a ({second}) must match the size of tensor b ({first}) at non-singleton dimension 2"
        raise InjectionFails("RuntimeError", line)
    layout = rule(config, "parameter-layout", "swapped")
    plain = {"plain": True, "transposed-only": not transposed, "always": False}.get(layout, transposed)
    width, height = (first, second) if len(shape) == 2 or plain else (second, first)
    return submodule("lora_A", (rank * experts, width)), submodule("lora_B", (height, rank * experts))
