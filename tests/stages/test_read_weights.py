"""Reading weight files: strict JSON, folders, each format, and every real file of the shared corpus and matrix."""

import json
import os
import struct
import tarfile
import time
import zlib

import pytest

from adapterfit import limits
from adapterfit.errors import BadInput, CannotCheck
from adapterfit.read import strictjson
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.memory import MemorySource
from adapterfit.read.weights import read_weights
from adapterfit.testing.forge import (
    BIN,
    GOOD_BIN,
    GOOD_LEGACY,
    GOOD_NPZ,
    GOOD_ST,
    ONE,
    ST,
    Member,
    entry,
    npy,
    of,
    pairs,
    st,
    tensor,
    torch_zip,
    zipped,
)
from adapterfit.text import quote, shorten, show


def read(data, name=ST):
    return read_weights(MemorySource({name: data}), name)


def codes(data, name=ST):
    return [flaw.code for flaw in read(data, name).flaws]


# ------------------------------------------------------------------------------------------------ cut off


def member(name, data, size=None, flags=0x0808, method=0, mark=b"PK\x07\x08"):
    """A member as torch writes it: its checksum and sizes behind the data."""
    head = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, flags, method, 0, 0, 0, 0, 0, len(name), 0) + name
    length = len(data) if size is None else size
    return head + data + mark + struct.pack("<III", zlib.crc32(data), length, length)


PICKLED = member(b"x/data.pkl", of(tensor()))
STORED = member(b"x/data/0", bytes(16))


def test_of_a_zip_without_its_end_the_tensors_whose_bytes_are_there_are_told():
    found = read(PICKLED + member(b"x/byteorder", b"little") + STORED, BIN)
    assert (found.refused, found.tensors, found.lost) == (True, (), ())
    assert [(one.name, one.dtype, one.shape) for one in found.intact] == [("a", "F32", (2, 2))]
    found = read(PICKLED + STORED[:-17], BIN)
    assert (found.intact, found.lost) == ((), ("a",))


ODD = {
    "no pickle first": STORED + PICKLED,
    "a pickle that was changed": PICKLED.replace(struct.pack("<I", zlib.crc32(of(tensor()))), b"0000") + STORED,
    "another length than the pickle says": PICKLED + member(b"x/data/0", bytes(20)) + STORED,
    "another length behind the data": PICKLED + member(b"x/data/0", bytes(16), size=15) + STORED,
    "another folder": PICKLED + member(b"../data/0", bytes(16)),
    "compressed": PICKLED + member(b"x/data/0", bytes(16), method=8),
    "encrypted": PICKLED + member(b"x/data/0", bytes(16), flags=0x0809),
    "numbers of another machine": PICKLED + STORED + member(b"x/byteorder", b"big"),
    "something else between": PICKLED + bytes(64) + STORED,
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_of_a_zip_without_its_end_that_torch_did_not_write_so_nothing_is_believed(what):
    found = read(ODD[what], BIN)
    assert found.refused
    assert found.intact == ()


def test_a_zip_without_its_end_is_followed_only_as_far_as_its_pickle_has_storages():
    data = PICKLED + b"".join(member(b"x/%d" % at, b"") for at in range(100_000))
    start = time.process_time()
    assert read(data, BIN).refused
    assert time.process_time() - start < 0.5


# ------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize(
    ("name", "data", "form", "found"),
    [
        (ST, GOOD_ST, "safetensors", {"a": ("F32", (2, 2)), "b": ("F16", (4,))}),
        (BIN, GOOD_BIN, "torch_zip", {"a": ("F32", (2, 2))}),
        (BIN, GOOD_LEGACY, "torch_legacy", {"a": ("F32", (2, 2))}),
        ("adapters.npz", GOOD_NPZ, "npz", {"a": ("F32", (2, 2)), "b": ("F16", (3,))}),
    ],
)
def test_a_good_file_of_each_format_is_read_by_its_content(name, data, form, found):
    weights = read(data, name)
    assert weights.flaws == ()
    assert (weights.file, weights.format, weights.size) == (name, form, len(data))
    assert {each.name: (each.dtype, each.shape) for each in weights.tensors} == found


