"""An adapter loaded before has changed the base.

What this means: some adapters widen a layer of the base when they are loaded (control LoRAs for Flux double the input of
x_embedder). What is loaded afterwards meets a base of other sizes.

Why it happens: two adapters in one pipeline, the first of which is a control or fill LoRA.

Detection: only the input layer mismatches, and the model's side is twice the file's.

Fix: `pipe.unload_lora_weights(reset_to_overwritten_params=True)` before the next one, or load the plain LoRA first.

Workaround: build the pipeline anew for each adapter.

Prevention: do not mix control LoRAs with others in one pipeline.

Needs: diffusers

Setup:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlPipeline, FluxTransformer2DModel

    def flux():
        torch.manual_seed(0)
        sizes = {"patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8}
        widths = {"num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 16}
        others = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        transformer = FluxTransformer2DModel(**sizes, **widths, axes_dims_rope=(2, 2, 4))
        return FluxControlPipeline(transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), **others)

    for name, width in (("control", 8), ("plain", 4)):  # a control image doubles the input
        factors = {"lora_A": torch.randn(2, width), "lora_B": torch.randn(16, 2)}
        tensors = {f"transformer.x_embedder.{factor}.weight": tensor for factor, tensor in factors.items()}
        save_file(tensors, f"{name}.safetensors")

Broken:
    pipe = flux()
    pipe.load_lora_weights("control.safetensors")  # doubles the input of x_embedder
    pipe.unload_lora_weights()
    pipe.transformer.x_embedder.in_features  # -> 8
    pipe.transformer.load_lora_adapter(load_file("plain.safetensors"))
    # raises RuntimeError: size mismatch for x_embedder.lora_A.default_0.weight

Fixed:
    pipe = flux()
    pipe.load_lora_weights("control.safetensors")
    pipe.unload_lora_weights(reset_to_overwritten_params=True)
    pipe.transformer.x_embedder.in_features  # -> 4
    pipe.transformer.load_lora_adapter(load_file("plain.safetensors"))
    pipe.get_list_adapters()  # -> {'transformer': ['default_0']}
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
