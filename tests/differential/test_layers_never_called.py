"""Adapters on layers that the model above passes over: what real PEFT then computes, beside what we say of the files."""

from __future__ import annotations

import contextlib
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from huggingface_hub.errors import StrictDataclassFieldValidationError  # noqa: E402

import adapterfit  # noqa: E402
from adapterfit.causes.config import layer_never_called  # noqa: E402

pytestmark = [pytest.mark.exact, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ID = "layer-never-called"
#: Beyond this share of the largest number two answers differ.
CLOSE = 1e-5


class Attending(torch.nn.Module):
    """An attention of torch, an encoder layer of torch, and a Linear that has the name of the attention's."""

    def __init__(self, **options):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        options = {"dim_feedforward": 24, "dropout": 0.0, "batch_first": True, **options}
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, **options)
        self.decoder = torch.nn.TransformerDecoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.out_proj = torch.nn.Linear(16, 4)

    def forward(self, x):
        x = self.layer(x + self.attn(x, x, x)[0])
        return self.out_proj(self.decoder(x, x))


def attending(**options):
    torch.manual_seed(0)
    return Attending(**options).eval()


SIZES = {
    "hidden_size": 32, "d_model": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_layers": 2, "encoder_layers": 1,
    "decoder_layers": 1, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": 99, "ffn_dim": 48, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "d_ff": 48, "d_kv": 8, "num_heads": 4, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "use_cache": False, "conv_dim": [32, 32, 32], "conv_stride": [2, 2, 2],
    "conv_kernel": [3, 3, 3], "num_feat_extract_layers": 3, "tdnn_dim": [16, 16, 16], "tdnn_kernel": [3, 1, 1],
    "tdnn_dilation": [1, 1, 1], "xvector_output_dim": 16, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0, "image_size": 32, "patch_size": 8, "state_size": 8, "time_step_rank": 4, "mamba_n_heads": 8,
    "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 2, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2,
    "mamba_d_ssm": 64, "mamba_dt_rank": 4, "embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32,
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}  # fmt: skip
#: Sizes of one class that differ, by its name.
OTHER = {
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "WavLMModel": {
        "conv_dim": [512] * 7, "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "num_feat_extract_layers": 7, "tdnn_dim": [512, 512, 512, 512, 1500], "tdnn_kernel": [5, 3, 3, 1, 1],
        "tdnn_dilation": [1, 2, 3, 1, 1],
    },
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"]},
}  # fmt: skip


def built(name):
    """A tiny model of a class of transformers, random numbers in it."""
    cls = getattr(transformers, name)
    config = cls.config_class()
    for key, value in {**SIZES, **OTHER.get(name, {})}.items():
        if hasattr(config, key):
            with contextlib.suppress(NotImplementedError, StrictDataclassFieldValidationError):
                setattr(config, key, value)
    kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or ()))[:2]
    if kinds:
        with contextlib.suppress(AttributeError):  # some types work it out of other fields
            config.layer_types = (kinds * 2)[: config.num_hidden_layers]
    torch.manual_seed(0)
    return cls(config).float().eval()


def answer(model):
    """Every number that the model gives for some input of its kind."""
    torch.manual_seed(1)
    if isinstance(getattr(model, "base_model", model), Attending) or not hasattr(model, "config"):
        with torch.no_grad():
            return model(torch.randn(2, 5, 16)).flatten()
    name = model.get_base_model().main_input_name if hasattr(model, "get_base_model") else model.main_input_name
    ids = torch.randint(3, 90, (2, 12))
    inputs = {
        "input_ids": {"input_ids": ids},
        "input_values": {"input_values": torch.randn(2, 800)},
        "pixel_values": {"pixel_values": torch.randn(2, 3, 32, 32)},
    }[name]
    if getattr(model.config, "is_encoder_decoder", False) and "Encoder" not in type(_inner(model)).__name__:
        inputs["decoder_input_ids"] = ids[:, :6]
    with torch.no_grad():
        out = model(**inputs)
    return torch.cat([part.flatten().float() for part in _tensors(tuple(out.values()))])


