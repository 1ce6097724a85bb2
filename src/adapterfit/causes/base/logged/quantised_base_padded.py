"""The quantised copy of the base has padded layers, so its sizes differ from the plain one's.

What this means: some quantised releases make layers a little wider, so that they divide among GPUs. An adapter trained on the one
does not fit the other: only the MLP's tensors mismatch, by about half a percent.

Why it happens: GPTQ and AWQ releases of Qwen2-72B have an intermediate size of 29,696 instead of 29,568; the adapter was trained
on one of them and is merged into, or served with, the other.

Detection: r and the attention agree; in gate_proj, up_proj and down_proj the two widths differ by under two percent, and both are
multiples of 64.

Fix: load the adapter on the copy it was trained on; or pad the plain base's MLP with zeros, as the model's makers describe.

Workaround: cut lora_B of gate and up, and lora_A of down, to the smaller width: the padding belongs to no neuron.

Prevention: compare intermediate_size of both config.json files before training on a quantised copy.

Setup:
    LlamaForCausalLM(llama(intermediate_size=4096)).save_pretrained("base")
    LlamaForCausalLM(llama(intermediate_size=4160)).save_pretrained("padded")  # the quantised copy, a little wider
    padded = AutoModelForCausalLM.from_pretrained("padded")
    trained = train(padded, LoraConfig(r=4, target_modules=["up_proj", "down_proj"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... up_proj.lora_B.default.weight: copying a param with shape torch.Size([4160, 4]) from checkpoint, the shape in current model is torch.Size([4096, 4]).

Fixed:
    base = AutoModelForCausalLM.from_pretrained("padded")  # the copy of the training
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=30,
    messages=(
        "size mismatch for ...mlp.up_proj.lora_B.default.weight: copying a param with shape torch.Size([29696, 8]) from checkpoint, the shape in current model is torch.Size([29568, 8]).",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "intermediate_size", "padded", "padding",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the MLP's widths differ by a little; or two values of intermediate_size stand beside each other."""
    fix = "load it on the copy it was trained on; compare intermediate_size in both config.json files"
    found = sizes_of(symptoms, "quantised-base-padded")
    if found is not None:
        yield suspect(
            symptoms, f"only the MLP differs, by {abs(found.file - found.model)} of {found.model:,}: one of the two bases is padded", found.likelihood,
            found.lines, fix=fix, apart="intermediate_size in config.json of the base of the training: quantised copies are padded",
        )  # fmt: skip
    sizes = [(line, number) for line, number in _sizes(symptoms)]
    values = {number for _, number in sizes}
    if found is None and len(values) == 2 and max(values) - min(values) <= 0.02 * max(values):
        yield suspect(
            symptoms, f"two bases with intermediate_size {min(values):,} and {max(values):,}: one is padded", 0.85, [line for line, _ in sizes], fix=fix,
        )  # fmt: skip


def _sizes(symptoms: Symptoms) -> Iterator[tuple[int, int]]:
    """Every value of intermediate_size that the text tells."""
    for line in said(symptoms, "intermediate_size"):
        digits = "".join(
            char if char.isdigit() else " " for char in symptoms.lines[line].partition("intermediate_size")[2][:24]
        ).split()
        if digits and len(digits[0]) < 8:
            yield line, int(digits[0])


def logs() -> dict[str, list[str]]:
    """A padded MLP; another family's MLP."""
    line = "size mismatch for base_model.model.model.layers.0.mlp.{}.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": ["merging the GPTQ adapter: " + line.format("up_proj.lora_B", "29696, 8", "29568, 8")],
        "silent": [line.format("up_proj.lora_B", "14336, 8", "11008, 8")],
    }
