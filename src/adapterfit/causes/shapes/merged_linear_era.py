"""The file was written by PEFT 0.2, whose fused layers had another layout.

What this means: before 0.3, `enable_lora` trained parts of a fused layer (query, key and value in one) with a MergedLinear: one
A of several ranks stacked, and a B that is a grouped convolution, with three dimensions. No later PEFT has that layer:
loading stops with a size mismatch, also in the version that wrote the file.

Why it happens: adapters of early 2023 for GPT-2, BLOOM and GPT-NeoX bases still lie on the Hub.

Detection: lora_B has three dimensions, the last of them 1, and lora_A has as many times r rows as parts were enabled.

Fix: the delta of part i is B[i] A[i], so a plain LoRA of rank (parts x r) with a block-diagonal B, empty in the rows of parts
that were not enabled, computes the same; alpha grows with the rank. Nothing in PEFT does it. Without `enable_lora` in the
config it cannot be told which parts were trained, unless all were.

Workaround: compute the full delta with loralib's MergedLinear and add it to the base's weights.

Prevention: none: no later version writes such files.

Setup:
    def as_in_peft_02(name, tensor):
        return tensor.repeat(2, 1) if "lora_A" in name else tensor[:, :, None]  # two enabled parts; B is a convolution

    tensors = {name: as_in_peft_02(name, tensor) for name, tensor in load_file(WEIGHTS).items()}
    save_file(tensors, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... lora_B.default.weight: copying a param with shape torch.Size([32, 4, 1])

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = get_peft_model(base, LoraConfig(**OPTIONS))  # the parts are targets of their own now
    trained = logits(noise(model))  # trained again
    model.save_pretrained("again")
    as_trained(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "again"))  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.edits import Edit, Fill, Join, JoinDiagonal, Pad, Rename, Reshape, Split
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, TensorInfo
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=60,
    messages=(
        "size mismatch for ...c_attn.lora_B.default.weight: copying a param with shape torch.Size([1536, 8, 1]) from ...",
        "TypeError: LoraConfig.__init__() got an unexpected keyword argument 'enable_lora'",
    ),
    versions="peft 0.2",
    needs=("config", "weights"),
)


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """One finding for all layers whose A and B have that layout. It needs no base."""
    config = case.adapter.config
    merged = list(_merged(case.adapter.tensors))
    if not merged or config is None or config.peft_type != "LORA":
        return
    parts = config.raw.get("enable_lora")
    enabled = f", enable_lora is {parts}" if isinstance(parts, list) and all(isinstance(p, bool) for p in parts) else ""
    first, rows = merged[0][1], merged[0][0].shape[0]
    others = [slot.key for slot in diff.missing] if diff is not None else []
    edits = _edits(case, diff, merged)
    yield finding(
        f"{len(merged)} layers have the layout of PEFT 0.2's MergedLinear: lora_B has three dimensions "
        f"{list(first.shape)} and lora_A {rows} rows{enabled}",
        at=[tensor for pair in merged for tensor in pair],
        predicted="raises",
        found=f"{quote(first.name)} {list(first.shape)}",
        expected=f"a lora_B of two dimensions, with {rows} columns",
        fix=Fix("safe", f"put lora_B on a block diagonal: a plain LoRA of rank {rows}, alpha as much larger", edits)
        if edits
        else Fix(
            "unsafe", "train again, or convert: one LoRA whose rank is the rows of lora_A, with a block-diagonal lora_B"
        ),
        explains=[*(tensor.name for pair in merged for tensor in pair), *others],
    )


def _merged(tensors: tuple[TensorInfo, ...]) -> Iterator[tuple[TensorInfo, TensorInfo]]:
    """Pairs of A and B: B is (out, r, 1), A has a multiple of r rows."""
    by_name = {tensor.name: tensor for tensor in tensors}
    for tensor in tensors:
        if evidence.parts(tensor.name).leaf != "lora_B.weight" or len(tensor.shape) != 3 or tensor.shape[2] != 1:
            continue
        other = by_name.get(tensor.name.replace(".lora_B.", ".lora_A."))
        if other is not None and len(other.shape) == 2 and tensor.shape[1] and other.shape[0] % tensor.shape[1] == 0:
            yield other, tensor


def _edits(case: Case, diff: Diff | None, merged: list[tuple[TensorInfo, TensorInfo]]) -> tuple[Edit, ...]:
    """The plain LoRA that computes the same; empty where it cannot be told which parts were trained."""
    from adapterfit.causes import reconfigure  # for the few that need it

    config = case.adapter.config
    if config is None or diff is None or not reconfigure.is_plain(config.values):
        return ()
    sizes = {module: anatomy.sides(found) for module, found in anatomy.modules(diff).items()}
    was: dict[str, int] = {}
    made: list[Edit] = []
    for a, b in merged:
        module, rank = evidence.parts(a.name).module, b.shape[1]
        parts = _parts(
            config.raw.get("enable_lora"), a.shape[0] // rank, b.shape[0], sizes.get(module, {}).get("out", 0)
        )
        if not parts or a.shape[1] != sizes[module].get("in"):
            return ()
        was[module] = rank
        made += _block_diagonal(b, parts)
    pairs = {tensor.name for pair in merged for tensor in pair}
    for module, tensors in anatomy.of_modules(t for t in case.adapter.tensors if t.name not in pairs).items():
        ranks = {anatomy.rank(evidence.parts(t.name).leaf, t.shape) for t in tensors} - {None}
        was[module] = next((rank for rank in ranks if rank is not None), 0)
    now = reconfigure.strengths(config.values, was)
    if now is None:
        return ()
    grown = {evidence.parts(a.name).module: a.shape[0] for a, _ in merged}
    wanted = {name: reconfigure.stretched(one, grown.get(name, one.rank), rslora=False) for name, one in now.items()}
    return (*made, *reconfigure.edits(case, diff.expectation.tree, wanted))


#: More parts than any fused layer has: query, key and value are three.
_MOST_PARTS = 64


def _parts(told: Any, enabled: int, rows: int, out: int) -> tuple[bool, ...]:
    """Which parts of the fused layer have a B; empty where that is not known, or the rows do not add up."""
    parts: tuple[bool, ...] = ()
    if isinstance(told, list) and all(isinstance(part, bool) for part in told):
        parts = tuple(told)
    elif rows == out and enabled <= _MOST_PARTS:
        parts = (True,) * enabled
    return parts if parts and sum(parts) == enabled and rows * len(parts) == out * enabled else ()


def _block_diagonal(b: TensorInfo, parts: tuple[bool, ...]) -> Iterator[Edit]:
    """(parts x rows, r, 1) → (out, parts x r): every trained part's block on its own rows and columns."""
    rank, rows = b.shape[1], b.shape[0] // sum(parts)
    blocks = [f"{b.name}.{at}" for at in range(sum(parts))]
    gaps = [0]
    for part in parts:
        if part:
            gaps.append(0)
        else:
            gaps[-1] += rows
    yield Reshape(b.name, (b.shape[0], rank))
    yield Split(b.name, 0, tuple((block, rows) for block in blocks))
    for block, gap in zip(blocks, gaps[1:]):
        if gap:
            yield Pad(block, 0, rows + gap)
    if gaps[0]:
        yield Fill(f"{b.name}.before", (gaps[0], rank), b.dtype, 0.0)
        yield Join((f"{b.name}.before", blocks[0]), blocks[0], 0)
    yield JoinDiagonal(tuple(blocks), b.name) if len(blocks) > 1 else Rename(blocks[0], b.name)


