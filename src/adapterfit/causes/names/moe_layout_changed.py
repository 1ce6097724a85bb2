"""Mixture-of-experts layers are laid out otherwise than when the adapter was saved.

What this means: transformers 5 keeps all experts of a layer in one three-dimensional parameter; before, each was a Linear of its
own. And PEFT changed which side of such a parameter is its input: 0.17 to 0.19.0 read (experts, in, out), 0.19.1 and later
(experts, out, in), unless transformers marks the layer as transposed. Old files then raise a size mismatch, lose their
experts without a word, or, where the matrix is square, load and compute something else.

Why it happens: the adapter was trained with transformers 4 or PEFT <= 0.19.0. PEFT translates mixtral and qwen2_moe families only,
needs gate and up and down together, and its layer for parameters knows neither dropout nor DoRA.

Detection: names (`experts.3.w1` against `experts`), sizes of A and B exchanged, and for square matrices the PEFT version in
adapter_config.json. Files of gpt_oss-like layers by PEFT >= 0.19 cannot be told apart: transformers' version is not recorded.

Fix: for exchanged sides, A and B change places: A'[e, r, :] = B[:, r, e] and B'[:, r, e] = A[e, r, :]. Experts that lie one by
one are put together here, where the loader does not do it or does it with another scale (rsLoRA, an alpha of their own): A
stacked, gate and up of B on a block diagonal, rank and alpha grown alike. Shared experts and dense layers, whose names PEFT
takes for those of experts, are targeted as parameters. For transformers 4 fused experts are taken apart, one LoRA each (`fix --for
peft==…,transformers==4.57.6`). lora_dropout may be set to 0: it plays no part in inference.

Workaround: load with the versions of peft and transformers of the training.

Prevention: note both versions beside the adapter.

Setup:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {**llama().to_dict(), "model_type": "mixtral", "architectures": None}
    MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4, num_experts_per_tok=2)).save_pretrained("base")
    EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    trained = train(
        AutoModelForCausalLM.from_pretrained("base"), LoraConfig(r=2, target_modules=[], target_parameters=EXPERTS)
    )

    def exchange_sides(folder, experts=4):
        # A and B change places: A'[e, r, :] = B[:, r, e] and B'[:, r, e] = A[e, r, :]
        old = load_file(f"{folder}/adapter_model.safetensors")
        new = {}
        for name in old:
            if "lora_A" in name:
                other = name.replace("lora_A", "lora_B")
                a = old[name].reshape(experts, -1, old[name].shape[1])
                b = old[other].reshape(old[other].shape[0], -1, experts)
                new[name] = b.permute(2, 1, 0).flatten(0, 1).contiguous()
                new[other] = a.permute(2, 1, 0).flatten(1, 2).contiguous()
        save_file(new, f"{folder}/adapter_model.safetensors")

    exchange_sides("adapter")  # as PEFT 0.17.0 to 0.19.0 saved it

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch ... experts.base_layer.lora_A.default.weight

Fixed:
    exchange_sides("adapter")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.causes.names import _experts_turned
from adapterfit.causes.sizes import sizes_of
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, Module, Suspicion
from adapterfit.text import quote, shorten, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=30,
    messages=(
        "size mismatch for ...mlp.experts.lora_A.default.weight: copying a param with shape torch.Size([64, 256]) from ...",
        "ValueError: lora.ParamWrapper does not work with lora_dropout != 0.",
        "ValueError: Cannot convert PEFT target(s) w1 without also targeting w3 because they are fused into gate_up_proj.",
        "target_parameters=['mlp.experts.down_proj'] were set but no parameter was matched.",
    ),
    versions="peft >= 0.17, transformers >= 5.0",
    needs=("config", "diff"),
)
#: Names that PEFT's translation of experts takes out of target_modules. Source: `_MODEL_TO_CONVERSION_PATTERN` of mixtral, qwen2_moe.
_TAKEN = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "gate")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """Whichever of the layouts differs."""
    if _is_refused(case, diff):
        yield from _refused(case, diff)
    elif evidence.comparable(diff):
        yield from list(_experts_turned.by_size(case, diff)) or _experts_turned.by_writer(case, diff)
        yield from list(_taken_for_experts(case, diff)) or _not_fused(case, diff)
        yield from _scaled_otherwise(case, diff)
        yield from _never_trained(case, diff)


def _is_refused(case: Case, diff: Diff) -> bool:
    """Whether it is the translation that stops, or what it makes of a Linear that PEFT refuses; not any other setting."""
    raised, config = diff.raised, case.adapter.config
    if raised is None or config is None or not diff.expectation.tree.expert_fusion:
        return False
    own = bool(config.values.get("target_parameters"))
    made = "ParamWrapper" in raised.line and not own
    translated = raised.line.startswith("Cannot convert PEFT target")
    return raised.stage == "convert" or (raised.stage == "inject" and (made or translated))


def _refused(case: Case, diff: Diff) -> Iterator[Finding]:
    """PEFT's own translation of per-expert layers stops."""
    line = diff.raised.line if diff.raised is not None else ""
    values = case.adapter.config.values if case.adapter.config is not None else {}
    by_name = anatomy.modules(diff)
    experts = [tensor for tensor in case.adapter.tensors if ".experts." in tensor.name]
    dense = [t for t in case.adapter.tensors if _is_linear(evidence.parts(t.name).module, by_name)]
    if not experts and not dense:
        return
    fix = Fix("unsafe", "train again on these versions, or load with transformers 4, which has one Linear per expert")
    if "lora_dropout" in line:
        said = f"set lora_dropout = 0 (it is {show(values.get('lora_dropout'))}); it plays no part in inference"
        fix = Fix("safe", said, (SetConfig("lora_dropout", 0.0),))
    else:
        fix = _fused_here(case, diff) or fix
    yield finding(
        f"transformers 5 fuses the experts of this base, and PEFT's translation of the adapter stops: {show(line)}",
        at=experts or dense,
        predicted="raises",
        found=quote((experts or dense)[0].name),
        expected="one tensor for all experts of a layer",
        fix=fix,
        explains=[tensor.name for tensor in case.adapter.tensors],
    )


