"""Edits on records: which tensors there are afterwards, what each is made of, and which edits are refused."""

import pytest

from adapterfit.edits import (
    Cast,
    Copy,
    Drop,
    DropConfig,
    Extend,
    Fill,
    Join,
    JoinDiagonal,
    Pad,
    Rename,
    Reshape,
    Scale,
    SetConfig,
    SetFormat,
    Split,
    Transpose,
    Trim,
    is_bit_exact,
    makes,
    uses,
)
from adapterfit.errors import BadEdit
from adapterfit.plan.apply import apply
from adapterfit.plan.making import made
from adapterfit.read.config import parse_config
from adapterfit.records import TensorInfo
from adapterfit.testing import make

A = TensorInfo("a", "F32", (4, 6), "w", (100, 196))
B = TensorInfo("b", "F32", (2, 6), "w", (196, 244))
C = TensorInfo("c", "BF16", (4, 6), "w", (244, 292))
IDS = TensorInfo("ids", "I64", (4,), "w", (292, 324))
ALL = (A, B, C, IDS)


def after(*edits):
    return {one.info.name: (one.info.dtype, one.info.shape) for one in made(ALL, edits)}


REST = {"b": ("F32", (2, 6)), "c": ("BF16", (4, 6)), "ids": ("I64", (4,))}

RESULTS = {
    "nothing": ([], {"a": ("F32", (4, 6)), **REST}),
    "a rename": ([Rename("a", "x")], {"x": ("F32", (4, 6)), **REST}),
    "two tensors exchange names": (
        [Rename("a", "b"), Rename("b", "a")],
        {"b": ("F32", (4, 6)), "a": ("F32", (2, 6)), "c": REST["c"], "ids": REST["ids"]},
    ),
    "renames apart from each other follow each other": (
        [Rename("a", "x"), Drop("c"), Rename("x", "y")],
        {"y": ("F32", (4, 6)), "b": REST["b"], "ids": REST["ids"]},
    ),
    "a drop": ([Drop("a")], REST),
    "a copy": ([Copy("a", "x")], {"a": ("F32", (4, 6)), "x": ("F32", (4, 6)), **REST}),
    "a transpose": ([Transpose("a", (1, 0))], {"a": ("F32", (6, 4)), **REST}),
    "a reshape": ([Reshape("a", (2, 2, 6))], {"a": ("F32", (2, 2, 6)), **REST}),
    "a reshape of what was made": ([Transpose("a", (1, 0)), Reshape("a", (24,))], {"a": ("F32", (24,)), **REST}),
    "a cast": ([Cast("a", "BF16")], {"a": ("BF16", (4, 6)), **REST}),
    "a scale": ([Scale("a", 0.5)], {"a": ("F32", (4, 6)), **REST}),
    "a split": (
        [Split("a", 0, (("q", 1), ("k", 3)))],
        {"q": ("F32", (1, 6)), "k": ("F32", (3, 6)), **REST},
    ),
    "a join": ([Join(("a", "b"), "x", 0)], {"x": ("F32", (6, 6)), "c": REST["c"], "ids": REST["ids"]}),
    "a join under the name of a part": ([Join(("a", "b"), "a", 0)], {"a": ("F32", (6, 6)), "c": REST["c"], "ids": REST["ids"]}),
    "a block diagonal": (
        [JoinDiagonal(("a", "b"), "x")],
        {"x": ("F32", (6, 12)), "c": REST["c"], "ids": REST["ids"]},
    ),
    "a padding": ([Pad("a", 0, 9)], {"a": ("F32", (9, 6)), **REST}),
    "a trimming": ([Trim("a", 1, 2)], {"a": ("F32", (4, 2)), **REST}),
    "rows of the base": ([Extend("a", "f", 24, 72, 2, "F32", "")], {"a": ("F32", (6, 6)), **REST}),
    "rows of a narrower base": ([Extend("a", "f", 0, 24, 2, "BF16", "")], {"a": ("F32", (6, 6)), **REST}),
    "a filling": ([Fill("x", (3,), "F32", 1.0)], {"a": ("F32", (4, 6)), "x": ("F32", (3,)), **REST}),
    "the config and the format": (
        [SetConfig("r", 3), DropConfig("x"), SetFormat()],
        {"a": ("F32", (4, 6)), **REST},
    ),
}  # fmt: skip

