"""The error that is shown hides the one that happened.

What this means: the loader tries several ways, and reports only the last. What it says ("no file named pytorch_model.bin",
"Unrecognized model … model_type") is true and beside the point: the adapter failed before, for a reason that is not shown.

Why it happens: peft is not installed, so transformers takes the adapter for a model; or Unsloth tries config.json after
adapter_config.json failed, and shows the failure of the second.

Detection: a message about a whole model's files for something that is an adapter.

Fix: `pip install peft`, then load the adapter with PEFT alone, `PeftConfig.from_pretrained(adapter)`, and read what that says.

Workaround: none needed.

Prevention: when a loader offers several ways, try the plain one first.

Setup:
    change_config(peft_type="LORAX")  # what is really wrong

Broken:
    AutoConfig.from_pretrained("adapter")  # so does a loader that tries a model's config after the adapter's failed
    # raises ValueError: Unrecognized model in adapter. Should have a `model_type` key in its config.json

Fixed:
    try:
        PeftConfig.from_pretrained("adapter")  # PEFT alone says what is wrong with the adapter
    except KeyError as error:
        what = str(error)
    what  # -> "'LORAX'"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import ALIKE, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=3,
    messages=(
        "OSError: Error no file named pytorch_model.bin, model.safetensors, tf_model.h5, model.ckpt.index or flax_model.msgpack found in directory my-adapter.",
        "ValueError: Unrecognized model in my-adapter. Should have a `model_type` key in its config.json",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "misleading error", "hides the", "swallow", "real error", "original error", "peft is not installed", "peft not installed", "masks the",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a complaint about a whole model's files."""
    fix = "pip install peft in this environment, then PeftConfig.from_pretrained(adapter): it names the real error"
    files = said(symptoms, "no file named pytorch_model.bin", "no file named model.safetensors")
    if files:
        spoken = said(symptoms, "lora", "adapter", "peft", most=1)
        yield suspect(
            symptoms, "transformers takes the folder for a whole model: it does so with an adapter where peft is not installed", 0.7 if spoken else 0.3, files, fix=fix,
            apart="pip show peft; and whether adapter_config.json lies in the folder",
        )  # fmt: skip
    model = said(symptoms, "unrecognized model in", "should have a `model_type` key")
    if model:
        unsloth = bool(said(symptoms, "unsloth", "fastlanguagemodel")) or any(
            frame.library.startswith("unsloth") for frame in symptoms.frames
        )
        yield suspect(
            symptoms, "the loader tried the adapter, then a model, and shows the failure of the second", 0.86 if unsloth else 0.7 - ALIKE / 2, model, fix=fix,
            apart="what PeftConfig.from_pretrained(adapter) says",
        )  # fmt: skip
    absent = said(symptoms, "peft is not installed. please install", "peft isn't installed in")
    if absent:
        yield suspect(
            symptoms, "PEFT is not there for the Python that runs, or is older than it should be", 0.5, absent, fix="python -m pip install -U peft, with the Python that runs; restart a notebook's kernel",
            apart="python -m pip show peft with that same Python",
        )  # fmt: skip
    both = said(symptoms, "both autoconfig and peftconfig loading failed")
    if both:
        yield suspect(
            symptoms,
            "Unsloth tried the folder as a model and as an adapter, and shows both failures",
            0.8,
            both,
            fix=fix,
            apart="the PeftConfig error in it",
        )
    nothing = said(symptoms, "unsloth: no config file found")
    if nothing:
        yield suspect(
            symptoms, "Unsloth found neither a model nor an adapter, and does not say why", 0.75, nothing, fix=fix
        )
    master = said(symptoms, "red herring", "look up to see its traceback", "please check the stack trace above")
    if master and not (files or model):
        yield suspect(
            symptoms,
            "the message points to another one above it",
            0.3,
            master,
            fix="read the first exception of the traceback, not the last",
        )


def logs() -> dict[str, list[str]]:
    """Unsloth's fallback; transformers without peft; PEFT's own line hides nothing here."""
    return {
        "fires": [
            "ValueError: PEFT is not installed. Please install it with `pip install peft`",
            "OSError: Error no file named pytorch_model.bin, model.safetensors, tf_model.h5 found in directory out/lora.",
            "File '/x/unsloth/models/loader.py'\nValueError: Unrecognized model in out/lora. Should have a `model_type` key in its config.json",
        ],
        "silent": ["ValueError: Can't find 'adapter_config.json' at 'x'"],
    }
