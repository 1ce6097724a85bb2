"""transformers renamed modules of this model between the version of the training and the one that loads.

What this means: the adapter names modules as transformers called them when it was saved. The loader builds the model with
other paths and translates only some of them, so these tensors meet no module and are dropped without a word; where a
config names whole paths, or a regular expression over them, PEFT finds no target at all and raises.

Why it happens: transformers reordered whole families: vision-language models in 4.52 (`language_model.model` became
`model.language_model`), vision towers in 5.6, ViT in 5.9, audio models in 5.10. PEFT's translation knows LoRA weights of
some model types only; for others, such as qwen2_vl, its gate is closed, and saved heads are never translated.

Detection: the renamings of transformers 4.52 to 5.18 are tried in both directions; the shortest chain counts under which
every stray tensor has a module of its own with fitting sizes.

Fix: rename the keys, and set target_modules to full paths where the config names old ones; the bytes stay.

Workaround: load with the transformers version of the training; or `model.load_adapter` of transformers, which translates more.

Prevention: note the transformers version beside the adapter: adapter_config.json does not record it.

Setup:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28}
    ViTForImageClassification(ViTConfig(**sizes, patch_size=14, initializer_range=0.2)).save_pretrained("base")

    def logits(model):
        with torch.no_grad():
            return model.eval()(pixel_values=torch.ones(1, 3, 28, 28)).logits

    base = ViTForImageClassification.from_pretrained("base")
    trained = train(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))

    NAMES = {".layers.": ".encoder.layer.", "attention.q_proj": "attention.attention.query",
             "attention.v_proj": "attention.attention.value"}  # new: old

    def to_old(name):
        for new, old in NAMES.items():
            name = name.replace(new, old)
        return name

    change_names(to_old)  # as transformers before 5.9 has them
    change_config(target_modules=["query", "value"])

Broken:
    base = ViTForImageClassification.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises NoMatchingPeftModuleError: Target modules {...} not found in the base model.

Fixed:
    def to_new(name):
        for new, old in NAMES.items():
            name = name.replace(old, new)
        return name

    tensors = load_file("adapter/adapter_model.safetensors")
    save_file({to_new(name): tensor for name, tensor in tensors.items()}, "adapter/adapter_model.safetensors")
    change_config(target_modules=["q_proj", "v_proj"])
    base = ViTForImageClassification.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence, renames, retarget
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import ALIKE, line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=5,
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.language_model.layers...']",
        "KeyError: 'base_model.model.lm_head.weight'",
        r"NoMatchingPeftModuleError: Target modules model\.layers\.\d+\.self_attn\.q_proj not found in the base model.",
        "NoMatchingPeftModuleError: Target modules {'query', 'value'} not found in the base model.",
    ),
    versions="transformers >= 4.52",
    needs=("diff",),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where a chain of renamings explains all stray tensors."""
    stray = list(diff.extra)
    if not stray or not evidence.comparable(diff):
        return
    found = renames.chain(diff, stray)
    if found is None:
        return
    changed = [tensor for tensor in stray if tensor.name != found.names[tensor]]
    first = changed[0]
    by_hand = "rename the keys, and the paths in adapter_config.json alike"
    fix = retarget.renaming(case, diff, found.names) or Fix("unsafe", by_hand)
    yield finding(
        f"{len(changed)} of {len(case.adapter.tensors)} tensors name modules as transformers {_when(found)}: "
        f"{_said(found)}",
        at=stray,
        predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
        found=quote(first.name),
        expected=quote(found.names[first]),
        fix=fix,
        explains=[
            *(tensor.name for tensor in stray),
            *evidence.keys_of(found.names.values()),
            *evidence.unasked(diff, found.names),
        ],
    )


def _when(found: renames.Chain) -> str:
    versions = " and ".join(dict.fromkeys(step.since for step in found.steps))
    return f"did before {versions}" if found.newer else f"does since {versions}, but this base has the older names"


def _said(found: renames.Chain) -> str:
    is_now = "is now" if found.newer else "was"
    pairs = [(s.old, s.new) if found.newer else (s.new, s.old) for s in found.steps]
    shown = [f"{_quoted(old)} {is_now} {_quoted(new)}" for old, new in pairs]
    return "; ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _quoted(path: str) -> str:
    return quote(path.lstrip("^")) if path != "^" else "nothing"


def _vit_before(name: str) -> str:
    """A name of ViT as transformers 5.8 had it."""
    pairs = (
        ("vit.layers", "vit.encoder.layer"),
        ("attention.q_proj", "attention.attention.query"),
        ("mlp.fc1", "intermediate.dense"),
    )
    for new, old in pairs:
        name = name.replace(new, old)
    return name


