"""mlx-lm, on a CPU, loads what we write and computes what PEFT computes."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core", reason="mlx is installed by `make oracles` only")
peft = pytest.importorskip("peft")
pytest.importorskip("mlx_lm")

import transformers  # noqa: E402
from mlx_lm.tuner.utils import load_adapters  # noqa: E402
from mlx_lm.utils import load_model  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.conversion.formats.mlx import SAME_NAMES  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 100,
    "head_dim": 16,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
VARIANTS = {
    "plain": {"target_modules": ["q_proj", "v_proj", "down_proj"]},
    "rsLoRA": {"target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "alpha and rank per module": {
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "alpha_pattern": {"v_proj": 3},
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 8},
    },
    "some layers": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 2]},
    "DoRA": {"target_modules": ["q_proj", "o_proj"], "use_dora": True},
    "DoRA, every one another": {
        "target_modules": ["q_proj", "o_proj", "down_proj", "lm_head"],
        "use_dora": True,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 9},
        "alpha_pattern": {"o_proj": 3},
    },
    "DoRA on some layers": {"target_modules": ["q_proj", "v_proj"], "use_dora": True, "layers_to_transform": [1]},
    "a scale below nothing": {"target_modules": ["q_proj", "v_proj"], "lora_alpha": -2, "rank_pattern": {"v_proj": 3}},
    "the embedding and the output": {"target_modules": ["embed_tokens", "lm_head", "k_proj"]},
}


def config_of(kind):
    if kind == "phi3":
        return transformers.AutoConfig.for_model(kind, **{k: v for k, v in SHAPE.items() if k != "head_dim"})
    return transformers.AutoConfig.for_model(kind, **{**SHAPE, "tie_word_embeddings": kind.startswith("gemma")})


def saved_base(kind, folder):
    """A tiny model with random weights, saved as its library saves it."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config_of(kind)).eval()
    model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    rope = written.get("rope_parameters", {})  # mlx-lm looks where transformers 4 wrote it
    known = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if key in rope}
    (folder / "config.json").write_text(json.dumps({**written, **known}))
    return model


def mlx_logits(folder, adapter=None):
    model, _ = load_model(folder)
    model = load_adapters(model, str(adapter)) if adapter is not None else model
    model.eval()
    return np.array(model(mx.array([[1, 5, 9, 3]])).astype(mx.float32))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_mlx_lm_computes_the_same(fields, kind, tmp_path):
    model = saved_base(kind, tmp_path / "base")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **fields})).eval()
    torch.manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "magnitude" in name:
            parameter.data *= 1.25
        elif "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.2
    wrapped.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        expected = wrapped(torch.tensor([[1, 5, 9, 3]])).logits.numpy()
    adapterfit.convert(tmp_path / "a", "mlx", tmp_path / "m", base=tmp_path / "base")
    found = mlx_logits(tmp_path / "base", tmp_path / "m")
    assert np.abs(expected - mlx_logits(tmp_path / "base")).max() > 1e-3, "the adapter does something"
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("kind", sorted(SAME_NAMES))
def test_modules_have_the_same_names_in_mlx_lm(kind, tmp_path):
    model = saved_base(kind, tmp_path)
    theirs, _ = load_model(tmp_path)
    names = {name for name, module in theirs.named_modules() if type(module).__name__ == "Linear"}
    ours = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert ours - {"lm_head"} == names - {"lm_head"}
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == kind


@pytest.mark.parametrize("fine_tune_type", ["lora", "dora"])
def test_what_mlx_lm_trained_computes_the_same_under_peft(fine_tune_type, tmp_path):
    """An adapter made by mlx-lm itself, on its last two layers, with its own config."""
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers

    base = saved_base("llama", tmp_path / "base")
    model, _ = load_model(tmp_path / "base")
    model.freeze()
    parameters = {"rank": 4, "scale": 2.5, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.down_proj"]}
    linear_to_lora_layers(model, 2, parameters, use_dora=fine_tune_type == "dora")
    drawn = np.random.default_rng(4)
    weights = {
        name: mx.array(drawn.standard_normal(value.shape, dtype=np.float32))
        for name, value in tree_flatten(model.trainable_parameters())
    }
    weights = {name: value * (0.2 if name.endswith(("lora_a", "lora_b")) else 1.0) for name, value in weights.items()}
    model.load_weights(list(weights.items()), strict=False)
    (tmp_path / "m").mkdir()
    mx.save_safetensors(str(tmp_path / "m/adapters.safetensors"), weights)
    config = {"fine_tune_type": fine_tune_type, "num_layers": 2, "lora_parameters": parameters}
    (tmp_path / "m/adapter_config.json").write_text(json.dumps(config))
    model.eval()
    expected = np.array(model(mx.array([[1, 5, 9, 3]])).astype(mx.float32))
    adapterfit.convert(tmp_path / "m", "peft", tmp_path / "p")
    wrapped = peft.PeftModel.from_pretrained(base, tmp_path / "p").eval()
    with torch.no_grad():
        found = wrapped(torch.tensor([[1, 5, 9, 3]])).logits.numpy()
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())
