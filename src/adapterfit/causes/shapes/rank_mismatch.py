"""The config names another rank than the tensors have.

What this means: the rank is a dimension of every LoRA matrix: rows of A, columns of B. PEFT builds the matrices from `r` and
`rank_pattern` of adapter_config.json; where the file's are of another rank, loading stops with a size mismatch. Other methods
have such a field too: `r` makes VeRA's vectors and HRA's matrices, a block size those of OFT and C3A, `n_frequency` a FourierFT.

Why it happens: the config of another run was put beside the weights, `r` was edited, a rank_pattern got lost or was read
differently by the version of the training (up to 0.14 a key with `^` matched nothing), or two runs share one folder.

Detection: the sizes that belong to the base's modules agree, only the rank differs. For other methods: with another value of one
field of the config, and of one alone, every tensor has the size that PEFT makes.

Fix: set `r`, or `rank_pattern` for some modules, to what the tensors show. The scale is alpha / r and is not in the tensors:
if only `r` is wrong, correcting it also restores the scale; if the whole config is another run's, lora_alpha may be wrong too.

Workaround: `ignore_mismatched_sizes=True` does load, and leaves exactly these layers untrained: do not.

Prevention: keep adapter_config.json and the weights of one run together; a new output folder per run.

Setup:
    change_config(r=8)  # the file holds matrices of rank 4

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... lora_A.default.weight: copying a param with shape torch.Size([4, 32]) from checkpoint, the shape in current model is torch.Size([8, 32]).

Fixed:
    change_config(r=4)  # the rows of every lora_A; lora_alpha is right only if it was of the same run
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import line_of, suspect
from adapterfit.causes.sizes import ranks, sizes_of
from adapterfit.edits import Edit, SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, Misshape, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=5,
    messages=(
        "size mismatch for ...lora_A.default.weight: copying a param with shape torch.Size([64, 4096]) from ...",
    ),
    needs=("config", "diff"),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all tensors of which the rank alone differs."""
    wrong = [entry for entry in diff.misshapen if differs(entry) == "rank"]
    own = anatomy.modules(diff)
    ranks = _ranks([entry for entry in wrong if anatomy.sides(own.get(entry.module))])
    if case.adapter.config is None:
        return
    if not ranks and len(diff.resized) == 1 and diff.expectation.prefix:
        yield _by_one_field(diff)
    if not wrong or not ranks:
        return
    wanted = {evidence.parts(entry.key).module: _rank(entry, entry.wanted) for entry in wrong}
    yield finding(
        f"the config makes rank {_listed(wanted)}, the tensors have rank {_listed(ranks)}; all other sizes fit the base",
        at=[entry.tensor for entry in wrong],
        predicted="raises",
        expected=f"rank {_listed(wanted)}",
        found=f"rank {_listed(ranks)}",
        fix=_fix(case, ranks),
    )


def _by_one_field(diff: Diff) -> Finding:
    """Another method: what its field does to which size was not derived, but every size fits with another value of it."""
    ((name, value),) = diff.resized
    given = diff.expectation.config.get(name)
    return finding(
        f"the config has {name} = {show(given)}, the tensors were made with {value}: with that every size fits this base",
        at=[entry.tensor for entry in diff.misshapen],
        predicted="raises",
        expected=f"{name} = {value}",
        found=f"{name} = {show(given)}",
        fix=Fix(
            "unsafe",
            f"set {name} = {value}; the rest of the config may be another run's too: compare it with the training's",
            (SetConfig(name, value),),
            "whether the other fields, such as a scale, are those of the training: no tensor says so",
        ),
    )


def differs(entry: Misshape) -> str:
    """`rank`, `size`, `both`, or an empty string where the shape does not say."""
    leaf = evidence.parts(entry.key).leaf
    axes = anatomy.AXES.get(leaf)
    if axes is None or len(entry.found) != len(entry.wanted) or not all(entry.found):
        return ""
    unequal = {at for at, (one, other) in enumerate(zip(entry.found, entry.wanted)) if one != other}
    if unequal == {axes.rank}:
        return "rank"
    return "both" if axes.rank in unequal else "size"


