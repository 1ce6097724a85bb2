"""One process's part of the adapter was saved instead of the whole.

What this means: FSDP flattens parameters and spreads them over the processes. A file saved from one process holds
one-dimensional pieces, or every matrix with only 1/N of its rows.

Why it happens: the state dict was taken without gathering it (`FULL_STATE_DICT`), or accelerate had a bug in doing so.

Detection: `lora_A`/`lora_B` with one dimension; or all of them with the same whole fraction of the expected rows.

Fix: save again with `FULL_STATE_DICT`; where the shards of all processes were kept (`SHARDED_STATE_DICT`), merge them with
`accelerate merge-weights`.

Workaround: none: the other rows are not in the file.

Prevention: after a save, look at the shapes once: `adapterfit check` without a base is enough.

Setup:
    parts = {name: tensor.flatten()[: tensor.numel() // 2] for name, tensor in load_file(WEIGHTS).items()}
    shutil.copytree("adapter", "gathered")
    save_file(parts, WEIGHTS, {"format": "pt"})  # what FSDP leaves in one of two processes: half of each matrix, flat

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: copying a param with shape torch.Size([64]) from checkpoint, the shape in current model is torch.Size([4, 32]).

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "gathered")  # saved with FULL_STATE_DICT, which gathers the parts first
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.causes.told import in_words
from adapterfit.records import Case, Diff, Finding, Fix, Misshape, Suspicion
from adapterfit.text import shorten

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=30,
    messages=(
        "copying a param with shape torch.Size([16384]) from checkpoint, the shape in current model is torch.Size([8, 4096]).",
    ),
    needs=("weights",),
)
_MATRICES = (".lora_A.weight", ".lora_B.weight")
_FIX = Fix("unsafe", "save the adapter again with FULL_STATE_DICT, or merge the shards: accelerate merge-weights")


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """Fires on flat matrices, and on matrices that all lack the same fraction of their rows."""
    flat = [t for t in case.adapter.tensors if t.name.endswith(_MATRICES) and len(t.shape) == 1 and t.shape[0]]
    if flat:
        yield finding(
            f"{len(flat):,} matrices have one dimension ({shorten(t.name for t in flat)}): one process's part under FSDP",
            at=flat,
            predicted="raises",
            found=f"shape {list(flat[0].shape)}",
            fix=_FIX,
        )
    parts = _parts(diff) if diff is not None else 0
    if parts and diff is not None:
        short = [wrong.tensor for wrong in diff.misshapen]
        yield finding(
            f"all {len(short):,} matrices have 1/{parts} of their rows ({shorten(t.name for t in short)}): one of {parts} "
            "processes saved its own part under FSDP",
            at=short,
            predicted="raises",
            confidence="medium",
            expected=f"shape {list(diff.misshapen[0].wanted)}",
            found=f"shape {list(short[0].shape)}",
            fix=_FIX,
        )


def _parts(diff: Diff) -> int:
    """N where every A and every B has 1/N of its rows and all of its columns; else 0."""
    wrong = [item for item in diff.misshapen if item.tensor.name.endswith(_MATRICES)]
    both = {item.tensor.name.endswith(_MATRICES[0]) for item in wrong}
    factors = {_factor(item) for item in wrong}
    if len(wrong) != len(diff.misshapen) or both != {True, False} or len(factors) != 1 or diff.matched:
        return 0
    return factors.pop()


def _factor(item: Misshape) -> int:
    have, wanted = item.tensor.shape, item.wanted
    if len(have) < 2 or have[1:] != wanted[1:] or not have[0] or wanted[0] % have[0]:
        return 0
    return wanted[0] // have[0]


def examples(make: Any) -> dict[str, list[Any]]:
    """A smaller rank and a smaller base are silent; flat pieces and halves of all matrices fire."""
    plain = make.lora("llama")
    return {
        "silent": [plain, plain.with_config(r=8), plain.on("llama", hidden_size=128, intermediate_size=256)],
        "fires": [
            plain.reshaped(lambda name: "lora_A" in name, lambda shape: (shape[0] * shape[1] // 2,)),
            plain.reshaped(lambda name: "lora_" in name, lambda shape: (shape[0] // 2, shape[1])),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "fsdp", "fullyshardeddataparallel", "sharded_state_dict", "full_state_dict",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: matrices that are vectors in the file."""
    yield from in_words(symptoms, "fsdp-shard-saved", fix=_FIX.summary)
    found = sizes_of(symptoms, "fsdp-shard-saved")
    if found is not None:
        yield suspect(
            symptoms, "the file holds parts of the matrices: one process's part of an FSDP or ZeRO-3 run", found.likelihood, found.lines,
            fix=_FIX.summary,
        )  # fmt: skip
    told = said(symptoms, "sharded_state_dict", "fullyshardeddataparallel", "fsdp")
    if told and (symptoms.missing or said(symptoms, "lora_b", "not loaded", "zeros", "random")):
        yield suspect(symptoms, "the adapter may be one process's part of an FSDP run", 0.45, told, fix=_FIX.summary)


def logs() -> dict[str, list[str]]:
    """A flat matrix; one of two dimensions."""
    line = "size mismatch for base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([11008, 8])."
    return {"fires": [line.format("44032")], "silent": [line.format("11008, 16"), line.format("0")]}
