"""A live `nn.Module` as the base: what PyTorch, transformers and PEFT really build."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from adapterfit.errors import CannotCheck
from adapterfit.read.live import base_from_module, is_live

pytestmark = [pytest.mark.exact, pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")]

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 256,
}


@pytest.fixture(scope="module")
def nn():
    return pytest.importorskip("torch").nn


def build(family, **more):
    """A tiny transformers model of random weights."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256},
        "t5": {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_layers": 2, "num_heads": 4, "vocab_size": 256},
    }.get(family, TINY)
    config = transformers.AutoConfig.for_model(family, **{**sizes, **more})
    auto = transformers.AutoModelForSeq2SeqLM if family == "t5" else transformers.AutoModelForCausalLM
    return auto.from_config(config)


FAMILIES = ["llama", "gpt2", "bloom", "t5", "bert", "mistral", "qwen2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_and_parameter_is_there_in_order(family):
    model = build(family)
    tree = base_from_module(model).tree
    assert [module.name for module in tree.modules] == [name for name, _ in model.named_modules()]
    found = {f"{m.name}.{p}" if m.name else p: shape for m in tree.modules for p, shape in m.params.items()}
    assert found == {name: tuple(parameter.shape) for name, parameter in model.named_parameters()} | {
        name: shape for name, shape in found.items() if any(name in group for group in tree.tied)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_kinds_agree_with_isinstance(family, nn):
    from transformers.pytorch_utils import Conv1D

    kinds = {"Linear": nn.Linear, "Embedding": nn.Embedding, "Conv1D": Conv1D}
    model = build(family)
    for (name, module), found in zip(model.named_modules(), base_from_module(model).tree.modules):
        wanted = next((kind for kind, cls in kinds.items() if isinstance(module, cls)), None)
        assert found.kind == wanted or (wanted is None and found.kind in ("container", "norm", "other")), name


def test_a_transformers_model_says_what_it_is():
    base = base_from_module(build("llama", tie_word_embeddings=True))
    tree = base.tree
    assert (base.model_type, tree.class_name, tree.known, tree.prefix) == ("llama", "LlamaForCausalLM", "live", "model")
    assert (tree.input_embeddings, tree.output_embeddings) == ("model.embed_tokens", "lm_head")
    assert tree.tied == (("model.embed_tokens.weight", "lm_head.weight"),)
    assert (base.complete, base.flaws, tree.doubts, base.remote_code) == (True, (), (), False)


def test_untied_weights_are_not_tied():
    assert base_from_module(build("llama", tie_word_embeddings=False)).tree.tied == ()


def test_ties_are_seen_on_the_meta_device_too():
    import torch

    with torch.device("meta"):
        model = build("llama", tie_word_embeddings=True)
    model.tie_weights()
    assert base_from_module(model).tree.tied == (("model.embed_tokens.weight", "lm_head.weight"),)


def test_fused_experts_say_which_way_they_lie():
    model = build(
        "gpt_oss", num_local_experts=4, num_key_value_heads=2, head_dim=16, layer_types=["full_attention"] * 2
    )
    experts = [module for module in base_from_module(model).tree.modules if module.class_name == "GptOssExperts"]
    assert len(experts) == 2
    assert all(module.transposed_experts for module in experts)
    assert "gate_up_proj" in experts[0].params


def test_a_plain_module_needs_no_config(nn):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, groups=1)
            self.deep = nn.Conv2d(8, 8, 3, groups=4)
            self.attention = nn.MultiheadAttention(8, 2)
            self.norm = nn.LayerNorm(8)
            self.act = nn.ReLU()
            self.head = nn.Linear(8, 2, bias=False)

    base = base_from_module(Net())
    kinds = {module.name: module.kind for module in base.tree.modules}
    assert (base.config, base.tree.model_type, base.tree.input_embeddings) == (None, "", "")
    assert kinds == {
        "": "container",
        "stem": "Conv2d",
        "deep": "Conv2d",
        "attention": "MultiheadAttention",
        "attention.out_proj": "Linear",
        "norm": "norm",
        "act": "other",
        "head": "Linear",
    }
    by_name = {module.name: module for module in base.tree.modules}
    assert by_name["deep"].groups == 4
    assert by_name["head"].params == {"weight": (2, 8)}


def test_a_module_reachable_twice_is_one_module_with_an_alias(nn):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(2, 2))
            self.second = self.first

    tree = base_from_module(Net()).tree
    assert [module.name for module in tree.modules] == ["", "first", "first.0"]
    assert dict(tree.aliases) == {"second": "first", "second.0": "first.0"}
    assert tree.tied == ()


def test_a_packed_linear_has_the_shape_it_stands_for(nn):
    """As bitsandbytes does it: an `nn.Linear` whose weight is one long column of bytes."""
    import torch

    class Linear4bit(nn.Linear):
        def __init__(self):
            super().__init__(64, 32)
            self.weight = nn.Parameter(torch.zeros(1024, 1, dtype=torch.uint8), requires_grad=False)

    class QuantLinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.infeatures, self.outfeatures, self.bias = 64, 32, None
            self.register_buffer("qweight", torch.zeros(8, 32, dtype=torch.int32))

    modules = base_from_module(nn.Sequential(Linear4bit(), QuantLinear())).tree.modules
    assert [(module.kind, dict(module.params)) for module in modules[1:]] == [
        ("Linear", {"weight": (32, 64), "bias": (32,)}),
        ("Linear", {"weight": (32, 64)}),
    ]


def test_shapes_of_a_model_sharded_by_zero3_are_the_real_ones(nn):
    import torch

    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False))
    for layer in model:
        layer.weight.ds_shape = torch.Size([3, 4])
        layer.weight.data = torch.empty(0)
    tree = base_from_module(model).tree
    assert [dict(module.params) for module in tree.modules[1:]] == [{"weight": (3, 4)}] * 2
    assert (tree.tied, tree.doubts) == ((), ())


def test_empty_parameters_without_a_real_shape_are_doubted(nn):
    import torch

    model = nn.Sequential(nn.BatchNorm1d(3))
    model[0].weight.data = torch.empty(0)
    assert "empty parameters" in base_from_module(model).tree.doubts[0]


@pytest.mark.parametrize("given", ["the PeftModel", "the base it changed"])
def test_a_model_with_an_adapter_on_it_is_said_and_peft_warns_as_predicted(given, tmp_path):
    peft = pytest.importorskip("peft")
    model = build("llama")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    wrapped.save_pretrained(tmp_path)
    thing = wrapped if given == "the PeftModel" else model
    base = base_from_module(thing)
    (flaw,) = base.flaws
    assert flaw.code == "wrapped-twice"
    assert base.tree.doubts, "nothing fits on it"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        peft.PeftModel.from_pretrained(thing, tmp_path)
    assert flaw.raised in [f"UserWarning: {warning.message}" for warning in said]


def test_what_is_no_module_is_refused_in_one_line():
    assert not is_live("base")
    with pytest.raises(CannotCheck, match="a model is due"):
        base_from_module({"a": 1})


def test_the_reader_itself_imports_no_torch():
    code = "import sys, adapterfit.read.live; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_config_values_are_plain():
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(inner) for key, inner in value.items())
        return all(map(plain, value)) if isinstance(value, list) else isinstance(value, (str, int, float, type(None)))

    assert plain(base_from_module(build("llama", dtype="bfloat16")).config)
