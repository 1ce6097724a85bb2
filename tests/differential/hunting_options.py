"""Random options of a PEFT method for a given model, together: what users combine, and what nobody thought of."""

from __future__ import annotations

import random
from typing import Any

#: What a method must have to be small, or to be made at all; one of several.
NEEDED: dict[str, list[dict[str, Any]]] = {
    "ADALORA": [{"init_r": 3, "total_step": 10}],
    "ADAPTION_PROMPT": [{"adapter_len": 3, "adapter_layers": 1}, {"adapter_len": 2, "adapter_layers": 2}],
    "BOFT": [{"boft_block_size": 4}, {"boft_block_size": 0, "boft_block_num": 2}],
    "C3A": [{"block_size": 8}, {"block_size": 4}],
    "CARTRIDGE": [{"num_virtual_tokens": 3}, {"num_virtual_tokens": 3, "num_frozen_tokens": 0}],
    "CPT": [{"cpt_token_ids": [1, 2, 3]}],
    "DEFT": [{"r": 4}, {"r": 4, "para": True}],
    "FOURIERFT": [{"n_frequency": 10}],
    "GLORA": [{"r": 2}, {"r": 2, "config_A_B": "vector"}, {"r": 2, "config_D_E": "vector", "config_C": "vector"}],
    "GRALORA": [{"r": 4}, {"r": 4, "hybrid_r": 2}],
    "IA3": [{"feedforward_modules": []}],
    "LILY": [{"r": 2}, {"r": 2, "num_B": 3, "stride_A": 2}],
    "LOHA": [{"r": 2}, {"r": 2, "use_effective_conv2d": True}],
    "LOKR": [{"r": 2}, {"r": 1, "decompose_both": True}, {"r": 2, "decompose_factor": 4}],
    "MISS": [{"r": 4}, {"r": 4, "init_weights": "bat"}, {"r": 4, "init_weights": "mini", "mini_r": 2}],
    "MULTITASK_PROMPT_TUNING": [{"num_virtual_tokens": 3, "num_tasks": 2, "num_ranks": 2}],
    "OFT": [{"oft_block_size": 4}, {"oft_block_size": 8, "block_share": True}, {"r": 4, "oft_block_size": 0}],
    "OSF": [{}, {"effective_rank": 4}],
    "PEANUT": [{"r": 2}, {"r": 2, "depth": 2}],
    "POLY": [{"r": 2, "n_tasks": 2, "n_skills": 2, "n_splits": 2}],
    "PREFIX_TUNING": [{"num_virtual_tokens": 3}, {"num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 8}],
    "PROMPT_TUNING": [{"num_virtual_tokens": 3}],
    "P_TUNING": [{"num_virtual_tokens": 3, "encoder_hidden_size": 8}, {"num_virtual_tokens": 3, "encoder_reparameterization_type": "LSTM"}],
    "RANDLORA": [{"r": 4}, {"r": 4, "save_projection": False}, {"r": 4, "sparse": True}],
    "ROAD": [{"group_size": 8}, {"group_size": 8, "variant": "road_2"}],
    "SHIRA": [{"r": 1}],
    "SUPERTUNING": [{}, {"r": 2}, {"save_precomputed_indices": False}],
    "TINYLORA": [{"r": 2}, {"r": 2, "weight_tying": 0.5}, {"save_projection": False}],
    "TRAINABLE_TOKENS": [{"token_indices": [1, 3]}, {"token_indices": [7]}],
    "UNILORA": [{"r": 2, "theta_d_length": 16}, {"r": 2, "theta_d_length": 16, "save_indices": True}],
    "VBLORA": [{"r": 2, "num_vectors": 5, "vector_length": 8}, {"r": 2, "num_vectors": 5, "vector_length": 8, "save_only_topk_weights": True}],
    "VERA": [{"r": 4}, {"r": 4, "save_projection": False}],
    "PVERA": [{"r": 4}, {"r": 4, "save_projection": False}],
    "WAVEFT": [{"n_frequency": 10}, {"n_frequency": 10, "proportional_parameters": True}],
}  # fmt: skip
PROMPTS = {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING"}
#: What a prompt may have besides; sizes that the base has not are what a user of another base leaves behind.
_PROMPT: list[dict[str, Any]] = [
    {"num_transformer_submodules": 1}, {"num_transformer_submodules": 2}, {"token_dim": 16}, {"num_layers": 1}, {"num_layers": 3}, {"num_attention_heads": 2},
    {"inference_mode": True}, {"encoder_num_layers": 1}, {"encoder_hidden_size": 8}, {"num_virtual_tokens": 1}, {"prefix_projection": True},
    {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["classifier"]}, {"token_dim": 32, "num_transformer_submodules": 2}, {"num_frozen_tokens": 2},
]  # fmt: skip
#: These need other packages, other adapters, or minutes.
_NOT_DRAWN = {"XLORA", "ADAMSS"}
_LORA = [
    {"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"bias": "lora_only"}, {"fan_in_fan_out": True}, {"lora_bias": True},
    {"init_lora_weights": "pissa"}, {"init_lora_weights": "pissa_niter_4"}, {"init_lora_weights": "olora"}, {"init_lora_weights": "gaussian"},
    {"init_lora_weights": "orthogonal"}, {"init_lora_weights": "eva"}, {"init_lora_weights": "corda"}, {"init_lora_weights": "mica"},
    {"init_lora_weights": False}, {"layer_replication": [[0, 2], [1, 2]]}, {"layer_replication": [[0, 1], [0, 2]]}, {"ensure_weight_tying": True},
    {"lora_dropout": 0.1}, {"use_qalora": True, "qalora_group_size": 4}, {"alora_invocation_tokens": [1, 2]},
    {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["o_proj"], "nblocks": 2}}, {"kasa_config": {}}, {"lora_alpha": 3},
    {"arrow_config": {}}, {"velora_config": {}}, {"monteclora_config": {}}, {"init_lora_weights": "lora_ga"}, {"r": 1}, {"r": 7}, {"trainable_token_indices": [1, 2]},
    {"trainable_token_indices": [999]}, {"trainable_token_indices": {"embed_tokens": [3]}}, {"trainable_token_indices": []},
]  # fmt: skip


def options(rng: random.Random, model: Any, task: str | None, method: str = "") -> dict[str, Any]:
    """A config of a random method, or of this one, with options that make sense on this model more often than not."""
    import dataclasses

    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    names = sorted(kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING if kind.value not in _NOT_DRAWN)
    method = method or ("LORA" if rng.random() < 0.5 else rng.choice(names))
    fields = {field.name for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[method])}
    config: dict[str, Any] = {"peft_type": method, "task_type": task if rng.random() < 0.7 else None}
    if method == "LORA":
        config["r"] = 4
        for extra in rng.sample(_LORA, rng.choice((0, 1, 1, 2, 3))):
            config.update(extra)
    config.update(rng.choice(NEEDED.get(method, [{}])))
    if method in PROMPTS:
        for extra in rng.sample(_PROMPT, rng.choice((0, 1, 1, 2))):
            config.update({key: value for key, value in extra.items() if key in fields})
        return config
    drawn = _common(rng, _leaves(model), [name for name, _ in model.named_parameters()])
    drawn.update(_around(rng, model, drawn))
    return {**config, **{key: value for key, value in drawn.items() if key in fields}}


def _leaves(model: Any) -> dict[str, list[str]]:
    """Class of a module → names, of those that have weights of their own."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if name and next(module.parameters(recurse=False), None) is not None:
            found.setdefault(type(module).__name__, []).append(name)
    return found


def _ends(names: list[str]) -> list[str]:
    """Last parts, with the one before where the last is a number."""
    return sorted(
        {".".join(name.split(".")[-2:]) if name.split(".")[-1].isdigit() else name.rpartition(".")[2] for name in names}
    )


def _common(rng: random.Random, leaves: dict[str, list[str]], parameters: list[str]) -> dict[str, Any]:
    linear = [name for kind, names in leaves.items() for name in names if kind in ("Linear", "Conv1D")]
    every = [name for names in leaves.values() for name in names]
    linear = linear or every
    some = rng.sample(_ends(linear), min(rng.choice((1, 2, 3)), len(_ends(linear))))
    targets: Any = some
    chance = rng.random()
    if chance < 0.08:
        targets = "all-linear"
    elif chance < 0.15:
        targets = None
    elif chance < 0.25:
        targets = [*some, rng.choice(_ends(every))]
    elif chance < 0.32:
        targets = rng.sample(linear, min(2, len(linear)))
    elif chance < 0.4:
        targets = rf".*\.({'|'.join(name.replace('.', chr(92) + '.') for name in some)})"
    elif chance < 0.44:
        targets = rng.choice((["nope"], ".*", [], ["0"], ".*0.*", some[0][:-1]))
    drawn: dict[str, Any] = {"target_modules": targets}
    for chance, fields in (
        (0.12, {"layers_to_transform": rng.choice(([0], [1], 1, [0, 1], [9]))}),
        (0.06, {"layers_pattern": rng.choice(("layers", ["h", "layers"], "layer", "nothing"))}),
        (0.1, {"exclude_modules": rng.choice((rng.sample(_ends(linear), 1), ".*0.*", rng.sample(linear, 1), ["1"], [r".*"]))}),
        (0.15, {"modules_to_save": rng.choice((rng.sample(_ends(every), 1), ["lm_head"], ["classifier"], rng.sample(_ends(every), 1), ["embed_tokens", "lm_head"]))}),
        (0.12, {"rank_pattern": rng.choice(({some[0]: 2}, {rng.choice(linear): 3}, {rf".*0.*{some[0]}": 2}, {"^" + linear[0]: 5}, {"(": 2}))}),
        (0.1, {"alpha_pattern": rng.choice(({some[0]: 2}, {rng.choice(linear): 3}, {rf"1\..*{some[0]}": 2}))}),
        (0.1, {"target_parameters": rng.choice((rng.sample(parameters, 1), rng.sample(_experts(parameters), 1), ["nowhere.weight"]))}),
        (0.08, {"bias": rng.choice(("all", "lora_only", "none", "boft_only"))}),
        (0.08, {"init_weights": False}),
        (0.05, {"init_ia3_weights": False}),
        (0.05, {"fan_in_fan_out": rng.random() < 0.5}),
        (0.06, {"n_frequency_pattern": {some[0]: 5}, "block_size_pattern": {some[0]: 4}, "lambda_pattern": {some[0]: 1.0}}),
        (0.5, {"feedforward_modules": some[:1] if isinstance(targets, list) else []}),
    ):  # fmt: skip
        if rng.random() < chance:
            drawn.update(fields)
    return drawn


def _around(rng: random.Random, model: Any, drawn: dict[str, Any]) -> dict[str, Any]:
    """Options about modules that hold others, layers by several patterns, and several patterns for one target."""
    boxes = [name for name, module in model.named_modules() if name and next(module.children(), None) is not None]
    box = rng.choice(boxes) if boxes else "nowhere"
    last = box.rpartition(".")[2]
    targets = drawn["target_modules"]
    some = targets if isinstance(targets, list) and targets else ["q_proj"]
    ways: list[dict[str, Any]] = [
        {"modules_to_save": [last]}, {"modules_to_save": [box]}, {"modules_to_save": [last, *some[:1]]}, {"exclude_modules": [box]}, {"exclude_modules": rf".*{last}.*"},
        {"target_modules": [*some, last]}, {"target_modules": rf"(.*\.)?{last}\.[^.]*"}, {"target_modules": rf".*(?<!0)\.({'|'.join(some)})$"},
        {"layers_to_transform": [0], "layers_pattern": ["layers", "layer", "h", "block"]}, {"layers_to_transform": [1], "layers_pattern": ""},
        {"layers_to_transform": [-1]}, {"layers_to_transform": []}, {"layers_to_transform": [0], "target_modules": ".*"},
        {"rank_pattern": {some[0]: 2, rf".*{last}.*": 3}}, {"rank_pattern": {rf"^{some[0]}": 2}}, {"rank_pattern": {rf"{last}.{some[0]}": 2}, "alpha_pattern": {last: 5}},
        {"rank_pattern": {rf"[a-z.]*\d\..*{some[0]}$": 1}}, {"bias": "lora_only", "exclude_modules": [some[0]]}, {"bias": "all", "modules_to_save": [last]},
        {"target_modules": None, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}, {"target_modules": [], "target_parameters": ["weight"]},
        {"target_parameters": ["experts.down_proj"], "rank_pattern": {"experts.down_proj": 2}}, {"trainable_token_indices": {last: [0, 1]}},
        {"eva_config": {"rho": 2.0}, "init_lora_weights": "eva"}, {"corda_config": {"corda_method": "kpm"}, "init_lora_weights": "corda"}, {"loftq_config": {"loftq_bits": 4}},
        {"modules_to_save": ["embed_tokens"], "trainable_token_indices": [1]}, {"ensure_weight_tying": True, "modules_to_save": ["embed_tokens"]},
        {"ensure_weight_tying": True, "target_modules": ["embed_tokens", *some]}, {"ensure_weight_tying": True, "trainable_token_indices": [1, 2]},
        {"exclude_modules": some[:1], "modules_to_save": some[:1]}, {"exclude_modules": []}, {"exclude_modules": ""}, {"modules_to_save": []},
    ]  # fmt: skip
    return rng.choice(ways) if rng.random() < 0.25 else {}


def _experts(parameters: list[str]) -> list[str]:
    """What LoRA can wrap without a module of its own: parameters of fused experts, by their last two names."""
    found = [name for name in parameters if name.rpartition(".")[2] not in ("weight", "bias")] or parameters
    return sorted({".".join(name.split(".")[-2:]) for name in found})
