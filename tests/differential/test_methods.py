"""Every method on every kind of module and with every bad value: our slots and lines beside those of the real PEFT."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import oracle
import pytest

import adapterfit
from adapterfit import discover
from adapterfit.expect.expectation import expect
from adapterfit.expect.methods._layer import InjectionFails
from adapterfit.read.config import parse_config
from adapterfit.read.live import base_from_module
from adapterfit.testing import make

pytestmark = pytest.mark.exact

#: These need other packages, other adapters or a whole transformer.
ELSEWHERE = {"ADAMSS", "XLORA", "ADAPTION_PROMPT", "SHADOW"}
#: What makes a method small enough for these modules, or is needed at all; several of them where a field changes shapes.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ADALORA": [{"total_step": 10}],
    "BOFT": [{}, {"boft_block_size": 0, "boft_block_num": 3}, {"boft_block_size": 7}],
    "C3A": [
        {"block_size": 12},
        {"block_size": 6, "block_size_pattern": {"tgt": 4}},
        {"block_size": 7},
        {"block_size": 0},
    ],
    "DEFT": [{"r": 4}, {"r": 4, "para": True}, {"r": 999}],
    "DELORA": [{"r": 4}, {"r": 4, "rank_pattern": {"tgt": 2}}],
    "FOURIERFT": [{"n_frequency": 50}, {"n_frequency": 50, "n_frequency_pattern": {"tgt": 3}}, {"n_frequency": 10**6}],
    "FROD": [{}, {"sparse_rate": 0.0}, {"sparse_rate": 1.0}, {"save_projection": False}],
    "GLORA": [
        {},
        {"config_A_B": "vector"},
        {"config_A_B": "constant", "config_C": "vector", "config_D_E": "vector"},
        {"config_A_B": "none", "config_C": "none", "config_D_E": "none"},
    ],
    "GRALORA": [{"r": 4}, {"r": 4, "hybrid_r": 2}, {"r": 10, "gralora_k": 5}],
    "HIRA": [{"r": 4}, {"r": 4, "rank_pattern": {"tgt": 2}}, {"init_weights": "gaussian"}, {"init_weights": "odd"}],
    "HRA": [{"r": 4}, {"r": 3, "apply_GS": True}],
    "LILY": [{"r": 4}, {"r": 4, "num_B": 3, "stride_A": 2}],
    "LOHA": [{"r": 4}, {"r": 4, "use_effective_conv2d": True}],
    "LOKR": [{"r": 4}, {"r": 1, "decompose_both": True}, {"r": 1, "use_effective_conv2d": True}],
    "LORA": [{"r": 4}, {"r": 4, "use_dora": True}, {"r": 4, "lora_bias": True}],
    "MISS": [
        {"r": 4},
        {"r": 4, "init_weights": "bat"},
        {"r": 5, "init_weights": "bat"},
        {"r": 4, "init_weights": "mini", "mini_r": 2},
        {"r": 4, "init_weights": "mini", "mini_r": 5},
        {"r": 999},
    ],
    "OFT": [{"oft_block_size": 4}, {"r": 4, "oft_block_size": 0, "block_share": True}, {"oft_block_size": 5}],
    "OSF": [{}, {"effective_rank": 8}, {"effective_rank": 0.25}, {"effective_rank": 0}, {"rank_pattern": {"tg": 3}}],
    "PEANUT": [{"r": 4}, {"r": 4, "depth": 2}],
    "POLY": [{"r": 4, "n_tasks": 3, "n_splits": 2}, {"poly_type": "other"}],
    "PSOFT": [{"r": 4}, {"r": 4, "psoft_orth": False, "psoft_mag_a": False}, {"r": 999}],
    "PVERA": [{"r": 4}, {"r": 4, "save_projection": False}],
    "RANDLORA": [{"r": 4}, {"r": 5}, {"r": 4, "save_projection": False}],
    "ROAD": [{"group_size": 4}, {"variant": "road_2", "group_size": 4}, {"variant": "road_4", "group_size": 6}, {}],
    "SHIRA": [{"r": 2}, {"r": 99}],
    "SUPERTUNING": [{}, {"r": 3}, {"sparsity": 0.5, "save_precomputed_indices": False}, {"sparsity": 0.99999}],
    "TINYLORA": [{}, {"r": 99, "u": 5, "weight_tying": 0.4}, {"save_projection": False}],
    "TRAINABLE_TOKENS": [{"token_indices": [1, 3]}, {"token_indices": []}, {"token_indices": [999]}],
    "UNILORA": [{"r": 4}, {"r": 4, "save_indices": True}],
    "VBLORA": [{"r": 4, "num_vectors": 30, "vector_length": 6}, {"vector_length": 7}, {"topk": 0}],
    "VERA": [{"r": 4}, {"r": 4, "save_projection": False}],
    "WAVEFT": [{"n_frequency": 50}, {"n_frequency": 50, "proportional_parameters": True}, {"n_frequency": 10**6}],
}
KINDS = ("Linear", "Conv1D", "Conv2d", "Conv1d", "Conv3d", "Embedding", "LayerNorm", "grouped")
#: Their weight is computed of others by a module below them.
NORMED = ("normed Linear", "normed Conv1d", "spectral Conv2d")
#: LoRA alone wraps this one.
ATTENTION = ("attention", "attention without bias", "attention with a key of another size")


def methods() -> list[str]:
    from peft import PeftType

    prompts = {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING"}
    return [kind.value for kind in PeftType if kind.value not in prompts]


def custom(kind: str):
    """A model of two blocks, each with a module of the kind called `tgt` and a Linear of another shape."""
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import spectral_norm, weight_norm
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = {
        "Linear": lambda: nn.Linear(24, 36),
        "Conv1D": lambda: Conv1D(36, 24),
        "Conv2d": lambda: nn.Conv2d(8, 16, 3),
        "Conv1d": lambda: nn.Conv1d(8, 16, 3),
        "Conv3d": lambda: nn.Conv3d(8, 16, 3),
        "Embedding": lambda: nn.Embedding(50, 24),
        "LayerNorm": lambda: nn.LayerNorm(24),
        "grouped": lambda: nn.Conv2d(8, 16, 3, groups=4),
        "normed Linear": lambda: weight_norm(nn.Linear(24, 36)),
        "normed Conv1d": lambda: weight_norm(nn.Conv1d(8, 16, 3), dim=2),
        "spectral Conv2d": lambda: spectral_norm(nn.Conv2d(8, 16, 3)),
        "attention": lambda: nn.MultiheadAttention(24, 2),
        "attention without bias": lambda: nn.MultiheadAttention(24, 2, bias=False),
        "attention with a key of another size": lambda: nn.MultiheadAttention(24, 2, kdim=12),
    }

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tgt = made[kind]()
            self.other = nn.Linear(12, 6, bias=False)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([Block(), Block()])

        def forward(self, *_args: Any) -> None:
            raise NotImplementedError

    return Model()


def real(kind: str, config: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], str]:
    """What PEFT saves of a freshly adapted model, or what it raises."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]](**config)
            model = peft.get_peft_model(custom(kind), made)
        except Exception as error:
            return {}, f"{type(error).__name__}: {error}"
        return {key: tuple(t.shape) for key, t in peft.get_peft_model_state_dict(model).items()}, ""


