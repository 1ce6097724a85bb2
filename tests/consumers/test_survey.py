"""What we say about engines beside the survey of them, read here: its matrix cell by cell, and every line we quote.

The survey is `../shared/facts/engines.md`; its §0 is a matrix of features by engines in three words (ok, REJ, SIL), the
sections after it hold the engines' own lines.
"""

import re
from functools import cache

import pytest

import adapterfit
from adapterfit.consumers import engines, facts
from adapterfit.testing import make
from shared_data import ROOT, need

TEXT = need(ROOT.parent / "facts" / "engines.md").read_text("utf-8")
ENGINES = ("vllm", "sglang", "tgi", "lorax", "tensorrt-llm", "llama.cpp", "ollama", "mlx-lm")
PLAIN = make.lora()
#: Row of the matrix → an adapter with that feature.
SAMPLES = {
    "raw PEFT dir": PLAIN,
    "peft_type ≠ LORA": PLAIN.with_config(peft_type="MISS"),
    "missing r / alpha / target_modules": PLAIN.without_config("lora_alpha"),
    "use_rslora": make.lora(use_rslora=True),
    "alpha_pattern": make.lora(alpha_pattern={"q_proj": 32}),
    "rank_pattern": make.lora(rank_pattern={"q_proj": 2}),
    "use_dora": make.lora(use_dora=True),
    'bias="all"/"lora_only"': make.lora("qwen2", bias="all").added(
        {f"base_model.model.model.layers.{n}.self_attn.q_proj.bias": (64,) for n in (0, 1)}
    ),
    "lora_bias": make.lora(lora_bias=True),
    "modules_to_save lm_head/embed": make.lora(modules_to_save=["lm_head", "embed_tokens"]),
    "LoRA on embed_tokens/lm_head": make.lora(target_modules=["embed_tokens", "lm_head"]),
    "extra vocab / resized embeddings": make.lora(
        modules_to_save=["lm_head", "embed_tokens"], base=make.base("llama", vocab_size=300)
    ),
    "PiSSA/OLoRA/CorDA/LoftQ init un-converted": make.lora(init_lora_weights="pissa"),
    "layers_to_transform (subset)": make.lora(layers_to_transform=[1]),
    "q-only / q+k without v": make.lora(target_modules=["q_proj"]),
    "key prefix other than `base_model.model.`": PLAIN.renamed(
        lambda name: name.replace("model.model.", "model._orig_mod.model.", 1)
    ),
    "`.lora_A.default.weight`": PLAIN.renamed(lambda name: name.replace(".weight", ".default.weight")),
    "layer index out of range": PLAIN.renamed(lambda name: name.replace("layers.1.", "layers.7.")),
}
#: Cells that say it in other words, or more than one thing: what they mean for the adapter above.
MEANT = {
    ("raw PEFT dir", "llama.cpp"): "ok",  # via converter
    ("raw PEFT dir", "ollama"): "ok",  # llama, gemma2 only
    ("peft_type ≠ LORA", "tensorrt-llm"): "SIL",  # not read
    ("missing r / alpha / target_modules", "sglang"): "REJ",  # KeyError
    ("missing r / alpha / target_modules", "llama.cpp"): "REJ",  # alpha required key
    ("missing r / alpha / target_modules", "ollama"): "SIL",  # alpha absent → scale 1
    ("alpha_pattern", "vllm"): "ok",  # ok (0.33); older SIL
    ("rank_pattern", "lorax"): "SIL",  # same (as TGI)
    ('bias="all"/"lora_only"', "llama.cpp"): "REJ",  # bias tensors REJ, flag alone SIL
    ("LoRA on embed_tokens/lm_head", "vllm"): "ok",  # per-arch list: Llama is in it
    ("key prefix other than `base_model.model.`", "vllm"): "SIL",  # bare ok; other SIL
    ("key prefix other than `base_model.model.`", "sglang"): "ok",  # insensitive
    ("key prefix other than `base_model.model.`", "tensorrt-llm"): "ok",  # regex-lenient
    ("key prefix other than `base_model.model.`", "llama.cpp"): "REJ",  # strips listed prefixes: not this one
    ("layer index out of range", "sglang"): "REJ",  # IndexError
    ("modules_to_save lm_head/embed", "tensorrt-llm"): "SIL",  # only 1 adapter at build
}
#: Cells that are not about this adapter, or leave it open.
OPEN = {
    ("extra vocab / resized embeddings", "sglang"): "REJ is for added_tokens.json, which this adapter does not have",
    ("missing r / alpha / target_modules", "tgi"): "PEFT's defaults are taken, by PEFT too",
}
WORDS = {
    "loads": "ok",
    "raises": "REJ",
    "loads-partly": "SIL",
    "loads-differently": "SIL",
    "loads-without-effect": "SIL",
}


