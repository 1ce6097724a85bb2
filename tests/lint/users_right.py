"""Scripts as users write them in which nothing is wrong."""

from __future__ import annotations

#: What → (code, rules that fire, files beside it). A notebook is a list of cells.
SCRIPTS = {
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
