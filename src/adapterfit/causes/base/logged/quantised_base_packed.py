"""The base's weights are packed in four bits, and the loader reads them as plain ones.

What this means: bitsandbytes stores two weights in a byte, as one long column: `[N, 1]`. A loader that does not know this finds sizes
that fit nothing. The names are those of the base: the adapter has no part in it.

Why it happens: an nf4 or int4 checkpoint is loaded by a plain loader, often in ComfyUI or in a script that builds the model itself.

A GGUF base is packed in blocks of 32 or 256 weights: its rows are nine sixteenths (Q4), or seventeen sixteenths (Q8_0), as long as
the layer is wide, and a loader that adds a LoRA to them stops at that.

Detection: mismatches on names without lora_, with one column in the file; or two widths that differ as a block and its weights do.

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

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.causes.tensor_names import DIFFUSION
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
    "nf4", "bnb", "packed",
)  # fmt: skip

#: A product in which the second matrix is one long row.
_FORWARD = re.compile(r"cannot be multiplied \(\d{1,9}x(\d{1,9}) and 1x(\d{1,12})\)")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: base weights of one column."""
    found = sizes_of(symptoms, "quantised-base-packed")
    if found is not None:
        yield suspect(
            symptoms, f"weights of the base are packed ({found.shapes[0].key} is one column in the file): the adapter has no part in it", found.likelihood,
            found.lines, fix="use the loader for 4-bit checkpoints, or a 16-bit or fp8 copy of the base",
        )  # fmt: skip

    forward = next((f for f in _FORWARD.finditer(symptoms.text) if _is_packed(int(f[1]), int(f[2]))), None)
    if forward is not None:
        yield suspect(
            symptoms, f"the layer's weight has {int(forward[2]):,} numbers in one row: it is packed, and the layer around it multiplies it as it is",
            0.8, [line_of(symptoms, forward.start())],
            fix="pip install -U peft bitsandbytes: their layers for 4 bits must know each other; or load the base in 16 bits",
            apart="the class of the layer: print(model.get_submodule(NAME)) says lora.Linear where it should say lora.Linear4bit",
        )  # fmt: skip
    column = next((f for f in _COLUMN.finditer(symptoms.text) if 2 * int(f[1]) == int(f[2]) * int(f[3])), None)
    if column is not None:
        yield suspect(
            symptoms, f"{int(column[1]):,} bytes in one column are a matrix of {column[2]} by {column[3]}, two numbers in each: the base is in 4 bits", 0.7,
            [line_of(symptoms, column.start())], fix="load the base in 16 bits (without load_in_4bit), put the adapter on that, and merge",
        )  # fmt: skip
    blocks = _blocks(symptoms)
    if blocks:
        line, packed, plain, kind = blocks
        yield suspect(
            symptoms, f"{packed:,} is {plain:,} in blocks of {kind}: the loader adds the LoRA to packed weights of the base", 0.85, [line],
            fix="use a loader that unpacks the base for LoRAs (a newer ComfyUI-GGUF, diffusers, PEFT), or a 16-bit or fp8 copy of the base",
        )  # fmt: skip


#: Bytes of a block and weights in it → the formats of GGUF that pack so.
_BLOCKS = {
    (18, 32): "Q4_0 or Q4_K", (22, 32): "Q5_0 or Q5_K", (34, 32): "Q8_0", (84, 256): "Q2_K", (110, 256): "Q3_K", (210, 256): "Q6_K",
    (20, 32): "Q4_1", (24, 32): "Q5_1",
}  # fmt: skip
#: Those whose ratio is also one of two widths that models have (1280 and 2048, 768 and 1024).
_COMMON = frozenset({"Q4_1", "Q5_1"})
#: Widths of models that are nine sixteenths of another model's.
_WIDTHS = frozenset({576, 1152, 3456, 2304})
_COLUMN = re.compile(r"\[(\d{1,12}), 1\][^\[\n]{1,60}\[(\d{1,7}), (\d{1,7})\]")
_PAIR = re.compile(r"size of tensor a \((\d{1,9})\) must match the size of tensor b \((\d{1,9})\)")
_VIEW = re.compile(r"shape '\[(\d{1,9}), (\d{1,9})\]' is invalid for input of size (\d{1,15})")


def _is_packed(width: int, numbers: int) -> bool:
    """Whether a row of so many bytes is a matrix of that width, two numbers in each byte."""
    return width > 0 and numbers > 2 * width and 2 * numbers % width == 0


def _blocks(symptoms: Symptoms) -> tuple[int, int, int, str] | None:
    """Line, packed width, width and format, where two widths differ as a packed row and its weights do."""
    spoken = bool(said(symptoms, "gguf", "ggml", "q4_", "q5_", "q8_", most=1))
    if not (spoken or any(mark in symptoms.folded for mark in DIFFUSION)) or not said(
        symptoms, "lora", "adapter", most=1
    ):
        return None
    for found in _PAIR.finditer(symptoms.text):
        one, other = int(found[1]), int(found[2])
        for packed, plain in ((one, other), (other, one)):
            kind = _kind(packed, plain, spoken=spoken)
            if kind:
                return line_of(symptoms, found.start()), packed, plain, kind
    for found in _VIEW.finditer(symptoms.text):
        rows, packed, size = int(found[1]), int(found[2]), int(found[3])
        kind = _kind(packed, size // rows, spoken=spoken) if rows and size % rows == 0 else ""
        if kind:
            return line_of(symptoms, found.start()), packed, size // rows, kind
    return None


def _kind(packed: int, plain: int, *, spoken: bool) -> str:
    """The format in which a row of `plain` weights has `packed` bytes; without a word of GGUF, only where no width explains it."""
    if plain < 256 or (packed in _WIDTHS and not spoken):
        return ""
    kinds = (
        kind for (size, weights), kind in _BLOCKS.items() if plain % weights == 0 and packed * weights == plain * size
    )
    return next((kind for kind in kinds if spoken or kind not in _COMMON), "")


def logs() -> dict[str, list[str]]:
    """Packed weights of a base; a head of one label."""
    line = "size mismatch for {}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("double_blocks.0.img_attn.qkv.weight", "14155776, 1", "9216, 3072"),
            "ERROR lora diffusion_model.blocks.0.ffn.0.weight The size of tensor a (1190) must match the size of tensor b (1120) at non-singleton dimension 1",
            "Bad in-place call: input tensor size [2097152, 1] and output tensor size [1024, 4096] should match",
        ],
        "silent": [
            line.format("base_model.model.lm_head.weight", "32001, 4096", "32000, 4096"),
            "lora diffusion_model.input_blocks.4.1 The size of tensor a (768) must match the size of tensor b (1024) at non-singleton dimension 1",
        ],
    }
