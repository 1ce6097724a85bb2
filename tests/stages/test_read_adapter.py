"""Reading an adapter's folder: what PEFT would load, what kind of thing it is, whose names it holds, its numbers."""

import json
import struct
import warnings

import pytest

import adapterfit
import shared_data
from adapterfit import limits
from adapterfit.discover import members
from adapterfit.read.adapter import dialect_of, read_adapter
from adapterfit.read.locate import locate
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.memory import MemorySource
from adapterfit.read.tokenizer import tokenizer_rows
from adapterfit.read.values import summary
from adapterfit.records import TensorInfo
from adapterfit.testing import make

CONFIG, WEIGHTS, BIN = make.CONFIG, make.WEIGHTS, "adapter_model.bin"
GOOD = make.as_files(make.lora("llama"))
CONF, DATA = GOOD[CONFIG], GOOD[WEIGHTS]
MERGED = make.safetensors({"model.embed_tokens.weight": ("F32", (8, 4))})


def read(files, label="folder"):
    return read_adapter(MemorySource(files, label=label))


def codes(adapter):
    return [flaw.code for flaw in adapter.flaws]


# ------------------------------------------------------------------------------------------------- layouts


def test_a_whole_adapter_is_read_without_a_flaw():
    adapter = read({**GOOD, "README.md": b"x"})
    assert adapter.flaws == ()
    assert adapter.layout == "peft"
    assert adapter.weights.file == WEIGHTS
    assert len(adapter.tensors) == len(make.lora("llama").names)
    assert {entry.name: entry.size for entry in adapter.files}["README.md"] == 1


