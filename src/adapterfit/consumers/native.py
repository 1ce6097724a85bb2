"""What transformers' own loader, `model.load_adapter`, is known to do otherwise than `PeftModel.from_pretrained`."""

from __future__ import annotations

from collections.abc import Iterator

from adapterfit.consumers import facts
from adapterfit.records import AdapterConfig, Consumer, NotChecked
from adapterfit.text import show


def apart(consumer: Consumer, config: AdapterConfig | None) -> NotChecked:
    """That the answer is PEFT's, and where the other loader is known to differ for this adapter."""
    known = " ".join(_differences(consumer, config)) or "No difference is known for this adapter and this version."
    return NotChecked(
        f"model.load_adapter of transformers {show(consumer.transformers)}",
        f"the answer is for PeftModel.from_pretrained of peft {show(consumer.peft)}. {known}",
    )


def _differences(consumer: Consumer, config: AdapterConfig | None) -> Iterator[str]:
    """The claims that hold for this version and concern this adapter, as sentences."""
    others = {"peft": consumer.peft}
    values = config.values if config is not None else {}
    method = config.peft_type if config is not None else ""
    for each in facts.load("transformers").claims:
        if not each.id.startswith("native-") or not each.holds(consumer.transformers, others):
            continue
        about = each.value if isinstance(each.value, list) else []
        fields = [str(word) for word in about if str(word).islower()]
        if not about or method in about or any(values.get(field) for field in fields):
            yield each.what
