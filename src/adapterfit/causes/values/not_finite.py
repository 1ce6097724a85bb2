"""Some numbers of the adapter are NaN or infinite.

What this means: one such number in a weight makes every output that passes through it NaN. PEFT loads it without a word.

Why it happens: the training diverged (a loss of NaN), often in float16; or the file was damaged where only the numbers are.

Detection: `--values` reads every tensor and counts numbers that are not finite.

Fix: none; go back to a checkpoint from before the training diverged.

Workaround: none that is honest: replacing the numbers by zero gives an adapter nobody trained.

Prevention: train in bfloat16 or float32, clip gradients, and look at the loss before publishing.

Setup:
    shutil.copytree("adapter", "checkpoint-200")  # before the loss was NaN
    tensors = load_file(WEIGHTS)
    tensors["base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight"][0, 0] = float("nan")
    save_file(tensors, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    bool(logits(model).isnan().any())  # -> True
    found(values=True)  # -> ['not-finite']

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "checkpoint-200")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.told import in_words
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, ValueSummary

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=("RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",),
    needs=("values",),
)


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """One finding for all tensors with such numbers."""
    values = case.adapter.values or {}
    bad = [name for name, summary in values.items() if summary.not_finite]
    if bad:
        total = sum(values[name].not_finite for name in bad)
        yield finding(
            f"{total:,} numbers in {evidence.count(len(bad), 'tensor')} are NaN or infinite",
            at=bad,
            predicted="silent",
            fix=Fix("unsafe", "use a checkpoint from before the training diverged"),
            explains=(),
        )


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: sampling met NaN. An adapter is one reason of many, so this is never more than a guess."""
    yield from in_words(
        symptoms,
        "not-finite",
        fix="adapterfit check ADAPTER --base BASE --values; load the base in bfloat16 or float32",
    )
    told = said(
        symptoms, "probability tensor contains either", "logits contain nan", "output is nan", "produced in unet"
    )
    if told:
        yield suspect(
            symptoms, "the model's output is NaN or infinite: the adapter's numbers may be, or float16 overflows", 0.4, told,
            fix="adapterfit check ADAPTER --base BASE --values; load the base in bfloat16 or float32",
            apart="whether the base alone gives numbers: then it is the adapter; --values looks at its numbers",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Sampling; another assertion."""
    return {
        "fires": ["With the adapter: RuntimeError: probability tensor contains either `inf`, `nan` or element < 0"],
        "silent": ["RuntimeError: CUDA error: device-side assert triggered"],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """One NaN; numbers as they should be; large ones."""
    plain = make.lora("llama")

    def summaries(**changes: Any) -> dict[str, ValueSummary]:
        usual = {"count": 256, "not_finite": 0, "zeros": 0, "largest": 0.5, "norm": 3.0}
        return {name: ValueSummary(**{**usual, **changes}) for name in plain.names}

    return {
        "fires": [plain.with_values(summaries(not_finite=1))],
        "silent": [plain.with_values(summaries()), plain.with_values(summaries(largest=40.0)), plain],
    }
