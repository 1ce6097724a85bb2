"""The .bin remembers the GPU it was saved on.

What this means: a pickled tensor carries the number of its device. On a machine without that GPU `torch.load` stops, before PEFT
has seen a single name.

Why it happens: the adapter was saved as adapter_model.bin from a GPU, and is loaded without `map_location`, as PEFT before
0.3 did.

Detection: torch names the device that is missing.

Fix: upgrade PEFT, which maps to the CPU first; in a script of your own, `torch.load(path, map_location="cpu", weights_only=True)`.

Workaround: load it once on a machine with that device, and save it as safetensors.

Prevention: save as safetensors (the default since PEFT 0.7): it knows no devices.

Setup:
    from unittest import mock

    with mock.patch("torch.serialization.location_tag", lambda storage: "cuda:7"):  # saved on the eighth GPU
        torch.save(load_file(WEIGHTS), "adapter/adapter_model.bin")
    os.remove(WEIGHTS)

Broken:
    weights = torch.load("adapter/adapter_model.bin", weights_only=True)
    # raises RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False.

Fixed:
    weights = torch.load("adapter/adapter_model.bin", map_location="cpu", weights_only=True)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    set_peft_model_state_dict(model, weights).unexpected_keys  # -> []
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "RuntimeError: Attempting to deserialize object on CUDA device 7 but torch.cuda.device_count() is 2.",
        "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False.",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "map_location",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: torch's own words."""
    told = said(symptoms, "attempting to deserialize object on")
    if told:
        yield suspect(
            symptoms, "the .bin was saved on a GPU that this machine does not have", 0.95, told,
            fix='torch.load(path, map_location="cpu", weights_only=True), or a newer peft',
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A device that is missing; a file that is damaged."""
    return {
        "fires": [
            "RuntimeError: Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False."
        ],
        "silent": ["RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"],
    }
