"""What an expert deduces from one number, name or frame of an error, whatever the words around it."""

from __future__ import annotations

import pytest

import adapterfit

PEFT = 'File "/x/site-packages/peft/tuners/lora/layer.py", line 7, in forward\n'
VLLM = 'File "/x/site-packages/vllm/lora/layers/fused_moe.py", line 7, in set_lora\n'
DEDUCED = {
    "two small numbers in a sum of LoRAs are ranks": (
        "rank-mismatch", "lora merge: The size of tensor a (48) must match the size of tensor b (24) at non-singleton dimension 0",
    ),
    "two large ones are widths": ("wrong-base", f"{PEFT}RuntimeError: The size of tensor a (5120) must match the size of tensor b (4096)"),
    "a size of 0 in a merge is ZeRO-3's": (
        "zero3-empty-weights", "in merge, lora: RuntimeError: The size of tensor a (0) must match the size of tensor b (3584) at non-singleton dimension 1",
    ),
    "one row of half a matrix is packed": ("quantised-base-packed", f"{PEFT}RuntimeError: mat1 and mat2 shapes cannot be multiplied (9x3584 and 1x6422528)"),
    "two types in one sentence are two types": ("adapter-dtype-differs", f"{PEFT}RuntimeError: attention bias type fp32 and query type bf16 have to match"),
    "an import that fails in a library is a matter of versions": (
        "libraries-out-of-step", 'File "/x/site-packages/peft/mapping.py", line 25, in <module>\n    from .mixed_model import PeftMixedModel\nAttributeError: x',
    ),
    "a KeyError out of the table of model types is that type": (
        "base-unknown-to-transformers", 'File "/x/site-packages/transformers/models/auto/configuration_auto.py", line 7, in __getitem__\n    raise KeyError(key)\nKeyError: \'glm9\'',
    ),
    "a shard that is missing is the base's": ("base-incomplete", "OSError: model-00003-of-00007.safetensors not found in /models/base"),
    "a prompt's encoder has parts of its own": (
        "prompt-shape-differs", 'RuntimeError: Error(s) in loading state_dict for PrefixEncoder:\n\tMissing key(s) in state_dict: "trans.0.weight".',
    ),
    "base weights in wrapped layers are a whole model": (
        "adapter-inside-full-checkpoint",
        'RuntimeError: Error(s) in loading state_dict for X:\n\tUnexpected key(s) in state_dict: "h.0.attn.base_layer.weight", "h.0.attn.lora_A.default.weight". ',
    ),
    "a code line that raises stands for a frame that is cut": (
        "target-module-unsupported", "│ ❱ 250 │   new_module = self._create_new_module(lora_config, adapter_name, target, devi   │\n│   251 │   if adapter_name not in x:   │",
    ),
    "a method's class is no part of a frame's function": (
        "target-module-unsupported",
        "File /x/site-packages/peft/tuners/lora/model.py:237, in LoraModel._create_new_module(self, lora_config, target)",
    ),
    "names of the first checkpoints are a dialect": (
        "diffusion-key-format", "ValueError: Target modules {'double_blocks.7.img_attn.qkv'} not found in the base model.",
    ),
    "diffusers' own names are wrapped": ("wrapper-prefix", "ValueError: Target modules {'transformer_blocks.7.attn.to_q'} not found in the base model."),
    "a server's class without adapters": ("targets-refused-by-engine", "Server error: 'FlashFooForCausalLM' object has no attribute 'load_adapter'"),
    "a server's LoRA code that fails without a word": ("targets-refused-by-engine", f"{VLLM}AssertionError"),
    "names alike but for an adapter's name": (
        "adapter-name-in-keys",
        'RuntimeError: Missing key(s) in state_dict: "h.0.q.lora_A.mine.weight". \n\tUnexpected key(s) in state_dict: "h.0.q.lora_A.weight". ',
    ),
    "checkpointing is told, and nothing has a gradient": (
        "checkpointing-cuts-gradients", "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn (LoRA, gradient checkpointing)",
    ),
    "trainable parameters counted in words": ("adapter-frozen", "m = PeftModel.from_pretrained(base, 'mine')\nprint_trainable_parameters says the trainable params is 0, why?"),
    "gradients that are none, in words": ("checkpointing-cuts-gradients", "With gradient checkpointing my LoRA does not learn: the gradients are all None."),
    "diffusers has read the dialect, and its module is not there": (
        "diffusion-wrong-base", "Loading adapter weights from state_dict led to unexpected keys found in the model: blocks.7.attn2.add_k_proj.lora_A.fast.weight, blocks.7.attn2.add_k_proj.lora_B.fast.weight",
    ),
    "the adapter's name of PEFT stood in the file": (
        "diffusion-key-format", "Loading adapter weights from state_dict led to unexpected keys found in the model: blocks.7.attn2.to_k.lora_A.default.weight, blocks.7.attn2.to_k.lora_B.default.weight",
    ),
    "a traceback that breaks off while the layers are made": (
        "target-modules-not-found",
        '  File "/x/site-packages/peft/mapping.py", line 183, in get_peft_model\n  File "/x/site-packages/peft/peft_model.py", line 155, in __init__\n    self.base_model = cls(model, peft_config)',
    ),
    "an option of a server is no error of it": (
        "served-without-effect", "vllm serve base --enable-lora --lora-target-modules qkv_proj\nThe LoRA adapter is loaded and the server silently serves the base model.",
    ),
    "each line of Chinese by itself": (
        "loader-drops-keys-silently", "tokenizer = AutoTokenizer.from_pretrained('x')\nm = PeftModel.from_pretrained(base, 'mine').merge_and_unload()\n合并完之后和原来模型参数完全一致，没有变化",
    ),
    "a sampler's sizes are those of an image model": (
        "diffusion-wrong-base", "Load network: my_lora.safetensors\nERROR step=base args={'prompt_embeds': 'cuda:0'} The size of tensor a (64) must match the size of tensor b (320) at non-singleton dimension 1",
    ),
    "no value head, as after most trainings": ("missing-base-keys-harmless", "WARNING:root:A model is loaded from './out', and no v_head weight is found. (LoRA)"),
    "a layer has no adapter of a name that was given": (
        "adapter-name-unknown", 'pipe.set_adapters(["ink", "pen"])\nFile "/x/site-packages/peft/tuners/lora/layer.py", line 123, in scale_layer\nKeyError: \'pen\'',
    ),
    "slots for packed bytes": (
        "quantised-base-unsupported",
        ("size mismatch for base_model.model.a.hada_w1_a.mine: copying a param with shape torch.Size([48, 3]) from checkpoint, the shape in current model is torch.Size([1152, 3]).\n"
        "size mismatch for base_model.model.a.hada_w1_b.mine: copying a param with shape torch.Size([3, 48]) from checkpoint, the shape in current model is torch.Size([3, 1])."),
    ),
    "two devices, in anybody's words": ("base-offloaded", "With my LoRA it says that some tensors are on the CPU and some on the GPU, and it wants them on the same device."),
    "a segment that a loader of image models misses": (
        "diffusion-key-format", "Exception: The key `transformer` is missing in the LoRA safetensors file. Please ensure that it is correctly formatted",
    ),
    "checkpointing is switched off": (
        "adapter-frozen", "model = PeftModel.from_pretrained(model, 'out')\n--gradient_checkpointing False\nRuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
    ),
}  # fmt: skip
#: Errors of a run with adapters that have nothing to do with them.
OUTSIDE = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB while loading the LoRA adapter",
    "ModuleNotFoundError: No module named 'flash_attn'",
    'File "/x/site-packages/transformers/models/llama/modeling_llama.py", line 3, in <module>\n    import flash_attn\nModuleNotFoundError: No module named \'flash_attn\'',
    "ValueError: Tokenizer class TokenizersBackend does not exist or is not currently imported. (lora)",
    "Exception: data did not match any variant of untagged enum ModelWrapper at line 757272 column 3 (adapter/tokenizer.json)",
    "requests.exceptions.SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api/models/x/lora",
    "OSError: [Errno 28] No space left on device: 'out/adapter_model.safetensors'",
    "PermissionError: [Errno 13] Permission denied: '/data/lora-out/adapter_model.safetensors'",
    "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0 (lora)",
    "RuntimeError: The size of tensor a (2048) must match the size of tensor b (2049) at non-singleton dimension 3",
)  # fmt: skip


