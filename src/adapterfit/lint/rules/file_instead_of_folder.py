"""PEFT is given the path of the weights file, where it wants the folder that the file is in.

What this means: `PeftModel.from_pretrained` looks for `adapter_config.json` *in* the path it is given. In a path that ends in
`adapter_model.safetensors` there is none, so it asks the Hub for it, and raises `Can't find 'adapter_config.json' at …`.

Why it happens: `torch.load` and `load_file` want the file.

Detection: the path handed to PEFT's `from_pretrained` or `load_adapter` ends in an adapter's weights file or in `adapter_config.json`.

Fix: the folder. It is safe: a file can only raise.

Workaround: none needed.

Prevention: pass folders around, not files.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.lint import facts, mend, texts
from adapterfit.lint.rule import SAFE, Code, Fix, Hit, Rule, Snippet
from adapterfit.lint.trace import Argument, Call
from adapterfit.lint.values import Model

RULE = Rule(cause="adapter-path-missing")


def check(code: Code) -> Iterator[Hit]:
    """Hits at calls that take an adapter's folder."""
    for call in code.trace.calls("peft.*", "model.load_adapter"):
        given = _folder(call)
        if given is None:
            continue
        if texts.is_adapter_file(given.value) or texts.file_name(given.value) == "adapter_config.json":
            message = (
                "this wants the adapter's folder, not a file in it: it looks for adapter_config.json inside, and raises"
            )
            yield Hit(call, message, _fix(code, given))


def _folder(call: Call) -> Argument | None:
    if call.name == "model.load_adapter":
        wrapped = isinstance(call.receiver, Model) and call.receiver.wrapped is True
        return call.argument(0, "model_id") if wrapped else None
    kind, _, method = call.name.rpartition(".")
    if method == "from_pretrained" and kind.startswith("peft.Peft") and "Model" in kind:
        return call.argument(1, "model_id")
    reads = method == "from_pretrained" and (kind.endswith("Config") or kind.startswith("peft.AutoPeft"))
    return call.argument(0, "pretrained_model_name_or_path") if reads else None


def _fix(code: Code, given: Argument) -> Fix | None:
    folder = facts.folder_of(code, given)
    return Fix("give it the folder", (mend.replaced(code, given.node.value, folder),), SAFE) if folder else None


FIRES = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(base, 'adapter/adapter_model.safetensors')
""",
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("base")
model = PeftModel.from_pretrained(base, 'adapter')
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
import os
from peft import PeftConfig

folder = "adapter"
config = PeftConfig.from_pretrained(os.path.join(folder, "adapter_config.json"))
""",
        """
import os
from peft import PeftConfig

folder = "adapter"
config = PeftConfig.from_pretrained(folder)
""",
        SAFE,
        runs=True,
    ),
    Snippet(
        """
from pathlib import Path
from peft import AutoPeftModelForCausalLM

OUT = Path("adapter")
model = AutoPeftModelForCausalLM.from_pretrained(OUT / "adapter_model.bin")
outcome = model.load_adapter(f"{OUT}/adapter_model.bin", "other")
model.set_adapter("other")
""",
        """
from pathlib import Path
from peft import AutoPeftModelForCausalLM

OUT = Path("adapter")
model = AutoPeftModelForCausalLM.from_pretrained(OUT)
outcome = model.load_adapter(OUT, "other")
model.set_adapter("other")
""",
        SAFE,
        runs=True,
    ),
)
SILENT = (
    Snippet(
        """
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter_model")
"""
    ),
    Snippet(
        """
from safetensors.torch import load_file
from peft import PeftModel

weights = load_file("adapter/adapter_model.safetensors")
"""
    ),
    Snippet(
        """
from optics import PeftModel

model = PeftModel.from_pretrained("base", "adapter_model.bin")
"""
    ),
    Snippet(
        """
import json
from peft import LoraConfig

config = LoraConfig(**json.load(open("adapter/adapter_config.json")))
"""
    ),
)
