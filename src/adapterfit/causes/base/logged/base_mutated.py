"""An adapter loaded before has changed the base.

What this means: some adapters widen a layer of the base when they are loaded (control LoRAs for Flux double the input of
x_embedder). What is loaded afterwards meets a base of other sizes.

Why it happens: two adapters in one pipeline, the first of which is a control or fill LoRA.

Detection: only the input layer mismatches, and the model's side is twice the file's.

Fix: `pipe.unload_lora_weights(reset_to_overwritten_params=True)` before the next one, or load the plain LoRA first.

Workaround: build the pipeline anew for each adapter.

Prevention: do not mix control LoRAs with others in one pipeline.

Not run: it needs diffusers, and a Flux pipeline with a control LoRA, whose widened layer is what the next adapter meets.

Broken:
    pipe = FluxControlPipeline.from_pretrained("black-forest-labs/FLUX.1-dev")
    pipe.load_lora_weights("black-forest-labs/FLUX.1-Canny-dev-lora")  # doubles the input of x_embedder
    pipe.load_lora_weights("a-plain-flux-lora", adapter_name="plain")  # size mismatch for x_embedder

Fixed:
    pipe = FluxControlPipeline.from_pretrained("black-forest-labs/FLUX.1-dev")
    pipe.load_lora_weights("black-forest-labs/FLUX.1-Canny-dev-lora")
    pipe.unload_lora_weights(reset_to_overwritten_params=True)
    pipe.load_lora_weights("a-plain-flux-lora", adapter_name="plain")
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
    minutes=10,
    messages=(
        "size mismatch for x_embedder.lora_A.default_1.weight: copying a param with shape torch.Size([16, 64]) from checkpoint, the shape in current model is torch.Size([16, 128]).",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "control lora", "expanded", "unload_lora",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the input layer alone, twice as wide in the model; or diffusers says that it widened it."""
    fix = "pipe.unload_lora_weights(reset_to_overwritten_params=True) before this one, or load the control LoRA last"
    found = sizes_of(symptoms, "base-mutated")
    if found is not None:
        yield suspect(
            symptoms, "the model's input layer is wider than the file's: an adapter loaded before may have widened it", found.likelihood, found.lines,
            fix=fix, apart="whether the adapter loads into a fresh pipeline: then an earlier one changed the base",
        )  # fmt: skip
    told = said(symptoms, "expanding the nn.linear input/output features", "expanded input")
    if told:
        yield suspect(symptoms, "an adapter widened a layer of the base", 0.7, told, fix=fix)


def logs() -> dict[str, list[str]]:
    """Twice as wide; six times is another model."""
    line = "size mismatch for x_embedder.lora_A.default.weight: copying a param with shape torch.Size([16, 64]) from checkpoint, the shape in current model is torch.Size([16, {}])."
    return {"fires": [line.format(128)], "silent": [line.format(384)]}
