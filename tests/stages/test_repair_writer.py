"""The safetensors writer: what edits make of bytes, the layout of the file, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterfit import edits as e
from adapterfit.errors import BadEdit, CannotWrite
from adapterfit.plan.making import made
from adapterfit.read.formats import safetensors as reader
from adapterfit.read.sources.memory import MemorySource
from adapterfit.records import TensorInfo
from adapterfit.repair import making
from adapterfit.repair.disk import Disk
from adapterfit.repair.making import entry
from adapterfit.repair.staging import Output
from adapterfit.repair.writer import Computed, Entry, Span, Zeros, write_safetensors
from adapterfit.verify.accounting import account
from fuzzing import tries

WEIGHTS = "w.safetensors"


def written(entries, source, metadata=None, path=None):
    """The bytes of the file."""
    output = Output(str(path), Disk())
    write_safetensors(output, source, entries, metadata)
    return path.read_bytes()


def file_of(tensors, metadata=None):
    """A safetensors file of numpy arrays, the way the reference lays it out."""
    names = {"<f4": "F32", "<f2": "F16", "<f8": "F64", "<i8": "I64", "|u1": "U8", "<u2": "BF16"}
    header, at = {}, 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": names[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps({"__metadata__": metadata or {}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for a in tensors.values())


def carried_out(tmp_path, data, edits):
    """Source, its tensors, what was written and its tensors."""
    source = MemorySource({WEIGHTS: data})
    before = reader.read(source, WEIGHTS).tensors
    path = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
    with_path = written([entry(one, source) for one in made(before, edits)], source, {"kept": "yes"}, path)
    new = MemorySource({WEIGHTS: with_path})
    found = reader.read(new, WEIGHTS)
    assert found.flaws == ()
    assert found.metadata == {"kept": "yes", "format": "pt"}
    return source, before, new, found.tensors


def array_of(source, info):
    words = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "U8": "|u1", "BF16": "<u2"}
    return np.frombuffer(source.read(info.file, info.span[0], info.span[1] - info.span[0]), words[info.dtype]).reshape(
        info.shape
    )


def result(tmp_path, arrays, edits):
    """Arrays after the edits, by name; and what the proof says."""
    source, before, new, after = carried_out(tmp_path, file_of(arrays), edits)
    proof = account(source, before, new, after, edits)
    return {info.name: array_of(new, info) for info in after}, proof


A = np.arange(24, dtype="<f4").reshape(4, 6) - 11.5
B = np.arange(12, dtype="<f4").reshape(2, 6) / 7
X = np.arange(24, dtype="<f2").reshape(2, 3, 4)
IDS = np.array([1, -5, 2**40], "<i8")
ODD = np.array([1, 2, 3], "|u1")
ARRAYS = {"a": A, "b": B, "x": X, "ids": IDS, "odd": ODD}

CASES = {
    "a rename": ([e.Rename("a", "z")], {"z": A, "a": None}),
    "names exchanged": ([e.Rename("a", "b"), e.Rename("b", "a")], {"a": B, "b": A}),
    "a drop": ([e.Drop("b")], {"b": None}),
    "a copy": ([e.Copy("a", "z")], {"a": A, "z": A}),
    "a transpose": ([e.Transpose("x", (2, 0, 1))], {"x": X.transpose(2, 0, 1)}),
    "a reshape": ([e.Reshape("a", (2, 12))], {"a": A.reshape(2, 12)}),
    "a transpose reshaped": ([e.Transpose("a", (1, 0)), e.Reshape("a", (24,))], {"a": A.T.reshape(24)}),
    "rows split": ([e.Split("a", 0, (("q", 1), ("k", 3)))], {"q": A[:1], "k": A[1:], "a": None}),
    "columns split": ([e.Split("a", 1, (("q", 2), ("k", 4)))], {"q": A[:, :2], "k": A[:, 2:]}),
    "an empty piece": ([e.Split("a", 0, (("q", 0), ("k", 4)))], {"q": A[:0], "k": A}),
    "rows joined": ([e.Join(("b", "a"), "z", 0)], {"z": np.vstack([B, A]), "a": None, "b": None}),
    "columns joined": ([e.Copy("a", "c"), e.Join(("a", "c"), "z", 1)], {"z": np.hstack([A, A])}),
    "a block diagonal": (
        [e.JoinDiagonal(("a", "b"), "z")],
        {"z": np.block([[A, np.zeros((4, 6), "<f4")], [np.zeros((2, 6), "<f4"), B]])},
    ),
    "rows padded": ([e.Pad("a", 0, 7)], {"a": np.vstack([A, np.zeros((3, 6), "<f4")])}),
    "columns padded": ([e.Pad("a", 1, 7)], {"a": np.hstack([A, np.zeros((4, 1), "<f4")])}),
    "rows trimmed": ([e.Trim("a", 0, 3)], {"a": A[:3]}),
    "columns trimmed": ([e.Trim("a", 1, 3)], {"a": A[:, :3]}),
    "joined rows split elsewhere": (
        [e.Join(("a", "b"), "z", 0), e.Split("z", 0, (("p", 5), ("q", 1)))],
        {"p": np.vstack([A, B[:1]]), "q": B[1:]},
    ),
    "padded, trimmed and reshaped": (
        [e.Pad("a", 0, 8), e.Trim("a", 0, 6), e.Reshape("a", (36,))],
        {"a": np.vstack([A, np.zeros((2, 6), "<f4")]).reshape(36)},
    ),
    "whole numbers turned": ([e.Reshape("ids", (1, 3)), e.Transpose("ids", (1, 0))], {"ids": IDS.reshape(3, 1)}),
    "a cast down": ([e.Cast("a", "F16")], {"a": A.astype("<f2")}),
    "a cast up": ([e.Cast("x", "F32")], {"x": X.astype("<f4")}),
    "a cast to what it is": ([e.Cast("a", "F32")], {"a": A}),
    "a scale": ([e.Scale("b", 0.3)], {"b": (B.astype("f8") * 0.3).astype("<f4")}),
    "a filling": ([e.Fill("z", (2, 2), "F16", 0.1)], {"z": np.full((2, 2), 0.1, "<f2")}),
    "many in a row": (
        [e.Transpose("a", (1, 0)), e.Scale("a", 2.0), e.Split("a", 0, (("q", 2), ("k", 4))), e.Cast("q", "F64")],
        {"q": (A.T[:2] * 2).astype("<f8"), "k": A.T[2:] * 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_edits_make_the_bytes_that_numpy_makes_and_the_proof_agrees(case, tmp_path):
    edits, expected = CASES[case]
    found, proof = result(tmp_path, ARRAYS, edits)
    named = {name for edit in edits for name in (*e.uses(edit), *e.makes(edit))}
    wanted = {**{name: array for name, array in ARRAYS.items() if name not in named}, **expected}
    assert {name for name, array in wanted.items() if array is None}.isdisjoint(found)
    for name, array in wanted.items():
        if array is not None:
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array), name
    assert proof.outcome == "proven", proof.detail


@st.composite
def walks(draw):
    """A random list of edits that can be carried out on two float32 matrices."""
    shapes = {
        "t0": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "t1": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
    }
    start = dict(shapes)
    edits, fresh = [], iter(f"n{i}" for i in range(100))
    for _ in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from(sorted(shapes)))
        rows, columns = shapes[name]
        kind = draw(
            st.sampled_from(
                ["rename", "transpose", "scale", "cast", "split", "join", "diagonal", "pad", "trim", "reshape", "copy"]
            )
        )
        if kind == "rename":
            new = next(fresh)
            edits += [e.SetFormat(), e.Rename(name, new)]  # two renames in a row would happen at once
            shapes[new] = shapes.pop(name)
        elif kind == "transpose":
            edits.append(e.Transpose(name, (1, 0)))
            shapes[name] = (columns, rows)
        elif kind == "scale":
            edits.append(e.Scale(name, draw(st.sampled_from([0.5, 3.0, -1.0, 1 / 3]))))
        elif kind == "cast":
            edits.append(e.Cast(name, "F32"))
        elif kind == "split" and rows > 1:
            one, two = next(fresh), next(fresh)
            cut = draw(st.integers(1, rows - 1))
            edits.append(e.Split(name, 0, ((one, cut), (two, rows - cut))))
            del shapes[name]
            shapes.update({one: (cut, columns), two: (rows - cut, columns)})
        elif kind == "diagonal" and len(shapes) > 1:
            other = draw(st.sampled_from(sorted(shapes.keys() - {name})))
            new = next(fresh)
            edits.append(e.JoinDiagonal((name, other), new))
            more = shapes.pop(other)
            del shapes[name]
            shapes[new] = (rows + more[0], columns + more[1])
        elif kind == "pad":
            edits.append(e.Pad(name, 1, columns + 1))
            shapes[name] = (rows, columns + 1)
        elif kind == "trim":
            edits.append(e.Trim(name, 0, rows - rows // 2))
            shapes[name] = (rows - rows // 2, columns)
        elif kind == "reshape":
            edits.append(e.Reshape(name, (columns * rows, 1)))
            shapes[name] = (columns * rows, 1)
        elif kind == "copy":
            new = next(fresh)
            edits.append(e.Copy(name, new))
            shapes[new] = shapes[name]
    return start, edits


@pytest.mark.slow
@tries(100)
@given(walks())
def test_whatever_the_edits_the_proof_holds_and_notices_one_wrong_bit(tmp_path_factory, walk):
    shapes, edits = walk
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype("<f4") for name, shape in shapes.items()}
    tmp_path = tmp_path_factory.mktemp("walk")
    source, before, new, after = carried_out(tmp_path, file_of(arrays), edits)
    assert account(source, before, new, after, edits).outcome == "proven"
    data = bytearray(new.read(WEIGHTS, 0, new.size(WEIGHTS)))
    data[-1] ^= 0x40  # the exponent of the last number
    damaged = MemorySource({WEIGHTS: bytes(data)})
    assert account(source, before, damaged, reader.read(damaged, WEIGHTS).tensors, edits).outcome == "failed"


BFLOATS = np.array([0x0000, 0x8000, 0x3F80, 0x4049, 0x0001, 0x7F80, 0xFF80, 0x7FC0, 0x7F7F], "<u2")


def test_bfloat16_is_cast_up_exactly_and_down_to_nearest_even(tmp_path):
    up, proof = result(tmp_path, {"b": BFLOATS}, [e.Cast("b", "F32")])
    assert np.array_equal(up["b"].view("<u4"), BFLOATS.astype("<u4") << 16)
    assert proof.outcome == "proven"
    singles = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38, np.nan, -np.inf], "<f4")
    down, proof = result(tmp_path, {"s": singles}, [e.Cast("s", "BF16")])
    assert down["s"].tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x7FC0, 0xFF80]
    assert proof.outcome == "proven"


def test_a_float_too_large_becomes_infinite_and_the_proof_says_it_is_right(tmp_path):
    found, proof = result(tmp_path, {"s": np.array([1e30, -1e30, 65504.0, 1e-9], "<f4")}, [e.Cast("s", "F16")])
    assert found["s"].tolist() == [np.inf, -np.inf, 65504.0, 0.0]
    assert proof.outcome == "proven"


def test_a_signalling_nan_is_a_number_like_any_other(tmp_path):
    for bits, kind in ((0x7F800001, "<u4"), (0x7C01, "<u2")):
        array = np.array([bits, 0], kind).view("<f4" if kind == "<u4" else "<f2")
        for edits in ([e.Rename("s", "t")], [e.Scale("s", 2.0)], [e.Cast("s", "F64")], [e.Cast("s", "BF16")]):
            _, proof = result(tmp_path, {"s": array}, edits)
            assert proof.outcome == "proven"


def test_wide_types_come_first_so_that_every_tensor_starts_where_it_may(tmp_path):
    _, _, _, after = carried_out(tmp_path, file_of({"odd": ODD, "a": A, "ids": IDS}), [])
    assert [info.name for info in after] == ["ids", "a", "odd"]
    assert all(info.span[0] % {"I64": 8, "F32": 4, "U8": 1}[info.dtype] == 0 for info in after)


def test_tensors_that_follow_each_other_are_copied_at_once(tmp_path):
    class Counting(MemorySource):
        reads = 0

        def read(self, name, offset, length):
            self.reads += 1
            return super().read(name, offset, length)

    source = Counting({WEIGHTS: file_of({f"t{i}": A for i in range(100)})})
    before = reader.read(source, WEIGHTS).tensors
    source.reads = 0
    edits = [e.Rename(info.name, f"x.{info.name}") for info in before]
    written([entry(one, source) for one in made(before, edits)], source, None, tmp_path / "out")
    assert source.reads == 1


def test_a_strided_view_is_written_as_it_looks(tmp_path):
    data = A.tobytes()
    source = MemorySource({"w.bin": data})
    turned = TensorInfo("t", "F32", (6, 4), "w.bin", None, (0, (1, 6)))
    part = TensorInfo("p", "F32", (2, 2), "w.bin", None, (4, (6, 2)))
    entries = [entry(one, source) for one in made((turned, part), [])]
    new = MemorySource({WEIGHTS: written(entries, source, None, tmp_path / "out")})
    found = {info.name: array_of(new, info) for info in reader.read(new, WEIGHTS).tensors}
    assert np.array_equal(found["t"], A.T)
    assert np.array_equal(found["p"], A[:2, 1:4:2])
    assert account(source, (turned, part), new, reader.read(new, WEIGHTS).tensors, []).outcome == "proven"


REFUSED = {
    "a type that safetensors does not have": [Entry("a", "C128", (1,), (Zeros(16),))],
    "a name twice": [Entry("a", "F32", (1,), (Zeros(4),)), Entry("a", "F32", (1,), (Zeros(4),))],
    "a name that is no text": [Entry("\ud800", "F32", (1,), (Zeros(4),))],
    "fewer bytes than the shape says": [Entry("a", "F32", (2,), (Zeros(4),))],
    "a computation of another length": [Entry("a", "F32", (1,), (Computed(4, lambda: b"12"),))],
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    with pytest.raises(CannotWrite):
        written(REFUSED[case], MemorySource({}), None, tmp_path / "out")


def test_a_tensor_that_is_not_in_the_plan_is_no_proof(tmp_path):
    source, before, new, after = carried_out(tmp_path, file_of({"a": A, "b": B}), [])
    assert account(source, before, new, after, [e.Drop("a")]).outcome == "failed"
    assert account(source, before, new, after, [e.Rename("a", "z")]).outcome == "failed"
    assert account(source, before, new, after, [e.Transpose("a", (1, 0))]).outcome == "failed"
    assert account(source, before, new, after, [e.Scale("a", 1.001)]).outcome == "failed"


def test_parts_are_put_one_behind_the_other(tmp_path):
    source = MemorySource({"s": bytes(range(16))})
    parts = (Span("s", 4, 8), Zeros(4), Computed(4, lambda: b"abcd"), Span("s", 0, 4))
    data = written([Entry("a", "F32", (4,), parts)], source, None, tmp_path / "out")
    assert data.endswith(bytes(range(4, 8)) + bytes(4) + b"abcd" + bytes(range(4)))


def test_compressed_numbers_can_be_neither_copied_nor_computed(tmp_path):
    info = TensorInfo("a", "F32", (2,), "w.npz")
    source = MemorySource({"w.npz": b""})
    with pytest.raises(CannotWrite, match="do not lie open"):
        written([entry(one, source) for one in made((info,), [])], source, None, tmp_path / "out")


def test_numbers_of_half_a_byte_are_renamed_but_not_turned(tmp_path):
    info = TensorInfo("a", "F4", (2, 2), "s", (0, 2))
    source = MemorySource({"s": b"\x12\x34"})
    data = written([entry(one, source) for one in made((info,), [e.Rename("a", "z")])], source, None, tmp_path / "one")
    assert data.endswith(b"\x12\x34")
    with pytest.raises((CannotWrite, BadEdit)):
        written(
            [entry(one, source) for one in made((info,), [e.Transpose("a", (1, 0))])], source, None, tmp_path / "two"
        )


# ------------------------------------------------------------------------------------------------ large ones


LARGE = {
    "a cast down": [e.Cast("a", "BF16")],
    "a scale, a name and a cast": [e.Scale("a", 3.0), e.Rename("a", "z"), e.Cast("z", "F16")],
    "a shape between": [e.Cast("a", "F64"), e.Reshape("a", (1500, 1000)), e.Cast("a", "F16")],
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_tensor_is_computed_in_pieces_with_the_bytes_of_the_whole(case, tmp_path, monkeypatch):
    array = np.random.default_rng(3).standard_normal((1000, 1500)).astype("<f4")
    source, before, new, after = carried_out(tmp_path, file_of({"a": array}), LARGE[case])
    assert len(entry(made(before, LARGE[case])[0], source).parts) > 1
    monkeypatch.setattr(making, "_NUMBERS", array.size)
    *_, whole, _ = carried_out(tmp_path, file_of({"a": array}), LARGE[case])
    data = new.read(WEIGHTS, 0, new.size(WEIGHTS))
    assert data == whole.read(WEIGHTS, 0, whole.size(WEIGHTS))
    assert account(source, before, new, after, LARGE[case]).detail == "tensors: 1 computed, within their rounding"
    for at in (-1, -array.size, -2 * array.size + 1):
        damaged = bytearray(data)
        damaged[at] ^= 0x40
        other = MemorySource({WEIGHTS: bytes(damaged)})
        assert account(source, before, other, after, LARGE[case]).outcome == "failed"


@pytest.mark.parametrize("change", [{"dtype": "F16"}, {"shape": (1500, 1000)}, {"name": "b"}], ids=str)
def test_a_large_tensor_of_another_type_shape_or_name_is_noticed(change, tmp_path):
    array = np.ones((1000, 1500), "<f4")
    edits = [e.Cast("a", "BF16")]
    source, before, new, (after,) = carried_out(tmp_path, file_of({"a": array}), edits)
    assert account(source, before, new, [dataclasses.replace(after, **change)], edits).outcome == "failed"


def test_a_large_tensor_is_never_in_memory_as_a_whole(tmp_path):
    import tracemalloc

    from adapterfit.read.sources.folder import FolderSource

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / WEIGHTS).write_bytes(file_of({"a": np.ones((8000, 2000), "<f4")}))  # 64 MB
    source, edits = FolderSource(tmp_path / "old"), [e.Cast("a", "BF16")]
    tracemalloc.start()
    try:
        before = reader.read(source, WEIGHTS).tensors
        output = Output(str(tmp_path / "new"), Disk())
        write_safetensors(output, source, [entry(one, source) for one in made(before, edits)])
        new = FolderSource(tmp_path / "new")
        assert account(source, before, new, reader.read(new, "new").tensors, edits).outcome == "proven"
        assert tracemalloc.get_traced_memory()[1] < 48 * 1024 * 1024
    finally:
        tracemalloc.stop()
