"""Something in the folder is no plain file.

What this means: a named pipe, a socket or a device lies where a file is due. Opening a pipe waits for ever, reading a
device may never end; it was not opened.

Why it happens: leftovers of a program, or a folder made to hang a scanner.

Detection: the kind of each entry, before it is opened.

Fix: delete it, and put the file there.

Workaround: none.

Prevention: publish and copy folders with plain files only (`hf download --local-dir`).

Setup:
    shutil.move(WEIGHTS, "kept.safetensors")
    os.mkdir(WEIGHTS)  # a folder of that name, from a tool that unpacks archives

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises SafetensorError or IsADirectoryError or OSError: ...

Fixed:
    os.rmdir("adapter/adapter_model.safetensors")
    shutil.move("kept.safetensors", "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import dataclasses
from typing import Any

from adapterfit.causes.cause import Cause
from adapterfit.records import Flaw

CAUSE = Cause(
    messages=("OSError: No such device (os error 19)",), codes=("not-a-regular-file", "not-readable"), minutes=2
)


def examples(make: Any) -> dict[str, list[Any]]:
    """Silent for plain files; bytes in memory have no links, so here the flaw itself is given."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    flaw = Flaw("not-a-regular-file", "adapter_model.safetensors …", where=forge.ST, predicted="none")
    adapter = dataclasses.replace(plain.adapter, flaws=(flaw,))
    return {
        "silent": [plain],
        "fires": [dataclasses.replace(plain, case=dataclasses.replace(plain.case, adapter=adapter))],
    }
