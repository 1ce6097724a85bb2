"""A tensor shows a few numbers as very many.

What this means: a view with stride 0 repeats one number without storing it: a file of a kilobyte may hold a tensor of
terabytes, which fills the memory as soon as something copies it.

Why it happens: `tensor.expand(...)` was saved without `.contiguous()`, or the file was made to exhaust a loader.

Detection: strides and sizes against the number of stored elements.

Fix: save again with `.contiguous()`.

Workaround: none.

Prevention: save state dicts of modules, not of views.

Setup:
    tensors = load_file(WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    tensors[name] = torch.full((1, 1), 0.5).expand(32, 4)  # one number, shown as 128
    os.remove(WEIGHTS)
    torch.save(tensors, "adapter/adapter_model.bin")

Broken:
    found()  # -> ['expanded-tensor']
    weights = torch.load("adapter/adapter_model.bin", weights_only=True)
    weights[name].numel() > weights[name].untyped_storage().nbytes()  # -> True
    save_file(weights, "adapter/adapter_model.safetensors")
    # raises ValueError: You are trying to save a non contiguous tensor

Fixed:
    weights = torch.load("adapter/adapter_model.bin", weights_only=True)
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(weights, "adapter/adapter_model.safetensors")
    os.remove("adapter/adapter_model.bin")
    found()  # -> []
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        "ValueError: You are trying to save a non contiguous tensor: `base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight` which is not allowed.",
    ),
    level="advanced",
    codes=("expanded-tensor",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [
            plain,
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.of(forge.tensor((2, 2), (1, 2)))))}),
        ],
        "fires": [
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.of(forge.tensor((2**40,), (0,)))))})
        ],
    }
