"""llama.cpp's own converter, on adapters that PEFT made, beside what we say: what it refuses, and the scale that is left.

The scale is the one with which llama.cpp's runtime applies it, alpha of the file / rank of the tensors.
"""

import pytest

torch = pytest.importorskip("torch")
gguf = pytest.importorskip("gguf", reason="gguf is installed by `make oracles` only")
pytest.importorskip("peft")

import by_llama_cpp  # noqa: E402
from real_adapters import adapter_of, base_of, edited, experts_of, renamed  # noqa: E402

import adapterfit  # noqa: E402

VERSION = by_llama_cpp.VERSION
pytestmark = pytest.mark.filterwarnings("ignore")


#: What llama.cpp does when it loads: `test_llama_cpp_runtime.py`.
OF_THE_RUNTIME = ("modules", "scale", "embedding", "output-layer")


def bears(*claims):
    """The converter's claims, and the same of llama.cpp, whose loader takes what the converter makes."""
    of_both = [claim for claim in claims if claim not in OF_THE_RUNTIME]
    return pytest.mark.bears("llama.cpp-converter", VERSION, *claims), pytest.mark.bears("llama.cpp", VERSION, *of_both)


#: Name → config of the adapter, how it is changed afterwards, and the claims that it bears out.
CASES = {
    "plain": ({}, None, ["scale", "layout"]),
    "rsLoRA": ({"use_rslora": True}, None, ["scale"]),
    "alpha and rank per module": ({"alpha_pattern": {"q_proj": 32}, "rank_pattern": {"v_proj": 2}}, None, ["scale"]),
    "q only": ({"target_modules": ["q_proj"]}, None, ["scale"]),
    "some layers": ({"layers_to_transform": [1]}, None, ["scale"]),
    "DoRA": ({"use_dora": True}, None, ["dora"]),
    "lora_bias": ({"lora_bias": True}, None, ["lora-bias"]),
    "saved modules": ({"modules_to_save": ["lm_head", "embed_tokens"]}, None, ["modules-to-save"]),
    "token rows": ({"trainable_token_indices": [1, 2]}, None, ["trainable-tokens"]),
    "PiSSA": ({"init_lora_weights": "pissa"}, None, ["initialisation"]),
    "embeddings": ({"target_modules": ["embed_tokens"]}, None, ["embedding"]),
    "output layer": ({"target_modules": ["lm_head"]}, None, ["output-layer"]),
    "adapter's name in keys": (
        {},
        lambda folder: renamed(folder, lambda n: n.replace(".weight", ".default.weight")),
        ["adapter-name-in-keys"],
    ),
    "bare keys": (
        {},
        lambda folder: renamed(folder, lambda n: n.removeprefix("base_model.model.")),
        ["prefix"],
    ),
    "a wrapper's name in keys": (
        {},
        lambda folder: renamed(folder, lambda n: n.replace("model.model.", "model._orig_mod.model.", 1)),
        ["wrapper-in-keys"],
    ),
    "a module that is not there": (
        {},
        lambda folder: renamed(folder, lambda n: n.replace("q_proj", "query")),
        ["modules"],
    ),
    "no alpha": ({}, lambda folder: edited(folder, "lora_alpha"), ["config-fields-needed"]),
    "bias, and no tensors of it": ({}, lambda folder: edited(folder, bias="all"), []),
    "trained biases": ({"bias": "all"}, None, ["bias"]),
}
NAMED = [pytest.param(name, id=name, marks=bears(*claims)) for name, (*_, claims) in CASES.items()]


def converted(folder, base):
    """The tensors' scales, module by module in the file's order; or what it printed when it stopped."""
    out = folder.parent / "adapter.gguf"
    said = by_llama_cpp.converted(folder, base, out)
    if said:
        return said
    reader = gguf.GGUFReader(out)
    alpha = reader.fields["adapter.lora.alpha"].contents()
    return sorted(alpha / min(map(int, tensor.shape)) for tensor in reader.tensors if tensor.name.endswith(".lora_b"))


def asked(folder, base):
    (answer,) = adapterfit.check(str(folder), base=str(base), consumer="llama.cpp-converter").consumers
    return answer


def compare(theirs, ours):
    """Both refuse, in the same words, or both convert, with the same scales."""
    if isinstance(theirs, str):
        lines = [effect.says for effect in ours.effects if effect.kind == "refused"]
        assert ours.predicted == "raises", theirs[-600:]
        assert any(line and line in theirs for line in lines), (theirs[-600:], lines)
    else:
        assert ours.predicted != "raises", [effect.says for effect in ours.effects]
        assert sorted(ratio.served for ratio in ours.ratios) == pytest.approx(theirs)


@pytest.mark.parametrize("name", NAMED)
def test_the_converter_does_what_we_say(name, tmp_path):
    config, change, _ = CASES[name]
    kind = "qwen2" if name == "trained biases" else "llama"  # a Llama has none
    folder = adapter_of(base_of(kind, tmp_path / "base"), tmp_path / "adapter", **config)
    if change is not None:
        change(folder)
    compare(converted(folder, tmp_path / "base"), asked(folder, tmp_path / "base"))


@pytest.mark.bears("llama.cpp-converter", VERSION, "fused-experts")
@pytest.mark.bears("llama.cpp", VERSION, "fused-experts")
def test_fused_experts(tmp_path):
    folder = experts_of(tmp_path)
    compare(converted(folder, tmp_path / "base"), asked(folder, tmp_path / "base"))
