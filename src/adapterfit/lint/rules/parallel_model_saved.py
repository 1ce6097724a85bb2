"""A model is saved while it is inside DistributedDataParallel, DataParallel or FSDP.

What this means: these wrappers keep the model as `module`. They have no `save_pretrained` and no `peft_config`, so calls that need them
raise; and their `state_dict()` has names that begin with `module.`, for which PEFT finds no place. FSDP hands `save_pretrained` on, but to
parameters that are flattened and split: what is written is a shard. Its own `state_dict()` gathers them, so that
`get_peft_model_state_dict` of it is the whole adapter.

Why it happens: on one device there was no wrapper, and the line worked.

Detection: `save_pretrained`, `get_peft_model_state_dict`, or `torch.save` of the state dict, of a PeftModel that went through one of them;
of one in FSDP `save_pretrained` only.

Fix: go through `.module`. Safe where the line as it stands can only raise. For FSDP: gather the full state dict first.

Workaround: `adapterfit check` offers to rename the keys of a file that was saved so.

Prevention: keep the PeftModel under a name of its own, and save that; or `accelerator.unwrap_model(model)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import SAFE, UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Model, Value, Weights

RULE = Rule(cause="wrapper-prefix")
_NAMES = {"ddp": "DistributedDataParallel", "dp": "DataParallel", "fsdp": "FullyShardedDataParallel"}


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that save, or that pick the adapter out for it."""
    for call in code.trace.calls("model.save_pretrained", "peft.get_peft_model_state_dict"):
        given = call.argument(0, "model")
        node = given.node.value if given is not None else None
        value = given.value if given is not None else call.receiver
        if call.name == "model.save_pretrained":
            node, value = getattr(call.node.func, "value", None), call.receiver
        gathers = call.name != "model.save_pretrained" and isinstance(value, Model) and value.outer == "fsdp"
        if _is_parallel(value) and not gathers and "state_dict" not in call.keywords:
            yield _hit(code, call, value, node, SAFE)
    for call in code.trace.calls(*facts.WRITERS):
        weights = facts.written(call)
        if (
            isinstance(weights, Weights)
            and not weights.renamed
            and not weights.only_adapter
            and _is_parallel(weights.of)
            and not (weights.of is not None and weights.of.outer == "fsdp")
        ):
            func = weights.origin.func if weights.origin is not None else None
            yield _hit(code, call, weights.of, getattr(func, "value", None), UNSAFE)


def _is_parallel(value: Value | None) -> bool:
    return isinstance(value, Model) and value.outer in _NAMES and value.wrapped is True


def _hit(code: Code, call: Call, model: Value | None, node: cst.BaseExpression | None, safety: str) -> Hit:
    outer = model.outer if isinstance(model, Model) else ""
    harm = (
        "a shard is written" if outer == "fsdp" else "this raises" if safety == SAFE else 'names begin with "module."'
    )
    message = f"the model is inside {_NAMES.get(outer, outer)}: {harm}; save the PeftModel itself"
    if outer == "fsdp" or not isinstance(node, (cst.Name, cst.Attribute)):
        return Hit(call, message)
    return Hit(
        call, message, Fix("save the model inside", (mend.inserted(mend.span(code, node)[1], ".module"),), safety)
    )


_ONE_PROCESS = """
import os
from peft import AutoPeftModelForCausalLM

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", TORCHELASTIC_USE_AGENT_STORE="False")
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
save(AutoPeftModelForCausalLM.from_pretrained("adapter", is_trainable=True), "adapter.pt")
torch.distributed.destroy_process_group()
"""
FIRES = (
    Snippet(
        """
from peft import LoraConfig, get_peft_model
from torch.nn import DataParallel
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
parallel = DataParallel(model)
parallel.save_pretrained("out")  # at the end
""",
        """
from peft import LoraConfig, get_peft_model
from torch.nn import DataParallel
from transformers import AutoModelForCausalLM

model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=4, target_modules=["q_proj"]))
parallel = DataParallel(model)
parallel.module.save_pretrained("out")  # at the end
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from peft import PeftModel, get_peft_model_state_dict

def save(model: PeftModel, path):
    model = DDP(model)
    torch.save(get_peft_model_state_dict(model), path)
""",
        """
import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from peft import PeftModel, get_peft_model_state_dict

def save(model: PeftModel, path):
    model = DDP(model)
    torch.save(get_peft_model_state_dict(model.module), path)
""",
        SAFE,
        runs=True,
        then=_ONE_PROCESS,
    ),
    Snippet(
        """
import torch
from peft import AutoPeftModelForCausalLM

net = torch.nn.DataParallel(AutoPeftModelForCausalLM.from_pretrained("adapter"))
torch.save(net.state_dict(), "net.pt")
""",
        """
import torch
from peft import AutoPeftModelForCausalLM

net = torch.nn.DataParallel(AutoPeftModelForCausalLM.from_pretrained("adapter"))
torch.save(net.module.state_dict(), "net.pt")
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from peft import PeftModel

def save(model: PeftModel, folder):
    FSDP(model).save_pretrained(folder)
"""
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import PeftModel

def save(model: PeftModel, folder):
    parallel = torch.nn.DataParallel(model)
    parallel.module.save_pretrained(folder)
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel

def save(model: PeftModel, folder):
    parallel = torch.nn.DataParallel(model)
    model.save_pretrained(folder)  # the model itself
"""
    ),
    Snippet(
        """
import torch
from peft import PeftModel

def save(model: PeftModel, folder):
    parallel = torch.nn.DataParallel(model)
    plain = parallel.module if hasattr(parallel, "module") else parallel
    plain.save_pretrained(folder)
"""
    ),
    Snippet(
        """
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from peft import PeftModel

def save(model: PeftModel, folder, gathered):
    FSDP(model).save_pretrained(folder, state_dict=gathered)
"""
    ),
    Snippet(
        """
import torch
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from peft import PeftModel, get_peft_model_state_dict

def save(model: PeftModel, path):
    sharded = FSDP(model, use_orig_params=True)
    torch.save(get_peft_model_state_dict(sharded), path)  # FSDP gathers the tensors, on every rank
"""
    ),
    Snippet(
        """
from my_cluster import DataParallel
from peft import AutoPeftModelForCausalLM

model = DataParallel(AutoPeftModelForCausalLM.from_pretrained("adapter"))
model.save_pretrained("out")
"""
    ),
)
