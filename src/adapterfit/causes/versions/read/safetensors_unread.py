"""The PEFT that will load the adapter does not read safetensors.

What this means: PEFT 0.2 and 0.3 look for `adapter_model.bin` alone. A folder with `adapter_model.safetensors` is to them a folder
without weights; they ask the Hub, and give up.

Why it happens: since 0.7 PEFT saves safetensors by default; reading it came with 0.4.

Detection: with `--for`, the name of the weights file beside the version of PEFT.

Fix: `pip install 'peft>=0.4'`.

Workaround: write the same tensors with `torch.save` to `adapter_model.bin`.

Prevention: keep PEFT no older than the one that saved the adapter.

With:
    peft==0.3.0
    transformers==4.28.1
    tokenizers==0.13.3
    huggingface_hub==0.36.2

Setup:
    LlamaForCausalLM(llama(num_key_value_heads=4)).save_pretrained("base")  # grouped heads came with transformers 4.31
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))

Broken:
    # with peft 0.3
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises ValueError: Can't find weights for adapter in adapter or in the Hugging Face Hub.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # after pip install 'peft>=0.4'
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    minutes=2,
    messages=("ValueError: Can't find weights for adapter in adapter or in the Hugging Face Hub.",),
    versions="read by peft < 0.4",
    codes=("safetensors-unread",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """The same adapter on both sides of the version."""
    return {
        "fires": [make.lora("llama").loaded_by("peft==0.3.0,transformers==4.31.0")],
        "silent": [make.lora("llama").loaded_by("peft==0.4.0,transformers==4.31.0"), make.lora("llama")],
    }
