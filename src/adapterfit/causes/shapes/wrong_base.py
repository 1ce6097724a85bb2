"""The adapter was made for another base.

What this means: every tensor of an adapter has the width or height of the module it was trained on. Where the base's modules
have other sizes, loading stops with a size mismatch; where the base is another architecture, PEFT finds no target, or
finds some by accident and drops the tensors without a word.

Why it happens: a base of another size (8B for 70B), a sibling with fewer key/value heads or another MLP, a quantised copy whose
MLP was padded, or simply another folder than the one base_model_name_or_path names, which itself may be wrong.

Detection: sizes in the file are held against the base's modules, the rank left aside; the ones that differ say what kind of
other base it was. Vocabulary rows alone are another cause.

Fix: load the base of the training. The sizes below tell which one to look for.

Workaround: none: an adapter cannot be moved to a base of other sizes.

Prevention: keep the base's name and revision in the adapter's config, and do not edit it.

Setup:
    LlamaForCausalLM(llama(hidden_size=64)).save_pretrained("larger")

Broken:
    base = AutoModelForCausalLM.from_pretrained("larger")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... lora_A.default.weight: copying a param with shape torch.Size([4, 32]) from checkpoint, the shape in current model is torch.Size([4, 64]).

Fixed:
    config = PeftConfig.from_pretrained("adapter")
    base = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path)
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from adapterfit.causes import anatomy, evidence, renames
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.names._experts_turned import is_exchanged
from adapterfit.causes.shapes.rank_mismatch import differs
from adapterfit.causes.shapes.stored_transposed import is_turned
from adapterfit.causes.sizes import IMAGES, ranks, sizes_of
from adapterfit.records import Case, Diff, Finding, Fix, Misshape, Module, Suspicion, TensorInfo
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=10,
    messages=(
        "size mismatch for ...q_proj.lora_A.default.weight: copying a param with shape torch.Size([8, 4096]) from ...",
        "size mismatch for ...k_proj.lora_B.default.weight: copying a param with shape torch.Size([4096, 8]) from ...",
        "NoMatchingPeftModuleError: Target modules {'c_attn'} not found in the base model.",
    ),
    needs=("diff",),
)
_KEY_VALUE = re.compile(r"(k|v|key|value)(_proj|_lin)?")


class Sizes(NamedTuple):
    """A kind of module, by its last name: a side, its size in the file, its size in the base."""

    leaf: str
    side: str
    file: int
    base: int


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding, for sizes or for an architecture; it accounts for everything that does not fit."""
    refused = diff.raised is not None and diff.raised.stage == "inject" and bool(diff.expectation.tree.modules)
    if not evidence.comparable(diff) and not refused:
        return
    wrong = _other_sizes(diff)
    said = _sizes_said(diff, wrong) if wrong else _other_experts(diff) or _other_architecture(diff) or _other(diff)
    if not said:
        return
    message, found, expected = said
    at = [entry.tensor.name for entry in diff.misshapen] + [tensor.name for tensor in diff.extra]
    empty = [slot.key for slot in diff.missing]
    named = case.adapter.config.raw.get("base_model_name_or_path") if case.adapter.config is not None else None
    names = f"; the adapter names {quote(named)} as its base" if isinstance(named, str) and named else ""
    yield finding(
        f"{message}{names}",
        at=at,
        predicted="raises" if diff.raised is not None else "warns" if diff.warned else "silent",
        confidence="high" if wrong or evidence.no_target(diff) else "medium",
        found=found,
        expected=expected,
        fix=Fix(
            "unsafe", f"load the base of the training{f', which the adapter calls {quote(named)}' if names else ''}"
        ),
        explains=[*at, *empty],
    )


# ------------------------------------------------------------------------------------------------ sizes


