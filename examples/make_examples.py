"""Make the examples: a tiny random llama, and adapters that real PEFT saved for it. None of it is trained.

Run with the `dev` extra installed: `python examples/make_examples.py`. The seeds are fixed, so the bytes do not change.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
TARGETS = ["q_proj", "v_proj"]
ADAPTERS = {
    "lora": LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=TARGETS),
    "lora-head": LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", modules_to_save=["lm_head"]),
    "ia3": IA3Config(task_type="CAUSAL_LM"),
}


def base() -> LlamaForCausalLM:
    """A llama of 30,000 random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_hidden_layers=2,
            vocab_size=64,
            max_position_embeddings=64,
        )
    )


def main() -> None:
    """Write `examples/base` and one folder per adapter."""
    for name in ("base", *ADAPTERS):
        shutil.rmtree(HERE / name, ignore_errors=True)
    base().save_pretrained(HERE / "base")
    for name, config in ADAPTERS.items():
        model = get_peft_model(base(), config)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
        model.peft_config["default"].base_model_name_or_path = "examples/base"
        model.save_pretrained(HERE / name)
        (HERE / name / "README.md").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
