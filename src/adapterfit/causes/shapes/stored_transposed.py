"""The matrices of the adapter are stored the other way round.

What this means: PEFT keeps a LoRA's A as (rank, in) and its B as (out, rank). In this file they are (in, rank) and (rank, out), so
that loading stops with a size mismatch in which the two numbers have changed places. Where a matrix is square, nothing is
noticed, and the layer computes something else.

Why it happens: MLX, JAX and several conversion scripts multiply from the other side and keep their matrices so; the names were
changed on the way to PEFT, the numbers were not.

Detection: every tensor that does not fit has exactly the two sizes that it should have, in the other order.

Fix: transpose these tensors. That the numbers are the transposed ones, and not the same ones under another shape, cannot be seen
from the sizes: compare the outputs with those of the program that trained. A square matrix looks the same either way, so it is
left as it is, and where there are some beside the others the fix says how many.

Workaround: as the fix, by hand: `tensor.T.contiguous()` for each.

Prevention: convert with `adapterfit convert --from mlx`, or the program's own exporter, which turn what has to be turned.

Setup:
    tensors = load_file(WEIGHTS)
    save_file({name: tensor.T.contiguous() for name, tensor in tensors.items()}, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... lora_A.default.weight: copying a param with shape torch.Size([32, 4]) from checkpoint, the shape in current model is torch.Size([4, 32]).

Fixed:
    tensors = load_file("adapter/adapter_model.safetensors")
    turned = {name: tensor.T.contiguous() for name, tensor in tensors.items()}
    save_file(turned, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.edits import Transpose
from adapterfit.records import Case, Diff, Finding, Fix, Misshape, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=(
        "size mismatch for ...q_proj.lora_A.default.weight: copying a param with shape torch.Size([4096, 8]) from checkpoint, the shape in current model is torch.Size([8, 4096]).",
    ),
    needs=("diff",),
)
_FAR = "whether the numbers are transposed too, or only the shapes are: the sizes do not say; compare the outputs"


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where every tensor of another shape is a matrix with its two sizes exchanged."""
    wrong = diff.misshapen
    if not wrong or not all(map(is_turned, wrong)):
        return
    first = wrong[0]
    yield finding(
        f"{len(wrong)} of {len(wrong) + len(diff.matched)} tensors have their two sizes the other way round: {show(first.tensor.name)} "
        f"is {list(first.found)}, PEFT makes {list(first.wanted)}",
        at=[entry.tensor for entry in wrong],
        predicted="raises",
        found=str(list(first.found)),
        expected=str(list(first.wanted)),
        fix=_fix(diff),
    )


def is_turned(entry: Misshape) -> bool:
    """Whether it is a matrix with its two sizes exchanged."""
    return len(entry.found) == 2 and entry.found == entry.wanted[::-1] and entry.found == entry.tensor.shape


def _fix(diff: Diff) -> Fix:
    turned = "transpose them" if len(diff.misshapen) > 1 else "transpose it"
    if _may_be_exchanged(diff):
        return Fix(
            "unsafe", "two repairs make every size right",
            readings=(turned, "the names of A and B are exchanged: every module here has as many inputs as outputs"),
        )  # fmt: skip
    edits = tuple(Transpose(entry.tensor.name, (1, 0)) for entry in diff.misshapen)
    return Fix(
        "unsafe", f"{turned}; then compare the outputs with those of the program that trained", edits, _far(diff)
    )


def _far(diff: Diff) -> str:
    """Square matrices of the same file may be turned too, and nothing shows it."""
    square = [m.tensor for m in diff.matched if len(m.tensor.shape) == 2 and m.tensor.shape[0] == m.tensor.shape[1] > 1]
    if not square:
        return _FAR
    some = f"{len(square)} square matrices look" if len(square) > 1 else "1 square matrix looks"
    return f"{_FAR}; {some} the same either way and {'are' if len(square) > 1 else 'is'} left so, such as {show(square[0].name)}"


def _may_be_exchanged(diff: Diff) -> bool:
    """Whether A and B under each other's name would have the same sizes: both of each module are wrong, and it is square."""
    by_name = anatomy.modules(diff)
    leaves: dict[str, set[str]] = {}
    for entry in diff.misshapen:
        parts = evidence.parts(entry.key)
        leaves.setdefault(parts.module, set()).add(parts.leaf)
        sides = anatomy.sides(by_name.get(entry.module))
        if not sides or sides["in"] != sides["out"]:
            return False
    return all(len(held) > 1 for held in leaves.values())


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: every pair of sizes is exchanged."""
    found = sizes_of(symptoms, "stored-transposed")
    if found is not None:
        yield suspect(
            symptoms, "the file has every matrix the other way round", found.likelihood, found.lines,
            fix="transpose them: adapterfit fix ADAPTER --base BASE --unsafe --out FIXED",
            apart="which program wrote the file: MLX and JAX keep A as (in, rank)",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Both matrices turned; another width; another rank."""
    line = "size mismatch for base_model.model.model.layers.1.mlp.up_proj.{}.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [line.format("lora_A", "4096, 8", "8, 4096") + "\n" + line.format("lora_B", "8, 11008", "11008, 8")],
        "silent": [line.format("lora_A", "8, 5120", "8, 4096"), line.format("lora_A", "16, 4096", "8, 4096")],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """All turned, A alone, one tensor alone; square modules have a second reading; other sizes and ranks stay silent."""
    every = make.lora("llama", target_modules=["k_proj", "up_proj"])
    square = make.lora("llama", target_modules=["q_proj"])
    loha = make.adapter("llama", peft_type="LOHA", r=2, alpha=4, target_modules=["down_proj"])
    return {
        "fires": [
            every.reshaped(lambda _: True, lambda shape: shape[::-1]),
            every.reshaped(lambda name: "lora_A" in name, lambda shape: shape[::-1]),
            square.reshaped(lambda name: name == square.names[0], lambda shape: shape[::-1]),
            square.reshaped(lambda _: True, lambda shape: shape[::-1]),
            loha.reshaped(lambda _: True, lambda shape: shape[::-1]),
        ],
        "silent": [every, every.with_config(r=8), every.on("llama", hidden_size=96)],
    }
