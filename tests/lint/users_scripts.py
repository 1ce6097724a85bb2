"""Scripts and notebooks as users write them, each with the rules that fire on it and what lies beside it. A notebook is a list of cells."""

from __future__ import annotations

#: What → (code, rules, files).
SCRIPTS = {
    "hf course, load_state_dict of adapter": (
        r"""
import os
import torch as t
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

MODEL_ID = "meta-llama/Llama-2-7b-hf"
OUT_DIR = "./results"

bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=t.float16)
model = AutoModelForCausalLM.from_pretrained(MODEL_ID, quantization_config=bnb, device_map={"": 0})
adapter_weights = t.load(os.path.join(OUT_DIR, "adapter_model.bin"), map_location="cpu")
model.load_state_dict(adapter_weights, strict=False)
model.eval()
""",
        ["adapter-into-bare-base", "adapter-unpickled"],
        {},
    ),
    "class with self.model and pathlib": (
        r"""
from pathlib import Path
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

class Predictor:
    ADAPTER = "adapter_model.safetensors"

    def __init__(self, base: str, run: Path):
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model = AutoModelForCausalLM.from_pretrained(base)
        self.run = run
        self._load()

    def _load(self):
        state = load_file(self.run / self.ADAPTER)
        self.model.load_state_dict(state, strict=False)
""",
        ["adapter-into-bare-base"],
        {},
    ),
    "alpaca-lora finetune resume": (
        r"""
import os, sys
from typing import List
import fire
import torch
import transformers
from datasets import load_dataset
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_int8_training,
    set_peft_model_state_dict,
)
from transformers import LlamaForCausalLM, LlamaTokenizer

def train(base_model: str = "", output_dir: str = "./lora-alpaca", lora_r: int = 8, resume_from_checkpoint: str = None):
    device_map = "auto"
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    ddp = world_size != 1
    model = LlamaForCausalLM.from_pretrained(base_model, load_in_8bit=True, torch_dtype=torch.float16, device_map=device_map)
    tokenizer = LlamaTokenizer.from_pretrained(base_model)
    tokenizer.pad_token_id = 0
    model = prepare_model_for_int8_training(model)
    config = LoraConfig(r=lora_r, lora_alpha=16, target_modules=["q_proj", "v_proj"], lora_dropout=0.05, bias="none", task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    data = load_dataset("json", data_files="x.json")
    if resume_from_checkpoint:
        checkpoint_name = os.path.join(resume_from_checkpoint, "pytorch_model.bin")
        if not os.path.exists(checkpoint_name):
            checkpoint_name = os.path.join(resume_from_checkpoint, "adapter_model.bin")
            resume_from_checkpoint = False
        if os.path.exists(checkpoint_name):
            print(f"Restarting from {checkpoint_name}")
            adapters_weights = torch.load(checkpoint_name)
            model = set_peft_model_state_dict(model, adapters_weights)
        else:
            print(f"Checkpoint {checkpoint_name} not found")
    model.print_trainable_parameters()
    if not ddp and torch.cuda.device_count() > 1:
        model.is_parallelizable = True
        model.model_parallel = True
    trainer = transformers.Trainer(model=model, train_dataset=data["train"], args=transformers.TrainingArguments(output_dir=output_dir))
    model.config.use_cache = False
    old_state_dict = model.state_dict
    model.state_dict = (
        lambda self, *_, **__: get_peft_model_state_dict(self, old_state_dict())
    ).__get__(model, type(model))
    if torch.__version__ >= "2" and sys.platform != "win32":
        model = torch.compile(model)
    trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    model.save_pretrained(output_dir)

if __name__ == "__main__":
    fire.Fire(train)
""",
        ["state-dict-overridden"],
        {},
    ),
    "alpaca-lora with a class method override via types": (
        r"""
import types
from peft import get_peft_model, LoraConfig, get_peft_model_state_dict as gpsd
from transformers import AutoModelForCausalLM
m = get_peft_model(AutoModelForCausalLM.from_pretrained("x"), LoraConfig(target_modules=["q_proj"]))
orig = m.state_dict
def sd(self, *a, **k):
    return gpsd(self, orig(*a, **k))
m.state_dict = types.MethodType(sd, m)
m.save_pretrained("out")
""",
        ["state-dict-overridden"],
        {},
    ),
    "setattr state_dict": (
        r"""
from peft import get_peft_model, LoraConfig, get_peft_model_state_dict
from transformers import AutoModelForCausalLM
m = get_peft_model(AutoModelForCausalLM.from_pretrained("x"), LoraConfig(target_modules=["q_proj"]))
orig = m.state_dict
setattr(m, "state_dict", lambda *a, **k: get_peft_model_state_dict(m, orig()))
m.save_pretrained("out")
""",
        ["state-dict-overridden"],
        {},
    ),
    "AutoModel with PM alias and task from config in function": (
        r"""
import transformers as tf
from peft import PeftModelForCausalLM as PM

def get(base_id: str, adapter_id: str):
    base = tf.AutoModel.from_pretrained(base_id)
    return PM.from_pretrained(base, adapter_id).eval()
""",
        ["headless-auto-model"],
        {},
    ),
    "AutoModel via dict config kwargs": (
        r"""
from transformers import AutoModel
from peft import get_peft_model, LoraConfig
cfg = dict(r=8, lora_alpha=16, task_type="SEQ_CLS", target_modules=["query", "value"])
backbone = AutoModel.from_pretrained("bert-base-uncased")
model = get_peft_model(backbone, LoraConfig(**cfg))
""",
        ["headless-auto-model"],
        {},
    ),
    "resize after": (
        r"""
import torch as t
from peft import PeftModel as PM
from transformers import AutoModelForCausalLM as M, AutoTokenizer as T

def build(base="base", adapter="adapter"):
    tok = T.from_pretrained(adapter)
    model = M.from_pretrained(base, torch_dtype=t.bfloat16)
    model = PM.from_pretrained(model, adapter)
    if len(tok) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tok))
    return model, tok
""",
        ["resized-after-loading"],
        {},
    ),
    "resize of base model inside": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tok = AutoTokenizer.from_pretrained("adapter")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
model.base_model.resize_token_embeddings(len(tok))
model.get_base_model().resize_token_embeddings(len(tok))
""",
        ["resized-after-loading"],
        {},
    ),
    "AutoPeft then resize": (
        r"""
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
tok = AutoTokenizer.from_pretrained("adapter")
model = AutoPeftModelForCausalLM.from_pretrained("adapter")
model.resize_token_embeddings(len(tok))
""",
        [],
        {},
    ),
    "get_peft_model then from_pretrained, in with block": (
        r"""
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification

def evaluate(ckpt):
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=2)
        lora = LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query"])
        model = get_peft_model(model, lora)
        model = PeftModel.from_pretrained(model, ckpt)
        return model