# ------------------------------------------------------------------------------------------ one against many


def _not_fused(case: Case, diff: Diff) -> Iterator[Finding]:
    """Tensors per expert on fused experts, or the other way round."""
    by_name = anatomy.modules(diff)
    many = {t: m for t in diff.extra if (m := _experts_turned.EXPERT.match(evidence.parts(t.name).module))}
    holders = {anatomy.holder(path, by_name) for path in {match["holder"] for match in many.values()}} - {""}
    fused = [t for t in diff.extra if _has_linears(evidence.parts(t.name).module, by_name)]
    if not holders and not fused:
        return
    at = list(many) if holders else fused
    wanted = holders or {evidence.parts(t.name).module.partition(".experts")[0] + ".experts" for t in fused}
    ours, theirs = "one matrix per expert", "all experts of a layer in one parameter"
    ours, theirs = (ours, theirs) if holders else (theirs, ours)
    why, fix = _why(case, diff, list(dict.fromkeys(match["leaf"] for match in many.values())))
    fix = fix if holders else _apart(case, diff) or fix
    yield finding(
        f"{len(at)} tensors are laid out for {ours}; this base has {theirs}, and {why}",
        at=at,
        predicted="silent",
        found=quote(at[0].name),
        expected=shorten(sorted(wanted), 1),
        fix=fix,
        explains=[*(t.name for t in at), *(slot.key for slot in diff.missing if slot.module in wanted)],
    )


def _why(case: Case, diff: Diff, leaves: list[str]) -> tuple[str, Fix]:
    """Why the loader does not translate; it would if the config named all of them."""
    fusion, config = diff.expectation.fusion, case.adapter.config
    targets = config.raw.get("target_modules") if config is not None else None
    if fusion is not None and isinstance(targets, list) and set(leaves) == {*fusion.gate_up, fusion.down}:
        added = [*targets, *(leaf for leaf in leaves if leaf not in targets)]
        if len(added) > len(targets):
            said = f"add {', '.join(map(quote, added[len(targets) :]))} to target_modules"
            return "the loader translates only what target_modules names", Fix(
                "safe", said, (SetConfig("target_modules", added),)
            )
    said = "load with the transformers version of the training, or fuse the matrices as PEFT does for mixtral"
    return "the loader does not translate them", _fused_here(case, diff) or Fix("unsafe", said)


