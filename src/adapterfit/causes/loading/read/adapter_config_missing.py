"""There is no adapter_config.json where PEFT looks for one.

What this means: PEFT needs the config to know the method, the rank and the modules. It looks into the given folder,
then takes the folder for a Hub id, and hides every reason behind one line: "Can't find 'adapter_config.json'".

Why it happens: only the weights were copied; the folder is a checkpoint written by a trainer without PEFT; an adapter
was merged and the whole model saved; or it is another program's adapter.

Detection: the names of the files in the folder.

Fix: copy the config from where the adapter came from. For a trainer's checkpoint: build the model with the LoraConfig of
the training, load the checkpoint's state dict into it, then `save_pretrained`. A merged model is loaded without PEFT.

Workaround: `adapterfit fix --alpha NUMBER` writes the config of a LoRA: all of it that the tensors show. `lora_alpha` they do
not: it must be known, and it is the strength of the adapter.

Prevention: save with `model.save_pretrained(folder)` of the PeftModel, and copy the whole folder.

Setup:
    os.remove(CONFIG)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises ValueError: Can't find 'adapter_config.json' at 'adapter'

Fixed:
    LoraConfig(**OPTIONS, inference_mode=True).save_pretrained("adapter")  # the options of the training
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import between, said, suspect
from adapterfit.records import Adapter, Case, Fix, Flaw, Suspicion, TensorInfo
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms


def examples(make: Any) -> dict[str, list[Any]]:
    """A whole adapter is silent."""
    files = make.as_files(make.lora("llama"))
    weights = files[make.WEIGHTS]
    bad: list[dict[str, bytes]] = [
        {},
        {make.WEIGHTS: weights},
        {"config.json": b"{}", "model.safetensors": weights},
        {"pytorch_model.bin": b"", "trainer_state.json": b"{}", "global_step7/mp_rank_00_model_states.pt": b""},
    ]
    return {"silent": [make.folder(files)], "fires": [make.folder(each) for each in bad]}


_LORA = {
    "lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
}  # fmt: skip
CAUSE = Cause(
    messages=(
        "ValueError: Can't find 'adapter_config.json' at 'my-adapter'",
        "ValueError: Can't find config.json at 'my-adapter'",
    ),
    codes=("adapter-config-missing", "merged-model-folder", "trainer-checkpoint"),
    minutes=10,
)


#: A LoRA's tensor under the name of its adapter.
_NAMED = re.compile(r"(?<=\.)(lora_(?:[AB]|embedding_[AB]|magnitude_vector))\.(?!weight$|bias$)[^.]+(?=\.|$)")


class Shown(NamedTuple):
    """A config as far as tensors show it, and the paths of the modules that they are for."""

    fields: Mapping[str, Any]
    modules: tuple[str, ...]


def shown(adapter: Adapter) -> Shown | None:
    """What the tensors of a LoRA show of its config: all but the strength, `?`. None where they are not all a LoRA's."""
    from adapterfit.causes import reconfigure  # for the few that need it

    tensors = _plain(adapter.tensors)
    layers = anatomy.of_modules(tensors)
    leaves = {evidence.parts(tensor.name).leaf for held in layers.values() for tensor in held}
    ranks = reconfigure.ranks_in(layers)
    if not ranks or not leaves <= _LORA:
        return None
    rank = Counter(ranks.values()).most_common(1)[0][0]
    fields: dict[str, Any] = {"peft_type": "LORA", "r": rank, "lora_alpha": "?"}
    fields["target_modules"] = sorted({module.rpartition(".")[2] for module in layers})
    others = {module: found for module, found in ranks.items() if found != rank}
    fields.update({"rank_pattern": others} if others else {})
    fields.update({"use_dora": True} if any("magnitude" in leaf for leaf in leaves) else {})
    fields.update({"lora_bias": True} if "lora_B.bias" in leaves else {})
    whole: dict[str, set[str]] = {}
    for name in (t.name[len(evidence.PREFIX) :] for t in tensors if not evidence.parts(t.name).leaf):
        module, _, leaf = name.rpartition(".")
        whole.setdefault(module, set()).add(leaf)
    biased = {module.removesuffix(".base_layer") for module, held in whole.items() if held == {"bias"}}
    # Of a module that is saved whole the weight is there, too; where biases alone are, they were trained.
    fields.update({"bias": "lora_only" if biased <= layers.keys() else "all"} if biased else {})
    saved = {module.rpartition(".")[2] for module in whole if module.removesuffix(".base_layer") not in biased}
    fields.update({"modules_to_save": sorted(saved - {"base_layer"})} if saved - {"base_layer"} else {})
    return Shown(fields, tuple(sorted(layers)))


