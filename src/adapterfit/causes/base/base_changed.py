"""The base is not the one the adapter was stamped with.

What this means: names and shapes fit, so PEFT loads the adapter without a word; but the base's weights, or the config that
says how they are used, are others than when `adapterfit.json` was written. The adapter changes a model it never saw.

Why it happens: the Instruct model in place of the base model, or the other way round; another revision; a base into which an
adapter was merged before; a config with another `rope_theta`.

Detection: `adapterfit.json` beside the adapter holds a fingerprint of the base in layers: fields of the config, the inventory
of weights, numbers of every touched module, the vocabulary. Each layer is compared, and the one that differs is named, with
other versions of the libraries beside it; these alone are no finding.
Re-sharding, another dtype and another folder are no difference.

Fix: load the base that the stamp names. If the new base is meant, and the adapter was tested on it, stamp it again.

Workaround: `adapterfit.load(base, adapter, allow=("base-changed",))` goes on all the same.

Prevention: pin the base's revision where it is loaded.

Setup:
    adapterfit.stamp("adapter", base="base")
    LlamaForCausalLM(llama()).save_pretrained("instruct")  # the same shapes, other weights

Broken:
    base = AutoModelForCausalLM.from_pretrained("instruct")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    as_trained(model)  # -> False
    base = AutoModelForCausalLM.from_pretrained("instruct")
    model = adapterfit.load(base, "adapter")
    # raises AdapterMisfit: base-changed

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = adapterfit.load(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from adapterfit.causes import evidence, layers
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.sameness import same
from adapterfit.records import Base, Case, Diff, Finding, Fix, Seen, Stamp
from adapterfit.text import quote, shorten, show

CAUSE = Cause(
    minutes=10,
    messages=("(none: PEFT never compares the base with the one of the training)",),
    needs=("base",),
)


class Numbers(NamedTuple):
    """Modules whose numbers are others, modules that were compared, and modules that the adapter touches."""

    other: tuple[str, ...]
    compared: int
    touched: int


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """One finding for weights and config, one for the vocabulary."""
    stamp, base = case.adapter.stamp, case.base
    if stamp is None or base is None:
        return
    numbers = _numbers(stamp, case.seen or Seen())
    fields = layers.differing_fields(stamp.config, layers.config_fields(base.config))
    sizes = _sizes(stamp, diff)
    said = [*_weights_said(numbers), *_fields_said(fields, numbers), *_sizes_said(sizes, numbers)]
    found = []
    if said:
        found.append(_finding(stamp, base, said, numbers, outdated=adapter_changed(stamp)))
    elif stamp.commit and base.revision and stamp.commit != base.revision and not numbers.compared:
        found.append(_other_commit(stamp, base))
    found += _vocabulary(stamp, base, case.seen, diff)
    yield from found
    if (
        found
    ):  # alone it comes with every upgrade and says nothing about the base; the text report has it beside the versions
        yield from _libraries(stamp, case)


def adapter_changed(stamp: Stamp) -> bool:
    """Whether the adapter's own weights are others than those that were stamped: then the stamp is of an earlier adapter."""
    return any(
        name not in stamp.adapter_now or same(sample, stamp.adapter_now[name]) is not True
        for name, sample in stamp.adapter_content.items()
    )


# ------------------------------------------------------------------------------------------------ layers


def _numbers(stamp: Stamp, seen: Seen) -> Numbers:
    compared: set[str] = set()
    other: dict[str, None] = {}
    for name, before in stamp.content.items():
        now = seen.content.get(name)
        alike = same(before, now) if now is not None else None
        module = name.rpartition(".")[0]
        if alike is not None:
            compared.add(module)
        if alike is False:
            other[module] = None
    return Numbers(tuple(other), len(compared), stamp.touched)


def _sizes(stamp: Stamp, diff: Diff | None) -> list[str]:
    """Weights of other sizes or numbers; compared for the same class only."""
    if diff is None or diff.expectation.tree.class_name != stamp.class_name or diff.expectation.tree.known == "headers":
        return []
    now = layers.inventory(diff.expectation.tree)
    names = sorted(name for name in stamp.inventory.keys() | now.keys() if stamp.inventory.get(name) != now.get(name))
    return [f"{name}: {_counted(stamp.inventory.get(name))} → {_counted(now.get(name))}" for name in names]


def _counted(shapes: tuple[tuple[int, ...], ...] | None) -> str:
    return " and ".join(f"{number} of {list(size)}" for *size, number in shapes) if shapes else "none"


def _weights_said(numbers: Numbers) -> Iterator[str]:
    if not numbers.other:
        return
    sampled = f" (of {numbers.touched:,} in all)" if numbers.touched > numbers.compared else ""
    yield f"same architecture, other weights in {len(numbers.other)} of {numbers.compared} touched modules{sampled}"


def _fields_said(fields: list[str], numbers: Numbers) -> Iterator[str]:
    if fields:
        alike = " over the same weights" if numbers.compared and not numbers.other else ""
        yield f"another config{alike} ({shorten(fields)})"


