"""The tensors of the `.bin` do not lie where PEFT looks for them.

What this means: PEFT expects one dict of name → tensor. With the tensors one level down (`{'state_dict': {...}}`) it
finds none of its keys, warns, and leaves the adapter untrained; a list or a single tensor makes it raise. Numbers
beside the tensors are dropped.

Why it happens: a training loop saved its own checkpoint with `torch.save`, not with `save_pretrained`.

Detection: the kind of the values in the outermost dict.

Fix: load the file, and save the inner dict with `save_pretrained` or safetensors.

Workaround: `sd = torch.load(file, weights_only=True)['state_dict']`, then `set_peft_model_state_dict(model, sd)`.

Prevention: save adapters with `model.save_pretrained`.

Setup:
    torch.save({"state_dict": load_file(WEIGHTS), "epoch": 3}, "adapter/adapter_model.bin")  # by a training loop
    os.remove(WEIGHTS)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(model)  # -> True

Fixed:
    inner = torch.load("adapter/adapter_model.bin", weights_only=True)["state_dict"]
    save_file(inner, "adapter/adapter_model.safetensors")
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
        "UserWarning: Found missing adapter keys while loading the checkpoint:",
        "AttributeError: 'list' object has no attribute 'items'",
        "AttributeError: 'Tensor' object has no attribute 'copy'",
    ),
    codes=("wrapped-state-dict", "not-a-state-dict"),
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
                        forge.torch_zip(
                            forge.pickled(
                                forge.table((forge.text("state_dict"), forge.table((forge.text("a"), forge.tensor()))))
                            )
                        )
                    )
                }
            ),
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.pickled(forge.tensor())))}),
        ],
    }