def examples(make: Any) -> dict[str, list[Any]]:
    """LLaVA of transformers < 4.52, with a head and with a regular expression; ViT < 5.9; GPT-NeoX < 5.14."""
    inside = "base_model.model.model.language_model.layers"
    llava = make.lora("llava", target_modules=["q_proj", "v_proj"])
    head = make.lora("llava", target_modules=["q_proj"], modules_to_save=["lm_head"])
    regex = make.lora("llava", target_modules=r".*language_model\.layers\.\d+\.self_attn\.q_proj")
    picture = make.base(
        "bert", model_type="vit", architectures=["ViTForImageClassification"], image_size=32, patch_size=16
    )
    vit = make.lora(
        "bert", base=picture, task_type=None, target_modules=["q_proj", "fc1"], modules_to_save=["classifier"]
    )
    size = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 128}
    neox = make.base("gpt2", model_type="gpt_neox", architectures=["GPTNeoXForCausalLM"], **size)
    output = make.lora("gpt2", base=neox, target_modules=["query_key_value", "lm_head"])
    return {
        "silent": [
            llava,
            llava.renamed(lambda name: name.replace(inside, "base_model.model.language_model.model.layers")),
            llava.renamed(lambda name: name.replace(inside, "base_model.model.text.layers")),
            vit,
            output,
        ],
        "fires": [
            make.lora("llava", target_modules=["q_proj"], modules_to_save=["multi_modal_projector"]).renamed(
                lambda name: name.replace("model.multi_modal_projector", "multi_modal_projector")
            ),
            head.renamed(lambda name: name.replace("model.lm_head", "model.language_model.lm_head")),
            regex.renamed(
                lambda name: name.replace(inside, "base_model.model.language_model.model.layers")
            ).with_config(target_modules=r"language_model\.model\.layers\.\d+\.self_attn\.q_proj"),
            vit.renamed(_vit_before).with_config(target_modules=["query", "intermediate.dense"]),
            output.renamed(lambda name: name.replace("lm_head", "embed_out")).with_config(
                target_modules=["query_key_value", "embed_out"]
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "key_mapping", "_checkpoint_conversion_mapping", "conversion mapping", "renamed", "4.52", "transformers v5", "transformers 5", "weight conversion", "prefixes", "prefix differs",
)  # fmt: skip

#: Layers of attention in ViT and its kin, until transformers 5.
_VISION = frozenset({"query", "key", "value"})


#: A merge by names that counts what it found.
_COUNTED = re.compile(r"# of LoRAs = (?P<lora>\d{1,6}) does not match # of saved modules = (?P<merged>\d{1,6})")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: names that differ by a level of nesting, classes that took a Linear's place, remote code that is too old."""
    pin = "use the transformers version of the training, or peft >= 0.16 with transformers >= 4.52, which translate old names"
    found = names_of(symptoms, "modules-renamed")
    if found is not None:
        named = f": {quote(found.old)} in the file, {quote(found.new)} in the model" if found.new else ""
        yield suspect(
            symptoms, f"the model's parts are nested otherwise than when the adapter was saved{named}", found.likelihood, found.lines,
            fix=pin, apart="the transformers version of the training: before 4.52, or before 5.0, and not now",
        )  # fmt: skip
    for targets in symptoms.targets:
        if targets.wording == "unsupported" and targets.names[0].endswith(("TopKRouter", "Experts", "Router")):
            yield suspect(
                symptoms, f"{show(targets.names[0])} was a Linear before transformers 5: the adapter targets its old name", 0.88,
                [targets.line], fix="load with the transformers 4 of the training, or leave the router out of target_modules",
            )  # fmt: skip
        if targets.wording == "not-found" and targets.names and set(targets.names) <= _VISION:
            new = any(error.kind == "NoMatchingPeftModuleError" for error in symptoms.errors)
            yield suspect(
                symptoms, "transformers 5 calls these layers of vision models q_proj, k_proj and v_proj", 0.88 - ALIKE / 2 if new else 0.5,
                [targets.line], fix="load with the transformers 4 of the training, or name q_proj, k_proj, v_proj in target_modules",
                apart="the names of the base's layers: print(model)",
            )  # fmt: skip
    counted = _COUNTED.search(symptoms.text)
    if counted is not None and not said(symptoms, "expert", "moe", most=1):
        none = counted["merged"] == "0"
        yield suspect(
            symptoms, f"of {counted['lora']} adapted layers {counted['merged']} were found in the base's files: their names are not those of the loaded model",
            0.6 if none else 0.5, [line_of(symptoms, counted.start())], fix="upgrade unsloth and unsloth_zoo, or merge with PEFT: merge_and_unload() on the base in 16 bits",
            apart="the names in the base's model.safetensors.index.json beside those of print(model)",
        )  # fmt: skip
    mapped = said(symptoms, "load a peft state_dict with key_mapping")
    if mapped:
        yield suspect(symptoms, "PEFT could not translate the old names of this model's parts", 0.86, mapped, fix=pin)
    remote = [frame for frame in symptoms.frames if frame.library == "transformers_modules"]
    told = said(symptoms, "prepare_inputs_for_generation")
    if remote and told:
        yield suspect(
            symptoms, "the model's own code relies on what newer transformers took out of PreTrainedModel (generate, since 4.50)", 0.75,
            [*told, *(frame.line for frame in remote)], fix="pin transformers < 4.50, or let the model's class inherit GenerationMixin",
            apart="whether it works with the transformers version in the model's own config.json",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A level that moved, in a report and in PEFT's warning; a router; another rank has nothing to do with it."""
    tail = "layers.0.self_attn.q_proj.lora_A.default.weight"
    return {
        "fires": [
            "model.visual.blocks.0.attn.qkv.lora_A.default.weight | UNEXPECTED | \nvisual.blocks.0.attn.qkv.lora_A.default.weight | MISSING |",
            f"Found missing adapter keys while loading the checkpoint: ['base_model.model.model.language_model.{tail}'].",
            "Unsloth: # of LoRAs = 224 does not match # of saved modules = 0. Please file a bug report.",
            "ValueError: Target module MixtralTopKRouter() is not supported. Currently, only the following modules are supported",
        ],
        "silent": [
            f"Found missing adapter keys while loading the checkpoint: ['base_model.model.model.{tail}'].",
            "AttributeError: 'LlamaModel' object has no attribute 'prepare_inputs_for_generation'",
        ],
    }
