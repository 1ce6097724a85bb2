"""The `.bin` was compressed.

What this means: `torch.save` stores numbers as they are. A compressed member may be a small file that unpacks to
gigabytes; torch unpacks it without asking. It was not unpacked here.

Why it happens: the archive was repacked with a zip tool, or is a bomb.

Detection: the compression method and sizes of each member.

Fix: load it where it was saved, and save it again.

Workaround: unpack it and zip it without compression (`zip -0`), inside one folder.

Prevention: never repack a `.bin` with a zip tool.

Setup:
    import zipfile

    torch.save(load_file(WEIGHTS), "plain.bin")
    os.remove(WEIGHTS)
    with zipfile.ZipFile("plain.bin") as plain, zipfile.ZipFile("adapter/adapter_model.bin", "w") as packed:
        for member in plain.namelist():
            packed.writestr(member, plain.read(member), zipfile.ZIP_DEFLATED)  # repacked with a zip tool

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # unpacks whatever it is, and says nothing
    found()  # -> ['compressed-member']

Fixed:
    weights = torch.load("adapter/adapter_model.bin", weights_only=True)  # if you trust its author
    save_file(weights, "adapter/adapter_model.safetensors")
    os.remove("adapter/adapter_model.bin")
    found()  # -> []
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(messages=("(none: the load reports nothing)",), level="advanced", codes=("compressed-member",))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file(
                {forge.BIN: forge.zipped([forge.Member("archive/data.pkl", forge.of(forge.tensor()), method=8)])}
            )
        ],
    }
