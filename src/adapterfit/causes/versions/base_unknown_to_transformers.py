"""The transformers that will load the base does not know its model type.

What this means: `AutoConfig` looks the `model_type` of config.json up in a table; a type that is not in it stops the load before
the adapter is touched, with a bare KeyError until transformers 4.35 and a sentence from then on.

Why it happens: the model is younger than the installed transformers, or so old that a later one dropped it (22 types went
with 5.0).

Detection: with `--for`, the model type is looked up among those of that release.

Fix: a transformers that has it; the finding says from which one on.

Workaround: where the repository of the base brings its own code, `trust_remote_code=True`, after reading that code.

Prevention: pin the transformers that the base was trained with, beside peft.

Not run: it needs an older transformers than the one the pages are run with.

Broken:
    base = AutoModelForCausalLM.from_pretrained("mixtral")  # transformers 4.31: KeyError: 'mixtral'

Fixed:
    base = AutoModelForCausalLM.from_pretrained("mixtral")  # after pip install 'transformers>=4.36.2'
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    minutes=5,
    messages=(
        "KeyError: 'mixtral'",
        (
            "ValueError: The checkpoint you are trying to load has model type `gpt_oss` but Transformers does not recognize this "
            "architecture."
        ),
    ),
    versions="every version",
    codes=("base-unknown-to-transformers",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """The same adapter on both sides of the version."""
    return {
        "fires": [make.lora("mixtral").loaded_by("peft==0.6.2,transformers==4.35.2")],
        "silent": [make.lora("mixtral").loaded_by("peft==0.14.0,transformers==4.47.1"), make.lora("mixtral")],
    }
