"""What mlx-lm, diffusers and OpenVINO GenAI do with what PEFT saved, beside what we say."""

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import safetensors.torch  # noqa: E402
from engine_code import bears  # noqa: E402
from real_adapters import adapter_of, base_of  # noqa: E402

import adapterfit  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


def asked(folder, base, engine):
    """Our answer."""
    (answer,) = adapterfit.check(str(folder), base=str(base), consumer=engine).consumers
    return answer


def lines(answer):
    return [effect.says for effect in answer.effects if effect.kind == "refused"]


@bears("mlx-lm", "layout")
@pytest.mark.parametrize("config", [{}, {"use_dora": True}, {"target_modules": ["q_proj"]}], ids=["plain", "DoRA", "q"])
def test_mlx_lm_refuses_a_folder_of_peft(config, tmp_path):
    pytest.importorskip("mlx.core", reason="mlx is installed by `make oracles` only")
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    folder = adapter_of(base_of("llama", tmp_path / "base"), tmp_path / "adapter", **config)
    model, _ = load_model(tmp_path / "base")
    with pytest.raises(AttributeError) as raised:
        load_adapters(model, str(folder))
    assert f"AttributeError: {raised.value}" in lines(asked(folder, tmp_path / "base", "mlx-lm"))


@bears("diffusers", "layout")
def test_diffusers_changes_nothing_with_peft_names(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is installed by `make oracles` only")
    torch.manual_seed(0)
    shape = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 1, "attention_head_dim": 4}
    more = {"num_attention_heads": 2, "joint_attention_dim": 8, "caption_projection_dim": 8, "pooled_projection_dim": 8}
    transformer = diffusers.SD3Transformer2DModel(**shape, **more, out_channels=4)
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    folder = adapter_of(base_of("llama", tmp_path / "base"), tmp_path / "adapter")
    tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    transformer.load_lora_adapter(tensors, prefix="transformer")
    assert {name: value.shape for name, value in transformer.state_dict().items()} == {
        name: value.shape for name, value in before.items()
    }
    assert not getattr(transformer, "peft_config", {})
    answer = asked(folder, tmp_path / "base", "diffusers")
    assert (answer.predicted, answer.applied) == ("loads-without-effect", 0)


class TestOpenVino:
    """Its Adapter opens files; whether they are applied is not run."""

    @pytest.fixture
    def genai(self):
        return pytest.importorskip("openvino_genai", reason="openvino-genai is installed by `make oracles` only")

    @bears("openvino-genai", "weights-file", "layout")
    def test_a_folder_is_refused_and_its_file_is_not(self, genai, tmp_path):
        folder = adapter_of(base_of("llama", tmp_path / "base"), tmp_path / "adapter")
        with pytest.raises(RuntimeError, match=r"Expected \.safetensors file, got"):
            genai.Adapter(str(folder))
        genai.Adapter(str(folder / "adapter_model.safetensors"))
        assert asked(folder, tmp_path / "base", "openvino-genai").accepted == "with-flags"

    @pytest.mark.parametrize(
        "config",
        [
            pytest.param({"use_dora": True}, id="DoRA", marks=bears("openvino-genai", "dora")),
            pytest.param({"lora_bias": True}, id="lora_bias", marks=bears("openvino-genai", "lora-bias")),
            pytest.param({"init_lora_weights": "pissa"}, id="PiSSA", marks=bears("openvino-genai", "initialisation")),
        ],
    )
    def test_what_it_does_not_read_is_taken_without_a_word(self, genai, config, tmp_path):
        folder = adapter_of(base_of("llama", tmp_path / "base"), tmp_path / "adapter", **config)
        genai.Adapter(str(folder / "adapter_model.safetensors"))
        assert asked(folder, tmp_path / "base", "openvino-genai").predicted in ("loads-partly", "loads-differently")

    @bears("openvino-genai", "half-pairs")
    def test_a_half_pair_is_refused(self, genai, tmp_path):
        folder = adapter_of(base_of("llama", tmp_path / "base"), tmp_path / "adapter")
        path = folder / "adapter_model.safetensors"
        tensors = safetensors.torch.load_file(path)
        tensors.pop(sorted(tensors)[0])
        safetensors.torch.save_file(tensors, path)
        with pytest.raises(RuntimeError) as raised:
            genai.Adapter(str(path))
        (line,) = lines(asked(folder, tmp_path / "base", "openvino-genai"))
        assert line.rstrip("…") in str(raised.value)
