"""Some tensors are out of all proportion to their fellows.

What this means: a tensor of the adapter is a thousand times larger than the same tensor in the other layers, or has numbers
that no training gives. The adapter loads; its output may be noise.

Why it happens: a training that diverged in some layers, a scale folded in twice by a conversion, or damaged numbers.

Detection: `--values` compares the norm per number of each tensor with the median of the tensors of the same name in the
other layers, and looks for magnitudes beyond a million.

Fix: none by itself; look at the layers that are named, and at what was done to the file last.

Workaround: compare the outputs with and without the adapter on a few inputs.

Prevention: check the file after every conversion.

Setup:
    shutil.copytree("adapter", "before")  # before the conversion that folded a scale in twice
    deep = {"num_hidden_layers": 8}
    LlamaForCausalLM(llama(**deep)).save_pretrained("base")
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS), "before")
    shutil.rmtree("adapter")
    shutil.copytree("before", "adapter")
    tensors = load_file(WEIGHTS)
    tensors["base_model.model.model.layers.3.self_attn.q_proj.lora_B.weight"] *= 10000
    save_file(tensors, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    found(values=True)  # -> ['suspicious-norms']

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "before")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, ValueSummary

CAUSE = Cause(
    severity="warning",
    level="advanced",
    minutes=10,
    messages=("(none: the load reports nothing)",),
    needs=("values",),
)
#: Far outside what trained adapters show: the widest spread seen among real ones is about 60.
_TIMES = 1000.0
_LARGEST = 1e6
_FELLOWS = 4
_NUMBER = re.compile(r"\d+")


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """One finding for all tensors out of proportion."""
    values = {
        name: s for name, s in (case.adapter.values or {}).items() if not s.skipped and not s.not_finite and s.count
    }
    odd = [name for name, summary in values.items() if summary.largest > _LARGEST]
    for names in _fellows(values):
        sizes = sorted(_size(values[name]) for name in names)
        median = sizes[len(sizes) // 2]
        if len(names) >= _FELLOWS and median > 0:
            odd.extend(name for name in names if _size(values[name]) > _TIMES * median)
    if odd:
        odd = list(dict.fromkeys(odd))
        yield finding(
            f"{evidence.count(len(odd), 'tensor')} hold numbers out of all proportion: up to "
            f"{max(values[name].largest for name in odd):.3g}",
            at=odd,
            severity="warning",
            predicted="silent",
            confidence="medium",
            explains=(),
        )


def _fellows(values: Mapping[str, ValueSummary]) -> list[list[str]]:
    """The same tensor of the different layers."""
    groups: dict[str, list[str]] = {}
    for name in values:
        groups.setdefault(_NUMBER.sub("#", name), []).append(name)
    return list(groups.values())


def _size(summary: ValueSummary) -> float:
    return float(summary.norm / math.sqrt(summary.count))


def examples(make: Any) -> dict[str, list[Any]]:
    """One layer ten thousand times larger; layers that differ by ten; a single huge number."""
    deep = make.base("llama", num_hidden_layers=6)
    plain = make.lora("llama", base=deep)

    def summaries(odd: str, norm: float, largest: float) -> dict[str, ValueSummary]:
        return {
            n: ValueSummary(256, 0, 0, largest if odd in n else 0.4, norm if odd in n else 3.0) for n in plain.names
        }

    return {
        "fires": [plain.with_values(summaries(".3.", 3e4, 4e3)), plain.with_values(summaries(".2.", 3.0, 1e9))],
        "silent": [
            plain.with_values(summaries(".3.", 30.0, 4.0)),
            plain.with_values(summaries(".3.", 0.0, 0.0)),
            plain,
        ],
    }