def test_the_metadata_of_safetensors_is_handed_on():
    assert read(GOOD_ST).metadata == {"format": "pt"}


def test_spans_are_absolute_and_tile_the_file():
    weights = read(GOOD_ST)
    start = len(GOOD_ST) - 24
    assert [each.span for each in weights.tensors] == [(start, start + 16), (start + 16, start + 24)]


MARK = b"sixteen bytes!!!"


@pytest.mark.parametrize(
    "data", [zipped(torch_zip(of(tensor()), [MARK])), GOOD_LEGACY[:-16] + MARK], ids=["zip", "stacked"]
)
def test_a_span_of_a_bin_points_at_the_tensor_s_own_bytes(data):
    start, end = read(data, BIN).tensors[0].span
    assert data[start:end] == MARK


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "span"),
    [
        ((2, 2), (2, 1), 0, 16),
        ((2, 2), (1, 2), 0, None),
        ((2,), (1,), 1, 8),
        ((2,), (2,), 0, None),
        ((1, 4), (9, 1), 0, 16),
        ((), (), 3, 4),
    ],
    ids=["whole", "transposed", "a slice", "every second", "a stride of a size of one is free", "a scalar"],
)
def test_a_view_has_a_span_only_where_it_lies_in_one_piece(shape, strides, offset, span):
    found = read(zipped(torch_zip(of(tensor(shape, strides, offset)))), BIN).tensors[0]
    assert found.shape == shape
    assert (found.span and found.span[1] - found.span[0]) == span


def test_an_array_in_column_order_has_no_span():
    data = zipped([Member("a.npy", npy(fortran=True)), Member("b.npy", npy("(4,)", fortran=True))])
    assert [each.span is None for each in read(data, "x.npz").tensors] == [True, False]


def test_a_safetensors_header_that_begins_like_a_pickle_is_no_pickle():
    header = pairs(("a", ONE))
    data = st(header + b" " * (0x280 - len(header)), bytes(16))
    assert data[:2] == b"\x80\x02"
    assert read(data).format == "safetensors"
    assert read(data).flaws == ()


# ------------------------------------------------------------------------------------------------ what PEFT says


@pytest.mark.parametrize(
    ("name", "data", "raised"),
    [
        (ST, GOOD_BIN, "header too large"),
        (ST, b"", "header too small"),
        (ST, GOOD_ST[:-1], "incomplete metadata, file not fully covered"),
        (ST, b"version https://git-lfs.github.com/spec/v1\nsize 5\n", "header too large"),
        (BIN, b"version https://git-lfs.github.com/spec/v1\nsize 5\n", "Weights only load failed"),
        (BIN, b"", "EOFError"),
        (BIN, GOOD_ST, "Weights only load failed"),
        (BIN, GOOD_BIN[:-1], "PytorchStreamReader failed reading zip archive: failed finding central directory"),
    ],
)
def test_the_line_peft_would_raise_is_predicted(name, data, raised):
    flaw = read(data, name).flaws[0]
    assert flaw.predicted == "raises"
    assert raised in flaw.raised


def test_a_pointer_of_git_lfs_tells_the_real_size_and_what_to_run():
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 83946192\n"
    flaw = read(text).flaws[0]
    assert flaw.message == (
        "adapter_model.safetensors is a Git LFS pointer (133 bytes), not the weights: "
        "the real file has 83,946,192 bytes. Run: git lfs pull"
    )


# ------------------------------------------------------------------------------------------------ limits


def wide(dims):
    return st({"a": entry("U8", [1] * dims, [0, 1])}, b"x")


def named(length):
    return st({"a" * length: entry("U8", [1], [0, 1])}, b"x")


@pytest.mark.parametrize(
    ("build", "limit"), [(wide, limits.DIMS), (named, limits.NAME_CHARS)], ids=["dimensions", "characters of a name"]
)
def test_a_limit_holds_at_one_below_itself_and_one_beyond(build, limit):
    assert [codes(build(limit + more)) for more in (-1, 0, 1)] == [[], [], ["over-limit"]]


