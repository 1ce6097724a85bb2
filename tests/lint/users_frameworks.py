"""Scripts in the ways of the training frameworks, in which nothing is wrong."""

from __future__ import annotations

#: What → (code, rules that fire, files beside it).
SCRIPTS = {
    "a callback thaws the adapter": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback

class Thaw(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kw):
        for n, p in model.named_parameters():
            p.requires_grad = "lora" in n

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
Trainer(model=model, callbacks=[Thaw()]).train()
""",
        [],
        {},
    ),
    "a Trainer's own __init__ thaws it": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

class Thawing(Trainer):
    def __init__(self, model, **kw):
        for p in model.parameters():
            p.requires_grad_(True)
        super().__init__(model=model, **kw)

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
Thawing(model).train()
""",
        [],
        {},
    ),
    "a function of the script thaws it": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

def thaw(m):
    for n, p in m.named_parameters():
        if "lora" in n:
            p.requires_grad = True

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
thaw(model)
Trainer(model=model).train()
""",
        [],
        {},
    ),
    "thawed through the Trainer": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
trainer = Trainer(model=model)
for n, p in trainer.model.named_parameters():
    p.requires_grad = "lora" in n
trainer.train()
""",
        [],
        {},
    ),
    "DPO with a frozen reference": (
        r"""
from peft import AutoPeftModelForCausalLM
from trl import DPOTrainer, DPOConfig

model = AutoPeftModelForCausalLM.from_pretrained("sft", is_trainable=True)
ref = AutoPeftModelForCausalLM.from_pretrained("sft")
trainer = DPOTrainer(model=model, ref_model=ref, args=DPOConfig(output_dir="o"))
trainer.train()
trainer.save_model("o")
""",
        [],
        {},
    ),
    "axolotl's loader": (
        r"""
import logging, os
from peft import PeftModel, PeftConfig, LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer
import torch
LOG = logging.getLogger("axolotl")

def load_lora(model, cfg, inference=False, config_only=False):
    lora_config = LoraConfig(r=cfg.lora_r, lora_alpha=cfg.lora_alpha, target_modules=cfg.lora_target_modules, modules_to_save=cfg.lora_modules_to_save or None, task_type="CAUSAL_LM")
    if config_only:
        return None, lora_config
    rank = int(os.environ.get("LOCAL_RANK", 0))
    if cfg.lora_model_dir:
        LOG.debug("Loading pretrained PEFT - LoRA")
        model_kwargs = {}
        if cfg.lora_on_cpu:
            model_kwargs["max_memory"] = {"cpu": "256GiB"}
            model_kwargs["device_map"] = {"": "cpu"}
        model = PeftModel.from_pretrained(model, cfg.lora_model_dir, is_trainable=(not inference), **model_kwargs)
    else:
        model = get_peft_model(model, lora_config)
    if rank == 0:
        model.print_trainable_parameters()
    return model, lora_config

def do_merge_lora(cfg, model, tokenizer):
    model = model.merge_and_unload(progressbar=True)
    model.to(dtype=cfg.torch_dtype)
    model.generation_config.do_sample = True
    model.save_pretrained(os.path.join(cfg.output_dir, "merged"), safe_serialization=cfg.save_safetensors is True)
    tokenizer.save_pretrained(os.path.join(cfg.output_dir, "merged"))
""",
        [],
        {},
    ),
    "LLaMA-Factory's adapter": (
        r"""
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
import torch
def init_adapter(model, model_args, finetuning_args, is_trainable):
    adapter_to_resume = None
    if model_args.adapter_name_or_path is not None:
        if is_trainable and (finetuning_args.create_new_adapter is False):
            adapter_to_merge = model_args.adapter_name_or_path[:-1]
            adapter_to_resume = model_args.adapter_name_or_path[-1]
        else:
            adapter_to_merge = model_args.adapter_name_or_path
        for adapter in adapter_to_merge:
            model = PeftModel.from_pretrained(model, adapter)
            model = model.merge_and_unload()
        if adapter_to_resume is not None:
            model = PeftModel.from_pretrained(model, adapter_to_resume, is_trainable=is_trainable)
    if is_trainable and adapter_to_resume is None:
        model = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, inference_mode=False, r=8))
    for param in filter(lambda p: p.requires_grad, model.parameters()):
        param.data = param.data.to(torch.float32)
    return model
""",
        [],
        {},
    ),
    "Unsloth from training to GGUF": (
        r"""
from unsloth import FastLanguageModel
from trl import SFTTrainer, SFTConfig
model, tokenizer = FastLanguageModel.from_pretrained(model_name="unsloth/llama-3-8b", max_seq_length=2048, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=16, target_modules=["q_proj", "k_proj"], lora_alpha=16)
trainer = SFTTrainer(model=model, tokenizer=tokenizer, args=SFTConfig(output_dir="o"))
trainer.train()
model.save_pretrained("lora_model")
tokenizer.save_pretrained("lora_model")
model, tokenizer = FastLanguageModel.from_pretrained(model_name="lora_model", max_seq_length=2048)
FastLanguageModel.for_inference(model)
model.save_pretrained_merged("model", tokenizer, save_method="merged_16bit")
model.push_to_hub_gguf("hf/model", tokenizer, quantization_method="q4_k_m")
""",
        [],
        {},
    ),
    "TRL with peft_config, merged at the end": (
        r"""
from datasets import load_dataset
from peft import LoraConfig, AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTTrainer, SFTConfig
import torch
bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
model = AutoModelForCausalLM.from_pretrained("m", quantization_config=bnb, device_map="auto")
tok = AutoTokenizer.from_pretrained("m")
peft_config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
trainer = SFTTrainer(model=model, args=SFTConfig(output_dir="o"), train_dataset=load_dataset("x")["train"], peft_config=peft_config)
trainer.train()
trainer.save_model()
del model, trainer
torch.cuda.empty_cache()
model = AutoPeftModelForCausalLM.from_pretrained("o", torch_dtype=torch.float16)
merged = model.merge_and_unload()
merged.save_pretrained("o", safe_serialization=True)
""",
        [],
        {},
    ),
    "weights set by hand, the result read": (
        r"""
import os, torch
from peft import get_peft_model, LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(r=8, task_type="CAUSAL_LM"))
ck = "out/checkpoint-100"
name = os.path.join(ck, "adapter_model.safetensors")
if os.path.exists(name):
    weights = load_file(name)
    result = set_peft_model_state_dict(model, weights)
    if result.unexpected_keys:
        raise RuntimeError(result)
""",
        [],
        {},
    ),
    "Accelerate's way of saving": (
        r"""
from accelerate import Accelerator
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
acc = Accelerator()
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
model, opt = acc.prepare(model, None)
acc.wait_for_everyone()
unwrapped = acc.unwrap_model(model)
unwrapped.save_pretrained("o", is_main_process=acc.is_main_process, save_function=acc.save, state_dict=acc.get_state_dict(model))
""",
        [],
        {},
    ),
    "compiled for the forward, saved as it was": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
