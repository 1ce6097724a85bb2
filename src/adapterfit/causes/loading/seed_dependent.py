"""A part of the adapter is drawn from a seed, or computed from the base, when it is loaded.

What this means: the file holds only what was trained. The rest PEFT makes anew at every load: random projections from a seed
in the config, or directions from the base's own weights. It comes out the same only with the same seed, the same base and the
same random generator of torch or numpy; nothing in the file tells whether it did.

Why it happens: `save_projection: false`, or a method that never saves its places or directions (FourierFT, WaveFT, PSOFT, OSF).

Detection: the method and these fields of the config.

Fix: none is needed on the machine of the training. Before moving the adapter, save it with the projections where the method
can (`save_projection: true`, `save_indices: true`, `save_precomputed_indices: true`).

Workaround: compare an output on one known input before trusting the adapter elsewhere.

FRoD saves its basis, and is not safe for it: PEFT computes the directions beside a basis of the loading machine, and
reads that of the file afterwards. Measured: files of another machine, loaded on the same base with the same versions, gave other
logits, by more than the adapter's effect; loaded a second time beside themselves they gave the right ones.

VeRA saves its projections, and PEFT before 0.21 does not read them: it makes them from the seed, whatever the file holds. Measured
with 0.13.2 to 0.20.0 on files with other projections.

Prevention: keep the versions of PEFT and torch, and never edit the seeds. TinyLoRA of PEFT 0.19 drew its projections without
a seed: such an adapter without them is lost. AdaMSS of PEFT 0.19 found its segments with directions drawn without a seed: which
rows of a weight a segment has is not in the file, and the next load finds other ones.

Setup:
    options = peft.VeraConfig(r=4, target_modules=["q_proj", "v_proj"], save_projection=False)
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_config(projection_prng_key=1)  # stands for another random generator

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Specified to not load vera_A and vera_B from state dictionary.
    # warns: Specified to not save vera_A and vera_B within the state dictionary
    as_trained(model)  # -> False

Fixed:
    options = peft.VeraConfig(r=4, target_modules=["q_proj", "v_proj"], save_projection=True)
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    change_config(projection_prng_key=1)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader, written_before
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import show

CAUSE = Cause(
    severity="note",
    level="advanced",
    minutes=5,
    messages=(
        (
            "UserWarning: Specified to not load vera_A and vera_B from state dictionary. This means we will be relying on PRNG "
            "initialisation to restore these projections using `config.projection_prng_key`, which may not be accurate on all "
            "system configurations."
        ),
        "UserWarning: Projection tensors will be regenerated from the projection_seed.",
    ),
    versions="peft >= 0.11",
    needs=("config", "diff"),
)
#: Of 72 random weights cut to this part or less none got the same segments twice; of 24 cut to 63 of 64 directions 7 did.
_CUT = 60 / 64
#: Method → what is made anew, the field it is made from, and the field that says it is saved after all.
_DRAWN: Mapping[str, tuple[str, str, str]] = {
    "VERA": ("the projections", "projection_prng_key", "save_projection"),
    "PVERA": ("the projections", "projection_prng_key", "save_projection"),
    "RANDLORA": ("the projections", "projection_prng_key", "save_projection"),
    "TINYLORA": ("the projections", "projection_seed", "save_projection"),
    "FROD": ("the basis, from the base's weights, and the places", "projection_prng_key", "save_projection"),
    "UNILORA": ("the indices", "proj_seed", "save_indices"),
    "FOURIERFT": ("the places of the frequencies", "random_loc_seed", ""),
    "WAVEFT": ("the places of the coefficients", "random_loc_seed", ""),
    "SUPERTUNING": ("the places, from the base's weights", "", "save_precomputed_indices"),
    "PSOFT": ("the directions, from the base's weights", "", ""),
    "OSF": ("the directions that are kept, from the base's weights", "", ""),
}


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """A note for a method that makes a part of itself anew; an error where it never can."""
    config = diff.expectation.config
    kind = str(config.get("peft_type"))
    if kind == "ADAMSS" and diff.raised is None:
        yield from _segments(case, diff)
    what, seed, saved = _DRAWN.get(kind, ("", "", ""))
    if not what or not diff.matched or diff.raised is not None:
        return
    if saved and config.get(saved):
        if (
            kind == "FROD" and loader(diff).get("loader") != "PeftModel.load_adapter"
        ):  # a second one does it the other way
            yield _beside_its_basis(diff)
        if kind in ("VERA", "PVERA") and loader(diff).get("vera-projection"):
            yield _not_from_the_file(diff)
        return
    if kind == "TINYLORA" and (written_before(case, "0.20.0") or _made_by_0_19(case)):
        yield _lost()
        return
    if kind == "TINYLORA" and loader(diff).get("tinylora-projection"):
        yield finding(
            f"the projections are not in the file, and this PEFT does not draw them from {seed} = {show(config.get(seed))} alone, but "
            "others in each process: the adapter adds noise",
            at=(),
            expected="PEFT 0.20 or newer, which draws them from the seed",
            fix=Fix("unsafe", f"upgrade PEFT to 0.20 or newer, or save it there with {saved} on"),
            differs=True,
        )
        return
    source = f" from {seed} = {show(config.get(seed))}" if seed else ""
    yield finding(
        f"{what} are not in the file: PEFT makes them anew{source} at every load, the same only with the same base and versions",
        at=(),
        severity="note",
        predicted="none",
        fix=Fix("unsafe", f"before moving it, save it with {saved} on") if saved else None,
    )


def _not_from_the_file(diff: Diff) -> Finding:
    """PEFT before 0.21 has these projections in every file, and reads none: only their names must be there."""
    held = [match for match in diff.matched if match.tensor.name.startswith(("base_model.vera_", "base_model.pvera_"))]
    other = [match for match in held if match.tensor.shape != match.slot.shape]
    said = (
        "this PEFT does not read the projections in the file: it makes them anew from projection_prng_key = "
        f"{show(diff.expectation.config.get('projection_prng_key'))}"
    )
    if other:
        first = other[0]
        return finding(
            f"{said}, and for other sizes: {show(first.tensor.name)} is {list(first.tensor.shape)}, with these targets on this base "
            f"it is {list(first.slot.shape)}, so that its numbers are others too",
            at=[match.tensor for match in other],
            found=str(list(first.tensor.shape)),
            expected=str(list(first.slot.shape)),
            fix=Fix("unsafe", "load it with the base and the targets of its training"),
            differs=True,
        )
    return finding(
        f"{said}, the same only where torch draws the same numbers",
        at=[match.tensor for match in held],
        severity="note",
        predicted="none",
        expected="PEFT 0.21 or newer, which reads them",
    )


def _made_by_0_19(case: Case) -> bool:
    """Whether the config says so: `peft_version` stays when a newer PEFT saves the adapter again, and what was lost stays lost."""
    config = case.adapter.config
    stated = config.raw.get("peft_version") if config is not None else None
    return isinstance(stated, str) and stated.startswith("0.19.")


def _segments(case: Case, diff: Diff) -> Iterator[Finding]:
    """AdaMSS of PEFT 0.19, where the rank cuts directions off: `torch.svd_lowrank` draws them, and the clusters follow them."""
    config = case.adapter.config
    drawn_then = config is not None and "random_seed" not in config.raw
    drawn_now = bool(loader(diff).get("adamss-segments"))
    cut = [name for name, (rank, most, parts) in _adamss_modules(case).items() if parts > 1 and rank <= _CUT * most]
    if not (drawn_then or drawn_now) or not cut:
        return
    yield finding(
        f"PEFT {'0.19 drew' if drawn_then else '0.19 draws'} the directions by which AdaMSS finds its segments without a seed, and "
        f"the file does not say which rows they have: in {len(cut)} layers the numbers go to other rows than in the training",
        at=cut,
        expected="" if drawn_then else "PEFT 0.20 or newer, which takes random_seed",
        fix=Fix(
            "unsafe", "none; train it anew with PEFT 0.20 or newer" if drawn_then else "upgrade PEFT to 0.20 or newer"
        ),
        settles="loads-differently",
    )


def _adamss_modules(case: Case) -> Mapping[str, tuple[int, int, int]]:
    """Of each adapted layer: the rank that was taken, the largest that there is, and the number of segments."""
    rows: dict[str, list[int]] = {}
    wide: dict[str, tuple[int, int]] = {}
    for tensor in case.adapter.tensors:
        module, found, rest = tensor.name.partition(".adamss_")
        if not found or len(tensor.shape) != 2:
            continue
        if rest.startswith("B."):
            rows.setdefault(module, []).append(tensor.shape[0])
        elif rest == "newB":
            wide[module] = (tensor.shape[0], tensor.shape[1])
    return {
        module: (wide[module][0], min(wide[module][1], sum(parts)), len(parts))
        for module, parts in rows.items()
        if module in wide
    }


def _beside_its_basis(diff: Diff) -> Finding:
    """PEFT finds the directions beside a basis of this machine before it reads that of the file, and keeps them."""
    return finding(
        "FRoD finds its directions beside a basis that this machine computes from the base, and only then reads the basis of the "
        "file: where the linear algebra of the training's machine turned out other eigenvectors, the two do not belong together, "
        "and the model is another one, without a word",
        at=[match.tensor for match in diff.matched if "frod_V" in match.tensor.name],
        severity="warning",
        predicted="silent",
        confidence="low",
        expected="the machine of the training, or one that computes as it does",
        fix=Fix(
            "unsafe",
            'load it a second time beside itself: model.load_adapter(folder, adapter_name="again"), model.set_adapter("again"): '
            "the second takes its directions from the file's basis",
        ),
        undecided=True,
    )


def _lost() -> Finding:
    return finding(
        "the projections are not in the file, and TinyLoRA of PEFT 0.19 drew them without a seed: what PEFT draws now are others, "
        "and the adapter adds noise",
        at=(),
        predicted="warns",
        expected="tinylora_P in the file",
        fix=Fix("unsafe", "none; train it anew with save_projection on"),
        differs=True,
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Every way to make a part anew; the same methods with that part saved; a LoRA."""
    two = {"target_modules": ["q_proj", "v_proj"]}
    vera = {"peft_type": "VERA", "r": 4, **two}
    tiny = {"peft_type": "TINYLORA", "r": 2, "save_projection": False, **two}
    segmented = make.lora("llama").with_config(peft_type="ADAMSS", r=2).dropped(lambda _: True).added(_two_segments())
    old = ("init_weights", "bias", "fan_in_fan_out", "layers_pattern", "layers_to_transform", "modules_to_save", "u")
    return {
        "fires": [
            make.adapter("llama", **vera, save_projection=False),
            make.adapter("llama", **vera).loaded_by("peft==0.20.0,transformers==5.12.1"),
            make.adapter("llama", **vera)
            .with_config(target_modules=["v_proj"])
            .loaded_by("peft==0.20.0,transformers==5.12.1"),
            make.adapter("llama", **{**vera, "peft_type": "PVERA"}).loaded_by("peft==0.20.0,transformers==5.12.1"),
            make.adapter("llama", peft_type="FOURIERFT", n_frequency=20, **two),
            make.adapter("llama", peft_type="UNILORA", r=4, **two),
            make.adapter("llama", peft_type="PSOFT", r=4, **two),
            make.adapter("llama", peft_type="SUPERTUNING", save_precomputed_indices=False, **two),
            make.adapter("llama", peft_type="FROD", **two),
            make.adapter("llama", **tiny, peft_version="0.21.2"),
            make.adapter("llama", **tiny, peft_version="0.19.1"),
            make.adapter("llama", **tiny, peft_version="0.21.2").loaded_by("peft==0.19.1,transformers==5.10.0"),
            make.adapter("llama", **tiny, peft_version="0.19.1").without_config(*old),
            segmented.without_config("lora_alpha"),
        ],
        "silent": [
            make.adapter("llama", **vera),
            make.adapter("llama", peft_type="UNILORA", r=4, save_indices=True, **two),
            make.adapter("llama", peft_type="SUPERTUNING", **two),
            make.lora("llama"),
            segmented.without_config("lora_alpha").with_config(random_seed=0),
            make.adapter("llama", **vera, save_projection=False).renamed(lambda name: "module." + name),
        ],
    }


def _two_segments() -> dict[str, tuple[int, ...]]:
    """One layer of AdaMSS with two segments, whose rank leaves directions out."""
    names = {"A.0": (1, 2), "A.1": (1, 2), "B.0": (20, 1), "B.1": (44, 1), "newB": (2, 64)}
    return {f"base_model.model.model.layers.0.self_attn.q_proj.adamss_{name}": shape for name, shape in names.items()}
