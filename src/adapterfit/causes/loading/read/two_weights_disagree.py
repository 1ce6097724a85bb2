"""adapter_model.safetensors and adapter_model.bin hold different tensors.

What this means: PEFT loads the safetensors file and never looks at the other, without a word. Which of the two is the
newer one the names do not tell.

Why it happens: the adapter was saved once by an old and once by a new PEFT into the same folder, or one of them was
replaced by hand.

Detection: the headers of both files are read and compared.

Fix: delete the one that is out of date.

Workaround: none is needed if the safetensors file is the right one.

Prevention: save into an empty folder.

Setup:
    model = noise(noise(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))))
    trained = logits(model)
    torch.save(get_peft_model_state_dict(model), "adapter/adapter_model.bin")  # newer than the safetensors beside it

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # takes the safetensors, and says nothing
    as_trained(model)  # -> False

Fixed:
    os.remove("adapter/adapter_model.safetensors")  # the one that is out of date
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """One weights file is silent."""
    files = make.as_files(make.lora("llama"))
    return {"silent": [make.folder(files)], "fires": [make.folder({**files, "adapter_model.bin": b"stale"})]}


CAUSE = Cause(
    severity="warning", messages=("(none: the load reports nothing)",), codes=("two-weights-disagree",), minutes=2
)
