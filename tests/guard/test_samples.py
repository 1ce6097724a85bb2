"""Samples of weights: the same places everywhere, robust to casts and to nothing else. Needs no torch."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterfit.causes.layers import config_fields, differing_fields
from adapterfit.causes.sameness import same
from adapterfit.read import samples
from adapterfit.read.sources.memory import MemorySource
from adapterfit.records import TensorInfo, WeightSample

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NUMPY = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


def bfloat16(numbers):
    """Rounded to the nearest, to even at a tie, kept as float32."""
    bits = np.asarray(numbers, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def encoded(numbers, dtype):
    if dtype == "BF16":
        return (bfloat16(numbers).view(np.uint32) >> 16).astype("<u2").tobytes()
    with np.errstate(over="ignore"):
        return np.asarray(numbers).astype(NUMPY[dtype]).tobytes()


def taken(numbers, dtype, full=False):
    """A sample of these numbers as a file of that dtype would give it."""
    data = encoded(numbers, dtype)
    info = TensorInfo("w", dtype, np.shape(numbers), "f", (3, 3 + len(data)))
    return samples.of_file(MemorySource({"f": b"abc" + data}, label="m"), info, full=full)


def weights(seed=0, scale=0.02, shape=(40, 30)):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("other", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("scale", [1e-6, 0.02, 30.0, 1e5])
@pytest.mark.parametrize("full", [False, True], ids=["sampled", "full"])
def test_a_cast_is_the_same_weight(dtype, other, scale, full):
    held = weights(scale=scale)
    assert same(taken(held, dtype, full), taken(held, other, full)) is True


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("other", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("change", [0.05, 0.3], ids=["a slight training", "a training"])
def test_a_training_is_another_weight(dtype, other, change):
    held = weights()
    trained = held * (1 + change * weights(1, 1.0))
    assert same(taken(held, dtype), taken(trained, other)) is False


def test_a_cast_there_and_back_is_the_same_weight():
    held = weights()
    assert same(taken(held, "F32"), taken(bfloat16(held), "F32")) is True
    assert same(taken(held, "F32"), taken(held.astype(np.float16), "F32")) is True


def test_a_digest_sees_what_a_sample_does_not():
    held = weights()
    changed = held.copy()
    changed[-1, -1] += 1
    assert same(taken(held, "F32"), taken(changed, "F32")) is True
    assert same(taken(held, "F32", full=True), taken(changed, "F32", full=True)) is False
    assert same(taken(held, "BF16", full=True), taken(changed, "F32", full=True)) is False


def test_other_shapes_are_not_comparable():
    assert same(taken(weights(), "F32"), taken(weights(shape=(30, 40)), "F32")) is None


@given(st.lists(FLOATS, min_size=1, max_size=16), st.sampled_from(["F32", "F16", "BF16", "F64"]))
def test_whatever_the_numbers_a_cast_is_the_same(numbers, dtype):
    held = np.asarray(numbers, np.float32)
    assert same(taken(held, "F32"), taken(held, dtype)) is True


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=3))
def test_places_lie_inside_and_do_not_depend_on_when_they_are_asked(shape):
    found = samples.places(tuple(shape))
    count = int(np.prod(shape))
    assert found == samples.places.__wrapped__(tuple(shape))
    assert all(start >= 0 and start + length <= count for start, length in found)
    assert sum(length for _, length in found) == min(16, count)


def test_an_empty_weight_has_no_places():
    assert samples.places((0, 5)) == ()


@pytest.mark.parametrize("dtype", ["I8", "U8", "F8_E4M3", "I64"])
def test_packed_numbers_are_not_sampled(dtype):
    info = TensorInfo("w", dtype, (4,), "f", (0, 4))
    assert samples.of_file(MemorySource({"f": bytes(32)}, label="m"), info) is None


def test_a_weight_that_lies_in_pieces_is_not_sampled():
    assert samples.of_file(MemorySource({"f": bytes(32)}, label="m"), TensorInfo("w", "F32", (4,), "f", None)) is None


def test_nan_is_the_same_as_nan():
    held = np.asarray([np.nan, 1.0], np.float32)
    assert same(taken(held, "F32", full=True), taken(held, "BF16", full=True)) is True


def test_bfloat16_is_decoded_as_its_upper_half():
    (number,) = struct.unpack("<f", b"\0\0" + encoded([1.5], "BF16"))
    assert taken(np.asarray([1.5], np.float32), "BF16") == WeightSample((1,), "BF16", (number,))


# ------------------------------------------------------------------------------------------------ config

OLD = {"model_type": "llama", "hidden_size": 64, "rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float16"}
NEW = {"model_type": "llama", "hidden_size": 64, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "dtype": "bfloat16"}  # fmt: skip


def differing(one, other):
    return differing_fields(config_fields(one), config_fields(other))


def test_the_config_of_transformers_4_and_of_5_are_the_same():
    assert differing(OLD, NEW) == differing(NEW, OLD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_theta": 500000.0}, ["rope.theta: 500000.0 → 10000.0"]),
        ({"hidden_act": "gelu"}, []),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, ["rope.factor: 4.0 → none", "rope.type: linear → none"]),
        ({"hidden_size": 128}, ["hidden_size: 128 → 64"]),
        ({"use_cache": False, "_name_or_path": "elsewhere", "vocab_size": 5}, []),
        ({"text_config": {"hidden_size": 3}}, []),
    ],
    ids=str,
)
def test_only_what_both_say_and_what_matters_differs(change, said):
    assert differing({**OLD, **change}, NEW) == said


def test_fields_of_a_part_are_compared_under_its_name():
    one, other = ({"text_config": {"hidden_size": size}} for size in (3, 4))
    assert differing(one, other) == ["text.hidden_size: 3 → 4"]
