"""Our readers beside the real ones: what we accept they accept, with the same names, types and shapes.

Where we are stricter, the flaw is one of a short list, each of which the specification backs.
"""

import io
import json
import struct
import warnings

import pytest

import fuzzing
from adapterfit.read.sources.memory import MemorySource
from adapterfit.read.weights import read_weights
from adapterfit.testing.forge import (
    BIN,
    GOOD_BIN,
    GOOD_LEGACY,
    GOOD_NPZ,
    GOOD_ST,
    ST,
    of,
    pairs,
    pickled,
    st,
    table,
    tensor,
    text,
    torch_zip,
    zipped,
)

pytestmark = pytest.mark.exact
safetensors = pytest.importorskip("safetensors")
torch = pytest.importorskip("torch")

#: Ours refuses, safetensors accepts: a name twice, an entry that is a list, an absurd number of dimensions.
STRICTER = {"duplicate-name", "tensor-info-not-object", "over-limit", "header-not-json"}
CASES = 2_000 * fuzzing.FACTOR


def ours(data, name):
    """Name → (dtype, shape), or None where the file is refused; and the codes."""
    weights = read_weights(MemorySource({name: data}), name)
    codes = {flaw.code for flaw in weights.flaws}
    return (None if weights.refused else {each.name: (each.dtype, each.shape) for each in weights.tensors}), codes


def theirs(data):
    try:
        found = safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return None
    return {name: (each["dtype"], tuple(each["shape"])) for name, each in found}


def agrees(data):
    mine, codes = ours(data, ST)
    real = theirs(data)
    if mine is not None:
        assert real == mine, data
    elif real is not None:
        assert codes & STRICTER, (codes, data)


# ------------------------------------------------------------------------------------------------ safetensors

SPICE = [
    b"0", b"1", b"-1", b"1e1", b"2.0", b"true", b"null", b'"x"', b"[]", b"{}", b"[1]", b"NaN", b'"\\ud800"', b"18446744073709551615",
    b"18446744073709551616", b"9223372036854775808", b'"F32"', b'"F16"', b'"BOOL"', b'"F4"', b'"__metadata__"', b"[0,0]", b"[2,2]", b"[0,4]",
]  # fmt: skip


def grown(dice):
    """A header of a few tensors, mostly right."""
    at, items = 0, []
    for i in range(dice.randrange(4)):
        dtype, width = dice.choice([("F32", 4), ("F16", 2), ("U8", 1), ("I64", 8), ("BOOL", 1), ("BF16", 2)])
        shape = [dice.randrange(4) for _ in range(dice.randrange(3))]
        size = width
        for dim in shape:
            size *= dim
        name = dice.choice(["a", "b", "lora_A.weight", f"t{i}", f"t{i}", f"t{i}"])
        items.append((name, {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}))
        at += size
    if dice.random() < 0.3:
        items.insert(0, ("__metadata__", {"format": "pt"}))
    return pairs(*items), at


def mutated(raw, dice):
    """The header with one value exchanged, one byte changed, or a piece cut out, doubled or moved."""
    kind = dice.randrange(6)
    marks = [i for i, byte in enumerate(raw) if byte in b',:[]{}"']
    if kind == 0 or len(marks) < 3:
        return raw
    start, end = sorted(dice.sample(marks, 2))
    if kind == 1:
        return raw[: start + 1] + dice.choice(SPICE) + raw[end:]
    if kind == 2:
        return raw[:start] + raw[end:]
    if kind == 3:
        return raw[:end] + raw[start:end] + raw[end:]
    at = dice.randrange(len(raw))
    if kind == 4:
        return raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]
    return raw[:at] + dice.choice([b" ", b"\0", b"\n", b'"', b"0", b"\\", b","]) + raw[at:]


def test_mutated_safetensors_are_judged_as_safetensors_judges_them():
    dice = fuzzing.dice(20260101)
    accepted = 0
    for _ in range(CASES):
        raw, size = grown(dice)
        header = mutated(raw, dice)
        size += dice.choice([0, 0, 0, 0, 1, -1])
        length = len(header) + (dice.choice([-1, 1, 1000]) if dice.random() < 0.05 else 0)
        data = st(header, bytes(max(0, size)), length)
        agrees(data)
        accepted += theirs(data) is not None
    assert CASES * 0.05 < accepted < CASES * 0.95, "the mutations lost their edge"


def test_every_flipped_byte_of_a_safetensors_file_is_judged_alike():
    for at in range(len(GOOD_ST) - 24):
        for flip in (1, 0x20, 0x80, 0xFF):
            agrees(GOOD_ST[:at] + bytes([GOOD_ST[at] ^ flip]) + GOOD_ST[at + 1 :])


