"""gguf's own reader takes what we write, and llama.cpp's converter makes the same of the same adapter."""

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf", reason="gguf is installed by `make oracles` only")
peft = pytest.importorskip("peft")

import engine_code  # noqa: E402
import transformers  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.conversion.formats.gguf import _types  # noqa: E402
from adapterfit.testing.bases import CONFIGS  # noqa: E402
from adapterfit.testing.disk import lay  # noqa: E402
from convert_samples import LLAMA, peft_folder, read  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
SCRIPT = engine_code.llama_cpp() / "convert_lora_to_gguf.py"
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 128,
    "head_dim": 16,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_ggufs_reader_gives_the_same_bytes(dtype, tmp_path):
    base = lay(tmp_path / "base", {"config.json": json.dumps(CONFIGS["qwen2"]).encode()})
    source = peft_folder(tmp_path / "a", LLAMA, dtype=dtype)
    adapterfit.convert(source, "gguf", tmp_path / "g", base=base)
    reader = gguf.GGUFReader(tmp_path / "g/adapter.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert (fields["general.architecture"], fields["general.type"], fields["adapter.type"]) == (
        "qwen2",
        "adapter",
        "lora",
    )
    assert fields["adapter.lora.alpha"] == 8.0
    ours = read(source / "adapter_model.safetensors")
    names = {"q_proj": "attn_q", "v_proj": "attn_v", "down_proj": "ffn_down"}
    assert len(reader.tensors) == len(ours)
    for tensor in reader.tensors:
        _, layer, leaf, _, role = tensor.name.split(".")
        parent = "mlp" if leaf == "ffn_down" else "self_attn"
        module = next(key for key, value in names.items() if value == leaf)
        name = f"base_model.model.model.layers.{layer}.{parent}.{module}.lora_{role[-1].upper()}.weight"
        _, shape, data = ours[name]
        assert tuple(map(int, reversed(tensor.shape))) == shape
        assert tensor.data.tobytes() == data


def trained(model_type, folder, **fields):
    """A base and an adapter of that type with random numbers, both saved by their libraries."""
    torch.manual_seed(0)
    shape = {key: value for key, value in SHAPE.items() if not (model_type == "phi3" and key == "head_dim")}
    config = transformers.AutoConfig.for_model(model_type, **shape)
    config.architectures = [transformers.AutoModelForCausalLM._model_mapping[type(config)].__name__]
    base = transformers.AutoModelForCausalLM.from_config(config)
    base.save_pretrained(folder / "base")
    linear = {
        name.rpartition(".")[2] for name, module in base.named_modules() if isinstance(module, torch.nn.Linear)
    } - {"lm_head"}
    wrapped = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=6, target_modules=sorted(linear), **fields))
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.2
    wrapped.save_pretrained(folder / "a")


def tensors(path):
    reader = gguf.GGUFReader(path)
    return {each.name: np.array(each.data, dtype=np.float32) for each in reader.tensors}


@pytest.mark.parametrize("model_type", sorted(_types()))
def test_llama_cpps_converter_writes_the_same(model_type, tmp_path):
    trained(model_type, tmp_path)
    adapterfit.convert(tmp_path / "a", "gguf", tmp_path / "g", base=tmp_path / "base")
    theirs = tmp_path / "theirs.gguf"
    command = [
        sys.executable,
        SCRIPT,
        "--base",
        tmp_path / "base",
        "--outfile",
        theirs,
        "--outtype",
        "f32",
        tmp_path / "a",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert theirs.exists(), result.stderr[-2000:]
    found, expected = tensors(tmp_path / "g/adapter.gguf"), tensors(theirs)
    assert found.keys() == expected.keys()
    assert [name for name in found if not np.array_equal(found[name], expected[name])] == []
    mine, other = (gguf.GGUFReader(path).fields for path in (tmp_path / "g/adapter.gguf", theirs))
    for key in ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha"):
        assert mine[key].contents() == other[key].contents()
    adapterfit.convert(theirs, "peft", tmp_path / "back", base=tmp_path / "base")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(tmp_path / "a/adapter_model.safetensors")
