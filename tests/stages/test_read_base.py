"""Stage 1, the base: what a folder, a single file, the Hub cache or a live model tells about it."""

from __future__ import annotations

import json
import os
import tarfile

import pytest

import adapterfit
from adapterfit.errors import CannotCheck
from adapterfit.read.base import read_base
from adapterfit.read.locate import base_in_cache, is_hub_id, locate
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.memory import MemorySource
from adapterfit.testing import make

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "vocab_size": 256}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def safetensors(shapes):
    """A safetensors file of zeros, F32."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        count = 4
        for size in shape:
            count *= size
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * offset


def index(weight_map, **more):
    """The bytes of a shard index."""
    return json.dumps({"metadata": {"total_size": 1}, **more, "weight_map": weight_map}).encode()


def sharded(**changes):
    """A sound base of two shards, with files replaced, or (None) taken away."""
    files = {
        "config.json": json.dumps(LLAMA).encode(),
        "model.safetensors.index.json": index({"a.weight": FIRST, "b.weight": SECOND}),
        FIRST: safetensors({"a.weight": (2, 3)}),
        SECOND: safetensors({"b.weight": (4,)}),
    }
    names = {"index": "model.safetensors.index.json", "config": "config.json", "first": FIRST, "second": SECOND}
    files.update({names.get(name, name): data for name, data in changes.items()})
    return {name: data for name, data in files.items() if data is not None}


def read(files):
    return read_base(MemorySource(files))


def codes(base):
    return [flaw.code for flaw in base.flaws]


def only(base, code):
    """The one flaw of a base, which has `code`."""
    assert codes(base) == [code]
    return base.flaws[0]


# ------------------------------------------------------------------------------------------------ sound bases


def test_a_sharded_base_is_read_from_its_headers():
    base = read(sharded())
    assert (base.model_type, base.architecture, base.complete, base.flaws) == ("llama", "LlamaForCausalLM", True, ())
    assert {name: (t.shape, t.file) for name, t in base.tensors.items()} == {
        "a.weight": ((2, 3), FIRST),
        "b.weight": ((4,), SECOND),
    }


def test_a_single_file_wins_over_an_index_beside_it_as_in_transformers():
    base = read(sharded(**{"model.safetensors": safetensors({"c": (1,)})}))
    assert list(base.tensors) == ["c"]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("model.fp16.safetensors", ["base-variant-only"]),
        ("diffusion_pytorch_model.safetensors", []),
        ("diffusion_pytorch_model.fp16.safetensors", []),
        ("anything.safetensors", []),
        ("consolidated.safetensors", []),
    ],
)
def test_weights_under_another_name_are_found(name, note):
    base = read({"config.json": json.dumps(LLAMA).encode(), name: safetensors({"a": (1,)})})
    assert (list(base.tensors), codes(base), base.complete) == (["a"], note, True)


def test_a_config_alone_says_what_it_can_and_no_weights_prove_nothing():
    base = read({"config.json": json.dumps(LLAMA).encode()})
    assert (base.model_type, dict(base.tensors), base.complete, base.flaws) == ("llama", {}, False, ())


def test_weights_alone_are_a_base_without_a_config():
    base = read({"model.safetensors": safetensors({"a": (1,)})})
    assert (base.config, base.config_file, base.complete, base.model_type) == (None, "", True, "")


def test_weights_of_an_adapter_beside_the_model_are_not_the_model():
    base = read(sharded(index=None, first=None, second=None, **{"adapter_model.safetensors": safetensors({"a": (1,)})}))
    assert not base.tensors


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ""),
        ({"quant_method": "gptq", "bits": 4}, "gptq-4bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes-8bit"),
        ({"load_in_4bit": True}, "bitsandbytes-4bit"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_algo": "NVFP4", "group_size": 16}, "modelopt-nvfp4"),
        ({"group_size": 64, "bits": 4}, "mlx-4bit"),
        ({"quant_method": "\x1b[2J", "bits": "4"}, "\\x1b[2J"),
        ([1], ""),
    ],
)
def test_packing_is_named(config, expected):
    assert read({"config.json": json.dumps({**LLAMA, "quantization_config": config}).encode()}).quantisation == expected


def test_packing_of_the_text_model_inside_counts():
    config = {"model_type": "llava", "text_config": {"quantization_config": {"quant_method": "awq", "bits": 4}}}
    assert read({"config.json": json.dumps(config).encode()}).quantisation == "awq-4bit"


def test_infinity_in_a_config_is_no_reason_to_refuse_it():
    """Mamba's `time_step_limit` is written so, and transformers reads it."""
    base = read({"config.json": b'{"model_type": "mamba2", "time_step_limit": [0.0, Infinity], "x": "NaN"}'})
    assert (base.config["time_step_limit"], base.config["x"], base.flaws) == ([0.0, None], "NaN", ())


