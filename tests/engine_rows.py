"""What each engine does with the seven adapters, by hand: read in the survey of the engines, and run where they run here.

A cell: accepted · tensors applied of all · the engine's scale ÷ PEFT's. The number behind an engine is the section of the
survey that it was taken from; `0` is its matrix.
"""

#: Adapter → the fields of its config beyond r 4, lora_alpha 8, q_proj and v_proj. "vocabulary" has a base with more tokens.
ADAPTERS = {
    "plain": {},
    # q: 32 / sqrt(4) = 16, v: 8 / sqrt(4) = 4; alpha / r is 2; rsLoRA without the pattern is 4
    "rslora": {"use_rslora": True, "alpha_pattern": {"q_proj": 32}},
    "dora": {"use_dora": True},
    "q-only": {"target_modules": ["q_proj"]},
    "layers": {"layers_to_transform": [1]},
    "vocabulary": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "experts": {
        "target_modules": ["q_proj", "v_proj"],
        "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    },
}
ALL8, NO, NONE = "yes all same", "no - -", "yes none -"
FLAGS = "flags all same"  # the scale must be given by the caller
OPEN = "? ? ?"  # not known
OPEN_SCALED = "? ? same"  # not known whether it applies everything; the scale is

ROWS = {
    # engine              plain  rslora                         dora     q-only layers vocabulary experts
    "vllm": [ALL8, ALL8, NO, ALL8, ALL8, NO, NO],  # 1: Config fields, Scaling, MoE (Mixtral is 2D)
    "sglang": [ALL8, "yes all x0.125..0.5", NO, NO, ALL8, "yes 8/10 same", "yes 8/16 same"],  # 2
    "tgi": [ALL8, "yes all x0.25..1", "yes 8/12 same", ALL8, NONE, "yes 8/10 same", "yes 8/16 same"],  # 3
    "lorax": [ALL8, "yes all x0.25..1", "yes 8/12 same", ALL8, NONE, "yes 8/10 same", "yes 8/16 same"],  # 4
    "tensorrt-llm": [ALL8, "yes all x0.25..1", ALL8, ALL8, ALL8, "yes 8/10 same", "yes 8/16 same"],  # 5
    "llama.cpp-converter": [ALL8, "yes all x0.125..0.5", NO, ALL8, ALL8, NO, NO],  # 6: Converter input; experts: executed
    "llama.cpp": [ALL8, "yes all x0.125..0.5", NO, ALL8, ALL8, NO, NO],  # 6: Runtime scale
    "ollama": [ALL8, "yes all x0.125..0.5", OPEN_SCALED, ALL8, ALL8, OPEN_SCALED, NO],  # 7: llama and gemma2 only
    "mlx-lm": [NO] * 7,  # 8: a raw PEFT directory
    "diffusers": [NONE] * 7,  # 9: base_model.model. prefix
    "comfyui": [NONE] * 7,  # 10: lora key not loaded
    "kohya": [OPEN] * 7,  # 10: the grammar alone is known
    "fireworks": [ALL8, "yes all x0.125..0.5", "yes 8/12 same", ALL8, ALL8, OPEN_SCALED, OPEN_SCALED],  # 12
    "together": [OPEN] * 7,  # 12: the base must be in its list
    "bedrock": [OPEN] * 7,  # 12: not confirmed
    "workers-ai": [OPEN] * 7,  # its documentation: the base must be in its list
    "ctranslate2": [NO] * 7,  # 12: no reading of adapters at all
    "openvino-genai": [
        FLAGS, "flags all x0.25..1", "flags 8/12 same", FLAGS, FLAGS, FLAGS, OPEN_SCALED,
    ],  # 12: config never read; embeddings replaced as constants
    "onnxruntime-genai": [
        ALL8, ALL8, "yes 8/12 same", ALL8, ALL8, OPEN_SCALED, OPEN_SCALED,
    ],  # 12: folds PEFT's scaling; DoRA: executed, tests/oracles
}  # fmt: skip
