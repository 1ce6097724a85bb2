"""Rows B of the bad inputs, and the rows D that concern a base's folder: fenced, timed, and run twice."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import pytest
from harness import Row, outcomes, verify

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "vocab_size": 256}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
SECRET = "SECRET-OUTSIDE"


def safetensors(*names):
    """A safetensors file of one number per tensor."""
    header = {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * (4 * len(names))


def index(weight_map, **more):
    return json.dumps({"metadata": {}, **more, "weight_map": weight_map}).encode()


def sound():
    return {
        "config.json": json.dumps(LLAMA).encode(),
        INDEX: index({"a": FIRST, "b": SECOND}),
        FIRST: safetensors("a"),
        SECOND: safetensors("b"),
    }


def files(changes=(), **config):
    """A builder: a sound base with files replaced (None: left out), and fields of its config."""

    def build(folder):
        (folder.parent / "outside.safetensors").write_bytes(safetensors(SECRET))
        made = {**sound(), **dict(changes)}
        if config:
            made["config.json"] = json.dumps({**LLAMA, **config}).encode()
        for name, data in made.items():
            if data is not None:
                (folder / name).write_bytes(data)

    return build


def with_act(act, changes=()):
    """A builder: a sound base on which something is done."""

    def build(folder):
        files(changes)(folder)
        act(folder)

    return build


def row(name, build, due=(), refused=False, **more):
    return Row(name, build, tuple(due), refused, action="base", **more)


# ------------------------------------------------------------------------------------------------ B01

ESCAPES = [
    "../../x.safetensors",
    "../outside.safetensors",
    "/abs/x.safetensors",
    "/etc/passwd",
    "a/../b.safetensors",
    "sub/x.safetensors",
    "C:\\x.safetensors",
    "C:x.safetensors",
    "\\\\host\\share\\x.safetensors",
    "..\\x.safetensors",
    "x\0.safetensors",
    "x\n.safetensors",
    "con.safetensors",
    "NUL.safetensors",
    "..",
    ".",
    "",
    "config.json",
    "x.bin",
    "x" * 300 + ".safetensors",
]


def link_out(folder):
    (folder / FIRST).unlink()
    (folder / FIRST).symlink_to(folder.parent / "outside.safetensors")


def in_hub_cache(folder):
    """The layout of the Hub cache, the row's folder being the repository."""
    snapshot = folder / "snapshots" / ("ab" * 20)
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    for number, (name, data) in enumerate(sound().items()):
        (folder / "blobs" / f"{number:064x}").write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{number:064x}")


B01 = [
    *(
        row(
            f"shard called {shard[:30]!r}",
            files({INDEX: index({"a": shard, "b": SECOND})}),
            ["shard-path-escapes"],
            True,
        )
        for shard in ESCAPES
    ),
    row(
        "every shard escapes",
        files({INDEX: index({"a": "../x.safetensors", "b": "/x.safetensors"})}),
        ["shard-path-escapes"],
        True,
    ),
    row("a shard is a link out of the folder", with_act(link_out), ["path-escapes", "base-shard-missing"], True),
    Row("shards are links of the Hub cache", in_hub_cache, (), False, action="snapshot"),
]

# ------------------------------------------------------------------------------------------------ B02, B03


def many(folder):
    files({INDEX: index({f"t{i}": f"m-{i}.safetensors" for i in range(200_000)})})(folder)


def fifo(folder):
    (folder / SECOND).unlink()
    os.mkfifo(folder / SECOND)


def directory(folder):
    (folder / SECOND).unlink()
    (folder / SECOND).mkdir()


def unix_socket(folder):
    (folder / SECOND).unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(folder)
        sock.bind(SECOND)
        os.chdir(here)