def _other_sizes(diff: Diff) -> list[Sizes]:
    """Kinds of modules whose sizes differ, the vocabulary's rows left out."""
    found: dict[Sizes, None] = {}
    vocabulary = {diff.expectation.tree.input_embeddings, diff.expectation.tree.output_embeddings}
    tensors = _tuner_tensors(diff)
    wrong = {entry.key: entry for entry in diff.misshapen if differs(entry) != "rank" and _whole(entry)}
    if wrong and all(map(is_turned, diff.misshapen)):
        return []  # transposed, not of other sizes
    for key, entry in wrong.items():
        leaf = evidence.parts(key).leaf
        known, own = anatomy.size(leaf, entry.found), anatomy.size(leaf, entry.wanted)
        if entry.module not in vocabulary and known and own and known != own and not is_exchanged(entry, wrong):
            found[Sizes(_last(entry.module), *known, own[1])] = None
    by_name = anatomy.modules(diff)
    held = {e.tensor: e.module for e in wrong.values() if evidence.parts(e.key).leaf.startswith("lokr_")}
    for tensor, name in (held or ({} if wrong or _landed(diff) else _elsewhere(diff, by_name))).items():
        sides = anatomy.sides(by_name.get(name)) if name not in vocabulary else {}
        for side, size in _shown(tensor, tensors).items() if sides else ():
            if sides[side] != size:
                found[Sizes(_last(name), side, size, sides[side])] = None
    return list(found)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _whole(entry: Misshape) -> bool:
    """Whether the tensor has as many dimensions as it should, none of them empty."""
    return len(entry.found) == len(entry.wanted) and all(entry.found)


def _tuner_tensors(diff: Diff) -> list[TensorInfo]:
    """All tensors of the file that are a tuner's."""
    landed = [match.tensor for match in diff.matched] + [entry.tensor for entry in diff.misshapen]
    return evidence.tuner_tensors([*landed, *diff.extra])


def _shown(tensor: TensorInfo, tensors: list[TensorInfo]) -> Mapping[str, int]:
    """The sides of its module that a tensor shows; a LoKr factor does so together with the others."""
    parts = evidence.parts(tensor.name)
    if parts.leaf.startswith("lokr_"):
        return anatomy.lokr_sides(t for t in tensors if evidence.parts(t.name).module == parts.module)
    known = anatomy.size(parts.leaf, tensor.shape)
    return dict([known]) if known is not None else {}


def _landed(diff: Diff) -> bool:
    """Whether anything landed in a layer."""
    return any(m.slot.role == "tuner" and evidence.layer_number(m.slot.module) is not None for m in diff.matched)


def _elsewhere(diff: Diff, by_name: Mapping[str, Module]) -> dict[TensorInfo, str]:
    """Stray tensors with the module of the base whose path is the same from the first number on.

    Where several are (a vision tower has layers too), the one beside the input embeddings counts. Nothing where all
    sizes of one part of the file fit: then its names are the trouble.
    """
    text = diff.expectation.tree.input_embeddings.rpartition(".")[0]
    tails: dict[str, str] = {}
    for name, module in by_name.items():
        if anatomy.sides(module) and evidence.layer_number(name) is not None:
            tail = _tail(name)
            tails[tail] = name if tail not in tails or name.startswith(text) else tails[tail]
    here: dict[TensorInfo, str] = {}
    fits: dict[str, bool] = {}
    for tensor in evidence.tuner_tensors(diff.extra):
        parts = evidence.parts(tensor.name)
        place, front = tails.get(_tail(parts.module), ""), parts.module[: -len(_tail(parts.module))]
        sizes = (tensor.shape, tensor.shape[::-1])  # transposed, it is still of this base
        fits[front] = fits.get(front, True) and any(anatomy.belongs(by_name.get(place), parts.leaf, s) for s in sizes)
        if place:
            here[tensor] = place
    return {} if any(fits.values()) else here


