"""Every bad weights file of the table (S: safetensors, P: pickles) in a fenced process: named, bounded, inert."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any, Callable

import pytest
from harness import Row, outcomes, verify

from adapterfit.testing.forge import (
    BIN,
    GOOD_BIN,
    GOOD_LEGACY,
    GOOD_ST,
    MAGIC,
    ONE,
    ST,
    Member,
    call,
    entry,
    legacy,
    name,
    npy,
    number,
    numbers,
    of,
    pairs,
    pickled,
    st,
    storage,
    table,
    tensor,
    text,
    torch_zip,
    tup,
    zipped,
)

Build = Callable[[Path], None]


def file(name: str, data: bytes | Callable[[], bytes]) -> Build:
    def build(folder: Path) -> None:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())

    return build


def sparse(name: str, head: bytes, size: int, tail: bytes = b"") -> Build:
    def build(folder: Path) -> None:
        with (folder / name).open("wb") as out:
            out.write(head)
            out.truncate(size)
            out.seek(size - len(tail))
            out.write(tail)

    return build


def s(name: str, data: Any, due: str = "", refused: bool = True, **more: Any) -> Row:
    """A row of safetensors."""
    build = data if callable(data) and not isinstance(data, bytes) and more.pop("builder", False) else file(ST, data)
    return Row(name, build, tuple(due.split()), refused, **more)


def p(name: str, data: Any, due: str = "", refused: bool = True, **more: Any) -> Row:
    """A row of `.bin`: bytes, a `data.pkl` that is put into a good archive, or a list of zip members."""
    if isinstance(data, list):
        data = zipped(data)
    return Row(name, file(BIN, data), tuple(due.split()), refused, **more)


def in_zip(pickled: bytes, **more: Any) -> bytes:
    return zipped(torch_zip(pickled, **more))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 83946192\n"


def header_of(size: int) -> bytes:
    """A valid header of exactly this many bytes with no tensor."""
    return b"{}" + b" " * (size - 2)


def sized_sparse(count: int) -> Build:
    """A safetensors file of one tensor of `count` bytes that takes no room."""
    head = st({"a": entry("U8", [count], [0, count])})
    return sparse(ST, head, len(head) + count)


S_ROWS = [
    s("S01 an empty file", b"", "truncated-file", says=("0 bytes",)),
    *(s(f"S01 a file of {n} bytes", b"\x07" * n, "truncated-file") for n in (1, 4, 7)),
    s("S02 a header of length 0", bytes(8), "header-not-json"),
    s("S02 a header of length 0 and data", bytes(8) + b"data", "header-not-json"),
    s("S03 a header of 2^64-1 bytes", st(b"{}", length=2**64 - 1), "header-too-large"),
    s("S03 a header of 2^63 bytes", st(b"{}", length=2**63), "header-too-large"),
    s("S03 a header of 100,000,001 bytes", st(b"{}", length=100_000_001), "header-too-large"),
    s("S04 a header longer than the file", st(b'{"a":', length=500), "truncated-file", says=("13 of at least 508",)),
    s("S04 a header cut in the middle", st(b'{"a":{"dtype"'), "header-not-json", says=("ends too early",)),
    s("S05 a valid header of 33 MB", lambda: st(header_of(33 << 20)), "over-limit", says=("HEADER_BYTES",), seconds=0.5),
    s("S06 100 MB of blanks before a header", sparse(ST, struct.pack("<Q", 100_000_000) + b"{}", 100_000_008), "over-limit",
      builder=True, seconds=0.05),
    s("S07 a metadata string of 99 MB", sparse(ST, struct.pack("<Q", 99_000_000) + b'{"__metadata__":{"a":"', 99_000_008), "over-limit",
      builder=True, seconds=0.05),
    s("S08 a million and a half empty tensors", lambda: st(b"{" + b",".join(b'"%d":{}' % i for i in range(1_500_000)) + b"}"), "over-limit",
      seconds=20),
    s("S09 bytes that are no UTF-8", st(b'{"\xff": 1}'), "header-not-json", says=("byte 2",)),
    s("S09 a byte order mark", st(b"\xef\xbb\xbf{}"), "header-not-json", says=("byte order mark",)),
    s("S09 UTF-16", st("{}".encode("utf-16")), "header-not-json", says=("UTF-16",)),
    *(s(f"S10 a header that is {what}", st(what.encode()), "header-not-json") for what in ("[]", "null", '"x"', "3")),
    s("S11 blanks before the header", st(b"  " + pairs(("a", ONE)), bytes(16)), "header-starts-with-blank", refused=False),
    s("S12 blanks after the header", st(pairs(("a", ONE)) + b"   ", bytes(16)), refused=False),
    s("S12 NULs after the header", st(b"{}\0\0"), "header-not-json"),
    s("S12 two headers", st(b"{}{}"), "header-not-json", says=("follows its end",)),
    s("S13 a name twice for one range", st(pairs(("a", ONE), ("a", ONE)), bytes(16)), "duplicate-name"),
    s("S14 a name twice with two shapes", st(pairs(("a", ONE), ("a", entry("F32", [4], [0, 16]))), bytes(16)), "duplicate-name",
      says=("[2, 2]", "[4]")),
    s("S15 a name twice for two ranges", st(pairs(("a", ONE), ("a", entry("F32", [4], [16, 32]))), bytes(32)), "duplicate-name"),
    s("S16 a name written in two ways", st(b'{"a":%s,"\\u0061":%s}' % ((b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',) * 2)),
      "duplicate-name"),
    s("S17 an inner key twice", st(b'{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', b"x"), "duplicate-name"),
    s("S18 metadata twice", st(b'{"__metadata__":{},"__metadata__":{}}'), "duplicate-name"),
    s("S18 a metadata key twice", st(b'{"__metadata__":{"a":"1","a":"2"}}'), "duplicate-name", refused=False),
    s("S19 an unknown field", st({"a": entry("F32", [2, 2], [0, 16], extra=1)}, bytes(16)), "unknown-field", refused=False),
    s("S20 a metadata value that is a number", st({"__metadata__": {"a": 1}}), "metadata-not-strings"),
    s("S20 metadata that is a list", st({"__metadata__": []}), "metadata-not-strings"),
    s("S20 nested metadata", st({"__metadata__": {"a": {"b": "c"}}}), "metadata-not-strings"),
    s("S21 metadata that is null", st({"__metadata__": None, "a": ONE}, bytes(16)), "metadata-not-strings", refused=False),
    s("S22 a tensor called __metadata__", st({"__metadata__": ONE}, bytes(16)), "reserved-name"),
    s("S23 a tensor described by a list", st({"a": ["F32", [2, 2], [0, 16]]}, bytes(16)), "tensor-info-not-object"),
    s("S24 two tensors on one range", st({"a": ONE, "b": ONE}, bytes(16)), "bytes-shared", says=('"a"', '"b"')),
    s("S24 two tensors that overlap", st({"a": entry("U8", [3], [0, 3]), "b": entry("U8", [3], [2, 5])}, bytes(5)), "bytes-shared"),
    s("S25 a hole between tensors", st({"a": entry("U8", [2], [0, 2]), "b": entry("U8", [2], [3, 5])}, bytes(5)), "bytes-unowned"),
    s("S25 a first tensor that does not start at 0", st({"a": entry("U8", [2], [1, 3])}, bytes(3)), "bytes-unowned"),
    s("S26 a zip at the end", GOOD_ST + GOOD_BIN, "bytes-unowned", says=("zip",)),
    s("S26 a script at the end", GOOD_ST + b"#!/bin/sh\necho hello\n", "bytes-unowned", says=("script",)),
    s("S26 random bytes at the end", GOOD_ST + b"\x91\x17\xd3", "bytes-unowned", says=("3 bytes",)),
    s("S27 two bytes short", GOOD_ST[:-2], "truncated-file", says=("stopped 2 bytes before", "of 24 bytes")),
    s("S27 half the file", st({"a": entry("U8", [1000], [0, 1000])}, bytes(500)), "truncated-file", says=("500 of 1,000",)),
    *(
        s(f"S28 offsets {offsets}", st(b'{"a":{"dtype":"U8","shape":[2],"data_offsets":%s}}' % offsets.encode(), b"ab"), "bad-geometry")
        for offsets in ("[2,0]", "[-1,1]", "[0.0,2]", "[0,1.6e1]", '["0","2"]', "[false,2]", "[0]", "[0,2,3]", "null", "{}", '"02"')
    ),
    *(
        s(f"S29 the shape {shape}", st(b'{"a":{"dtype":"U8","shape":%s,"data_offsets":[0,2]}}' % shape.encode(), b"ab"), "bad-geometry")
        for shape in ("[-2]", "[2.0]", "[true]", "[1180591620717411303424]", '["2"]', "2", "null")
    ),
    s("S30 sizes whose product overflows", st({"a": entry("U8", [2, 2**64 - 2], [0, 2])}, b"ab"), "shape-overflow"),
    s("S30 2^33 by 2^33 in no bytes", st({"a": entry("U8", [2**33, 2**33], [0, 0])}), "shape-overflow"),
    s("S30 an overflow before a zero", st({"a": entry("U8", [2**62, 2**62, 0], [0, 0])}), "shape-overflow"),
    s("S31 an empty tensor of 2^62 columns", st({"a": entry("U8", [0, 2**62], [0, 0])}), "zero-size-tensor", refused=False),
    s("S32 a shape that needs other bytes", st({"a": entry("F32", [3], [0, 16])}, bytes(16)), "size-mismatch", says=("needs 12",)),
    *(s(f"S33 the dtype {dtype!r}", st({"a": entry(dtype, [1], [0, 1])}, b"x"), "unknown-dtype") for dtype in ("F31", "f32", ["F32"], 3)),
    s("S33 no dtype", st({"a": {"shape": [1], "data_offsets": [0, 1]}}, b"x"), "unknown-dtype"),
    s("S34 a dtype of the future", st({"a": entry("F2_E1M0", [4], [0, 1])}, b"x"), "unknown-dtype", says=("newer than this version",)),
    s("S35 three numbers of half a byte", st({"a": entry("F4", [3], [0, 2])}, b"ab"), "misaligned"),
    s("S36 100,000 dimensions", st({"a": entry("U8", [1] * 100_000, [0, 1])}, b"x"), "over-limit"),
    s("S36 17 dimensions", st({"a": entry("U8", [1] * 17, [0, 1])}, b"x"), "over-limit"),
    s("S36 16 dimensions", st({"a": entry("U8", [1] * 16, [0, 1])}, b"x"), refused=False),
    s("S37 brackets 200 deep", st(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"), "header-not-json", says=("levels deep",)),
    s("S37 brackets 100,000 deep", st(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "header-not-json"),
    s("S37 100,000 brackets that never close", st(b"{" + b'"a":{' * 100_000), "header-not-json"),
    *(s(f"S38 {what}", st(text), "header-not-json") for what, text in (
        ("NaN", b'{"a":NaN}'), ("Infinity", b'{"a":-Infinity}'), ("a comment", b"{/* */}"), ("single quotes", b"{'a':1}"),
        ("a trailing comma", b'{"a":1,}'), ("1e400", b'{"a":1e400}'), ("a raw line break in a name", b'{"a\n":1}'))),
    s("S39 a number of 5,000 digits", st(b'{"a":' + b"9" * 5000 + b"}"), "header-not-json", says=("5000 digits",)),
    s("S40 half a character in a name", st(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"), "header-not-json"),
    s("S40 half a character in an ignored key", st(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"\\udfff":1}}', b"x"),
      "header-not-json"),
    *(
        s(f"S41 {what} in a name", st({f"a{char}b": entry("U8", [1], [0, 1])}, b"x"), "control-in-name", refused=False, says=(shown,))
        for what, char, shown in (
            ("NUL", "\0", r"\x00"), ("ESC", "\x1b[2J", r"\x1b"), ("a C1 control", "\x9b", r"\x9b"), ("BEL", "\a", r"\x07"),
            ("CR LF", "\r\n", r"\x0d\x0a"), ("right-to-left override", "\u202e", r"\u202e"), ("a zero-width space", "\u200b", r"\u200b"))
    ),
    s("S42 an empty name", st({"": entry("U8", [1], [0, 1])}, b"x"), "control-in-name", refused=False),
    s("S42 a name of 1 MB", st({"a" * (1 << 20): entry("U8", [1], [0, 1])}, b"x"), "over-limit"),
    *(
        s(f"S43 {what} twins", st({one: entry("U8", [1], [0, 1]), two: entry("U8", [1], [1, 2])}, b"xy"), "look-alike-names", refused=False)
        for what, one, two in (("NFC and NFD", "\u00e9", "e\u0301"), ("Latin and Cyrillic", "lora_A", "l\u043era_A"),
                               ("upper and lower case", "lora_A", "lora_a"))
    ),
    s("S44 names that are paths, formats and shell words", st(
        {each: entry("U8", [1], [i, i + 1]) for i, each in enumerate(
            ("../../x", "/etc/passwd", "{0.__class__}", "%s%n", "$(id)", "con", "`id`", "https://x", "__init__"))}, bytes(9)), refused=False),
    s("S45 a Git LFS pointer", LFS, "not-this-format", says=("83,946,192", "git lfs pull")),
    s("S45 a web page", b"<!DOCTYPE html><html><body>404</body></html>", "not-this-format", says=("web page",)),
    s("S45 an error in JSON", b'{"error":"Repository not found"}', "not-this-format", says=("Repository not found",)),
    s("S45 plain text", b"fake weights\n", "not-this-format", says=("fake weights",)),
    s("S45 gzip", b"\x1f\x8b\x08\0" + bytes(60), "not-this-format", says=("gzip",)),
    s("S45 an ordinary zip", zipped([Member("x/readme.txt", b"hello")]), "not-this-format", says=("zip",)),
    s("S45 a program", b"\x7fELF\x02\x01\x01" + bytes(60), "not-this-format", says=("program",)),
    s("S45 GGUF", b"GGUF\x03\0\0\0" + bytes(60), "foreign-format", says=("GGUF",)),
    s("S45 HDF5", b"\x89HDF\r\n\x1a\n" + bytes(60), "not-this-format", says=("HDF5",)),
    s("S46 a torch zip called .safetensors", GOOD_BIN, "wrong-extension", refused=False),
    p("S46 safetensors called .bin", GOOD_ST, "wrong-extension", refused=False),
    Row("S47 a file that is two formats", sparse(
        ST, b"PK\x03\x04" + bytes(4) + b"{" + bytes(17) + b"\x01\0\0\0x", 0x04034B50 + 8), ("ambiguous-format",)),
    Row("S49 a sparse file of 1 TB whose header lies", sparse(ST, st({"a": entry("U8", [2**41], [0, 2**41])}), 1 << 40), ("truncated-file",)),
    s("S51 data of NaN and infinities", st({"a": entry("F32", [4], [0, 16])}, struct.pack("<4f", *map(float, ("nan", "inf", "-inf", "1e-45")))),
      refused=False),
]  # fmt: skip


S_ROWS += [
    Row("S49 a sparse file of 1 TB whose header is true", sized_sparse(1 << 40), (), False),
    Row("S50 one tensor of 2^40 bytes", sized_sparse(1 << 40), (), False),
]

GLOBALS = (
    ("posix", "system"), ("os", "system"), ("builtins", "eval"), ("torch.nn", "os.system"), ("pickle", "loads"), ("torch", "load"),
    ("torch.storage", "_load_from_bytes"), ("pkgutil", "resolve_name"), ("operator", "methodcaller"), ("functools", "partial"),
    ("uuid", "_popen"), ("imaplib", "IMAP4_stream"), ("logging", "FileHandler"), ("numpy.core.multiarray", "scalar"),
    ("argparse", "Namespace"), ("transformers.training_args", "TrainingArguments"), ("builtins", "bytearray"), ("torch", "Tensor.x"),
    ("evil", "run"), ("torch._utils", "_rebuild_tensor_v2.__globals__"), ("collections", "Counter"), ("_codecs", "encode"),
)  # fmt: skip
ORDERED = name("collections", "OrderedDict")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")

#: A storage as stacked files describe it.
SIX = storage("0", 4, "FloatStorage", b"N")

P_ROWS = [
    *(p(f"P01, P06 to P09 asks to import {m}.{n}", in_zip(of(call(name(m, n), text("true")))), "pickle-not-plain",
        says=(f"asks to import {m}.{n}",)) for m, n in GLOBALS),
    p("P01 a bare pickle that asks to import posix.system", pickled(call(name("posix", "system"), text("true"))), "pickle-not-plain",
      says=("posix.system",)),
    p("P01 the oldest protocol, as text", b"cposix\nsystem\n(S'true'\ntR.", "pickle-not-plain", says=("posix.system",)),
    *(p(f"P02, P03 the instruction {what}", in_zip(pickled(code)), "pickle-not-plain", says=(what,)) for what, code in (
        ("STACK_GLOBAL", text("evil") + text("run") + b"\x93"), ("INST", b"(ievil\nrun\n"), ("OBJ", b"(" + ORDERED + b"o"),
        ("EXT1", b"\x82\x01"), ("EXT2", b"\x83\x01\0"), ("EXT4", b"\x84\x01\0\0\0"), ("NEWOBJ", ORDERED + b")\x81"),
        ("NEWOBJ_EX", ORDERED + b")}\x92"), ("DUP", b"}2"), ("POP", b"}0"), ("PERSID", b"Pevil\n"))),
    p("P03 a call and then a state", in_zip(of(call(name("evil", "run")) + b"}b")), "pickle-not-plain", says=("evil.run",)),
    p("P04 a call whose result is thrown away", in_zip(pickled(b"(" + ORDERED + b"o0" + table())), "pickle-not-plain"),
    p("P05 a call of a text put together on the stack", in_zip(of(text("evil") + b")R")), "pickle-not-plain"),
    p("P05 a memo that was never set", in_zip(of(b"h\x07")), "malformed"),
    *(p(f"P10 {what}", in_zip(of(value)), "malformed") for what, value in (
        ("OrderedDict with an argument", call(ORDERED, number(1))), ("a tensor of nothing", call(REBUILD)),
        ("a tensor of texts", call(REBUILD, *[text("x")] * 6)), ("a size of a text", call(name("torch", "Size"), text("x"))),
        ("a storage called", call(name("torch", "FloatStorage"), number(4))), ("a dtype called", call(name("torch", "float32"))),
        ("a parameter of a number", call(name("torch._utils", "_rebuild_parameter"), number(1), b"\x89", b"}")),
        ("a storage of another kind", tup(text("module"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(4)) + b"Q"),
        ("a storage that is a number", number(3) + b"Q"), ("a storage of -1 elements", tensor(where=storage("0", -1))),
        ("a storage in two parts", tensor(where=storage("0", 4, "FloatStorage", tup(text("v"), number(0), number(4))))))),
    p("P10 a tensor of an unknown type", in_zip(of(tensor(where=tup(
        text("storage"), name("torch.storage", "UntypedStorage"), text("0"), text("cpu"), number(16)) + b"Q"))), "malformed"),
    *(p(f"P11 {what}", in_zip(pickled(value)), "malformed") for what, value in (
        ("a state for a list", b"]}b"), ("a state for a tensor", tensor() + b"}b"), ("a state for a plain dict", b"}}b"),
        ("a key of a list", b"]" + text("a") + text("b") + b"s"), ("a key of a text", text("x") + text("a") + text("b") + b"s"),
        ("a key of a tensor", tensor() + text("a") + text("b") + b"s"))),
    *(p(f"P12 {what}", in_zip(pickled(value)), "malformed") for what, value in (
        ("appending to a dict", b"}" + text("a") + b"a"), ("appending many to a dict", b"}(" + text("a") + b"e"),
        ("a key without a value", b"}(" + text("a") + b"u"), ("an end without a beginning", b"}u"), ("an empty stack", b"R"),
        ("two values left", b"}}"), ("a mark left", b"}("))),
    p("P13 runs something, then stops short", in_zip(b"\x80\x02" + call(name("evil", "run"))), "pickle-not-plain", says=("evil.run",)),
    p("P13 stops short", in_zip(of(tensor())[:-5]), "malformed", says=("middle of its pickle",)),
    p("P15 bytes after the end of the pickle", in_zip(of(tensor()) + b"more"), "malformed", says=("after the end",)),
    p("P15 a second pickle", in_zip(of(tensor()) + pickled(call(name("evil", "run")))), "malformed"),
    *(p(f"P16 protocol {proto}", in_zip(pickled(table((text("a"), tensor())), proto)), "unsupported-protocol") for proto in (0, 1, 3, 4, 5, 255)),
    p("P16 a frame", in_zip(b"\x80\x02\x95" + struct.pack("<Q", 5) + b"}."), "pickle-not-plain", says=("FRAME",)),
    *(p(f"P17 a storage of {n} bytes for 16", in_zip(of(tensor()), storages=(bytes(n),)), "size-mismatch") for n in (0, 15, 17, 64)),
    *(p(f"P18 the storage {key!r}", in_zip(of(tensor(where=storage(key, 4)))), "malformed", says=("not in the file",))
      for key in ("7", "../../etc/passwd", "", "0/../0")),
    *(p(f"P19 {what}", in_zip(of(value)), "bad-geometry") for what, value in (
        ("a view beyond its storage", tensor((2, 3), (3, 1))), ("an offset beyond", tensor((2, 2), (2, 1), 1)),
        ("a negative offset", tensor((2, 2), (2, 1), -1)), ("a negative stride", tensor((2, 2), (-2, 1))),
        ("a negative size", tensor((-2, 2), (2, 1))), ("2^33 by 2^33", tensor((2**33, 2**33), (2**33, 1))),
        ("fewer strides than sizes", tensor((2, 2), (1,))))),
    p("P20 a view of 2^40 elements on one", in_zip(of(tensor((2**40,), (0,)))), "expanded-tensor", says=("1,099,511,627,776",)),
    p("P20 a view that overlaps itself", in_zip(of(tensor((3, 2), (1, 1)))), "expanded-tensor"),
    p("P21 a tensor made by its class", in_zip(of(call(name("torch", "Tensor"), number(2**33)))), "malformed"),
    p("P21 a tensor class of the past", in_zip(of(call(name("torch", "FloatTensor"), number(2**33)))), "pickle-not-plain"),
    p("P22 tuples that double forty times", in_zip(of(b")" + b"".join(b"q\x01h\x01\x86" for _ in range(40)))), "wrapped-state-dict"),
    p("P22 a million tuples in each other", in_zip(pickled(b")" + b"\x85" * 1_000_000)), "over-limit", seconds=1),
    p("P22 a million lists", in_zip(pickled(b"](" + b"]" * 1_000_000 + b"e")), "over-limit", seconds=1),
    p("P22 a million marks", in_zip(pickled(b"(" * 1_000_000)), "over-limit", seconds=1),
    p("P22 a stacked file of two million instructions", legacy(pickled(b"](" + b"]" * 2_000_000 + b"e")), "over-limit", seconds=5),
    p("P23 a dict that holds itself", in_zip(pickled(b"}q\x00(" + text("a") + b"h\x00u")), "malformed", says=("holds itself",)),
    *(p(f"P23 a key that is {what}", in_zip(pickled(table((key, tensor())))), "malformed", says=("not all text",))
      for what, key in (("a number", number(1)), ("a tuple", numbers([1, 2])), ("nothing", b"N"), ("a dict", b"}"))),
    p("P23 a key twice", in_zip(pickled(table((text("a"), tensor()), (text("a"), tensor())))), "duplicate-name"),
    p("P24 tensors one level down", in_zip(pickled(table((text("state_dict"), table((text("a"), tensor())))))), "wrapped-state-dict",
      says=("state_dict", "one level down")),
    p("P24 numbers beside tensors", in_zip(pickled(table((text("a"), tensor()), (text("epoch"), number(3)), (text("x"), b"N")))),
      "wrapped-state-dict", refused=False, says=("epoch",)),
    p("P24 a class beside tensors", in_zip(pickled(table((text("a"), tensor()), (text("x"), name("torch", "float32"))))), "malformed"),
    p("P24 a list of tensors", in_zip(pickled(b"](" + tensor() + tensor() + b"e")), "not-a-state-dict", says=("list of 2",)),
    p("P24 a single tensor", in_zip(pickled(tensor())), "not-a-state-dict"),
    p("P25 two names on one storage", in_zip(pickled(table((text("a"), tensor()), (text("b"), tensor())))), refused=False),
    p("P25 slices that overlap", in_zip(pickled(table((text("a"), tensor((3,), (1,))), (text("b"), tensor((3,), (1,), 1))))), refused=False),
    p("P26 a transposed tensor", in_zip(of(tensor((2, 2), (1, 2)))), refused=False),
    p("P26 a scalar", in_zip(of(tensor((), ()))), refused=False),
    p("P26 an empty tensor", in_zip(of(tensor((0, 3), (3, 1), where=storage("0", 0))), storages=(b"",)), refused=False),
    p("P26 an empty tensor whose storage is not there", in_zip(of(tensor((0, 3), (3, 1), where=storage("9", 0)))), "malformed"),
    p("P26 a parameter", in_zip(of(call(name("torch._utils", "_rebuild_parameter"), tensor(), b"\x88", call(ORDERED)))), refused=False),
    p("P26 bfloat16", in_zip(of(tensor(where=storage("0", 8, "BFloat16Storage")))), refused=False),
    p("P26 float8", in_zip(of(call(name("torch._utils", "_rebuild_tensor_v3"), tup(
        text("storage"), name("torch.storage", "UntypedStorage"), text("0"), text("cpu"), number(16)) + b"Q", number(0), numbers([16]),
        numbers([1]), b"\x89", call(ORDERED), name("torch", "float8_e4m3fn")))), refused=False),
    *(p(f"P27 a tensor made by {m}.{n}", in_zip(of(call(name(m, n)))), "not-dense") for m, n in (
        ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_qtensor"), ("torch._utils", "_rebuild_nested_tensor"),
        ("torch._utils", "_rebuild_meta_tensor_no_storage"), ("torch.distributed.tensor", "DTensor"))),
    p("P28 a stacked file", GOOD_LEGACY, refused=False),
    p("P28 a stacked file of a big-endian machine", GOOD_LEGACY.replace(text("little_endian") + b"\x88", text("little_endian") + b"\x89"),
      "unsupported"),
    p("P28 a stacked file cut in its data", GOOD_LEGACY[:-3], "truncated-file", says=("stopped at",)),
    p("P28 a stacked file cut in its description", GOOD_LEGACY[:60], "truncated-file"),
    p("P28 a stacked file with bytes after it", GOOD_LEGACY + b"xx", "bytes-unowned", refused=False),
    p("P28 a stacked file whose storage is of another size", legacy(of(tensor(where=SIX)), data=struct.pack("<q", 5) + bytes(20)), "size-mismatch"),
    p("P28 a stacked file whose storage has -1 elements", legacy(of(tensor(where=SIX)), data=struct.pack("<q", -1)), "size-mismatch"),
    p("P28 a stacked file that lists a storage of nothing", legacy(of(tensor(where=SIX)), keys=("0", "1")), "malformed"),
    p("P28 a stacked file that asks to import evil.run", legacy(of(call(name("evil", "run")))), "pickle-not-plain", says=("evil.run",)),
    p("P29 torch's number produced by a call", b"\x80\x02" + call(name("evil", "run")) + b"." + MAGIC, "pickle-not-plain", says=("evil.run",)),
    p("P29 a wrong second number", MAGIC + pickled(number(1002)) + GOOD_LEGACY[len(MAGIC) + 8:], "malformed"),
    p("P30 a tar archive", b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + bytes(1000), "legacy-tar"),
    p("P31 TorchScript", [*torch_zip(of(tensor())), Member("archive/constants.pkl", b"\x80\x02)."), Member("archive/code/x.py", b"x" * 99,
      method=8)], "torchscript"),
    p("P32 an empty .bin", b"", "truncated-file"),
    p("P32 a plain bare pickle", pickled(table((text("a"), number(1)))), "not-this-format", says=("bare pickle",)),
    p("P32 a web page called .bin", b"\n<html><head>", "not-this-format", says=("web page",)),
    p("P32 an LFS pointer called .bin", LFS, "not-this-format", says=("git lfs pull",)),
    p("P32 text called .bin", "Zugriff verweigert \u2013 gesperrt".encode(), "not-this-format", says=("Zugriff",)),
    p("P33 two data.pkl in two roots", [*torch_zip(of(tensor())), Member("other/data.pkl", of(tensor()))], "archive-ambiguous"),
    p("P33 a member twice", [*torch_zip(of(tensor())), Member("archive/data/0", bytes(16))], "archive-ambiguous", says=("twice",)),
    p("P33 two roots", [*torch_zip(of(tensor())), Member("other/version", b"3")], "archive-ambiguous"),
    p("P33 an archive without its version", [Member("archive/data.pkl", of(tensor())), Member("archive/data/0", bytes(16))], "malformed"),
    p("P33 data.pkl without a root", [Member("data.pkl", of(tensor()))], "archive-ambiguous"),
    p("P33 data.pkl one level too deep", [Member("a/b/data.pkl", of(tensor()))], "archive-ambiguous"),
    p("P34 a bomb of 256 MB", lambda: zipped([Member("archive/data.pkl", of(tensor())), Member("archive/data/0", bytes(256 << 20), method=8)]),
      "compressed-member"),
    p("P34 sizes that differ without compression", [Member("archive/data.pkl", of(tensor()), size=10**9)], "compressed-member"),
    *(p(f"P35 flags 0x{flags:x}", [Member("archive/data.pkl", of(tensor()), flags=flags)], "archive-ambiguous") for flags in (1, 0x20, 0x40, 0x2000)),
    p("P36 another name where the member lies", [Member("archive/data.pkl", of(tensor()), local_name=b"archive/evil.pkl")], "archive-ambiguous",
      says=("another name",)),
    p("P36 another size where the member lies", [Member("archive/data.pkl", of(tensor()), local_sizes=(5, 5))], "archive-ambiguous"),
    p("P37 a wrong checksum", [Member("archive/data.pkl", of(tensor()), crc=1), Member("archive/data/0", bytes(16)), Member("archive/version", b"3")], "crc-mismatch", refused=False),
    p("P38 junk before the archive", b"junk" + GOOD_BIN, "not-this-format"),
    p("P38 junk after the archive", GOOD_BIN + b"junk", "bytes-unowned", refused=False),
    p("P39 two end records", GOOD_BIN + GOOD_BIN[-22:], "archive-ambiguous"),
    p("P39 an archive after an archive", GOOD_BIN + GOOD_BIN, "archive-ambiguous"),
    p("P39 an end record in a comment", zipped(torch_zip(of(tensor())), comment=GOOD_BIN[-22:]), "archive-ambiguous"),
    p("P39 a comment", zipped(torch_zip(of(tensor())), comment=b"hello"), "archive-ambiguous"),
    p("P39 members that overlap", [Member("archive/data.pkl", of(tensor())), Member("archive/data/0", bytes(16), offset=0)],
      "archive-ambiguous"),
    p("P39 bytes between members and directory", zipped(torch_zip(of(tensor())), before_directory=b"hidden"), "archive-ambiguous"),
    p("P39 a member beyond the file", [Member("archive/data.pkl", of(tensor()), size=10**6, packed=10**6)], "archive-ambiguous"),
    p("P39 zip64 sizes that are not there", [Member("archive/data.pkl", of(tensor()), size=0xFFFFFFFF, packed=0xFFFFFFFF)], "archive-ambiguous"),
    p("P40 more members than the end record says", GOOD_BIN[:-14] + struct.pack("<HH", 1, 1) + GOOD_BIN[-10:], "archive-ambiguous", codes_only=False),
    *(p(f"P40 a member called {each[:20]!r}", [*torch_zip(of(tensor())), Member(each, b"")], "archive-ambiguous") for each in (
        "archive/../../x", "/etc/passwd", "archive\\x", "archive/\0", "C:/x", "a" * 60_000, b"\xff\xfe")),
    p("P41 a zip in a zip", [Member("archive/model.bin", GOOD_BIN)], "not-this-format", says=("ordinary zip",)),
    *(p(f"P41 {what} called .bin", mark + bytes(100), "not-this-format", says=(what,)) for what, mark in (
        ("7z", b"7z\xbc\xaf\x27\x1c"), ("rar", b"Rar!\x1a\x07\x01\0"), ("gzip", b"\x1f\x8b\x08"), ("zstd", b"\x28\xb5\x2f\xfd"),
        ("xz", b"\xfd7zXZ\0"), ("bzip2", b"BZh9"))),
    p("P42 a big-endian archive", in_zip(of(tensor()), byteorder=b"big"),
      "unsupported", says=("byte order",)),
    p("P42 a version of the future", in_zip(of(tensor()), version=b"99\n"), "unsupported"),
    *(p(f"P44 random bytes, seed {seed}", random.Random(seed).randbytes(3000), "not-this-format") for seed in range(3)),
    p("P44 a zip of arrays called .bin", [Member("a.npy", npy())], "wrong-extension", refused=False),
    p("P44 an array of objects", [Member("a.npy", npy("(1,)", "|O", b"\x80\x02}."))], "pickle-not-plain"),
    p("P44 an array whose header is code", [Member("a.npy", npy("(__import__('evil'),)"))], "malformed"),
    p("P44 an array of another size", [Member("a.npy", npy("(9, 9)"))], "size-mismatch"),
]  # fmt: skip

ROWS = S_ROWS + P_ROWS


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """All rows, run in one fenced process."""
    return outcomes(ROWS, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_bad_weights_file_is_named_and_harmless(row, answered):
    verify(row, answered[row.name])


# ------------------------------------------------------------------------------------------------ S48


class Changing:
    """A source over a folder whose file is changed on disk after its first bytes were read."""

    def __init__(self, source: Any, change: Callable[[], None]) -> None:
        self.inner, self.change = source, change
        self.label, self.flaws, self.size, self.names = source.label, source.flaws, source.size, source.names
        self.done = False

    def read(self, name: str, offset: int, length: int) -> bytes:
        data = self.inner.read(name, offset, length)
        if not self.done:
            self.done = True
            self.change()
        return data


def grow(path: Path) -> None:
    with path.open("ab") as out:
        out.write(b"more")


def replace(path: Path) -> None:
    copy = path.with_suffix(".new")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def link(path: Path) -> None:
    moved = path.with_suffix(".old")
    path.rename(moved)
    path.symlink_to(moved)


CHANGES = {"grows": grow, "shrinks": lambda path: os.truncate(path, path.stat().st_size - 4), "is replaced": replace,
           "becomes a link": link, "vanishes": Path.unlink}  # fmt: skip


@pytest.mark.parametrize("how", CHANGES)
def test_s48_a_file_that_changes_while_it_is_read_is_not_judged(how, tmp_path):
    from adapterfit.errors import CannotCheck
    from adapterfit.read.sources.folder import FolderSource
    from adapterfit.read.weights import read_weights

    path = tmp_path / ST
    path.write_bytes(GOOD_ST)
    source = Changing(FolderSource(tmp_path), lambda: CHANGES[how](path))
    with pytest.raises(CannotCheck, match="changed-while-reading"):
        read_weights(source, ST)