@pytest.mark.parametrize("kind", [*KINDS, *NORMED])
@pytest.mark.parametrize("method", [name for name in methods() if name not in ELSEWHERE])
def test_the_slots_are_the_tensors_that_peft_saves(method, kind):
    wrong = []
    for options in OPTIONS.get(method, [{}]):
        for targets in (["tgt"], ["tgt", "other"]):
            config = {"peft_type": method, "task_type": None, "target_modules": targets, **options}
            if method == "IA3":
                config["feedforward_modules"] = ["other"] if "other" in targets else []
            saved, raised = real(kind, config)
            tree = base_from_module(custom(kind)).tree
            found = expect(tree, parse_config(make.config_json(**config)))
            ours = {_saved(slot.key): slot.shape for slot in found.slots if not slot.optional}
            line = found.raised.text if found.raised else ""
            if method == "LN_TUNING" and kind in NORMED:  # copies what is below, too: left open
                assert found.doubts
            elif found.doubts or not oracle.same_line(line, raised) or (not raised and ours != saved):
                wrong.append((options, targets, found.doubts, line, raised, ours, saved))
    assert wrong == []


def _saved(key: str) -> str:
    return key[: -len(".weight")] if key.endswith("lora_magnitude_vector.weight") else key


ATTENTIVE = {
    "by itself": {},
    "with a Linear": {"target_modules": ["tgt", "other"]},
    "its output alone": {"target_modules": ["out_proj"]},
    "with a bias of LoRA's own": {"lora_bias": True},
    "with rank patterns": {"rank_pattern": {"layers.0.tgt": 2, "out_proj": 3}},
    "with rsLoRA": {"use_rslora": True},
    "with DoRA": {"use_dora": True},
    "with KaSA": {"kasa_config": {}},
    "with a module saved whole": {"modules_to_save": ["other"]},
}


@pytest.mark.parametrize("options", ATTENTIVE.values(), ids=ATTENTIVE)
@pytest.mark.parametrize("kind", ATTENTION)
def test_lora_on_attention_gets_the_tensors_that_peft_saves(kind, options):
    config = {"peft_type": "LORA", "task_type": None, "r": 4, "target_modules": ["tgt"], **options}
    saved, raised = real(kind, config)
    found = expect(base_from_module(custom(kind)).tree, parse_config(make.config_json(**config)))
    line = found.raised.text if found.raised else ""
    assert oracle.same_line(line, raised)
    assert found.doubts == ()
    assert raised or {_saved(slot.key): slot.shape for slot in found.slots if not slot.optional} == saved


def test_the_output_of_an_attention_beside_the_attention_is_left_open():
    config = {"peft_type": "LORA", "task_type": None, "r": 4, "target_modules": ["tgt", "out_proj"]}
    assert expect(base_from_module(custom("attention")).tree, parse_config(make.config_json(**config))).doubts