@pytest.mark.parametrize(
    ("name", "value", "data", "file"),
    [
        ("HEADER_BYTES", len(GOOD_ST) - 32, GOOD_ST, ST),
        ("TENSORS", 2, GOOD_ST, ST),
        ("TENSORS", 1, GOOD_BIN, BIN),
        ("ZIP_MEMBERS", 4, GOOD_BIN, BIN),
        ("PICKLE_BYTES", len(of(tensor())), GOOD_BIN, BIN),
    ],
)
def test_a_lowered_limit_refuses_only_what_is_beyond_it(name, value, data, file, monkeypatch):
    monkeypatch.setattr(limits, name, value)
    assert codes(data, file) == []
    monkeypatch.setattr(limits, name, value - 1)
    assert codes(data, file) == ["over-limit"]


# ------------------------------------------------------------------------------------------------ strict JSON


def test_strict_json_reads_what_json_reads():
    text = b'{"a": [1, 2.5, -3e2, true, false, null, "\\u00e9\\ud83d\\ude00"], "b": {}}'
    assert strictjson.loads(text, what="x") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a":1,"a":2}', 'the key "a" twice'),
        (b"NaN", "NaN is not a number"),
        (b"1e400", "too large"),
        (b"[" + b"1" * 5000 + b"]", "5000 digits"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udc00": 1}', "lone surrogate"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"{} {}", "follows its end"),
        (b'{"a": 1,}', "line 1, column 9"),
        (b'{\n  "a": ?\n}', "line 2, column 8"),
        (b"", "ends too early"),
        (b'["a', "Unterminated".lower()),
        (b"\x00{}", "not JSON"),
    ],
)
def test_strict_json_refuses_and_says_where(text, says):
    with pytest.raises(BadInput) as caught:
        strictjson.loads(text, what="the file")
    assert says in str(caught.value)