def _rank(entry: Misshape, shape: tuple[int, ...]) -> int:
    return anatomy.rank(evidence.parts(entry.key).leaf, shape) or 0


def _ranks(wrong: list[Misshape]) -> dict[str, int]:
    """Module → the one rank that all its tensors have; empty where those of a module disagree."""
    found: dict[str, set[int]] = {}
    for entry in wrong:
        found.setdefault(evidence.parts(entry.key).module, set()).add(_rank(entry, entry.found))
    return {module: ranks.pop() for module, ranks in found.items()} if all(len(r) == 1 for r in found.values()) else {}


def _listed(ranks: Mapping[str, int]) -> str:
    """`64`; or `64 (q_proj in layers 0-31), 16 (v_proj in layer 3)`."""
    values = Counter(ranks.values())
    if len(values) == 1:
        return str(next(iter(values)))
    return ", ".join(
        f"{rank} ({_where([m for m, r in ranks.items() if r == rank])})" for rank, _ in values.most_common(4)
    )


def _where(modules: list[str]) -> str:
    leaves: dict[str, list[int | None]] = {}
    for module in modules:
        leaves.setdefault(module.rpartition(".")[2], []).append(evidence.layer_number(module))
    return ", ".join(f"{show(leaf)}{evidence.layers_said(held)}" for leaf, held in list(leaves.items())[:3])


def _fix(case: Case, ranks: Mapping[str, int]) -> Fix:
    """Safe only where the config's own r is what the tensors show, and a rank_pattern stood against it."""
    values = case.adapter.config.values if case.adapter.config is not None else {}
    alpha, r = values.get("lora_alpha", values.get("alpha")), values.get("r")
    tensors = case.adapter.tensors
    everywhere = {anatomy.rank(evidence.parts(t.name).leaf, t.shape) for t in tensors} - {None}
    if everywhere == {r} and values.get("rank_pattern") and not values.get("alpha_pattern"):
        return Fix(
            "safe",
            f"clear rank_pattern: every tensor has rank {r}, as r says, so the pattern was not in force in training",
            (SetConfig("rank_pattern", {}),),
        )
    far = f"the strength: lora_alpha = {show(alpha)} is divided by another rank than the config says, and no tensor knows which is right"
    if len(everywhere) == 1:
        rank = next(iter(everywhere))
        said = f"set r = {rank}" + (" and clear rank_pattern" if values.get("rank_pattern") else "")
        return Fix(
            "unsafe",
            f"{said}; the scale then is lora_alpha / r = {show(alpha)} / {rank}, which is right only if lora_alpha was "
            f"{show(alpha)} in training: the tensors cannot say",
            _edits(values, rank, {}),
            far,
        )
    pattern = {module: rank for module, rank in ranks.items() if rank != r}
    said = ", ".join(f'"{show(module)}": {rank}' for module, rank in list(pattern.items())[:2])
    more = f" and {len(pattern) - 2} more" if len(pattern) > 2 else ""
    return Fix(
        "unsafe",
        f"set rank_pattern to {{{said}{more}}}; the scale is lora_alpha / rank per layer, unless alpha_pattern says "
        f"otherwise: make sure that lora_alpha = {show(alpha)} is the training's",
        _edits(values, r, pattern),
        far,
    )


def _edits(values: Mapping[str, Any], rank: Any, pattern: Mapping[str, int]) -> tuple[Edit, ...]:
    """The ranks that the tensors show; only for methods whose rank is called `r`. Full paths come first in the table."""
    if values.get("peft_type") not in ("LORA", "LOHA", "LOKR") or not isinstance(rank, int):
        return ()
    if not isinstance(values.get("rank_pattern"), (Mapping, type(None))):
        return ()
    table = {**pattern, **(values.get("rank_pattern") or {})} if pattern else {}
    edits = [SetConfig("r", rank)] if values.get("r") != rank else []
    return (*edits, *([SetConfig("rank_pattern", table)] if table != (values.get("rank_pattern") or {}) else []))