def test_every_dtype_of_safetensors_is_known_and_nothing_else():
    for dtype in [*_dtypes_named_by_safetensors(), "F31", "f32", ""]:
        for count in (1, 2, 4, 8):
            for size in (1, 2, 3, 4, 6, 8, 16, 32, 64):
                agrees(st({"a": {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}}, bytes(size)))


def _dtypes_named_by_safetensors():
    """The list stands in its own complaint."""
    wrong = st({"a": {"dtype": "?", "shape": [1], "data_offsets": [0, 1]}}, b"x")
    with pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.deserialize(wrong)
    names = str(caught.value).split("expected one of ")[1].split(" at line")[0]
    found = [name.strip("`") for name in names.split(", ")]
    assert len(found) > 15
    return found


# ------------------------------------------------------------------------------------------------ pickles


def torch_loads(data):
    """Name → (dtype, shape) by torch; only ever called on what we accepted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {
        name: (str(each.dtype), tuple(each.shape)) for name, each in found.items() if isinstance(each, torch.Tensor)
    }


SPELLED = {"F32": "torch.float32", "F16": "torch.float16", "BF16": "torch.bfloat16", "F64": "torch.float64", "I64": "torch.int64",
           "I32": "torch.int32", "I16": "torch.int16", "I8": "torch.int8", "U8": "torch.uint8", "BOOL": "torch.bool",
           "C64": "torch.complex64", "C128": "torch.complex128", "F8_E4M3": "torch.float8_e4m3fn",
           "F8_E5M2": "torch.float8_e5m2"}  # fmt: skip


def is_inside_torch(data):
    """Whether we accept it; then torch must too, and see the same."""
    mine, _ = ours(data, BIN)
    if mine is None:
        return False
    assert torch_loads(data) == {name: (SPELLED[dtype], shape) for name, (dtype, shape) in mine.items()}
    return True


BODY = pickled(
    table((text("a"), tensor()), (text("lora_B.weight"), tensor((4, 1), (1, 1))), (text("s"), tensor((), (), 2)))
)


def test_every_flipped_byte_of_a_pickle_that_we_read_is_read_by_torch_too():
    accepted = 0
    for at in range(len(BODY)):
        for flip in (1, 2, 0x20, 0x80, 0xFF):
            changed = BODY[:at] + bytes([BODY[at] ^ flip]) + BODY[at + 1 :]
            accepted += is_inside_torch(zipped(torch_zip(changed)))
    assert accepted > 20


def test_mutated_pickles_that_we_read_are_read_by_torch_too():
    dice = fuzzing.dice(20260102)
    accepted = 0
    for _ in range(CASES):
        first, second, third = sorted(dice.randrange(2, len(BODY)) for _ in range(3))
        changed = dice.choice([
            BODY[:first] + BODY[second:],
            BODY[:second] + BODY[first:second] + BODY[second:],
            BODY[:first] + BODY[second:third] + BODY[first:second] + BODY[third:],
            BODY[:first] + dice.choice([b"K\x01", b"N", b")", b"]", b"}", b"0", b"2", b"\x88", b"R", b"b", b"s"]) + BODY[first:],
        ])  # fmt: skip
        accepted += is_inside_torch(zipped(torch_zip(changed)))
    assert accepted > 5


def test_every_flipped_byte_of_a_torch_archive_that_we_read_is_read_by_torch_too():
    accepted = sum(
        is_inside_torch(GOOD_BIN[:at] + bytes([GOOD_BIN[at] ^ flip]) + GOOD_BIN[at + 1 :])
        for at in range(len(GOOD_BIN))
        for flip in (1, 0x80)
    )
    assert accepted > 20


def test_every_flipped_byte_of_a_stacked_file_that_we_read_is_read_by_torch_too():
    accepted = sum(
        is_inside_torch(GOOD_LEGACY[:at] + bytes([GOOD_LEGACY[at] ^ flip]) + GOOD_LEGACY[at + 1 :])
        for at in range(len(GOOD_LEGACY))
        for flip in (1, 0x80)
    )
    assert accepted > 20


BASE = torch.arange(40.0).reshape(5, 8)
SAVED = {
    "plain tensors": {"a": torch.ones(2, 3), "b": torch.zeros(4)},
    "every type": {str(each): torch.ones(2).to(each) for each in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
        torch.bool, torch.complex64, torch.complex128)},
    "float8": {"a": torch.ones(2).to(torch.float8_e4m3fn), "b": torch.ones(2).to(torch.float8_e5m2)},
    "views": {"t": BASE.t(), "rows": BASE[1:3], "columns": BASE[:, 1:3], "steps": BASE[::2], "one": BASE[3, 3], "none": BASE[:0]},
    "tied": {"a": BASE, "b": BASE},
    "parameters": dict(torch.nn.Linear(3, 4).named_parameters()),
    "a module's state dict": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
    "nothing": {},
}  # fmt: skip


@pytest.mark.parametrize("stacked", [False, True], ids=["zip", "stacked"])
@pytest.mark.parametrize("what", SAVED)
def test_what_torch_saves_is_read_as_torch_reads_it(what, stacked):
    if stacked and what == "float8":
        pytest.skip("torch cannot load float8 from its own old layout")
    out = io.BytesIO()
    torch.save(SAVED[what], out, _use_new_zipfile_serialization=not stacked)
    weights = read_weights(MemorySource({BIN: out.getvalue()}), BIN)
    assert weights.flaws == ()
    assert weights.format == ("torch_legacy" if stacked else "torch_zip")
    assert is_inside_torch(out.getvalue())
    for each in weights.tensors:
        real = SAVED[what][each.name].detach()
        assert (each.span is not None) == (real.is_contiguous() or real.numel() == 0)
        if each.span and each.dtype == "F32":
            held = out.getvalue()[slice(*each.span)]
            assert list(struct.unpack(f"<{len(held) // 4}f", held)) == real.flatten().tolist()


def test_what_torch_cannot_load_from_its_own_old_layout_is_refused():
    out = io.BytesIO()
    torch.save(SAVED["float8"], out, _use_new_zipfile_serialization=False)
    assert ours(out.getvalue(), BIN) == (None, {"unsupported"})
    with pytest.raises(AttributeError):
        torch_loads(out.getvalue())


# ------------------------------------------------------------------------------------------------ prefixes


@pytest.mark.parametrize(
    ("name", "data"),
    [(ST, GOOD_ST), (BIN, GOOD_BIN), (BIN, GOOD_LEGACY), ("adapters.npz", GOOD_NPZ)],
    ids=["safetensors", "torch zip", "stacked", "npz"],
)
def test_every_prefix_of_a_good_file_is_refused(name, data):
    assert ours(data, name)[0] is not None
    assert [length for length in range(len(data)) if ours(data[:length], name)[0] is not None] == []


def test_every_prefix_of_a_pickle_is_refused():
    body = of(tensor())
    assert [n for n in range(len(body)) if ours(zipped(torch_zip(body[:n])), BIN)[0] is not None] == []


@pytest.mark.parametrize("flip", [1, 0x20, 0x80, 0xFF])
def test_no_flipped_byte_of_an_npz_breaks_its_reader(flip):
    for at in range(len(GOOD_NPZ)):
        mine, codes = ours(GOOD_NPZ[:at] + bytes([GOOD_NPZ[at] ^ flip]) + GOOD_NPZ[at + 1 :], "adapters.npz")
        assert mine is not None or codes


def test_json_is_refused_wherever_json_refuses_it():
    """The header's grammar is JSON's: what Python's own reader cannot parse is never accepted."""
    dice = fuzzing.dice(20260103)
    for _ in range(CASES // 4):
        header = mutated(grown(dice)[0], dice)
        mine, _ = ours(st(header), ST)
        try:
            json.loads(header)
        except ValueError:
            assert mine is None


@pytest.mark.parametrize("size", [400, 4_096, 4_097, 20_000, 69_583, 69_584, 200_000])
def test_what_torch_says_to_a_zip_without_its_end_depends_on_its_size(size, tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(100_000)}, path)
    path.write_bytes(path.read_bytes()[:size])
    (flaw,) = read_weights(MemorySource({"x.bin": path.read_bytes()}), "x.bin").flaws
    with pytest.raises((RuntimeError, OSError)) as raised:
        torch.load(path, weights_only=True)
    assert f"{type(raised.value).__name__}: {raised.value}".startswith(flaw.raised)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stacked pickles"])
def test_of_a_torch_file_cut_anywhere_the_tensors_before_the_cut_are_those_of_the_whole(zipped, tmp_path):
    shared = torch.randn(6, 5)
    held = {
        "a": torch.randn(3, 4),
        "b": shared[:4],
        "c": shared.t(),
        "d": torch.randn(7).bfloat16(),
        "e": torch.zeros(0, 3),
    }
    torch.save(held, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "x.bin").read_bytes()
    whole = {one.name: one for one in read_weights(MemorySource({"x.bin": data}), "x.bin").tensors}
    counts = set()
    for cut in range(0, len(data), 3):
        found = read_weights(MemorySource({"x.bin": data[:cut]}), "x.bin")
        assert found.refused or (not zipped and not found.lost)
        assert all(one == whole[one.name] for one in found.intact)
        if found.intact:
            assert {one.name for one in found.intact} | set(found.lost) == held.keys()
            assert all(one.span is None or one.span[1] <= cut for one in found.intact)
        counts.add(len(found.intact))
    assert max(counts) >= 3  # storages lie in an order of their own, and one is of two tensors
    assert len(counts) >= 3
