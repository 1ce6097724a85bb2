"""OFT was written anew, and old adapters are not what new ones are.

What this means: OFT has had four generations. Up to PEFT 0.13 it rotated the output side; 0.14 and 0.15 saved `oft_r` and
`oft_s`; 0.16 and 0.17 saved `oft_R.weight`; 0.18 changed the last term of the Cayley-Neumann series that makes a rotation of
it. PEFT 0.21 refuses the first, drops the second and leaves the adapter without effect, and loads the third with a warning
and slightly, or with large rotations grossly, other outputs.

Why it happens: the adapter was saved by an older PEFT.

Detection: `oft_block_size` is missing (0.13); the tensors end in `oft_r` (0.15); every PEFT that can have written the config
is older than 0.18, and `use_cayley_neumann` is on (0.17). With `coft` rotations are kept so small that the last term is
nothing.

Fix: what 0.14 and 0.15 saved is today's BOFT with one factor, block for block: `oft_r` becomes `boft_R`, `oft_s` becomes
`boft_s`, and the config says so; blocks that were shared are written out. With `coft` that is unsafe: each run cut the blocks
back to a norm, which BOFT does not, and the last step of training may have left them above it.
For the other generations there is none, as loads of adapters of 0.7 to 0.17 show. A rotation of the outputs is no rotation of
the inputs. A series that ended with twice its last power is no rotation quite, and no other number of terms gives it, nor does
`use_cayley_neumann: false`. Load with the PEFT it was saved with, merge it there with `merge_and_unload()` and save the merged
model, or train anew.

Workaround: `pip install peft==0.13.2`, `0.15.2` or `0.17.1`.

Prevention: keep the version of PEFT beside an OFT adapter.

Setup:
    options = peft.OFTConfig(oft_block_size=8, target_modules=["q_proj", "v_proj"])
    model = noise(get_peft_model(AutoModelForCausalLM.from_pretrained("base"), options))
    trained = logits(model)
    model.save_pretrained("adapter")
    model.merge_and_unload().save_pretrained("merged")
    change_names(lambda name: name.replace("oft_R.weight", "oft_r"))  # as PEFT 0.14 and 0.15 called them

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint
    as_base(model)  # -> True

Fixed:
    # with the PEFT of the training: PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("merged")
    model = AutoModelForCausalLM.from_pretrained("merged")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import loader, written_before, written_since
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.edits import Copy, DropConfig, Edit, Join, Rename, Reshape, SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion, TensorInfo
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=20,
    messages=(
        (
            "ValueError: OFT has been updated since PEFT 0.14.0. Your trained adapter weights are incompatible with the latest "
            "version of OFT."
        ),
        (
            "ValueError: Trying to load old OFT checkpoint, which is no longer supported. Please install PEFT <= v0.15.2 to load it "
            "or train a new OFT adapter."
        ),
        (
            "UserWarning: The cayley-neumann parameterization has been slightly changed to be more numerically stable in PEFT "
            "0.18.0."
        ),
        "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.0.self_attn.q_proj.oft_R.default.weight', ...]",
    ),
    versions="written by peft 0.7 to 0.17.1, read by a newer one",
    needs=("config", "diff"),
    codes=("oft-generation-changed",),
)
_LEAVES = ("oft_r", "oft_s")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding: tensors of 0.15 and before, or a config of 0.17 and before whose rotations are computed otherwise."""
    if diff.expectation.config.get("peft_type") != "OFT":
        return
    old = [tensor for tensor in diff.extra if evidence.parts(tensor.name).leaf in _LEAVES]
    if old:
        yield _old_tensors(case, [tensor.name for tensor in old], diff)
    elif _newer_series(case, diff):
        yield finding(
            f"the config was written by PEFT 0.18 or later, and PEFT {show(case.consumer.peft)} computes the rotation of "
            "`oft_R` with another last term: every tensor lands, but the outputs differ from those of the training",
            at=(),
            predicted="silent",
            expected="PEFT 0.18 or later",
            fix=Fix("unsafe", "pip install 'peft>=0.18'"),
            differs=True,
        )
    elif _other_series(case, diff):
        yield finding(
            "the config was written before PEFT 0.18, which computes the rotation of `oft_R` with another last term: every "
            "tensor lands, but the outputs differ from those of the training",
            at=(),
            predicted="warns",
            expected="PEFT 0.16 or 0.17",
            fix=Fix(
                "unsafe",
                "load it with peft==0.17.1, or train it anew: its series ended with twice the last power, which no setting of a "
                "later PEFT computes",
            ),
            differs=True,
        )


