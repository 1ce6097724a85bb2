"""llama.cpp's own converters, and its runtime as xllamacpp carries it."""

import math
import random
import subprocess
import sys

import engine_code
import pytest

FOLDER = engine_code.llama_cpp()
VERSION = engine_code.version("llama_cpp_python")
#: Tokens that are asked about in every test.
TOKENS = [1, 5, 9, 3]


def converted(folder, base, out):
    """Nothing where its converter made the file; else what it printed."""
    command = [sys.executable, FOLDER / "convert_lora_to_gguf.py", "--base", base, "--outfile", out, "--outtype", "f32"]
    done = subprocess.run([*command, folder], capture_output=True, text=True, check=False, timeout=300)
    return "" if out.exists() and not done.returncode else done.stderr


def base_converted(base, out):
    """A base as its converter writes it, with a tokenizer made up for that."""
    _tokenizer(base)
    command = [sys.executable, FOLDER / "convert_hf_to_gguf.py", base, "--outfile", out, "--outtype", "f32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert not done.returncode, done.stderr[-2000:]
    return out


def _tokenizer(base, size=128):
    import sentencepiece

    drawn = random.Random(0)
    lines = [" ".join("".join(drawn.choices("abcdefghijklmnop", k=4)) for _ in range(16)) for _ in range(250)]
    (base / "words.txt").write_text("\n".join(lines))
    options = {"vocab_size": size, "model_type": "bpe", "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        input=str(base / "words.txt"), model_prefix=str(base / "tokenizer"), **options
    )


def runtime():
    """The program that runs the models."""
    return pytest.importorskip("xllamacpp", reason="xllamacpp is installed by `make oracles` only")


def logprobs(base, adapter=None, vocabulary=128):
    """The log-probabilities of the next token, by its number. Raises RuntimeError where it does not take the adapter."""
    found = runtime()
    parameters = found.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel, parameters.warmup = str(base), 64, 1, False
    if adapter is not None:
        parameters.lora_adapters = [found.CommonAdapterLoraInfo(str(adapter), 1.0)]
    asked = {"prompt": TOKENS, "n_predict": 1, "n_probs": vocabulary, "samplers": [], "cache_prompt": False}
    answer = found.Server(parameters).handle_completions(asked)
    (first,) = answer["choices"][0]["logprobs"]["content"]
    given = {each["id"]: each["logprob"] for each in first["top_logprobs"]}
    return [given.get(token, -math.inf) for token in range(vocabulary)]