def _inner(model):
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _tensors(parts):
    for part in parts:
        if isinstance(part, torch.Tensor):
            yield part
        elif isinstance(part, (tuple, list)):
            yield from _tensors(part)


def trained(make, folder, kind="LoraConfig", **options):
    """Save an adapter with random numbers for `make()`."""
    model = peft.get_peft_model(make(), getattr(peft, kind)(**options))
    torch.manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(torch.randn(parameter.shape) / 2)
    model.save_pretrained(str(folder))


def changes(make, folder):
    """Whether the loaded adapter changes any number of the answer."""
    before = answer(make())
    after = answer(peft.PeftModel.from_pretrained(make(), str(folder)).eval())
    return bool((after - before).abs().max() > CLOSE * before.abs().max())


def said(report):
    return report.predicted, any(finding.id == ID for finding in report.findings)


WITHOUT = [
    ("LoraConfig", {"target_modules": ["attn.out_proj"]}),
    ("LoraConfig", {"target_modules": r".*attn\.out_proj"}),
    ("LoraConfig", {"target_modules": ["attn.out_proj"], "use_dora": True}),
    ("LoraConfig", {"target_modules": ["attn.out_proj", "self_attn.out_proj"]}),
    (
        "LoraConfig",
        {"target_modules": ["linear1", "linear2"], "exclude_modules": ["decoder.linear1", "decoder.linear2"]},
    ),
    ("LoraConfig", {"target_modules": ["layer.self_attn"]}),
    ("LoraConfig", {"target_modules": [], "target_parameters": ["attn.out_proj.weight"]}),
    ("IA3Config", {"target_modules": ["attn.out_proj"], "feedforward_modules": []}),
    ("LoHaConfig", {"target_modules": ["attn.out_proj"]}),
    ("OFTConfig", {"target_modules": ["attn.out_proj"], "oft_block_size": 4, "r": 0}),
    ("VeraConfig", {"target_modules": ["attn.out_proj"], "r": 4}),
    ("AdaLoraConfig", {"target_modules": ["attn.out_proj"], "total_step": 10}),
]
IN_PART = [
    ("LoraConfig", {"target_modules": ["linear1"]}),
    ("LoraConfig", {"target_modules": ["attn.out_proj", "linear2"]}),
]
WITH = [
    ("LoraConfig", {"target_modules": ["attn"], "exclude_modules": ["layer.self_attn"]}),
    ("LoraConfig", {"target_modules": ["decoder.self_attn"]}),
    ("LoraConfig", {"target_modules": "out_proj"}),
    ("LoraConfig", {"target_modules": ["decoder.linear1"]}),
    ("LoraConfig", {"target_modules": [], "target_parameters": ["attn.in_proj_weight"]}),
    ("LoraConfig", {"target_modules": ["decoder.linear1"], "modules_to_save": ["layer.linear1"]}),
]


def named(rows):
    return [pytest.param(kind, options, id=f"{kind} {options}") for kind, options in rows]


@pytest.mark.parametrize(("kind", "options"), named(WITHOUT))
def test_on_a_layer_that_torch_never_calls_nothing_changes_and_we_say_so(tmp_path, kind, options):
    trained(attending, tmp_path, kind, **options)
    assert not changes(attending, tmp_path)
    report = adapterfit.check(tmp_path, base=attending())
    assert said(report) == ("loads-without-effect", True)
    assert report.verdict == "does-not-fit"


@pytest.mark.parametrize(("kind", "options"), named(IN_PART))
def test_where_some_layers_are_called_it_is_a_part(tmp_path, kind, options):
    trained(attending, tmp_path, kind, **options)
    assert changes(attending, tmp_path)
    assert said(adapterfit.check(tmp_path, base=attending())) == ("loads-partly", True)


