"""A merged model beside real PEFT's `merge_and_unload`, weight by weight; tied weights beside what the adapter computes."""

import json

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import breaking  # noqa: E402
import crossing  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.errors import CannotConvert  # noqa: E402

pytestmark = [pytest.mark.exact, pytest.mark.filterwarnings("ignore")]
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "tie_word_embeddings": False,
}
GPT2 = {"n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 64, "vocab_size": 128, "tie_word_embeddings": False}
LORA = {
    "plain": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "rsLoRA": ("llama", {"target_modules": ["q_proj"], "use_rslora": True}),
    "patterns": (
        "llama",
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 5}},
    ),
    "DoRA": ("llama", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "the embedding and the output": ("llama", {"target_modules": ["embed_tokens", "lm_head"]}),
    "DoRA on the embedding": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "a bias of LoRA's own": ("qwen2", {"target_modules": ["q_proj"], "lora_bias": True}),
    "trained biases": ("qwen2", {"target_modules": ["q_proj"], "bias": "all"}),
    "MonteCLoRA": ("llama", {"target_modules": ["q_proj"], "monteclora_config": peft.MontecloraConfig()}),
    "VeLoRA": ("llama", {"target_modules": ["q_proj"], "velora_config": peft.VeloraConfig(num_groups=8)}),
    "all biases and a saved head": (
        "vit",
        {"target_modules": ["projection"], "bias": "all", "modules_to_save": ["classifier"]},
    ),
    "a module saved whole": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "Conv1D with DoRA": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "use_dora": True}),
    "a convolution": ("vit", {"target_modules": ["projection", "dense"]}),
    "a convolution with DoRA": ("vit", {"target_modules": ["projection"], "use_dora": True}),
}
OTHERS = {
    "LoHa": ("llama", "LoHaConfig", {"target_modules": ["q_proj", "down_proj"]}),
    "LoHa on a convolution": ("vit", "LoHaConfig", {"target_modules": ["projection"], "use_effective_conv2d": True}),
    "LoKr": ("llama", "LoKrConfig", {"target_modules": ["q_proj", "down_proj"], "r": 2}),
    "LoKr in two": ("llama", "LoKrConfig", {"target_modules": ["q_proj"], "r": 2, "decompose_both": True}),
    "LoKr on a convolution": (
        "vit",
        "LoKrConfig",
        {"target_modules": ["projection"], "use_effective_conv2d": True, "r": 2},
    ),
    "IA3": ("qwen2", "IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "IA3 on Conv1D": (
        "gpt2",
        "IA3Config",
        {"target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"], "fan_in_fan_out": True},
    ),
}
MOE = {
    "moe_intermediate_size": 48,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
}
BOTH = ["experts.gate_up_proj", "experts.down_proj"]
#: Experts one by one in the checkpoint; all in one parameter; that parameter turned.
EXPERTS = {
    "experts in pieces": ("mixtral", {"target_parameters": BOTH, "rank_pattern": {"gate_up_proj": 2}}),
    "down alone, rsLoRA": ("qwen3_moe", {"target_parameters": ["experts.down_proj"], "use_rslora": True}),
    "experts that stand turned": ("gpt_oss", {"target_parameters": BOTH, "alpha_pattern": {"down_proj": 3}}),
    "a router and experts": (
        "qwen2_moe",
        {"target_parameters": ["experts.gate_up_proj", "shared_expert.down_proj.weight", "mlp.gate.weight"]},
    ),
}


def build(kind, dtype=torch.float32, **more):
    torch.manual_seed(0)
    if kind == "vit":
        shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 2}
        config = transformers.ViTConfig(image_size=28, patch_size=14, **shape)
        return transformers.ViTForImageClassification(config).to(dtype).eval()
    shape = GPT2 if kind == "gpt2" else {**SHAPE, **MOE} if kind in {one for one, _ in EXPERTS.values()} else SHAPE
    config = transformers.AutoConfig.for_model(kind, **{**shape, **more})
    return transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()


def trained(model, config, folder):
    """An adapter with random numbers, saved by PEFT."""
    wrapped = peft.get_peft_model(model, config).eval()
    torch.manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1.25
        elif any(word in name for word in ("lora_", "hada_", "lokr_", "ia3_", "modules_to_save")) or (
            parameter.requires_grad and name.endswith("bias")
        ):
            parameter.data = torch.randn_like(parameter) * 0.2
    wrapped.save_pretrained(folder)


def again(kind, folder):
    """The base as its library loads it, from what was saved."""
    cls = transformers.ViTForImageClassification if kind == "vit" else transformers.AutoModelForCausalLM
    return cls.from_pretrained(folder, dtype="auto").eval()


def compare(kind, config, tmp_path, dtype):
    model = build(kind, dtype)
    model.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    trained(model, config, tmp_path / "a")
    expected = peft.PeftModel.from_pretrained(again(kind, tmp_path / "base"), tmp_path / "a").merge_and_unload()
    adapterfit.convert(tmp_path / "a", "merged", tmp_path / "m", base=tmp_path / "base")
    found = again(kind, tmp_path / "m").state_dict()
    wanted, before = expected.state_dict(), again(kind, tmp_path / "base").state_dict()
    assert found.keys() == wanted.keys()
    assert {name for name in wanted if not torch.equal(wanted[name], before[name])}, "the adapter does something"
    return {name: (found[name], wanted[name]) for name in wanted}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "fields"), LORA.values(), ids=LORA)
