"""The `.bin` is a zip that two programs may read differently.

What this means: a member occurs twice, headers contradict each other, bytes lie hidden between members, or there is
more than one directory. What a scanner sees need not be what a loader loads.

Why it happens: the archive was changed with a zip tool, joined with another, or made to slip past a scanner (several
such holes were found in 2025).

Detection: the archive is read by one narrow law that everything `torch.save` writes obeys.

Fix: get the adapter again, as safetensors; or load it where it was saved and save it again.

Workaround: none.

Prevention: never repack a `.bin` with a zip tool.

Setup:
    import zipfile

    file = "adapter/adapter_model.bin"
    torch.save(load_file(WEIGHTS), file)
    os.remove(WEIGHTS)
    with zipfile.ZipFile(file, "a") as archive:  # a zip tool added a member that is there already
        archive.writestr("adapter_model/data.pkl", b"something else")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # torch reads the first of the two, and says nothing
    # -> True
    zipfile.ZipFile(file).read("adapter_model/data.pkl")  # another program reads the second
    # -> b'something else'
    found()  # -> ['archive-ambiguous']

Fixed:
    weights = torch.load(file, weights_only=True)  # where it was saved, and is known to be right
    save_file(weights, "adapter/adapter_model.safetensors")
    os.remove(file)
    base = AutoModelForCausalLM.from_pretrained("base")
    as_trained(PeftModel.from_pretrained(base, "adapter"))  # -> True
    found()  # -> []
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(messages=("(none: the load reports nothing)",), level="advanced", codes=("archive-ambiguous",))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file(
                {forge.BIN: forge.zipped([*forge.torch_zip(forge.of(forge.tensor())), forge.Member("archive/data/0")])}
            ),
            make.weights_file({forge.BIN: forge.GOOD_BIN + forge.GOOD_BIN}),
        ],
    }