def test_pytorch_shards_are_read_through_their_index(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.zeros(2, 3)}, tmp_path / "pytorch_model-00001-of-00001.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_bytes(index({"a.weight": "pytorch_model-00001-of-00001.bin"}))
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    base = read_base(FolderSource(tmp_path))
    assert (base.tensors["a.weight"].shape, base.complete, base.flaws) == ((2, 3), True, ())


def test_four_shards_of_hundreds_of_tensors_are_all_read(tmp_path):
    weight_map = {}
    for shard in range(4):
        name = f"model-0000{shard + 1}-of-00004.safetensors"
        shapes = {f"model.layers.{shard * 32 + n // 9}.self_attn.part{n % 9}.weight": (8, 8) for n in range(288)}
        (tmp_path / name).write_bytes(safetensors(shapes))
        weight_map.update(dict.fromkeys(shapes, name))
    (tmp_path / "model.safetensors.index.json").write_bytes(index(weight_map))
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    base = read_base(FolderSource(tmp_path))
    assert len(base.tensors) == len(weight_map) == 4 * 288


# ------------------------------------------------------------------------------------------------ damaged bases


@pytest.mark.parametrize(
    ("document", "code", "raised"),
    [
        (b"", "index-not-json", ""),
        (b"{", "index-not-json", ""),
        (b"[]", "index-not-json", "TypeError"),
        (b'{"metadata": {}}\n=======\n{"metadata": {}}', "index-not-json", "Extra data"),
        (b"<<<<<<< HEAD\n{}", "index-not-json", "Extra data"),
        (b'{"metadata": {}}', "index-without-weight-map", "KeyError: 'weight_map'"),
        (index({}), "index-without-weight-map", "IndexError: list index out of range"),
        (index([1]), "index-without-weight-map", "AttributeError: 'list' object has no attribute 'values'"),
        (index({"a": 5, "b.weight": SECOND}), "index-shard-not-a-name", "TypeError: '<' not supported"),
        (index({"a": None}), "index-shard-not-a-name", "TypeError: '<' not supported"),
        (
            json.dumps({"weight_map": {"a.weight": FIRST, "b.weight": SECOND}}).encode(),
            "index-metadata-missing",
            "KeyError",
        ),
        (index({"a.weight": FIRST, "b.weight": SECOND}, metadata=[]), "index-metadata-missing", "TypeError: list"),
    ],
)
def test_an_index_that_transformers_trips_over_is_named_with_its_error(document, code, raised):
    flaw = only(read(sharded(index=document)), code)
    assert (flaw.severity, flaw.predicted) == ("error", "raises")
    assert raised in flaw.raised


@pytest.mark.parametrize("total", ["-1", '"x"', "1" * 72, "1e300", "NaN"])
def test_an_absurd_total_size_is_a_note_because_nobody_looks_at_it(total):
    text = f'{{"metadata": {{"total_size": {total}}}, "weight_map": {{"a.weight": "{FIRST}", "b.weight": "{SECOND}"}}}}'
    base = read(sharded(index=text.encode()))
    assert only(base, "index-total-size").severity == "note"
    assert base.complete


