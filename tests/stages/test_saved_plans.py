"""A plan that was saved and is carried out later: by then it may have been edited, and the base may be another one."""

import dataclasses
import json
import struct

import pytest

import adapterfit
from adapterfit.diagnose.registry import all_causes
from adapterfit.edits import DropConfig, Fill, Rename, SetConfig
from adapterfit.errors import BadEdit, CannotCheck
from adapterfit.fixing import planned, read_plan
from adapterfit.pipeline import cured
from adapterfit.plan.cures import apart
from adapterfit.plan.file import as_json
from adapterfit.plan.making import made
from adapterfit.plans import Step
from adapterfit.read.sources.memory import MemorySource
from adapterfit.records import TensorInfo
from adapterfit.saved import believed
from adapterfit.testing import make
from adapterfit.testing.disk import lay

ROWS, WIDTH = 256, 64
COPY = "base_model.model.model.embed_tokens.weight"


def filled(tensors):
    """A safetensors file of float32; name → shape, number."""
    header, data = {}, b""
    for name, (shape, number) in tensors.items():
        more = struct.pack("<f", number) * (shape[0] * shape[1])
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(more)]}
        data += more
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def base_of(folder, number):
    config = json.dumps(dict(make.base("llama").config)).encode()
    embedding = filled({"model.embed_tokens.weight": ((ROWS, WIDTH), number)})
    return str(lay(folder, {"config.json": config, "model.safetensors": embedding}))


@pytest.fixture
def base(tmp_path):
    """A base of which the embedding is there; every number is 2."""
    return base_of(tmp_path / "base", 2.0)


@pytest.fixture
def wrapped(tmp_path):
    """A LoRA under a wrapper's names, every number 1.5, beside a copy of the base's embedding."""
    sample = make.lora().renamed(lambda name: "module." + name)
    tensors = {tensor.name: (tensor.shape, 1.5) for tensor in sample.adapter.tensors}
    return lay(
        tmp_path / "wrapped", {**make.as_files(sample), make.WEIGHTS: filled({**tensors, COPY: ((ROWS, WIDTH), 2.0)})}
    )


def edited(plan, *edits, **fields):
    """The plan with more edits at the end of its last step, which stays as safe as it says."""
    *others, last = plan.steps
    steps = (*others, dataclasses.replace(last, edits=(*last.edits, *edits)))
    return dataclasses.replace(plan, steps=steps, **fields)