def section(number):
    return TEXT[TEXT.index(f"\n## {number}. ") : TEXT.index(f"\n## {number + 1}. ")]


@cache
def matrix():
    """Row → engine → cell."""
    lines = [line.strip("|").split("|") for line in section(0).splitlines() if line.startswith("|")]
    return {row.strip(): dict(zip(ENGINES, map(str.strip, cells))) for row, *cells in lines[2:]}


def cells():
    """Every cell with one of the three words, or whose meaning is written above."""
    for row, found in matrix().items():
        for engine, cell in found.items():
            words = re.findall(r"\b(ok|REJ|SIL)\b", cell)
            word = MEANT.get((row, engine)) or (words[0] if len(set(words)) == 1 else None)
            of_peft = engine != "mlx-lm" or row == "raw PEFT dir"  # MLX-LM's column is about its own layout otherwise
            if row in SAMPLES and word and of_peft and (row, engine) not in OPEN:
                yield pytest.param(row, engine, word, id=f"{row.strip('`')}: {engine}")


@pytest.mark.parametrize(("row", "engine", "word"), list(cells()))
def test_a_cell_of_the_matrix_is_what_we_say(row, engine, word):
    sample = SAMPLES[row]
    (answer,) = adapterfit.check(sample.adapter, base=sample.case.base, consumer=engine).consumers
    said = [(effect.kind, effect.message) for effect in answer.effects]
    if (row, engine) == ('bias="all"/"lora_only"', "ollama"):  # a Qwen2 is refused before its biases are looked at
        word = "REJ"
    assert WORDS.get(answer.predicted) == word, (matrix()[row][engine], answer.predicted, said)


def test_most_of_the_matrix_is_compared():
    assert len(list(cells())) >= 100
    assert set(SAMPLES) <= set(matrix())
    unread = set(matrix()) - set(SAMPLES)
    assert unread == {
        "fan_in_fan_out / Conv1D base",
        "base mismatch check",
        "max rank",
    }  # no words, or not of an adapter


def test_the_ranks_are_those_of_the_matrix():
    row = matrix()["max rank"]
    vllm, tensorrt = (facts.load(name).known("rank", facts.load(name).newest) for name in ("vllm", "tensorrt-llm"))
    assert row["vllm"] == f"{','.join(map(str, vllm['choices']))} (default {vllm['default']})"
    assert row["tensorrt-llm"] == f"max_lora_rank ({tensorrt['default']})"
    assert all(facts.load(name).claim("rank", facts.load(name).newest) is None for name in ("llama.cpp", "ollama"))


def quotes():
    """Every engine's own line that a claim of ours quotes, and that no run has seen."""
    for name in engines.engines():
        known = facts.load(name)
        for claim in known.at(known.newest):
            lines = [line for key, line in claim.value.items() if key.endswith("says") and line]
            if claim.mark != facts.EXECUTED and claim.mark != "suspected":
                yield from (pytest.param(line, id=f"{name} {claim.id}: {line[:40]}") for line in lines)


def _plain(text):
    return re.sub(r"[^a-z0-9]+", " ", text.lower())


@pytest.mark.parametrize("line", list(quotes()))
def test_a_line_that_was_only_read_stands_in_the_survey(line):
    if line.startswith("json: cannot unmarshal"):  # a line of Go's own library, which the survey only names
        pytest.skip("not in the survey in so many words")
    pieces = [_plain(piece).strip() for piece in re.split(r"\{[^{}]*\}|…|\bNAME\b|\bADAPTER\b|\bBASE\b", line)]
    text = _plain(TEXT)
    assert [piece for piece in pieces if len(piece) > 9 and piece not in text] == []
