"""The adapter lies in a folder below the one that was given.

What this means: PEFT looks into the given folder only. An adapter that is not called "default" is saved into a folder
of its own name, and a Trainer saves into `checkpoint-N`.

Why it happens: `get_peft_model(model, config, adapter_name="x")` was used for the training, or the output folder of a
training was given instead of a checkpoint.

Detection: a sub-folder holds adapter_config.json, the folder itself does not; or config and weights lie apart.

Fix: give the sub-folder.

Workaround: `PeftModel.from_pretrained(base, folder, subfolder="x")`.

Prevention: leave the adapter's name at "default" where one adapter is enough.

Setup:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = noise(get_peft_model(base, LoraConfig(**OPTIONS), adapter_name="french"))
    trained = logits(model)
    model.save_pretrained("out")  # into out/french, since the adapter is not called "default"

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "out")
    # raises ValueError: Can't find 'adapter_config.json' at 'out'

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "out/french")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import ALIKE, config_is_missing, older, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms


def examples(make: Any) -> dict[str, list[Any]]:
    """Checkpoints below a whole adapter are silent."""
    files = make.as_files(make.lora("llama"))
    below = {f"english/{name}": data for name, data in files.items()}
    steps = {f"checkpoint-{step}/{name}": data for name, data in files.items() for step in (20, 100)}
    both = make.folder({**files, **steps})
    return {"silent": [make.folder(files), both], "fires": [make.folder(below), make.folder(steps)]}


CAUSE = Cause(
    messages=(
        "ValueError: Can't find 'adapter_config.json' at 'my-adapter'",
        "ValueError: Can't find a valid checkpoint at checkpoint-300",
    ),
    codes=("adapter-in-subfolder",),
    minutes=1,
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "subfolder",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the Trainer finds nothing in a checkpoint; a listing with a folder and no adapter; the subfolder keyword."""
    fix = "give the folder below, or PeftModel.from_pretrained(base, folder, subfolder=NAME)"
    told = said(symptoms, "can't find a valid checkpoint at")
    beside = [file for file in symptoms.files if not file.folder and file.name.startswith("adapter_")]
    if told:
        old = older(symptoms, "transformers", "4.31.0")
        yield suspect(
            symptoms, "the Trainer finds no adapter in the checkpoint: a named adapter lies in a folder of its own name", 0.5 if old or beside else 0.8,
            told, fix=fix, apart="the checkpoint's folder: adapter_model.* in it means an old Trainer, a sub-folder a named adapter",
        )  # fmt: skip
    folders = [
        file for file in symptoms.files if file.folder and not file.name.startswith(("global_step", "checkpoint-", "."))
    ]
    checkpoint = [
        file
        for file in symptoms.files
        if file.name in {"optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth"}
    ]
    if folders and checkpoint and not beside:
        yield suspect(
            symptoms, f"the checkpoint holds no adapter, but a folder {quote(folders[0].name)}: a named adapter lies there", 0.85,
            [folders[0].line, checkpoint[0].line], fix=f"PeftModel.from_pretrained(base, folder, subfolder={quote(folders[0].name)})",
        )  # fmt: skip
    keyword = said(symptoms, "subfolder='", 'subfolder="', "subfolder = '", 'subfolder = "')
    if keyword:
        yield suspect(
            symptoms,
            "the adapter lies in a folder below; the loader did not look there",
            0.7,
            keyword,
            fix="give the folder itself, or upgrade peft",
        )
    if config_is_missing(symptoms):
        yield suspect(
            symptoms, "the adapter may lie in a folder below this one: a checkpoint-N, or one of the adapter's name", 0.86 - ALIKE / 2,
            config_is_missing(symptoms), fix="give the folder below, or PeftModel.from_pretrained(base, folder, subfolder=NAME)",
            apart="ls of the folder: another folder in it, and no adapter_config.json, mean this cause",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The Trainer's line; a listing; a checkpoint that holds its adapter."""
    row = "{} 2 me me {} Jan 1 10:00 {}"
    return {
        "fires": [
            "ValueError: Can't find a valid checkpoint at out/checkpoint-20",
            row.format("drwxr-xr-x", 4096, "english") + "\n" + row.format("-rw-r--r--", 9000, "optimizer.pt"),
        ],
        "silent": [
            row.format("-rw-r--r--", 90000, "adapter_model.bin") + "\n" + row.format("-rw-r--r--", 9000, "optimizer.pt")
        ],
    }
