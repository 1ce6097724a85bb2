"""A file of the adapter has another name than the one PEFT looks for.

What this means: PEFT knows exactly three names: adapter_config.json, adapter_model.safetensors and adapter_model.bin.
A browser's "adapter_model (5).bin", a doubled ending, shards or the parts of a split file are not seen.

Why it happens: the file was downloaded twice, split for an upload, or saved by another program.

Detection: names that resemble the three, in the place of one of them; or one file of safetensors alone beside the config.

Fix: `adapterfit fix` writes shards, parts, or weights under another name as the one file that PEFT reads. Or rename the file;
join parts: `cat adapter_model.safetensors.part* > adapter_model.safetensors`.

Workaround: none.

Prevention: download whole folders with `hf download`.

Setup:
    os.rename(CONFIG, "adapter/adapter_config (1).json")  # downloaded twice

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises ValueError: Can't find 'adapter_config.json' at 'adapter'

Fixed:
    os.rename("adapter/adapter_config (1).json", CONFIG)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import ALIKE, config_is_missing, said, suspect
from adapterfit.edits import Gather
from adapterfit.records import Adapter, Case, Fix, Flaw, Suspicion, Weights
from adapterfit.text import quote, shorten

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

_LIKE = re.compile(r"adapter[ _-]?model", re.IGNORECASE)
_SHARD = re.compile(r"-\d+-of-(?P<of>\d{1,5})\.")


def cure(case: Case, _flaw: Flaw) -> Fix | None:
    """Weights under another name, in shards or parts, are written as the one file that PEFT reads; so far none was seen."""
    adapter = case.adapter
    if adapter.config is None or adapter.weights is not None or not adapter.others:
        return None
    if not all(_is_ours(each) for each in adapter.others) or _twice(adapter):
        return None
    files = tuple(each.file for each in adapter.others)
    count = sum(len(each.tensors or each.intact) for each in adapter.others)
    said = f"write the {count} tensors of {shorten(map(quote, files))} as adapter_model.safetensors"
    shards = [_SHARD.search(name) for name in files]
    if any(shards):
        wanted = {int(match["of"]) for match in shards if match}
        if not all(shards) or len(wanted) != 1:
            return None
        missing = max(wanted) - len(files)
        if missing:
            return Fix("unsafe", said, (Gather(files),), f"{missing} of {max(wanted)} shards are not here")
    if not any(shards) and len(files) != 1:
        return None
    lost = [name for each in adapter.others for name in each.lost]
    far = f"{len(lost)} of {count + len(lost)} tensors lie behind its end and are lost: {shorten(map(quote, lost), 10)}"
    return Fix("unsafe", said, (Gather(files),), far) if lost else Fix("safe", said, (Gather(files),))


def _is_ours(found: Weights) -> bool:
    """Weights of an adapter by their file's name or their own, of which at least something is whole."""
    whole = found.intact if found.refused else found.tensors
    return bool(whole) and (bool(_LIKE.match(found.file)) or any(evidence.parts(one.name).leaf for one in whole))


def _twice(adapter: Adapter) -> bool:
    names = [tensor.name for each in adapter.others for tensor in each.tensors or each.intact]
    return len(set(names)) != len(names)


def examples(make: Any) -> dict[str, list[Any]]:
    """Files that belong to no adapter are silent."""
    files = make.as_files(make.lora("llama"))
    config, weights = files[make.CONFIG], files[make.WEIGHTS]
    bad = [
        {"adapter_config (5).json": config, "adapter_model (5).safetensors": weights},
        {"adapter_config.json.json": config, make.WEIGHTS: weights},
        {make.CONFIG: config, "adapter_model.safetensors.partaa": weights, "adapter_model.safetensors.partab": b""},
        {make.CONFIG: config, "adapter_model-00001-of-00002.safetensors": weights},
        {make.CONFIG: config, "model.safetensors": weights},
        {make.CONFIG: config, "my_lora.safetensors": weights},
    ]
    return {"silent": [make.folder({**files, "README.md": b""})], "fires": [make.folder(each) for each in bad]}


CAUSE = Cause(
    messages=("ValueError: Can't find 'adapter_config.json' at 'my-adapter'",),
    codes=("wrong-file-in-folder",),
    minutes=1,
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "weight_name=", "pytorch_lora_weights",
)  # fmt: skip

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("diffusers", "_fetch_state_dict"): 0.45}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a whole model's file where an adapter's is meant, or a name that is almost right."""
    told = said(
        symptoms,
        'weight_name="model.safetensors"',
        "weight_name='model.safetensors'",
        'weight_name="pytorch_model.bin"',
    )
    if told:
        yield suspect(
            symptoms, "model.safetensors of a training checkpoint is the trainer's whole state, not the LoRA", 0.85, told,
            fix='weight_name="pytorch_lora_weights.safetensors"',
        )  # fmt: skip
    odd = [file for file in symptoms.files if _is_odd(file.name)]
    if odd:
        yield suspect(
            symptoms, f"{quote(odd[0].name)} is not a name that PEFT looks for", 0.75, [file.line for file in odd],
            fix="rename it to adapter_config.json, adapter_model.safetensors or adapter_model.bin; join parts with cat",
        )  # fmt: skip
    if config_is_missing(symptoms):
        yield suspect(
            symptoms, "the folder may hold the config under a name that PEFT does not look for", 0.86 - ALIKE / 2,
            config_is_missing(symptoms), fix="rename it to adapter_config.json, adapter_model.safetensors or adapter_model.bin",
            apart="ls of the folder: adapter_config(1).json, adapter_config.json.txt and the like mean this cause",
        )  # fmt: skip


def _is_odd(name: str) -> bool:
    last = name.rpartition("/")[2]
    known = last in {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}
    return last.startswith(("adapter_config", "adapter_model")) and not known


def logs() -> dict[str, list[str]]:
    """Downloaded twice; a trainer's file; the right names."""
    return {
        "fires": [
            "adapter_config (1).json\nadapter_model (1).safetensors",
            'pipe.load_lora_weights("run/checkpoint-500", weight_name="model.safetensors")',
        ],
        "silent": ["adapter_config.json\nadapter_model.safetensors"],
    }