compiled = torch.compile(model)
compiled(torch.ones(1, 2, dtype=torch.long))
model.save_pretrained("o")
""",
        [],
        {},
    ),
    "DDP unwrapped by hand": (
        r"""
import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
ddp = DDP(model)
ddp.module.save_pretrained("o")
torch.save({"model": ddp.module.state_dict(), "step": 3}, "training_state.pt")
""",
        [],
        {},
    ),
    "diffusers' training of a LoRA": (
        r"""
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
unet = UNet2DConditionModel.from_pretrained("sd", subfolder="unet")
unet.requires_grad_(False)
unet.add_adapter(LoraConfig(r=4, target_modules=["to_k", "to_q"]))
lora_layers = filter(lambda p: p.requires_grad, unet.parameters())
state = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
StableDiffusionPipeline.save_lora_weights(save_directory="o", unet_lora_layers=state, safe_serialization=True)
pipe = StableDiffusionPipeline.from_pretrained("sd")
pipe.load_lora_weights("o", weight_name="pytorch_lora_weights.safetensors")
pipe.fuse_lora()
""",
        [],
        {},
    ),
    "a classifier with its head": (
        r"""
from peft import LoraConfig, get_peft_model, TaskType, PeftModel
from transformers import AutoModelForSequenceClassification, Trainer
model = AutoModelForSequenceClassification.from_pretrained("b", num_labels=3)
model = get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, modules_to_save=["classifier"]))
Trainer(model=model).train()
model.save_pretrained("o")
base = AutoModelForSequenceClassification.from_pretrained("b", num_labels=3)
model = PeftModel.from_pretrained(base, "o")
""",
        [],
        {},
    ),
    "an embedding model without a head": (
        r"""
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer
base = AutoModel.from_pretrained("intfloat/e5-mistral-7b-instruct")
model = PeftModel.from_pretrained(base, "my-embedding-lora")
model = model.merge_and_unload()
model.eval()
""",
        [],
        {},
    ),
    "resized where it must be": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tok = AutoTokenizer.from_pretrained("adapter")
base = AutoModelForCausalLM.from_pretrained("b")
if len(tok) > base.get_input_embeddings().weight.shape[0]:
    base.resize_token_embeddings(len(tok))
model = PeftModel.from_pretrained(base, "adapter")
""",
        [],
        {},
    ),
    "a network that has no adapter": (
        r"""
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__(); self.a = torch.nn.Linear(2, 2)
net = Net()
missing, unexpected = net.load_state_dict(torch.load("weights.pt", weights_only=True), strict=False)
assert not unexpected
torch.save(net.state_dict(), "weights.pt")
""",
        [],
        {},
    ),
    "ZeRO-3 gathered": (
        r"""
import deepspeed
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
engine, *_ = deepspeed.initialize(model=model, config={"zero_optimization": {"stage": 3}})
params = [p for n, p in model.named_parameters() if "lora_" in n]
with deepspeed.zero.GatheredParameters(params, modifier_rank=0):
    if engine.global_rank == 0:
        model.save_pretrained("o")
""",
        [],
        {},
    ),
    "GRPO": (
        r"""
from trl import GRPOTrainer, GRPOConfig
from peft import LoraConfig
def reward(completions, **kw): return [len(c) for c in completions]
trainer = GRPOTrainer(model="Qwen/Qwen2", reward_funcs=reward, args=GRPOConfig(output_dir="o", use_vllm=True), peft_config=LoraConfig(r=4))
trainer.train()
trainer.model.save_pretrained("final")
""",
        [],
        {},
    ),
    "PPO with a value head": (
        r"""
from trl import AutoModelForCausalLMWithValueHead, PPOTrainer
from peft import LoraConfig
model = AutoModelForCausalLMWithValueHead.from_pretrained("b", peft_config=LoraConfig(r=4), load_in_8bit=True)
trainer = PPOTrainer(model=model)
model.save_pretrained("o")
""",
        [],
        {},
    ),
    "adapters merged one after the other": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("b")
