"""A pattern key is read otherwise since PEFT 0.15.

What this means: keys of `rank_pattern` and `alpha_pattern` are regular expressions. Up to PEFT 0.14 a key had to stand
after a dot, so a key that begins with `^` matched nothing; since 0.15 it may also stand at the beginning of a module's name,
and such keys are in force. For a rank the load raises; for an alpha the strength changes in silence.

Why it happens: the key was meant to work, did not in training, and does now.

Detection: a key with `^` that matches a module today and did not then, in a config written before 0.15.

Fix: write the tables as they were in force, so that the adapter is applied as it was trained.

Workaround: load with PEFT 0.14.

Prevention: name modules in full, without anchors.

Setup:
    change_config(rank_pattern={"^model.layers.1.self_attn.q_proj": 8})  # PEFT up to 0.14 matched nothing with it

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... layers.1.self_attn.q_proj.lora_A.default.weight: copying a param with shape torch.Size([4, 32]) from checkpoint, the shape in current model is torch.Size([8, 32]).

Fixed:
    change_config(rank_pattern={})  # what was in force in the training
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.causes.versions import _tables
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=5,
    messages=("size mismatch for ...lora_A.default.weight: copying a param with shape torch.Size([4, 64]) from ...",),
    versions="written by peft 0.6.0 to 0.14.0, read by peft >= 0.15.0",
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all modules that such a key reaches now and did not then, or the other way."""
    if diff.raised is not None and diff.raised.stage != "load":
        return
    modules = _tables.changed(case, diff, shared=False)
    if not modules:
        return
    name, (then, now) = next(iter(modules.items()))
    wrong = [entry.tensor for entry in diff.misshapen if entry.module in modules]
    edits = _tables.restored(diff, modules)
    keys = shorten(_tables.guilty(diff, modules)) or "a key of rank_pattern or alpha_pattern"
    yield finding(
        f"PEFT before 0.15 read {keys} otherwise: {evidence.count(len(modules), 'module')}, such as {show(name)}, had "
        f"{_said(then, now, then)} in training and {'have' if len(modules) > 1 else 'has'} {_said(then, now, now)} now",
        at=wrong or list(modules),
        predicted="raises" if wrong else "silent",
        expected=_said(then, now, then),
        found=_said(then, now, now),
        fix=Fix("safe" if edits else "unsafe", _summary(edits), edits),
        explains=[tensor.name for tensor in wrong],
        differs=not wrong,
    )


def _said(then: _tables.Reading, now: _tables.Reading, one: _tables.Reading) -> str:
    """The numbers of one reading in which the two differ."""
    words = [
        f"{field} {show(getattr(one, field))}" for field in one._fields if getattr(then, field) != getattr(now, field)
    ]
    return " and ".join(words)


def _summary(edits: tuple[Any, ...]) -> str:
    tables = " and ".join(f"{edit.key} = {show(edit.value, 80)}" for edit in edits)
    return (
        f"set {tables}, as it was in force in training"
        if edits
        else "write the tables as they were in force in training"
    )


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: one module alone has another rank, as a key of rank_pattern gives it."""
    found = sizes_of(symptoms, "pattern-key-anchored")
    if found is not None:
        yield suspect(
            symptoms, f"one module alone has rank {found.file} in the file and {found.model} here: a key of rank_pattern may be read otherwise than in training",
            found.likelihood, found.lines, fix="compare rank_pattern with the modules in the file; peft < 0.15 read a key that begins with ^ as an end of a name",
            apart="whether every layer is listed: one only means rank_pattern, all mean r",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """One module is never told from another r alone, so it is the second answer; another width is another base."""
    line = "size mismatch for base_model.model.h.0.attn.q_proj.lora_A.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {"as likely": [line.format("64, 768", "8, 768")], "silent": [line.format("8, 1024", "8, 768")]}


def examples(make: Any) -> dict[str, list[Any]]:
    """An anchored key in an old config; the same in one of today; a key that matches nothing."""
    old: dict[str, Any] = {"alpha_pattern": {}, "rank_pattern": {}, "auto_mapping": None, "bias": "none", "fan_in_fan_out": False,
           "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None, "lora_dropout": 0.0,
           "modules_to_save": None, "revision": None}  # fmt: skip
    key = "^model.layers.1.self_attn.q_proj"
    plain = make.lora("llama", **old)
    either = make.lora("llama", **old).with_config(alpha_pattern={"q_proj|v_proj": 32})
    return {
        "fires": [plain.with_config(alpha_pattern={key: 32}), plain.with_config(rank_pattern={key: 8}), either],
        "silent": [
            plain,
            make.lora("llama", alpha_pattern={key: 32}, peft_version="0.21.2"),
            plain.with_config(alpha_pattern={"^model.layers.9.self_attn.q_proj": 32}),
            plain.with_config(alpha_pattern={"model.layers.1.self_attn.q_proj": 32}),
            plain.with_config(alpha_pattern={r"layers\.[0-9]+\.self_attn\.q_proj": 32}),
            make.lora("llama", **{**old, "rank_pattern": {key: 8}}),
        ],
    }
