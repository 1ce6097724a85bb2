"""ΔW before and after: the same bits, the same product, or a failure that names the module."""

import numpy as np
import pytest

from adapterfit import edits as e
from adapterfit.read.sources.memory import MemorySource
from adapterfit.records import TensorInfo
from adapterfit.verify import delta
from adapterfit.verify.delta import Side, same_delta, scale

LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
RNG = np.random.default_rng(1)
A = RNG.standard_normal((2, 5)).astype("<f4")
B = RNG.standard_normal((6, 2)).astype("<f4")
A2, B2 = A[::-1] * 3, B[:4] - 1


def side(tensors, **config):
    """An adapter in memory."""
    data, infos = b"", []
    for name, given in tensors.items():
        array = np.ascontiguousarray(given, "<f4")
        infos.append(TensorInfo(name, "F32", array.shape, "w", (len(data), len(data) + array.nbytes)))
        data += array.tobytes()
    return Side(MemorySource({"w": data}), tuple(infos), {**LORA, **config})


def pair(module, a, b):
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


def renames(old, new):
    return [e.Rename(f"{old}.lora_{s}.weight", f"{new}.lora_{s}.weight") for s in "AB"]


SPLIT = [
    e.Copy("qkv.lora_A.weight", "q.lora_A.weight"),
    e.Rename("qkv.lora_A.weight", "v.lora_A.weight"),
    e.Split("qkv.lora_B.weight", 0, (("q.lora_B.weight", 4), ("v.lora_B.weight", 2))),
]
FUSE = [
    e.Join(("q.lora_A.weight", "v.lora_A.weight"), "qv.lora_A.weight", 0),
    e.JoinDiagonal(("q.lora_B.weight", "v.lora_B.weight"), "qv.lora_B.weight"),
    e.SetConfig("r", 4),
    e.SetConfig("lora_alpha", 8),
]
FUSED_B = np.block([[B, np.zeros((6, 2))], [np.zeros((4, 2)), B2]])
CASES = {
    "a rename": (renames("m", "n"), side(pair("m", A, B)), side(pair("n", A, B)), "the same in 1 modules, bits and scale"),
    "a fused layer split": (
        SPLIT, side(pair("qkv", A, B)), side({**pair("q", A, B[:4]), **pair("v", A, B[4:])}), "the same in 2, multiplied out",
    ),
    "two layers fused": (
        FUSE, side({**pair("q", A, B), **pair("v", A2, B2)}), side(pair("qv", np.vstack([A, A2]), FUSED_B), r=4, lora_alpha=8),
        "the same in 1, multiplied out",
    ),
    "two layers fused with one between that had none": (
        [
            *FUSE[:1], e.Fill("gap", (3, 4), "F32", 0.0), e.JoinDiagonal(("q.lora_B.weight", "v.lora_B.weight"), "both"),
            e.Split("both", 0, (("top", 6), ("bottom", 4))), e.Join(("top", "gap", "bottom"), "qv.lora_B.weight", 0),
        ],
        side({**pair("q", A, B), **pair("v", A2, B2)}),
        side(pair("qv", np.vstack([A, A2]), np.vstack([FUSED_B[:6], np.zeros((3, 4)), FUSED_B[6:]])), r=4, lora_alpha=8),
        "the same in 1, multiplied out",
    ),
    "a factor taken out of A into B": (
        [e.Scale("m.lora_A.weight", 2.0), e.Scale("m.lora_B.weight", 0.5)],
        side(pair("m", A, B)), side(pair("m", A * 2, B / 2)), "multiplied out",
    ),
    "a scale moved into the config": (
        [e.Scale("m.lora_B.weight", 2.0), e.SetConfig("lora_alpha", 2)],
        side(pair("m", A, B)), side(pair("m", A, B * 2), lora_alpha=2), "multiplied out",
    ),
    "a scale that the plan corrects": (
        [e.SetConfig("lora_alpha", 8)], side(pair("m", A, B)), side(pair("m", A, B), lora_alpha=8), "such as 2 to 4",
    ),
}  # fmt: skip


