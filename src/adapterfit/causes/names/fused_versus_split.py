"""The adapter has one fused layer where the base has several, or the other way round.

What this means: some models keep query, key and value (or gate and up) in one matrix, others in separate ones, and so does one
model in two implementations. An adapter for `qkv_proj` finds no such module in a base with `q_proj`, `k_proj`, `v_proj`:
PEFT raises where nothing else matches, and drops these tensors without a word where something does.

Why it happens: the adapter was trained on a repository's own code (`Wqkv`, `W_pack`) and meets the port in transformers; on a
copy whose layers were fused or split for speed; or transformers itself split the layer (phi in 4.37).

Detection: the same parent module, the same width, and the heights of the parts add up to the height of the whole.

Fix: from fused to split is exact: copy lora_A to every part and cut the rows of lora_B. From split to fused needs a rank as
large as all parts together: stack the A, put the B on a block diagonal, and raise r and lora_alpha alike. Where the rows of
the fused layer may lie head by head (`query_key_value`, `wqkv`), neither is done: no shape tells.

Workaround: load the base in the implementation of the training.

Prevention: note which implementation (trust_remote_code or not) and which transformers version was used.

Setup:
    from transformers import Phi3Config, Phi3ForCausalLM

    fused = Phi3ForCausalLM(Phi3Config(**{**llama().to_dict(), "model_type": "phi3", "architectures": None}))
    split = LlamaForCausalLM(llama())  # the same numbers, with q, k, v and gate, up apart
    for name, weight in fused.state_dict().items():
        parts = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
        whole = next((one for one in parts if one in name), "")
        names = [name.replace(whole, part) for part in parts[whole]] if whole else [name]
        sizes = [split.state_dict()[one].shape[0] for one in names]
        split.load_state_dict(dict(zip(names, weight.split(sizes))), strict=False)
    split.save_pretrained("split")
    trained = train(fused, LoraConfig(r=4, target_modules=["qkv_proj"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("split")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises NoMatchingPeftModuleError: Target modules {'qkv_proj'} not found in the base model.

Fixed:
    tensors = {}
    for name, tensor in load_file("adapter/adapter_model.safetensors").items():
        parts = tensor.split([32, 16, 16]) if "lora_B" in name else [tensor] * 3  # B is cut, A is copied
        for module, part in zip(("q_proj", "k_proj", "v_proj"), parts):
            tensors[name.replace("qkv_proj", module)] = part.clone()
    save_file(tensors, "adapter/adapter_model.safetensors")
    change_config(target_modules=["q_proj", "k_proj", "v_proj"])
    base = AutoModelForCausalLM.from_pretrained("split")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import ALIKE, suspect
from adapterfit.records import Case, Diff, Finding, Fix, Module, Suspicion, TensorInfo
from adapterfit.text import shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=30,
    messages=(
        "NoMatchingPeftModuleError: Target modules {'Wqkv'} not found in the base model.",
        "ValueError: expected target modules in ['qkv_proj', ...] but received ['q_proj', 'v_proj']",
    ),
    needs=("diff",),
)
_QKV = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "wqkv", "W_pack", "qkv", "in_proj", "to_qkv", "attn_qkv")
#: Names of fused layers alone: each is that of a few families, which other implementations have split.
_FUSED_ONLY = frozenset({"qkv_proj", "gate_up_proj", "W_pack", "Wqkv", "wqkv"})
_GATE_UP = ("gate_up_proj", "gate_up", "dense_h_to_4h", "w12", "wi")
#: Parts → names of the layer that holds them in this order.
_LAYERS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("q_proj", "k_proj", "v_proj"): _QKV,
    ("query", "key", "value"): _QKV,
    ("q_lin", "k_lin", "v_lin"): _QKV,
    ("q", "k", "v"): _QKV,
    ("wq", "wk", "wv"): _QKV,
    ("gate_proj", "up_proj"): _GATE_UP,
    ("w1", "w3"): _GATE_UP,
    ("wi_0", "wi_1"): _GATE_UP,
}
#: Layers in which rows lie head by head in some models, and part after part in others.
_EITHER = ("query_key_value", "wqkv", "wi")


class Found(NamedTuple):
    """Modules of the file and of the base that stand for each other.

    `heights` are the rows of the separate ones, in order; where the file has the separate ones, `gaps` are the rows of
    parts it has no adapter for: before the first, and behind each.
    """

    file: tuple[str, ...]
    base: tuple[str, ...]
    heights: tuple[int, ...]
    gaps: tuple[int, ...] = ()


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding per kind of layer; the first has the cure of all, since they share one config."""
    if not evidence.comparable(diff):
        return
    by_name, held = anatomy.modules(diff), anatomy.of_modules(diff.extra)
    found = [*_file_is_fused(held, by_name), *_file_is_split(held, by_name)]
    if not found:
        return
    kinds: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        kinds.setdefault((_leaves(one.file), _leaves(one.base)), []).append(one)
    cure = _cure(case, diff, found, held)
    for at, alike in enumerate(kinds.values()):
        fix = cure if at == 0 or not cure.edits else Fix(cure.safety, "the cure of the other layers is theirs, too")
        yield _said(diff, held, alike, fix)