LAYOUTS = {
    "a whole adapter": (GOOD, "peft", []),
    "nothing": ({}, "empty", ["adapter-config-missing"]),
    "weights alone": ({WEIGHTS: DATA}, "weights-only", ["adapter-config-missing"]),
    "a config alone": ({CONFIG: CONF}, "config-only", ["weights-file-missing"]),
    "mlx-lm": (
        {
            CONFIG: b'{"fine_tune_type": "lora"}',
            "adapters.safetensors": make.safetensors({"a.lora_a": ("F32", (4, 4))}),
        },
        "mlx",
        [],
    ),
    "AdapterHub": ({CONFIG: b'{"config": {}, "model_class": "Bert"}', "pytorch_adapter.bin": b""}, "adapterhub", []),
    "diffusers": ({"pytorch_lora_weights.safetensors": DATA}, "diffusers", ["adapter-config-missing"]),
    "a merged model": ({"config.json": b"{}", "model.safetensors": MERGED}, "merged-model", ["merged-model-folder"]),
    "a sharded model": (
        {"config.json": b"{}", "model-00001-of-00002.safetensors": MERGED, "model.safetensors.index.json": b"{}"},
        "merged-model",
        ["merged-model-folder"],
    ),
    "a trainer's checkpoint": (
        {"pytorch_model.bin": b"", "trainer_state.json": b"{}", "optimizer.pt": b""},
        "trainer-checkpoint",
        ["trainer-checkpoint", "extra-pickles"],
    ),
    "DeepSpeed's checkpoint": (
        {"global_step7/mp_rank_00_model_states.pt": b"", "zero_to_fp32.py": b""},
        "trainer-checkpoint",
        ["trainer-checkpoint"],
    ),
    "something else": ({"notes.txt": b""}, "other", ["adapter-config-missing"]),
    "a doubled ending": ({"adapter_config.json.json": CONF, WEIGHTS: DATA}, "weights-only", ["wrong-file-in-folder"]),
    "a browser's duplicates": (
        {"adapter_config (5).json": CONF, "adapter_model (5).bin": b""},
        "other",
        ["wrong-file-in-folder"],
    ),
    "a split file": (
        {CONFIG: CONF, f"{WEIGHTS}.partaa": b"", f"{WEIGHTS}.partab": b""},
        "config-only",
        ["wrong-file-in-folder"],
    ),
    "shards": (
        {CONFIG: CONF, "adapter_model-00001-of-00002.safetensors": DATA},
        "config-only",
        ["wrong-file-in-folder"],
    ),
    "an archive": ({"adapter.zip": b"PK"}, "other", ["adapter-config-missing"]),
    "a named adapter": ({f"english/{name}": data for name, data in GOOD.items()}, "other", ["adapter-in-subfolder"]),
    "weights below the config": ({CONFIG: CONF, f"x/{WEIGHTS}": DATA}, "config-only", ["adapter-in-subfolder"]),
    "a model beside it": (
        {**GOOD, "config.json": b"{}", "model.safetensors": DATA},
        "peft",
        ["adapter-and-model-in-one-folder"],
    ),
    "stale weights beside it": ({**GOOD, BIN: b"stale"}, "peft", ["two-weights-disagree"]),
    "a copy beside it": ({**GOOD, "adapter_config (1).json": CONF}, "peft", ["wrong-file-in-folder"]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognised(name):
    files, layout, due = LAYOUTS[name]
    adapter = read(files)
    assert (adapter.layout, codes(adapter)) == (layout, due)


def test_the_last_checkpoint_is_the_one_to_pass():
    adapter = read({f"checkpoint-{step}/{name}": data for step in (3, 20, 100) for name, data in GOOD.items()})
    assert "checkpoint-100" in adapter.flaws[0].remedy


def test_a_subfolder_is_named_in_the_remedy():
    adapter = read({f"english/{name}": data for name, data in GOOD.items()})
    assert '"english"' in adapter.flaws[0].remedy


def test_safetensors_are_taken_before_bin_as_peft_does():
    assert read({**GOOD, BIN: b"x"}).weights.file == WEIGHTS
    assert read({CONFIG: CONF, BIN: b"x"}).weights.file == BIN


def test_two_weights_that_agree_are_no_flaw():
    adapter = read({**GOOD, BIN: DATA})
    assert [other.file for other in adapter.others] == [BIN]
    assert codes(adapter) == []


def test_weights_that_differ_name_the_tensors_that_do():
    plain = make.lora("llama")
    changed = plain.reshaped(lambda name: "layers.1.self_attn.q_proj.lora_A" in name, lambda shape: (8, shape[1]))
    other = make.as_files(changed)[WEIGHTS]
    flaw = read({**GOOD, BIN: other}).flaws[0]
    assert (flaw.code, flaw.severity, flaw.predicted) == ("two-weights-disagree", "warning", "silent")
    assert "layers.1.self_attn.q_proj.lora_A" in flaw.message


def test_the_loader_never_looks_for_weights_where_the_config_stops_it():
    files = {CONFIG: make.config_json(r=0)}
    flaw = read(files).flaws[0]
    assert (flaw.code, flaw.predicted, flaw.raised) == ("weights-file-missing", "none", "")


# -------------------------------------------------------------------------------------------- single files


def test_a_weights_file_given_itself_takes_the_config_beside_it(tmp_path):
    (tmp_path / CONFIG).write_bytes(CONF)
    (tmp_path / "mine.safetensors").write_bytes(DATA)
    (tmp_path / "other.safetensors").write_bytes(b"")
    adapter = read_adapter(locate(str(tmp_path / "mine.safetensors"), kind="adapter"))
    assert (adapter.weights.file, adapter.layout) == ("mine.safetensors", "peft")
    assert adapter.config.known
    assert adapter.flaws == ()


def test_a_weights_file_given_itself_without_a_config(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(DATA)
    adapter = read_adapter(locate(str(tmp_path / "mine.safetensors"), kind="adapter"))
    assert (adapter.layout, codes(adapter)) == ("weights-only", ["adapter-config-missing"])
    assert len(adapter.tensors) == len(make.lora("llama").names)


def test_in_a_folder_a_file_of_another_name_is_not_what_peft_loads(tmp_path):
    (tmp_path / CONFIG).write_bytes(CONF)
    (tmp_path / "mine.safetensors").write_bytes(DATA)
    adapter = read_adapter(FolderSource(tmp_path))
    assert adapter.weights is None
    assert codes(adapter) == ["wrong-file-in-folder"]


# ------------------------------------------------------------------------------------------------ dialects

NAMES = {
    "peft": ["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"],
    "transformers": ["model.layers.0.self_attn.q_proj.lora_A.weight", "score.weight"],
    "kohya": ["lora_unet_down_blocks_0_attentions_0_to_q.lora_down.weight", "lora_te_text_model_encoder.alpha"],
    "diffusers": ["unet.down_blocks.0.attentions.0.to_k.lora.down.weight"],
    "lora_diffusion": ["unet:0:up", "unet:0:down", "<s1>"],
    "mlx": ["model.layers.0.self_attn.q_proj.lora_a", "model.layers.0.self_attn.q_proj.lora_b"],
    "torchtune": ["layers.0.attn.q_proj.lora_a.weight"],
    "nemo": ["model.decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight"],
    "llama_cpp": ["blk.0.attn_q.weight.lora_a"],
    "adapterhub": ["bert.encoder.layer.0.attention.self.query.loras.sst.lora_A"],
}


def test_every_dialect_has_an_example():
    assert set(NAMES) == set(members("adapterfit.read.dialects"))


@pytest.mark.parametrize("name", NAMES)
def test_one_dialect_claims_its_names_and_no_other_does(name):
    claimed = [other for other, member in members("adapterfit.read.dialects").items() if member.claims(NAMES[name])]
    assert claimed == [name]


@pytest.mark.parametrize(
    "names", [[], ["w_a_000"], ["model.layers.0.mlp.weight"], ["prompt_encoder.embedding.weight"]], ids=str
)
def test_names_of_no_dialect_are_claimed_by_none(names):
    assert dialect_of(tuple(TensorInfo(name, "F32", (1,)) for name in names)) == ""


@pytest.mark.parametrize("name", ["kohya", "diffusers", "mlx", "nemo"])
def test_foreign_names_decide_the_layout(name):
    data = make.safetensors(dict.fromkeys(NAMES[name], ("F32", (4, 4))))
    assert read({CONFIG: CONF, WEIGHTS: data}).layout == name


@pytest.mark.corpus
def test_every_real_weights_file_that_peft_wrote_speaks_peft():
    rows = [
        json.loads(line) for line in (shared_data.need(shared_data.CORPUS) / "pairs.jsonl").read_text().splitlines()
    ]
    keys = shared_data.CORPUS / "weights" / "keys"
    for row in rows:
        path = keys / f"{row['weights']}.keys.json"
        if row["label"] != "ok" or not path.exists():
            continue
        names = json.loads(path.read_text())
        assert dialect_of(tuple(TensorInfo(name, "F32", ()) for name in names)) == "peft", row["weights"]


# --------------------------------------------------------------------------------------------------- tokens


def tokens(**files):
    names = {"tokenizer": "tokenizer.json", "added": "added_tokens.json"}
    return tokenizer_rows(MemorySource({names[key]: json.dumps(value).encode() for key, value in files.items()}))


def tokenizer(words, added=()):
    return {"added_tokens": [{"id": each, "content": f"<{each}>"} for each in added], "model": {"vocab": words}}


def test_words_and_added_tokens_are_counted_once():
    assert tokens(tokenizer=tokenizer({'a"{': 0, "b\\": 1, "c": 2}, added=(2, 3))) == 4


def test_pieces_of_a_unigram_model_are_counted():
    assert tokens(tokenizer=tokenizer([["a", -1.5], ["]", -2.0]], added=(2,))) == 3


def test_added_tokens_alone_tell_the_last_row():
    assert tokens(added={"[PAD]": 32000}) == 32001


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer": {"model": {}}},
        {"tokenizer": tokenizer({"a": 0, "b": 7})},
        {"tokenizer": tokenizer({"a": "x"})},
        {"tokenizer": tokenizer({"a": 0}), "added": {"new": 5}},
        {"added": {"x": -1}},
        {"added": []},
    ],
    ids=str,
)
def test_what_is_ambiguous_is_not_counted(files):
    assert tokens(**files) is None


def test_a_huge_tokenizer_is_sized_and_not_read():
    class Huge(MemorySource):
        def size(self, name):
            return limits.TOKENIZER_BYTES + 1

        def read(self, name, offset, length):
            raise AssertionError("it was read")

    assert tokenizer_rows(Huge({"tokenizer.json": b""})) is None


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_count_is_len_of_the_real_tokenizer(kind):
    tokenizers = pytest.importorskip("tokenizers")
    models = tokenizers.models
    model = (
        models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])
        if kind == "bpe"
        else models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0)
    )
    real = tokenizers.Tokenizer(model)
    real.add_special_tokens(["<s>", "a"])
    assert tokenizer_rows(MemorySource({"tokenizer.json": real.to_str(pretty=True).encode()})) == real.get_vocab_size()


