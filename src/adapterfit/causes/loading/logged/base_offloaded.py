"""The base does not fit into memory, and its offloaded layers get in the adapter's way.

What this means: with `device_map="auto"` accelerate puts layers on the CPU, the disk or the meta device. PEFT then needs an offload
folder of its own, or looks for modules under names with one `model.` too many, or finds tensors without data. The adapter itself
is fine. The base may not be afterwards: measured with PEFT 0.21.2 and transformers 5.23.0, where layers lie on the disk and the base
is one safetensors file, loading an adapter writes that file anew, under PEFT's names and with the adapter in it. The model answers
rightly; the next one that is loaded from the file starts with random numbers.

Why it happens: too little GPU memory, or memory that another process holds.

Detection: an error about `offload_dir`, meta tensors, or a KeyError with `base_model.model.model.model.` in `_update_offload`.

Fix: put everything on one device, `device_map={"": 0}` or `"cpu"`, for the base and for PeftModel. Where layers must lie on the
disk, give `offload_folder` to both, and load a copy of the base: its file is written over.

Workaround: load the base quantised, so that it fits.

Prevention: look at `model.hf_device_map` before an adapter is loaded: "disk" or "cpu" in it is a warning.

Setup:
    room = {"cpu": 60000}  # bytes: less than the base needs

Broken:
    base = AutoModelForCausalLM.from_pretrained("base", device_map="auto", max_memory=room, offload_folder="offload")
    "disk" in base.hf_device_map.values()  # -> True
    model = PeftModel.from_pretrained(base, "adapter", max_memory=room)
    as_trained(model)  # -> True
    "model.embed_tokens.weight" in load_file("base/model.safetensors")  # PEFT has written over the base's own file
    # -> False

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base", device_map={"": "cpu"})  # or {"": 0}: all of it on one device
    model = PeftModel.from_pretrained(base, "adapter", device_map={"": "cpu"})
    as_trained(model)  # -> True
    "model.embed_tokens.weight" in load_file("base/model.safetensors")  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "ValueError: We need an `offload_dir` to dispatch this model according to this `device_map`, ...",
        "KeyError: 'base_model.model.model.model.layers.14.mlp.down_proj'",
        "NotImplementedError: Cannot copy out of meta tensor; no data!",
    ),
)
#: Words → how sure they are.
_WORDS = (
    ("we need an `offload_dir`", 0.95),
    ("we need an offload_dir", 0.95),
    ("offload_dir is none and", 0.9),
    ("_update_offload", 0.93),
    ("cannot copy out of meta tensor", 0.91),
    ("some modules are dispatched on the cpu or the disk", 0.92),
    ("provide an `offload_folder`", 0.92),
    ("pass along an `offload_folder`", 0.92),
    ("move a model that has some modules offloaded", 0.9),
    ("placed part of it on the cpu", 0.9),
    ("has not been mapped to a device", 0.8),
    ("does not contain the module", 0.75),
    ("does not give any device for the following parameters", 0.8),
    ("offload_dir", 0.8),
    ("is on the meta device", 0.8),
    ("is not on the expected device meta", 0.8),
    ("disk offloading currently only supported", 0.92),
    ("some parameters are on the meta device", 0.75),
    ("to a meta parameter in the current model", 0.86),
    ("safetensorerror: device meta is invalid", 0.86),
    ("dispatch_model(", 0.6),
)
#: The same error in anybody's words: the CPU and a GPU, and one device that is wanted.
_TWO_DEVICES = re.compile(
    r"\bcpu\b[^.\n]{0,60}\b(?:gpu|cuda)[^.\n]{0,80}\bsame device\b|\bsame device\b[^.\n]{0,80}\bcpu\b[^.\n]{0,60}\b(?:gpu|cuda)"
)
_DOUBLED = "base_model.model.model.model."

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "offload", "device_map", "meta tensor", "meta device", "out of memory",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {
    ("accelerate", "dispatch_model"): 0.7,
    ("peft", "_update_offload"): 0.7,
    ("accelerate", "infer_auto_device_map"): 0.55,
    ("accelerate", "get_balanced_memory"): 0.5,
    ("accelerate", "attach_align_device_hook"): 0.5,
    ("accelerate", "set_module_tensor_to_device"): 0.4,
}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: accelerate's and PEFT's words about offloading, or a module's name with a level too many."""
    fix = 'device_map={"": 0} (or "cpu") for the base and for PeftModel, or a copy of the base and offload_folder="offload" in both calls'
    for phrase, likelihood in _WORDS:
        told = said(symptoms, phrase)
        if told:
            yield suspect(
                symptoms, "the base does not fit into memory; layers of it are offloaded", likelihood, told, fix=fix
            )
            break
    devices = said(symptoms, "expected all tensors to be on the same device")
    spoken = _TWO_DEVICES.search(symptoms.folded) if not devices else None
    devices = devices or (() if spoken is None else (line_of(symptoms, spoken.start()),))
    if devices and said(symptoms, "lora", "peft", "adapter", most=1):
        yield suspect(
            symptoms, "parts of base and adapter lie on different devices", 0.5, devices, fix=fix,
            apart="model.hf_device_map, and {p.device for p in model.parameters()}: which tensors are on the cpu",
        )  # fmt: skip
    bare = [error.line for error in symptoms.errors if error.kind == "NotImplementedError" and not error.message]
    if bare and said(symptoms, "from_pretrained"):
        yield suspect(
            symptoms, "while a model is loaded, a NotImplementedError nearly always is a tensor on the meta device", 0.6, bare, fix=fix,
            apart="the last line of the traceback: Cannot copy out of meta tensor",
        )  # fmt: skip
    lost = [error.line for error in symptoms.errors if error.kind == "KeyError" and not error.message]
    if lost and said(symptoms, "device_map") and said(symptoms, "set_peft_model_state_dict(", "load_adapter("):
        yield suspect(
            symptoms, "a KeyError while PEFT puts weights into a model with a device_map mostly is an offloaded layer", 0.5, lost, fix=fix,
            apart="the last line of the traceback: a name with one `model.` too many",
        )  # fmt: skip
    hooks = [
        frame.line
        for frame in symptoms.frames
        if frame.library == "accelerate" and frame.file.startswith(("hooks", "utils/offload"))
    ]
    missed = [
        e.line
        for e in symptoms.errors
        if e.kind == "KeyError"
        and e.message.strip("'\" ").startswith("base_model.model.")
        and ".lora_" not in e.message
    ]
    if hooks and missed:
        yield suspect(
            symptoms,
            "accelerate looks for an offloaded weight under PEFT's name, and stored it under the base's",
            0.89,
            [*hooks, *missed],
            fix=fix,
        )
    doubled = [key for key in symptoms.keys if key.name.startswith(_DOUBLED) and ".lora_" not in key.name]
    if doubled and said(symptoms, "keyerror"):
        yield suspect(
            symptoms,
            "PEFT looks for an offloaded module under a name with one level too many",
            0.93,
            [key.line for key in doubled],
            fix=fix,
        )


def logs() -> dict[str, list[str]]:
    """Three faces of one cause; a tensor's name is another KeyError."""
    return {
        "fires": [
            "UserWarning: for model.layers.3.mlp.up_proj.lora_A.default.weight: copying from a non-meta parameter in the checkpoint to a meta parameter in the current model, which is a no-op.",
            "ValueError: We need an `offload_dir` to dispatch this model according to this `device_map`, the following submodules need to be offloaded: lm_head.",
            "KeyError: 'base_model.model.model.model.layers.3.mlp.up_proj'",
            "NotImplementedError: Cannot copy out of meta tensor; no data!",
        ],
        "silent": [
            "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cpu and cuda:0!",
            "KeyError: 'base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight'",
        ],
    }