def test_lora_is_merged_as_peft_merges_it(kind, fields, dtype, tmp_path):
    """Bit for bit in bfloat16 but where a sum lies between two numbers; in float32 to the order of a sum."""
    tensors = compare(kind, peft.LoraConfig(r=4, lora_alpha=6, **fields), tmp_path, dtype)
    for name, (found, wanted) in tensors.items():
        assert found.dtype == wanted.dtype == dtype
        if dtype == torch.bfloat16:
            assert (found != wanted).float().mean() < 1e-3, name
            assert torch.allclose(found.float(), wanted.float(), rtol=2**-7, atol=0), name
        else:
            assert torch.allclose(found, wanted, rtol=2e-6, atol=5e-7), (name, (found - wanted).abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("kind", "fields"), EXPERTS.values(), ids=EXPERTS)
def test_fused_experts_are_merged_as_peft_merges_them(kind, fields, dtype, tmp_path):
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"], **fields)
    for name, (found, wanted) in compare(kind, config, tmp_path, dtype).items():
        if dtype == torch.bfloat16:
            assert (found != wanted).float().mean() < 1e-3, name
        assert torch.allclose(found.float(), wanted.float(), rtol=2e-6 if dtype == torch.float32 else 2**-7, atol=5e-7)


def test_experts_one_by_one_go_to_their_own_tensors_and_compute_what_they_did_in_training(tmp_path):
    one = crossing.of_experts("experts: qwen2_moe, rsLoRA and dropout", tmp_path)
    one.fresh().save_pretrained(tmp_path / "base", max_shard_size="50KB")
    adapterfit.convert(one.folder, "merged", tmp_path / "m", base=tmp_path / "base")
    found = breaking.computed(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval())
    assert abs(found - one.logits).max() < breaking.CLOSE < abs(breaking.computed(one.fresh()) - one.logits).max()


@pytest.mark.parametrize(("kind", "cls", "fields"), OTHERS.values(), ids=OTHERS)
def test_other_methods_are_merged_as_peft_merges_them(kind, cls, fields, tmp_path):
    config = getattr(peft, cls)(**({"r": 4, "alpha": 6} if cls != "IA3Config" else {}) | fields)
    for name, (found, wanted) in compare(kind, config, tmp_path, torch.float32).items():
        assert torch.allclose(found, wanted, rtol=2e-6, atol=5e-7), (name, (found - wanted).abs().max())


@pytest.mark.parametrize("targets", [["embed_tokens", "q_proj"], ["lm_head"], ["lm_head", "embed_tokens"]], ids=str)
def test_tied_weights_are_taken_apart_so_that_the_model_computes_what_the_adapter_did(targets, tmp_path):
    model = build("llama", tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    trained(model, peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets), tmp_path / "a")
    tokens = torch.tensor([[1, 5, 9, 3]])
    with torch.no_grad():
        expected = peft.PeftModel.from_pretrained(again("llama", tmp_path / "base"), tmp_path / "a")(tokens).logits
        done = adapterfit.convert(tmp_path / "a", "merged", tmp_path / "m", base=tmp_path / "base")
        found = again("llama", tmp_path / "m")(tokens).logits
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert "two now" in " ".join(done.notes)


def test_shards_index_and_other_files_are_the_bases(tmp_path):
    model = build("llama")
    model.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    (tmp_path / "base/tokenizer.json").write_text("{}")
    (tmp_path / "base/pytorch_model.bin").write_text("old")
    trained(model, peft.LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "a")
    done = adapterfit.convert(tmp_path / "a", "merged", tmp_path / "m", base=tmp_path / "base")
    before = {path.name for path in (tmp_path / "base").iterdir()}
    assert {path.name for path in (tmp_path / "m").iterdir()} == before - {"pytorch_model.bin"} | {"receipt.json"}
    assert len([name for name in before if name.endswith(".safetensors")]) > 3
    for name in ("model.safetensors.index.json", "config.json", "tokenizer.json", "generation_config.json"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "base" / name).read_bytes()
    index = json.loads((tmp_path / "m/model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) <= before
    assert "pytorch_model.bin" in " ".join(done.notes)


def test_what_cannot_be_merged_is_named(tmp_path):
    model = build("llama")
    model.save_pretrained(tmp_path / "base")
    build("llama", hidden_size=32).save_pretrained(tmp_path / "smaller")
    trained(model, peft.LoraConfig(r=4, target_modules=["q_proj"]), tmp_path / "a")
    trained(
        build("llama"), peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[1]), tmp_path / "t"
    )
    for adapter, base, said in (("a", None, "--base"), ("a", "smaller", "shape"), ("t", "base", "trained tokens")):
        with pytest.raises(CannotConvert, match=said):
            adapterfit.convert(tmp_path / adapter, "merged", tmp_path / "m", base=base and tmp_path / base)
    assert not (tmp_path / "m").exists()
