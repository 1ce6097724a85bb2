"""LoKr was trained without its scale.

What this means: up to PEFT 0.13.2 LoKr ignored `alpha`; since 0.14.0 it multiplies by alpha / rank. An adapter of the
older kind with alpha other than the rank is applied at another strength than it was trained at. Nothing is reported.

Why it happens: the file and the config are the same in both versions; only the age of the config tells.

Detection: adapterfit dates the config by its fields. Where every PEFT that can have written it is older than 0.14, and
alpha is not the rank, the strength is wrong by alpha / rank.

Fix: set `alpha` to the rank (and clear `alpha_pattern`), so that the scale is 1 as it was in training.

Workaround: load with PEFT 0.13.2.

Prevention: none on your side; save the adapter again with a current PEFT once it is right.

Setup:
    options = peft.LoKrConfig(r=4, alpha=4, target_modules=["q_proj", "v_proj"])
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_config(alpha=16)  # PEFT up to 0.13 trained with scale 1, whatever the config said

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing, and applies it four times as strongly
    as_trained(model)  # -> False

Fixed:
    change_config(alpha=4)  # the rank: scale 1, as in the training
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader, written_before, written_since
from adapterfit.causes.versions import _tables
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import show

CAUSE = Cause(
    level="advanced",
    minutes=2,
    messages=("(none: the load reports nothing)",),
    versions="written by peft 0.6.0 to 0.13.2, read by peft >= 0.14.0",
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where the scale of some module is not 1 and the writer did not know it."""
    config = diff.expectation.config
    if config.get("peft_type") != "LOKR" or diff.raised is not None:
        return
    ignored = loader(diff).get("lokr-scale", True) is False
    if not (written_since(case, "0.14.0") if ignored else written_before(case, "0.14.0")):
        return
    now = _tables.today(diff)
    scales = {name: one.alpha / one.rank for name, one in now.items() if _are_numbers(one)}
    wrong = {name: scale for name, scale in scales.items() if scale != 1}
    if not wrong:
        return
    if ignored:
        yield _ignored_by_loader(case, wrong)
        return
    rank, alpha = config.get("r"), config.get("alpha")
    patterns = bool(config.get("rank_pattern") or config.get("alpha_pattern"))
    listed = ", ".join(f"{scale:g}" for scale in dict.fromkeys(list(wrong.values())[:3]))
    yield finding(
        f"LoKr of PEFT before 0.14 was trained at scale 1; PEFT now applies {len(wrong)} of {len(now)} modules at alpha / r = "
        + (f"{show(alpha)} / {show(rank)}" if not patterns else listed),
        at=(),
        predicted="silent",
        expected="scale 1",
        found=f"scale {listed}",
        fix=_fix(config, rank, patterns=patterns),
        differs=True,
    )


def _ignored_by_loader(case: Case, wrong: Mapping[str, float]) -> Finding:
    listed = ", ".join(f"{scale:g}" for scale in dict.fromkeys(list(wrong.values())[:3]))
    return finding(
        f"PEFT {show(case.consumer.peft)} ignores alpha: {len(wrong)} modules are applied at scale 1 instead of {listed}",
        at=(),
        predicted="silent",
        expected=f"scale {listed}",
        found="scale 1",
        fix=Fix("unsafe", "pip install 'peft>=0.14'"),
        differs=True,
    )


def _are_numbers(one: _tables.Reading) -> bool:
    return isinstance(one.rank, int) and one.rank > 0 and isinstance(one.alpha, (int, float))


def _fix(config: Mapping[str, Any], rank: Any, *, patterns: bool) -> Fix:
    """Both tables are searched alike, so that one table for both gives every module its own rank as alpha."""
    edits = (SetConfig("alpha", rank),)
    if not patterns:
        return Fix("safe", f"set alpha to {show(rank)}, the rank: the scale is 1 again", edits)
    table = dict(config.get("rank_pattern") or {})
    return Fix(
        "safe",
        f"set alpha to {show(rank)} and alpha_pattern to what rank_pattern says: every scale is 1 again",
        (*edits, SetConfig("alpha_pattern", table)),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """The config fields of PEFT 0.13 with alpha 16 and rank 4; alpha equal to the rank; a config of today."""
    fields: dict[str, Any] = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "decompose_both": False,
        "decompose_factor": -1,
        "init_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "module_dropout": 0.0,
        "modules_to_save": None,
        "rank_dropout": 0.0,
        "rank_pattern": {},
        "revision": None,
        "use_effective_conv2d": False,
    }
    options = {"peft_type": "LOKR", "r": 4, "target_modules": ["q_proj"], **fields}
    today = {"exclude_modules": None, "rank_dropout_scale": False, "peft_version": "0.21.2"}
    return {
        "fires": [
            make.adapter("llama", **options, alpha=16),
            make.adapter("llama", **options, alpha=8),
            make.adapter("llama", **{**options, "rank_pattern": {"layers.0.self_attn.q_proj": 2}}, alpha=4),
        ],
        "silent": [
            make.adapter("llama", **options, alpha=4),
            make.adapter("llama", **options, **today, alpha=16),
            make.adapter(
                "llama", **{**options, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 2}}, alpha=8
            ),
        ],
    }