def examples(make: Any) -> dict[str, list[Any]]:
    """Another r, a lost rank_pattern, one that was not in force; other sizes and merged files stay silent."""
    plain = make.lora("llama")
    some = make.lora("llama", rank_pattern={"layers.0.self_attn.q_proj": 2})
    return {
        "silent": [
            plain,
            some,
            plain.on("llama", hidden_size=32, num_attention_heads=2),
            make.lora("llama", r=8, use_rslora=True),
            plain.reshaped(lambda name: "lora_B" in name, lambda shape: (*shape, 1)),
            make.adapter("llama", peft_type="VERA", r=4, target_modules=["q_proj"]).on("llama", hidden_size=96),
        ],
        "fires": [
            plain.with_config(r=8),
            plain.with_config(r=2, rank_pattern={"q_proj": 16}),
            some.with_config(rank_pattern={}),
            plain.with_config(rank_pattern={"v_proj": 6}),
            make.adapter("llama", peft_type="LOHA", r=4, target_modules=["q_proj"]).with_config(r=6),
            make.lora("gpt2", target_modules=["c_attn", "wte"]).with_config(r=3),
            make.adapter("llama", peft_type="VERA", r=4, target_modules=["q_proj"]).with_config(r=6),
            make.adapter("llama", peft_type="FOURIERFT", n_frequency=20, target_modules=["q_proj"]).with_config(
                n_frequency=30
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "rank mismatch", "lora_rank", "lora_r", "different rank",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {
    ("peft", "set_peft_model_state_dict"): 0.4,
    ("peft", "add_weighted_adapter"): 0.5,
    ("peft", "_svd_generalized_task_arithmetic_weighted_adapter"): 0.5,
}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: only the rank differs."""
    found = sizes_of(symptoms, "rank-mismatch")
    summed = ranks(symptoms) if found is None and not symptoms.misshapen else None
    if summed is not None:
        position, one, other = summed
        yield suspect(
            symptoms, f"two adapters, or an adapter and a buffer, of ranks {one} and {other} meet: both are too small to be a layer's width", 0.65,
            [line_of(symptoms, position)], fix="give both the same rank (adapterfit check ADAPTER tells each), or merge one of them into the base first",
            apart="lora_A's first and lora_B's second size in both files",
        )  # fmt: skip
    if found is None:
        return
    pattern = found.note == "pattern"
    yield suspect(
        symptoms,
        "the ranks of the file and of the config differ from layer to layer: rank_pattern does not fit"
        if pattern
        else f"the file has rank {found.file}, the config that was used has r={found.model}"
        if found.file
        else "the rank of the file may be another one than that of the config",
        found.likelihood,
        found.lines,
        fix="take rank_pattern from the run that wrote the file"
        if pattern
        else f"set r to {found.file}, or do not resume from this adapter: give the run with r={found.model} an output folder of its own"
        if found.file
        else "set r, or rank_pattern, to what the tensors show: adapterfit check ADAPTER prints it",
        apart="whether every layer is listed: some only mean rank_pattern, all mean r",
    )


def logs() -> dict[str, list[str]]:
    """Another r everywhere; another width is another base."""
    line = "size mismatch for base_model.model.h.0.attn.q_proj.{}.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    both = (line.format("lora_A", "64, 768", "8, 768"), line.format("lora_B", "768, 64", "768, 8"))
    return {
        "fires": ["\n".join(both), both[0]],
        "silent": [line.format("lora_A", "8, 1024", "8, 768"), line.format("lora_A", "0", "8, 768")],
    }