def _file_is_fused(held: Mapping[str, list[TensorInfo]], by_name: Mapping[str, Module]) -> Iterator[Found]:
    for name, tensors in held.items():
        parent, _, leaf = name.rpartition(".")
        for parts in (parts for parts, wholes in _LAYERS.items() if leaf in wholes):
            modules = tuple(f"{parent}.{part}" for part in parts)
            own = [anatomy.sides(by_name[module]) for module in modules if module in by_name]
            heights = tuple(side.get("out", 0) for side in own)
            sides = _sides(tensors)
            if len(own) == len(parts) and sides == {"in": own[0].get("in"), "out": sum(heights)}:
                yield Found((name,), modules, heights)


def _file_is_split(held: Mapping[str, list[TensorInfo]], by_name: Mapping[str, Module]) -> Iterator[Found]:
    for parts, wholes in _LAYERS.items():
        for parent in dict.fromkeys(n.rpartition(".")[0] for n in held if n.rpartition(".")[2] in parts):
            here = tuple(f"{parent}.{part}" for part in parts if f"{parent}.{part}" in held)
            whole = next((f"{parent}.{name}" for name in wholes if anatomy.sides(by_name.get(f"{parent}.{name}"))), "")
            sides = [_sides(held[name]) for name in here]
            if not whole or any(f"{parent}.{part}" in by_name for part in parts):
                continue
            own = anatomy.sides(by_name[whole])
            heights = tuple(side.get("out", 0) for side in sides)
            adds_up = sum(heights) == own["out"] if len(here) == len(parts) else sum(heights) < own["out"]
            if adds_up and all(heights) and {side.get("in") for side in sides} == {own["in"]}:
                has = {name.rpartition(".")[2]: height for name, height in zip(here, heights)}
                yield Found(here, (whole,), heights, _gaps(parts, has, own["out"]))


