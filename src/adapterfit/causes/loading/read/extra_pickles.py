"""Pickle files lie beside the adapter.

What this means: optimizer.pt, training_args.bin and their like are pickles: opening one can run any code in it. PEFT does
not open them, a Trainer that resumes does. Nothing here was opened.

Why it happens: the folder is a whole training checkpoint.

Detection: the names of the files.

Fix: delete them, unless the training is to go on and you trust their origin.

Workaround: none is needed for inference.

Prevention: publish `save_pretrained` output, not checkpoints.

Setup:
    import argparse

    torch.save(argparse.Namespace(learning_rate=1e-4), "adapter/training_args.bin")  # as a Trainer's checkpoint has it

Broken:
    arguments = torch.load("adapter/training_args.bin", weights_only=True)
    # raises UnpicklingError: Weights only load failed.

Fixed:
    os.remove("adapter/training_args.bin")  # PEFT does not need it
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause


def examples(make: Any) -> dict[str, list[Any]]:
    """An adapter alone is silent."""
    files = make.as_files(make.lora("llama"))
    beside = {"optimizer.pt": b"", "training_args.bin": b""}
    return {"silent": [make.folder(files)], "fires": [make.folder({**files, **beside})]}


CAUSE = Cause(
    severity="note",
    level="intermediate",
    messages=("_pickle.UnpicklingError: Weights only load failed.",),
    codes=("extra-pickles",),
    minutes=1,
)