""",
        ["loaded-into-wrapped"],
        {},
    ),
    "loop over adapters with from_pretrained each on wrapped": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("base")
for name in ["a", "b", "c"]:
    model = PeftModel.from_pretrained(model, f"adapters/{name}")
""",
        ["loaded-into-wrapped"],
        {},
    ),
    "loop over adapters reusing the base": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
for name in ["a", "b", "c"]:
    tuned = PeftModel.from_pretrained(base, f"adapters/{name}")
    print(tuned.generate())
""",
        [],
        {},
    ),
    "merge in place in main": (
        r"""
import argparse
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--base"); p.add_argument("--peft"); p.add_argument("--out")
    return p.parse_args()

def main():
    args = get_args()
    base_model = AutoModelForCausalLM.from_pretrained(args.base, return_dict=True)
    print(f"Loading PEFT: {args.peft}")
    model = PeftModel.from_pretrained(base_model, args.peft)
    print("Running merge_and_unload")
    model.merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model.save_pretrained(f"{args.out}")
    tokenizer.save_pretrained(f"{args.out}")

if __name__ == "__main__":
    main()
""",
        ["merge-result-dropped"],
        {},
    ),
    "merge dropped in notebook": (
        [
            "!pip install -q peft transformers\n%load_ext autoreload\n%autoreload 2",
            "import torch\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n",
            "base = AutoModelForCausalLM.from_pretrained('base')\nmodel = PeftModel.from_pretrained(base, '/content/adapter')",
            "%%time\nmodel.merge_and_unload()",
            "model.push_to_hub('me/merged')",
        ],
        ["merge-result-dropped"],
        {},
    ),
    "torch.save of trainer.model.state_dict": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = get_peft_model(AutoModelForCausalLM.from_pretrained("gpt2"), LoraConfig(task_type="CAUSAL_LM"))
trainer = Trainer(model=model, args=TrainingArguments("out"), train_dataset=[])
trainer.train()
torch.save(trainer.model.state_dict(), "out/model.pt")
""",
        ["peft-state-dict-saved"],
        {},
    ),
    "torch.save with open file": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
