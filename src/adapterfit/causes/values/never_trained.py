"""The adapter was never trained.

What this means: every `lora_B` of the file is zero, which is where training starts: the adapter has no effect. PEFT loads it
and the model answers exactly as the base.

Why it happens: the model was saved before training, from another object than the one that was trained, from a rank that
held no weights, or the learning rate was zero.

Detection: `--values` reads the tensors; all numbers of all `lora_B` are zero.

Fix: none in the file; find the checkpoint that was trained.

Workaround: none.

Prevention: compare `lora_B` with zero after saving; `adapterfit check --values` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix, ValueSummary

CAUSE = Cause(
    minutes=5,
    messages=("(none: the output equals the base's)",),
    needs=("values",),
    broken="""
model = get_peft_model(base, config)
model.save_pretrained("adapter")       # nothing was trained yet
""",
    fixed="""
trainer.train()
trainer.model.save_pretrained("adapter")
""",
)
#: The factor that starts at zero, per method; an adapter is at its start only where all of them are.
_ZERO_AT_START = ("lora_B", "lora_embedding_A", "hada_w2_b", "lokr_w1", "lokr_w1_a", "lora_E")


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """One finding where every factor that starts at zero still is."""
    values = case.adapter.values or {}
    start = [name for name in values if evidence.parts(name).leaf.split(".")[0] in _ZERO_AT_START]
    factors = [name for name in start if not name.endswith(".bias") and not values[name].skipped]
    if factors and all(values[name].count and values[name].zeros == values[name].count for name in factors):
        yield finding(
            f"all {evidence.count(len(factors), 'factor')} that training moves away from zero are zero: the adapter has no "
            "effect",
            at=factors,
            predicted="silent",
            fix=Fix("unsafe", "look for the checkpoint that was trained"),
            explains=(),
            differs=True,
        )


def examples(make: Any) -> dict[str, list[Any]]:
    """All B zero; one B trained; an adapter whose numbers were not read."""
    plain = make.lora("llama")

    def summaries(zero: set[str]) -> dict[str, ValueSummary]:
        return {
            name: ValueSummary(
                256, 0, 256 if name in zero else 0, 0.0 if name in zero else 0.4, 0.0 if name in zero else 3.0
            )
            for name in plain.names
        }

    factors = {name for name in plain.names if "lora_B" in name}
    return {
        "fires": [plain.with_values(summaries(factors))],
        "silent": [plain.with_values(summaries(factors - {min(factors)})), plain.with_values(summaries(set())), plain],
    }
