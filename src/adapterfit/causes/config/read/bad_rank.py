"""The rank in adapter_config.json is not a whole number above 0.

What this means: PEFT builds matrices of `r` rows. It does not check the type of the value, so text or a number with a
decimal point fails late, somewhere inside torch.

Why it happens: the file was written by hand or by another program: `"r": "8"`, `"r": 8.0`, or a table of ranks with a 0.

Detection: `r` (AdaLoRA: `init_r`) and every value of `rank_pattern` is looked at.

Fix: write the number of rows of the `lora_A` tensors. A number that was written as text, or with a point, is written as a number.

Workaround: none.

Prevention: let PEFT write the file.

Setup:
    change_config(r="4")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises TypeError: '<=' not supported between instances of 'str' and 'int'

Fixed:
    change_config(r=4)  # the rows of every lora_A
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.one_reading import cure as cure  # noqa: PLC0414 - it is this cause's own
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms


def examples(make: Any) -> dict[str, list[Any]]:
    """A rank per module is silent."""
    plain = make.lora("llama")
    bad = [0, -1, 8.0, "8", True, None, 2**63]
    fires = [plain.with_config(r=each) for each in bad] + [plain.with_config(rank_pattern={"q_proj": -4})]
    return {"silent": [plain, plain.with_config(rank_pattern={"q_proj": 4})], "fires": fires}


CAUSE = Cause(
    messages=(
        "ValueError: `r` should be a positive integer value but the value passed is 0",
        "TypeError: '<=' not supported between instances of 'str' and 'int'",
        "TypeError: empty(): argument 'size' (position 1) must be tuple of ints, but found element of type float at pos 0",
    ),
    codes=("bad-rank",),
    minutes=2,
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's and vLLM's words about a rank that is none."""
    told = said(
        symptoms,
        "`r` should be a positive integer value",
        "lora rank `r` must be a positive integer",
        "'<=' not supported between instances of 'str' and 'int'",
    )
    if told:
        yield suspect(
            symptoms,
            "r, or a value of rank_pattern, is not a positive whole number",
            0.9,
            told,
            fix="set r to the rows of lora_A in the file",
        )


def logs() -> dict[str, list[str]]:
    """A rank of 0; a rank over a limit."""
    return {
        "fires": ["ValueError: `r` should be a positive integer value but the value passed is 0"],
        "silent": ["ValueError: LoRA rank 64 is greater than max_lora_rank 16."],
    }
