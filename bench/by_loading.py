"""Finding out by loading: import the libraries, load the base, put the adapter on it."""

import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

adapter, base = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
PeftModel.from_pretrained(model, adapter)
