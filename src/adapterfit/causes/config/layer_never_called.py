"""The adapter sits on a layer that the model never calls.

What this means: PEFT puts its layer around a module, loads every tensor into it, and says nothing. But the module above takes the
weight of the layer inside and computes with it directly, so PEFT's layer is never called. What was trained there changes nothing;
trained this way, it never got a gradient either. Where other layers of the adapter are called, the model is the one that was
trained, and this is a warning.

Why it happens: `torch.nn.MultiheadAttention` hands `out_proj.weight` to a function of its own; `nn.TransformerEncoderLayer` does so
with all its parts in eval mode (its fast path). In transformers WavLM's attention, the TDNN layers of speaker models and the
convolutions of Mamba-like mixers do the same; the `shared` embedding of T5, BART and their kin only lends its weight to the
`embed_tokens` of encoder and decoder.

Detection: the tensors land on modules of which this is known, and PEFT does not wrap the module above as well. LoRA on the
MultiheadAttention itself works, its output projection included; a Linear called `out_proj` anywhere else is called, and so is fine.

Fix: train again with targets that are called: the MultiheadAttention itself (`attention`, not `out_proj`), `embed_tokens` instead of
`shared`; leave the others out.

Workaround: an adapter made by another program acts once it is part of the weights: `merge_and_unload()`. In an
`nn.TransformerEncoderLayer` `torch.backends.mha.set_fastpath_enabled(False)` helps, without any merging.

Prevention: after one backward pass, look for `lora_B` whose `grad` is None.

Setup:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    pixels = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)

    def vision():
        torch.manual_seed(0)
        few = dict(num_hidden_layers=1, num_attention_heads=4, image_size=16, patch_size=8)
        return SiglipVisionModel(SiglipVisionConfig(hidden_size=32, intermediate_size=48, **few)).eval()

    def pooled(model):
        with torch.no_grad():
            return model(pixel_values=pixels).pooler_output

    def trained_on(*targets):
        model = noise(get_peft_model(vision(), LoraConfig(r=4, target_modules=list(targets))))
        model.save_pretrained("adapter")
        return pooled(model)

    before = pooled(vision())
    trained_on("attention.out_proj")  # head.attention is an nn.MultiheadAttention

Broken:
    model = PeftModel.from_pretrained(vision(), "adapter")  # says nothing
    torch.allclose(pooled(model), before, atol=1e-6)  # -> True
    found(base=vision())  # -> ['layer-never-called']

Fixed:
    wanted = trained_on("attention")  # wraps out_proj as well
    model = PeftModel.from_pretrained(vision(), "adapter")
    torch.allclose(pooled(model), before, atol=1e-6)  # -> False
    torch.allclose(pooled(model), wanted, atol=1e-6)  # -> True
    found(base=vision())  # -> []
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Case, Diff, Finding, Fix, Match, Module, ModuleTree, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=30,
    messages=("Detected LoRA on TDNNLayer. LoRA weights won't be applied due to optimization.",),
    needs=("config", "diff"),
)
_MIXER = ("conv1d",)
_SHARED = ("shared",)
#: Class → those of its children whose weights its forward takes itself. Each was seen to get a gradient without being called
#: (transformers 5.23.0), and is loaded by PEFT and compared in `tests/differential/test_layers_never_called.py`.
_TAKES: Mapping[str, Sequence[str]] = {
    "WavLMAttention": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "TDNNLayer": ("kernel",),
    "MobileBertLMPredictionHead": ("decoder", "dense"),
    "ProphetNetDecoder": ("ngram_embeddings",),
    "SEWDTransformerEncoder": ("rel_embeddings",),
    "MambaMixer": ("conv1d", "dt_proj"),
    "FalconMambaMixer": ("conv1d", "dt_proj"),
    "JambaMambaMixer": ("conv1d", "dt_proj"),
    "Lfm2ShortConv": ("conv",),
    "Lfm2MoeShortConv": ("conv",),
    "Lfm3ShortConv": ("conv",),
    **dict.fromkeys(
        (
            "BambaMixer", "FalconH1Mixer", "GraniteMoeHybridMambaLayer", "Mamba2Mixer", "NemotronHMamba2Mixer",
            "OlmoHybridGatedDeltaNet", "Qwen3NextGatedDeltaNet", "Qwen3_5GatedDeltaNet", "Qwen3_5MoeGatedDeltaNet",
        ),
        _MIXER,
    ),
    **dict.fromkeys(
        (
            "BartModel", "BigBirdPegasusModel", "LEDModel", "M2M100Model", "MBartModel", "PegasusModel",
            "T5Model", "T5EncoderModel", "T5ForConditionalGeneration", "MT5Model", "MT5EncoderModel",
            "MT5ForConditionalGeneration", "UMT5Model", "UMT5EncoderModel", "UMT5ForConditionalGeneration",
        ),
        _SHARED,
    ),
}  # fmt: skip
#: The prefix of TRAINABLE_TOKENS.
_ROWS = "trainable_tokens_"
#: Of these it was so in every version of transformers that we know.
_ALWAYS = frozenset({"WavLMAttention", "MobileBertLMPredictionHead"})


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding per class of the module above, where tensors land on what it never calls."""
    tree = diff.expectation.tree
    above = {module.name: module for module in tree.modules if _takes_weights(module)}
    if not above or not diff.matched:
        return
    wrapped = frozenset(diff.expectation.targets)
    idle: dict[str, list[Match]] = {}
    called, shared = False, []
    for match in diff.matched:
        parent = _passed_over(match, above, wrapped, diff)
        if parent is not None:
            idle.setdefault(parent.class_name or parent.kind, []).append(match)
        elif match.slot.role == "tuner" and match.slot.module:
            called = True
        elif match.slot.role == "tuner":
            shared.append(match)
    if idle and not called:  # what all layers share (VeRA's projections) acts through them alone
        next(iter(idle.values())).extend(shared)
    landed = len(diff.matched) + len(diff.overwrites)
    alone = sum(map(len, idle.values())) == landed
    for name, matches in idle.items():
        yield _finding(case, tree, name, matches, landed, alone=alone)


