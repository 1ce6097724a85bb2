"""OFT was written anew, and old adapters are not what new ones are.

What this means: OFT has had four generations. Up to PEFT 0.13 it rotated the output side; 0.14 and 0.15 saved `oft_r` and
`oft_s`; 0.16 and 0.17 saved `oft_R.weight`; 0.18 changed the last term of the Cayley-Neumann series that makes a rotation of
it. PEFT 0.21 refuses the first, drops the second and leaves the adapter without effect, and loads the third with a warning
and slightly, or with large rotations grossly, other outputs.

Why it happens: the adapter was saved by an older PEFT.

Detection: `oft_block_size` is missing (0.13); the tensors end in `oft_r` (0.15); every PEFT that can have written the config
is older than 0.18, and `use_cayley_neumann` is on (0.17). With `coft` rotations are kept so small that the last term is
nothing.

Fix: none by renaming; the generations are different mathematics. Load with the PEFT it was saved with, merge it there with
`merge_and_unload()` and save the merged model, or train anew.

Workaround: `pip install peft==0.13.2`, `0.15.2` or `0.17.1`.

Prevention: keep the version of PEFT beside an OFT adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.dates import written_before
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion

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
    ),
    versions="written by peft 0.7 to 0.17.1, read by a newer one",
    needs=("config", "diff"),
    codes=("oft-generation-changed",),
    broken="""
model = PeftModel.from_pretrained(base, "oft-of-2024")     # peft 0.21: the tensors are called oft_r, and are dropped
""",
    fixed="""
# pip install peft==0.15.2
model = PeftModel.from_pretrained(base, "oft-of-2024").merge_and_unload()
""",
)
_LEAVES = ("oft_r", "oft_s")


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding: tensors of 0.15 and before, or a config of 0.17 and before whose rotations are computed otherwise."""
    if diff.expectation.config.get("peft_type") != "OFT":
        return
    old = [tensor for tensor in diff.extra if evidence.parts(tensor.name).leaf in _LEAVES]
    if old:
        yield _old_tensors([tensor.name for tensor in old], diff)
    elif _other_series(case, diff):
        yield finding(
            "the config was written before PEFT 0.18, which computes the rotation of `oft_R` with another last term: every "
            "tensor lands, but the outputs differ from those of the training",
            at=(),
            predicted="warns",
            expected="PEFT 0.16 or 0.17",
            fix=Fix("unsafe", "load it with peft==0.17.1, or train it anew"),
            differs=True,
        )


def _old_tensors(names: list[str], diff: Diff) -> Finding:
    empty = [slot.key for slot in diff.missing if slot.role == "tuner"]
    return finding(
        f"{evidence.count(len(names), 'tensor')} of OFT as PEFT 0.15 and before saved it (`oft_r`); PEFT 0.21 drops them, and "
        "the adapter has no effect",
        at=names,
        predicted="warns" if diff.warned else "silent",
        found="oft_r",
        expected="oft_R.weight",
        fix=Fix(
            "unsafe", "load it with peft==0.15.2 (or 0.13.2, if that refuses it), merge it there, or train it anew"
        ),
        explains=(*names, *empty),
    )


def _other_series(case: Case, diff: Diff) -> bool:
    config = diff.expectation.config
    loaded = bool(diff.matched) and diff.raised is None
    return (
        loaded and bool(config.get("use_cayley_neumann")) and not config.get("coft") and written_before(case, "0.18.0")
    )


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
