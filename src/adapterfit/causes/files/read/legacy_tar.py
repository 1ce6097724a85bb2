"""The `.bin` is a tar archive, as torch wrote before 2017.

What this means: today's torch refuses it with `weights_only=True`; without that, loading it ran code even where it
should not (CVE-2025-32434). It was not opened.

Why it happens: a very old file, or one made to reach the old code.

Detection: the mark of tar at byte 257, or torch's first member.

Fix: get the adapter as safetensors. PEFT never wrote this format.

Workaround: none that is safe.

Prevention: none.

Setup:
    import tarfile

    shutil.copytree("adapter", "saved")  # as PEFT saved it
    Path("storages").write_bytes(b"a pickle of the old kind")
    os.remove(WEIGHTS)
    with tarfile.open("adapter/adapter_model.bin", "w") as archive:
        archive.add("storages")

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: Cannot use ``weights_only=True`` with files saved in the legacy .tar format.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # the adapter as safetensors
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="advanced",
    messages=("RuntimeError: Cannot use ``weights_only=True`` with files saved in the legacy .tar format.",),
    codes=("legacy-tar",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [make.weights_file({forge.BIN: b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + bytes(1000)})],
    }