for path in ["a", "b", "c"]:
    model = PeftModel.from_pretrained(model, path)
    model = model.merge_and_unload()
model.save_pretrained("merged")
""",
        [],
        {},
    ),
    "weights of whatever path": (
        r"""
import argparse, torch
from transformers import AutoModelForCausalLM
parser = argparse.ArgumentParser(); parser.add_argument("--weights"); args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("b")
state = torch.load(args.weights, map_location="cpu", weights_only=True)
print(model.load_state_dict(state, strict=False))
""",
        [],
        {},
    ),
    "Swift's own tuners": (
        r"""
import os
from swift.llm import get_model_tokenizer
from swift.tuners import Swift, LoRAConfig
model, tok = get_model_tokenizer("qwen")
model = Swift.prepare_model(model, LoRAConfig(r=8))
model.save_pretrained("o")
model = Swift.from_pretrained(model, "o", inference_mode=True)
""",
        [],
        {},
    ),
    "an evaluation harness": (
        r"""
import lm_eval
from lm_eval.models.huggingface import HFLM
lm = HFLM(pretrained="base", peft="adapter")
lm_eval.simple_evaluate(lm, tasks=["arc_easy"])
""",
        [],
        {},
    ),
    "vLLM": (
        r"""
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
llm = LLM(model="b", enable_lora=True, max_lora_rank=64)
out = llm.generate(["x"], SamplingParams(), lora_request=LoRARequest("a", 1, "adapter"))
""",
        [],
        {},
    ),
    "resumed from the last checkpoint": (
        r"""
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(task_type="CAUSAL_LM"))
model.enable_input_require_grads()
t = Trainer(model=model, args=TrainingArguments("o", gradient_checkpointing=True))
t.train(resume_from_checkpoint=get_last_checkpoint("o"))
t.save_model("o/final")
""",
        [],
        {},
    ),
    "the adapter's tensors picked out by hand": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
lora = {k: v.cpu() for k, v in model.state_dict().items() if "lora_" in k}
torch.save(lora, "lora_only.pt")
""",
        [],
        {},
    ),
    "predictions only": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("b"), "a").eval()
trainer = Trainer(model=model)
print(trainer.predict([]))
""",
        [],
        {},
    ),
    "FSDP with a whole state dict": (
        r"""
from accelerate import Accelerator
from peft import get_peft_model, LoraConfig
from transformers import Trainer, AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
trainer = Trainer(model=model)
trainer.train()
if trainer.is_fsdp_enabled:
    trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
trainer.save_model("o")
""",
        [],
        {},
    ),
}
