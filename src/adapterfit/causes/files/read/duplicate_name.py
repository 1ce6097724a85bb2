"""Two tensors of the file have one name.

What this means: readers differ on which of the two they keep. safetensors keeps the last one and says nothing where
both lie on the same bytes, even with another shape; so what is loaded depends on the reader.

Why it happens: the file was written by a home-made writer, or made on purpose to show one thing to a scanner and
another to a loader. PEFT and safetensors never write it.

Detection: the header, or the pickle, is read with every key kept.

Fix: save the adapter again with `save_pretrained`, or ask its author to.

Workaround: none that is safe: which of the two is meant cannot be told.

Prevention: write files with the safetensors library.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"

    def twice(header):
        text = json.dumps(header)
        return text[:-1] + f', "{name}": {json.dumps(header[name])}}}'

    change_header(twice)

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # takes one of the two, and says nothing
    found()  # -> ['duplicate-name']

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # saved again with the safetensors library
    as_trained(model)  # -> True
    found("saved")  # -> []
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(messages=("(none: the load reports nothing)",), level="advanced", codes=("duplicate-name",))


def examples(make: Any) -> dict[str, list[Any]]:
    """A plain file is silent."""
    forge = make.forge
    plain = make.weights_file({forge.ST: forge.GOOD_ST})
    return {
        "silent": [plain],
        "fires": [
            make.weights_file({forge.ST: forge.st(forge.pairs(("a", forge.ONE), ("a", forge.ONE)), bytes(16))}),
            make.weights_file(
                {
                    forge.BIN: forge.zipped(
                        forge.torch_zip(
                            forge.pickled(
                                forge.table((forge.text("a"), forge.tensor()), (forge.text("a"), forge.tensor()))
                            )
                        )
                    )
                }
            ),
        ],
    }