net = get_peft_model(AutoModelForCausalLM.from_pretrained("gpt2"), LoraConfig())
with open("model.pt", "wb") as f:
    torch.save(net.state_dict(), f)
""",
        ["peft-state-dict-saved"],
        {},
    ),
    "adapter name lora in loop with constant": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
ADAPTER_NAME = "lora"
base = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(base, "adapter", adapter_name=ADAPTER_NAME)
model.set_adapter(ADAPTER_NAME)
""",
        ["adapter-name-in-prefix"],
        {},
    ),
    "add_adapter lora": (
        r"""
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(), adapter_name="style")
model.add_adapter("lora", LoraConfig(r=4))
""",
        ["adapter-name-in-prefix"],
        {},
    ),
    "torch.load adapter from glob-like join and walrus": (
        r"""
import os
import torch
from peft import set_peft_model_state_dict, get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM

def resume(ckpt_dir):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(r=8))
    if os.path.exists(path := os.path.join(ckpt_dir, "adapter_model.bin")):
        res = set_peft_model_state_dict(model, torch.load(path, map_location="cpu"))
        print(res)
    return model
""",
        ["adapter-unpickled"],
        {},
    ),
    "compiled then torch.save accelerate": (
        r"""
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

def main():
    accelerator = Accelerator()
    model = AutoModelForCausalLM.from_pretrained("b")
    model = get_peft_model(model, LoraConfig(r=8))
    model = torch.compile(model)
    for step in range(10):
        pass
    state = get_peft_model_state_dict(model)
    accelerator.save(state, "adapter_model.bin")
""",
        ["compiled-state-saved"],
        {},
    ),
    "accelerate save on prepared": (
        r"""
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
import torch

def main():
    acc = Accelerator(gradient_accumulation_steps=4)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(r=8, task_type="CAUSAL_LM"))
    opt = torch.optim.AdamW(model.parameters())
    model, opt, loader, sched = acc.prepare(model, opt, [], None)
    for batch in loader:
        with acc.accumulate(model):
            out = model(**batch)
            acc.backward(out.loss)
            opt.step()
    acc.wait_for_everyone()
    if acc.is_main_process:
        model.save_pretrained("out", safe_serialization=True)

main()
""",
        ["prepared-model-saved"],
        {},
    ),
    "deepspeed zero3 via json path join": (
        r"""
import os
import deepspeed
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = "configs"
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(r=8))
engine, opt, _, _ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=os.path.join(HERE, "zero3.json"))
for batch in []:
    engine(batch)
if torch.distributed.get_rank() == 0:
    engine.module.save_pretrained("out")
""",
        ["zero3-not-gathered"],
        {"configs/zero3.json": '{"zero_optimization": {"stage": 3}}'},
    ),
    "trainer zero3 TrainingArguments dict": (
        r"""
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
ds = {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}, "train_micro_batch_size_per_gpu": "auto"}
args = TrainingArguments(output_dir="o", deepspeed=ds)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(r=8))
trainer = Trainer(model, args, train_dataset=[])
trainer.train()
model.save_pretrained("o/final")
""",
        ["zero3-not-gathered"],
        {},
    ),
    "DDP save": (
        r"""
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

def worker(rank, world):
    dist.init_process_group("nccl", rank=rank, world_size=world)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("b").to(rank), LoraConfig(r=8))
    ddp_model = DDP(model, device_ids=[rank])
    if rank == 0:
        ddp_model.save_pretrained("out")
""",
        ["parallel-model-saved"],
        {},
    ),
    "revision unpinned, stamped": (
        r"""
from peft import PeftModel as PM
import transformers
base = transformers.AutoModelForCausalLM.from_pretrained(pretrained_model_name_or_path="org/base")
m = PM.from_pretrained(base, model_id="tuned")
""",
        ["base-revision-unpinned"],
        {
            "tuned/adapter_config.json": '{"peft_type": "LORA"}',
            "tuned/adapterfit.json": '{\n  "schema": "adapterfit/stamp/v1", "libraries": {},\n  "base": {"name": "org/base", "commit": "0123456789abcdef0123456789abcdef01234567", "config": {}, "class": "", "inventory": {}, "content": {}, "touched": 0,\n    "vocabulary": {"rows": null, "tokens": null, "tokenizer": ""}},\n  "adapter": {"config": {}, "content": {}}}',
        },
    ),
    "unsloth-like double wrap": (
        r"""
from peft import LoraConfig, get_peft_model, PeftModel
from transformers import AutoModelForCausalLM
from trl import SFTTrainer, SFTConfig
peft_config = LoraConfig(r=16)
model = AutoModelForCausalLM.from_pretrained("b")
model = get_peft_model(model, peft_config)
trainer = SFTTrainer(model=model, args=SFTConfig(output_dir="o"), train_dataset=[], peft_config=peft_config)
trainer.train()
""",
        ["config-passed-twice"],
        {},
    ),
    "continue training frozen": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