@pytest.mark.parametrize("depth", [1, 3, 99, 100])
def test_strict_json_allows_nesting_up_to_its_limit(depth):
    assert strictjson.loads(b"[" * depth + b"]" * depth, what="x", limit_depth=100) is not None
    assert strictjson.loads(b"[" * depth + b"]" * depth, what="x", limit_depth=depth) is not None


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"]]]":['], ids=["lists", "tables", "closing marks in texts"])
@pytest.mark.parametrize("times", [101, 5000, 200_000])
def test_strict_json_refuses_deep_nesting_without_recursion(opening, times):
    for closed in (b"", b"1" + b"]" * times):
        with pytest.raises(BadInput):
            strictjson.loads(opening * times + closed, what="x")


def test_strict_json_can_keep_repeated_keys():
    found = strictjson.loads(b'{"a": 1, "b": 2, "a": {"c": 1}}', what="x", duplicates="keep")
    assert found == {"a": {"c": 1}, "b": 2}
    assert found.twice == (("a", (1, {"c": 1})),)


# ------------------------------------------------------------------------------------------------ folders


def test_a_folder_lists_its_files_sorted_and_relative(tmp_path):
    for name in ("b.bin", "a.json", "sub/c.safetensors", "sub/deeper/d", ".git/objects/x"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0123")
    source = FolderSource(tmp_path)
    assert source.names() == ("a.json", "b.bin", "sub/c.safetensors", "sub/deeper/d")
    assert source.read("sub/c.safetensors", 1, 2) == b"12"
    assert source.size("sub/deeper/d") == 4
    assert source.flaws == ()


def test_a_single_file_is_a_source_of_one_name(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "other").write_bytes(b"")
    source = FolderSource(tmp_path / "a.bin")
    assert (source.names(), source.root) == (("a.bin",), os.path.realpath(tmp_path))
    with pytest.raises(CannotCheck, match="not in"):
        source.read("other", 0, 0)


def test_a_file_named_by_a_link_on_the_command_line_is_read(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real").write_bytes(b"abc")
    (tmp_path / "link.bin").symlink_to(tmp_path / "elsewhere" / "real")
    assert FolderSource(tmp_path / "link.bin").read("link.bin", 0, 3) == b"abc"


@pytest.mark.parametrize("path", ["missing", "a\0b", "file/below"])
def test_a_path_that_cannot_be_opened_is_one_clear_line(path, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotCheck) as caught:
        FolderSource(f"{tmp_path}/{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("offset", "length"), [(0, 4), (3, 1), (-1, 1), (0, -1), (10**30, 1)])
@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_a_range_outside_the_file_is_the_file_s_fault(kind, offset, length, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    source = FolderSource(tmp_path) if kind == "folder" else MemorySource({"a": b"abc"})
    assert source.read("a", 3, 0) == b""
    with pytest.raises(BadInput):
        source.read("a", offset, length)


def test_the_layout_of_the_hub_cache_is_followed(tmp_path):
    repo = tmp_path / "models--x--y"
    snapshot = repo / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    blob = repo / "blobs" / ("ab" * 32)
    blob.write_bytes(GOOD_ST)
    (snapshot / ST).symlink_to(f"../../blobs/{'ab' * 32}")
    (snapshot / "inside").symlink_to(ST)
    source = FolderSource(snapshot)
    assert source.names() == (ST, "inside")
    assert source.flaws == ()
    assert read_weights(source, ST).flaws == ()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("../outside.bin", "path-escapes"),
        ("../models--x--y/blobs/short", "path-escapes"),
        ("nowhere", "dangling-link"),
        ("link.bin", "dangling-link"),
    ],
)
def test_a_link_out_of_the_folder_is_not_followed(target, code, tmp_path):
    root = tmp_path / "adapter"
    (tmp_path / "models--x--y" / "blobs").mkdir(parents=True)
    (tmp_path / "models--x--y" / "blobs" / "short").write_bytes(b"secret")
    (tmp_path / "outside.bin").write_bytes(b"secret")
    root.mkdir()
    (root / "link.bin").symlink_to(target)
    source = FolderSource(root)
    assert source.names() == ()
    assert [(flaw.code, flaw.refused) for flaw in source.flaws] == [(code, True)]


def test_a_named_pipe_is_reported_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / ST)
    start = time.perf_counter()
    source = FolderSource(tmp_path)
    assert time.perf_counter() - start < 1
    assert [flaw.code for flaw in source.flaws] == ["not-a-regular-file"]
    with pytest.raises(CannotCheck):
        source.read(ST, 0, 0)


def test_a_file_that_becomes_a_pipe_after_the_listing_is_not_waited_for(tmp_path):
    (tmp_path / ST).write_bytes(GOOD_ST)
    source = FolderSource(tmp_path)
    (tmp_path / ST).unlink()
    os.mkfifo(tmp_path / ST)
    with pytest.raises(CannotCheck, match="changed-while-reading"):
        source.read(ST, 0, 1)


def test_a_folder_that_becomes_a_link_after_the_listing_is_not_followed(tmp_path):
    inner = tmp_path / "root" / "sub"
    inner.mkdir(parents=True)
    (inner / "a.bin").write_bytes(b"mine")
    source = FolderSource(tmp_path / "root")
    inner.rename(tmp_path / "moved")
    inner.symlink_to(tmp_path / "moved")
    with pytest.raises(CannotCheck, match="changed-while-reading"):
        source.read("sub/a.bin", 0, 4)


def test_a_name_that_is_not_utf_8_survives_and_is_shown_inert(tmp_path):
    (tmp_path / os.fsdecode(b"\xff\n.bin")).write_bytes(GOOD_BIN)
    source = FolderSource(tmp_path)
    (name,) = source.names()
    assert os.fsencode(name) == b"\xff\n.bin"
    assert read_weights(source, name).tensors
    assert show(name) == r"\udcff\x0a.bin"


@pytest.mark.parametrize("count", [9, 10, 11, 40])
def test_of_too_many_entries_those_of_an_adapter_are_not_left_out(count, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FOLDER_ENTRIES", 10)
    for name in ["adapter_config.json", "adapter_model.safetensors", *(f"{at:02}.txt" for at in range(count))]:
        (tmp_path / name).write_bytes(b"{}")
    source = FolderSource(tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(source.names())
    assert (len(source.names()), bool(source.flaws)) == (min(count + 2, 10), count > 8)


def test_too_many_entries_give_a_partial_listing_that_says_so(tmp_path, monkeypatch):
    for i in range(11):
        (tmp_path / f"{i:02}").write_bytes(b"")
    monkeypatch.setattr(limits, "FOLDER_ENTRIES", 11)
    assert FolderSource(tmp_path).flaws == ()
    monkeypatch.setattr(limits, "FOLDER_ENTRIES", 10)
    source = FolderSource(tmp_path)
    assert len(source.names()) == 10
    assert [flaw.code for flaw in source.flaws] == ["over-limit"]
    assert "partial" in source.flaws[0].message


def test_too_deep_a_folder_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FOLDER_DEPTH", 2)
    (tmp_path / "1" / "2" / "3").mkdir(parents=True)
    (tmp_path / "1" / "2" / "in").write_bytes(b"")
    (tmp_path / "1" / "2" / "3" / "out").write_bytes(b"")
    source = FolderSource(tmp_path)
    assert source.names() == ("1/2/in",)
    assert "deeper than 2" in source.flaws[0].message


# ------------------------------------------------------------------------------------------------ text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain é 漢字", "plain é 漢字"),
        ("e\u0301", "é"),
        ("a\x1b[2Jb\r\n", r"a\x1b[2Jb\x0d\x0a"),
        ("\u202eabc\u200b\ufeff", r"\u202eabc\u200b\ufeff"),
        ("a\u00a0b\u3000", r"a\xa0b\u3000"),
        ("\ud800\ue000\U000e0041", r"\ud800\ue000\U000e0041"),
        ("\u3164\u2800\ufe0f", r"\u3164\u2800\ufe0f"),
    ],
)
def test_text_is_shown_inert(raw, shown):
    assert show(raw) == shown


def test_a_flood_of_accents_is_escaped_after_a_few():
    assert show("a" + "\u0308\u0311" * 50, None).count(r"\u03") == 95


def test_a_long_text_is_cut_with_its_length_said():
    assert show("x" * 1000, 40) == "x" * 21 + "… (1000 characters)"
    assert len(show("\x00" * 150)) == 200


def test_names_are_listed_short():
    assert shorten(["a", "b", "c", "d", "e\n"]) == "a, b, c and 2 more"
    assert quote("a\nb") == r'"a\x0ab"'


# ------------------------------------------------------------------------------------------------ real files


@pytest.mark.corpus
def test_every_real_weights_file_is_read_or_refused_by_name(shared):
    folder = shared / "data" / "corpus" / "weights"
    source = FolderSource(folder)
    read = 0
    for row in map(json.loads, (folder / "index.jsonl").read_text().splitlines()):
        weights = read_weights(source, row["file"])
        if row["format"] == "LFS pointer" or "pointer" in row["format"].lower():
            assert weights.format == "lfs_pointer", row["file"]
        elif row["stored"] == "full bytes" and weights.tensors:
            assert not weights.refused, row["file"]
            assert _names(weights) == _expected(folder, row), row["file"]
            read += 1
        else:
            assert weights.refused, row["file"]
    assert read > 30


def _names(weights):
    return {each.name: list(each.shape) for each in weights.tensors}


def _expected(folder, row):
    keys = json.loads((folder / row["keys_file"]).read_text())
    return {name: value[1] if len(value) == 2 and isinstance(value[1], list) else value for name, value in keys.items()}


@pytest.mark.slow
@pytest.mark.corpus
def test_every_adapter_ever_saved_by_peft_is_read_without_a_flaw(shared):
    read = 0
    for archive in sorted((shared / "data" / "matrix" / "adapters").glob("*.tar.xz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith((".bin", ".safetensors")):
                    data = tar.extractfile(member).read()
                    name = member.name.rpartition("/")[2]
                    weights = read_weights(MemorySource({name: data}), name)
                    assert weights.flaws == (), member.name
                    read += 1
    assert read > 500
