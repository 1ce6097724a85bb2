"""What random hunts found (`tools/hunt.py`), kept as examples; and a short hunt, the same one on every run."""

import hunting
import pytest

import fuzzing

pytestmark = pytest.mark.exact

ADALORA = {"peft_type": "ADALORA", "init_r": 3, "total_step": 10, "target_modules": ["q_proj"]}
#: Type and class of the base, and the config of the adapter that PEFT saves for it, or refuses to.
FOUND = {
    "PiSSA has no more ranks than the lesser side of a layer": (
        "qwen2_moe",
        "Qwen2MoeModel",
        {"peft_type": "LORA", "r": 4, "init_lora_weights": "pissa", "target_modules": ["shared_expert_gate"]},
    ),
    "OLoRA has no more ranks than the lesser side of a layer": (
        "modernbert",
        "ModernBertForSequenceClassification",
        {"peft_type": "LORA", "r": 4, "init_lora_weights": "olora", "target_modules": ["classifier", "Wo"]},
    ),
    "PiSSA of a parameter has no more ranks than its lesser side": (
        "roberta",
        "RobertaModel",
        {
            "peft_type": "LORA",
            "r": 4,
            "init_lora_weights": "pissa",
            "target_modules": [],
            "target_parameters": ["token_type_embeddings.weight"],
        },
    ),
    "orthogonal start values of a parameter": (
        "roberta",
        "RobertaModel",
        {
            "peft_type": "LORA",
            "r": 4,
            "init_lora_weights": "orthogonal",
            "target_modules": [],
            "target_parameters": ["token_type_embeddings.weight"],
        },
    ),
    "a prompt before a model that reads no words": (
        "vit",
        "ViTModel",
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3, "task_type": "FEATURE_EXTRACTION"},
    ),
    "a cache before a model that reads no words": (
        "dinov2",
        "Dinov2Model",
        {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
    ),
    "OLoRA on a Conv1D": (
        "gpt2",
        "GPT2LMHeadModel",
        {"peft_type": "LORA", "r": 4, "init_lora_weights": "olora", "target_modules": ["c_attn", "c_proj"]},
    ),
    "MiCA with too many ranks": (
        "qwen2_moe",
        "Qwen2MoeModel",
        {"peft_type": "LORA", "r": 4, "init_lora_weights": "mica", "target_modules": ["shared_expert_gate"]},
    ),
    "CorDA without its data": (
        "llama",
        "LlamaForCausalLM",
        {"peft_type": "LORA", "r": 4, "init_lora_weights": "corda", "target_modules": ["q_proj"]},
    ),
    "no token rows": (
        "glm4",
        "Glm4Model",
        {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "trainable_token_indices": []},
    ),
    "a head that is a target, for tokens": (
        "llama",
        "LlamaForTokenClassification",
        {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "score"], "task_type": "TOKEN_CLS"},
    ),
    "a head that is a target, for answers": (
        "t5",
        "T5ForQuestionAnswering",
        {"peft_type": "HIRA", "r": 4, "target_modules": ["o", "qa_outputs"], "task_type": "QUESTION_ANS"},
    ),
    "targets that are nowhere, for tokens": (
        "mixtral",
        "MixtralForTokenClassification",
        {"peft_type": "LORA", "r": 4, "target_modules": ["nope"], "task_type": "TOKEN_CLS"},
    ),
    "a parameter and a variant of LoRA": (
        "mixtral",
        "MixtralForCausalLM",
        {
            "peft_type": "LORA",
            "r": 4,
            "alora_invocation_tokens": [1],
            "target_modules": [],
            "target_parameters": ["experts.gate_up_proj"],
        },
    ),
    "a parameter of experts and start values of a weight": (
        "mixtral",
        "MixtralForCausalLM",
        {
            "peft_type": "LORA",
            "r": 4,
            "init_lora_weights": "olora",
            "target_modules": [],
            "target_parameters": ["experts.down_proj"],
        },
    ),
    "QALoRA without a quantised base": (
        "olmo2",
        "Olmo2Model",
        {"peft_type": "LORA", "r": 4, "use_qalora": True, "target_modules": ["q_proj"]},
    ),
    "Arrow without its experts": (
        "llama",
        "LlamaForCausalLM",
        {"peft_type": "LORA", "r": 4, "arrow_config": {}, "target_modules": ["q_proj"]},
    ),
    "start values that no convolution knows": (
        "vit",
        "ViTModel",
        {"peft_type": "LORA", "r": 4, "init_lora_weights": "corda", "target_modules": ["projection"]},
    ),
    "start values of an embedding": (
        "llama",
        "LlamaForCausalLM",
        {"peft_type": "LORA", "r": 3, "init_lora_weights": "orthogonal", "target_modules": ["embed_tokens"]},
    ),
    "trained tokens for answers": (
        "gptj",
        "GPTJForQuestionAnswering",
        {"peft_type": "TRAINABLE_TOKENS", "token_indices": [1, 3], "task_type": "QUESTION_ANS"},
    ),
    "trained tokens for classes": (
        "gptj",
        "GPTJForSequenceClassification",
        {"peft_type": "TRAINABLE_TOKENS", "token_indices": [1, 3], "task_type": "SEQ_CLS"},
    ),
    "KaSA with as many ranks as a layer has": (
        "roberta",
        "RobertaForQuestionAnswering",
        {"peft_type": "LORA", "r": 4, "kasa_config": {}, "target_modules": ["value", "qa_outputs"]},
    ),
    "a bias of LoRA's own and start values of a weight": (
        "granite",
        "GraniteModel",
        {"peft_type": "LORA", "r": 4, "lora_bias": True, "init_lora_weights": "olora", "target_modules": ["q_proj"]},
    ),
    "layers repeated in a plain module": (
        "plain",
        "Conv2d",
        {"peft_type": "LORA", "r": 4, "layer_replication": [[0, 1], [0, 2]], "target_modules": ["other"]},
    ),
    "MiCA on a parameter": (
        "plain",
        "Conv1D",
        {
            "peft_type": "LORA",
            "r": 4,
            "init_lora_weights": "mica",
            "target_modules": [],
            "target_parameters": ["other.weight"],
        },
    ),
    "a bias that no method knows": (
        "llama",
        "LlamaForCausalLM",
        {"peft_type": "WAVEFT", "n_frequency": 10, "bias": "odd", "target_modules": ["q_proj"]},
    ),
    "a rank pattern that is no expression, and no target": (
        "llama",
        "LlamaForCausalLM",
        {"peft_type": "LORA", "r": 4, "target_modules": ["nope"], "rank_pattern": {"(": 2}},
    ),
    "AdaLoRA with a rank in place of a mask": ("llama", "LlamaForCausalLM", {**ADALORA, "rank_pattern": {"q_proj": 3}}),
    "AdaLoRA with a mask of another length": (
        "llama",
        "LlamaForCausalLM",
        {**ADALORA, "rank_pattern": {"model.layers.0.self_attn.q_proj.lora_E": [True, False]}},
    ),
    "AdaLoRA with a mask of nothing": (
        "llama",
        "LlamaForCausalLM",
        {**ADALORA, "rank_pattern": {"q_proj": [True, False, True]}},
    ),
    "AdaLoRA with a mask of a layer that is not there": (
        "llama",
        "LlamaForCausalLM",
        {**ADALORA, "rank_pattern": {"model.layers.7.self_attn.q_proj.lora_E": [True, False, True]}},
    ),
    "token rows of a Conv1D": (
        "gpt2",
        "GPT2LMHeadModel",
        {"peft_type": "LORA", "r": 4, "target_modules": ["c_proj"], "trainable_token_indices": {"c_attn": [0]}},
    ),
    "token rows of a norm": (
        "gpt2",
        "GPT2LMHeadModel",
        {"peft_type": "LORA", "r": 4, "target_modules": ["c_proj"], "trainable_token_indices": {"ln_1": [0]}},
    ),
    "token rows of a module that holds others": (
        "llama",
        "LlamaForCausalLM",
        {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "trainable_token_indices": {"mlp": [0]}},
    ),
    "token rows of a class without an input embedding": (
        "clip",
        "CLIPForImageClassification",
        {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "trainable_token_indices": [1]},
    ),
    "biases on an embedding beside a variant": (
        "falcon",
        "FalconModel",
        {
            "peft_type": "LORA",
            "r": 4,
            "target_modules": ["word_embeddings"],
            "lora_bias": True,
            "use_bdlora": {"nblocks": 2, "target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["o_proj"]},
        },
    ),
    "a prompt on a plain module": (hunting.PLAIN, "Linear", {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}),
    "CPT on a plain module": (hunting.PLAIN, "Linear", {"peft_type": "CPT", "cpt_token_ids": [1, 2]}),
    "adaption prompts on a plain module": (
        hunting.PLAIN,
        "Linear",
        {"peft_type": "ADAPTION_PROMPT", "adapter_len": 3, "adapter_layers": 1},
    ),
    "a shadow on a plain module": (hunting.PLAIN, "Linear", {"peft_type": "SHADOW", "target_modules": ["tgt"]}),
    "a parameter of an attention's projection beside one of a layer": (
        hunting.PLAIN,
        "attention",
        {"peft_type": "LORA", "r": 4, "target_modules": [], "target_parameters": ["weight"]},
    ),
    "a parameter beside a layer that is stored the other way round": (
        "gpt2",
        "GPT2LMHeadModel",
        {"peft_type": "LORA", "r": 4, "target_modules": ["c_attn"], "target_parameters": ["wte.weight"]},
    ),
    "a parameter beside a layer that is not": (
        "gpt2",
        "GPT2LMHeadModel",
        {"peft_type": "LORA", "r": 4, "target_modules": ["c_attn", "lm_head"], "target_parameters": ["wte.weight"]},
    ),
    "a saved module whose parameter is a target, beside a Linear": (
        hunting.PLAIN,
        "Conv1D",
        {
            "peft_type": "LORA",
            "r": 4,
            "fan_in_fan_out": True,
            "target_modules": ["other"],
            "target_parameters": ["layers.0.tgt.weight"],
        },
    ),
    "KaSA on a Conv1D": (
        "gpt2",
        "GPT2LMHeadModel",
        {"peft_type": "LORA", "r": 4, "target_modules": ["c_attn"], "kasa_config": {}},
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_a_hunt_found(name):
    found = hunting.kept(*FOUND[name])
    assert found.ours == found.theirs, found


def test_a_short_hunt_finds_nothing():
    wrong = []
    for number in range(40 * fuzzing.FACTOR):
        try:
            found = hunting.hunt(f"kept.{number}")
        except hunting.NotDrawn:
            continue
        if found.ours != "cannot-tell" and not found.agree:
            wrong.append((number, found))
    assert wrong == []