def test_where_training_passed_over_some_layers_too_the_model_is_the_one_that_was_trained(tmp_path):
    trained(attending, tmp_path, target_modules=["out_proj"])
    assert changes(attending, tmp_path)
    report = adapterfit.check(tmp_path, base=attending())
    assert said(report) == ("loads", True)
    assert report.verdict == "fits"


@pytest.mark.parametrize(("kind", "options"), named(WITH))
def test_a_layer_that_is_called_fits(tmp_path, kind, options):
    trained(attending, tmp_path, kind, **options)
    assert changes(attending, tmp_path)
    report = adapterfit.check(tmp_path, base=attending())
    assert said(report) == ("loads", False)
    assert report.verdict == "fits"


SLOW_PATHS = [
    {"batch_first": False}, {"activation": "silu"}, {"bias": False}, {"nhead": 1},
]  # fmt: skip


@pytest.mark.parametrize("options", SLOW_PATHS, ids=str)
def test_an_encoder_layer_without_its_fast_path_calls_its_parts(tmp_path, options):
    options = {key: torch.nn.functional.silu if key == "activation" else value for key, value in options.items()}

    def make():
        model = attending()
        torch.manual_seed(2)
        rest = {"dim_feedforward": 24, "dropout": 0.0, "batch_first": True, "nhead": 2, **options}
        model.layer = torch.nn.TransformerEncoderLayer(16, **rest).eval()
        return model

    trained(make, tmp_path, target_modules=["layer.linear1"])
    assert changes(make, tmp_path)
    assert said(adapterfit.check(tmp_path, base=make())) == ("loads", False)


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "MT5ForConditionalGeneration"])
def test_single_rows_of_a_shared_embedding_act_through_the_layers_tied_to_it(tmp_path, name):
    def make():
        return built(name)

    trained(make, tmp_path, "TrainableTokensConfig", target_modules="shared", token_indices=list(range(3, 90)))
    assert changes(make, tmp_path)
    assert said(adapterfit.check(tmp_path, base=make())) == ("loads", False)


def test_switching_the_fast_path_off_is_a_cure(tmp_path):
    trained(attending, tmp_path, target_modules=["layer.linear1"])
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert changes(attending, tmp_path)
        assert adapterfit.check(tmp_path, base=attending()).verdict == "fits"
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_merging_makes_it_act(tmp_path):
    trained(attending, tmp_path, target_modules=["attn.out_proj"])
    merged = peft.PeftModel.from_pretrained(attending(), str(tmp_path)).merge_and_unload()
    assert not torch.allclose(answer(merged), answer(attending()), atol=1e-3)


#: Class that holds the layer → a model with it. A model is built and loaded once for each layer of the class.
MODELS = {
    "WavLMAttention": "WavLMForCTC",
    "TDNNLayer": "Wav2Vec2ForXVector",
    "MobileBertLMPredictionHead": "MobileBertForMaskedLM",
    "ProphetNetDecoder": "ProphetNetModel",
    "SEWDTransformerEncoder": "SEWDModel",
    "MambaMixer": "MambaForCausalLM",
    "FalconMambaMixer": "FalconMambaForCausalLM",
    "JambaMambaMixer": "JambaForCausalLM",
    "Lfm2ShortConv": "Lfm2ForCausalLM",
    "Lfm2MoeShortConv": "Lfm2MoeForCausalLM",
    "Lfm3ShortConv": "Lfm3ForCausalLM",
    "BambaMixer": "BambaForCausalLM",
    "FalconH1Mixer": "FalconH1ForCausalLM",
    "GraniteMoeHybridMambaLayer": "GraniteMoeHybridForCausalLM",
    "Mamba2Mixer": "Mamba2ForCausalLM",
    "NemotronHMamba2Mixer": "NemotronHForCausalLM",
    "OlmoHybridGatedDeltaNet": "OlmoHybridForCausalLM",
    "Qwen3NextGatedDeltaNet": "Qwen3NextForCausalLM",
    "Qwen3_5GatedDeltaNet": "Qwen3_5ForCausalLM",
    "Qwen3_5MoeGatedDeltaNet": "Qwen3_5MoeForCausalLM",
    "BigBirdPegasusModel": "BigBirdPegasusModel",
    "M2M100Model": "M2M100Model",
    "MBartModel": "MBartForConditionalGeneration",
    **{
        name: name
        for name in layer_never_called._TAKES
        if "T5" in name or name in ("BartModel", "LEDModel", "PegasusModel")
    },
}


