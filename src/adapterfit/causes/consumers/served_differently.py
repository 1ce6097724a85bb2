"""The engine applies the adapter with another scale, or computes something else with it.

What this means: the engine loads the adapter without an error and uses every tensor, but not as PEFT does: it multiplies
the matrices by another number, or leaves out what made the method. The answers are neither the base's nor the trained
model's.

Why it happens: the engine reads lora_alpha and r, and nothing else. With rsLoRA the scale is alpha / √r and it applies
alpha / r, which is 1 / √r of what was trained; with alpha_pattern modules of their own alpha get the common one; an engine that
reads no config at all applies 1. An initialisation that took something out of the base needs that base back.

Detection: the engine's scale beside PEFT's, module by module, from the config and the ranks of the tensors.

Fix: one scale for all modules can be said in the config: set lora_alpha to scale × r, and use_rslora to false. Several are
multiplied into the lora_B matrices, with lora_alpha = r afterwards.

Workaround: merge the adapter into its base with PEFT and serve the merged model.

Prevention: check the adapter for the engine that will serve it: `adapterfit check ADAPTER --for ENGINE`.
"""

from __future__ import annotations

from adapterfit.causes.cause import Cause

CAUSE = Cause(level="intermediate", minutes=10, codes=("served-differently",), versions="every engine with such facts")