@pytest.mark.parametrize(("cause", "text"), DEDUCED.values(), ids=DEDUCED)
def test_a_cause_is_deduced(cause, text):
    assert adapterfit.why(text).causes[0].id == cause


@pytest.mark.parametrize("text", OUTSIDE)
def test_an_error_from_outside_is_answered_with_nothing_or_with_a_guess(text):
    causes = adapterfit.why(text).causes
    assert not causes or causes[0].confidence == "low"


def test_options_of_a_training_are_no_names_of_tensors():
    told = adapterfit.why("lora_unet_layer: null\nlora_unet_rank: 4\nRuntimeError: CUDA error: out of memory")
    assert told.symptoms.keys == ()
    assert adapterfit.why("lora_unet_down_blocks_0_attentions_0_proj_in.alpha is odd").symptoms.keys != ()


def test_rows_that_a_model_lacks_are_no_adapters_where_no_adapter_is_loaded():
    line = 'ValueError: Trying to set a tensor of shape torch.Size([32001, 5120]) in "weight" (which has shape torch.Size([32000, 5120])), this looks incorrect.'
    frame = 'File "/x/site-packages/{}/modeling.py", line 1, in load'
    alone = adapterfit.why(f"{frame.format('transformers')}\n{line}").causes[0]
    above = adapterfit.why(f"{frame.format('peft')}\n{frame.format('transformers')}\n{line}").causes[0]
    assert (alone.id, alone.confidence) == ("vocabulary-grown", "medium")
    assert (above.id, above.confidence) == ("vocabulary-grown", "high")


def test_a_model_that_ollama_does_not_convert_is_no_adapter():
    said = "ollama create mine -f Modelfile\nError: unsupported architecture"
    assert {one.confidence for one in adapterfit.why(f'{said} "OddForCausalLM"').causes} <= {"low"}
    assert adapterfit.why(f"converting adapter\n{said}").causes[0].confidence == "medium"
