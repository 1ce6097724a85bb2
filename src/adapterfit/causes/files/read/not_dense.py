"""A tensor of the `.bin` has no plain bytes.

What this means: it is sparse, quantised, nested, distributed or on the meta device (no data at all). PEFT raises when
it copies such a tensor into its layer.

Why it happens: the adapter was saved from a model on the meta device or from FSDP2/DTensor without gathering, or its
layers were quantised.

Detection: the name of the function that rebuilds the tensor.

Fix: gather (`full_tensor()`), densify or dequantise before saving.

Workaround: on the machine that wrote it: load, convert each tensor, save again.

Prevention: save through `accelerator.get_state_dict` and `save_pretrained`.

Setup:
    tensors = load_file(WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    os.remove(WEIGHTS)
    torch.save({**tensors, name: tensors[name].to_sparse()}, "adapter/adapter_model.bin")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: copy_() between dense and sparse Tensors is not implemented

Fixed:
    weights = torch.load("adapter/adapter_model.bin", weights_only=True)
    save_file({name: tensor.to_dense() for name, tensor in weights.items()}, "adapter/adapter_model.safetensors")
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
        "NotImplementedError: Cannot copy out of meta tensor; no data!",
        'RuntimeError: While copying the parameter named "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", ... an exception occurred',
    ),
    codes=("not-dense",),
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
                        forge.torch_zip(forge.of(forge.call(forge.name("torch._utils", "_rebuild_sparse_tensor"))))
                    )
                }
            )
        ],
    }