def test_what_is_not_finite_stays_so():
    for b in (HOLED, ENDLESS):
        after = side({**pair("q", A, b[:4]), **pair("v", A, b[4:])})
        assert same_delta(side(pair("qkv", A, b)), after, SPLIT).outcome == "proven"


@pytest.mark.parametrize("case", CASES)
def test_proven(case):
    edits, before, after, said = CASES[case]
    shown = same_delta(before, after, edits)
    assert shown.outcome == "proven", shown.detail
    assert said in shown.detail


HOLED = B.copy()
HOLED[0, 0] = np.nan
ENDLESS = B.copy()
ENDLESS[5, 1] = np.inf


FAILED = {
    "a NaN that was not there": (SPLIT, side(pair("qkv", A, B)), side({**pair("q", A, HOLED[:4]), **pair("v", A, B[4:])})),
    "a NaN that went": (SPLIT, side(pair("qkv", A, HOLED)), side({**pair("q", A, B[:4]), **pair("v", A, B[4:])})),
    "one number wrong beside a NaN": (
        SPLIT, side(pair("qkv", A, HOLED)), side({**pair("q", A, HOLED[:4]), **pair("v", A, B[4:] * 2)}),
    ),
    "a split in the wrong order": (
        SPLIT, side(pair("qkv", A, B)), side({**pair("q", A, B[2:]), **pair("v", A, B[:2])}),
    ),
    "layers fused without their scale": (
        FUSE[:2], side({**pair("q", A, B), **pair("v", A2, B2)}), side(pair("qv", np.vstack([A, A2]), FUSED_B), r=4),
    ),
    "one number wrong": (
        SPLIT, side(pair("qkv", A, B)), side({**pair("q", A, B[:4] + 1e-5), **pair("v", A, B[4:])}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILED)
def test_failed(case):
    edits, before, after = FAILED[case]
    shown = same_delta(before, after, edits)
    assert shown.outcome == "failed", shown.detail


NOT = {
    "rows that are gone": (
        [e.Trim("m.lora_B.weight", 0, 5)], side(pair("m", A, B)), side(pair("m", A, B[:5])),
    ),
    "a method without two factors": ([], side({"m.ia3_l": A}, peft_type="IA3"), side({"m.ia3_l": A}, peft_type="IA3")),
    "no factors": ([], side({"m.weight": A}), side({"m.weight": A})),
    "a scale that a regular expression decides": (
        SPLIT, side(pair("qkv", A, B), alpha_pattern={"q.*": 3}), side({**pair("q", A, B[:4]), **pair("v", A, B[4:])}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT)
def test_not_checked(case):
    assert same_delta(*[NOT[case][1], NOT[case][2], NOT[case][0]]).outcome == "not-checked"


SCALES = {
    "alpha by r": ({}, 2.0),
    "rank-stabilised": ({"use_rslora": True, "r": 4}, 2.0),
    "a pattern for this module": ({"rank_pattern": {"a.m": 4}}, 1.0),
    "a pattern for another": ({"rank_pattern": {"m2": 4}}, 2.0),
    "an alpha of its own": ({"alpha_pattern": {"m": 16}}, 8.0),
    "a pattern that is a regular expression": ({"alpha_pattern": {"^a": 16}}, None),
    "no number": ({"r": "8"}, None),
    "a rank of nothing": ({"r": 0}, None),
}


@pytest.mark.parametrize("case", SCALES)
def test_scale(case):
    config, expected = SCALES[case]
    assert scale("base_model.model.a.m", {**LORA, **config}) == expected


# ------------------------------------------------------------------------------------------------ large ones


def large(rows=600, columns=3000):
    """Two layers to be fused, with more rows and columns than are computed with at once; what comes of it, and one number of it."""
    rng = np.random.default_rng(2)
    a, a2, b, b2 = (
        rng.standard_normal(shape).astype("<f4") for shape in ((2, columns), (2, columns), (rows, 2), (9, 2))
    )
    fused = np.block([[b, np.zeros((rows, 2))], [np.zeros((9, 2)), b2]]).astype("<f4")
    return side({**pair("q", a, b), **pair("v", a2, b2)}), np.vstack([a, a2]), fused


@pytest.mark.parametrize("at", [(0, 0), (300, 1), (604, 2), (608, 3)], ids=str)
def test_one_number_of_a_large_module_is_noticed_wherever_it_is(at):
    before, a, b = large()
    shown = same_delta(before, side(pair("qv", a, b), r=4, lora_alpha=8), FUSE)
    assert shown.outcome == "proven", shown.detail
    b[at] += 1e-5
    assert same_delta(before, side(pair("qv", a, b), r=4, lora_alpha=8), FUSE).outcome == "failed"


def test_what_cancels_out_is_not_taken_for_a_difference():
    _, a, b = large()
    alike = a.copy()
    alike[1], alike[3] = -alike[0] * np.float32(1 + 1e-6), -alike[2]
    b[:, 1], b[:, 3] = b[:, 0], b[:, 2]
    both = side({**pair("q", alike[:2], b[:600, :2]), **pair("v", alike[2:], b[600:, 2:])})
    shown = same_delta(both, side(pair("qv", alike, b), r=4, lora_alpha=8), FUSE)
    assert shown.outcome == "proven", shown.detail


def test_numbers_too_small_for_all_the_digits_of_float16_are_rounded_as_far_as_it_rounds():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 50)).astype("<f4"), rng.standard_normal((30, 2)).astype("<f4") * np.float32(1e-6)
    files, edits = side(pair("m", a, b)), [e.Cast(f"m.lora_{s}.weight", "F16") for s in "AB"]
    for factor, outcome in ((1, "proven"), (40, "failed")):
        data = a.astype("<f2").tobytes() + (b * factor).astype("<f2").tobytes()
        infos = (
            TensorInfo("m.lora_A.weight", "F16", a.shape, "w", (0, 2 * a.size)),
            TensorInfo("m.lora_B.weight", "F16", b.shape, "w", (2 * a.size, len(data))),
        )
        shown = same_delta(files, Side(MemorySource({"w": data}), infos, LORA), edits)
        assert shown.outcome == outcome, shown.detail


def test_one_factor_alone_may_be_rounded():
    a, b = (RNG.standard_normal(shape).astype("<f4") for shape in ((2, 50), (30, 2)))
    data = (a.view("<u4") + 0x8000 >> 16).astype("<u2").tobytes() + b.tobytes()
    infos = (
        TensorInfo("m.lora_A.weight", "BF16", a.shape, "w", (0, 2 * a.size)),
        TensorInfo("m.lora_B.weight", "F32", b.shape, "w", (2 * a.size, len(data))),
    )
    after = Side(MemorySource({"w": data}), infos, LORA)
    assert same_delta(side(pair("m", a, b)), after, [e.Cast("m.lora_A.weight", "BF16")]).outcome == "proven"


def test_a_wide_module_is_never_in_memory_as_a_whole():
    import tracemalloc

    before, a, b = large(6000, 4000)  # ΔW has 24 million numbers, 192 MB in float64
    after = side(pair("qv", a, b), r=4, lora_alpha=8)
    tracemalloc.start()
    try:
        assert same_delta(before, after, FUSE).outcome == "proven"
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


KEPT = {
    "names exchanged": ([e.Rename("a", "b"), e.Rename("b", "a")], {"a": "b", "b": "a"}),
    "two names after each other": (
        [e.Rename("a", "c"), e.SetFormat(), e.Rename("c", "d"), e.Rename("b", "c")],
        {"c": "b", "d": "a"},
    ),
    "a name given up and taken": ([e.Drop("a"), e.Rename("b", "a")], {"a": "b"}),
    "two of one": ([e.Copy("a", "c"), e.Rename("a", "d")], {"b": "b", "c": "a", "d": "a"}),
    "one made of another": ([e.Scale("a", 2.0), e.Rename("a", "c")], {"b": "b"}),
    "a shape": ([e.Reshape("a", (1, 2))], {"b": "b"}),
    "what was cut": ([e.Copy("a", "c"), e.Split("a", 0, (("x", 1), ("y", 1)))], {"b": "b", "c": "a"}),
}


@pytest.mark.parametrize("case", KEPT)
def test_whose_bytes_a_tensor_kept(case):
    edits, expected = KEPT[case]
    files = side({"a": np.zeros(2), "b": np.ones(2)})
    assert delta._traced(files, edits).kept == expected