@pytest.mark.parametrize(
    ("change", "code", "predicted", "severity"),
    [
        (
            {"index": index({"a.weight": FIRST, "b.weight": SECOND, "gone": FIRST})},
            "index-tensor-absent",
            "warns",
            "error",
        ),
        ({"index": index({"a.weight": SECOND, "b.weight": SECOND, "x": FIRST})}, None, None, None),
        ({"first": safetensors({"a.weight": (2, 3), "c": (1,)})}, "index-tensor-unlisted", "none", "note"),
        ({"second": safetensors({"b.weight": (4,), "a.weight": (2, 3)})}, "tensor-in-two-shards", "silent", "warning"),
        ({"second": safetensors({"b.weight": (4,), "a.weight": (9, 9)})}, "tensor-in-two-shards", "silent", "error"),
        (
            {
                "index": f'{{"weight_map": {{}}, "metadata": {{}}, "weight_map": {{"a.weight": "{FIRST}", "b.weight": "{SECOND}"}}}}'.encode()
            },
            "index-key-twice",
            "silent",
            "warning",
        ),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_read_all_the_same(change, code, predicted, severity):
    base = read(sharded(**change))
    assert base.complete
    if code:
        flaw = next(flaw for flaw in base.flaws if flaw.code == code)
        assert (flaw.predicted, flaw.severity, flaw.refused) == (predicted, severity, False)
    else:
        assert "index-tensor-elsewhere" in codes(base)


def test_of_two_shards_the_last_one_counts_as_in_transformers():
    base = read(sharded(second=safetensors({"b.weight": (4,), "a.weight": (9, 9)})))
    assert base.tensors["a.weight"].shape == (9, 9)


def test_a_missing_shard_leaves_the_base_incomplete():
    base = read(sharded(second=None))
    flaw = only(base, "base-shard-missing")
    assert "FileNotFoundError" in flaw.raised
    assert SECOND in flaw.message
    assert (list(base.tensors), base.complete) == (["a.weight"], False)


def test_an_index_without_any_shard_says_that_shapes_are_not_known():
    base = read(sharded(first=None, second=None))
    assert "none of its 2 shards" in only(base, "base-weights-not-there").message
    assert (dict(base.tensors), base.complete) == ({}, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n",
        b"<html>",
        b"\xff" * 99,
    ],
)
def test_a_shard_that_is_something_else_leaves_the_base_incomplete(data):
    base = read(sharded(second=data))
    assert not base.complete
    assert base.flaws[0].refused
    assert base.flaws[0].where == SECOND
    assert base.flaws[0].message.startswith("In the base: ")


def test_shards_without_an_index_are_read_and_the_index_is_missed():
    base = read(sharded(index=None))
    assert "OSError: Error no file named model.safetensors" in only(base, "base-index-missing").raised
    assert (len(base.tensors), base.complete) == (2, True)


def test_some_of_the_shards_without_an_index_are_not_all():
    base = read(sharded(index=None, second=None))
    assert len(base.tensors) == 1
    base = read(sharded(index=None, second=None, **{"model-00001-of-00003.safetensors": safetensors({})}))
    assert not base.complete


def test_several_unrelated_weight_files_are_not_guessed_between():
    base = read({"x.safetensors": safetensors({"a": (1,)}), "y.safetensors": safetensors({"b": (1,)})})
    assert only(base, "base-weights-unclear").severity == "warning"
    assert not base.tensors


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"model.gguf": b"GGUF" + b"\xff" * 40}, "gguf-not-supported-yet"),
        ({"model": b"GGUF" + b"\xff" * 40}, "gguf-not-supported-yet"),
        ({"config.json": json.dumps(LLAMA).encode(), "tf_model.h5": b"x"}, "base-format-unsupported"),
        ({"config.json": json.dumps(LLAMA).encode(), "consolidated.00.pth": b"x"}, "base-format-unsupported"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors({"a": (1,)})}, "base-is-adapter"),
        ({}, "base-empty"),
        ({"README.md": b"", "tokenizer.json": b"{}"}, "base-empty"),
        ({"README.md": b"", "model.safetensors": safetensors({"a": (1,)})}, "base-config-missing"),
        ({"adapter_config.json": b"{}", "config.json": json.dumps(LLAMA).encode()}, "base-holds-adapter"),
    ],
)
def test_what_is_no_base_is_named_as_what_it_is(files, code):
    only(read(files), code)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "blanks"),
        (b"{", "ends too early"),
        (b"[]", "holds a list"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"../../blobs/" + b"c3" * 20, "link into a Hub cache"),
    ],
)
def test_a_config_that_is_no_json_is_quoted_with_its_place(text, said):
    flaw = only(read({"config.json": text}), "base-config-not-json")
    assert said in flaw.message
    assert flaw.message.startswith("config.json of the base ")


def test_every_message_is_one_inert_line():
    evil = "\x1b[2J\n\u202e" + "x" * 500
    documents = [index({evil: evil}), index({evil: 5}), index({evil: FIRST, "a.weight": SECOND})]
    bases = [read(sharded(index=document)) for document in documents]
    bases.append(read(sharded(config=json.dumps({**LLAMA, "auto_map": {"A": evil}, "vocab_size": evil}).encode())))
    for flaw in (flaw for base in bases for flaw in base.flaws):
        assert (flaw.message + flaw.found + flaw.raised).isprintable()
        assert len(flaw.message) < 1200


# ------------------------------------------------------------------------------------------------ where a base is


