"""llama.cpp's own converters, and its runtime as xllamacpp carries it."""

import importlib.metadata
import io
import logging
import math
import random
import runpy
import sys
import traceback

import engine_code
import pytest

FOLDER = engine_code.llama_cpp()
VERSION = engine_code.version("llama_cpp_python")
#: Tokens that are asked about in every test.
TOKENS = [1, 5, 9, 3]


def converted(folder, base, out):
    """Nothing where its converter made the file; else what it printed."""
    said = _run("convert_lora_to_gguf.py", "--base", base, "--outfile", out, "--outtype", "f32", folder)
    return said if said or out.exists() else "it wrote nothing"


def base_converted(base, out):
    """A base as its converter writes it, with a tokenizer made up for that."""
    _tokenizer(base)
    said = _run("convert_hf_to_gguf.py", base, "--outfile", out, "--outtype", "f32")
    assert said == "", said[-2000:]
    return out


#: The modules of gguf that the scripts carry themselves, while they are not running.
_THEIRS = {}


def _exchanged(come):
    """Take the loaded modules of gguf out, and put others in."""
    gone = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "gguf"}
    sys.modules.update(come)
    return gone


def _run(script, *arguments):
    """Run one of its scripts in this process, where the libraries are loaded; nothing, or what it said when it failed."""
    said, before = io.StringIO(), (sys.argv, list(sys.path))
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    sys.argv, sys.path[:0] = [script, *map(str, arguments)], [str(FOLDER), str(FOLDER / "gguf-py")]
    ours = _exchanged(_THEIRS)
    logging.getLogger().addHandler(handler)
    try:
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    except SystemExit as end:
        return said.getvalue() or "it ended" if end.code else ""
    except Exception:  # whatever it raises is its answer
        return said.getvalue() + traceback.format_exc()
    finally:
        logging.getLogger().removeHandler(handler)
        sys.argv, sys.path[:] = before
        _THEIRS.update(_exchanged(ours))
    return ""


def _tokenizer(base, size=128):
    import sentencepiece

    drawn = random.Random(0)
    lines = [" ".join("".join(drawn.choices("abcdefghijklmnop", k=4)) for _ in range(16)) for _ in range(250)]
    (base / "words.txt").write_text("\n".join(lines))
    options = {"vocab_size": size, "model_type": "bpe", "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        input=str(base / "words.txt"), model_prefix=str(base / "tokenizer"), **options
    )


def release():
    """The version of the program that runs the models."""
    return importlib.metadata.version(runtime().__name__)


def runtime():
    """The program that runs the models."""
    return pytest.importorskip("xllamacpp", reason="xllamacpp is installed by `make oracles` only")


def logprobs(base, adapter=None, vocabulary=128):
    """The log-probabilities of the next token, by its number. Raises RuntimeError where it does not take the adapter."""
    found = runtime()
    parameters = found.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel, parameters.warmup = str(base), 64, 1, False
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = (
        1  # several would wait for each other, busily
    )
    if adapter is not None:
        parameters.lora_adapters = [found.CommonAdapterLoraInfo(str(adapter), 1.0)]
    asked = {"prompt": TOKENS, "n_predict": 1, "n_probs": vocabulary, "samplers": [], "cache_prompt": False}
    answer = found.Server(parameters).handle_completions(asked)
    (first,) = answer["choices"][0]["logprobs"]["content"]
    given = {each["id"]: each["logprob"] for each in first["top_logprobs"]}
    return [given.get(token, -math.inf) for token in range(vocabulary)]