REFUSED = {
    "a tensor that is not there": Drop("x"),
    "a name that is taken": Rename("a", "b"),
    "a name for two": Copy("a", "a"),
    "an empty name": Rename("a", ""),
    "the name that safetensors keeps": Rename("a", "__metadata__"),
    "axes that are no permutation": Transpose("a", (0, 0)),
    "too few axes": Transpose("a", (0,)),
    "a reshape to another size": Reshape("a", (5, 5)),
    "a reshape with a hole": Reshape("a", (-1, 6)),
    "a cast of whole numbers": Cast("ids", "F32"),
    "a cast to whole numbers": Cast("a", "I64"),
    "a scale of whole numbers": Scale("ids", 2.0),
    "a scale without bounds": Scale("a", float("inf")),
    "pieces that do not add up": Split("a", 0, (("q", 1), ("k", 1))),
    "a piece of less than nothing": Split("a", 0, (("q", 5), ("k", -1))),
    "no pieces": Split("a", 0, ()),
    "a piece under a name that is taken": Split("a", 0, (("b", 1), ("k", 3))),
    "a join of nothing": Join((), "x", 0),
    "a join of two types": Join(("a", "c"), "x", 0),
    "a join of other sizes": Join(("a", "b"), "x", 1),
    "a join with itself": Join(("a", "a"), "x", 0),
    "a join along no axis": Join(("a", "b"), "x", 2),
    "a block that is no matrix": JoinDiagonal(("ids",), "x"),
    "a padding that cuts": Pad("a", 0, 3),
    "a trimming that pads": Trim("a", 0, 5),
    "a trimming below nothing": Trim("a", 0, -1),
    "an axis below nothing": Trim("a", -1, 1),
    "rows that are not as many bytes": Extend("a", "f", 0, 47, 2, "F32", ""),
    "rows before the file": Extend("a", "f", -24, 0, 1, "F32", ""),
    "no rows": Extend("a", "f", 24, 24, 0, "F32", ""),
    "rows of a type that it does not hold": Extend("c", "f", 0, 24, 1, "F32", ""),
    "rows of a type that there is not": Extend("a", "f", 0, 24, 1, "F33", ""),
    "a filling without bounds": Fill("x", (2,), "F32", float("nan")),
    "a filling of whole numbers": Fill("x", (2,), "I64", 1),
}


@pytest.mark.parametrize("case", RESULTS)
def test_after(case):
    edits, expected = RESULTS[case]
    assert after(*edits) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    edit = REFUSED[case]
    with pytest.raises(BadEdit, match=type(edit).__name__):
        after(edit)


def test_bytes_stay_through_renames_copies_and_reshapes_alone():
    kept = {
        one.info.name: one.source
        for one in made(ALL, [Rename("a", "x"), Copy("x", "y"), Reshape("y", (24,)), Scale("b", 2.0)])
    }
    assert kept == {"x": A, "y": A, "b": None, "c": C, "ids": IDS}


def test_what_is_made_of_several_says_of_which_in_order():
    (fused,) = [one for one in made(ALL, [Join(("b", "a"), "x", 0)]) if one.by is not None]
    assert [part.source for part in fused.of] == [B, A]


@pytest.mark.parametrize("case", RESULTS)
def test_what_an_edit_uses_and_makes_is_what_really_goes_and_comes(case):
    edits, expected = RESULTS[case]
    used = {name for edit in edits for name in uses(edit)}
    new = {name for edit in edits for name in makes(edit)}
    assert set(expected) - {tensor.name for tensor in ALL} <= new
    assert {tensor.name for tensor in ALL} - set(expected) <= used


def test_only_edits_that_compute_are_not_bit_exact():
    every = [edit for edits, _ in RESULTS.values() for edit in edits]
    assert {type(edit) for edit in every if not is_bit_exact(edit)} == {Cast, Scale}


def reparse(raw):
    import json

    return parse_config(json.dumps(raw).encode())


def test_fields_of_the_config_keep_their_order_and_new_ones_come_last():
    adapter = make.lora().adapter
    changed = apply(adapter, [SetConfig("r", 8), SetConfig("zz", 1), DropConfig("task_type")], reparse)
    kept = [key for key in adapter.config.raw if key != "task_type"]
    assert list(changed.config.raw) == [*kept, "zz"]
    assert changed.config.raw["r"] == 8
    assert changed.weights == adapter.weights


def test_a_config_is_made_where_there_is_none():
    files = make.as_files(make.lora())
    bare = make.folder({make.WEIGHTS: files[make.WEIGHTS]}).adapter
    assert bare.config is None
    fields = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    born = apply(bare, [SetConfig(key, value) for key, value in fields.items()], reparse)
    assert born.config.known
    assert born.layout == "peft"
    assert born.flaws == ()


def test_summaries_of_numbers_follow_their_tensors_and_are_forgotten_where_the_numbers_change():
    sample = make.lora()
    first, second, *rest = sample.names
    adapter = sample.with_values({name: name for name in sample.names}).adapter
    values = apply(adapter, [Rename(first, "x"), Scale(second, 2.0)], reparse).values
    assert values == {"x": first, **{name: name for name in rest}}


def test_weights_written_anew_have_the_flaws_of_their_names_alone():
    adapter = make.lora().adapter
    changed = apply(adapter, [SetFormat()], reparse, lambda name, tensors: [(name, len(tensors))])
    assert changed.weights.flaws == (("adapter_model.safetensors", len(adapter.tensors)),)