def test_single_files_bring_what_belongs_to_them(tmp_path):
    for name, data in sharded(**{"other.txt": b""}).items():
        (tmp_path / name).write_bytes(data)
    assert locate(str(tmp_path / "config.json"), kind="base").names() == ("config.json",)
    assert locate(str(tmp_path / FIRST), kind="base").names() == ("config.json", FIRST)
    whole = locate(str(tmp_path / "model.safetensors.index.json"), kind="base")
    assert whole.names() == ("config.json", FIRST, SECOND, "model.safetensors.index.json")
    assert read_base(whole).complete


def test_a_single_file_without_a_config_beside_it_is_read_alone(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(safetensors({"a": (1,)}))
    (tmp_path / "n.safetensors").write_bytes(safetensors({"b": (1,)}))
    assert list(read_base(locate(str(tmp_path / "m.safetensors"), kind="base")).tensors) == ["a"]


def test_a_config_beside_an_adapter_file_belongs_to_it(tmp_path):
    for name in ("adapter_config.json", "adapter_model.safetensors", "config.json"):
        (tmp_path / name).write_bytes(b"{}")
    names = locate(str(tmp_path / "adapter_model.safetensors"), kind="adapter").names()
    assert names == ("adapter_config.json", "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("./nowhere", "no such file or folder"),
        ("/etc/nowhere/at/all", "no such file or folder"),
        ("a/b/c", "no such file or folder"),
        ("", "no such file or folder"),
        ("x" * 5000, "no such file or folder"),
        ("nul\0byte", "no such file or folder"),
        (
            "owner/name",
            "owner/name is not in the local Hub cache; add --online, or download it: hf download owner/name",
        ),
        ("hf://owner/name", "owner/name is not in the local Hub cache"),
        ("hf://owner/name@v1", "hf download owner/name --revision v1"),
        ("hf://", "not of the form"),
        ("hf://owner/name/../x", "not of the form"),
        ("hf://owner/name@../x", "not of the form"),
        ("hf://owner/name@--x", "not of the form"),
        ("hf://../..", "not of the form"),
    ],
)
def test_what_is_nowhere_is_said_in_one_line(word, said, tmp_path, monkeypatch):
    pretend_cache(tmp_path, monkeypatch)
    with pytest.raises(CannotCheck) as caught:
        locate(word, kind="base")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def pretend_cache(tmp_path, monkeypatch):
    """An empty Hub cache of this test alone."""
    from huggingface_hub import constants, file_download

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert file_download.constants is constants
    return cache