def _takes_weights(module: Module) -> bool:
    return module.kind == "MultiheadAttention" or module.fused or module.class_name in _TAKES


def _passed_over(match: Match, above: Mapping[str, Module], wrapped: frozenset[str], diff: Diff) -> Module | None:
    """The module that passes over what this tensor is applied to."""
    slot, prefix = match.slot, diff.expectation.prefix
    name, _, leaf = slot.module.rpartition(".")
    parent = above.get(name)
    copy = slot.role == "saved-module" and leaf in _SHARED
    if not copy and (slot.role != "tuner" or not prefix or prefix not in slot.model_key):
        return None
    if parent is not None and name not in wrapped:
        if parent.kind == "MultiheadAttention":
            return parent if leaf == "out_proj" else None
        tied = any(f"{slot.module}.weight" in group for group in diff.expectation.tree.tied)
        lent = leaf in _SHARED and prefix == _ROWS and tied  # PEFT puts single rows into the tied layers as well
        if leaf in _TAKES.get(parent.class_name, ()) and not lent:
            return parent
    return _fused(slot.module, above)


def _fused(name: str, above: Mapping[str, Module]) -> Module | None:
    """The layer around `name` whose fast path passes over all that is in it."""
    while name:
        name = name.rpartition(".")[0]
        if name in above and above[name].fused:
            return above[name]
    return None


def _finding(case: Case, tree: ModuleTree, name: str, matches: Sequence[Match], landed: int, *, alone: bool) -> Finding:
    """`alone`: nothing of the adapter acts. Where the rest does, the model is still the one that PEFT trained."""
    layers = sorted({match.slot.module.rpartition(".")[2] for match in matches})
    fast = any(module.fused and module.class_name == name for module in tree.modules)
    older = bool(case.consumer.rules) and name in _TAKES and name not in _ALWAYS and layers != ["shared"]
    when = ", in eval mode," if fast else ""
    called = f"{', '.join(map(quote, layers))} {'is' if len(layers) == 1 else 'are'} never called"
    told = f"{len(matches)} of {evidence.count(landed, 'tensor')} land and change nothing: {called};"
    why = f" {quote(name)}{when} {'only lends the weight to others' if layers == ['shared'] else 'computes with the weight itself'}"
    maybe = "; whether it did so in this older version is not known" if older else ""
    copies = all(
        match.slot.role == "saved-module" for match in matches
    )  # whole modules: in training they acted on nothing, too
    as_trained = copies or not (alone or fast)
    return finding(
        f"{told}{why}{maybe}",
        at=[match.tensor for match in matches],
        severity="note" if as_trained else "error",
        predicted="none" if as_trained else "silent",
        confidence="medium" if older else "high",
        explains=(),
        fix=Fix("unsafe", _remedy(name, layers, fast=fast)),
        idle=not older and not as_trained,
        undecided=older and not as_trained,
    )


def _remedy(name: str, layers: Sequence[str], *, fast: bool) -> str:
    if fast:
        return "torch.backends.mha.set_fastpath_enabled(False) before the forward pass, or merge_and_unload()"
    if layers == ["shared"]:
        return "train with embed_tokens instead of shared, which only lends its weight"
    if name == "MultiheadAttention":
        return "train with the attention itself as target (it wraps out_proj too), or merge_and_unload() what another program made"
    return "leave these out of target_modules and train again, or merge_and_unload() what another program made"


def examples(make: Any) -> dict[str, list[Any]]:
    """SigLIP's pooling head, T5's shared embedding; not the attention itself, nor an `out_proj` that is called."""
    return {
        "fires": [
            make.lora("siglip", task_type=None, target_modules=["attention.out_proj"]),
            make.lora("siglip", task_type=None, target_modules=["out_proj"]),
            make.lora("t5", target_modules=["shared"]),
            make.lora("t5", target_modules=["q", "v"], modules_to_save=["shared"]),
        ],
        "silent": [
            make.lora("siglip", task_type=None, target_modules=["attention"]),
            make.lora("siglip", task_type=None, target_modules=["self_attn.out_proj"]),
            make.lora("whisper", target_modules=["out_proj"]),
            make.lora("t5", target_modules=["q", "embed_tokens"]),
        ],
    }


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the one warning that anybody gives about it."""
    told = said(symptoms, "detected lora on tdnnlayer")
    if told:
        yield suspect(
            symptoms,
            "LoRA on TDNNLayer.kernel is never called: the layer computes with the weight itself",
            0.95,
            told,
            fix='leave "kernel" (the TDNN layers) out of target_modules and train again',
        )


def logs() -> dict[str, list[str]]:
    """The warning of transformers; and one about another layer."""
    line = "UserWarning: Detected LoRA on TDNNLayer. LoRA weights won't be applied due to optimization. You should exclude TDNNLayer"
    return {
        "fires": [line],
        "silent": ["UserWarning: Model with `tie_word_embeddings=True` and the tied_target_modules"],
    }
