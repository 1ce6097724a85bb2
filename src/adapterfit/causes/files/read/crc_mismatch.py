"""A checksum in the `.bin` is wrong.

What this means: the description of the tensors is not the one that was saved; torch does not look at the checksum and
loads it. A changed bit or an edited file.

Why it happens: damage on a disk or on the way, or an edit by hand.

Detection: CRC-32 of `data.pkl` against the archive's directory. The tensors' own bytes are not read.

Fix: download or save the file again.

Workaround: none.

Prevention: compare the checksum after a download.

Setup:
    file = Path("adapter/adapter_model.bin")
    torch.save(load_file(WEIGHTS), file)
    os.remove(WEIGHTS)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"layers.1.self_attn.q_proj.lora_A", b"layers.1.self_attn.q_proj.lora_Q"))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # torch does not look at the checksum
    # warns: Found missing adapter keys while loading the checkpoint
    as_trained(model)  # -> False
    "crc-mismatch" in found()  # -> True

Fixed:
    file.write_bytes(whole)  # downloaded again
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    messages=(
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight']",
    ),
    level="intermediate",
    codes=("crc-mismatch",),
)


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain, make.weights_file({forge.BIN: forge.GOOD_BIN})],
        "fires": [
            make.weights_file(
                {
                    forge.BIN: forge.zipped(
                        [
                            forge.Member("a/data.pkl", forge.of(forge.tensor()), crc=1),
                            forge.Member("a/data/0", bytes(16)),
                            forge.Member("a/version", b"3"),
                        ]
                    )
                }
            )
        ],
    }
