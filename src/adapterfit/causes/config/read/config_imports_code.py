"""adapter_config.json names Python code that a loader would import or run.

What this means: `AutoPeftModel` imports the module in `auto_mapping.parent_library`, LoRA with a `megatron_config`
imports `megatron_core`, and some loaders obey `auto_map` or `trust_remote_code`. Before 0.20 PEFT imported whatever
these fields named. Nothing was imported by this check.

Why it happens: the base is a class of somebody's own code, which is harmless; or the adapter was made to run code.

Detection: the fields are looked at as text; modules outside PEFT's own list are reported.

Fix: build the base yourself and use `PeftModel.from_pretrained(base, folder)`, which never looks at `auto_mapping`.

Workaround: set `auto_mapping` to null.

Prevention: PEFT 0.20 or later; do not load adapters of strangers with `AutoPeftModel`.

Setup:
    change_config(task_type=None, auto_mapping={"base_model_class": "LlamaForCausalLM", "parent_library": "evil"})

Broken:
    model = peft.AutoPeftModel.from_pretrained("adapter")
    # raises ValueError: The auto mapping wants to import 'evil' which is not in the import allowlist.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # never looks at auto_mapping
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """A class of transformers is silent."""
    plain = make.lora("llama")
    ours = {"base_model_class": "LlamaModel", "parent_library": "transformers.models.llama.modeling_llama"}
    bad: list[dict[str, Any]] = [
        {"auto_mapping": {"base_model_class": "run", "parent_library": "evil"}},
        {"auto_mapping": {"base_model_class": "__import__", "parent_library": "builtins"}},
        {"megatron_core": "evil"},
        {"auto_map": {"AutoModel": "evil.Model"}},
    ]
    return {
        "silent": [plain, plain.with_config(auto_mapping=ours)],
        "fires": [plain.with_config(**each) for each in bad],
    }


CAUSE = Cause(
    severity="warning",
    level="advanced",
    messages=("ValueError: The auto mapping wants to import 'evil' which is not in the import allowlist.",),
    versions="peft >= 0.4; refused since 0.20",
    codes=("config-imports-code",),
)