def _plain(tensors: Sequence[TensorInfo]) -> Sequence[TensorInfo]:
    """The tensors as PEFT names them, without an adapter's name or wrappers around the model: causes of their own."""
    from adapterfit.causes.names.wrapper_prefix import WRAPPERS, unwrapped  # for the few that need it

    names = []
    for tensor in tensors:
        _, _, inside = unwrapped(tensor.name, WRAPPERS, set()).rpartition(evidence.PREFIX)
        names.append(evidence.PREFIX + _NAMED.sub(r"\1", inside))
    if len(set(names)) < len(names):
        return tensors
    return [dataclasses.replace(tensor, name=name) for tensor, name in zip(tensors, names)]


def cure(case: Case, flaw: Flaw) -> Fix | None:
    """The config as far as the tensors show it. The strength they do not show: it is asked for, and never guessed."""
    found = shown(case.adapter) if flaw.code == "adapter-config-missing" else None
    if found is None:
        return None
    said = show(json.dumps(found.fields), 400)
    return Fix(
        "unsafe",
        f"copy the config from where the adapter came from; or write {said}, with the lora_alpha of the training for the question "
        "mark: it is the strength of the adapter, and no tensor shows it; adapterfit fix --alpha NUMBER writes it",
    )


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "adapter_config.json",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "_get_peft_type"): 0.5}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's line, unless the exception above it says why."""
    told = _lacking(symptoms) or said(
        symptoms,
        "can't find 'adapter_config.json'",
        "can't find config.json",
        "can't find `adapter_config.json`",
        "no adapter_config.json",
        'can\'t find "adapter_config.json"',
    )
    told += (
        said(symptoms, "no such file or directory: 'adapter_config.json", "/adapter_config.json'")
        if not told and _absent(symptoms)
        else ()
    )
    absent = tuple(
        u.line for u in symptoms.urls if u.repo and u.file.endswith("adapter_config.json") and u.status == 404
    )
    if absent and not told and said(symptoms, "entrynotfounderror", "entry not found for url"):
        yield suspect(
            symptoms, "the repository is there and holds no adapter_config.json", 0.75, absent, fix=_heard_fix(""),
            apart="the repository's list of files: the adapter may lie in a folder of it (subfolder=…)",
        )  # fmt: skip
    native = said(symptoms, "adapter model file not found in")
    if native:
        yield suspect(
            symptoms, "transformers finds no adapter_config.json where it was told to look", 0.7, native, fix=_heard_fix(""),
            apart="whether the folder is there at all",
        )  # fmt: skip
    folders = _checkpoints(symptoms) if not told else ()
    if folders:
        yield suspect(
            symptoms, "a folder with a trainer's files and a whole model's weights, and no adapter_config.json", 0.55, folders, fix=_heard_fix(""),
            apart="the names of the tensors in it: with lora_ among them it is an adapter's checkpoint",
        )  # fmt: skip
    if not told:
        return
    hub = any(url.status in {401, 403, 404} for url in symptoms.urls) or bool(
        said(symptoms, "repository not found", "gated repo")
    )
    path = any(error.kind == "HFValidationError" for error in symptoms.errors)
    where = between(symptoms, "adapter_config.json' at ") or between(symptoms, "config.json at ")
    named = f" in {quote(where)}" if where else ""
    yield suspect(
        symptoms, f"there is no adapter_config.json{named}: a trainer's checkpoint, a merged model, or another program's file",
        0.45 if hub else 0.55 if path else 0.86, told,
        fix=_heard_fix(where),
        apart="the files in the folder, and the exception above this one: HFValidationError means a wrong path, 401 or 404 the Hub",
    )  # fmt: skip