@pytest.mark.parametrize(
    "edits",
    [(SetConfig("lora_alpha", 800),), (DropConfig("lora_alpha"),), (SetConfig("use_rslora", value=True),)],
    ids=["another strength", "the strength of PEFT's default", "another divisor"],
)
def test_a_step_that_calls_itself_safe_and_is_none_of_ours_is_taken_with_unsafe_only(edits, wrapped, base, tmp_path):
    plan = edited(adapterfit.fix(wrapped, base).plan, *edits)
    with pytest.raises(CannotCheck, match=r"wrapper-prefix.*--unsafe"):
        adapterfit.fix(wrapped, base, tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()
    receipt = adapterfit.fix(wrapped, base, tmp_path / "out", plan=plan, unsafe=True)
    (step,) = receipt.plan.steps
    assert (step.safety, bool(step.far)) == ("unsafe", True)
    assert receipt.proof.holds


def test_a_copy_of_the_bases_numbers_is_not_left_out_beside_a_base_that_has_other_ones(wrapped, base, tmp_path):
    plan = adapterfit.fix(wrapped, base, drop_copies=True).plan
    assert [step.safety for step in plan.steps] == ["safe", "safe"]
    other = base_of(tmp_path / "other", 3.0)
    with pytest.raises(CannotCheck, match=r"embeddings-saved-needlessly.*--unsafe"):
        adapterfit.fix(wrapped, other, tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()
    receipt = adapterfit.fix(wrapped, base, tmp_path / "out", plan=plan)
    assert [step.safety for step in receipt.plan.steps] == ["safe", "safe"]


WISHES = {
    "a name": {"base_name": "owner/name"},
    "a type": {"dtype": "F64"},
    "no copies": {"drop_copies": True},
    "all of it": {"base_name": "owner/name", "drop_copies": True, "dtype": "F64"},
}


@pytest.mark.parametrize("wish", WISHES)
def test_what_the_user_wished_stays_as_safe_as_it_was(wish, wrapped, base, tmp_path):
    plan = adapterfit.fix(wrapped, base, **WISHES[wish]).plan
    receipt = adapterfit.fix(wrapped, base, tmp_path / "out", plan=plan)
    assert receipt.out
    assert receipt.plan.steps == plan.steps


@pytest.mark.parametrize("rslora", [False, True])
def test_a_strength_that_was_told_is_still_told(rslora, base, tmp_path):
    files = make.as_files(make.lora())
    adapter = lay(tmp_path / "bare", {make.WEIGHTS: files[make.WEIGHTS]})
    plan = adapterfit.fix(adapter, base, alpha=16, rslora=rslora).plan
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", plan=plan)
    assert [step.safety for step in receipt.plan.steps] == ["told"]


def test_what_a_plan_says_of_itself_is_said_anew(wrapped, base, tmp_path):
    plan = adapterfit.fix(wrapped, base).plan
    (step,) = plan.steps
    lies = dataclasses.replace(step, why="nothing is wrong", summary="nothing", far="not at all")
    receipt = adapterfit.fix(wrapped, base, tmp_path / "out", plan=dataclasses.replace(plan, steps=(lies,), before="x"))
    assert receipt.plan.steps == (step,)
    assert receipt.plan.before == "does-not-fit"


def test_a_plan_after_which_it_would_not_fit_is_not_carried_out_either(base, tmp_path):
    sample = make.lora().renamed(lambda name: "module." + name)
    sample = sample.dropped(lambda name: "lora_B" in name and ".0." in name)
    adapter = lay(tmp_path / "wrong", make.as_files(sample))
    plan = adapterfit.fix(adapter, base).plan
    assert (bool(plan.steps), plan.after) == (True, "does-not-fit")
    receipt = adapterfit.fix(adapter, base, tmp_path / "out", plan=plan)
    assert (receipt.out, receipt.plan.after) == ("", "does-not-fit")
    assert receipt.plan.remaining
    assert not (tmp_path / "out").exists()


def test_a_plan_that_ends_otherwise_beside_this_base_is_refused(wrapped, base, tmp_path):
    plan = adapterfit.fix(wrapped, base).plan
    wider = json.dumps({**dict(make.base("llama").config), "hidden_size": 128}).encode()
    lay(tmp_path / "wider", {"config.json": wider})
    with pytest.raises(CannotCheck, match="make a new plan"):
        adapterfit.fix(wrapped, str(tmp_path / "wider"), tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(0, 2**70), (2**40, 0, 2**40)], ids=str)
def test_a_shape_that_no_array_can_have_is_an_edit_that_cannot_be_carried_out(shape):
    with pytest.raises(BadEdit, match="is no shape"):
        made((), (Fill("new", shape, "F32", 0.0),))


def test_renames_that_exchange_names_are_one_step_and_bytes_follow(tmp_path):
    tensors = (TensorInfo("a", "F32", (1,), "w", (0, 4)), TensorInfo("b", "F32", (1,), "w", (4, 8)))
    swapped = {one.info.name: one.source.name for one in made(tensors, (Rename("a", "b"), Rename("b", "a")))}
    assert swapped == {"a": "b", "b": "a"}


# ------------------------------------------------------------------------------------------------ every cure


def cured_examples():
    for entry in all_causes():
        for at, sample in enumerate(entry.module.examples(make)["fires"] if hasattr(entry.module, "examples") else ()):
            report = adapterfit.check(
                sample.adapter, sample.case.base, sample.case.consumer if sample.case.consumer.given else None
            )
            if any(found.fix is not None and found.fix.edits for found in report.findings):
                yield pytest.param(report, id=f"{entry.id} {at + 1}")


@pytest.mark.parametrize("unsafe", [False, True], ids=["safe", "unsafe"])
@pytest.mark.parametrize("report", list(cured_examples()))
def test_every_cure_comes_back_from_a_file_as_safe_as_it_was(report, unsafe):
    plan, after = planned(report, cured, unsafe=unsafe)
    if not plan.steps:
        return
    saved = read_plan(json.dumps(as_json(plan)).encode())
    kept, again = believed(saved, report, cured, MemorySource({}), unsafe=unsafe)
    assert as_json(kept) == as_json(plan)
    assert again.verdict == after.verdict


SAFE, OTHER, RISKY, APART = (
    Step(cause, "", "", safety, edits)
    for cause, safety, edits in (
        ("one", "safe", (Rename("a", "b"),)),
        ("two", "safe", (Rename("b", "c"),)),
        ("three", "unsafe", (SetConfig("r", 1), Rename("a", "z"))),
        ("four", "unsafe", (SetConfig("r", 2),)),
    )
)


def test_of_two_cures_for_one_tensor_or_field_the_safer_one_is_taken_else_the_first():
    assert apart([RISKY, SAFE, OTHER, APART]) == (SAFE,)
    assert apart([RISKY, SAFE, OTHER, APART], unsafe=True) == (SAFE, APART)
    assert apart([RISKY, APART], unsafe=True) == (RISKY,)
