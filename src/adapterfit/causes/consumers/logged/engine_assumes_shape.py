"""The server computes a layer's size in a way that is wrong for this model.

What this means: the adapter is right, and the server expects other sizes: it takes the attention's width to be the hidden size, where
a model has heads times head_dim instead (Mistral-Nemo, Gemma, Qwen3).

Why it happens: the server's code was written for models in which both are equal.

Detection: too few or too many values for attention tensors, while PEFT loads the adapter without complaint.

Fix: upgrade the server.

Workaround: merge the adapter and serve the merged model.

Prevention: look at head_dim in the base's config.json: if heads × head_dim is not hidden_size, test the server first.

Not run: it needs TensorRT-LLM and a GPU; PEFT itself loads such an adapter rightly.

Broken:
    # head_dim is 128, hidden_size 5120, and there are 32 heads: 4096 is the width of attention, and the server takes 5120
    engine.generate(prompt, lora_request=LoRARequest("mine", 1, "adapter-of-mistral-nemo"))

Fixed:
    base = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-Nemo-Instruct-2407")
    PeftModel.from_pretrained(base, "adapter-of-mistral-nemo").merge_and_unload().save_pretrained("merged")
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=10,
    messages=("[TensorRT-LLM][ERROR] Assertion failed: lora_weights has to few values for attn_q",),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "head_dim", "tensorrt",
)  # fmt: skip


#: Servers with kernels of their own for LoRA.
_ENGINES = frozenset({"vllm", "sglang", "lmdeploy", "lorax_server", "text_generation_server", "tensorrt_llm"})

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("vllm", "set_lora"): 0.45, ("vllm", "slice_lora_a"): 0.5, ("vllm", "slice_lora_b"): 0.5}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the server's words about sizes that it computed."""
    told = said(
        symptoms,
        "lora_weights has to few values",
        "lora_weights has too few values",
        "lora buffer shape",
        "few values for attn",
    )
    if told:
        yield suspect(
            symptoms, "the server expects other sizes than the model has: heads × head_dim is not hidden_size", 0.91, told,
            fix="upgrade the server, or serve the merged model", apart="whether PEFT loads the adapter on this base: then the server is at fault",
        )  # fmt: skip

    expanded = said(symptoms, "must match the existing size")
    inside = any(frame.library in _ENGINES and "lora" in frame.file for frame in symptoms.frames)
    if expanded and inside and not told:
        yield suspect(
            symptoms, "the server's buffers for LoRA have another width than the layer's output", 0.6, expanded,
            fix="upgrade the server, or serve the merged model", apart="whether PEFT loads the adapter on this base: then the server is at fault",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """TensorRT-LLM's assertion; PEFT's mismatch."""
    return {
        "fires": [
            "[TensorRT-LLM][ERROR] Assertion failed: lora_weights has to few values for attn_k (loraUtils.cpp:84)",
            '  File "/x/site-packages/sglang/srt/lora/layers.py", line 140, in apply_lora\nRuntimeError: The expanded size of the tensor (8192) must match the existing size (4096) at non-singleton dimension 1.',
        ],
        "silent": [
            "size mismatch for a.q_proj.lora_B.default.weight: copying a param with shape torch.Size([4096, 8]) from checkpoint, the shape in current model is torch.Size([5120, 8])."
        ],
    }
