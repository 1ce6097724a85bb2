"""An adapter was given where a whole model is expected.

What this means: the folder or repository holds an adapter only: no config.json and no model weights. A loader of models finds
nothing it knows; an old engine even loads the tensors and stops at the first `lora_A`.

Why it happens: the path of the adapter was passed as the model, for example to `AutoModel.from_pretrained` without peft, to
`vllm serve`, or to a tool's `--model` option.

Detection: the loader misses config.json, or fails on a tensor's name with `lora_A`.

Fix: load the base as the model, and the adapter on top: `PeftModel.from_pretrained(base, adapter)`,
`AutoPeftModelForCausalLM.from_pretrained(adapter)`, or in vLLM `--enable-lora` with `LoRARequest`.

Workaround: merge the adapter into the base (`merge_and_unload`) and give the merged model.

Prevention: keep "adapter" or "lora" in the names of adapter folders.

Broken:
    config = AutoConfig.from_pretrained("adapter")  # the first thing that a loader of models asks for
    # raises ValueError: Unrecognized model in adapter. Should have a `model_type` key in its config.json.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
    as_trained(AutoPeftModelForCausalLM.from_pretrained("adapter"))  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import lacks_file, line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.tensor_names import diffusion, module_leaf
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=3,
    messages=(
        "OSError: my-adapter does not appear to have a file named config.json.",
        "ValueError: No supported config format found in my-adapter",
        "KeyError: 'base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight'",
        "ValueError: Unrecognized model in my-adapter. Should have a `model_type` key in its config.json.",
    ),
)
#: Words of loaders of models → how sure they are.
_WORDS = (
    ("does not appear to have a file named config.json", 0.89),
    ("no supported config format found in", 0.92),
    ("should have a `model_type` key in its config.json", 0.7),
    ("does not appear to have files named", 0.6),
    ("no file named pytorch_model.bin", 0.55),
    ("does not appear to have a file named pytorch_model.bin", 0.6),
    ("does not appear to have a file named model.safetensors", 0.6),
    ("unrecognized model in", 0.6),
    ("cannot find the config file for", 0.6),
    ("can't load the model for", 0.6),
    ("can't load the configuration of", 0.6),
)

#: Those that an adapter's folder nearly always is the reason for.
_OWN_WORDS = frozenset({"does not appear to have a file named config.json", "no supported config format found in"})

#: Parts of fused layers: a server that fuses an adapter misses one of them, and says so in the same words.
_MEMBERS = frozenset({"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"})

#: A model's config beside what is said of it.
_CONFIG = re.compile(r"(?<![\w/])config\.json")
#: Characters before and behind it that are looked at, and what ends a sentence.
_BEFORE, _BEHIND = 120, 60
_STOP = re.compile(r"[.!?\n]")
_LACKS = (
    "lack",
    "missing",
    "not find",
    "no config.json",
    "doesn't have",
    "does not have",
    "without",
    "not being able to find",
)

#: The name of a config class, which an auto class that does not know it answers with.
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]{1,60}Config")
#: Words that speak of this cause where no symptom decides.
HINTS = (
    "instead of the base model", "full model",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("transformers", "_get_config_dict"): 0.5}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a loader of models finds no model, or meets an adapter's tensor."""
    fix = "load the base as the model and the adapter on top: PeftModel.from_pretrained(base, adapter); in vLLM --enable-lora and LoRARequest"
    for phrase, likelihood in _WORDS:
        told = said(symptoms, phrase)
        if told:
            # A model that lacks its weights is no matter of adapters, unless something in the text speaks of one.
            spoken = phrase in _OWN_WORDS or said(symptoms, "lora", "adapter", "peft", "checkpoint-", most=1)
            yield suspect(
                symptoms, "an adapter was given where a whole model is expected", likelihood if spoken else 0.4, told, fix=fix,
                apart="the folder: adapter_config.json and no config.json mean an adapter; and whether peft is installed",
            )  # fmt: skip
    prose = () if symptoms.errors or symptoms.frames else _told(symptoms)
    if prose:
        yield suspect(
            symptoms, "the text says that an adapter's folder has no config.json, or that a loader of models gets it", 0.55, prose, fix=fix,
            apart="the folder: adapter_config.json and no config.json mean an adapter",
        )  # fmt: skip
    absent = [u for u in symptoms.urls if u.repo and u.file == "config.json" and u.status == 404]
    if absent and lacks_file(symptoms):
        yield suspect(
            symptoms, f"{quote(absent[0].repo)} is there and has no config.json: it may hold an adapter only", 0.75, [u.line for u in absent], fix=fix,
            apart="the repository's list of files, and whether peft is installed: transformers looks for adapter_config.json only then",
        )  # fmt: skip
    for error in symptoms.errors:
        name = error.message.strip("'\" .")
        if error.kind == "KeyError" and _CLASS.fullmatch(name) and said(symptoms, "lora", "adapter", "peft", most=1):
            yield suspect(
                symptoms, f"an auto class has no model for {quote(name)}: the folder may hold an adapter with a copied config.json, and its base is not given", 0.4,
                [error.line], fix=fix, apart="the folder: adapter_config.json beside config.json, and no whole model's weights, mean an adapter",
            )  # fmt: skip
        if error.kind != "KeyError" or ".lora_" not in name:
            continue
        if module_leaf(name) in {"qkv_proj", "gate_up_proj"}:
            yield suspect(symptoms, "the engine reads the adapter's tensors as a model's", 0.92, [error.line], fix=fix)
        elif name.startswith("base_model.") and module_leaf(name) not in _MEMBERS and not diffusion([name]):
            yield suspect(
                symptoms, "an engine that loads a model stops at an adapter's tensor", 0.7, [error.line], fix=fix
            )
    lacking = [
        e.line
        for e in symptoms.errors
        if e.kind == "FileNotFoundError" and e.message.strip("'\" ").endswith("/config.json")
    ]
    if lacking:
        spoken = said(symptoms, "lora", "adapter", "peft", "checkpoint-", most=1)
        yield suspect(
            symptoms, "a program that reads whole models misses config.json, which an adapter's folder does not have", 0.6 if spoken else 0.3, lacking, fix=fix,
            apart="the folder: adapter_config.json and no config.json mean an adapter",
        )  # fmt: skip
    found = names_of(symptoms, "adapter-loaded-as-model")
    if found is not None:
        yield suspect(symptoms, "a model's loader met an adapter's tensors", found.likelihood, found.lines, fix=fix)


