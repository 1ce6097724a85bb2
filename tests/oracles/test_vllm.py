"""vLLM's own adapter checks, on adapters that PEFT made, beside what we say about them. Its kernels are not run."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import by_vllm  # noqa: E402
from real_adapters import adapter_of, base_of, edited, renamed  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.consumers.versions import version  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
#: `make oracles-older` runs the same against older releases.
VERSION = by_vllm.VERSION

#: Name → config of the adapter, how it is changed afterwards, and the claims that it bears out.
CASES = {
    "plain": ({}, None, ["scale", "layout", "weights-file"]),
    "rank 24": ({"r": 24}, None, ["scale", "rank"]),
    "rsLoRA": ({"use_rslora": True}, None, ["scale"]),
    "alpha per module": ({"alpha_pattern": {"q_proj": 32}, "use_rslora": True}, None, ["scale"]),
    "rank per module": ({"rank_pattern": {"layers.0.self_attn.q_proj": 2}}, None, ["scale"]),
    "rank 600": ({"r": 600}, None, ["rank"]),
    "DoRA": ({"use_dora": True}, None, ["dora"]),
    "bias": ({"bias": "all"}, None, ["bias"]),
    "lora_bias": ({"lora_bias": True}, None, ["lora-bias"]),
    "saved modules": ({"modules_to_save": ["lm_head", "embed_tokens"]}, None, ["modules-to-save"]),
    "whole weights": (
        {},
        lambda folder: renamed(folder, lambda n: n.replace("layers.0.self_attn.q_proj.lora_A", "embed_tokens")),
        ["whole-weights"],
    ),
    "token rows": ({"trainable_token_indices": [1, 2]}, None, ["trainable-tokens"]),
    "PiSSA": ({"init_lora_weights": "pissa"}, None, ["initialisation"]),
    "OLoRA": ({"init_lora_weights": "olora"}, None, ["initialisation"]),
    "gaussian": ({"init_lora_weights": "gaussian"}, None, ["initialisation", "scale"]),
    "orthogonal": ({"init_lora_weights": "orthogonal"}, None, ["initialisation", "scale"]),
    "aLoRA": ({"alora_invocation_tokens": [1, 2]}, None, ["activated-lora"]),
    "replicated layers": ({"layer_replication": [[0, 2], [1, 2]]}, None, ["layer-replication"]),
    "BD-LoRA": ({}, lambda folder: edited(folder, use_bdlora={"nblocks": 2}), ["block-diagonal"]),
    "QALoRA": ({}, lambda folder: edited(folder, use_qalora=True), ["qalora"]),
    "no alpha": ({}, lambda folder: edited(folder, "lora_alpha"), ["config-fields-needed"]),
    "another method": ({}, lambda folder: edited(folder, peft_type="MISS"), ["method-not-read"]),
    "adapter's name in keys": (
        {},
        lambda folder: renamed(folder, lambda n: n.replace(".weight", ".default.weight")),
        ["adapter-name-in-keys"],
    ),
    "bare keys": ({}, lambda folder: renamed(folder, lambda n: n.removeprefix("base_model.model.")), ["scale"]),
    "some layers": ({"layers_to_transform": [1]}, None, ["scale"]),
    "q only": ({"target_modules": ["q_proj"]}, None, ["scale"]),
    "embeddings": ({"target_modules": ["embed_tokens", "lm_head"]}, None, ["scale"]),
}
NAMED = [
    pytest.param(name, id=name, marks=pytest.mark.bears("vllm", VERSION, *claims))
    for name, (_, _, claims) in CASES.items()
]


@pytest.fixture(params=["llama", "qwen2"])
def kind(request):
    return request.param


def loaded(folder, kind, vocabulary=128):
    """Module → scale as vLLM loads it, for every module it read; or the error it raises."""
    found = by_vllm.loaded(folder, kind, vocabulary)
    return found if isinstance(found, Exception) else {name: layer.scaling for name, layer in found.loras.items()}


def asked(folder, base):
    """Our answer."""
    (answer,) = adapterfit.check(str(folder), base=str(base), consumer=f"vllm=={VERSION}").consumers
    return answer


def compare(theirs, ours):
    """Both refuse, in the same words, or both load, with the same scales."""
    if isinstance(theirs, Exception):
        assert ours.predicted == "raises", theirs
        lines = [
            effect.says.split("{…}")[0].replace("ADAPTER", "") for effect in ours.effects if effect.kind == "refused"
        ]
        said = str(theirs).replace(str(theirs).partition("While loading ")[2].partition(", expected")[0], "")
        assert any(line and line in said for line in lines), (str(theirs), lines)
    else:
        assert ours.predicted != "raises", [effect.says for effect in ours.effects]
        assert ours.ratios or ours.predicted == "loads-differently"  # of another method's config no scale is known
        assert not ours.ratios or {ratio.module: ratio.served for ratio in ours.ratios} == pytest.approx(theirs)


@pytest.mark.parametrize("name", NAMED)
def test_vllm_does_what_we_say(name, kind, tmp_path):
    config, change, _ = CASES[name]
    model = base_of(kind, tmp_path / "base")
    own = {each for each, _ in model.named_modules()}
    folder = adapter_of(model, tmp_path / "adapter", **config)
    if change is not None:
        change(folder)
    theirs, ours = loaded(folder, kind), asked(folder, tmp_path / "base")
    if isinstance(theirs, dict):  # its model asks for its own modules, and never for the others
        theirs = {module: scale for module, scale in theirs.items() if module in own}
    compare(theirs, ours)


@pytest.mark.bears("vllm", VERSION, "modules-to-save")
def test_a_classification_head_is_taken_or_refused(tmp_path):
    import transformers

    model = base_of("llama", tmp_path / "base")
    headed = transformers.LlamaForSequenceClassification(model.config)
    folder = adapter_of(headed, tmp_path / "adapter", task_type="SEQ_CLS")
    theirs = loaded(folder, "llama")
    assert isinstance(theirs, Exception) == (version(VERSION) < version("0.31"))
    assert isinstance(theirs, Exception) or set(theirs.values()) == {2.0}
    (answer,) = adapterfit.check(str(folder), base=str(tmp_path / "base"), consumer=f"vllm=={VERSION}").consumers
    assert (answer.predicted == "raises") == isinstance(theirs, Exception)


@pytest.mark.bears("vllm", VERSION, "embedding-rows")
def test_a_lora_on_embeddings_of_another_vocabulary_is_refused(tmp_path):
    folder = adapter_of(base_of("llama", tmp_path / "small"), tmp_path / "adapter", target_modules=["embed_tokens"])
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(
        (tmp_path / "small" / "config.json").read_text().replace('"vocab_size": 128', '"vocab_size": 160')
    )
    error = loaded(folder, "llama", vocabulary=160)
    assert str(error) == "The embedding LoRA size(128) must be consistent with the base model's vocabulary size(160)."
    assert asked(folder, tmp_path / "base").predicted == "raises"
