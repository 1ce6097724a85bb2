"""A targeted module is of a kind that the method cannot wrap.

What this means: PEFT puts its layers around Linear, Embedding and convolution modules (which of these depends on the method). If
one selected module is anything else, loading raises and nothing is loaded at all.

Why it happens: a short name in target_modules hits a container or a norm too (`attn`, `mlp`), a library turned a Linear into a
class of its own (a router, a clipped linear), or a quantiser's class is unknown to the installed PEFT.

Detection: PEFT's rule selects a module whose kind the method does not take.

Fix: name exactly the modules that the tensors in the file are for; or exclude the others with exclude_modules.

Workaround: where the class only wraps a Linear, target the inner one (`….linear`).

Prevention: use full enough names; look at `model.targeted_module_names` after wrapping.

Setup:
    change_config(target_modules=["q_proj", "v_proj", "norm"])  # norm is no Linear

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises ValueError: Target module LlamaRMSNorm((32,), eps=1e-06) is not supported. Currently, only the following modules are supported

Fixed:
    change_config(target_modules=["q_proj", "v_proj"])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence, retarget
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Case, Diff, Finding, Fix, Module, Suspicion
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=5,
    messages=(
        "ValueError: Target module LlamaDecoderLayer(...) is not supported. Currently, only the following modules are supported",
        "TypeError: Target module Embedding(...) is not supported",
    ),
    needs=("config", "diff"),
)
#: PEFT's own words: LoRA, AdaLoRA and IA3 print the module, LoHa and LoKr its class.
_REFUSED = re.compile(
    r"Target module (?:of type <class '(?:.*[.…])?(?P<type>\w+)'> not supported|(?P<repr>\w+)\(.*\) is not supported)"
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding, where the loader refuses a module's class."""
    raised = diff.raised
    refused = _REFUSED.match(raised.line) if raised is not None else None
    if refused is None or diff.expectation.packed:
        return
    kind = refused["type"] or refused["repr"]
    guilty = [module for module in diff.expectation.tree.modules if _is_guilty(module, kind, diff)]
    named = f": {shorten(module.name for module in guilty)}" if guilty else ""
    yield finding(
        f"target_modules selects {evidence.count(len(guilty), 'module') if guilty else 'a module'} of class {show(kind)}{named}; "
        f"{show(diff.expectation.config.get('peft_type'))} cannot wrap it",
        at=[module.name for module in guilty] or ["target_modules"],
        predicted="raises",
        found=show(kind),
        expected="Linear, Embedding or a convolution, as the method allows",
        fix=_fix(case, diff, guilty),
        explains=[tensor.name for tensor in case.adapter.tensors],
    )


def _is_guilty(module: Module, kind: str, diff: Diff) -> bool:
    """Whether a module of the refused class is one that the config selects; of a pattern only the class is looked at."""
    targets = diff.expectation.config.get("target_modules")
    if (module.class_name or module.kind) != kind or not module.name:
        return False
    names = targets if isinstance(targets, list) else None
    return names is None or any(f".{module.name}".endswith(f".{name}") for name in names)


def _fix(case: Case, diff: Diff, guilty: list[Module]) -> Fix:
    """The tensors say which modules were trained, unless they are for the refused ones."""
    refused = {module.name for module in guilty}
    cure = retarget.by_tensors(case, diff, refused)
    if cure is not None:
        return cure
    inner = [m.name for m in diff.expectation.tree.modules if m.name.rpartition(".")[0] in refused and anatomy.sides(m)]
    if inner:
        return Fix(
            "unsafe", f"target what lies inside: {shorten(inner)}; or exclude these modules with exclude_modules"
        )
    return Fix("unsafe", "leave these modules out with exclude_modules, or load with a PEFT that knows their class")


def examples(make: Any) -> dict[str, list[Any]]:
    """A norm, a container and an embedding among the targets; the same names without the file needing them."""
    plain = make.lora("llama")
    return {
        "fires": [
            plain.with_config(target_modules=["q_proj", "v_proj", "norm"]),
            plain.with_config(target_modules=["q_proj", "v_proj", "mlp"]),
            plain.with_config(target_modules=["q_proj", "v_proj", "input_layernorm"]),
            make.adapter("llama", peft_type="LOKR", r=4, target_modules=["q_proj"]).with_config(
                target_modules=["q_proj", "embed_tokens"]
            ),
        ],
        "silent": [
            plain,
            make.lora("llama", target_modules=["q_proj", "embed_tokens"]),
            plain.with_config(target_modules=["nope"]),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "is not supported", "quantlinear", "unsupported module",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "_create_new_module"): 0.75, ("peft", "_create_and_replace"): 0.45, ("peft", "__init__"): 0.38}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the class of the module that PEFT cannot wrap."""
    for targets in symptoms.targets:
        if targets.wording == "unsupported":
            name = targets.names[0]
            router = name.endswith(("TopKRouter", "Experts", "Router"))
            yield suspect(
                symptoms, f"the targets select a {show(name)}, {_what(name)}", 0.5 if router else 0.92, [targets.line], fix=_cure(name),
                apart="the class: a quantiser's, a container's, or a wrapper around a Linear",
            )  # fmt: skip
    if not symptoms.targets:
        told = said(
            symptoms,
            "can't convert layer of type",
            "currently, only the following modules are supported",
            "currently, only `torch.nn.linear`",
            "does not support targeting nn.parameter",
            "cannot access local variable 'new_module'",
            "local variable 'new_module' referenced before assignment",
        )
        if told:
            yield suspect(symptoms, "the targets select a module that PEFT cannot wrap", 0.85, told, fix=_cure(""))


def _what(name: str) -> str:
    if "Linear" in name and any(mark in name for mark in ("Quant", "WQ", "Int8", "4bit", "8bit", "Awq", "GPTQ")):
        return "a quantiser's class that the installed PEFT does not know"
    if name.endswith(("Layer", "Block", "Attention", "MLP", "Model", "Encoder", "ModuleList", "Norm")):
        return "a container or a norm, not a single linear layer"
    return "a class that PEFT does not know"


def _cure(name: str) -> str:
    if "quantiser" in _what(name):
        return "align peft with the quantiser's library (auto-gptq, gptqmodel, autoawq, bitsandbytes), or load the base unquantised"
    if "container" in _what(name):
        return "use longer names in target_modules that hit linear layers only, or exclude_modules for this one"
    return "upgrade peft, exclude this module with exclude_modules, or target the Linear inside it (….linear)"


def logs() -> dict[str, list[str]]:
    """A quantiser's class, a container, a wrapper; names that are not found at all."""
    line = "ValueError: Target module {} is not supported. Currently, only the following modules are supported: `torch.nn.Linear`."
    return {
        "fires": [
            line.format("WQLinear_GEMM()"),
            line.format("LlamaDecoderLayer((self_attn): LlamaAttention())"),
            line.format("ClippedLinear()"),
        ],
        "silent": ["ValueError: Target modules {'q'} not found in the base model."],
    }