CONFLICT = index({"a": FIRST}) + b"\n=======\n" + index({"a": FIRST})
B02 = [
    row("200,000 shards", many, ["over-limit"], True),
    row("an index of 65 MB", files({INDEX: b" " * (65 << 20)}), ["over-limit"], True),
    row("an index of 64 MB of blanks", files({INDEX: b" " * (64 << 20)}), ["index-not-json"], True),
    row("a shard missing", files({SECOND: None}), ["base-shard-missing"], True),
    row("all shards missing", files({FIRST: None, SECOND: None}), ["base-weights-not-there"], True),
    row("a shard is a FIFO", with_act(fifo), ["not-a-regular-file", "base-shard-missing"], True, seconds=1.0),
    row("a shard is a socket", with_act(unix_socket), ["not-a-regular-file", "base-shard-missing"], True),
    row("a shard is a folder", with_act(directory), ["base-shard-missing"], True),
    row("the index is empty", files({INDEX: b""}), ["index-not-json"], True),
    row("the index is a page", files({INDEX: b"<html>404</html>"}), ["index-not-json"], True),
    row("the index holds a merge conflict", files({INDEX: CONFLICT}), ["index-not-json"], True, says=("merge conflict",)),
    row("the index is a list", files({INDEX: b"[]"}), ["index-not-json"], True),
    row("the index is 100,000 brackets", files({INDEX: b"[" * 100_000}), ["index-not-json"], True),
    row("the index is nested tables", files({INDEX: b'{"weight_map":' * 5000}), ["index-not-json"], True),
    row("the index is UTF-16", files({INDEX: index({"a": FIRST}).decode().encode("utf-16")}), ["index-not-json"], True),
    row("the index holds half a character", files({INDEX: b'{"weight_map": {"\\ud800": "x.safetensors"}}'}), ["index-not-json"], True),
    row("a shard is a number", files({INDEX: index({"a": 5, "b": SECOND})}), ["index-shard-not-a-name"], True),
    row("a shard is a list", files({INDEX: index({"a": [FIRST], "b": SECOND})}), ["index-shard-not-a-name"], True),
    row("the weight map is a list", files({INDEX: index(["a"])}), ["index-without-weight-map"], True),
    row("the total is of 72 digits", files({INDEX: index({"a": FIRST, "b": SECOND}).replace(b"{}", b'{"total_size": ' + b"9" * 72 + b"}")}), ["index-total-size"]),
    row("the total is of 5,000 digits", files({INDEX: index({"a": FIRST, "b": SECOND}).replace(b"{}", b'{"total_size": ' + b"9" * 5000 + b"}")}), ["index-total-size"]),
    row("a shard is an LFS pointer", files({SECOND: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"}), refused=True, codes_only=False),
    row("a shard is cut", files({SECOND: safetensors("b")[:-2]}), ["truncated-file"], True),
]  # fmt: skip

B03 = [
    row("listed, in no shard", files({INDEX: index({"a": FIRST, "b": SECOND, "c": SECOND})}), ["index-tensor-absent"]),
    row("in two shards", files({SECOND: safetensors("b", "a")}), ["tensor-in-two-shards", "index-tensor-elsewhere"]),
    row("in a shard, not listed", files({SECOND: safetensors("b", "c")}), ["index-tensor-unlisted"]),
    row("listed for the other shard", files({INDEX: index({"a": SECOND, "b": FIRST})}), ["index-tensor-elsewhere"]),
    row(
        "hostile names",
        files({INDEX: index({"\x1b[2J\u202e": FIRST, "{0.__class__}": SECOND, "a": FIRST, "b": SECOND})}),
        ["index-tensor-absent"],
    ),
]

# ------------------------------------------------------------------------------------------------ B04 … B06

IMPLAUSIBLE = [
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": -1},
    {"vocab_size": 10**15},
    {"vocab_size": -1},
    {"num_attention_heads": 0},
    {"num_attention_heads": -4},
    {"num_attention_heads": "4"},
    {"num_attention_heads": 4.5},
    {"hidden_size": True},
    {"hidden_size": {}},
    {"text_config": {"num_hidden_layers": 10**30}},
]
B04 = [
    *(row(f"config says {fields}", files(**fields), ["base-config-implausible"], True) for fields in IMPLAUSIBLE),
    row(
        "a number of 5,000 digits",
        files({"config.json": b'{"model_type": "llama", "vocab_size": ' + b"9" * 5000 + b"}"}),
        ["base-config-implausible"],
    ),
]
B05 = [
    row("auto_map", files(auto_map={"AutoModel": "evil.run"}), ["base-runs-code"]),
    row("auto_map is a list", files(auto_map=["evil"]), ["base-runs-code"]),
    row("auto_map with control characters", files(auto_map={"A": "\x1b]8;;x\x07"}), ["base-runs-code"]),
    row("a kernel", files(_attn_implementation_internal="evil/evil"), ["base-runs-code"], says=("CVE-2026-4372",)),
    row("model_type is a module", files(model_type="evil", architectures=["evil.run"]), []),
]
B06 = [
    row("no model_type", files({"config.json": b"{}"}), ["base-model-type-missing"]),
    row("unknown model_type", files(model_type="nobody-knows"), []),
    row("model_type is a path", files(model_type="../../evil"), []),
    row("config is a list", files({"config.json": b"[]"}), ["base-config-not-json"], True),
    row("config is 2 MB", files({"config.json": b" " * (2 << 20)}), ["over-limit"], True),
    row("config is deep", files({"config.json": b'{"a":' * 50_000}), ["base-config-not-json"], True),
    row(
        "config nests configs", files({"config.json": b'{"model_type": "x", ' + b'"a_config": {' * 90 + b"}" * 91}), []
    ),
    row("a key twice", files({"config.json": b'{"model_type": "a", "model_type": "b"}'}), ["base-config-key-twice"]),
]

# ------------------------------------------------------------------------------------------------ B07 … B09


def gguf(*parts):
    return {"model.gguf": b"GGUF" + b"".join(parts), INDEX: None, FIRST: None, SECOND: None}


def jinja(payload):
    return json.dumps({"chat_template": payload}).encode()


def large_tokenizer(folder):
    files()(folder)
    with (folder / "tokenizer.json").open("wb") as file:
        file.write(b'{"model": {"vocab": {')
        file.truncate(500 << 20)


PAYLOAD = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% import 'evil' as e %}"
HUGE = struct.pack("<Q", 2**63)
B07 = [
    row(
        "GGUF: string of 2**63 bytes", files(gguf(struct.pack("<IQQ", 3, 1, 1), HUGE)), ["gguf-not-supported-yet"], True
    ),
    row("GGUF: 2**60 keys", files(gguf(struct.pack("<IQQ", 3, 1, 2**60))), ["gguf-not-supported-yet"], True),
    row("GGUF: 2**31 dimensions", files(gguf(struct.pack("<IQQI", 3, 1, 0, 2**31))), ["gguf-not-supported-yet"], True),
    row("GGUF: magic only", files(gguf()), ["gguf-not-supported-yet"], True),
    row("GGUF: a template in it", files(gguf(PAYLOAD.encode())), ["gguf-not-supported-yet"], True),
    row("GGUF by its name only", files({**gguf(), "model.gguf": b""}), ["gguf-not-supported-yet"], True),
    row("GGUF called model.safetensors", files({"model.safetensors": b"GGUF" + HUGE}), refused=True, codes_only=False),
    row(
        "a chat template", files({"tokenizer_config.json": jinja(PAYLOAD), "chat_template.jinja": PAYLOAD.encode()}), []
    ),
    row("a tokenizer.json of 500 MB", large_tokenizer, [], seconds=1.0),
]

# ------------------------------------------------------------------------------------------------ D


def device_link(name, target):
    def act(folder):
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return with_act(act)


def strange_names(folder):
    files()(folder)
    for name in (b"a\nb", b"\x1b[2J.safetensors", b"\xff\xfe.bin", b"-rf", b"=1+1", b"x" * 255):
        (folder / os.fsdecode(name)).touch()


def loop(folder):
    (folder / SECOND).unlink()
    (folder / SECOND).symlink_to(SECOND)


def cycle(folder):
    (folder / "again").symlink_to(".")


def deep(folder):
    path = folder
    for _ in range(50):
        path = path / "d"
        path.mkdir()


def crowd(folder):
    (folder / "many").mkdir()
    for number in range(20_100):
        (folder / "many" / str(number)).touch()


D = [
    row("config is /dev/zero", device_link("config.json", "/dev/zero"), codes_only=False, refused=True, seconds=1.0),
    row("config is /etc/passwd", device_link("config.json", "/etc/passwd"), ["path-escapes", "base-config-missing"], True),
    row("the index is /proc/self/mem", device_link(INDEX, "/proc/self/mem"), codes_only=False, refused=True, seconds=1.0),
    row("a shard is a dangling link", device_link(SECOND, "nowhere"), ["dangling-link", "base-shard-missing"], True),
    row("a shard is a link to itself", with_act(loop), ["base-shard-missing"], True, codes_only=False),
    row("a link to the folder itself", with_act(cycle), codes_only=False),
    row("strange file names", strange_names, []),
    row("folders 50 deep", with_act(deep), ["over-limit"]),
    row("20,100 files", with_act(crowd), ["over-limit"]),
    row("an archive beside it", files({"model.zip": b"PK\3\4", "x.tar": b"x"}), []),
    row("pickles beside it", files({"training_args.bin": b"cevil\nrun\n.", "optimizer.pt": b"cevil\nrun\n."}), []),
    row("a pickle for a base", files({INDEX: None, FIRST: None, SECOND: None, "pytorch_model.bin": b"cevil\nrun\n(tR."}), codes_only=False, refused=True),
    row("an empty folder", lambda folder: None, ["base-empty"], True),
]  # fmt: skip

ROWS = [*B01, *B02, *B03, *B04, *B05, *B06, *B07, *D]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return outcomes(ROWS, tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("each", ROWS, ids=lambda each: ascii(each.name).strip("'"))
def test_row(each, answers):
    verify(each, answers[each.name])
    assert SECRET not in str(answers[each.name])


def test_tensors_of_sound_shards_are_still_read_beside_an_escaping_one(answers):
    facts = answers["shard called '../outside.safetensors'"].facts
    assert facts["tensors"] == ["'b'"]
    assert not facts["complete"]


def test_links_of_the_hub_cache_are_followed(answers):
    assert answers["shards are links of the Hub cache"].facts["complete"]
