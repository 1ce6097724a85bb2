"""The base asks its loader to run code that comes with it.

What this means: `config.json` of the base has `auto_map` (Python files of the model's own), or another key by which
transformers imports or downloads code. adapterfit obeyed nothing of it; it only read names and shapes.

Why it happens: models that transformers does not know yet bring their own Python files, so this is common and usually
harmless. It is still a program of whoever published the model. `_attn_implementation_internal` is different: no honest
config needs it, and transformers before 5.3 downloads and runs the kernel it names without asking (CVE-2026-4372).

Detection: the keys `auto_map`, `custom_pipelines` and `_attn_implementation_internal` of `config.json`.

Fix: read the files named, and pin the revision you have read: `from_pretrained(..., trust_remote_code=True,
revision="<commit>")`. Many models with `auto_map` have long been part of transformers and load without that.

Workaround: leave `trust_remote_code` out. If transformers knows the `model_type`, it takes its own class.

Prevention: keep transformers at 5.3 or newer; never write `trust_remote_code=True` into a shared default.

Setup:
    Path("base/modeling_own.py").write_text("from transformers import LlamaForCausalLM as OwnForCausalLM")
    change_config("base", model_type="own", auto_map={"AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
                                                      "AutoConfig": "configuration_own.OwnConfig"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base", trust_remote_code=False)
    # raises ValueError: Please pass the argument `trust_remote_code=True` to allow custom code to be run.

Fixed:
    base = LlamaForCausalLM.from_pretrained("base")  # the code was read: it is a Llama, and transformers has its class
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    severity="note",
    level="intermediate",
    minutes=10,
    messages=(
        "Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
        "ValueError: Loading base requires you to execute the configuration file in that repo on your local machine.",
    ),
    codes=("base-runs-code",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A config without such keys is silent, and so is an empty one of them."""
    return {
        "silent": [make.lora(), make.lora().on("llama", auto_map={})],
        "fires": [
            make.lora().on("llama", auto_map={"AutoModelForCausalLM": "modeling_x.X"}),
            make.lora().on("llama", custom_pipelines={"x": {"impl": "x.X"}}),
            make.lora().on("llama", _attn_implementation_internal="someone/kernel"),
        ],
    }
