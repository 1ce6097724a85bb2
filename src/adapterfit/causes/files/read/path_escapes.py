"""A link leads out of the folder.

What this means: a file of the folder is a link to a place outside it, or to nowhere. It was not followed: an adapter
from a stranger must not make a tool read your other files. Links inside the folder, and those of the Hub cache into
`blobs`, are followed.

Why it happens: the folder was assembled with links to save space, moved without its targets, or made to lead
elsewhere.

Detection: every link is resolved and compared with the folder.

Fix: copy the real file into the folder, or name the real folder on the command line.

Workaround: none.

Prevention: publish and copy folders with plain files only (`hf download --local-dir`).

Setup:
    os.mkdir("private")
    shutil.move(WEIGHTS, "private/adapter_model.safetensors")
    os.symlink("../private/adapter_model.safetensors", WEIGHTS)  # a link that leads out of the folder

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # follows it, wherever it leads, and says nothing
    as_trained(model)  # -> True
    found()  # -> ['path-escapes']

Fixed:
    os.remove("adapter/adapter_model.safetensors")
    shutil.copy("private/adapter_model.safetensors", "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
    found()  # -> []
"""

from __future__ import annotations

import dataclasses
from typing import Any

from adapterfit.causes.cause import Cause
from adapterfit.records import Flaw

CAUSE = Cause(messages=("(none: the load reports nothing)",), codes=("path-escapes", "dangling-link"), minutes=2)


def examples(make: Any) -> dict[str, list[Any]]:
    """Silent for plain files; bytes in memory have no links, so here the flaw itself is given."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    flaw = Flaw("path-escapes", "adapter_model.safetensors …", where=forge.ST, predicted="none")
    adapter = dataclasses.replace(plain.adapter, flaws=(flaw,))
    return {
        "silent": [plain],
        "fires": [dataclasses.replace(plain, case=dataclasses.replace(plain.case, adapter=adapter))],
    }
