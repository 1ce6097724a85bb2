"""The adapter's initialization changes the base.

What this means: `init_lora_weights` is `pissa`, `olora`, `corda`, `loftq` or `lora_ga`, or KaSA is on. In training such an
adapter does not sit on the base as published but on a residual of it. PEFT recomputes the residual when it loads; whoever
does not (a server, llama.cpp, an older PEFT, a base of another precision) gets another model, without an error.

Why it happens: the adapter was saved as it is, not converted to a plain LoRA.

Detection: the config says so. For PiSSA and OLoRA the recomputation gives the same result on the same base in the same
precision; for LoRA-GA it is not possible, and the result is wrong on the published base; CorDA needs data and raises.

Fix: convert to a plain LoRA with the training's own PEFT: `save_pretrained(path, path_initial_model_for_weight_conversion=
"initial-adapter")`, which doubles the rank.

Workaround: load in PEFT on exactly the base and dtype of the training, merge, and save the merged model.

Prevention: save the untrained adapter too, and convert when saving.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Finding, Fix
from adapterfit.text import quote

CAUSE = Cause(
    severity="warning",
    level="advanced",
    minutes=10,
    messages=("(none: the load reports nothing)",),
    needs=("config",),
    broken="""
model.save_pretrained("adapter")       # trained with init_lora_weights="pissa"
""",
    fixed="""
model.save_pretrained("adapter", path_initial_model_for_weight_conversion="adapter-before-training")
""",
)
#: Initializations PEFT repeats when it loads; the result is the training's on the same base in the same precision.
_REPEATED = ("pissa", "olora")
_CURE = Fix("unsafe", 'save with path_initial_model_for_weight_conversion="…" from the training to get a plain LoRA')


def check(case: Case, _diff: object) -> Iterator[Finding]:
    """A note where PEFT repeats the change, an error where it cannot."""
    values = case.adapter.config.values if case.adapter.config is not None else {}
    init = values.get("init_lora_weights")
    if isinstance(init, str) and init == "lora_ga":
        yield finding(
            "the adapter was started by LoRA-GA, which changed the base; PEFT does not repeat the change when it loads, so "
            "on the published base the model is not the one that was trained",
            severity="error",
            confidence="medium",
            expected="a plain LoRA, or the base as LoRA-GA left it",
            found=f"init_lora_weights: {quote(init)}",
            fix=_CURE,
            differs=True,
        )
    elif isinstance(init, str) and init.lower().startswith((*_REPEATED, "corda", "loftq")):
        yield _note(f"init_lora_weights is {quote(init)}", init.lower().startswith(_REPEATED))
    if values.get("kasa_config") is not None:
        yield _note("kasa_config is set", True)


def _note(why: str, repeated: bool) -> Finding:
    repeat = (
        "PEFT repeats the change when it loads"
        if repeated
        else "PEFT can repeat the change only with the training's data"
    )
    return finding(
        f"{why}: the adapter belongs to a changed base. {repeat}; the base and its precision must be the training's, and "
        "engines that do not repeat it get another model",
        severity="note",
        predicted="none",
        fix=_CURE,
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """The initializations that change the base, and those that do not."""
    plain = make.lora("llama")
    changing = ("pissa", "pissa_niter_4", "olora", "lora_ga")
    return {
        "fires": [plain.with_config(init_lora_weights=name) for name in changing]
        + [make.lora("llama", kasa_config={})],
        "silent": [
            plain,
            *(plain.with_config(init_lora_weights=name) for name in ("gaussian", "eva", "orthogonal", True)),
        ],
    }
