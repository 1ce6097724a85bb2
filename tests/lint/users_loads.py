"""Scripts as users write them that go wrong: most of them where an adapter is loaded."""

from __future__ import annotations

#: What → (code, rules that fire, files beside it). A notebook is a list of cells.
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
}