def cached(cache, repo="owner/name", files=None, ref="main"):
    """Put a repository into the cache, laid out as huggingface_hub does."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("ab" * 20)
    for number, (name, data) in enumerate((files or sharded()).items()):
        blob = folder / "blobs" / f"{number:064x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    (folder / "refs").mkdir()
    (folder / "refs" / ref).write_text("ab" * 20)
    return snapshot


@pytest.mark.parametrize(
    "word", ["owner/name", "hf://owner/name", "hf://owner/name@main", "hf://owner/name@" + "ab" * 20]
)
def test_an_id_is_looked_up_in_the_cache_with_its_revision(word, tmp_path, monkeypatch):
    cached(pretend_cache(tmp_path, monkeypatch))
    base = read_base(locate(word, kind="base"))
    assert (base.complete, base.revision, base.flaws) == (True, "ab" * 20, ())


def test_the_oldest_models_have_one_word_for_an_id(tmp_path, monkeypatch):
    cached(pretend_cache(tmp_path, monkeypatch), "gpt2")
    assert read_base(locate("gpt2", kind="base")).complete


def test_a_folder_of_a_cached_repository_is_a_base_of_its_own(tmp_path, monkeypatch):
    cached(
        pretend_cache(tmp_path, monkeypatch), files={f"text_encoder/{name}": data for name, data in sharded().items()}
    )
    assert read_base(locate("hf://owner/name/text_encoder", kind="base")).complete
    with pytest.raises(CannotCheck, match="not in the local Hub cache"):
        locate("hf://owner/name/nowhere", kind="base")


def test_the_folder_of_a_repository_in_the_cache_stands_for_its_one_snapshot(tmp_path, monkeypatch):
    snapshot = cached(pretend_cache(tmp_path, monkeypatch))
    assert read_base(locate(str(snapshot.parents[1]), kind="base")).revision == "ab" * 20
    (snapshot.parent / ("cd" * 20)).mkdir()
    with pytest.raises(CannotCheck, match="2 snapshots: name one"):
        locate(str(snapshot.parents[1]), kind="base")


def test_a_path_wins_over_an_id(tmp_path, monkeypatch):
    cached(pretend_cache(tmp_path, monkeypatch))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name", kind="base").names() == ()


@pytest.mark.parametrize(
    "name",
    ["/etc", "../..", "~", "~/x", "C:\\x", "\\\\host\\share", "file:///etc", "http://169.254.169.254/x", "a/b/c", ".", "..",
     "owner/..", "a--b/c", "owner/name.git", "", "x" * 200, "owner/na me", "owner/name\n", None, 5, ["owner/name"], "./name"],
)  # fmt: skip
def test_a_recorded_base_that_is_no_id_is_never_looked_up(name, tmp_path, monkeypatch):
    cached(pretend_cache(tmp_path, monkeypatch))
    assert base_in_cache(name) is None


@pytest.mark.parametrize("revision", ["../../../secret", "/etc/passwd", "--x", "", 5, "a\0b", "x/", "a" * 300])
def test_a_recorded_revision_never_becomes_a_path(revision, tmp_path, monkeypatch):
    cache = pretend_cache(tmp_path, monkeypatch)
    cached(cache)
    (tmp_path / "secret").write_text("ab" * 20)
    assert base_in_cache("owner/name", revision) is None or revision == ""


def test_a_recorded_base_is_found_in_the_cache(tmp_path, monkeypatch):
    cached(pretend_cache(tmp_path, monkeypatch))
    assert read_base(base_in_cache("owner/name", "main")).complete
    assert base_in_cache("owner/name", "v2") is None
    assert base_in_cache("owner/other") is None


def test_a_cache_entry_of_the_tokenizer_alone_is_no_base(tmp_path, monkeypatch):
    cached(pretend_cache(tmp_path, monkeypatch), files={"tokenizer_config.json": b"{}"})
    assert base_in_cache("owner/name") is None


def test_ids_are_told_by_the_rule_of_the_hub():
    validate = pytest.importorskip("huggingface_hub.utils").validate_repo_id
    for name in (
        "gpt2",
        "a/b",
        "meta-llama/Llama-3.1-8B",
        "a_b/c.d",
        "a--b/c",
        "a/b.git",
        "a/b/c",
        "-a/b",
        "a/b-",
        "a..b/c",
    ):
        try:
            validate(name)
            allowed = True
        except ValueError:
            allowed = False
        assert is_hub_id(name) == allowed, name


# ------------------------------------------------------------------------------------------------ real bases

UNREADABLE = {
    "amansingh61__bloom__model.safetensors.index.json": "index-not-json",
    "ollama__ollama__convert_testdata_Nvidia-Model.json": "base-config-not-json",
    "yushika-j__VulRepair__t5-base_config.json": "base-config-not-json",
}


@pytest.mark.corpus
def test_real_configs_and_indexes_are_read_as_what_they_are(shared):
    folder = shared / "data" / "corpus" / "bases"
    rows = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    assert len(rows) == 181
    for row in rows:
        base = read_base(locate(str(folder / row["file"]), kind="base"))
        if row["file"] in UNREADABLE:
            assert codes(base) == [UNREADABLE[row["file"]]], row["file"]
        elif row["kind"] == "config":
            assert base.model_type == (row["model_type"] or ""), row["file"]
            assert not [flaw for flaw in base.flaws if flaw.severity == "error"], row["file"]
        else:
            assert not [flaw for flaw in base.flaws if flaw.severity == "error"], row["file"]


@pytest.mark.corpus
def test_the_tiny_bases_are_read_whole(shared, tmp_path):
    with tarfile.open(shared / "data" / "matrix" / "bases.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folders = sorted((tmp_path / "bases").iterdir())
    assert len(folders) >= 12
    for folder in folders:
        base = read_base(locate(str(folder), kind="base"))
        assert base.complete, folder.name
        assert base.flaws == (), folder.name
        assert len(base.tensors) >= 20
        assert base.model_type


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "no config.json that names its model type"),
        ({"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}'}, '"StableDiffusionPipeline" of diffusers'),
        ({"base.gguf": b"GGUF" + bytes(20)}, "no config.json that names its model type"),
    ],
    ids=["an empty folder", "a pipeline of diffusers", "a GGUF file"],
)
def test_of_a_base_without_a_known_module_no_cause_says_what_it_lacks(files, why):
    sample = make.base_folder(files)
    found = adapterfit.check(sample.adapter, base=sample.case.base)
    assert found.verdict == "cannot-tell"
    assert {finding.id for finding in found.findings} <= {"base-weights-unread"}
    assert why in found.not_checked[0].why
