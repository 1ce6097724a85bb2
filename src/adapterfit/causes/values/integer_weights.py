"""The adapter's factors are integers.

What this means: PEFT takes each integer for the number it is, 87 for 87.0, and says nothing. What they stood for was 87 times a scale,
and the scale is in no place that PEFT reads: the model computes noise.

Why it happens: a quantiser of whole checkpoints went over the adapter too, or an export wrote int8 beside scales of its own.

Detection: the dtype of LoRA's, LoHa's, LoKr's and IA3's tensors in the header of the file. Methods that save indices hold integers
rightly, and so does a rank or alpha beside the factors.

Fix: none by itself; look for the adapter as it was before it was quantised.

Workaround: where the scales were kept, multiply and save floating-point numbers.

Prevention: quantise the base, never the adapter; its numbers are few.

Setup:
    shutil.copytree("adapter", "before")  # before a quantiser went over it
    tensors = {name: (tensor / tensor.abs().max() * 127).to(torch.int8) for name, tensor in load_file(WEIGHTS).items()}
    save_file(tensors, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    found()  # -> ['integer-weights']

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "before")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=("(none: the load reports nothing)",),
    needs=("weights", "diff"),
)
_INTEGERS = frozenset(("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL"))
#: Tensors that are trained, and so can be nothing but floating-point numbers.
_TRAINED = re.compile(
    r"\.(?:lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?|ia3_l)(?:\.|$)"
)


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """One finding for all factors that are integers."""
    landed = [match.tensor for match in diff.matched] if diff is not None else []
    odd = [tensor for tensor in landed if tensor.dtype in _INTEGERS and _TRAINED.search(tensor.name)]
    if odd:
        kinds = ", ".join(sorted({tensor.dtype for tensor in odd}))
        yield finding(
            f"{evidence.count(len(odd), 'factor')} of {len(case.adapter.tensors)} tensors are integers ({kinds}); PEFT takes them as they "
            "are, without the scale they were quantised with",
            at=odd,
            expected="floating-point numbers",
            found=kinds,
            differs=True,
            fix=Fix("unsafe", "look for the adapter as it was before it was quantised"),
        )


def examples(make: Any) -> dict[str, list[Any]]:
    """All factors, or those of one side; an alpha beside them, and factors of eight bits that are floating-point numbers."""
    plain = make.lora("llama")

    def stored(sample: Any, dtype: str, part: str = "lora_") -> Any:
        shapes = {t.name: t.shape for t in sample.adapter.tensors if part in t.name}
        return sample.dropped(lambda name: name in shapes).added(shapes, dtype)

    return {
        "fires": [
            stored(plain, "I8"),
            stored(plain, "U8", "lora_B"),
            stored(make.lora("gpt2", target_modules=["c_attn"]), "I32"),
        ],
        "silent": [plain, stored(plain, "F16"), stored(plain, "BF16"), stored(plain, "F64")],
    }