def go(resume_dir):
    base = AutoModelForCausalLM.from_pretrained("b")
    model = PeftModel.from_pretrained(base, resume_dir)
    model.config.use_cache = False
    model.enable_input_require_grads()
    model.print_trainable_parameters()
    trainer = Trainer(model=model, args=TrainingArguments("o"), train_dataset=[])
    trainer.train()
    trainer.save_model()
""",
        ["frozen-adapter-trained"],
        {},
    ),
    "load_adapter result thrown away in loop": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
ADAPTERS = {"de": "me/de", "fr": "me/fr"}
base = AutoModelForCausalLM.from_pretrained("b")
names = list(ADAPTERS)
model = PeftModel.from_pretrained(base, ADAPTERS["de"], adapter_name="de")
for name in names[1:]:
    model.load_adapter(ADAPTERS[name], adapter_name=name)
model.set_adapter("fr")
""",
        ["load-result-unread"],
        {},
    ),
    "load_state_dict strict False thrown away on PeftModel with full ckpt": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig(r=8))
model.load_state_dict(torch.load("runs/best.pt", map_location="cpu", weights_only=True), strict=False)
model.eval()
""",
        ["load-result-unread"],
        {},
    ),
    "safe_open loop into dict": (
        r"""
from safetensors import safe_open
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("base")
tensors = {}
with safe_open("lora/adapter_model.safetensors", framework="pt", device="cpu") as f:
    for k in f.keys():
        tensors[k] = f.get_tensor(k)
model.load_state_dict(tensors, strict=False)
""",
        ["adapter-into-bare-base"],
        {},
    ),
    "async service, walrus": (
        r"""
import asyncio
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM

class Service:
    model = None
    async def start(self, folder: Path):
        loop = asyncio.get_running_loop()
        base = AutoModelForCausalLM.from_pretrained("base")
        if (config := folder / "adapter_config.json").exists():
            self.model = PeftModel.from_pretrained(base, config)
""",
        ["file-instead-of-folder"],
        {},
    ),
    "weights never loaded in class": (
        r"""
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

