"""Tensors of size 0 were saved, as DeepSpeed ZeRO-3 leaves them.

What this means: under ZeRO-3 a process holds only its part of a parameter; what is left in the model object has the
shape [0]. Saved like this, the values are gone from the file, and PEFT fails with a size mismatch to `torch.Size([0])`.
Often only the large matrices are empty, or only those of `modules_to_save`.

Why it happens: `model.save_pretrained` was called under ZeRO-3 without gathering the parameters first.

Detection: a tensor with a 0 in its shape.

Fix: the file cannot be mended. Where the training left `global_step…` folders, `zero_to_fp32.py` beside them rebuilds the
weights; otherwise save again.

Workaround: none.

Prevention: `trainer.save_model` with `stage3_gather_16bit_weights_on_model_save: true`, or
`deepspeed.zero.GatheredParameters` around the save. PEFT 0.21 warns when such a file is written.

Setup:
    whole = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS))
    trained = logits(noise(whole))
    partitioned = {name: torch.empty(0) for name in get_peft_model_state_dict(whole)}  # what ZeRO-3 leaves in one process

Broken:
    whole.save_pretrained("adapter", state_dict=partitioned)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: copying a param with shape torch.Size([0]) from checkpoint, the shape in current model is torch.Size([4, 32]).

Fixed:
    whole.save_pretrained("adapter")  # under ZeRO-3: inside deepspeed.zero.GatheredParameters, or trainer.save_model
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.causes.told import in_words
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=30,
    messages=(
        "copying a param with shape torch.Size([0]) from checkpoint, the shape in current model is torch.Size([8, 4096]).",
    ),
    needs=("weights",),
)


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """Fires where a tensor has no elements, and the config does not make it so (an OFT with blocks of one has none)."""
    meant = {match.tensor.name for match in diff.matched} if diff is not None else frozenset()
    empty = [tensor for tensor in case.adapter.tensors if 0 in tensor.shape and tensor.name not in meant]
    if not empty:
        return
    steps = sorted({entry.name.split("/")[0] for entry in case.adapter.files if entry.name.startswith("global_step")})
    rebuild = f"rebuild the weights from {show(steps[-1])} with zero_to_fp32.py" if steps else "save the adapter again"
    yield finding(
        f"{len(empty):,} of {len(case.adapter.tensors):,} tensors are empty ({shorten(t.name for t in empty)}): they were "
        "saved under DeepSpeed ZeRO-3 without gathering",
        at=empty,
        predicted="raises",
        found=f"shape {list(empty[0].shape)}",
        fix=Fix("unsafe", f"{rebuild}, gathered this time"),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Whole tensors are silent; one empty tensor is enough."""
    plain = make.lora("llama")
    return {
        "silent": [
            plain,
            plain.reshaped(lambda name: "lora_B" in name, lambda shape: (shape[0] // 2, shape[1])),
            make.adapter("llama", peft_type="OFT", r=64, oft_block_size=0, target_modules=["q_proj"]),
        ],
        "fires": [
            plain.reshaped(lambda name: "lora_B" in name, lambda _: (0,)),
            plain.reshaped(lambda name: "lora_A" in name and "q_proj" in name, lambda shape: (0, shape[1])),
        ],
    }


_TINY = 4_096

_DEEPSPEED = ("zero3", "zero-3", "zero 3", "zero_stage", "stage3", "stage 3", "zero stage")
#: Words that speak of this cause where no symptom decides.
HINTS = (
    "zero3", "zero-3", "zero stage 3", "zero_stage 3", "stage3_gather", "gatheredparameters", "zero_to_fp32",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "set_peft_model_state_dict"): 0.35}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a size of 0 in the file; a tiny file of a DeepSpeed run; a merge script that reads no rows."""
    fix = "save again with stage3_gather_16bit_weights_on_model_save: true, or try zero_to_fp32.py on the run's global_step folder"
    yield from in_words(symptoms, "zero3-empty-weights", fix=fix)
    found = sizes_of(symptoms, "zero3-empty-weights")
    if found is not None:
        where = (
            "the base itself was built under ZeRO-3"
            if found.note == "model"
            else "tensors of the file are empty: saved under ZeRO-3 without gathering"
        )
        yield suspect(
            symptoms, where, found.likelihood, found.lines,
            fix="load the base outside of deepspeed.zero.Init" if found.note == "model" else fix,
        )  # fmt: skip
    told = said(symptoms, "size of the lora weight 0", "were not gathered before save_pretrained")
    if told:
        yield suspect(
            symptoms, "the saved weights have no rows: saved under ZeRO-3 without gathering", 0.93, told, fix=fix
        )
    empty = said(symptoms, "torch.size([0])") if found is None else ()
    if empty and said(symptoms, *_DEEPSPEED):
        yield suspect(symptoms, "tensors of no elements, and the run used DeepSpeed's ZeRO-3", 0.86, empty, fix=fix)
    flat = said(symptoms, "vec (0)") if "size mismatch, got input (" in symptoms.folded else ()
    flat += said(symptoms, "'weight' must be 2-d", "must be a matrix, got 1-d tensor", "must be 2-dimensional, got 1-d")
    if flat:
        yield suspect(
            symptoms,
            "a weight of the base is partitioned: it was loaded under ZeRO-3",
            0.7,
            flat,
            fix="load the base outside of deepspeed.zero.Init",
        )
    loading = [f.line for f in symptoms.frames if f.function in {"set_peft_model_state_dict", "load_peft_weights"}]
    cut = loading and not (
        symptoms.misshapen or symptoms.missing or symptoms.unexpected or any(e.message for e in symptoms.errors)
    )
    if cut and said(symptoms, *_DEEPSPEED):
        yield suspect(
            symptoms, "the run used ZeRO-3, and the adapter it saved does not load: its tensors may be empty", 0.6, [loading[-1], *said(symptoms, *_DEEPSPEED)[:1]],
            fix=fix, apart="the last line of the traceback: torch.Size([0]) means this cause",
        )  # fmt: skip
    none = said(symptoms, "size of tensor a (0) must match", "must match the size of tensor b (0)")
    if none and said(symptoms, "lora", "peft", "adapter", most=1):
        yield suspect(
            symptoms, "one of the two tensors is empty, as ZeRO-3 leaves what it holds elsewhere", 0.75, none,
            fix="load base and adapter outside of deepspeed.zero.Init, or gather them: with deepspeed.zero.GatheredParameters(model.parameters())",
            apart="whether the run used ZeRO-3: print({p.numel() for p in model.parameters()}) shows 0",
        )  # fmt: skip
    deepspeed = said(symptoms, *_DEEPSPEED, "deepspeed", "global_step")
    tiny = [
        file for file in symptoms.files if _holds_weights(file.name) and file.size is not None and file.size < _TINY
    ]
    if deepspeed and tiny:
        yield suspect(
            symptoms, f"{show(tiny[0].name)} has {tiny[0].size} bytes, and the run used DeepSpeed", 0.92,
            [tiny[0].line, *deepspeed], fix=fix,
        )  # fmt: skip


def _holds_weights(name: str) -> bool:
    return "adapter_model" in name


def logs() -> dict[str, list[str]]:
    """Empty tensors, whichever they are; other sizes."""
    line = "size mismatch for base_model.model.model.{}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            "    delta = lora_B.weight @ lora_A.weight\nRuntimeError: size mismatch, got input (4096), mat (4096x16), vec (0)",
            line.format("embed_tokens.modules_to_save.default.weight", "0", "32000, 4096"),
            line.format("layers.0.mlp.up_proj.lora_B.default.weight", "0", "11008, 8"),
            "deepspeed --num_gpus 8 train.py --deepspeed zero3.json\n-rw-r--r-- 1 me me 40 Jan 1 10:00 adapter_model.safetensors",
        ],
        "silent": [
            "RuntimeError: size mismatch, got input (4), mat (4x8), vec (9)",
            line.format("layers.0.mlp.up_proj.lora_B.default.weight", "11008, 16", "11008, 8"),
        ],
    }
