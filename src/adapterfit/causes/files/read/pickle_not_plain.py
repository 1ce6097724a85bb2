"""The `.bin` wants to do more than describe tensors.

What this means: a `.bin` is a pickle, a small program. A plain dict of tensors needs a few dozen instructions and
names of torch; this one asks for something else, which is named. It was not run. torch's `weights_only=True` refuses
most of it too. PEFT asks for that since 0.13, and torch itself since 2.6; older ones of both run it.

Why it happens: the file was saved with other objects in it (training arguments, numpy numbers, an argparse Namespace,
a whole model), or it is an attack.

Detection: the pickle is read instruction by instruction against a closed set; no list of dangerous names is kept.

Fix: get the adapter as safetensors. If it is your own, save only tensors: `model.save_pretrained(...)`.

Workaround: if you trust its author entirely, load it on a machine of no value, and save the tensors as safetensors.

Prevention: publish safetensors only.

Setup:
    import argparse

    tensors = load_file(WEIGHTS)
    os.remove(WEIGHTS)
    torch.save({**tensors, "args": argparse.Namespace(r=4)}, "adapter/adapter_model.bin")  # not tensors only

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises UnpicklingError: Weights only load failed.

Fixed:
    with torch.serialization.safe_globals([argparse.Namespace]):  # your own file: you know what is in it
        held = torch.load("adapter/adapter_model.bin", weights_only=True)
    save_file({name: tensor for name, tensor in held.items() if name != "args"}, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    messages=(
        "_pickle.UnpicklingError: Weights only load failed.",
        "WeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace was not an allowed global by default.",
    ),
    minutes=10,
    codes=("pickle-not-plain", "pickle-run-by-loader"),
)


#: Words of torch on what it does not run.
_OTHER = (
    "unsupported global",
    "unsupported class",
    "was not an allowed global",
    "types accepted by default with weights_only",
    "add_safe_globals",
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: torch refuses what is in the pickle; of a trainer's random states it says the same."""
    told = said(symptoms, "weights only load failed", "weights_only", *_OTHER)
    refused = said(symptoms, "weights only load failed", *_OTHER)
    if not refused:
        return
    own = said(symptoms, "lora", "peft", "adapter", most=1)
    states = any("rng" in frame.function or "optimizer" in frame.function for frame in symptoms.frames)
    operand = said(symptoms, "unsupported operand", "unpickler error: unsupported persistent")
    sure = 0.3 if states else 0.4 if operand or not own else 0.8 if said(symptoms, *_OTHER) else 0.6
    yield suspect(
        symptoms, "torch does not run what is in the pickle besides tensors", sure, told,
        fix="get the adapter as safetensors, or save tensors only; weights_only=False runs whatever the file says",
        apart="the name after Unsupported global: an object that was saved beside the tensors; Unsupported operand: no pickle of torch at all",
    )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """An object beside the tensors; a file that is no pickle."""
    return {
        "fires": [
            "_pickle.UnpicklingError: Weights only load failed. WeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace was not an allowed global by default. adapter_model.bin"
        ],
        "silent": ["_pickle.UnpicklingError: invalid load key, 'v'."],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file(
                {
                    forge.BIN: forge.zipped(
                        forge.torch_zip(forge.of(forge.call(forge.name("posix", "system"), forge.text("true"))))
                    )
                }
            ),
            make.weights_file({forge.BIN: b"cposix\nsystem\n(S'true'\ntR."}),
        ],
    }
