"""The file's name says another format than its content.

What this means: PEFT picks the loader by the name alone: a `.bin` that is called `adapter_model.safetensors` ends in
*header too large*, safetensors called `adapter_model.bin` in *Weights only load failed*. The content itself is intact
and was read here.

Why it happens: somebody renamed a file to make a loader take it; renaming does not convert.

Detection: the format is decided by the first bytes and compared with the name's ending.

Fix: `adapterfit fix` writes the tensors as `adapter_model.safetensors`. Or rename the file to what it is:
`adapter_model.bin` for a torch file, `adapter_model.safetensors` for safetensors.

Workaround: for a `.bin` that must become safetensors: load it and save it again with `save_pretrained`.

Prevention: convert with a converter, not by renaming.

Setup:
    weights = load_file(WEIGHTS)
    os.remove(WEIGHTS)
    torch.save(weights, WEIGHTS)  # a torch file under the name of safetensors

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError: Error while deserializing header: header too large

Fixed:
    os.rename("adapter/adapter_model.safetensors", "adapter/adapter_model.bin")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause
from adapterfit.edits import SetFormat
from adapterfit.records import Case, Fix, Flaw

CAUSE = Cause(
    messages=(
        "SafetensorError: Error while deserializing header: header too large",
        "_pickle.UnpicklingError: Weights only load failed.",
    ),
    minutes=2,
    codes=("wrong-extension",),
)


def cure(case: Case, _flaw: Flaw) -> Fix | None:
    """Its tensors lie open, whatever the name says: they can be written as what the name promises."""
    weights = case.adapter.weights
    if weights is None or any(one.span is None and one.view is None for one in weights.tensors):
        return None
    return Fix("safe", f"write its {len(weights.tensors)} tensors as adapter_model.safetensors", (SetFormat(),))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file({forge.ST: forge.GOOD_BIN}),
            make.weights_file({forge.BIN: forge.GOOD_ST}),
            make.weights_file({forge.BIN: forge.GOOD_NPZ}),
        ],
    }
