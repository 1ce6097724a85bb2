"""Scripts as users write them that go wrong: most of them where an adapter is wrapped, merged or saved."""

from __future__ import annotations

#: What → (code, rules that fire, files beside it). A notebook is a list of cells.
SCRIPTS = {
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
}