# --------------------------------------------------------------------------------------------------- values


def summed(dtype, data, span=True):
    return summary(MemorySource({"f": data}), TensorInfo("t", dtype, (1,), "f", (0, len(data)) if span else None))


def test_numbers_are_summed_up():
    found = summed("F32", struct.pack("<6f", 3.0, -4.0, 0.0, float("nan"), float("inf"), -0.0))
    assert (found.count, found.not_finite, found.zeros, found.largest, found.norm) == (6, 2, 2, 4.0, 5.0)


@pytest.mark.parametrize(
    ("dtype", "data", "largest"),
    [
        ("F16", struct.pack("<2e", 1.5, -2.0), 2.0),
        ("F64", struct.pack("<2d", 1e200, -1.0), 1e200),
        ("BF16", b"\x80\x3f\x00\xc0", 2.0),
        ("F8_E4M3", bytes((0x38, 0xC0, 0x01)), 2.0),
        ("F8_E5M2", bytes((0x3C, 0xC0)), 2.0),
        ("I64", struct.pack("<2q", 3, -7), 7.0),
        ("U8", bytes((3, 200)), 200.0),
    ],
)
def test_every_type_of_number_is_decoded(dtype, data, largest):
    assert summed(dtype, data).largest == largest


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F16"])
def test_decoding_agrees_with_torch_for_every_bit_pattern(dtype):
    torch = pytest.importorskip("torch")
    kind = {"BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}[
        dtype
    ]
    wide = dtype in ("BF16", "F16")
    data = b"".join(struct.pack("<H" if wide else "<B", code) for code in range(65_536 if wide else 256))
    real = torch.frombuffer(bytearray(data), dtype=kind).to(torch.float64)
    good = real[torch.isfinite(real)]
    found = summed(dtype, data)
    assert (found.count, found.not_finite) == (len(real), len(real) - len(good))
    assert found.zeros == int((good == 0).sum())
    assert found.largest == float(good.abs().max())


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (TensorInfo("t", "F32", (1,), "f", None), "one piece"),
        (TensorInfo("t", "F4", (1,), "f", (0, 4)), "F4"),
        (TensorInfo("t", "F32", (1,), "f", (0, limits.VALUE_BYTES + 1)), "are read"),
        (TensorInfo("t", "F32", (1,), "f", (0, 400)), "points to bytes"),
    ],
    ids=["no span", "unknown type", "too large", "beyond the end"],
)
def test_numbers_that_cannot_be_read_are_skipped_and_the_reason_said(tensor, why):
    assert why in summary(MemorySource({"f": b"1234"}), tensor).skipped