def _sizes_said(diff: Diff, wrong: list[Sizes]) -> tuple[str, str, str]:
    """The message, and the sizes found and expected."""
    leaves = {one.leaf for one in wrong}
    kind = _kind(diff, wrong)
    shown = [f"{show(one.leaf)} {_SIDES[one.side]} {one.file:,}, not {one.base:,}" for one in wrong]
    more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    message = f"{kind}: in the adapter {'; '.join(shown[:4])}{more}"
    found = ", ".join(f"{show(one.leaf)} {one.side} {one.file}" for one in wrong[:4])
    expected = ", ".join(f"{show(one.leaf)} {one.side} {one.base}" for one in wrong[:4])
    return message, found, f"{expected}{' and more' if len(leaves) > 4 else ''}"


_SIDES = {"in": "takes", "out": "gives"}


def _kind(diff: Diff, wrong: list[Sizes]) -> str:
    """What the sizes that differ have in common."""
    hidden = (
        anatomy.sides(anatomy.modules(diff)[diff.expectation.tree.input_embeddings]).get("out")
        if _embeds(diff)
        else None
    )
    widths = {one.file for one in wrong if one.side == "in" and one.base == hidden}
    if hidden and len(widths) == 1 and not _takes(diff, hidden):
        return f"the adapter was made for hidden size {widths.pop():,}, this base has {hidden:,}"
    if all(_KEY_VALUE.fullmatch(one.leaf) and one.side == "out" for one in wrong):
        return (
            "the adapter was made for a base with another number of key/value heads (a sibling of the same width): "
            f"keys and values of {' and '.join(f'{n:,}' for n in sorted({one.file for one in wrong}))}, "
            f"not {' and '.join(f'{n:,}' for n in sorted({one.base for one in wrong}))}"
        )
    inner = {(one.file, one.base) for one in wrong}
    if len(inner) == 1 and hidden not in next(iter(inner)):
        file, own = next(iter(inner))
        return (
            f"only the inner size of these modules differs, {file:,} where this base has {own:,} (a sibling, or a "
            "quantised copy that was padded)"
        )
    return "the adapter was made for modules of other sizes"


def _takes(diff: Diff, width: int) -> bool:
    """Whether a tensor landed that is for a module of this width."""
    keys = ((evidence.parts(match.slot.key).leaf, match.slot.shape) for match in diff.matched)
    return any(anatomy.size(leaf, shape) == ("in", width) for leaf, shape in keys)


def _embeds(diff: Diff) -> bool:
    return diff.expectation.tree.input_embeddings in anatomy.modules(diff)