def _around(found: re.Match[str]) -> str:
    """The sentence around a place in a text, as far as it is looked at."""
    before = found.string[max(0, found.start() - _BEFORE) : found.start()]
    behind = found.string[found.end() : found.end() + _BEHIND]
    return f"{_STOP.split(before)[-1]}{found[0]}{_STOP.split(behind)[0]}"


def _told(symptoms: Symptoms) -> tuple[int, ...]:
    """Words about an adapter that lacks a model's config, or that is given to something that loads whole models."""
    if not said(symptoms, "lora", "adapter", "peft", most=1):
        return ()
    config = [found for found in _CONFIG.finditer(symptoms.folded) if any(word in _around(found) for word in _LACKS)]
    loader = (
        said(symptoms, "sentencetransformer", "sentence-transformers", most=1)
        if said(symptoms, "adapter_config.json", most=1)
        else ()
    )
    return tuple(line_of(symptoms, found.start()) for found in config) or loader


def logs() -> dict[str, list[str]]:
    """No config.json; a fused name; a split name is a server's refusal."""
    return {
        "fires": [
            "Loading my LoRA folder with AutoModelForCausalLM\nKeyError: 'FalconVisionConfig'",
            "The library cannot load my LoRA: the folder is that of an adapter and lacks the necessary config.json.",
            "SentenceTransformer('out') on my PEFT folder fails; it holds adapter_config.json and adapter_model.safetensors",
            "OSError: out/lora does not appear to have a file named config.json. Checkout 'https://huggingface.co/out/lora/main' for available files.",
            "KeyError: 'base_model.model.model.layers.3.mlp.gate_up_proj.lora_B.weight'",
            "KeyError: 'base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight'",
            "EntryNotFoundError: 404 Client Error. Entry Not Found for url: https://huggingface.co/some/adapter/resolve/main/config.json.",
        ],
        "silent": [
            "KeyError: 'base_model.model.model.layers.3.self_attn.v_proj.lora_A.weight'",
            "ValueError: Can't find 'adapter_config.json' at 'x'",
        ],
    }
