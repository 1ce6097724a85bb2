"""An adapter's `.bin` is unpickled without `weights_only=True`.

What this means: a `.bin` is a pickle, and unpickling runs what it says. With PyTorch before 2.6 `torch.load` allows that by default,
later ones where `weights_only=False` is given. An adapter from somebody else can run any code on your machine.

Why it happens: it was the only way once, and `weights_only=False` makes an error go away.

Detection: `torch.load` of an adapter's file (called `adapter_model.*`, or beside an `adapter_config.json`) without
`weights_only=True`. What PEFT writes is tensors only, so nothing is lost by it.

Fix: add `weights_only=True`: safe where the argument is not given, since an adapter of PEFT loads the same; unsafe where somebody wrote False.

Workaround: `peft.load_peft_weights(folder)`, or convert the file to safetensors.

Prevention: load adapters through PEFT; publish safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint import facts, mend
from adapterfit.lint.rule import SAFE, UNSAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Call
from adapterfit.lint.values import Constant

RULE = Rule(severity="warning", cause="pickle-not-plain")


def check(code: Code) -> Iterator[Hit]:
    """Hits at `torch.load`."""
    for call in code.trace.calls("torch.load"):
        given = call.keywords.get("weights_only")
        open_ended = given is None or (isinstance(given.value, Constant) and not given.value.value)
        if call.whole and open_ended and facts.is_adapter(code, call.value(0, "f")):
            message = "a .bin is a pickle and may run code while it is read; an adapter holds tensors only, so weights_only=True costs nothing"
            yield Hit(call, message, _fix(code, call, said_no=given is not None))


def _fix(code: Code, call: Call, *, said_no: bool) -> Fix | None:
    if call.argument(2, "pickle_module") is not None:  # the two do not go together
        return None
    edits = mend.with_keyword(code, call.node, "weights_only", "True")
    return Fix("weights_only=True", edits, UNSAFE if said_no else SAFE) if edits else None


FIRES = (
    Snippet(
        """
import torch
from peft import LoraConfig

weights = torch.load("adapter/adapter_model.bin")
print(len(weights))
""",
        """
import torch
from peft import LoraConfig

weights = torch.load("adapter/adapter_model.bin", weights_only=True)
print(len(weights))
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import os
from torch import load as read
from peft.utils import WEIGHTS_NAME

def weights_of(folder):
    return read(
        os.path.join(folder, WEIGHTS_NAME),
        map_location="cpu",  # no GPU here
    )

weights_of("adapter")
""",
        """
import os
from torch import load as read
from peft.utils import WEIGHTS_NAME

def weights_of(folder):
    return read(
        os.path.join(folder, WEIGHTS_NAME),
        map_location="cpu",  # no GPU here
        weights_only=True,
    )

weights_of("adapter")
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from pathlib import Path

adapter = Path("adapter")
torch.load((adapter / "adapter_model.bin"), weights_only = False)
""",
        """
import torch
from pathlib import Path

adapter = Path("adapter")
torch.load((adapter / "adapter_model.bin"), weights_only = True)
""",
        UNSAFE,
        runs=True,
    ),
    Snippet(
        """
import torch
from huggingface_hub import hf_hub_download

state = torch.load(hf_hub_download("someone/lora", filename="adapter_model.bin"), "cpu")
""",
        """
import torch
from huggingface_hub import hf_hub_download

state = torch.load(hf_hub_download("someone/lora", filename="adapter_model.bin"), "cpu", weights_only=True)
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import dill, torch

state = torch.load("out/lora.bin", pickle_module=dill)
adapter = state
""",
        files={"out/lora.bin": "", "out/adapter_config.json": "{}"},
    ),
)
SILENT = (
    Snippet(
        """
import torch
from peft import PeftModel

def load(options=None):
    return torch.load("adapter_model.bin", weights_only={"strict": options})
"""
    ),
    Snippet(
        """
import torch

adapter_model = torch.load("optimizer.pt")
"""
    ),
    Snippet(
        """
import torch
from peft import LoraConfig

state = torch.load("adapter_model.bin", map_location="cpu", weights_only=True)
"""
    ),
    Snippet(
        """
import torch

def read_adapter(path, **options):
    return torch.load(path + "/adapter_model.bin", **options)
"""
    ),
    Snippet(
        """
import joblib as torch

adapter = torch.load("adapter_model.bin")
"""
    ),
    Snippet(
        """
import torch
from transformers import WEIGHTS_NAME  # pytorch_model.bin

adapter = torch.load("out/" + WEIGHTS_NAME)
""",
        files={"out/other.json": "{}"},
    ),
)
