"""What tells guesses apart, and tensors that a program lists in words of its own."""

from __future__ import annotations

import adapterfit
from adapterfit.diagnose.likeness import likeness
from adapterfit.diagnose.registry import all_causes
from adapterfit.read.log import read_log


def test_a_page_is_most_like_itself():
    pages = list(all_causes())
    for entry in pages[::7]:
        alike = likeness(read_log(entry.page), pages)
        assert max(alike, key=alike.__getitem__) == entry.id


def test_a_text_without_a_word_of_any_page_is_like_none():
    assert set(likeness(read_log("zzyzx qwghlm"), all_causes()).values()) == {0.0}


def test_underscores_hyphens_and_spaces_are_one_in_hints():
    for words in ("resize_token_embeddings", "resize-token-embeddings", "resize token embeddings"):
        told = adapterfit.why(f"my lora and {words}").causes
        assert told[0].id == "vocabulary-grown"


def test_lists_of_tensors_are_read_in_words_that_nobody_foresaw():
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for line in (
        f"[loader] skipped 1 of 96 tensors of the file: ['{name}']",
        f"Unused LoRA tensor: {name}",
        f"ignoring unmatched adapter weights ({name}, {name.replace('q_proj', 'v_proj')})",
        f"note: unrecognized parameters {name}",
    ):
        assert [key.name for key in read_log(line).unexpected][:1] == [name], line
    assert [key.name for key in read_log(f"missing weights for the adapter: {name}").missing] == [name]


def test_files_and_options_are_no_tensors():
    assert read_log("missing weights beside the config: a.toml, b.yaml").missing == ()
    assert read_log("unexpected keys in config: rope_scaling.type, rope_scaling.factor").unexpected == ()


def test_a_folder_on_one_line_is_a_listing():
    text = "checkpoint-9 of my LoRA: optimizer.pt pytorch_model.bin rng_state.pth scheduler.pt trainer_state.json"
    assert [file.name for file in read_log(text).files] == [
        "optimizer.pt", "pytorch_model.bin", "rng_state.pth", "scheduler.pt", "trainer_state.json",
    ]  # fmt: skip
    assert adapterfit.why(text).causes[0].id == "adapter-config-missing"
