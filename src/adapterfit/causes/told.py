"""What statements in words say about the causes: what was seen, and who served it, decide; never more than likely.

A sentence is no measurement. These answers are low or medium, only where the text has no error and no list of keys that decides,
and each says which look at the files tells it apart from its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import LogStatement, Symptoms

_ENGINES = (
    "vllm", "sglang", "text-generation-inference", "tgi ", "lorax", "exllama", "sagemaker", "ollama", "llama.cpp", "llama-server", "lmdeploy",
    "tensorrt", "triton", "openai", "endpoint", "/v1/", "api server", "inference server", "text-generation-webui", "oobabooga", "lm studio", "gguf", "mlx",
)  # fmt: skip
_IMAGES = (
    "comfy", "automatic1111", "a1111", "stable diffusion", "stable-diffusion", "sdxl", "flux", "diffusers", "kohya", "sd-scripts", "image", "pipe.", "wan2", "forge",
)  # fmt: skip
_SCRIPTS = ("peftmodel", "from_pretrained", "load_adapter", "get_peft_model", "transformers", "trl", "peft", "llamafactory", "unsloth", "swift")  # fmt: skip
_TRAINED = ("i trained", "we trained", "after training", "after fine-tuning", "after fine tuning", "after finetuning", "finetuned", "fine-tuned", "fine tuned", "to fine-tune", "my trained", "training produced")  # fmt: skip
_QUANTISED = ("4bit", "4-bit", "8bit", "8-bit", "qlora", "mxfp4", "gptq", "awq", "nf4", "quantiz", "quantis", "int4", "int8", "bnb", "q(lora)", " -q ", " -q.", "-q4", "-q8", "fp8")  # fmt: skip
#: Ways of training that keep each process's part of the weights only.
_SHARDED = {
    "fsdp": ("fsdp", "fully sharded"),
    "zero-3": ("zero3", "zero-3", "zero 3", "stage 3", "stage3", "zero stage"),
}
#: Words about a training that changed nothing.
_UNTRAINED = ("all zero", "is zero", "are zero", "still zero", "only zeros", "grad_norm': 0", "trainable params: 0 ", "nothing was trained", "loss': 0.0,")  # fmt: skip
_HEADS = ("classif", "seq_cls", "token_cls", "num_labels", "sequenceclassification", "reward", "score", "head")
#: Words of an author who says that it is right elsewhere.
_ELSEWHERE = ("works perfectly", "works fine", "works well", "works as expected", "works correctly", "fine with", "correct with", "good with", "is correct in", "works in ", "works with ", "is ok", "is fine", "are fine", "is alright", "is normal", "much better", "correct answer", "fine in ", "but with", "but when", "whereas", "while with")  # fmt: skip

#: Beside frames without an error, which are about another attempt, a sentence counts less.
_BESIDE_FRAMES = 0.8
_CHECK = "adapterfit check ADAPTER --base BASE --values: names that fit nothing, no tensors, or a B that is all zero"


class Told(NamedTuple):
    """How likely a cause is by what was said, the sentence that says so, and who serves the adapter."""

    likelihood: float
    statement: LogStatement
    where: str


#: What was seen, and where → the causes and how likely each is.
_ANSWERS: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("no-effect", "fsdp"): {"fsdp-shard-saved": 0.48, "empty-adapter": 0.4, "never-trained": 0.36, "loader-drops-keys-silently": 0.34},
    ("no-effect", "zero-3"): {"zero3-empty-weights": 0.48, "empty-adapter": 0.44, "never-trained": 0.36},
    ("no-effect", "untrained"): {"never-trained": 0.6, "served-without-effect": 0.3},
    ("no-effect", "engine"): {"served-without-effect": 0.55, "never-trained": 0.28, "empty-adapter": 0.25},
    ("no-effect", "images"): {"diffusion-key-format": 0.44, "served-without-effect": 0.4, "never-trained": 0.25},
    ("no-effect", "trained"): {"never-trained": 0.44, "loader-drops-keys-silently": 0.42, "served-without-effect": 0.36, "empty-adapter": 0.35},
    ("no-effect", "script"): {"loader-drops-keys-silently": 0.45, "served-without-effect": 0.42, "never-trained": 0.38, "empty-adapter": 0.3},
    ("no-effect", ""): {"served-without-effect": 0.42, "loader-drops-keys-silently": 0.36, "never-trained": 0.34, "empty-adapter": 0.3},
    ("no-effect", "merged-quantised"): {"merge-into-quantised-base": 0.55, "served-without-effect": 0.4, "loader-drops-keys-silently": 0.3},
    ("no-effect", "merged"): {"loader-drops-keys-silently": 0.42, "merge-into-quantised-base": 0.4, "served-without-effect": 0.38, "never-trained": 0.3},
    ("garbage", "elsewhere"): {"served-differently": 0.45, "served-without-effect": 0.3},
    ("garbage", "engine"): {"served-differently": 0.38, "served-without-effect": 0.26},
    ("garbage", "merged"): {"merge-into-quantised-base": 0.36},
    ("differs-by-engine", ""): {"served-differently": 0.48, "served-without-effect": 0.3},
    ("at-start", ""): {"never-trained": 0.6},
    ("garbage", "merged-quantised"): {"merge-into-quantised-base": 0.45},
    ("garbage", "head"): {"head-not-restored": 0.42},
    ("changes-by-load", "head"): {"head-not-restored": 0.48},
    ("changes-by-load", "script"): {"head-not-restored": 0.4, "loader-drops-keys-silently": 0.36},
    ("no-tensors", ""): {"empty-adapter": 0.72},
    ("unknown-accepted", ""): {"adapter-name-unknown": 0.5, "served-without-effect": 0.3},
    ("misfit-accepted", ""): {"loader-drops-keys-silently": 0.5},
    ("nan", ""): {"not-finite": 0.4},
}  # fmt: skip
_WORDS: Mapping[str, str] = {
    "no-effect": "the text says that the answers are those of the base",
    "garbage": "the text says that the output is garbage",
    "differs-by-engine": "the text says that the engine answers otherwise than the library does",
    "at-start": "the text says that the weights are as they were before the training",
    "changes-by-load": "the text says that the model is another one after loading",
    "no-tensors": "the text says that the saved file is as small as one without tensors",
    "unknown-accepted": "the text says that a name which nobody loaded is not refused",
    "misfit-accepted": "the text says that what does not fit is loaded without a word",
    "nan": "the text says that the output is NaN",
}


def in_words(symptoms: Symptoms, cause: str, *, fix: str) -> Iterator[Suspicion]:
    """The answer of a cause from statements in words; none where something in the text can be measured."""
    answers = [one for one in _answers(symptoms) if one[0] == cause]
    if answers:
        _, best = max(answers, key=lambda one: one[1].likelihood)
        yield suspect(
            symptoms, _WORDS[best.statement.seen.partition("-some")[0]], best.likelihood, [best.statement.line], fix=fix, apart=_apart(best)
        )  # fmt: skip


def _answers(symptoms: Symptoms) -> Iterator[tuple[str, Told]]:
    if symptoms.errors or symptoms.missing or symptoms.unexpected or symptoms.misshapen or not symptoms.statements:
        return
    sure = _BESIDE_FRAMES if symptoms.frames else 1.0
    seen = {statement.seen for statement in symptoms.statements}
    for statement in symptoms.statements:
        alone = statement.seen == "nan-somewhere" and "constant" not in seen
        kind = "nan" if statement.seen == "nan-somewhere" and not alone else statement.seen
        for where in _where(symptoms, statement):
            for cause, likelihood in _ANSWERS.get((kind, where), {}).items():
                yield cause, Told(likelihood * sure, statement, where)


def _where(symptoms: Symptoms, statement: LogStatement) -> tuple[str, ...]:
    """Who serves the adapter, by the words of the text: the first that a statement of this kind has an answer for."""
    quantised = bool(said(symptoms, *_QUANTISED, most=1))
    if statement.seen == "no-effect" and said(symptoms, *_UNTRAINED, most=1):
        return ("untrained",)
    for where, words in _SHARDED.items() if statement.seen == "no-effect" else ():
        if said(symptoms, *words, most=1) and said(symptoms, "save", "saving", "checkpoint", most=1):
            return (where,)
    if statement.merged and statement.seen in {"no-effect", "garbage"}:
        return ("merged-quantised",) if quantised else ("merged",)
    if statement.seen == "garbage":
        return tuple(
            where
            for where, words in (("elsewhere", _ELSEWHERE), ("head", _HEADS), ("engine", _ENGINES))
            if _both(symptoms, where, words)
        )
    if statement.seen == "changes-by-load":
        return ("head",) if said(symptoms, *_HEADS, most=1) else ("script",)
    if statement.seen != "no-effect":
        return ("",)
    for where, words in (("engine", _ENGINES), ("images", _IMAGES), ("trained", _TRAINED), ("script", _SCRIPTS)):
        if said(symptoms, *words, most=1):
            return (where,)
    return ("",)


def _both(symptoms: Symptoms, where: str, words: tuple[str, ...]) -> bool:
    """Whether words are there; garbage of one engine needs an engine, too."""
    return bool(said(symptoms, *words, most=1)) and (where != "elsewhere" or bool(said(symptoms, *_ENGINES, most=1)))


def _apart(best: Told) -> str:
    if best.statement.seen == "garbage":
        return "the same prompt at temperature 0 in PEFT, in the engine and with the base alone; adapterfit check --for the engine"
    if best.statement.seen == "unknown-accepted":
        return "the names the server lists (/v1/models), and a request with the right one"
    if best.statement.seen == "changes-by-load":
        return "adapterfit check ADAPTER --base BASE: a slot without a tensor keeps a new random start at each load"
    return _CHECK
