"""A pattern key is read otherwise since PEFT 0.15.

What this means: keys of `rank_pattern` and `alpha_pattern` are regular expressions. Up to PEFT 0.14 a key had to stand
after a dot, so a key that begins with `^` matched nothing; since 0.15 it may also stand at the beginning of a module's name,
and such keys are in force. For a rank the load raises; for an alpha the strength changes in silence.

Why it happens: the key was meant to work, did not in training, and does now.

Detection: a key with `^` that matches a module today and did not then, in a config written before 0.15.

Fix: remove the keys that were not in force, so that the adapter is applied as it was trained.

Workaround: load with PEFT 0.14.

Prevention: name modules in full, without anchors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import written_before
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import quote

CAUSE = Cause(
    level="advanced",
    minutes=5,
    messages=("size mismatch for ...lora_A.default.weight: copying a param with shape torch.Size([4, 64]) from ...",),
    versions="written by peft 0.6.0 to 0.14.0, read by peft >= 0.15.0",
    needs=("config", "diff"),
    broken="""
{"r": 4, "alpha_pattern": {"^model.layers.1.self_attn.q_proj": 32}}    # not in force when trained with PEFT 0.14
""",
    fixed="""
{"r": 4, "alpha_pattern": {}}
""",
)
#: Plain names with an anchor before them; other expressions are left to people.
_ANCHORED = re.compile(r"\^[\w.]+\Z")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding per table that holds such a key."""
    if not written_before(case, "0.15.0"):
        return
    for field in ("rank_pattern", "alpha_pattern"):
        table = diff.expectation.config.get(field)
        keys = [key for key in table if _ANCHORED.match(key)] if isinstance(table, Mapping) else []
        hit = [key for key in keys if any(_now(key, name) for name in diff.expectation.targets)]
        if hit and isinstance(table, Mapping):
            yield _found(field, hit, table, diff)


def _now(key: str, name: str) -> bool:
    """Whether an anchored plain name matches a module today; the dots in it match any character, as in PEFT."""
    return re.match(rf"({key})$", name) is not None


def _found(field: str, hit: list[str], table: Mapping[str, Any], diff: Diff) -> Finding:
    raises = field == "rank_pattern" and diff.raised is not None
    kept = {key: value for key, value in table.items() if key not in hit}
    return finding(
        f"{field} has the key {quote(hit[0])}, which PEFT before 0.15 ignored and PEFT now applies",
        at=[entry.tensor for entry in diff.misshapen] if raises else (),
        predicted="raises" if raises else "silent",
        expected="what was in force in training: no such key",
        found=quote(hit[0]),
        fix=Fix("safe", f"remove {quote(hit[0])} from {field}", (SetConfig(field, kept),)),
        differs=not raises,
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """An anchored key in an old config; the same in one of today; a key that matches nothing."""
    old: dict[str, Any] = {"alpha_pattern": {}, "rank_pattern": {}, "auto_mapping": None, "bias": "none", "fan_in_fan_out": False,
           "init_lora_weights": True, "layers_pattern": None, "layers_to_transform": None, "lora_dropout": 0.0,
           "modules_to_save": None, "revision": None}  # fmt: skip
    key = "^model.layers.1.self_attn.q_proj"
    plain = make.lora("llama", **old)
    return {
        "fires": [plain.with_config(alpha_pattern={key: 32}), plain.with_config(rank_pattern={key: 8})],
        "silent": [
            plain,
            make.lora("llama", alpha_pattern={key: 32}, peft_version="0.21.2"),
            plain.with_config(alpha_pattern={"^model.layers.9.self_attn.q_proj": 32}),
        ],
    }