def _fused_here(case: Case, diff: Diff) -> Fix | None:
    """The file written as this base has it: nothing is left for the loader to translate."""
    from adapterfit.causes.names import _experts  # for the few that need it
    from adapterfit.causes.names._fusing import Cannot

    layers = _experts.found(case, anatomy.modules(diff))
    try:
        edits = _experts.cure(case, diff, layers)
    except Cannot:
        return None
    what = (
        f"put the experts of {evidence.count(len(layers), 'layer')} together: lora_A stacked, gate and up of lora_B on a block "
        "diagonal, rank and alpha grown alike"
    )
    more = "target the other layers of those names as parameters, so that PEFT does not take them for experts"
    return Fix("safe", what if layers else more, edits)


def _taken_for_experts(case: Case, diff: Diff) -> Iterator[Finding]:
    """Shared experts and dense layers have the names of experts; PEFT's translation takes them out of the targets."""
    by_name = anatomy.modules(diff)
    if not diff.expectation.tree.expert_fusion or case.adapter.config is None:
        return
    stray = [t for t in diff.extra if _is_linear(evidence.parts(t.name).module, by_name)]
    fix = _fused_here(case, diff) if stray else None
    if fix is None:
        return
    held = {evidence.parts(tensor.name).module for tensor in stray}
    yield finding(
        f"{len(stray)} tensors are for layers that have an expert's name and are none, such as {show(min(held))}: PEFT takes these "
        "names out of target_modules and drops them",
        at=stray,
        predicted="silent",
        found=quote(stray[0].name),
        expected="the name as a parameter in target_parameters",
        fix=fix,
        explains=[*(t.name for t in diff.extra), *(slot.key for slot in diff.missing)],
    )


def _is_linear(module: str, by_name: Mapping[str, Module]) -> bool:
    """Whether it is a layer of the base whose name PEFT takes for an expert's."""
    return module.rpartition(".")[2] in _TAKEN and bool(anatomy.sides(by_name.get(module)))


def _scaled_otherwise(case: Case, diff: Diff) -> Iterator[Finding]:
    """PEFT doubles rank and alpha of gate and up: right for a plain LoRA, not with rsLoRA or an alpha of their own."""
    if diff.expectation.fusion is None or (diff.raised is not None and not diff.misshapen):
        return
    from adapterfit.causes.names import _experts

    layers = _experts.found(case, anatomy.modules(diff))
    if not layers or _experts.read_by_peft(case, diff, layers):
        return
    at = [t for one in layers.values() for held in one.parts.values() for pair in held.values() for t in pair.values()]
    values = diff.expectation.config
    why = "use_rslora" if values.get("use_rslora") else "rank_pattern or alpha_pattern"
    yield finding(
        f"PEFT fuses the experts of {evidence.count(len(layers), 'layer')} and gives them another scale than in training: it doubles "
        f"rank and alpha of gate and up, which is not the same with {why}",
        at=at,
        predicted="raises" if diff.raised is not None else "silent",
        found=why,
        expected="the scale of the training",
        fix=_fused_here(case, diff) or Fix("unsafe", "load with transformers 4, which has one Linear per expert"),
        differs=True,
    )


def _has_linears(module: str, by_name: Mapping[str, Module]) -> bool:
    """Whether a fused tensor's module holds one Linear per expert in the base."""
    from adapterfit.causes.names import _experts_apart

    return module.partition(".base_layer")[0].endswith(".experts") and bool(_experts_apart.holder(module, by_name))


