"""adapter_config.json was changed after the adapter was stamped.

What this means: the tensors are the ones that were stamped, but a field that decides what they do is another: the scale
(`lora_alpha`, `use_rslora`), the order of `trainable_token_indices`, a seed. PEFT loads it without a word.

Why it happens: the config was edited by hand or by a tool, taken from another run, or went through an old library that drops
fields it does not know.

Detection: `adapterfit.json` keeps the config as it was; both are read as PEFT reads them, and fields that matter are compared.
The order of lists that PEFT takes as sets, and fields that only say who wrote the file, are no difference.

Fix: set the fields back.

Workaround: `adapterfit.load(base, adapter, allow=("config-edited",))` goes on all the same.

Prevention: change an adapter by training or by `adapterfit fix`, not in an editor.

Setup:
    adapterfit.stamp("adapter", base="base")
    change_config(lora_alpha=16)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing: any scale is a possible one
    as_trained(model)  # -> False
    found()  # -> ['config-edited']

Fixed:
    change_config(lora_alpha=8)  # as it was stamped
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
    found()  # -> []
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.causes.base.base_changed import adapter_changed
from adapterfit.causes.cause import Cause, finding
from adapterfit.edits import DropConfig, Edit, SetConfig
from adapterfit.records import AdapterConfig, Case, Diff, Finding, Fix, Stamp
from adapterfit.text import quote, shorten, show

CAUSE = Cause(
    minutes=2,
    messages=("(none: any scale is a possible one)",),
    needs=("config",),
)
#: Fields that say who wrote the file, or matter in training only.
_IDLE = frozenset(
    (
        "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "module_dropout",
        "peft_version", "rank_dropout", "revision", "runtime_config",
    )
)  # fmt: skip
#: Lists that PEFT takes as sets.
_SETS = frozenset(("exclude_modules", "feedforward_modules", "modules_to_save", "target_modules", "target_parameters"))


def check(case: Case, _diff: Diff | None) -> Iterator[Finding]:
    """One finding for all fields that differ."""
    stamp, config = case.adapter.stamp, case.adapter.config
    if stamp is None or stamp.adapter_config is None or config is None or adapter_changed(stamp):
        return
    before, now = _meaning(stamp.adapter_config), _meaning(config)
    fields = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if fields:
        yield _finding(fields, stamp.adapter_config, before, now)


def _meaning(config: AdapterConfig) -> dict[str, Any]:
    """The fields that matter, as PEFT takes them."""
    values = config.values if config.known else config.raw
    return {name: _plain(name, value) for name, value in values.items() if name not in _IDLE}


def _plain(name: str, value: Any) -> Any:
    if name in _SETS and isinstance(value, (list, tuple)):
        return sorted(map(str, value))
    return list(value) if isinstance(value, tuple) else value


def _finding(fields: list[str], stamped: AdapterConfig, before: Mapping[str, Any], now: Mapping[str, Any]) -> Finding:
    changes = [f"{show(name)}: {_said(before.get(name))} → {_said(now.get(name))}" for name in fields]
    back = shorten((f"{show(name)} to {_said(before.get(name))}" for name in fields), 4)
    return finding(
        f"adapter_config.json was changed after the adapter was stamped, and the tensors were not: {shorten(changes, 4)}",
        predicted="silent",
        expected=_said(before.get(fields[0])),
        found=_said(now.get(fields[0])),
        fix=Fix("unsafe", f"set {back}, as it was when it was stamped", tuple(_back(name, stamped) for name in fields)),
        differs=True,
    )


def _back(name: str, stamped: AdapterConfig) -> Edit:
    return SetConfig(name, stamped.raw[name]) if name in stamped.raw else DropConfig(name)


def _said(value: object) -> str:
    return quote(value, 60) if isinstance(value, str) else show(value, 60)


def examples(make: Any) -> dict[str, list[Any]]:
    """Another scale, other rows, a lost flag; not a reordered list of targets, and not a stamp of other tensors."""
    plain = make.lora("llama", trainable_token_indices=[3, 5])
    stamped = plain.with_stamp(Stamp("adapterfit.json", adapter_config=plain.adapter.config))
    return {
        "fires": [
            stamped.with_config(lora_alpha=64),
            stamped.with_config(use_rslora=True),
            stamped.with_config(trainable_token_indices=[5, 3]),
        ],
        "silent": [
            plain,
            stamped,
            stamped.with_config(target_modules=["v_proj", "q_proj"], peft_version="0.21.2", inference_mode=False),
        ],
    }