def _sizes_said(sizes: list[str], numbers: Numbers) -> Iterator[str]:
    if sizes and not numbers.other:
        yield f"weights of other sizes or in other numbers ({shorten(sizes)})"


# ------------------------------------------------------------------------------------------------ findings


def _finding(stamp: Stamp, base: Base, said: list[str], numbers: Numbers, *, outdated: bool) -> Finding:
    later = (
        "; but the adapter itself was saved again after it was stamped, so the stamp may be of another base"
        if outdated
        else ""
    )
    return finding(
        f"this base is not the one the adapter was stamped with: {'; '.join(said)}{_reading(numbers)}{later}",
        at=numbers.other,
        predicted="silent",
        severity="warning" if outdated else "error",
        confidence="medium" if outdated else "high",
        expected=_who(stamp.base_name, stamp.commit),
        found=_who(base.label, base.revision),
        fix=Fix(
            "unsafe",
            f"load the base of the stamp{_named(stamp)}; or, where this base is meant, adapterfit stamp it again",
        ),
        explains=(),
        differs=not outdated,
    )


def _reading(numbers: Numbers) -> str:
    """What such a difference mostly is."""
    if not numbers.other:
        return ""
    if len(numbers.other) == numbers.compared:
        return (
            ": another model of the same shapes, such as the Instruct model for the base model, or one trained further"
        )
    names = shorten(dict.fromkeys(name.rpartition(".")[2] for name in numbers.other), 6)
    return f" ({names}{evidence.layers_said(map(evidence.layer_number, numbers.other))}): something was merged into it, or it was trained in part"


def _other_commit(stamp: Stamp, base: Base) -> Finding:
    return finding(
        "the base is of another commit than the stamped one, and its weights could not be compared",
        predicted="silent",
        severity="warning",
        confidence="low",
        expected=_who(stamp.base_name, stamp.commit),
        found=_who(base.label, base.revision),
    )


def _vocabulary(stamp: Stamp, base: Base, seen: Seen | None, diff: Diff | None) -> Iterator[Finding]:
    rows = layers.vocabulary_rows(diff.expectation.tree) if diff is not None else None
    said = []
    if stamp.rows is not None and rows is not None and stamp.rows != rows:
        said.append(f"{rows:,} rows of vocabulary, {stamp.rows:,} when it was stamped")
    if stamp.tokenizer and seen is not None and seen.tokenizer and stamp.tokenizer != seen.tokenizer:
        said.append("a tokenizer with other tokens or other ids for them")
    if said:
        yield finding(
            f"the base has {' and '.join(said)}",
            predicted="silent",
            severity="warning",
            expected=_who(stamp.base_name, stamp.commit),
            found=_who(base.label, base.revision),
            fix=Fix("unsafe", "use the tokenizer and the vocabulary of the training"),
        )


def _libraries(stamp: Stamp, case: Case) -> Iterator[Finding]:
    """A note: other versions are no other base, and what they do otherwise is for other causes to say."""
    pairs = (("peft", case.consumer.peft), ("transformers", case.consumer.transformers))
    then = [
        f"{name} {show(stamp.libraries[name])}" for name, now in pairs if stamp.libraries.get(name, now) != now and now
    ]
    if then:
        now = ", ".join(f"{name} {version}" for name, version in pairs if version)
        yield finding(
            f"it was stamped with {' and '.join(then)}, and this answer is for {now}",
            predicted="none",
            severity="note",
            expected=" and ".join(then),
            found=now,
        )


def _who(name: str, commit: str) -> str:
    return f"{name or 'a base without a name'}{f' at {commit[:12]}' if commit else ''}"


def _named(stamp: Stamp) -> str:
    return (
        f", {quote(stamp.base_name)}{f' at {quote(stamp.commit[:12])}' if stamp.commit else ''}"
        if stamp.base_name
        else ""
    )


# ------------------------------------------------------------------------------------------------ examples


def examples(make: Any) -> dict[str, list[Any]]:
    """Another config, other sizes; not a config that merely says more, nor an adapter without a stamp."""
    plain = make.lora("llama")
    fields = layers.config_fields({**plain.case.base.config, "rope_theta": 10000.0})
    stamped = plain.with_stamp(Stamp("adapterfit.json", config=fields))
    return {
        "fires": [
            stamped.on("llama", rope_theta=500000.0),
            plain.with_stamp(Stamp("adapterfit.json", config={**fields, "hidden_act": "gelu"})).on(
                "llama", hidden_act="silu"
            ),
            plain.with_stamp(
                Stamp("adapterfit.json", class_name="LlamaForCausalLM", inventory={"q_proj": ((64, 64, 3),)})
            ),
            plain.with_stamp(Stamp("adapterfit.json", libraries={"peft": "0.6.0"}, config=fields)).on(
                "llama", rope_theta=500000.0
            ),
        ],
        "silent": [
            plain.with_stamp(Stamp("adapterfit.json", libraries={"peft": "0.6.0", "torch": "2.1.0"}, config=fields)),
            plain,
            stamped,
            stamped.on("llama", rope_theta=10000.0),
            stamped.on("llama", use_cache=False),
        ],
    }