def _apart(case: Case, diff: Diff) -> Fix | None:
    """Fused experts as one Linear each; None where that is not exact."""
    from adapterfit.causes.names import _experts_apart
    from adapterfit.causes.names._fusing import Cannot

    try:
        edits = _experts_apart.cure(case, diff)
    except _experts_apart.Ambiguous:
        readings = (
            "written by PEFT 0.19.1 or later: every expert's rows of lora_A and columns of lora_B are its own A and B",
            "written by PEFT 0.17 to 0.19.0: they are its B and A, turned",
        )
        return Fix("unsafe", "say which release wrote it: set peft_version in adapter_config.json", readings=readings)
    except Cannot:
        return None
    return Fix(
        "safe",
        "take the experts apart: their rows of lora_A and columns of lora_B, gate and up of it as its halves",
        edits,
    )


# ------------------------------------------------------------------------------------------ silent ones


def _never_trained(case: Case, diff: Diff) -> Iterator[Finding]:
    """target_parameters that matched nothing where the adapter was saved: no tensors for them, empty slots now."""
    by_name = anatomy.modules(diff)
    empty = [slot for slot in diff.missing if anatomy.of_experts(by_name.get(slot.module))]
    values = case.adapter.config.values if case.adapter.config is not None else {}
    if not empty or not values.get("target_parameters") or any(".experts." in t.name for t in case.adapter.tensors):
        return
    said = "leave target_parameters out: the file holds nothing for them"
    safe = diff.expectation.inert and bool(diff.expectation.targets)
    yield finding(
        f"target_parameters = {show(values['target_parameters'], 80)}, but the file has no tensor for any expert: where it was "
        "saved each expert was a Linear, so the parameters matched nothing and were not trained",
        at=[slot.key for slot in empty],
        predicted="warns",
        found="no tensors",
        expected=shorten((slot.key for slot in empty), 1),
        fix=Fix("safe", said, (SetConfig("target_parameters", None),)) if safe else Fix("unsafe", said),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Exchanged sides, per-expert tensors that are not translated, dropout, square matrices of old and new PEFT."""
    down = make.lora("mixtral", target_modules=[], target_parameters=["mlp.experts.down_proj"], peft_version="0.21.2")
    swapped = down.reshaped(lambda name: "lora_A" in name, lambda shape: (shape[0], 64)).reshaped(
        lambda name: "lora_B" in name, lambda shape: (128, shape[1])
    )
    base = make.base("mixtral", intermediate_size=64)
    square = make.lora("mixtral", base=base, target_modules=[], target_parameters=["mlp.experts.down_proj"])
    old = make.lora("mixtral", target_modules=["q_proj"])
    leaves = {"w1": (64, 128), "w2": (128, 64), "w3": (64, 128)}
    each = {
        f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{leaf}.lora_{side}.weight": (
            (4, sizes[0]) if side == "A" else (sizes[1], 4)
        )
        for layer in range(2)
        for expert in range(4)
        for leaf, sizes in leaves.items()
        for side in "AB"
    }
    translated = old.added(each).with_config(target_modules=["q_proj", "w1", "w2", "w3"])
    return {
        "silent": [
            down,
            translated,
            square.with_config(peft_version="0.21.2"),
            make.lora(
                "mixtral", base=base, target_modules=[], target_parameters=["mlp.experts.gate_up_proj"]
            ).with_config(peft_version="0.18.1"),
            old,
        ],
        "fires": [
            swapped,
            square.with_config(peft_version="0.18.1"),
            square,
            translated.with_config(lora_dropout=0.05),
            translated.with_config(use_rslora=True),
            translated.with_config(alpha_pattern={"w1": 16}),
            translated.dropped(lambda name: ".w2." in name).with_config(target_modules=["q_proj", "w1", "w3"]),
            translated.dropped(lambda name: ".w3." in name).with_config(target_modules=["q_proj", "w1", "w2"]),
            translated.with_config(target_modules=["q_proj"]),
            old.with_config(target_parameters=["mlp.experts.down_proj"]),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "experts.", "fused experts", "gate_up_proj", "mixture of experts", "moe",
)  # fmt: skip


#: Experts one by one, and all of a layer in one tensor, as people and programs write their names.
_EACH = re.compile(r"experts\.(?:\d{1,4}|n|m|\*|[{<]\w{1,12}[}>])\.\w|per[- ]expert|separate experts")
_FUSED = re.compile(
    r"experts\.(?:lora_|gate_up|gate_and_up|down_proj|up_proj|base_layer|w1|w2|w3)|fused[ \w-]{0,20} experts?|fused 3d"
    r"|grouped[ \w-]{0,12} experts?|grouped tensor"
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: experts among the names, per expert on one side and fused on the other, or their sides exchanged."""
    fix = "load with the peft and transformers of the training, or convert: peft >= 0.19 fuses mixtral and qwen2_moe by itself"
    sizes = sizes_of(symptoms, "moe-layout-changed")
    names = names_of(symptoms, "moe-layout-changed")
    for found in (sizes, names):
        if found is not None:
            yield suspect(
                symptoms,
                "the experts are laid out otherwise in the file than in the model",
                found.likelihood,
                found.lines,
                fix=fix,
            )
    received = [
        t
        for t in symptoms.targets
        if t.wording in {"received", "not-found"} and any("experts" in n.split(".") for n in t.names)
    ]
    if received:
        yield suspect(
            symptoms, "the file has a LoRA for each expert; the loader knows the experts of a layer as one", 0.88,
            [targets.line for targets in received], fix=fix,
        )  # fmt: skip
    missed = [
        e.line for e in symptoms.errors if e.kind == "KeyError" and ".experts." in e.message and ".lora_" in e.message
    ]
    if missed:
        yield suspect(
            symptoms, "the loader looks for an expert's tensor under another layout's name", 0.85, missed, fix=fix
        )
    cut = [t for t in symptoms.targets if t.wording == "expected" and "experts" in t.names]
    if cut and not any(t.wording == "received" and t.names for t in symptoms.targets):
        yield suspect(
            symptoms, "the server knows the experts of a layer as one; the adapter's names are cut off here", 0.62, [cut[0].line], fix=fix,
            apart="the names received: experts.N.… mean this cause, other names a list that is too short",
        )  # fmt: skip
    told = said(
        symptoms, "fused 3d moe weights", "cannot convert peft target(s)", "lora.paramwrapper does not", "unprocessed experts", "lora weights all need to have either 2 or 3 dims", "contain keys not present in source_patterns", "different lora ranks for the same projection",
    )  # fmt: skip
    if told:
        yield suspect(symptoms, "the loader wants the experts in another layout", 0.88, told, fix=fix)
    each, fused = _EACH.search(symptoms.folded), _FUSED.search(symptoms.folded)
    if each is not None and fused is not None and not (symptoms.errors or symptoms.misshapen or symptoms.missing):
        yield suspect(
            symptoms, "the text names the experts one by one and as one", 0.6,
            [line_of(symptoms, each.start()), line_of(symptoms, fused.start())], fix=fix, apart="which of the two the file has, and which the loader",
        )  # fmt: skip
    multiplied = said(symptoms, "must match the size of tensor b", "shapes cannot be multiplied")
    if multiplied and said(symptoms, "expert", "moe"):
        yield suspect(symptoms, "the two sides of the experts' matrices are exchanged", 0.75, multiplied, fix=fix)


def logs() -> dict[str, list[str]]:
    """Exchanged sides; experts one by one for a fused module; another rank on plain layers."""
    line = "size mismatch for base_model.model.model.layers.1.mlp.{}.default.weight: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("experts.lora_A", "64, 2048", "64, 768")
            + "\n"
            + line.format("experts.lora_B", "768, 64", "2048, 64"),
            "ValueError: While loading x, expected target modules in {'experts', 'q_proj'} but received ['model.layers.0.mlp.experts.3.up_proj']",
            "RuntimeError: The size of tensor a (768) must match the size of tensor b (2048) in experts.gate_up_proj",
            "the file names mlp.experts.0.up_proj, the loader of my LoRA wants mlp.experts.gate_up_proj",
        ],
        "silent": [line.format("up_proj.lora_A", "16, 2048", "8, 2048")],
    }