def _old_tensors(case: Case, names: list[str], diff: Diff) -> Finding:
    edits, config = _as_boft(case, diff), case.adapter.config
    empty = [slot.key for slot in diff.missing if slot.role == "tuner"]
    return finding(
        f"{evidence.count(len(names), 'tensor')} of OFT as PEFT 0.15 and before saved it (`oft_r`); PEFT 0.21 drops them, and "
        "the adapter has no effect",
        at=names,
        predicted="warns" if diff.warned else "silent",
        found="oft_r",
        expected="oft_R.weight",
        fix=_cure(
            edits, constrained=config is not None and bool(config.raw.get("coft")), of_outputs=_turns_outputs(names)
        ),
        explains=(*names, *empty),
    )


def _turns_outputs(names: list[str]) -> bool:
    """Whether they are of PEFT 0.13 and before, which scaled nothing."""
    return not any(evidence.parts(name).leaf == "oft_s" for name in names)


def _cure(edits: tuple[Edit, ...], *, constrained: bool, of_outputs: bool) -> Fix:
    """As BOFT; else the release that computes it, and why no later one does."""
    as_boft = "write it as BOFT with one factor, which computes what OFT did in PEFT 0.14 and 0.15"
    if edits and constrained:
        far = "the same where every block is within the norm that coft allows; a block beyond it is turned too far"
        return Fix("unsafe", as_boft, edits, far)
    if edits:
        return Fix("safe", as_boft, edits)
    if of_outputs:
        why = "PEFT 0.13 and before rotated the outputs of a layer, every later one its inputs"
        return Fix("unsafe", f"load it with peft==0.13.2, merge it there, or train it anew: {why}")
    return Fix("unsafe", "load it with peft==0.15.2, merge it there, or train it anew")


def _as_boft(case: Case, diff: Diff) -> tuple[Edit, ...]:
    """`oft_r` (n, b, b) and `oft_s` (O, 1) as `boft_R` (1, n, b, b) and `boft_s` (O, 1); empty where it is not the same.

    Both rotate the input by Cayley transforms of the blocks' skew parts, then scale the outputs. Source: `tuners/oft/layer.py`
    of peft 0.15.2, `tuners/boft/layer.py` of 0.21.2.
    """
    config, by_name = case.adapter.config, anatomy.modules(diff)
    values = config.raw if config is not None else {}
    held = anatomy.of_modules(case.adapter.tensors)
    if values.get("bias", "none") != "none" or len(case.adapter.tensors) != 2 * len(held):
        return ()
    blocks: list[tuple[int, int]] = []
    edits: list[Edit] = []
    for module, tensors in held.items():
        found = {evidence.parts(tensor.name).leaf: tensor for tensor in tensors}
        one, sides = by_name.get(module), anatomy.sides(by_name.get(module))
        if set(found) != set(_LEAVES) or one is None or one.kind != "Linear":
            return ()
        rotation, scale = found["oft_r"], found["oft_s"]
        if len(rotation.shape) != 3 or scale.shape != (sides["out"], 1) or sides["in"] % max(rotation.shape[2], 1):
            return ()
        count = sides["in"] // rotation.shape[2]
        if rotation.shape[0] not in ((1,) if values.get("block_share") else (count,)):
            return ()
        blocks.append((rotation.shape[2], count))
        edits += _blocks(rotation, count)
        edits.append(Rename(scale.name, scale.name[: -len("oft_s")] + "boft_s"))
    config_edits = _boft_config(blocks)
    return (*edits, *config_edits) if config_edits else ()


def _blocks(rotation: TensorInfo, count: int) -> Iterator[Edit]:
    """One shared block is written as often as it is used; then an axis for the one factor."""
    name = rotation.name[: -len("oft_r")] + "boft_R"
    if rotation.shape[0] < count:
        copies = [f"{name}.{at}" for at in range(1, count)]
        for copy in copies:
            yield Copy(rotation.name, copy)
        yield Join((rotation.name, *copies), name, 0)
    else:
        yield Rename(rotation.name, name)
    yield Reshape(name, (1, count, *rotation.shape[1:]))


