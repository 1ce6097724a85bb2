"""vLLM's own adapter checks, on adapters that PEFT made, beside what we say about them. Its kernels are not run."""

import os
import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import engine_code  # noqa: E402

engine_code.use(
    "vllm",
    "vllm.lora.peft_helper",
    "vllm.lora.lora_model",
    "vllm.lora.lora_weights",
    "vllm.lora.utils",
    "vllm.model_executor.models.utils",
)

import vllm.utils.torch_utils  # noqa: E402

vllm.utils.torch_utils.PIN_MEMORY = False

from real_adapters import adapter_of, base_of, edited, renamed  # noqa: E402
from vllm.lora.lora_model import LoRAModel  # noqa: E402
from vllm.lora.peft_helper import PEFTHelper  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.consumers import facts  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
#: `make oracles-older` runs the same against an older release.
VERSION = os.environ.get("VLLM_VERSION", "0.33.0")
#: What its Llama and Qwen2 wrap: packed modules, their parts, other Linears; embeddings for Llama only.
LINEAR = {"qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj", "up_proj", "down_proj"}
EXPECTED = {"llama": LINEAR | {"embed_tokens", "lm_head"}, "qwen2": LINEAR}

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
CLAIMS = sorted({claim for _, _, claims in CASES.values() for claim in claims} | {"embedding-rows"})


@pytest.fixture(params=["llama", "qwen2"])
def kind(request):
    return request.param


def loaded(folder, kind, vocabulary=128):
    """Module → scale as vLLM loads it; or the error it raises."""
    try:
        helper = PEFTHelper.from_local_dir(str(folder), None)
        helper.validate_legal(types.SimpleNamespace(max_lora_rank=512))
        model = LoRAModel.from_local_checkpoint(
            str(folder), EXPECTED[kind], helper, lora_model_id=1, device="cpu", model_vocab_size=vocabulary
        )
    except (ValueError, RuntimeError, TypeError) as error:
        return error
    return {name: layer.scaling for name, layer in model.loras.items()}


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


@pytest.mark.parametrize("name", CASES)
def test_vllm_does_what_we_say(name, kind, tmp_path):
    config, change, _ = CASES[name]
    model = base_of(kind, tmp_path / "base")
    folder = adapter_of(model, tmp_path / "adapter", **config)
    if change is not None:
        change(folder)
    theirs, ours = loaded(folder, kind), asked(folder, tmp_path / "base")
    if (VERSION, name, kind) == ("0.28.0", "embeddings", "qwen2"):  # which models take it is known of the newest alone
        assert isinstance(theirs, ValueError)
        assert ours.predicted == "cannot-tell"
        return
    compare(theirs, ours)


def test_a_classification_head_is_taken_or_refused(tmp_path):
    import transformers

    model = base_of("llama", tmp_path / "base")
    headed = transformers.LlamaForSequenceClassification(model.config)
    folder = adapter_of(headed, tmp_path / "adapter", task_type="SEQ_CLS")
    theirs = loaded(folder, "llama")
    assert isinstance(theirs, Exception) == (VERSION == "0.28.0")
    assert isinstance(theirs, Exception) or set(theirs.values()) == {2.0}
    (answer,) = adapterfit.check(str(folder), base=str(tmp_path / "base"), consumer=f"vllm=={VERSION}").consumers
    assert (answer.predicted == "raises") == isinstance(theirs, Exception)


def test_a_lora_on_embeddings_of_another_vocabulary_is_refused(tmp_path):
    folder = adapter_of(base_of("llama", tmp_path / "small"), tmp_path / "adapter", target_modules=["embed_tokens"])
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(
        (tmp_path / "small" / "config.json").read_text().replace('"vocab_size": 128', '"vocab_size": 160')
    )
    error = loaded(folder, "llama", vocabulary=160)
    assert str(error) == "The embedding LoRA size(128) must be consistent with the base model's vocabulary size(160)."
    assert asked(folder, tmp_path / "base").predicted == "raises"


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_was_executed_here_is_marked_so(claim):
    assert facts.load("vllm").claim(claim, VERSION).mark == "executed"