#: Types in which PEFT itself refuses LoRA on the convolution; other methods it lets pass.
REFUSED = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")


def test_every_class_of_the_table_is_measured():
    assert set(MODELS) == set(layer_never_called._TAKES)


@pytest.mark.parametrize("holder", sorted(MODELS))
def test_the_classes_of_transformers_that_we_name_never_call_these_layers(tmp_path, holder):
    def make():
        return built(MODELS[holder])

    for layer in layer_never_called._TAKES[holder]:
        inside = [name for name, module in make().named_modules() if type(module).__name__ == holder]
        targets = [f"{name}.{layer}" if name else layer for name in inside]
        rank = getattr(make().get_submodule(targets[0]), "groups", 4)
        if make().config.model_type in REFUSED and layer == "conv1d":
            with pytest.raises(ValueError, match="incompatible with Mamba-based models"):
                trained(make, tmp_path / layer, target_modules=targets, r=rank)
            trained(make, tmp_path / layer, "LoHaConfig", target_modules=targets, r=4)
        else:
            trained(make, tmp_path / layer, target_modules=targets, r=rank)
        assert not changes(make, tmp_path / layer), layer
        assert said(adapterfit.check(tmp_path / layer, base=make())) == ("loads-without-effect", True), layer


FROM_CONFIG = [
    ("WavLMModel", {"target_modules": ["q_proj", "v_proj"]}, "loads-without-effect"),
    ("WavLMModel", {"target_modules": ["q_proj", "intermediate_dense"]}, "loads, with a warning"),
    ("SiglipVisionModel", {"target_modules": ["attention.out_proj"]}, "loads-without-effect"),
    ("SiglipVisionModel", {"target_modules": ["out_proj"]}, "loads, with a warning"),
    ("SiglipVisionModel", {"target_modules": "all-linear"}, "loads, with a warning"),
    ("SiglipVisionModel", {"target_modules": ["attention"]}, "loads"),
    ("SiglipVisionModel", {"target_modules": ["self_attn.out_proj"]}, "loads"),
    ("WhisperModel", {"target_modules": ["out_proj"]}, "loads"),
    ("BartModel", {"target_modules": ["out_proj"]}, "loads"),
    ("T5ForConditionalGeneration", {"target_modules": ["shared"]}, "loads-without-effect"),
    ("T5ForConditionalGeneration", {"target_modules": ["q"], "modules_to_save": ["shared"]}, "loads, with a warning"),
    ("T5ForConditionalGeneration", {"target_modules": ["q"], "trainable_token_indices": [5, 6]}, "loads"),
    ("T5ForConditionalGeneration", {"target_modules": ["embed_tokens"]}, "loads"),
]


@pytest.mark.parametrize(("name", "options", "outcome"), FROM_CONFIG, ids=str)
def test_it_is_known_from_a_config_alone(tmp_path, name, options, outcome):
    base = built(name)
    base.config.architectures = [name]
    base.config.save_pretrained(str(tmp_path / "base"))
    trained(lambda: built(name), tmp_path / "adapter", r=4, **options)
    report = adapterfit.check(tmp_path / "adapter", base=tmp_path / "base")
    assert said(report) == (outcome.partition(",")[0], outcome != "loads")
    assert (report.verdict == "fits") == outcome.startswith("loads,") or outcome == "loads"
    if name != "WhisperModel":
        assert changes(lambda: built(name), tmp_path / "adapter") == (outcome != "loads-without-effect")