def _boft_config(blocks: list[tuple[int, int]]) -> tuple[Edit, ...]:
    """The fields of BOFT; empty where neither the size nor the number of the blocks is the same everywhere."""
    sizes, counts = {size for size, _ in blocks}, {count for _, count in blocks}
    if len(sizes) != 1 and len(counts) != 1:
        return ()
    size, count = (sizes.pop(), 0) if len(sizes) == 1 else (0, counts.pop())
    fields = {"peft_type": "BOFT", "boft_block_size": size, "boft_block_num": count, "boft_n_butterfly_factor": 1}
    gone = ("r", "oft_block_size", "module_dropout", "coft", "eps", "block_share")
    return (*(SetConfig(key, value) for key, value in fields.items()), *map(DropConfig, gone))


def _other_series(case: Case, diff: Diff) -> bool:
    return not {"oft", "oft-cayley"} & loader(diff).keys() and written_before(case, "0.18.0") and _is_summed(diff)


def _newer_series(case: Case, diff: Diff) -> bool:
    return "oft-cayley" in loader(diff) and written_since(case, "0.18.0") and _is_summed(diff)


def _is_summed(diff: Diff) -> bool:
    """Whether the rotation is a Cayley-Neumann series, whose last term changed in 0.18."""
    config = diff.expectation.config
    loaded = bool(diff.matched) and diff.raised is None
    return loaded and bool(config.get("use_cayley_neumann")) and not config.get("coft")


def examples(make: Any) -> dict[str, list[Any]]:
    """Tensors and configs of each generation; today's, a rotation solved exactly, and a constrained one."""
    options = {"peft_type": "OFT", "oft_block_size": 8, "target_modules": ["q_proj"]}
    today = make.adapter("llama", **options, peft_version="0.21.2")
    old: dict[str, Any] = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "bias": "none",
        "block_share": False,
        "coft": False,
        "eps": 6e-05,
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "init_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "module_dropout": 0.0,
        "modules_to_save": None,
        "num_cayley_neumann_terms": 5,
        "r": 0,
        "rank_pattern": {},
        "revision": None,
        "use_cayley_neumann": True,
    }
    of_0_17 = {key: value for key, value in old.items() if key not in ("alpha_pattern", "rank_pattern")}
    of_0_15 = today.renamed(lambda name: name.replace("oft_R.weight", "oft_r")).reshaped(
        lambda _: True, lambda _: (8, 8, 8)
    )
    return {
        "fires": [
            of_0_15,
            of_0_15.added({f"base_model.model.model.layers.{at}.self_attn.q_proj.oft_s": (64, 1) for at in range(2)}),
            of_0_15.added({"base_model.model.model.layers.0.self_attn.q_proj.oft_s": (64, 1)}),
            today.without_config("oft_block_size"),
            make.adapter("llama", **options, **of_0_17),
        ],
        "silent": [
            today,
            make.adapter("llama", **options, **{**of_0_17, "use_cayley_neumann": False}),
            make.adapter("llama", **options, **{**of_0_17, "coft": True}),
            make.lora("llama"),
            today.renamed(lambda name: "module." + name),
        ],
    }


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's own refusal of the older generations."""
    told = said(symptoms, "oft has been updated since peft", "trying to load old oft checkpoint")
    lost = names_of(symptoms, "oft-generation-changed")
    if lost is not None:
        yield suspect(
            symptoms, "no oft_R was found: PEFT before 0.16 saved oft_r, which means something else", lost.likelihood, lost.lines,
            fix="merge with the PEFT of the training (merge_and_unload) and save the merged model, or train anew",
            apart="the names in the file: oft_r or oft_R",
        )  # fmt: skip
    if told:
        first = bool(said(symptoms, "0.13.0"))
        yield suspect(
            symptoms, "the adapter was saved by a PEFT whose OFT was another one", 0.95, told,
            fix=f"pip install peft=={'0.13.2' if first else '0.15.2'}, merge there with merge_and_unload() and save the merged model, or train anew",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Both refusals; another method's."""
    return {
        "fires": [
            "ValueError: Trying to load old OFT checkpoint, which is no longer supported. Please install PEFT <= v0.15.2 to load it.",
            "ValueError: OFT has been updated since PEFT 0.14.0. Your trained adapter weights are incompatible. Alternatively, downgrade PEFT to version 0.13.0",
        ],
        "silent": ["KeyError: 'OFT'"],
    }