def examples(make: Any) -> dict[str, list[Any]]:
    """GPT-2's c_attn with query and value enabled, with and without a base; a Conv1d's B has three dimensions too."""
    plain = make.lora("gpt2", target_modules=["c_attn"], r=4)
    merged = plain.reshaped(lambda name: "lora_A" in name, lambda shape: (2 * shape[0], shape[1])).reshaped(
        lambda name: "lora_B" in name, lambda shape: (shape[0] * 2 // 3, shape[1], 1)
    )
    conv = plain.reshaped(lambda _name: True, lambda shape: (*shape, 1))
    return {
        "silent": [plain, conv, plain.with_config(r=8)],
        "fires": [
            merged,
            merged.with_config(enable_lora=[True, False, True]),
            merged.with_config(enable_lora=[False, True, True], merge_weights=False),
            merged.on_base(None),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "mergedlinear", "enable_lora",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a lora_B of three dimensions, or the fields of PEFT 0.2."""
    found = sizes_of(symptoms, "merged-linear-era")
    fix = "load it with peft 0.2.0, the last with MergedLinear, merge there, and use the merged model"
    if found is not None:
        yield suspect(
            symptoms, "lora_B is a grouped 1x1 convolution: a MergedLinear of PEFT 0.2", found.likelihood, found.lines, fix=fix,
            apart="lora_B: three dimensions in the file mean MergedLinear, two another rank",
        )  # fmt: skip
    named = [argument for argument in symptoms.arguments if argument.name in {"enable_lora", "merge_weights"}]
    if named:
        yield suspect(
            symptoms, f"{named[0].name} is a field of PEFT 0.2: the weights may be those of its MergedLinear", 0.6,
            [argument.line for argument in named], fix=fix, apart="enable_lora: null means that only the field is old",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Three dimensions; two are another rank."""
    line = "size mismatch for base_model.model.transformer.h.3.attn.c_attn.{}.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [line.format("lora_A", "24, 768", "8, 768") + "\n" + line.format("lora_B", "2304, 8, 1", "2304, 8")],
        "silent": [line.format("lora_A", "24, 768", "8, 768") + "\n" + line.format("lora_B", "2304, 24", "2304, 8")],
    }
