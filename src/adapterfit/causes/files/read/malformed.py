"""The pickle or archive is built in a way torch never writes.

What this means: its parts contradict each other: a call with the wrong arguments, a storage that is not in the file,
a key that is no text, an end in the middle. What a loader would make of it depends on the loader.

Why it happens: damage, a home-made writer, a checkpoint of something else than a model, or an attempt to exploit a
loader.

Detection: every part is checked against what `torch.save` writes.

Fix: get the adapter again, as safetensors.

Workaround: none.

Prevention: publish safetensors only.

Setup:
    import zipfile

    shutil.copytree("adapter", "saved")  # as PEFT saved it
    torch.save(load_file(WEIGHTS), "plain.bin")
    os.remove(WEIGHTS)
    with zipfile.ZipFile("plain.bin") as plain, zipfile.ZipFile("adapter/adapter_model.bin", "w") as archive:
        for member in plain.namelist():
            if not member.endswith("/data/0"):  # the bytes of one tensor are left out
                archive.writestr(member, plain.read(member))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: PytorchStreamReader failed locating file data/0: file not found.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # the adapter again, as safetensors
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=("RuntimeError: PytorchStreamReader failed locating file data/0: file not found.",),
    level="advanced",
    codes=("malformed", "unsupported"),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.of(forge.tensor())[:-5]))}),
            make.weights_file(
                {
                    forge.BIN: forge.zipped(
                        forge.torch_zip(forge.pickled(forge.table((forge.number(1), forge.tensor()))))
                    )
                }
            ),
            make.weights_file({forge.BIN: forge.zipped(forge.torch_zip(forge.of(forge.tensor()), version=b"99\n"))}),
        ],
    }