def test_numbers_are_read_only_when_asked_for():
    source = MemorySource(GOOD)
    assert read_adapter(source).values is None
    found = read_adapter(source, values=True)
    assert set(found.values) == {tensor.name for tensor in found.tensors}
    assert all(each.zeros == each.count for each in found.values.values())


# ---------------------------------------------------------------------------------------- beside real PEFT


@pytest.mark.exact
@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("a whole adapter",)])
def test_the_line_a_folder_raises_is_the_one_peft_prints(name, tmp_path):
    import transformers
    from peft import PeftModel

    from adapterfit.testing.bases import CONFIGS

    files, _, _ = LAYOUTS[name]
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    adapter = read_adapter(FolderSource(tmp_path))
    found = (*adapter.flaws, *(adapter.config.flaws if adapter.config is not None else ()))
    line = next((flaw.raised for flaw in found if flaw.predicted == "raises" and flaw.severity == "error"), "")
    raw = dict(CONFIGS["llama"])
    model = transformers.LlamaForCausalLM(transformers.AutoConfig.for_model(raw.pop("model_type"), **raw))
    truth = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            PeftModel.from_pretrained(model, str(tmp_path))
        except Exception as error:
            truth = f"{type(error).__name__}: {error}"
    assert line == truth


@pytest.mark.parametrize("method", ["LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "ADALORA"])
def test_a_config_without_its_method_is_told_the_one_of_its_tensors(method):
    more = {"ADALORA": {"total_step": 10}, "OFT": {"oft_block_size": 4}, "IA3": {"feedforward_modules": []}}
    targets = {"target_modules": ["q_proj"]}
    sample = make.adapter("llama", peft_type=method, **targets, **more.get(method, {}))
    report = adapterfit.check(sample.without_config("peft_type").adapter, base=sample.case.base)
    (found,) = [each for each in report.findings if each.id == "config-not-peft"]
    assert f'"peft_type": "{method}"' in found.fix.summary
    assert found.fix.safety == "unsafe"
