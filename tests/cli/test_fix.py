"""`adapterfit fix`: what it prints, what it writes, and its exit codes."""

import json
import os

import pytest

from adapterfit import edits as e
from adapterfit import limits
from adapterfit.cli.main import run
from adapterfit.errors import CannotCheck
from adapterfit.fixing import planned, read_plan
from adapterfit.pipeline import check, cured
from adapterfit.plan.file import as_json, parse
from adapterfit.plans import FileHash, Plan, Step, chained
from adapterfit.report._receipt import grouped, render_plan
from adapterfit.testing import make
from adapterfit.testing.disk import lay

WRAPPED = make.lora().renamed(lambda name: "module." + name)
WRONG = make.lora().reshaped(lambda name: "lora_A" in name, lambda shape: (shape[0], shape[1] + 1))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a base and three adapters."""
    lay(tmp_path / "base", {"config.json": json.dumps(dict(make.base("llama").config)).encode()})
    for name, sample in (("wrapped", WRAPPED), ("whole", make.lora()), ("wrong", WRONG)):
        lay(tmp_path / name, make.as_files(sample))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def fix(*arguments):
    return run(["fix", *arguments])


def test_a_plan_is_shown_like_a_review_and_nothing_is_written(here, capsys):
    before = sorted(here.rglob("*"))
    assert fix("wrapped", "--base", "base", "--plan") == 0
    out = capsys.readouterr().out
    assert "wrapper-prefix (safe)" in out
    assert "because 8 of 8 tensors are not where PEFT looks" in out
    assert '~ 8 times: rename "module.base_model' in out
    assert (
        "Stays as it is: the adapter itself, every other file of its folder, every number of every tensor, adapter_config.json"
        in out
    )
    assert "After it: FITS" in out
    assert sorted(here.rglob("*")) == before


def test_a_strength_that_was_told_and_not_needed_is_said_to_be_unused(here, capsys):
    assert fix("whole", "--base", "base", "--out", "same", "--alpha", "16") == 0
    assert "--alpha was not used" in capsys.readouterr().err


def test_mended_is_0_and_says_where_and_how_it_is_proven(here, capsys):
    assert fix("wrapped", "--base", "base", "--out", "good") == 0
    out = capsys.readouterr().out
    assert f"Written: {here / 'good'}" in out
    assert (
        "  Proven:\n    2 other files with the sha256 of before\n" in out or "  Proven:\n    1 other file with" in out
    )
    assert "  Not checked:\n    the real PEFT was not asked (--exact)\n" in out
    assert "8 copied bit by bit" in out
    assert "checked again from the written bytes: fits" in out
    assert run(["check", "good", "--base", "base"]) == 0


def test_a_program_reads_the_receipt_and_where_it_was_written(here, capsys):
    assert fix("wrapped", "--base", "base", "--out", "good", "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("out") == str(here / "good")
    assert printed == json.loads((here / "good" / "receipt.json").read_bytes())
    assert fix("whole", "--base", "base", "--plan", "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["out"], printed["plan"]["steps"], printed["plan"]["after"]) == ("", [], "fits")


def test_nothing_to_do_is_0_and_writes_nothing(here, capsys):
    assert fix("whole", "--base", "base", "--out", "good") == 0
    assert capsys.readouterr().out == "Nothing to do: the adapter fits\n"
    assert not (here / "good").exists()


def test_what_cannot_be_mended_is_1_and_says_what_is_wrong(here, capsys):
    assert fix("wrong", "--base", "base", "--out", "good") == 1
    out = capsys.readouterr().out
    assert "No safe repair is known" in out
    assert "What is wrong:\n  " in out
    assert not (here / "good").exists()


def test_without_a_base_it_says_that_it_cannot_tell(here, capsys):
    assert fix("wrapped", "--out", "good") == 2
    out = capsys.readouterr().out
    assert "whether the adapter fits cannot be told" in out
    assert "no base was given" in out
    assert not (here / "good").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wrapped", "--base", "base"), "--out DIR"),
        (("wrapped", "--base", "base", "--out", "whole"), "is there already"),
        (("nowhere", "--base", "base", "--out", "good"), "there is no file or folder"),
        (("wrapped", "--base", "base", "--out", "wrapped/good"), "only read"),
        (("wrapped", "--base", "base", "--out", "good", "--plan-file", "none.json"), "cannot be read"),
    ],
)
def test_what_could_not_be_tried_is_2(arguments, said, here, capsys):
    assert fix(*arguments) == 2
    assert said in capsys.readouterr().err


def test_the_next_step_of_a_check_is_the_command_that_mends(here, capsys):
    run(["check", "wrapped", "--base", "base"])
    command = capsys.readouterr().out.split("Next:\n")[1].splitlines()[0].split()
    assert command == ["adapterfit", "fix", "wrapped", "--base", "base", "--out", "wrapped-fixed"]
    assert run(command[1:]) == 0
    assert run(["check", "wrapped-fixed", "--base", "base"]) == 0


# ------------------------------------------------------------------------------------------------ plan files


def test_a_saved_plan_is_carried_out_exactly(here):
    assert fix("wrapped", "--base", "base", "--plan", "--plan-file", "plan.json") == 0
    plan = json.loads((here / "plan.json").read_bytes())
    assert plan["schema"] == "adapterfit/plan/v1"
    del plan["steps"][0]["edits"][0]  # one tensor less: it is not what we would plan
    (here / "plan.json").write_text(json.dumps(plan), "utf-8")
    carried_out = ("wrapped", "--base", "base", "--out", "good", "--plan-file", "plan.json")
    assert fix(*carried_out) == 2, "it calls itself safe, and is not what we would call so"
    assert fix(*carried_out, "--unsafe") == 2, "it would not fit, although the plan says so"
    assert not (here / "good").exists()
    plan["after"] = "does-not-fit"
    (here / "plan.json").write_text(json.dumps(plan), "utf-8")
    assert fix(*carried_out, "--unsafe") == 1
    names = [tensor.name for tensor in check("good", base="base").case.adapter.tensors]
    assert sum(name.startswith("module.") for name in names) == 1


def test_a_plan_whose_steps_were_taken_out_says_so_and_is_not_believed(here, capsys):
    fix("wrapped", "--base", "base", "--plan", "--plan-file", "plan.json")
    plan = json.loads((here / "plan.json").read_bytes())
    plan.update(steps=[], before="fits", after="fits")
    (here / "plan.json").write_text(json.dumps(plan), "utf-8")
    capsys.readouterr()
    assert fix("wrapped", "--base", "base", "--out", "good", "--plan-file", "plan.json") == 2
    said = capsys.readouterr()
    assert "the plan has no steps" in said.err
    assert "Nothing to do" not in said.out
    assert not (here / "good").exists()


def test_the_plan_of_an_adapter_that_fits_has_nothing_to_do(here, capsys):
    assert fix("wrapped", "--base", "base", "--out", "good") == 0
    assert fix("good", "--base", "base", "--plan", "--plan-file", "plan.json") == 0
    capsys.readouterr()
    assert fix("good", "--base", "base", "--out", "better", "--plan-file", "plan.json") == 0
    assert "Nothing to do: the adapter fits" in capsys.readouterr().out
    assert not (here / "better").exists()


@pytest.mark.parametrize("place", ["wrapped/plan.json", "base/plan.json", "no/such/plan.json"])
def test_a_plan_is_not_saved_where_things_are_only_read(place, here, capsys):
    assert fix("wrapped", "--base", "base", "--plan", "--plan-file", place) == 2
    assert "--plan-file" in capsys.readouterr().err
    assert not (here / place).exists()


def test_a_plan_is_refused_once_the_adapter_changed(here, capsys):
    fix("wrapped", "--base", "base", "--plan", "--plan-file", "plan.json")
    path = here / "wrapped" / "adapter_config.json"
    path.write_bytes(path.read_bytes() + b"\n")
    assert fix("wrapped", "--base", "base", "--out", "good", "--plan-file", "plan.json") == 2
    assert "adapter_config.json" in capsys.readouterr().err


def test_a_plan_of_an_earlier_release_is_read_without_what_it_did_not_say():
    old = {name: value for name, value in as_json(PLAN).items() if name != "unknown"}
    assert read_plan(json.dumps(old).encode()).unknown == ()


def test_an_unsafe_plan_needs_the_word(here, capsys):
    fix("wrapped", "--base", "base", "--plan", "--plan-file", "plan.json")
    plan = json.loads((here / "plan.json").read_bytes())
    plan["steps"][0]["safety"] = "unsafe"
    (here / "plan.json").write_text(json.dumps(plan), "utf-8")
    assert fix("wrapped", "--base", "base", "--out", "good", "--plan-file", "plan.json") == 2
    assert "--unsafe" in capsys.readouterr().err
    assert fix("wrapped", "--base", "base", "--out", "good", "--plan-file", "plan.json", "--unsafe") == 0


EVERY = (
    e.Rename("a", "b"), e.Drop("a"), e.Copy("a", "b"), e.Transpose("a", (1, 0)), e.Reshape("a", (2, 3)), e.Cast("a", "BF16"),
    e.Scale("a", 0.5), e.Split("a", 0, (("b", 1), ("c", 2))), e.Join(("a", "b"), "c", 1), e.JoinDiagonal(("a", "b"), "c"),
    e.Pad("a", 0, 5), e.Trim("a", 0, 1), e.Extend("a", "f", 0, 8, 1, "F32", "0"), e.Fill("a", (2,), "F32", 1.0), e.SetFormat(), e.SetConfig("r", {"a": [1, None]}),
    e.DropConfig("r"), e.Gather(("a", "b")),
)  # fmt: skip
PLAN = Plan(
    "adapter", (Step("cause", "why", "summary", "unsafe", EVERY, "far"),), (), ("two readings",), "does-not-fit", "fits",
    ("rest",), {"w": FileHash(3, "0" * 64)}, ("no base",),
)  # fmt: skip


def test_every_edit_comes_back_from_json_as_it_was():
    assert read_plan(json.dumps(as_json(PLAN)).encode()) == PLAN


def _with(**fields):
    return {**as_json(PLAN), **fields}


def _edit(**fields):
    return _with(steps=[{**as_json(PLAN)["steps"][0], "edits": [fields]}])


BAD = {
    "a list": [],
    "another schema": _with(schema="adapterfit/plan/v9"),
    "no steps": _with(steps=None),
    "an edit that there is not": _edit(edit="Delete", name="a"),
    "an edit without a field": _edit(edit="Rename", old="a"),
    "an edit with one too many": _edit(edit="Drop", name="a", more=1),
    "a name that is a number": _edit(edit="Drop", name=1),
    "an axis that is true": _edit(edit="Pad", name="a", axis=True, size=1),
    "a piece without a size": _edit(edit="Split", name="a", axis=0, into=[["b"]]),
    "an edit that is a word": _with(steps=[{**as_json(PLAN)["steps"][0], "edits": ["Drop"]}]),
    "neither safe nor unsafe": _with(steps=[{**as_json(PLAN)["steps"][0], "safety": "maybe"}]),
    "a hash that is none": _with(sources={"w": {"size": 1, "sha256": "zz"}}),
    "a sentence that is a number": _with(remaining=[1]),
    "a reason that is a number": _with(unknown=[1]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_plan_file_that_is_none_is_refused(case):
    with pytest.raises(CannotCheck):
        read_plan(json.dumps(BAD[case]).encode())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs /dev/zero")
def test_a_plan_without_an_end_is_not_read_for_ever(here, capsys, monkeypatch):
    monkeypatch.setattr(limits, "PLAN_BYTES", 1 << 20)
    assert fix("wrapped", "--base", "base", "--out", "good", "--plan-file", "/dev/zero") == 2
    assert "larger than any plan" in capsys.readouterr().err


def test_a_plan_file_that_is_no_json_is_refused():
    with pytest.raises(CannotCheck):
        read_plan(b"{")
    with pytest.raises(CannotCheck):
        parse("x")


# ------------------------------------------------------------------------------------------------ planning


def test_renames_of_two_steps_do_not_happen_at_once():
    steps = [Step("a", "", "", "safe", (e.Rename("x", "y"),)), Step("b", "", "", "safe", (e.Rename("y", "z"),))]
    assert chained(steps) == (e.Rename("x", "y"), e.SetFormat(), e.Rename("y", "z"))


def test_a_cure_that_brings_to_light_another_is_followed_by_it():
    sample = WRAPPED.with_config(lora_dropuot=0.1)
    report = check(sample.adapter, base=sample.case.base)
    plan, after = planned(report, cured)
    assert after.verdict == plan.after == "fits"
    assert "wrapper-prefix" in {step.cause for step in plan.steps}


def test_edits_of_one_pattern_are_one_line_with_their_number():
    edits = [*(e.Rename(f"module.{n}", f"{n}") for n in "abc"), e.Rename("old", "new"), e.Drop("x"), e.Drop("y")]
    assert list(grouped(edits)) == [
        ("~", '3 times: rename "module.a" to "a"'),
        ("~", 'rename "old" to "new"'),
        ("-", '2 times: drop "x"'),
    ]


def test_what_is_unsafe_or_ambiguous_is_told_and_not_taken():
    left = Step("cause", "why", "cut the rank", "unsafe", (e.Drop("a"),), "1.2 % of ΔW is lost")
    text = render_plan(
        Plan("a", (), (left,), ("moe: one — or: two",), "does-not-fit", "does-not-fit", ("x: y",)), width=200
    )
    assert "cause: cut the rank: 1.2 % of ΔW is lost" in text
    assert "more than one way:\n  moe: one — or: two" in text


def test_names_from_files_cannot_move_the_cursor():
    bad = "a\x1b[2J\n\u202e::error::"
    step = Step(bad, bad, bad, "unsafe", (*EVERY, e.Rename(bad, bad + "x"), e.SetConfig(bad, bad), e.Drop(bad)), bad)
    text = render_plan(Plan(bad, (step,), (step,), (bad,), "does-not-fit", "fits", (bad,)), width=80)
    assert all(line.isprintable() for line in text.split("\n"))