peft_model_id = "smangrul/twitter_complaints"
config = PeftConfig.from_pretrained(peft_model_id)
model = AutoModelForSeq2SeqLM.from_pretrained(config.base_model_name_or_path)
model = get_peft_model(model, config)
tokenizer = AutoTokenizer.from_pretrained(config.base_model_name_or_path)
model.eval()
inputs = tokenizer("x", return_tensors="pt")
print(model.generate(**inputs))
""",
        ["weights-never-loaded"],
        {},
    ),
    "config in code for saved adapter": (
        r"""
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
def load(p):
    lora_cfg = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], inference_mode=True)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("b"), p, config=lora_cfg)
""",
        ["config-overrides-file"],
        {},
    ),
    "load state dict of adapter into PeftModel via DDP-less path": (
        r"""
import os
from peft import get_peft_model, LoraConfig
import safetensors.torch as st
from transformers import AutoModelForCausalLM
cfg = LoraConfig(r=8)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), cfg)
ckpt = "out/checkpoint-500"
sd = st.load_file(f"{ckpt}/adapter_model.safetensors", device="cpu")
print(model.load_state_dict(sd, strict=False))
""",
        ["adapter-into-peft-model"],
        {},
    ),
    "compile then PeftModel": (
        r"""
import torch as t
from peft import PeftModel
from transformers import AutoModelForCausalLM
def make(compile_it=True):
    base = AutoModelForCausalLM.from_pretrained("b")
    base = t.compile(base, mode="max-autotune")
    return PeftModel.from_pretrained(base, "adapter")
""",
        ["compiled-then-wrapped"],
        {},
    ),
    "save after merge with other name": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
peft_model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("b"), "a")
merged_model = peft_model.merge_and_unload(progressbar=True)
peft_model.save_pretrained("merged")
""",
        ["saved-after-merge"],
        {},
    ),
    "second adapter inactive": (
        r"""
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tok = AutoTokenizer.from_pretrained("b")
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("b"), "sft")
info = model.load_adapter("dpo", "dpo")
print(info)
inputs = tok("x", return_tensors="pt")
with torch.inference_mode():
    out = model.generate(**inputs)
""",
        ["second-adapter-inactive"],
        {},
    ),
    "wrapped twice from function": (
        r"""
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
def make():
    m = AutoModelForCausalLM.from_pretrained("b")
    return get_peft_model(m, LoraConfig(r=8))
model = make()
model = get_peft_model(model, LoraConfig(r=4))
""",
        ["wrapped-twice"],
        {},
    ),
    "PEFT model via model.add_adapter then get_peft_model": (
        r"""
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
cfg = LoraConfig(r=8, target_modules=["q_proj"])
model = AutoModelForCausalLM.from_pretrained("b")
model.add_adapter(cfg)
model = get_peft_model(model, cfg)
""",
        [],
        {},
    ),
    "right: qlora notebook": (
        [
            "%pip install -U peft trl bitsandbytes\n!nvidia-smi",
            "import torch\nfrom datasets import load_dataset\nfrom peft import LoraConfig, prepare_model_for_kbit_training, get_peft_model\nfrom transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainingArguments, Trainer",
            "model = AutoModelForCausalLM.from_pretrained('EleutherAI/gpt-neox-20b', quantization_config=BitsAndBytesConfig(load_in_4bit=True), device_map={'':0})\nmodel.gradient_checkpointing_enable()\nmodel = prepare_model_for_kbit_training(model)",
            "config = LoraConfig(r=8, lora_alpha=32, target_modules=['query_key_value'], task_type='CAUSAL_LM')\nmodel = get_peft_model(model, config)",
            "trainer = Trainer(model=model, train_dataset=[], args=TrainingArguments('outputs'))\nmodel.config.use_cache = False\ntrainer.train()",
            "model_to_save = trainer.model.module if hasattr(trainer.model, 'module') else trainer.model\nmodel_to_save.save_pretrained('outputs')",
            "lora_config = LoraConfig.from_pretrained('outputs')\nmodel = get_peft_model(model, lora_config)",
        ],
        ["wrapped-twice"],
        {},
    ),
    "right: dpo with ref adapter": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer
