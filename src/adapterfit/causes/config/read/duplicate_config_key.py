"""A key stands twice in adapter_config.json.

What this means: readers differ on which of the two values counts. PEFT (Python's json) takes the last one, others the
first, strict ones refuse the file. The adapter may be scaled or placed differently from what its author saw.

Why it happens: the file was edited or merged by hand; a merge conflict was resolved by keeping both sides.

Detection: the file is parsed by a reader that remembers repeated keys.

Fix: keep the value the adapter was trained with, delete the other.

Workaround: none is needed where both values are equal.

Prevention: let PEFT write the file.

Setup:
    text = Path(CONFIG).read_text()
    Path(CONFIG).write_text(text.replace('"lora_alpha": 8', '"lora_alpha": 8, "lora_alpha": 32'))  # a merge kept both

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # takes the last one, and says nothing
    as_trained(model)  # -> False
    found()  # -> ['duplicate-config-key']

Fixed:
    text = Path("adapter/adapter_config.json").read_text()
    Path("adapter/adapter_config.json").write_text(text.replace(', "lora_alpha": 32', ""))
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """A config as PEFT writes it is silent."""
    plain = make.as_files(make.lora("llama"))
    twice = plain[make.CONFIG].rstrip().rstrip(b"}") + b', "r": 8}'
    return {"silent": [make.folder(plain)], "fires": [make.folder({**plain, make.CONFIG: twice})]}


CAUSE = Cause(messages=("(none: the load reports nothing)",), codes=("duplicate-config-key",), minutes=2)
