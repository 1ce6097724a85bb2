"""BOFT's butterfly factor is obeyed on some machines only.

What this means: `boft_n_butterfly_factor` above 1 needs a CUDA extension that PEFT compiles when it is first used. Where that
fails (no nvcc, no ninja, no GPU) PEFT takes 1 instead, with a warning. The factor is the first dimension of every `boft_R`, so
the same config makes tensors of different shapes, and an adapter of one kind of machine is refused by the other. PEFT 0.11 and
0.12 take 1 for the first adapter of a model only, so that there the same file loads alone and is refused as a second one.

Why it happens: the machine of the training and that of the load differ in whether the extension can be built.

Detection: the factor in the config, beside the first dimension of the tensors. adapterfit answers for a machine without the
extension.

Fix: tensors made with factor 1: set `boft_n_butterfly_factor` to 1, which is what they were trained with. Tensors made with a
larger one: load them where the extension can be built, and merge there.

Workaround: as the fix.

Prevention: leave `boft_n_butterfly_factor` at 1.

Setup:
    options = peft.BOFTConfig(boft_block_size=8, boft_n_butterfly_factor=1, target_modules=["q_proj"])
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_config(boft_n_butterfly_factor=2)  # what a machine without the extension was asked for, and did not do

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # where the extension can be built, this raises a size mismatch
    # warns: Failed to load the CUDA extension
    # warns: Setting boft_n_butterfly_factor to 1 to speed up the finetuning process.

Fixed:
    change_config(boft_n_butterfly_factor=1)  # the first dimension of every boft_R: the same on every machine
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Failed to load the CUDA extension
    # warns: Setting boft_n_butterfly_factor to 1 to speed up the finetuning process.
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    severity="warning",
    level="intermediate",
    minutes=10,
    messages=(
        "UserWarning: Failed to load the CUDA extension: ..., check if ninja is available.",
        "UserWarning: Setting boft_n_butterfly_factor to 1 to speed up the finetuning process.",
        (
            "size mismatch for ...boft_R.default: copying a param with shape torch.Size([2, 8, 8, 8]) from checkpoint, the shape "
            "in current model is torch.Size([1, 8, 8, 8])."
        ),
    ),
    versions="peft >= 0.11",
    needs=("config", "diff"),
)


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where the config asks for more than every machine gives."""
    config = diff.expectation.config
    factor = config.get("boft_n_butterfly_factor")
    if config.get("peft_type") != "BOFT" or not isinstance(factor, int) or factor <= 1:
        return
    larger = [entry for entry in diff.misshapen if _is_rotation(entry.tensor.name) and entry.found[:1] == (factor,)]
    smaller = [entry for entry in diff.misshapen if _is_rotation(entry.tensor.name) and entry.found[:1] == (1,)]
    plain = [match for match in diff.matched if _is_rotation(match.tensor.name)]
    if larger and not plain:
        yield finding(
            f"the rotations were made with boft_n_butterfly_factor = {factor}, which PEFT obeys only where it can build its "
            "CUDA extension; elsewhere it takes 1 and refuses them",
            at=[entry.tensor for entry in larger],
            predicted="raises",
            fix=Fix("unsafe", "load and merge it on a machine with nvcc, ninja and a GPU"),
        )
    elif smaller and not plain:
        yield finding(
            f"boft_n_butterfly_factor is {factor}, but the rotations were made with 1, on a machine without PEFT's CUDA "
            "extension: a second adapter is given the factor of its config, and the file is refused",
            at=[entry.tensor for entry in smaller],
            predicted="raises",
            fix=Fix("safe", "set boft_n_butterfly_factor to 1, which they were made with", _one()),
        )
    elif plain and not larger:
        yield finding(
            f"boft_n_butterfly_factor is {factor}, but the rotations were made with 1, on a machine without PEFT's CUDA "
            "extension: where PEFT can build it, it expects other shapes and refuses the file",
            at=(),
            severity="note",
            predicted="none",
            fix=Fix("safe", "set boft_n_butterfly_factor to 1, which they were made with", _one()),
        )


def _one() -> tuple[SetConfig, ...]:
    return (SetConfig("boft_n_butterfly_factor", 1),)


def _is_rotation(name: str) -> bool:
    return evidence.parts(name).leaf == "boft_R"


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: only the first size of the rotations differs; or PEFT says that it takes 1."""
    told = said(symptoms, "failed to load the cuda extension", "setting boft_n_butterfly_factor to 1")
    if told:
        yield suspect(
            symptoms, "PEFT cannot build BOFT's CUDA extension here, and takes 1 for boft_n_butterfly_factor", 0.6, told,
            fix="nothing, where the config has 1 anyway; else load and merge the adapter where nvcc, ninja and a GPU are",
        )  # fmt: skip
    found = sizes_of(symptoms, "butterfly-depends-on-machine")
    if found is not None:
        yield suspect(
            symptoms, "the rotations were made with another boft_n_butterfly_factor than this machine gives", found.likelihood, found.lines,
            fix="a file made with factor 1: set boft_n_butterfly_factor to 1; else load and merge it where nvcc, ninja and a GPU are",
            apart="the first size of every boft_R in the file, beside boft_n_butterfly_factor in adapter_config.json",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The factor differs; the number of blocks does."""
    line = "size mismatch for base_model.model.model.layers.0.self_attn.q_proj.boft_R.default: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("2, 512, 8, 8", "1, 512, 8, 8"),
            "UserWarning: Failed to load the CUDA extension: no such file, check if ninja is available.",
        ],
        "silent": [line.format("1, 640, 8, 8", "1, 512, 8, 8")],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """Rotations of either machine under a factor of 2; factor 1; another block size."""
    options = {"peft_type": "BOFT", "boft_block_size": 8, "target_modules": ["q_proj"]}
    one, two = make.adapter("llama", **options), make.adapter("llama", **options, boft_n_butterfly_factor=2)
    return {
        "fires": [two, two.reshaped(lambda name: "boft_R" in name, lambda shape: (2, *shape[1:]))],
        "silent": [one, one.with_config(boft_block_size=16), make.lora("llama")],
    }
