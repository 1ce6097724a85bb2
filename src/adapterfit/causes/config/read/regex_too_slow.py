"""A pattern in the config takes too long to match.

What this means: `target_modules`, `exclude_modules`, `modules_to_save`, `layers_pattern`, `rank_pattern` or
`alpha_pattern` holds a regular expression whose matching against the base's module names explodes. PEFT runs it without
a limit: the load hangs, for minutes or for ever, without a message.

Why it happens: a repeated group inside a repeat, such as `(.+)+x` or `(a|aa)*b`. Each further character of a module's
name doubles the work. It is rarely meant; it can also be an attack on a server that loads adapters of strangers.

Detection: adapterfit runs all patterns of a config for a third of a second together, under a timer, and where there is
no timer refuses patterns that could explode. What was not decided is said.

Fix: write the names out. The tensors in the file name the modules that were trained, so an explicit list of full module
paths says the same.

Workaround: none that is worth it; do not raise the limit for a file you do not trust.

Prevention: use a list of suffixes (`["q_proj", "v_proj"]`) instead of a pattern wherever it says the same.

Setup:
    change_config(target_modules="(.+)+x_proj")

Broken:
    import signal

    def give_up(*_):
        raise TimeoutError("not done after a second")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(1)  # without this it does not come back
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises TimeoutError: not done after a second

Fixed:
    change_config(target_modules=["q_proj", "v_proj"])
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

SLOW = r"(.+)+\d\dx"


def examples(make: Any) -> dict[str, list[Any]]:
    """A pattern with exponential backtracking; a long but harmless one."""
    plain = make.lora("llama")
    return {
        "fires": [plain.with_config(target_modules=SLOW), plain.with_config(exclude_modules=SLOW)],
        "silent": [plain, plain.with_config(target_modules=r"(.*\.)?self_attn\.(q_proj|v_proj)")],
    }


CAUSE = Cause(
    severity="error",
    level="intermediate",
    minutes=5,
    messages=("(no message: the load does not come back)",),
    codes=("regex-too-slow",),
)
