"""The `.bin` wants to do more than describe tensors.

What this means: a `.bin` is a pickle, a small program. A plain dict of tensors needs a few dozen instructions and
names of torch; this one asks for something else, which is named. It was not run. torch's `weights_only=True` refuses
most of it too; an old torch runs it.

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

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        "_pickle.UnpicklingError: Weights only load failed.",
        "WeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace was not an allowed global by default.",
    ),
    minutes=10,
    codes=("pickle-not-plain",),
)


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
