"""PEFT to llama.cpp's GGUF and back: equal tensors, the order of rows undone; damaged files are refused."""

import json

import numpy as np
import pytest

import adapterfit
from adapterfit.conversion.formats.gguf import _types
from adapterfit.conversion.gguf_file import read_gguf
from adapterfit.errors import AdapterfitError, CannotConvert
from adapterfit.read.sources.folder import FolderSource
from adapterfit.read.sources.memory import MemorySource
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay
from convert_samples import LLAMA, config, numbers, peft_config, peft_folder, read, scales, weights_bytes

DOWN, Q = "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj"
VARIANTS = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha per module": {"alpha_pattern": {"q_proj": 32}},
    "rank per module": {"rank_pattern": {DOWN: 2, Q: 8}},
    "all of them": {"use_rslora": True, "rank_pattern": {DOWN: 16}, "alpha_pattern": {Q: 4}},
}


def base(tmp_path, family="llama"):
    path = tmp_path / f"base-{family}"
    return path if path.exists() else lay(path, {"config.json": json.dumps(CONFIGS[family]).encode()})


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_a_decoder_comes_back_bit_for_bit_with_its_scales(fields, dtype, family, tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, fields.get("rank_pattern"), dtype, **fields)
    adapterfit.convert(source, "gguf", tmp_path / "g", base=base(tmp_path, family))
    adapterfit.convert(tmp_path / "g", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    back, ranks = scales(tmp_path / "back"), fields.get("rank_pattern", {})
    for module, scale in back.items():
        rank = ranks.get(module, 4)
        alpha = next((v for k, v in fields.get("alpha_pattern", {}).items() if module.endswith(k)), 8)
        assert scale == pytest.approx(alpha / (rank**0.5 if fields.get("use_rslora") else rank), rel=1e-12)


def contents(folder):
    source = FolderSource(folder / "adapter.gguf")
    found = read_gguf(source, "adapter.gguf")
    return found.keys, {
        each.name: np.frombuffer(source.read(each.file, each.span[0], each.span[1] - each.span[0]), "<f4").reshape(
            each.shape
        )
        for each in found.tensors
    }


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_alpha_over_each_tensors_rank_times_the_product_is_pefts(fields, tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, fields.get("rank_pattern"), **fields)
    adapterfit.convert(source, "gguf", tmp_path / "g", base=base(tmp_path, "qwen2"))
    keys, tensors = contents(tmp_path / "g")
    ours = {
        name: np.frombuffer(data, "<f4").reshape(s)
        for name, (_, s, data) in read(source / "adapter_model.safetensors").items()
    }
    for module, theirs in ((DOWN, "blk.1.ffn_down"), (Q, "blk.0.attn_q")):
        a, b = (tensors[f"{theirs}.weight.lora_{role}"].astype(float) for role in "ab")
        mine = [ours[f"base_model.model.{module}.lora_{role}.weight"].astype(float) for role in "AB"]
        rank = fields.get("rank_pattern", {}).get(module, 4)
        alpha = next((v for k, v in fields.get("alpha_pattern", {}).items() if module.endswith(k)), 8)
        wanted = alpha / (rank**0.5 if fields.get("use_rslora") else rank) * mine[1] @ mine[0]
        assert np.allclose(
            keys["adapter.lora.alpha"] / rank * b @ a, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max()
        )


def test_llamas_rows_of_q_are_pairs_where_they_were_halves(tmp_path):
    modules = {Q: (64, 64)}
    b = np.arange(64 * 4, dtype="<f4").reshape(64, 4)
    tensors = {f"base_model.model.{Q}.lora_A.weight": numbers((4, 64)), f"base_model.model.{Q}.lora_B.weight": b}
    files = {
        "adapter_config.json": json.dumps(peft_config(modules)).encode(),
        "adapter_model.safetensors": weights_bytes(tensors),
    }
    adapterfit.convert(lay(tmp_path / "a", files), "gguf", tmp_path / "g", base=base(tmp_path))
    written = contents(tmp_path / "g")[1]["blk.0.attn_q.weight.lora_b"]
    # four heads of 16 rows: row 2i of a head is row i of its first half, row 2i + 1 that of its second
    assert written[:4, 0].tolist() == [0, 8 * 4, 1 * 4, 9 * 4]
    assert sorted(written[:, 0]) == sorted(b[:, 0])


def test_an_embedding_is_transposed_and_comes_back(tmp_path):
    name = "base_model.model.model.embed_tokens.lora_embedding_"
    files = {
        "adapter_config.json": json.dumps(peft_config({"model.embed_tokens": ()})).encode(),
        "adapter_model.safetensors": weights_bytes({f"{name}A": numbers((4, 256)), f"{name}B": numbers((64, 4))}),
    }
    source = lay(tmp_path / "a", files)
    adapterfit.convert(source, "gguf", tmp_path / "g", base=base(tmp_path))
    written = contents(tmp_path / "g")[1]
    assert {key: array.shape for key, array in written.items()} == {
        "token_embd.weight.lora_a": (256, 4),
        "token_embd.weight.lora_b": (64, 4),
    }
    adapterfit.convert(tmp_path / "g", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    with pytest.raises(CannotConvert, match="tied"):
        adapterfit.convert(source, "gguf", tmp_path / "t", base=base(tmp_path, "llama-tied"))


def test_model_types_of_one_architecture_have_the_same_modules():
    by_arch = {}
    for entry in _types().values():
        by_arch.setdefault(entry["arch"], []).append((entry["modules"], entry["reordered"]))
    assert [arch for arch, entries in by_arch.items() if any(entry != entries[0] for entry in entries)] == []


REFUSED = {
    "no base": ({}, None, "--base"),
    "a type that is not known": ({}, "t5", "not known here"),
    "DoRA": ({"use_dora": True}, "llama", "DoRA"),
}


@pytest.mark.parametrize(("fields", "family", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written_is_named(fields, family, said, tmp_path):
    more = {f"base_model.model.{m}.lora_magnitude_vector": numbers(s[:1]) for m, s in LLAMA.items()} if fields else {}
    source = peft_folder(tmp_path / "a", LLAMA, more=more, **fields)
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(source, "gguf", tmp_path / "g", base=base(tmp_path, family) if family else None)


def test_without_our_record_the_heads_are_asked_for(tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA)
    adapterfit.convert(source, "gguf", tmp_path / "g", base=base(tmp_path))
    path = tmp_path / "g/adapter.gguf"
    path.write_bytes(path.read_bytes().replace(b"adapterfit.peft", b"somebodys.notes"))
    with pytest.raises(CannotConvert, match="--base"):
        adapterfit.convert(tmp_path / "g", "peft", tmp_path / "back")
    adapterfit.convert(path, "peft", tmp_path / "back", base=base(tmp_path))
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    assert config(tmp_path / "back")["lora_alpha"] == 8


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    adapterfit.convert(peft_folder(tmp_path / "a", LLAMA), "gguf", tmp_path / "g", base=base(tmp_path))
    data = (tmp_path / "g/adapter.gguf").read_bytes()
    for at in [*range(0, 1200, 7), len(data) - 1]:
        with pytest.raises(AdapterfitError):
            read_gguf(MemorySource({"x.gguf": data[:at]}), "x.gguf")


def test_a_byte_changed_anywhere_in_the_head_never_ends_in_another_error(tmp_path):
    adapterfit.convert(peft_folder(tmp_path / "a", {Q: (64, 64)}), "gguf", tmp_path / "g", base=base(tmp_path))
    data = (tmp_path / "g/adapter.gguf").read_bytes()
    for at in range(700):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        try:
            read_gguf(MemorySource({"x.gguf": bytes(changed)}), "x.gguf")
        except AdapterfitError:
            continue
