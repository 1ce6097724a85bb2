"""What decides in a pasted text: shapes, names, who raised and what was passed, not the wording; each beside a look-alike."""

from __future__ import annotations

import pytest

import adapterfit


def misfit(key, file, model):
    return f"size mismatch for {key}: copying a param with shape torch.Size({list(file)}) from checkpoint, the shape in current model is torch.Size({list(model)})."


def frame(path, function):
    return f'  File "/x/site-packages/{path}", line 77, in {function}\n    call()\n'


KEPT = "Error(s) in loading state_dict for UNet2DConditionModel:\n"
HUB = "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/data/run7/best'."

DECIDED = {
    "an image model's LoRA of another rank is a matter of rank": (
        KEPT + misfit("down_blocks.1.attentions.0.proj_out.lora_A.default.weight", (64, 640), (128, 640)),
        "rank-mismatch",
    ),
    "an image model's LoRA of another width is one for another family": (
        KEPT + misfit("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.default.weight", (16, 768), (16, 2048)),
        "diffusion-wrong-base",
    ),
    "a 1x1 convolution beside a matrix is an image model's whatever its name": (
        "Error(s) in loading state_dict for LoRALinearLayer:\n" + misfit("down.weight", (32, 640, 1, 1), (32, 640)),
        "diffusion-key-format",
    ),
    "blocks of Stable Diffusion that ComfyUI does not find are those of another model": (
        ("lora key not loaded: lora_unet_input_blocks_7_1_transformer_blocks_2_ff_net_2.alpha\n"
        "lora key not loaded: lora_unet_input_blocks_7_1_transformer_blocks_2_ff_net_2.lora_up.weight"),
        "diffusion-wrong-base",
    ),
    "names of a transformer that ComfyUI does not find are of another dialect": (
        "lora key not loaded: transformer.transformer_blocks.2.attn.to_q.lora_A.weight", "diffusion-key-format",
    ),
    "a tensor that ComfyUI cannot patch is one of another model, whatever its name": (
        frame("comfy/model_patcher.py", "patch_weight_to_device") + "RuntimeError: shape '[5120, 1280]' is invalid for input of size 3145728",
        "diffusion-wrong-base",
    ),
    "a model's loader stops at the first name of an adapter's file": (
        "KeyError: 'base_model.model.model.layers.0.mlp.down_proj.lora_B.weight'", "adapter-loaded-as-model",
    ),
    "a server stops at a part of a fused layer": (
        "KeyError: 'base_model.model.model.layers.0.mlp.up_proj.lora_B.weight'", "targets-refused-by-engine",
    ),
    "a web UI that finds attention but no convolutions was given a LoCon": (
        ("Failed to match keys when loading network /x/models/Lora/inkwash.safetensors: {'lora_unet_up_blocks_1_resnets_2_conv2.lora_up.weight': 1,"
        " 'lora_unet_up_blocks_1_resnets_2_conv2.alpha': 1, 'lora_unet_up_blocks_0_upsamplers_0_conv.alpha': 1}"),
        "lycoris-not-lora",
    ),
    "a loader of LoRAs, and a text that speaks of LoHa": (
        "Why does my LoHa not load?\n" + frame("diffusers/loaders/lora_pipeline.py", "load_lora_weights"), "lycoris-not-lora",
    ),
    "a kernel of SGLang that meets another width": (
        frame("sglang/srt/lora/layers.py", "apply_lora")
        + "RuntimeError: The expanded size of the tensor (9216) must match the existing size (3072) at non-singleton dimension 1.",
        "engine-assumes-shape",
    ),
    "a library that calls another without an argument": (
        frame("lmdeploy/pytorch/engine/model_agent.py", "build") + "TypeError: add_adapter_weights() missing 1 required positional argument: 'slot'",
        "libraries-out-of-step",
    ),
    "a limit that diffusers no longer has": ("ValueError: LoRA rank 768 must be less or equal than 640", "libraries-out-of-step"),
    "words of ours inside Chinese": ("微调之后目录里缺少adapter_config.json文件，怎么办", "adapter-config-missing"),
    "a repository without config.json is that of an adapter": (
        "EntryNotFoundError: 404 Client Error. (Request ID: x) Entry Not Found for url: https://huggingface.co/acme/tiny-lora/resolve/main/config.json.",
        "adapter-loaded-as-model",
    ),
    "a repository without adapter_config.json": (
        "EntryNotFoundError: 404 Client Error. Entry Not Found for url: https://huggingface.co/acme/tiny-lora/resolve/main/adapter_config.json.",
        "adapter-config-missing",
    ),
    "a repository that is not handed out": (
        "httpx.HTTPStatusError: Client error '403 Forbidden' for url 'https://huggingface.co/acme/tiny-lora/resolve/main/adapter_config.json'",
        "hub-access-denied",
    ),
    "a name without an owner is a folder's": (
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://huggingface.co/run12_final/resolve/main/adapter_config.json",
        "adapter-path-missing",
    ),
    "a program of its own that finds nothing": ("Warning: adapter weights at runs/7/best not found, using the base model", "adapter-path-missing"),
    "devices that differ around an adapter": (
        frame("peft/tuners/lora/layer.py", "forward")
        + "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:1 and cpu!",
        "base-offloaded",
    ),
    "a model of transformers older than its adapter methods": (
        "AttributeError: 'GPTNeoXForCausalLM' object has no attribute 'load_adapter'", "libraries-out-of-step",
    ),
    "a tuner without an attribute of another version": (
        "AttributeError: 'VeraLoraModel' object has no attribute 'peft_layers'", "libraries-out-of-step",
    ),
    "a loader that does not know safetensors": (
        frame("diffusers/loaders.py", "load_attn_procs").replace("call()", "sd = torch.load(path)") + "unet.load_attn_procs('ink.safetensors')",
        "safetensors-unknown-to-loader",
    ),
    "a pickle with more than tensors": (
        frame("peft/utils/save_and_load.py", "load_peft_weights")
        + "_pickle.UnpicklingError: Weights only load failed. WeightsUnpickler error: Unsupported global: GLOBAL my.Args was not an allowed global by default.",
        "pickle-not-plain",
    ),
    "a pickle's name on another format": (
        "_pickle.UnpicklingError: Weights only load failed. (adapter) WeightsUnpickler error: Unsupported operand 123", "damaged-weights-file",
    ),
    "PEFT's warning on a merge in 8 bits": (
        "UserWarning: Merge ia3 module to 8-bit linear may get different generations due to rounding errors.", "merge-into-quantised-base",
    ),
    "a strict load under DeepSpeed": (
        frame("deepspeed/runtime/engine.py", "load_module_state_dict")
        + 'RuntimeError: Error(s) in loading state_dict for PeftModelForSeq2SeqLM:\n\tMissing key(s) in state_dict: "base_model.mod',
        "adapter-resumed-as-model",
    ),
    "LyCORIS by name, and no key": (
        "My LoKr of last night: lora key not loaded, lora key not loaded, and so on for all of them", "lycoris-not-lora",
    ),
    "a row of GGUF's blocks is not another base": (
        "ERROR lora diffusion_model.blocks.9.ffn.2.weight The size of tensor a (14688) must match the size of tensor b (13824) at non-singleton dimension 1",
        "quantised-base-packed",
    ),
    "a view of GGUF's blocks": (
        "ERROR lora diffusion_model.double_blocks.3.img_mlp.0.weight shape '[12288, 2112]' is invalid for input of size 37748736", "quantised-base-packed",
    ),
    "nine sixteenths that are a width": (
        "LoRA: RuntimeError: The size of tensor a (2304) must match the size of tensor b (4096) at non-singleton dimension 1", "wrong-base",
    ),
    "a safetensors file that ends within a tensor": (
        "webui lora\n" + frame("safetensors/torch.py", "load_file") + "RuntimeError: shape '[128, 640]' is invalid for input of size 70001",
        "damaged-weights-file",
    ),
    "p-tuning of ChatGLM inside the whole model": (
        misfit("transformer.prefix_encoder.embedding.weight", (64, 14336), (64, 4096)) + misfit("transformer.prefix_encoder.trans.2.bias", (14336,), (229376,)),
        "prompt-shape-differs",
    ),
    "a projector that is new": (
        ("Some weights of LlavaQwenForCausalLM were not initialized from the model checkpoint at /x/base and are newly initialized: "
        "['model.mm_projector.0.bias', 'model.mm_projector.0.weight']"),
        "extra-weights-not-in-adapter",
    ),
    "transformers' words on a vision tower are not diffusers'": (
        ("Loading adapter weights from /x/out led to unexpected keys not found in the model: "
        "['model.vision_tower.encoder.layers.3.self_attn.q_proj.lora_A.default.weight', 'model.vision_tower.encoder.layers.3.self_attn.q_proj.lora_B.default.weight']"),
        "model-class-differs",
    ),
    "a class of LoRAX without a part": (
        "Request failed during generation: Server error: 'GPTNeoXSharded' object has no attribute 'layers'", "targets-refused-by-engine",
    ),
    "a program whose LoRA was moved": (
        "RuntimeError: Files for model 'ink' not found at D:\\art\\loras\\flux\\ink wash.safetensors", "adapter-path-missing",
    ),
    "a script that wraps a wrapped model": (
        "Same answers as before.\nmodel = get_peft_model(model, config)\nmodel = PeftModel.from_pretrained(model, out)", "wrapped-twice",
    ),
    "twice the rank on a fused layer, and no B in sight": (
        misfit("base_model.model.transformer.h.3.attn.c_attn.lora_A.default.weight", (64, 768), (32, 768)), "merged-linear-era",
    ),
    "five halves of the rank on a fused layer": (
        misfit("base_model.model.transformer.h.3.attn.c_attn.lora_A.default.weight", (20, 768), (8, 768)), "rank-mismatch",
    ),
    "a base's config in another encoding": (
        frame("transformers/configuration_utils.py", "_dict_from_json_file") + "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe9 in position 7",
        "base-config-unreadable",
    ),
    "an adapter's config in another encoding": (
        frame("peft/config.py", "from_json_file") + "UnicodeDecodeError: 'cp932' codec can't decode byte 0x87 in position 40: illegal multibyte sequence",
        "config-not-json",
    ),
    "names of a transformer in a list": (
        "My LoRA has these keys: single_transformer_blocks.3.attn.to_k.lora_A.weight single_transformer_blocks.3.attn.to_k.lora_B.weight",
        "diffusion-key-format",
    ),
    "a prefix of other heads": (
        frame("peft/tuners/prefix_tuning/model.py", "forward")
        + "RuntimeError: Sizes of tensors must match except in dimension 2. Expected size 4 but got size 16 for tensor number 1 in the list.",
        "prompt-shape-differs",
    ),
    "tokens that were added beyond the server's room": (
        "ValueError: LoRA added vocab size 640 is greater than lora_extra_vocab_size 512.", "vocabulary-over-engine-limit",
    ),
    "IA3 of LyCORIS is no LoRA": (
        "lora key not loaded: lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v.on_input", "lycoris-not-lora",
    ),
    "two published vocabularies of two families are two bases": (
        misfit("base_model.model.model.embed_tokens.modules_to_save.default.weight", (151936, 2048), (128256, 2048)),
        "wrong-base",
    ),
    "a vocabulary that grew by half is still one that grew": (
        misfit("base_model.model.model.embed_tokens.modules_to_save.default.weight", (48008, 4096), (32000, 4096)),
        "vocabulary-grown",
    ),
    "vLLM's sentence on an embedding's LoRA is read as rows": (
        "RuntimeError: The embedding LoRA size(49155) must be consistent with the base model's vocabulary size(49152).",
        "vocabulary-grown",
    ),
    "rows that differ the other way have the other cause": (
        "RuntimeError: The embedding LoRA size(151646) must be consistent with the base model's vocabulary size(151936).",
        "vocabulary-shrunk",
    ),
    "a path that is refused while weights are looked for is a folder without weights": (
        frame("peft/utils/save_and_load.py", "load_peft_weights") + HUB, "weights-file-missing",
    ),
    "a path that is refused while the config is looked for is a folder that is not there": (
        frame("peft/config.py", "_get_peft_type") + HUB, "adapter-path-missing",
    ),
    "the exception's name alone is enough": (
        frame("peft/config.py", "_get_peft_type") + "huggingface_hub.utils._validators.HFValidationError", "adapter-path-missing",
    ),
    "a server that finds no file": (
        "ValueError: Loading lora fr-sql failed: No adapter found for /data/loras/fr-sql", "adapter-path-missing",
    ),
    "a server that cannot run an architecture with a LoRA": (
        "ValueError: Model OlmoeForCausalLM does not support LoRA, but LoRA is enabled.", "targets-refused-by-engine",
    ),
    "Ollama looks for the config beside the file": (
        "converting adapter\nError: open adapter_config.json: no such file or directory", "ollama-adapter-refused",
    ),
    "PEFT looks for the config in the folder": (
        "ValueError: Can't find 'adapter_config.json' at 'out/step_40'", "adapter-config-missing",
    ),
    "a method on the bare base": (
        frame("torch/nn/modules/module.py", "__getattr__") + "AttributeError: 'Phi3ForCausalLM' object has no attribute 'merge_and_unload'",
        "peft-method-on-bare-model",
    ),
    "a method that PEFT hands down because it has none": (
        frame("peft/peft_model.py", "__getattr__") + "AttributeError: 'Phi3ForCausalLM' object has no attribute 'merge_and_unload'",
        "libraries-out-of-step",
    ),
    "a submodule that is not there": (
        "ModuleNotFoundError: No module named 'transformers.cache_helpers'", "libraries-out-of-step",
    ),
    "a library that asks for another": (
        "ImportError: This tuner requires transformers >= 5.2, but 4.57.1 is installed.", "libraries-out-of-step",
    ),
    "the loader's own keyword is no field of the file": (
        "TypeError: PeftConfig.__init__() got an unexpected keyword argument 'device_map'", "config-key-unknown",
    ),
    "a size of 0 that is only spoken of, beside ZeRO-3": (
        "With zero stage 3 every lora_B in the saved file prints as torch.Size([0]).", "zero3-empty-weights",
    ),
    "llama.cpp wants its own format": (
        "lora_init: bad file magic\nerror: failed to apply lora adapter", "foreign-format",
    ),
    "llama.cpp finds another base": (
        "LoRA tensor 'blk.0.attn_q.weight' does not exist in base model (hint: maybe wrong base model?)", "wrong-base",
    ),
    "a name that nobody loaded": (
        "ValueError: Following adapter(s) could not be found: {'noir'}. Make sure you are passing the correct adapter name(s).",
        "adapter-name-unknown",
    ),
    "a pipeline into which nothing was loaded": (
        "ValueError: Adapter name(s) {'noir'} not in the list of present adapters: set().", "diffusion-key-format",
    ),
    "a name that is taken": (
        "ValueError: Adapter with name noir already exists. Please use a different name.", "wrapped-twice",
    ),
    "a method that this PEFT does not know": ("ValueError: 'CARTRIDGE' is not a valid PeftType", "unknown-peft-type"),
    "a converter that ends with names left": (
        "ValueError: `state_dict` should be empty at this point but has state_dict.keys()=dict_keys(['blocks.0.x'])", "diffusion-key-format",
    ),
    "a merge that ends in a quantiser": (
        frame("peft/tuners/tuners_utils.py", "_unload_and_optionally_merge") + frame("peft/tuners/lora/bnb.py", "merge") + "RuntimeError: 4 bit",
        "merge-into-quantised-base",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "cause"), DECIDED.values(), ids=DECIDED)
