"""The adapter was saved from a PeftModel around a PeftModel.

What this means: the model was wrapped a second time before saving, so its names go through both wrappers
(`base_model.model.base_model.model.…`), or a layer sits inside another adapter's layer (`q_proj.base_layer.lora_A`). On a plain
base no such path exists: PEFT warns about missing keys and drops the tensors.

Why it happens: `get_peft_model` on a model that already was a PeftModel: a notebook cell run twice, a Trainer that wraps once
more, or a second stage of training that should have used `model.add_adapter`, or have merged the first adapter.

Detection: auto_mapping names a class of PEFT itself, or the doubled prefix, or `base_layer` before the tuner's name where
the base has no such level; the names are accepted only if every tensor lands once a level is taken out.

Fix: rename the keys. Where two adapters lie in each other in one file, only one of them can be loaded.

Workaround: rebuild the two wrappers in the same order, and load into that.

Prevention: wrap once; `model.add_adapter` and `model.load_adapter` for a second adapter, `merge_and_unload` before a new stage.

Setup:
    config = LoraConfig(**OPTIONS)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config)

Broken:
    model = get_peft_model(model, config)  # the cell was run again
    # warns: You are trying to modify a model with PEFT for a second time.
    # warns: The PEFT config's `base_model_name_or_path` was renamed
    # warns: Already found a `peft_config` attribute in the model.
    trained = logits(noise(model))
    model.save_pretrained("adapter")
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(loaded)  # -> True

Fixed:
    trained = logits(noise(model))
    model.save_pretrained("adapter")
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    as_trained(loaded)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence, retarget
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Fix, Module, Suspicion, TensorInfo
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=5,
    messages=(
        "UserWarning: Already found a `peft_config` attribute in the model.",
        "Found missing adapter keys while loading the checkpoint: ['...q_proj.base_layer.lora_A.default.weight', ...]",
        "UserWarning: You are trying to modify a model with PEFT for a second time.",
    ),
    needs=("config", "diff"),
)
_INNER = re.compile(r"(\.base_layer)+(?=\.\w+_)")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding, where a level too many is there and something tells that PEFT made it."""
    stray = evidence.tuner_tensors(diff.extra)
    if not stray or not evidence.comparable(diff):
        return
    told, own = _told(case), anatomy.modules(diff)
    doubled = {tensor for tensor in diff.extra if tensor.name.startswith(evidence.PREFIX * 2)}
    inside = {t for t in stray if ".base_layer" in evidence.parts(t.name).module and _layer_is_wrapped(t, own)}
    at = [tensor for tensor in diff.extra if tensor in doubled or tensor in inside]
    if not at or not (told or inside):
        return
    names = {tensor: _once(tensor.name) for tensor in at}
    if not evidence.lands(diff, names):
        names = {tensor: _flat(tensor.name) for tensor in at}
    fix = retarget.renaming(case, diff, names)
    first = at[0]
    yield finding(
        f"{len(at)} of {len(case.adapter.tensors)} tensors lie one wrapper too deep{told}: the adapter was saved from a "
        "PeftModel around a PeftModel",
        at=at,
        predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
        found=quote(first.name),
        expected=quote(names[first]),
        fix=fix
        or Fix("unsafe", "two adapters lie in each other here: keep the tensors of one, under names of one wrapper"),
        explains=[*(tensor.name for tensor in at), *evidence.keys_of(names.values())],
    )


def _told(case: Case) -> str:
    """What the config says about it, to be put into a sentence."""
    recorded = case.adapter.config.values.get("auto_mapping") if case.adapter.config is not None else None
    library = recorded.get("parent_library") if isinstance(recorded, dict) else None
    if isinstance(library, str) and (library == "peft" or library.startswith("peft.")):
        return f" (auto_mapping: {show(recorded.get('base_model_class'))} of {show(library)})" if recorded else ""
    return ""


def _layer_is_wrapped(tensor: TensorInfo, own: Mapping[str, Module]) -> bool:
    """Whether the module without `base_layer` is there, and the one with it is not."""
    module = evidence.parts(_flat(tensor.name)).module
    return module in own and evidence.parts(tensor.name).module not in own and bool(anatomy.sides(own[module]))


def _flat(name: str) -> str:
    """Without the second prefix and without wrapped layers."""
    return _INNER.sub("", _once(name))


def _once(name: str) -> str:
    """Without the second prefix."""
    while name.startswith(evidence.PREFIX * 2):
        name = name[len(evidence.PREFIX) :]
    return name