base = AutoModelForCausalLM.from_pretrained("b")
model = PeftModel.from_pretrained(base, "sft", is_trainable=True, adapter_name="train")
res = model.load_adapter("sft", adapter_name="reference")
trainer = DPOTrainer(model, args=DPOConfig(model_adapter_name="train", ref_adapter_name="reference"), train_dataset=[])
trainer.train()
""",
        [],
        {},
    ),
    "right: diffusers lora training": (
        r"""
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
accelerator = Accelerator()
unet = UNet2DConditionModel.from_pretrained("sd", subfolder="unet")
unet.requires_grad_(False)
unet.add_adapter(LoraConfig(r=4, init_lora_weights="gaussian", target_modules=["to_k"]))
unet = accelerator.prepare(unet)
def unwrap_model(model):
    model = accelerator.unwrap_model(model)
    return model._orig_mod if hasattr(model, "_orig_mod") else model
StableDiffusionPipeline.save_lora_weights("out", unet_lora_layers=get_peft_model_state_dict(unwrap_model(unet)))
""",
        [],
        {},
    ),
    "right: merge and save": (
        r"""
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained("out", device_map="auto")
merged = model.merge_and_unload()
merged.save_pretrained("merged", safe_serialization=True)
""",
        [],
        {},
    ),
    "right: loop over adapters unloading": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("b")
for name in ("a", "b"):
    tuned = PeftModel.from_pretrained(base, name)
    tuned.generate()
    base = tuned.unload()
""",
        [],
        {},
    ),
    "right: base reloaded inside the loop": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
def load_base():
    return AutoModelForCausalLM.from_pretrained("b")
results = {}
for name in ("a", "b"):
    tuned = PeftModel.from_pretrained(load_base(), name)
    results[name] = tuned.generate()
""",
        [],
        {},
    ),
    "right: deepcopy in loop": (
        r"""
import copy
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("b")
for name in ("a", "b"):
    tuned = PeftModel.from_pretrained(copy.deepcopy(base), name)
    tuned.generate()
""",
        [],
        {},
    ),
    "right: loop merges each": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("b")
for name in ["a", "b", "c"]:
    model = PeftModel.from_pretrained(model, name)
    model = model.merge_and_unload()
model.save_pretrained("out")
""",
        [],
        {},
    ),
    "right: resize then load in function called": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
def grow(model, tok):
    model.resize_token_embeddings(len(tok))
    return model
tok = AutoTokenizer.from_pretrained("a")
model = grow(AutoModelForCausalLM.from_pretrained("b"), tok)
model = PeftModel.from_pretrained(model, "a")
""",
        [],
        {},
    ),
    "right: AutoModel embedding lora": (
        r"""
from peft import PeftModel
from transformers import AutoModel
model = PeftModel.from_pretrained(AutoModel.from_pretrained("BAAI/bge"), "me/bge-lora")
model = model.merge_and_unload()
""",
        [],
        {},
    ),
    "right: AutoModel sentence feature": (
        r"""
from peft import get_peft_model, LoraConfig, TaskType
from transformers import AutoModel
import torch.nn as nn
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = get_peft_model(AutoModel.from_pretrained("bert"), LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, target_modules=["query"]))
        self.head = nn.Linear(768, 2)
    def forward(self, x):
        return self.head(self.encoder(x).last_hidden_state[:, 0])
""",
        [],
        {},
    ),
    "right: AutoModel without task own head": (
        r"""
from peft import get_peft_model, LoraConfig
from transformers import AutoModel
model = get_peft_model(AutoModel.from_pretrained("bert"), LoraConfig(target_modules=["query"]))
""",
        [],
        {},
    ),
    "right: is_trainable variable": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer
def run(train: bool, resume):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("b"), resume, is_trainable=train)
    t = Trainer(model=model)
    if train:
        t.train()
""",
        [],
        {},
    ),
    "right: torch.load of non adapter": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
state = torch.load("checkpoint-5/optimizer.pt")
rng = torch.load("checkpoint-5/rng_state.pth")
""",
        [],
        {},
    ),
    "right: state dict saved of base model only": (
        r"""
