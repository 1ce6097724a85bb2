"""An adapter as vLLM's own code loads it."""

import types

import engine_code

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

from vllm.lora.lora_model import LoRAModel  # noqa: E402
from vllm.lora.peft_helper import PEFTHelper  # noqa: E402

VERSION = engine_code.version("vllm")
#: What its Llama and Qwen2 wrap: packed modules, their parts, other Linears; embeddings for Llama only.
LINEAR = {"qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj", "up_proj", "down_proj"}
EXPECTED = {"llama": LINEAR | {"embed_tokens", "lm_head"}, "qwen2": LINEAR}


def loaded(folder, kind, vocabulary=128):
    """Its model of the adapter, with `loras` by module, each with `lora_a`, `lora_b` and `scaling`; or the error it raises."""
    try:
        helper = PEFTHelper.from_local_dir(str(folder), None)
        helper.validate_legal(types.SimpleNamespace(max_lora_rank=512))
        return LoRAModel.from_local_checkpoint(
            str(folder), EXPECTED[kind], helper, lora_model_id=1, device="cpu", model_vocab_size=vocabulary
        )
    except (ValueError, RuntimeError, TypeError) as error:
        return error
