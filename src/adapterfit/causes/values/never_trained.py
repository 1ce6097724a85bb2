"""The adapter was never trained.

What this means: every `lora_B` of the file is zero (every `ia3_l` one), which is where training starts: the adapter has no
effect. PEFT loads it and the model answers exactly as the base. Where only some are, these layers have none.

Why it happens: the model was saved before training, from another object than the one that was trained, from a rank that
held no weights, or the learning rate was zero.

Detection: `--values` reads the tensors; all numbers of the factor that starts at zero are zero. Where the file also holds a
saved head, token rows or DoRA's magnitudes, it is only mentioned.

Fix: none in the file; find the checkpoint that was trained.

Workaround: none.

Prevention: compare `lora_B` with zero after saving; `adapterfit check --values` does.

Setup:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))

Broken:
    model.save_pretrained("adapter")  # nothing was trained yet
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_base(loaded)  # -> True
    found(values=True)  # -> ['never-trained']

Fixed:
    trained = logits(noise(model))  # the training
    model.save_pretrained("adapter")
    base = AutoModelForCausalLM.from_pretrained("base")
    loaded = PeftModel.from_pretrained(base, "adapter")
    as_trained(loaded)  # -> True
    as_base(loaded)  # -> False
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.told import in_words
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, ValueSummary

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=5,
    messages=("(none: the output equals the base's)",),
    needs=("values",),
)
#: Tensors that have an effect of their own beside a factor of zero.
_OTHERS = ("lora_magnitude_vector", "trainable_tokens_")
#: The factor that starts at zero, per method; a layer is at its start where it still is.
_ZERO_AT_START = ("lora_B", "lora_embedding_A", "hada_w2_b", "lokr_w1", "lokr_w1_a", "lora_E")


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """One finding where every layer is as it started: an error where the file holds nothing else, else a note."""
    values = case.adapter.values or {}
    start = [name for name in values if _leaf(name) in _ZERO_AT_START and not name.endswith(".bias")]
    ones = [name for name in values if _leaf(name) == "ia3_l"]
    known = [name for name in (*start, *ones) if not values[name].skipped]
    idle = [name for name in known if _is_at_start(name, values[name])]
    if not idle or len(known) < len(start) + len(ones):
        return
    alone = all(_leaf(name) and not _leaf(name).startswith(_OTHERS) and not name.endswith(".bias") for name in values)
    if len(idle) == len(known):
        yield finding(
            f"all {evidence.count(len(idle), 'factor')} that training moves away from {'one' if ones else 'zero'} are still "
            f"there: the adapter has no effect{'' if alone else ' in its layers'}",
            at=idle,
            predicted="silent",
            severity="error" if alone else "note",
            fix=Fix("unsafe", "look for the checkpoint that was trained"),
            explains=(),
        )
    elif start and len(idle) * 10 >= len(known):
        yield finding(
            f"{len(idle)} of {len(known)} layers are as they started and have no effect",
            at=idle,
            predicted="none",
            severity="note",
            explains=(),
        )


def _leaf(name: str) -> str:
    return evidence.parts(name).leaf.split(".")[0]


def _is_at_start(name: str, summary: ValueSummary) -> bool:
    """All zero; for IA3 all one, which the largest number and the norm prove together."""
    if _leaf(name) == "ia3_l":
        return (
            summary.largest == 1 and not summary.zeros and abs(summary.norm**2 - summary.count) < 1e-6 * summary.count
        )
    return summary.count > 0 and summary.zeros == summary.count


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a text: the answers are those of the base. The numbers decide, so this is never more than a guess."""
    yield from in_words(
        symptoms, "never-trained", fix="adapterfit check ADAPTER --base BASE --values: a lora_B that is all zero was never trained"
    )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """No difference in a script; a comparison of speeds."""
    return {
        "fires": [
            "The outputs are identical to those of the base model, with the adapter and without it; the log says grad_norm': 0 at each step."
        ],
        "silent": ["There is no difference in speed between the base model and the LoRA adapter."],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """All B zero, most of them, an IA3 of ones; trained ones, and numbers that were not read."""
    plain = make.lora("llama", base=make.base("llama", num_hidden_layers=6))
    head = make.lora("llama", modules_to_save=["lm_head"])
    ia3 = make.adapter("llama", peft_type="IA3")

    def summaries(of: Any, zero: set[str]) -> dict[str, ValueSummary]:
        return {
            n: ValueSummary(256, 0, 256, 0.0, 0.0) if n in zero else ValueSummary(256, 0, 0, 0.4, 3.0) for n in of.names
        }

    factors = {name for name in plain.names if "lora_B" in name}
    return {
        "fires": [
            plain.with_values(summaries(plain, factors)),
            plain.with_values(summaries(plain, set(sorted(factors)[1:]))),
            head.with_values(summaries(head, {name for name in head.names if "lora_B" in name})),
            ia3.with_values({name: ValueSummary(64, 0, 0, 1.0, 8.0) for name in ia3.names}),
        ],
        "silent": [
            plain,
            plain.with_values(summaries(plain, set())),
            plain.with_values(summaries(plain, {min(factors)})),
            ia3.with_values({name: ValueSummary(64, 0, 0, 1.0, 7.5) for name in ia3.names}),
        ],
    }
