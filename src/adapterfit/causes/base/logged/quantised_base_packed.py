"""The base's weights are packed in four bits, and the loader reads them as plain ones.

What this means: bitsandbytes stores two weights in a byte, as one long column: `[N, 1]`. A loader that does not know this finds sizes
that fit nothing. The names are those of the base: the adapter has no part in it.

Why it happens: an nf4 or int4 checkpoint is loaded by a plain loader, often in ComfyUI or in a script that builds the model itself.

Detection: mismatches on names without lora_, with one column in the file.

Fix: use the loader for that format (the nf4 loader node; `BitsAndBytesConfig`), or a 16-bit or fp8 base.

Workaround: none without the full weights.

Prevention: keep the format in the file's name.

Setup:
    weights = load_file("base/model.safetensors")
    packed = {name: weight.flatten()[::2].to(torch.uint8)[:, None] for name, weight in weights.items() if weight.ndim == 2}
    save_file({**weights, **packed}, "packed.safetensors")  # two weights in a byte, in one column, as bitsandbytes has them

Broken:
    base = LlamaForCausalLM(llama())
    base.load_state_dict(load_file("packed.safetensors"))
    # raises RuntimeError: size mismatch for ... copying a param with shape torch.Size([1024, 1]) from checkpoint, the shape in current model is torch.Size([64, 32]).

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")  # 16 bits; or from_pretrained with a BitsAndBytesConfig, on a GPU
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "size mismatch for img_in.weight: copying a param with shape torch.Size([98304, 1]) from checkpoint, the shape in current model is torch.Size([3072, 64]).",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "nf4", "bnb", "4bit", "packed",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: base weights of one column."""
    found = sizes_of(symptoms, "quantised-base-packed")
    if found is not None:
        yield suspect(
            symptoms, f"weights of the base are packed ({found.shapes[0].key} is one column in the file): the adapter has no part in it", found.likelihood,
            found.lines, fix="use the loader for 4-bit checkpoints, or a 16-bit or fp8 copy of the base",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Packed weights of a base; a head of one label."""
    line = "size mismatch for {}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [line.format("double_blocks.0.img_attn.qkv.weight", "14155776, 1", "9216, 3072")],
        "silent": [line.format("base_model.model.lm_head.weight", "32001, 4096", "32000, 4096")],
    }
