r"""The file can be read as two formats.

What this means: one program sees one content, another a different one. Such a file is not read here, since what was
checked need not be what is loaded.

Why it happens: it was made on purpose (a polyglot); this does not happen by accident.

Detection: every format is asked whether the file is its own; more than one says yes.

Fix: do not load it. Get the adapter from its author again.

Workaround: none.

Prevention: none.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    # a header so long that its length, which comes first, reads "PK": the mark of a zip, as a torch file is one
    change_header(lambda header: json.dumps(header).ljust(0x04034B50))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # goes by the name, and says nothing
    as_trained(model)  # -> True
    Path("adapter/adapter_model.safetensors").open("rb").read(4)  # what a program goes by that looks at the content
    # -> b'PK\x03\x04'
    found()  # -> ['ambiguous-format']

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "saved"))  # from its author again
    # -> True
    found("saved")  # -> []
"""

from __future__ import annotations

import dataclasses
from typing import Any

from adapterfit.causes.cause import Cause
from adapterfit.records import Flaw

CAUSE = Cause(messages=("(none: the load reports nothing)",), level="advanced", codes=("ambiguous-format",))


def examples(make: Any) -> dict[str, list[Any]]:
    """Silent for a plain file; a polyglot needs a header of 67 MB, so here the flaw itself is given."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    flaw = Flaw("ambiguous-format", "adapter_model.safetensors …", where=forge.ST, predicted="none")
    adapter = dataclasses.replace(plain.adapter, flaws=(flaw,))
    return {
        "silent": [plain],
        "fires": [dataclasses.replace(plain, case=dataclasses.replace(plain.case, adapter=adapter))],
    }
