"""adapterfit.json cannot be read.

What this means: the adapter has a stamp, but not one this version understands; whether the base is the right one is not known
from it. PEFT never looks at the file.

Why it happens: a newer adapterfit wrote it, it was edited, or another program uses the same name.

Detection: every field, type and length is held against what adapterfit writes.

Fix: stamp the adapter again, once it is certain which base it belongs to.

Workaround: none needed; delete the file, and the adapter is an unstamped one.

Prevention: leave the file as it is.

Setup:
    Path("adapter/adapterfit.json").write_text('{"schema": "adapterfit/stamp/v9"}')  # by a newer adapterfit

Broken:
    found()  # -> ['stamp-unreadable']

Fixed:
    adapterfit.stamp("adapter", base="base")
    found()  # -> []
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    severity="warning",
    minutes=1,
    messages=("(none: PEFT does not read adapterfit.json)",),
    codes=("stamp-unreadable",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """Not JSON, another version, a field of another type; not a folder without the file."""
    files = make.as_files(make.lora())
    return {
        "fires": [
            make.folder({**files, "adapterfit.json": data})
            for data in (b"{", b'{"schema": "adapterfit/stamp/v9"}', b'{"schema": "adapterfit/stamp/v1", "base": 3}')
        ],
        "silent": [make.folder(files)],
    }