@pytest.mark.parametrize("method", [name for name in methods() if name not in ELSEWHERE])
def test_a_bare_weights_file_of_a_plain_module_is_base_enough(method, tmp_path):
    """What PEFT saved of a module fits the module's own weights file, whatever the module is; and not another one's."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from safetensors.torch import save_file

    options = {"peft_type": method, "task_type": None, "target_modules": ["tgt"], **OPTIONS.get(method, [{}])[0]}
    if method == "IA3":
        options["feedforward_modules"] = []
    told = {}
    for kind in KINDS:
        model = custom(kind)
        weights, adapter = tmp_path / f"{kind}.safetensors", tmp_path / kind
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                peft.get_peft_model(model, PEFT_TYPE_TO_CONFIG_MAPPING[method](**options)).save_pretrained(adapter)
            except Exception:
                continue
        told[kind] = (
            adapterfit.check(adapter, base=weights).verdict,
            adapterfit.check(adapter, base=custom(kind)).verdict,
        )
        save_file(
            {name.replace("tgt", "far"): t.contiguous() for name, t in custom(kind).state_dict().items()}, weights
        )
        assert adapterfit.check(adapter, base=weights).verdict != "fits"
    assert told
    if method == "FROD":  # what it computes depends on the machine as well
        assert set(told.values()) == {("cannot-tell", "cannot-tell")}
        return
    allowed = {("fits", "fits"), ("does-not-fit", "does-not-fit"), ("cannot-tell", "fits")}
    assert set(told.values()) <= allowed, told
    assert [kind for kind, pair in told.items() if pair[0] == "cannot-tell"] in ([], ["grouped"]), told


BAD: dict[str, list[dict[str, Any]]] = {
    "BOFT": [{"boft_block_size": 0}, {"boft_block_num": 2}],
    "CARTRIDGE": [],
    "DEFT": [{"decomposition_method": "svd"}],
    "DELORA": [{"r": 0}],
    "FROD": [{"sparse_rate": 2.0}, {"sparse_rate": -1}],
    "GLORA": [{"config_A_B": "x"}, {"config_C": "constant"}, {"config_D_E": "lora"}],
    "GRALORA": [{"gralora_k": 0}, {"r": 5}],
    "IA3": [{"target_modules": ["a"], "feedforward_modules": ["b"]}],
    "LILY": [{"stride_A": 0}, {"num_B": 1}],
    "OFT": [{"oft_block_size": 0}, {"r": 4}],
    "PEANUT": [{"r": 0}, {"depth": -1}, {"act_fn": "none"}],
    "PSOFT": [
        {"r": -1},
        {"ab_svd_init": "x"},
        {"psoft_svd": "x"},
        {"use_cayley_neumann": True, "num_cayley_neumann_terms": 0},
        {"use_cayley_neumann": True, "cayley_neumann_eps": 2.0},
    ],
    "ROAD": [{"variant": "road_3"}, {"group_size": 3}, {"group_size": 0}],
    "SUPERTUNING": [{"sparsity": 1.0}, {"r": 0}, {"lora_alpha": 4.0}, {"lora_dropout": 1.0}],
    "TINYLORA": [{"r": 0}, {"u": 0}, {"weight_tying": 2.0}],
    "UNILORA": [
        {"r": 0},
        {"theta_d_length": 0},
        {"unilora_dropout": 2.0},
        {"init_theta_d_bound": 0.0},
        {"bias": "lora_only"},
    ],
    "WAVEFT": [{"wavelet_family": "haar"}],
    "SHADOW": [{"shadow_model": "gpt2", "shadow_hidden_size": 8}],
    "ADALORA": [{"total_step": None}, {"tinit": 9}],
}
LAYERS: list[dict[str, Any]] = [
    {"target_modules": "x", "layers_to_transform": [0]},
    {"target_modules": "x", "layers_pattern": "h"},
    {"target_modules": ["x"], "layers_pattern": "h"},
]


@pytest.mark.parametrize("method", [name for name in methods() if name not in {"ADAMSS", "XLORA"}])
def test_a_bad_config_is_refused_in_pefts_own_words(method):
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[method]
    fields = {field.name for field in dataclasses.fields(config_class)}
    needed = {"total_step": 10} if method == "ADALORA" else {}
    wrong = []
    for bad in (*BAD.get(method, []), *LAYERS):
        if not set(bad) <= fields:
            continue
        theirs = ours = read = ""
        raw = {**needed, **bad}
        try:
            config_class(**raw)
        except Exception as error:
            theirs = f"{type(error).__name__}: {error}"
        extra = {"oft_block_size": 32} if method == "OFT" and "oft_block_size" not in raw else {}
        parsed = parse_config(make.config_json(**{"peft_type": method, "task_type": None, **extra, **raw}))
        try:
            discover.member("adapterfit.expect.methods", method.lower()).prepare(dict(parsed.values))
        except InjectionFails as failure:
            ours = failure.raised.text
        read = next((flaw.raised for flaw in parsed.flaws if flaw.raised and flaw.severity == "error"), "")
        if ours != theirs or (read and read != theirs):
            wrong.append((bad, ours, read, theirs))
    assert wrong == []