#: Words for what is not there, in the languages of most reports.
_LACK = (
    "can't find", "cannot find", "could not find", "not found", "no such file", "does not appear to have", "doesn't have", "does not have", "missing",
    "does not exist", "doesn't exist", "there is no", "no adapter_config", "have no", "has no", "not contain", "找不到", "没有", "不存在", "缺少",
)  # fmt: skip


def _lacking(symptoms: Symptoms) -> tuple[int, ...]:
    """Lines that name the file and say that it is not there."""
    lines = said(symptoms, "adapter_config.json")
    spoken = ((line, symptoms.lines[line].lower()) for line in lines)
    return tuple(
        line
        for line, words in spoken
        if "://" not in words
        and "--" not in words
        and "open adapter_config.json:" not in words
        and any(word in words for word in _LACK)
    )


#: What a trainer keeps beside the weights.
_TRAINERS = ("optimizer.pt", "trainer_state.json", "scheduler.pt", "scaler.pt", "rng_state", "training_args.bin")
#: Lines between two files of one listing.
_NEAR = 3


def _checkpoints(symptoms: Symptoms) -> tuple[int, ...]:
    """Lines of listings that are a trainer's checkpoint with a model's weights, and no adapter's."""
    if not said(symptoms, "lora", "adapter", "peft", most=1):
        return ()
    folders: list[dict[str, int]] = []
    last = -_NEAR - 1
    for file in symptoms.files:
        if file.line - last > _NEAR or (
            file.line != last and len(folders[-1]) > 1 and set(folders[-1].values()) == {last}
        ):
            folders.append({})  # another folder: far away, or a whole listing on each line
        folders[-1][file.name.rpartition("/")[2]] = last = file.line
    return tuple(
        next(iter(names.values()))
        for names in folders
        if {"pytorch_model.bin", "model.safetensors"} & set(names)
        and any(name.startswith(_TRAINERS) for name in names)
        and not any(name.startswith("adapter_") for name in names)
    )


def _absent(symptoms: Symptoms) -> bool:
    return any(
        error.kind == "FileNotFoundError" and "adapter_config.json" in error.message and "'--" not in error.message
        for error in symptoms.errors
    )


def _heard_fix(where: str) -> str:
    if where.endswith((".safetensors", ".bin", ".pt", ".ckpt")):
        return "give the folder, not the file; a diffusers file (pytorch_lora_weights) is loaded with pipe.load_lora_weights"
    return "list the folder: with pytorch_model.bin, load that into get_peft_model(base, config); with a merged model, load it without PEFT"


def logs() -> dict[str, list[str]]:
    """The line alone, new and old; with a reason above it, the reason is the answer."""
    return {
        "fires": [
            "ValueError: adapter model file not found in /data/runs/best. Make sure you are passing the correct path to the adapter model.",
            "ValueError: Can't find 'adapter_config.json' at 'output/checkpoint-100'",
            "ValueError: Can't find config.json at 'my-lora'",
            "My LoRA, checkpoint-500, holds: optimizer.pt, rng_state.pth, scheduler.pt, trainer_state.json, model.safetensors",
        ],
        "silent": [
            (
                "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': './out/lora/x'.\n"
                "ValueError: Can't find 'adapter_config.json' at './out/lora/x'"
            ),
        ],
    }