import torch
from peft import get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("b")
torch.save(base.state_dict(), "base.pt")
model = get_peft_model(base, LoraConfig())
model.save_pretrained("adapter")
""",
        [],
        {},
    ),
    "right: adapters library name lora": (
        r"""
from adapters import AutoAdapterModel, LoRAConfig
model = AutoAdapterModel.from_pretrained("roberta-base")
model.add_adapter("lora", config=LoRAConfig(r=8))
model.train_adapter("lora")
model.save_adapter("out", "lora")
""",
        [],
        {},
    ),
    "right: accelerate unwrap then save": (
        r"""
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
accelerator = Accelerator()
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
model = accelerator.prepare(model)
unwrapped_model = accelerator.unwrap_model(model)
unwrapped_model.save_pretrained("out", is_main_process=accelerator.is_main_process, save_function=accelerator.save, state_dict=accelerator.get_state_dict(model))
""",
        [],
        {},
    ),
    "right: zero3 with gather in accelerate": (
        r"""
import deepspeed
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
engine, *_ = deepspeed.initialize(model=model, config={"zero_optimization": {"stage": 3}})
params = [p for p in model.parameters() if p.requires_grad]
with deepspeed.zero.GatheredParameters(params, modifier_rank=0):
    model.save_pretrained("o")
""",
        [],
        {},
    ),
    "right: load via set_peft with result checked": (
        r"""
from peft import get_peft_model, LoraConfig, set_peft_model_state_dict, load_peft_weights
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
result = set_peft_model_state_dict(model, load_peft_weights("a"))
if result.unexpected_keys:
    raise RuntimeError(result.unexpected_keys)
""",
        [],
        {},
    ),
    "right: merge dropped but base used": (
        r"""
from peft import PeftModel
from transformers import AutoModelForCausalLM, pipeline
base = AutoModelForCausalLM.from_pretrained("b")
m = PeftModel.from_pretrained(base, "a")
m.merge_and_unload()
pipe = pipeline("text-generation", model=base)
""",
        [],
        {},
    ),
    "right: two branches": (
        r"""
import sys
from peft import PeftModel, get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("b")
if len(sys.argv) > 1:
    model = PeftModel.from_pretrained(model, sys.argv[1], is_trainable=True)
else:
    model = get_peft_model(model, LoraConfig())
""",
        [],
        {},
    ),
    "right: early return": (
        r"""
from peft import PeftModel, get_peft_model, LoraConfig
from transformers import AutoModelForCausalLM
def load(cfg):
    model = AutoModelForCausalLM.from_pretrained("b")
    if cfg.adapter:
        return PeftModel.from_pretrained(model, cfg.adapter)
    return get_peft_model(model, LoraConfig())
def main(cfg):
    model = load(cfg)
    if cfg.second:
        model.load_adapter(cfg.second, "second")
        model.set_adapter("second")
""",
        ["load-result-unread"],
        {},
    ),
    "right: local PeftModel class": (
        r"""
import torch
class PeftModel:
    def merge_and_unload(self): ...
    def save_pretrained(self, p): ...
model = PeftModel()
model.merge_and_unload()
model.save_pretrained("x")
torch.save(model.state_dict(), "adapter_model.bin")
""",
        [],
        {},
    ),
    "right: conditional import": (
        r"""
try:
    from peft import PeftModel, get_peft_model
except ImportError:
    PeftModel = None
from transformers import AutoModelForCausalLM
def wrap(model):
    if PeftModel is not None and isinstance(model, PeftModel):
        return model.merge_and_unload()
    return model
""",
        [],
        {},
    ),
    "right: del then reload": (
        r"""
import gc, torch
from peft import get_peft_model, LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
model = get_peft_model(AutoModelForCausalLM.from_pretrained("b"), LoraConfig())
model.save_pretrained("a")
del model
gc.collect(); torch.cuda.empty_cache()
base = AutoModelForCausalLM.from_pretrained("b")
model = PeftModel.from_pretrained(base, "a")
""",
        [],
        {},
    ),
}
