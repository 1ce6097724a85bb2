"""The adapter was saved again after it was stamped.

What this means: `adapterfit.json` tells about earlier tensors than those beside it. What it says of the base may still hold, or
not; a difference is then a warning only.

Why it happens: training went on and wrote over the folder, or the weights were copied in from elsewhere.

Detection: numbers of the adapter's own tensors are kept in the stamp and held against the file.

Fix: stamp it again: `adapterfit stamp ADAPTER --base BASE`.

Workaround: none needed; an old stamp is never a reason not to load.

Prevention: `StampCallback` in the Trainer, or `adapterfit.save`, stamp whenever they save.

Setup:
    adapterfit.stamp("adapter", base="base")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))

Broken:
    trained = logits(noise(model))
    model.save_pretrained("adapter")  # over a folder that was stamped before
    "stamp-outdated" in found(notes=True)  # -> True

Fixed:
    trained = logits(noise(model))
    model.save_pretrained("adapter")
    adapterfit.stamp("adapter", base="base")
    "stamp-outdated" in found(notes=True)  # -> False
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.base.base_changed import adapter_changed
from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix, Stamp, WeightSample

CAUSE = Cause(
    severity="note",
    minutes=1,
    messages=("(none: PEFT does not read adapterfit.json)",),
    needs=("weights",),
)


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """A note where a stamped tensor is another, or gone."""
    stamp = case.adapter.stamp
    if stamp is not None and adapter_changed(stamp):
        yield finding(
            "the adapter's tensors are not the ones that were stamped: it was saved again since",
            at=(stamp.file,),
            predicted="none",
            severity="note",
            fix=Fix("unsafe", f"adapterfit stamp {case.adapter.label} --base BASE"),
            explains=(),
        )


def examples(make: Any) -> dict[str, list[Any]]:
    """Other numbers under the same name, and a tensor that is gone; not an adapter as it was stamped."""
    plain = make.lora("llama")
    name = plain.names[0]
    before, now = WeightSample((1,), "F32", (1.0,)), WeightSample((1,), "F32", (2.0,))

    def stamped(today: dict[str, WeightSample]) -> Any:
        return plain.with_stamp(Stamp("adapterfit.json", adapter_content={name: before}, adapter_now=today))

    return {"fires": [stamped({name: now}), stamped({})], "silent": [plain, stamped({name: before})]}
