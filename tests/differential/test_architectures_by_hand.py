"""Facts written by hand from the source of a model, beside the models that transformers builds: configs as released checkpoints have them, and what no random config draws."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

from adapterfit.expect import modules

pytestmark = pytest.mark.exact

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

UNMASKED = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
TINY = {"num_hidden_layers": 1}
#: Model type, class, what config.json says otherwise than the class.
CONFIGS = [
    *((name, cls, {**UNMASKED, **TINY}) for name, cls in (
        ("wav2vec2", "Wav2Vec2ForCTC"), ("hubert", "HubertForCTC"), ("wavlm", "WavLMForCTC"), ("sew", "SEWForCTC"),
        ("sew-d", "SEWDForCTC"), ("unispeech", "UniSpeechForCTC"), ("data2vec-audio", "Data2VecAudioForCTC"),
        ("wav2vec2-bert", "Wav2Vec2BertModel"), ("wav2vec2-conformer", "Wav2Vec2ConformerModel"),
        ("unispeech-sat", "UniSpeechSatForCTC"),
    )),
    ("sew-d", "SEWDModel", {"hidden_size": 512, "num_attention_heads": 8, "share_att_key": False, "pos_att_type": ["c2p"], **TINY}),
    ("encodec", "EncodecModel", {
        "audio_channels": 2, "norm_type": "time_group_norm", "sampling_rate": 48000, "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
        "chunk_length_s": 1.0, "overlap": 0.01, "use_causal_conv": False, "normalize": True,
    }),
    ("encodec", "EncodecModel", {
        "sampling_rate": 32000, "target_bandwidths": [2.2], "upsampling_ratios": [8, 5, 4, 4], "num_filters": 64, "codebook_size": 2048,
        "use_conv_shortcut": False, "use_causal_conv": False, "codebook_dim": 128,
    }),
    ("dac", "DacModel", {"downsampling_ratios": [2, 4, 8, 8], "sampling_rate": 44100, "upsampling_ratios": [8, 8, 4, 2]}),
    ("parakeet_tdt", "ParakeetForTDT", {"vocab_size": 8193, "encoder_config": {"num_mel_bins": 128, "attention_bias": False, **TINY}}),
    ("nemotron_asr_streaming", "NemotronAsrStreamingForRNNT", {"encoder_config": {"num_mel_bins": 128, **TINY}}),
    ("clap_audio_model", "ClapAudioModel", {
        "depths": [2, 2, 12, 2], "patch_embeds_hidden_size": 128, "hidden_size": 1024, "enable_fusion": True, "fusion_type": "channel_map",
    }),
    ("bark", "BarkModel", {
        "semantic_config": {"input_vocab_size": 129600, "hidden_size": 1024, "num_heads": 16, "num_layers": 2, "bias": False},
        "coarse_acoustics_config": {"input_vocab_size": 12096, "output_vocab_size": 12096, "num_layers": 1, "bias": False},
        "fine_acoustics_config": {"input_vocab_size": 1056, "output_vocab_size": 1056, "num_layers": 1, "n_codes_given": 2},
    }),
    ("vits", "VitsModel", {"num_speakers": 109, "speaker_embedding_size": 256, "vocab_size": 178, **TINY}),
    ("musicgen", "MusicgenForConditionalGeneration", {
        "text_encoder": {"model_type": "t5", "d_model": 768, "num_layers": 1},
        "audio_encoder": {"model_type": "encodec", "sampling_rate": 32000, "target_bandwidths": [2.2], "upsampling_ratios": [8, 5, 4, 4]},
        "decoder": {"hidden_size": 1024, "num_codebooks": 8, "audio_channels": 2, **TINY},
    }),
    ("qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration", {
        "thinker_config": {"text_config": TINY, "vision_config": {"depth": 1}, "audio_config": {"encoder_layers": 1}},
        "talker_config": {
            "spatial_merge_size": 2, "text_config": {"shared_expert_intermediate_size": 768, "head_dim": 128, **TINY},
            "code_predictor_config": {"num_code_groups": 16, **TINY},
        },
        "code2wav_config": TINY,
    }),
    ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration", {
        "thinker_config": {"text_config": TINY, "vision_config": {"depth": 1}, "audio_config": {"encoder_layers": 1}}, "talker_config": TINY,
    }),
    ("phi4_multimodal", "Phi4MultimodalForCausalLM", {
        "tie_word_embeddings": True, "audio_config": {"num_blocks": 1, "input_size": 81}, "vision_config": TINY, **TINY,
    }),
    ("speecht5_hifigan", "SpeechT5HifiGan", {"upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4]}),
    ("fastspeech2_conformer", "FastSpeech2ConformerModel", {"encoder_layers": 2, "num_hidden_layers": 6, "decoder_linear_units": 48}),
    ("fastspeech2_conformer", "FastSpeech2ConformerModel", {"num_languages": 0, "num_speakers": 0, "speaker_embed_dim": 0}),
    ("fastspeech2_conformer_with_hifigan", "FastSpeech2ConformerWithHifiGan", {"model_config": {"num_languages": 0, "num_speakers": 0}}),
    *((name, cls, {"num_hidden_layers": 3, **own}) for name, cls in (
        ("t5", "T5Model"), ("mt5", "MT5Model"), ("umt5", "UMT5Model"), ("longt5", "LongT5Model"), ("udop", "UdopModel"),
        ("pop2piano", "Pop2PianoForConditionalGeneration"),
    ) for own in ({}, {"num_layers": 2})),
    ("switch_transformers", "SwitchTransformersModel", {"num_hidden_layers": 4, "num_decoder_layers": None, "num_sparse_encoder_layers": 0}),
    ("xmod", "XmodModel", {"num_hidden_layers": 1, "languages": ["en_XX", "de_DE", "en_XX"]}),
    ("xmod", "XmodForMaskedLM", {"num_hidden_layers": 1, "languages": []}),
    ("molmo2", "Molmo2ForConditionalGeneration", {
        "text_config": TINY, "adapter_config": {"vit_layers": [-3, -9]},
        "vit_config": {"image_default_input_size": [378, 378], "image_num_pos": 729, "image_patch_size": 14, "num_hidden_layers": 27},
    }),
    ("molmo2_vision", "Molmo2VisionModel", {"image_default_input_size": [224, 140], **TINY}),
    ("hunyuan_vl_vision", "HunYuanVLVisionTransformer", {"num_hidden_layers": 1, "attention_heads": 32}),
    ("olmo_hybrid", "OlmoHybridModel", {"num_hidden_layers": 2, "layer_types": ["linear_attention", "sliding_attention"]}),
    ("ernie4_5_vl_moe_text", "Ernie4_5_VLMoeTextModel", {"num_hidden_layers": 2, "mlp_layer_types": ["sparse", "other"]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "class_name", "config"), CONFIGS, ids=[f"{row[1]}-{at}" for at, row in enumerate(CONFIGS)]
)
def test_that_facts_by_hand_give_the_model(model_type, class_name, config):
    from transformers import AutoConfig

    from architectures import proof

    model = proof.on_meta(class_name, AutoConfig.for_model(model_type, **copy.deepcopy(config)))
    assert proof.verdict(model_type, class_name, config, model) == ("exact", "")


def test_that_a_sew_d_with_a_convolution_that_its_config_class_does_not_know_is_left_open():
    from adapterfit.records import Base

    found = modules.tree(Base("x", config={"model_type": "sew-d", "conv_kernel_size": 3}), "SEWDModel")
    assert "conv_kernel_size" in " ".join(found.doubts)


def test_that_a_head_that_is_tied_to_a_longer_table_is_left_open():
    """Its weight is the table's, while PEFT reads what the module says of itself."""
    from adapterfit.records import Base

    config = {"model_type": "kyutai_speech_to_text", "tie_word_embeddings": True}
    found = modules.tree(Base("x", config=config), "KyutaiSpeechToTextForConditionalGeneration")
    assert "tie_word_embeddings" in " ".join(found.doubts)
