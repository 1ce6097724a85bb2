"""llama.cpp's runtime, on adapters that PEFT made and its own converter converted: what it computes, beside what we say it does."""

import time

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
gguf = pytest.importorskip("gguf", reason="gguf is installed by `make oracles` only")

import by_llama_cpp  # noqa: E402
import transformers  # noqa: E402
from real_adapters import adapter_of, base_of  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import adapterfit  # noqa: E402

VERSION = by_llama_cpp.release()
pytestmark = pytest.mark.filterwarnings("ignore")
#: How far its float16 cache moves a log-probability of order 5 (up to 2e-4 was seen); an adapter here moves them far more.
NEAR = 1e-3

CASES = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha per module": {"alpha_pattern": {"q_proj": 32}},
    "rank per module": {"rank_pattern": {"q_proj": 2}},
    "q only": {"target_modules": ["q_proj"], "lora_alpha": 64},
    "some layers": {"layers_to_transform": [1]},
    "MLP": {"target_modules": ["gate_proj", "down_proj"], "lora_alpha": 64},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "output layer": {"target_modules": ["lm_head", "q_proj"]},
}
MORE = {"embeddings": ["embedding"], "output layer": ["output-layer"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a base, and the same as a GGUF."""
    folder = tmp_path_factory.mktemp("llama")
    base_of("llama", folder / "base", head_dim=16)
    by_llama_cpp.base_converted(folder / "base", folder / "base.gguf")
    return folder


def model_of(base):
    return transformers.AutoModelForCausalLM.from_pretrained(base / "base").eval()


def computed(model):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([by_llama_cpp.TOKENS])).logits[0, -1], -1)


def with_scales(base, folder, scales):
    """PEFT's model with another scale for each module."""
    model = peft.PeftModel.from_pretrained(model_of(base), folder)
    layers = {path: module for path, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    assert layers.keys() == scales.keys()
    for path, module in layers.items():
        module.scaling["default"] = scales[path]
    return model.eval()


def asked(folder, base):
    (answer,) = adapterfit.check(str(folder), base=str(base / "base"), consumer=f"llama.cpp=={VERSION}").consumers
    return answer


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=name, marks=pytest.mark.bears("llama.cpp", VERSION, "scale", *MORE.get(name, ())))
        for name in CASES
    ],
)
def test_it_applies_every_module_with_the_scale_we_say(name, base, tmp_path):
    folder = adapter_of(model_of(base), tmp_path / "adapter", **CASES[name])
    assert by_llama_cpp.converted(folder, base / "base", tmp_path / "adapter.gguf") == ""
    answer = asked(folder, base)
    served = computed(with_scales(base, folder, {ratio.module: ratio.served for ratio in answer.ratios}))
    found = torch.tensor(by_llama_cpp.logprobs(base / "base.gguf", tmp_path / "adapter.gguf"))
    assert (served - computed(model_of(base))).abs().max() > 20 * NEAR, "the adapter does something"
    assert (found - served).abs().max() < NEAR
    other = {ratio.value for ratio in answer.ratios} != {1.0}
    assert answer.predicted == ("loads-differently" if other else "loads")


OURS = {
    **CASES,
    "q, k and v, rsLoRA, every one another": {
        "target_modules": ["q_proj", "k_proj", "v_proj"],
        "use_rslora": True,
        "rank_pattern": {"k_proj": 2, "layers.1.self_attn.q_proj": 7},
        "alpha_pattern": {"v_proj": 3, "layers.0.self_attn.k_proj": 40},
    },
    "a scale below nothing": {"target_modules": ["q_proj", "o_proj"], "lora_alpha": -32},
    "everything": {"target_modules": "all-linear", "alpha_pattern": {"up_proj": 5}, "rank_pattern": {"down_proj": 9}},
}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["float32", "float16", "bfloat16"]
)
@pytest.mark.parametrize("name", OURS)
def test_it_computes_with_our_own_file_what_peft_computes(name, dtype, base, tmp_path):
    """Scales that it has no words for are in B then: everywhere it applies what PEFT applies."""
    folder = adapter_of(model_of(base), tmp_path / "adapter", **OURS[name])
    weights = folder / "adapter_model.safetensors"
    save_file(
        {key: value.to(dtype) if ".lora_" in key else value for key, value in load_file(weights).items()},
        weights,
        {"format": "pt"},
    )
    adapterfit.convert(folder, "gguf", tmp_path / "g", base=base / "base")
    expected = computed(peft.PeftModel.from_pretrained(model_of(base), folder).eval())
    found = torch.tensor(by_llama_cpp.logprobs(base / "base.gguf", tmp_path / "g/adapter.gguf"))
    assert (expected - computed(model_of(base))).abs().max() > 20 * NEAR, "the adapter does something"
    near = NEAR if dtype == torch.float32 else 5 * NEAR  # it rounds what goes into a product to the type of the weights
    assert (found - expected).abs().max() < near
    adapterfit.convert(tmp_path / "g", "peft", tmp_path / "back", base=base / "base")
    again = computed(peft.PeftModel.from_pretrained(model_of(base), tmp_path / "back").eval())
    assert (again - expected).abs().max() < 1e-6 * expected.abs().max()


def rewritten(path, out, change):
    """The same GGUF adapter with other tensors: `change` takes name → array and returns it changed."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for key in ("general.type", "adapter.type"):
        writer.add_string(key, reader.fields[key].contents())
    writer.add_float32("adapter.lora.alpha", reader.fields["adapter.lora.alpha"].contents())
    for name, tensor in change({each.name: each.data.copy() for each in reader.tensors}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _half(tensors):
    return {name: tensor for name, tensor in tensors.items() if name != "blk.0.attn_q.weight.lora_b"}


def _beyond(tensors):
    return {name.replace("blk.1.", "blk.7."): tensor for name, tensor in tensors.items()}


def _other_size(tensors):
    return {name: tensor[:, :-16].copy() if name.endswith("lora_a") else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("claim", "key", "change"),
    [
        pytest.param(claim, key, change, id=change.__name__, marks=pytest.mark.bears("llama.cpp", VERSION, claim))
        for claim, key, change in (
            ("half-pairs", "says", _half),
            ("modules", "beyond_says", _beyond),
            ("modules", "larger_says", _other_size),
        )
    ],
)
def test_what_does_not_fit_is_refused_in_these_words(claim, key, change, base, tmp_path, capfd):
    from adapterfit.consumers import facts

    folder = adapter_of(model_of(base), tmp_path / "adapter")
    by_llama_cpp.converted(folder, base / "base", tmp_path / "whole.gguf")
    broken = rewritten(tmp_path / "whole.gguf", tmp_path / "broken.gguf", change)
    with pytest.raises(Exception, match=r"."):
        by_llama_cpp.logprobs(base / "base.gguf", broken)
    line = facts.load("llama.cpp").claim(claim, VERSION).value[key]
    said = ""
    for _ in range(100):  # a thread of its own writes its log
        said += capfd.readouterr().err
        if all(piece in said for piece in line.split("…")):
            return
        time.sleep(0.1)
    raise AssertionError(said[-1500:])