def _gaps(parts: tuple[str, ...], has: Mapping[str, int], out: int) -> tuple[int, ...]:
    """Rows before the first part that the file has, and behind each. Key and value have the same height."""
    known = dict(has)
    if len(parts) == 3:
        for one, other in ((parts[1], parts[2]), (parts[2], parts[1])):
            if other in known:
                known.setdefault(one, known[other])
    rest = out - sum(known.values())
    unknown = [part for part in parts if part not in known]
    known.update({part: rest // len(unknown) for part in unknown})
    gaps = [0]
    for part in parts:
        if part in has:
            gaps.append(0)
        else:
            gaps[-1] += known[part]
    return tuple(gaps)


def _sides(tensors: list[TensorInfo]) -> dict[str, int]:
    """`in` and `out` of the module that these tensors are for, as far as they show."""
    known = (anatomy.size(evidence.parts(tensor.name).leaf, tensor.shape) for tensor in tensors)
    return dict(item for item in known if item is not None)


def _said(diff: Diff, held: Mapping[str, list[TensorInfo]], found: list[Found], fix: Fix) -> Finding:
    tensors = [tensor for one in found for name in one.file for tensor in held[name]]
    wanted = {name for one in found for name in one.base}
    first = found[0]
    ours, theirs = _leaves(first.file), _leaves(first.base)
    adds = " + ".join(map(str, first.heights))
    sums = f"{adds} = {sum(first.heights)}" if len(first.heights) > 1 else adds
    layers = evidence.layers_said(evidence.layer_number(name) for one in found for name in one.file)
    return finding(
        f"the adapter has {ours}, the base {theirs} in its place{layers} ({sums} rows)",
        at=tensors,
        predicted="raises" if diff.raised is not None else "silent",
        found=ours,
        expected=theirs,
        fix=fix,
        explains=[*(t.name for t in tensors), *(slot.key for slot in diff.missing if slot.module in wanted)],
    )


def _cure(case: Case, diff: Diff, found: list[Found], held: Mapping[str, list[TensorInfo]]) -> Fix:
    """Exact, where the order of the rows is beyond doubt; refused with both readings where it is not."""
    rows = [name for one in found for name in (*one.file, *one.base) if name.rpartition(".")[2] in _EITHER]
    if rows:
        name = show(rows[0].rpartition(".")[2])
        return Fix(
            "unsafe",
            f"take the base in the implementation of the training: no shape tells how the rows of {name} lie",
            readings=(
                f"the rows of {name} lie part after part (ChatGLM): query, then key, then value",
                "they lie head by head (GPT-NeoX, BLOOM, InternLM2): query, key and value of one head, then of the next",
            ),
        )
    from adapterfit.causes.names import _fusing  # for the few that need it

    try:
        edits = _fusing.cure(case, diff, found, held)
    except _fusing.Cannot as why:
        return Fix("unsafe", f"take the base in the implementation of the training: {why}")
    return Fix("safe", _summary(found), edits)


def _summary(found: list[Found]) -> str:
    said = []
    for one in {(_leaves(one.file), _leaves(one.base)): one for one in found}.values():
        if len(one.file) < len(one.base):
            said.append(f"give {_leaves(one.base)} the same lora_A and their rows of lora_B")
        elif len(one.file) == 1:
            said.append(f"put lora_B of {_leaves(one.file)} on its rows of {_leaves(one.base)}")
        else:
            said.append(
                f"stack lora_A of {_leaves(one.file)} and put lora_B on a block diagonal: the rank of {_leaves(one.base)} is "
                "the sum of theirs, and alpha grows alike, so that the scale stays"
            )
    return "; ".join(said)


def _leaves(names: tuple[str, ...]) -> str:
    return ", ".join(show(name.rpartition(".")[2]) for name in names)


def examples(make: Any) -> dict[str, list[Any]]:
    """Fused onto split with and without other targets, and split onto fused; sums that do not add up stay silent."""
    plain = make.lora("llama", target_modules=["q_proj", "o_proj"])
    fused = plain.renamed(lambda name: name.replace("q_proj", "qkv_proj")).reshaped(
        lambda name: "qkv_proj.lora_B" in name, lambda shape: (128, shape[1])
    )
    bloom = make.base(
        "gpt2", model_type="bloom", architectures=["BloomForCausalLM"], hidden_size=64, n_head=4, n_layer=2
    )
    whole = make.lora("gpt2", base=bloom, target_modules=["query_key_value", "dense"])
    split = whole.renamed(lambda name: name.replace("query_key_value", "q_proj")).reshaped(
        lambda name: "q_proj.lora_B" in name, lambda shape: (64, shape[1])
    )
    more = {name.replace("q_proj", other): (4, 64) if "lora_A" in name else (64, 4)
            for name in split.names if "q_proj" in name for other in ("k_proj", "v_proj")}  # fmt: skip
    phi3 = make.lora("phi3", target_modules=["o_proj", "down_proj"])
    parts = {
        name.replace("o_proj", f"{part}_proj"): (4, 64) if "lora_A" in name else (rows, 4)
        for name in phi3.names if "o_proj" in name for part, rows in (("q", 64), ("v", 32))
    }  # fmt: skip
    return {
        "silent": [
            plain,
            whole,
            fused.reshaped(lambda name: "qkv_proj.lora_B" in name, lambda shape: (96, shape[1])),
            plain.on("gpt2"),
        ],
        "fires": [
            fused.with_config(target_modules=["qkv_proj"]),
            fused.with_config(target_modules=["qkv_proj", "o_proj"]),
            split.with_config(target_modules=["q_proj", "dense"]),
            split.added(more).with_config(target_modules=["q_proj", "k_proj", "v_proj"]),
            phi3.added(parts).with_config(target_modules=["o_proj", "down_proj", "q_proj", "v_proj"]),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "qkv_proj", "w_pack", "query_key_value", "wqkv", "fused qkv", "packed_modules",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a fused layer's name on one side, the parts' names on the other."""
    fix = "split the fused LoRA: copy lora_A to every part and cut the rows of lora_B; or load the implementation of the training"
    by_wording = {targets.wording: targets for targets in symptoms.targets}
    received, expected = by_wording.get("received"), by_wording.get("expected")
    fused = set(_QKV) | set(_GATE_UP)
    parts = {part for layer in _LAYERS for part in layer}
    if received is not None and expected is not None:
        has, wants = ({name.rpartition(".")[2] for name in targets.names} for targets in (received, expected))
        if (has & fused and wants & parts) or (has & parts and wants & fused and not wants & parts):
            yield suspect(
                symptoms, f"the adapter has {shorten(sorted(has & (fused | parts)))}, the loader {shorten(sorted(wants & (fused | parts)))}", 0.85,
                [received.line], fix=fix,
            )  # fmt: skip
    missing = by_wording.get("not-found")
    if missing is not None and missing.names and set(missing.names) <= (fused | parts):
        one = set(missing.names) <= _FUSED_ONLY
        yield suspect(
            symptoms, "the base may have these layers fused, or split", 0.88 - ALIKE / 2 if one else 0.35, [missing.line], fix=fix,
            apart="the names of the base's attention layers: qkv_proj, W_pack, query_key_value, c_attn or q_proj, k_proj, v_proj",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Fused names for a loader that splits; names that are simply wrong."""
    return {
        "fires": [
            "ValueError: While loading x, expected target modules in ['q_proj', 'k_proj', 'v_proj'] but received ['qkv_proj']"
        ],
        "silent": [
            "ValueError: While loading x, expected target modules in ['q_proj', 'v_proj'] but received ['lm_head']"
        ],
    }
