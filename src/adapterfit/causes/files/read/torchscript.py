"""The `.bin` is a TorchScript program, not a dict of tensors.

What this means: it holds code for torch's own interpreter. torch refuses it with `weights_only=True`.

Why it happens: the model was saved with `torch.jit.save`.

Detection: the archive holds `constants.pkl` or a `code/` folder.

Fix: save the adapter with `model.save_pretrained`, from the model before it was scripted.

Workaround: `torch.jit.load(file).state_dict()` gives the tensors, if you trust the file.

Prevention: none.

Setup:
    shutil.copytree("adapter", "saved")  # as PEFT saved it
    os.remove(WEIGHTS)
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), "adapter/adapter_model.bin")  # a program

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: 'torch.load' received a zip file that looks like a TorchScript archive
    # raises RuntimeError: Cannot use ``weights_only=True`` with TorchScript archives passed to ``torch.load``.

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "saved")  # saved by save_pretrained, before it was scripted
    as_trained(model)  # -> True
"""

from __future__ import annotations

from typing import Any

from adapterfit.causes.cause import Cause

CAUSE = Cause(
    level="intermediate",
    messages=(
        "RuntimeError: Cannot use ``weights_only=True`` with TorchScript archives passed to ``torch.load``.",
        "UserWarning: 'torch.load' received a zip file that looks like a TorchScript archive dispatching to 'torch.jit.load'",
    ),
    codes=("torchscript",),
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
                        [*forge.torch_zip(forge.of(forge.tensor())), forge.Member("archive/constants.pkl")]
                    )
                }
            )
        ],
    }
