"""The server does not wrap the modules that the adapter names.

What this means: a server has a closed list of layers that can carry a LoRA. It compares that list with the names in the adapter's
config or file, and stops at the first other one, even where PEFT would pass over it.

Why it happens: target_modules lists names that no tensor belongs to (left from another architecture); the names carry a prefix; the
server's list is too short for this model (its own fault), or it wants q, k and v together.

Detection: the message prints both lists. An expected list of `embed_tokens` alone means that the server knows no layer of this
model.

Fix: take names without tensors out of target_modules in adapter_config.json; else upgrade the server, or merge.

Workaround: merge the adapter and serve the merged model.

Prevention: train the modules that the server lists.

Not run: it needs vLLM or SGLang, whose list of layers is held against the adapter's when it is loaded.

Broken:
    # target_modules names w1 and w2 beside q_proj and v_proj, and no tensor belongs to them
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))

Fixed:
    change_config("adapter", target_modules=["q_proj", "v_proj"])  # those that have tensors
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.tensor_names import module_leaf
from adapterfit.records import Suspicion
from adapterfit.symptoms import LogTargets
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "ValueError: While loading my-adapter, expected target modules in ['q_proj', ...] but received ['w1', 'w2']. Please verify that the loaded LoRA module is correct",
        "KeyError: (0, 'gate_proj')",
    ),
)
_WORDS = (
    ("is not in supported list", 0.9), ("lora_target_modules is empty", 0.9), ("only 'all' or 'all-linear' can be used as the string", 0.9),
    ("target modules are included in `--lora-target-modules`", 0.85), ("lora is not supported for", 0.85), ("--lora-target-modules", 0.7), ("skipping unsupported lora module", 0.7),
    ("no corresponding lora layer supported for", 0.88), ("cannot find target module name for", 0.8), ("not included in the specified --lora-target-modules", 0.92),
    ("target modules are not supported", 0.8), ("to be tested: vision language model with lora", 0.85), ("do not support lora", 0.7), ("does not support lora", 0.8), ("missing lora_a weight", 0.7), ("missing lora_b weight", 0.7),
)  # fmt: skip
#: vLLM's word on an architecture, of all versions.
_WHOLE = re.compile(r"(?P<name>[A-Z]\w{2,80}(?:For\w{2,60}|Model|LMHeadModel)) does not support LoRA\b")
#: Classes of models in TGI and LoRAX, which an adapter's layers are looked up in.
_ENGINES = re.compile(
    r"'(?P<name>Flash[A-Z]\w{2,60}|[A-Z]\w{2,60}Sharded)' object has no attribute '(?P<part>\w{1,40})'"
)
_HEADLESS = re.compile(
    r"'(?P<name>[A-Z]\w{2,60}For[A-Z]\w{2,60})' object has no attribute '(?:model|layers|language_model|transformer)'"
)
_FUSED = ("qkv_proj", "gate_up_proj", "query_key_value", "Wqkv")

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "supported_lora_modules", "lora-target-modules", "lora_target_modules", "expected target modules",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {
    ("vllm", "check_unexpected_modules"): 0.8,
    ("vllm", "create_lora_manager"): 0.6,
    ("vllm", "_create_lora_modules"): 0.55,
    ("vllm", "replace_submodule"): 0.5,
    ("sglang", "init_lora_modules"): 0.55,
}

#: The same in anybody's words: a model that supports no adapters, or adapters that are not supported for it.
_WITHOUT = re.compile(
    r"(?i)\b(?:model|architecture|backend|engine)s?\b[^.\n]{0,60}?(?:does not|doesn't|do not|don't) (?:yet |currently )?support[^.\n]{0,20}? (?:lora|adapter)s?\b(?! name)"
    r"|\b(?:lora|adapter)s?(?: loading)? (?:is|are) not (?:yet |currently )?supported (?:for|with|on|by|in) (?:the |this )?[\w.-]{0,40} ?(?:model|architecture|backend|engine|quant)"
)
#: Errors whose message says nothing of the adapter.
_UNTOLD = frozenset({"AssertionError", "AttributeError", "KeyError", "IndexError", "NotImplementedError"})


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: two lists, a layer that is looked up by number and name, or a member of a fused layer that is missed."""
    fix = "take names without tensors out of target_modules in adapter_config.json; else upgrade the server, or merge the adapter"
    lists = {targets.wording: targets for targets in symptoms.targets}
    if "expected" in lists:
        expected, received = lists["expected"], lists.get("received", lists["expected"])
        experts = any(".experts" in name for name in received.names)
        fused = any(name.rpartition(".")[2] in _FUSED for name in received.names)
        few = len(expected.names) < 2
        experts = experts or ("experts" in expected.names and not lists.get("received", LogTargets((), "", 0)).names)
        yield suspect(
            symptoms, f"the server can wrap {shorten(expected.names, 4)}, and the adapter names {shorten(received.names, 4) or 'others'}",
            0.5 if experts else 0.6 if fused else 0.91 if received.names and not few else 0.88, [expected.line],
            fix="upgrade the server: it knows no layer of this model" if few else fix,
        )  # fmt: skip
    whole = _WHOLE.search(symptoms.text)
    if whole is not None:
        yield suspect(
            symptoms, f"the server cannot run {show(whole['name'])} with a LoRA at all", 0.92, [line_of(symptoms, whole.start())],
            fix=f"upgrade the server, if a newer one supports LoRA for {show(whole['name'])}; else merge the adapter and serve the merged model",
        )  # fmt: skip
        return
    for phrase, likelihood in _WORDS:
        told = said(symptoms, phrase)
        if told and "expected" not in lists:
            option = phrase.startswith("--") and not symptoms.errors  # a command line, not what came of it
            yield suspect(
                symptoms, "the server cannot wrap what the adapter was trained on", 0.4 if option else likelihood, told, fix=fix,
                apart="whether the server's log names modules that it skips or refuses",
            )  # fmt: skip
            break
    without = None if "expected" in lists else _WITHOUT.search(symptoms.text)
    if without is not None:
        yield suspect(
            symptoms, "the server, or this model in it, takes no adapter", 0.65, [line_of(symptoms, without.start())],
            fix="upgrade the server, if a newer one supports adapters for this model; else merge the adapter and serve the merged model",
        )  # fmt: skip
    for error in symptoms.errors:
        name = error.message.strip("'\" .")
        numbered = error.message.startswith("(") and "_proj'" in error.message
        member = ".lora_" in name and module_leaf(name) in {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
        if error.kind == "KeyError" and (numbered or member):
            yield suspect(
                symptoms, f"the server looks for {show(error.message, 80)}, which it should have, or should not need", 0.85, [error.line],
                fix="upgrade the server; for a missing q, k or v add zero tensors of the same rank, or merge the adapter",
            )  # fmt: skip
    lacking = _ENGINES.search(symptoms.text)
    if lacking is not None:
        yield suspect(
            symptoms, f"the server's {show(lacking['name'])} has no {show(lacking['part'])}: adapters are not made for this model there", 0.8 if any(word in lacking["part"] for word in ("adapter", "lora")) else 0.6,
            [line_of(symptoms, lacking.start())], fix=fix,
        )  # fmt: skip
    headless = _HEADLESS.search(symptoms.text)
    if (
        headless is not None
        and not symptoms.frames
        and said(symptoms, "--lora-adapters", "lora_adapters", "text_generation_server", "lorax", most=1)
    ):
        yield suspect(
            symptoms, f"the server looks for the layers of {show(headless['name'])} where a text model has them", 0.55, [line_of(symptoms, headless.start())],
            fix="upgrade the server; else merge the adapter and serve the merged model", apart="whether the server starts without the adapter",
        )  # fmt: skip
    inside = [
        f
        for f in symptoms.frames[-4:]
        if f.library in {"vllm", "sglang", "lmdeploy", "tensorrt_llm"} and "lora" in f.file
    ]
    failed = [e for e in symptoms.errors if e.kind in _UNTOLD and inside and e.line >= inside[-1].line]
    if failed:
        yield suspect(
            symptoms, f"the server's own code for LoRA fails on this model or adapter, in {show(inside[-1].file)}", 0.45,
            [inside[-1].line, failed[0].line], fix="upgrade the server; else merge the adapter and serve the merged model",
            apart="whether an adapter of q_proj and v_proj alone is served: then it is one of the other targets",
        )  # fmt: skip
    nested = [key for key in symptoms.keys if "language_model" in key.name and ("{" in key.name or "<" in key.name)]
    if nested and not (symptoms.errors or symptoms.missing or symptoms.unexpected):
        yield suspect(
            symptoms, "the server may look for these names without their nesting", 0.35, [nested[0].line], fix=fix
        )


def logs() -> dict[str, list[str]]:
    """Two lists; a numbered layer; a member of a fused layer; experts are another cause."""
    return {
        "fires": [
            "ValueError: While loading x, expected target modules in ['q_proj', 'o_proj'] but received ['lm_head', 'wte']. Please verify",
            "KeyError: (3, 'down_proj')",
            "Server error: 'FlashPhiForCausalLM' object has no attribute 'decoder'",
            "text-generation-launcher --lora-adapters me/mine\nAttributeError: 'FuyuForCausalLM' object has no attribute 'model'",
            "KeyError: 'base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight'",
        ],
        "silent": [
            "ValueError: While loading x, expected target modules in ['q_proj', 'experts'] but received ['model.layers.0.mlp.experts.1.up_proj']",
            "KeyError: 'base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight'",
        ],
    }
