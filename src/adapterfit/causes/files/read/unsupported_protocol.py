"""The `.bin` is a pickle of another protocol than torch writes.

What this means: torch.save writes protocol 2. With protocol 4 or 5, torch's own `weights_only=True` stops at an
instruction it does not know.

Why it happens: somebody passed `pickle_protocol=` to `torch.save`, or wrote the file with `pickle.dump`.

Detection: the pickle's second byte.

Fix: save again without `pickle_protocol`, or as safetensors.

Workaround: on the machine that wrote it, load the file and save it again.

Prevention: leave `pickle_protocol` alone.

Setup:
    tensors = load_file(WEIGHTS)
    os.remove(WEIGHTS)

Broken:
    torch.save(tensors, "adapter/adapter_model.bin", pickle_protocol=4)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises UnpicklingError: Weights only load failed.

Fixed:
    torch.save(tensors, "adapter/adapter_model.bin")  # protocol 2, as it is by default
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="intermediate",
    messages=(
        "UserWarning: Detected pickle protocol 4 in the checkpoint, which was not the default pickle protocol",
        "_pickle.UnpicklingError: Weights only load failed.",
    ),
    codes=("unsupported-protocol",),
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
                        forge.torch_zip(forge.pickled(forge.table((forge.text("a"), forge.tensor())), 4))
                    )
                }
            )
        ],
    }