def examples(make: Any) -> dict[str, list[Any]]:
    """The prefix twice with PEFT's own class recorded; layers in layers; both adapters in one file."""
    plain = make.lora("llama")
    told = {
        "task_type": None,
        "auto_mapping": {"base_model_class": "PeftModelForCausalLM", "parent_library": "peft.peft_model"},
    }
    inner = plain.renamed(lambda name: name.replace(".lora_", ".base_layer.lora_"))
    both = plain.added(
        {name.replace(".lora_", ".base_layer.lora_"): (4, 64) for name in plain.names if "lora_A" in name}
    )
    experts = make.lora(
        "mixtral", target_modules=[], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    )
    return {
        "silent": [plain, plain.with_config(**told), plain.renamed(lambda name: evidence.PREFIX + name), experts],
        "fires": [plain.renamed(lambda name: evidence.PREFIX + name).with_config(**told), inner, both],
    }


#: PEFT, transformers, diffusers and SGLang, each in words of its own.
_TAKEN = r"(?:adapter|lora)(?: adapter)?(?: with)?(?: name)? ['\"`]?(?P<name>[\w.-]{1,80})['\"`]? (?:because it is )?(?:already exists|already in use|already loaded)"
#: Words that speak of this cause where no symptom decides.
HINTS = (
    "peft_config", "get_peft_model", "second adapter", "wrapped twice", "multiple adapters",
)  # fmt: skip


#: Characters between two calls of one script.
_NEAR = 400


#: PEFT's layer as a print of the model shows it, right inside another one.
_NESTED = re.compile(r"\(base_layer\): (?:lora|adalora|loha|lokr|ia3|oft|boft|vera)\.[A-Z]\w{2,40}\(")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's warning, a layer inside a layer, or an adapter's name that is not known where it is injected."""
    fix = "wrap once: load the base anew, and use model.load_adapter(path, adapter_name) for a second adapter"
    told = said(
        symptoms,
        "already found a `peft_config` attribute",
        "you are trying to modify a model with peft for a second time",
    )
    if told:
        yield suspect(symptoms, "the model already carried an adapter when this one was put in", 0.85, told, fix=fix)
    nested = _NESTED.search(symptoms.text)
    if nested is not None:
        yield suspect(
            symptoms,
            "the model's print shows an adapter's layer inside an adapter's layer",
            0.8,
            [line_of(symptoms, nested.start())],
            fix=fix,
        )
    taken = re.search(_TAKEN, symptoms.text, re.IGNORECASE)
    if taken is not None:
        yield suspect(
            symptoms, f"an adapter called {quote(taken['name'])} is already in the model", 0.86, [line_of(symptoms, taken.start())],
            fix=f"load it once; a second adapter gets a name of its own: adapter_name={taken['name'] + '_2'!r}, or delete_adapter({taken['name']!r}) first",
        )  # fmt: skip
    wraps, loads = symptoms.folded.find("get_peft_model(model"), symptoms.folded.find("peftmodel.from_pretrained(model")
    if 0 <= wraps < loads < wraps + _NEAR:
        yield suspect(
            symptoms, "the code wraps the model, and then loads an adapter onto the wrapped model", 0.8, [line_of(symptoms, wraps), line_of(symptoms, loads)],
            fix="leave out get_peft_model: PeftModel.from_pretrained(base, path, is_trainable=True) wraps the base itself",
        )  # fmt: skip
    found = names_of(symptoms, "wrapped-twice")
    if found is not None:
        yield suspect(
            symptoms, "adapter layers are looked for inside adapter layers", found.likelihood, found.lines, fix=fix
        )
    inject = [frame for frame in symptoms.frames if frame.function in {"inject_adapter", "_get_submodules"}]
    errors = [error for error in symptoms.errors if error.kind == "KeyError" and "." not in error.message]
    if inject and errors:
        yield suspect(
            symptoms, f"PEFT injects an adapter it has no config of ({show(errors[0].message, 60)})", 0.6,
            [frame.line for frame in inject] + [error.line for error in errors], fix=fix,
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The warning; the nested layer; experts have such names by nature."""
    return {
        "fires": [
            "lora.Linear(\n  (base_layer): lora.Linear(\n    (base_layer): Linear(in_features=64, out_features=64)",
            "UserWarning: Already found a `peft_config` attribute in the model. This will lead to having multiple adapters in the model.",
            "Found missing adapter keys while loading the checkpoint: ['base_model.model.h.0.attn.c_attn.base_layer.lora_A.default.weight']",
        ],
        "silent": [
            "lora.Linear(\n  (base_layer): Linear(in_features=64, out_features=64)\n  (lora_A): ModuleDict()",
            "Found missing adapter keys while loading the checkpoint: ['base_model.model.h.0.attn.c_attn.lora_A.default.weight']",
        ],
    }
