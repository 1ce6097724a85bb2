"""ONNX Runtime GenAI's model builder on adapters that PEFT made; its models run in onnxruntime, beside what we say."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is installed by `make oracles` only")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import peft  # noqa: E402
import transformers  # noqa: E402
from engine_code import bears  # noqa: E402
from real_adapters import adapter_of, base_of  # noqa: E402

import adapterfit  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = [[1, 5, 9, 3]]
#: How far float32 logits of order 1 drift between the two programs.
NEAR = 1e-5


def _tokenizer(folder):
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(128)}, unk_token="w0"))
    special = {"unk_token": "w0", "eos_token": "w1", "pad_token": "w2", "bos_token": "w3"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)


def _by_peft(base, adapter=None):
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter)
    with torch.no_grad():
        return model.eval()(torch.tensor(TOKENS)).logits.numpy()


def _by_onnx(base, adapter, out):
    """Its logits. Raises what onnxruntime raises where the model that was written cannot be loaded."""
    command = [
        sys.executable,
        "-m",
        "onnxruntime_genai.models.builder",
        "-m",
        base,
        "-o",
        out,
        "-p",
        "fp32",
        "-e",
        "cpu",
    ]
    command += ["-c", out / "cache", "--extra_options", f"adapter_path={adapter}"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    given = {"input_ids": np.array(TOKENS), "attention_mask": np.ones((1, 4), np.int64)}
    past = np.zeros((1, 2, 0, 16), np.float32)  # batch, key-value heads, nothing yet, head size
    feed = {one.name: given.get(one.name, past) for one in session.get_inputs()}
    return session.run(["logits"], feed)[0]


def _made(tmp_path, **config):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model = base_of("llama", base, head_dim=16)
    _tokenizer(base)
    adapter_of(model, adapter, **config)
    (answer,) = adapterfit.check(str(adapter), base=str(base), consumer="onnxruntime-genai").consumers
    return base, adapter, answer


@bears("onnxruntime-genai", "layout", "scale")
@pytest.mark.parametrize(
    "config",
    [
        pytest.param({}, id="a plain LoRA"),
        pytest.param(
            {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 5}},
            id="rsLoRA with ranks and alphas of their own",
        ),
        pytest.param({"layers_to_transform": [1]}, id="one layer only"),
        pytest.param({"target_modules": ["k_proj", "up_proj", "down_proj"]}, id="other modules"),
    ],
)
def test_what_it_computes_is_what_peft_computes(config, tmp_path):
    base, adapter, answer = _made(tmp_path, **config)
    wanted = _by_peft(base, adapter)
    assert abs(wanted - _by_peft(base)).max() > 100 * NEAR
    assert abs(_by_onnx(base, adapter, tmp_path / "out") - wanted).max() < NEAR
    assert answer.predicted == "loads", answer


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"use_dora": True}, id="the magnitudes of DoRA", marks=bears("onnxruntime-genai", "dora")),
        pytest.param(
            {"target_modules": ["embed_tokens", "q_proj"]},
            id="a pair on the embedding",
            marks=bears("onnxruntime-genai", "embedding"),
        ),
    ],
)
def test_what_it_leaves_out_is_said(config, tmp_path):
    base, adapter, answer = _made(tmp_path, **config)
    magnitudes = adapter / "adapter_model.safetensors"
    if config.get("use_dora"):  # PEFT starts them at the norm of the sum, where leaving them out would hardly show
        from safetensors.torch import load_file, save_file

        tensors = load_file(magnitudes)
        save_file({name: value * (2 if "magnitude" in name else 1) for name, value in tensors.items()}, magnitudes)
    wanted = _by_peft(base, adapter)
    assert abs(_by_onnx(base, adapter, tmp_path / "out") - wanted).max() > 100 * NEAR
    assert answer.predicted == "loads-partly", answer


@bears("onnxruntime-genai", "lm-head")
def test_a_pair_on_the_output_layer_gives_a_model_that_onnxruntime_refuses(tmp_path):
    base, adapter, answer = _made(tmp_path, target_modules=["lm_head", "q_proj"])
    with pytest.raises(Exception, match="Invalid model") as raised:
        _by_onnx(base, adapter, tmp_path / "out")
    (line,) = [effect.says for effect in answer.effects if effect.kind == "refused"]
    assert line in str(raised.value)
    assert answer.predicted == "raises"