def test_it_is_answered_first(text, cause):
    assert adapterfit.why(text).causes[0].id == cause


NOT_OURS = {
    "a base in its maker's own format": "OSError: acme/Orca-9b does not appear to have a file named pytorch_model.bin, model.safetensors or tf_model.h5.",
    "the base's own weights, in MLX": (
        frame("mlx_lm/utils.py", "load_model")
        + "ValueError: Missing 2 parameters: \nvision.proj.bias,\nvision.proj.weight."
    ),
    "a keyword of another call": "TypeError: fit() got an unexpected keyword argument 'epochs'",
    "an attribute of the user's own class": "AttributeError: 'Config' object has no attribute 'learning_rate'",
    "gradients of integers": "RuntimeError: only Tensors of floating point dtype can require gradients since transformers 4.51",
    "devices that differ, and no word of an adapter": (
        "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:1 and cpu!"
    ),
    "a trainer's random states": (
        frame("transformers/trainer.py", "_load_rng_state")
        + "_pickle.UnpicklingError: Weights only load failed. Unsupported global: numpy"
    ),
    "some JSON": "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "the user's own call": "TypeError: collate() missing 1 required positional argument: 'batch'",
    "an assignment of the user's": "RuntimeError: The expanded size of the tensor (16) must match the existing size (8) at non-singleton dimension 0.",
    "types that differ, and no adapter": "RuntimeError: expected scalar type Half but found Float",
}


@pytest.mark.parametrize("text", NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_no_matter_of_adapters_is_a_guess_at_most(text):
    causes = adapterfit.why(text).causes
    assert not causes or causes[0].confidence == "low"


def test_names_and_numbers_of_the_text_are_in_the_fix():
    assert (
        "49155"
        in adapterfit.why(DECIDED["vLLM's sentence on an embedding's LoRA is read as rows"][0]).causes[0].fix.summary
    )
    assert "noir" in adapterfit.why(DECIDED["a name that is taken"][0]).causes[0].fix.summary
    assert (
        "device_map"
        in adapterfit.why(DECIDED["the loader's own keyword is no field of the file"][0]).causes[0].fix.summary
    )
    assert "Phi3ForCausalLM" in adapterfit.why(DECIDED["a method on the bare base"][0]).causes[0].message