def _other_experts(diff: Diff) -> tuple[str, str, str] | None:
    """Where the fused experts alone have another rank: it is the rank times the number of experts."""
    by_name = anatomy.modules(diff)
    counts = set()
    for entry in diff.misshapen:
        leaf, own = evidence.parts(entry.key).leaf, anatomy.of_experts(by_name.get(entry.module))
        found, wanted = anatomy.rank(leaf, entry.found), anatomy.rank(leaf, entry.wanted)
        if not own or not found or not wanted or differs(entry) != "rank":
            return None
        experts = next(iter(own.values()))[0]
        counts.add((found * experts // wanted if found * experts % wanted == 0 else 0, experts))
    if len(counts) != 1 or not diff.matched or (pair := counts.pop())[0] == 0:
        return None
    file, own_count = pair
    message = (
        f"the adapter was made for {file} experts, this base has {own_count}: rank times experts is a size of theirs"
    )
    return message, f"{file} experts", f"{own_count} experts"


def _other(diff: Diff) -> tuple[str, str, str] | None:
    """Tensors of methods whose shapes do not say which side of a module they show."""
    wrong = [e for e in diff.misshapen if e.tensor.shape and all(e.found) and not _is_known(evidence.parts(e.key).leaf)]
    if not wrong or len(diff.resized) == 1 or all(map(is_turned, diff.misshapen)):
        return None  # one field of the config makes it all fit; or transposed, not of other sizes
    by_name = anatomy.modules(diff)
    if any(anatomy.sides(by_name.get(module)) for module in anatomy.of_modules(diff.extra)):
        return None  # the config selects other modules than the file is for: what all share is as large as the largest of them
    first = wrong[0]
    what = f"{show(_last(first.module))} {show(evidence.parts(first.key).leaf)}"
    said = (
        f"{len(wrong)} tensors have other shapes than this base and this config make: {what} {list(first.found)}, not"
    )
    return f"{said} {list(first.wanted)}", str(list(first.found)), str(list(first.wanted))


def _is_known(leaf: str) -> bool:
    """Whether shapes of this leaf are understood, or no tuner's at all."""
    return not leaf or leaf in anatomy.AXES or leaf.startswith("lora_magnitude_vector")


# ------------------------------------------------------------------------------------------------ architecture


def _other_architecture(diff: Diff) -> tuple[str, str, str] | None:
    """Where not one module of the file is in the base, under whatever path."""
    stray = evidence.tuner_tensors(diff.extra)
    file, by_name = anatomy.of_modules(stray), anatomy.modules(diff)
    file = {name: held for name, held in file.items() if evidence.layer_number(name) is not None} or file
    if not file or _landed(diff) or _is_there(file, by_name):
        return None
    if renames.chain(diff, stray) is not None:
        return None
    own = [
        name for name, module in by_name.items() if anatomy.sides(module) and evidence.layer_number(name) is not None
    ]
    here = shorten(dict.fromkeys(name.rpartition(".")[2] for name in own), 6)
    there = shorten(dict.fromkeys(name.rpartition(".")[2] for name in file), 6)
    base = show(diff.expectation.tree.class_name or "this base")
    message = f"the adapter was made for another architecture: none of its {len(file)} modules ({there}) is in {base}"
    return f"{message}, whose layers have {here}", next(iter(file)), own[0] if own else ""


def _is_there(file: Mapping[str, Any], by_name: Mapping[str, Any]) -> bool:
    """Whether a module of the file is in the base: at its path, beside its own parent, or under another front."""
    tails = {_tail(name) for name, module in by_name.items() if anatomy.sides(module)}
    parents = {name.rpartition(".")[0] for name in file if not name.endswith((".experts", ".base_layer"))}
    return any(parent in by_name and parent for parent in parents) or any(_tail(name) in tails for name in file)


def _tail(path: str) -> str:
    """A path from its first number on."""
    segments = path.split(".")
    return ".".join(segments[next((i for i, part in enumerate(segments) if evidence.is_number(part)), 0) :])


def examples(make: Any) -> dict[str, list[Any]]:
    """Another width, other heads, another MLP, another architecture; not rank, names or vocabulary alone."""
    plain = make.lora("llama")
    every = make.lora("llama", target_modules=["q_proj", "k_proj", "up_proj", "down_proj"])
    head = make.lora("llama", target_modules=["q_proj", "lm_head"])
    return {
        "silent": [
            plain,
            plain.with_config(r=8),
            plain.renamed(lambda name: name.replace("model.layers", "model.text.layers")),
            head.on("llama", vocab_size=300),
            make.lora("llama", target_modules=["nope", "q_proj"]),
            plain.with_config(target_modules=["nope"]),
        ],
        "fires": [
            every.on("llama", hidden_size=128),
            every.on("llama", num_key_value_heads=4),
            every.on("llama", intermediate_size=160),
            head.on("llama", vocab_size=300, hidden_size=32, num_attention_heads=2),
            every.on("gpt2"),
            make.lora("gpt2", target_modules=["c_attn"]).on("bert"),
            make.lora("bert", target_modules=["query"], task_type="SEQ_CLS").on("t5"),
            make.adapter("llama", peft_type="IA3", target_modules=["k_proj"], feedforward_modules=[]).on("t5"),
            make.adapter("llama", peft_type="IA3", target_modules=["k_proj"], feedforward_modules=[]).on(
                "llama", num_key_value_heads=4
            ),
            make.adapter("llama", peft_type="LOKR", target_modules=["k_proj"]).on("llama", num_key_value_heads=4),
            make.lora("mixtral", target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"]).on(
                "mixtral", num_local_experts=8
            ),
            every.on("llava", text_config={"model_type": "llama", "hidden_size": 32, "num_attention_heads": 2}),
        ],
    }


#: Width of a model's hidden state → well-known models that have it.
_WIDTHS = {
    768: "GPT-2, BERT base", 896: "Qwen2.5-0.5B", 1024: "BERT large", 1152: "Gemma-3-1B", 1536: "Qwen2.5-1.5B", 2048: "Llama-3.2-1B, TinyLlama, Gemma-2B",
    2304: "Gemma-2-2B", 2560: "Phi-2, Qwen3-4B", 3072: "Llama-3.2-3B, Phi-3-mini, Gemma-7B", 3584: "Qwen2.5-7B, Gemma-2-9B", 3840: "Gemma-3-12B",
    4096: "7B and 8B Llama, Mistral, Qwen", 4608: "Gemma-2-27B", 5120: "13B Llama, 14B and 32B Qwen", 5376: "Gemma-3-27B", 6144: "Mixtral-8x22B, GPT-NeoX-20B",
    8192: "70B Llama, 72B Qwen",
}  # fmt: skip
_ENGINES = (
    "model arch and lora arch mismatch", "hint: maybe wrong base model",
    "architectures differ:", "does not exist in base model",
)  # fmt: skip

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "wrong base", "different base model", "hidden_size",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "set_peft_model_state_dict"): 0.5}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: widths that differ while ranks agree, or an engine that says so."""
    fix = "load the base that base_model_name_or_path in adapter_config.json names, and verify it: adapterfit check ADAPTER --base BASE"
    found = sizes_of(symptoms, "wrong-base")
    if found is not None:
        known = f" ({_WIDTHS[found.file]} have {found.file})" if found.file in _WIDTHS else ""
        sizes = f": {found.file:,} in the file, {found.model:,} in the model{known}" if found.file else ""
        yield suspect(
            symptoms, f"the adapter was trained on a base of other sizes{sizes}", found.likelihood, found.lines, fix=fix,
            apart="the whole list of mismatches: widths differ for another base, only ranks for another r",
        )  # fmt: skip
    lost = [t.line for t in symptoms.targets if t.wording == "not-found" and t.quoted and t.names]
    if lost:
        yield suspect(
            symptoms, "the names belong to another architecture, if the adapter was trained on another base", 0.36, lost, fix=fix,
            apart="base_model_name_or_path in adapter_config.json beside the base that was loaded",
        )  # fmt: skip
    told = said(symptoms, *_ENGINES)
    if told:
        named = said(symptoms, "is not compatible with model")  # a server that compares names says both
        yield suspect(
            symptoms, "the engine finds the adapter's tensors to be those of another model", 0.6 if named else 0.88, told, fix=fix
        )  # fmt: skip
    lora = "lora" in symptoms.folded or "peft" in symptoms.folded
    multiplied = said(
        symptoms, "must match the size of tensor b", "shapes cannot be multiplied", "incompatible tensor shape"
    )
    if (
        multiplied
        and lora
        and found is None
        and "expert" not in symptoms.folded
        and " and 1x" not in symptoms.folded
        and ranks(symptoms) is None
    ):
        image = said(symptoms, *IMAGES, most=1)
        yield suspect(
            symptoms, "sizes of base and adapter do not go together", 0.4 if image else 0.6, multiplied, fix=fix
        )


def logs() -> dict[str, list[str]]:
    """Another width, on all layers and on keys only; another rank is not another base."""
    line = "size mismatch for base_model.model.model.layers.1.{}.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("self_attn.q_proj.lora_A", "8, 5120", "8, 4096")
            + " "
            + line.format("mlp.up_proj.lora_A", "8, 5120", "8, 4096"),
            line.format("self_attn.k_proj.lora_B", "4096, 8", "1024, 8"),
            "llama_adapter_lora_init_impl: failed to apply lora adapter: model arch and LoRA arch mismatch",
        ],
        "silent": [
            line.format("self_attn.q_proj.lora_A", "16, 4096", "8, 4096"),
            line.format("mlp.up_proj.lora_A", "0", "8, 4096"),
        ],
    }
