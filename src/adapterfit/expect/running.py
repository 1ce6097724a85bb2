"""What is raised about a prompt although every tensor has its place: while it is built, or (by older libraries) when it first runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from adapterfit.expect.methods._layer import Undecided
from adapterfit.expect.versions import rule
from adapterfit.records import Expectation, ModuleTree, Raised

#: Base models whose forward takes no cache, so that prefix tuning goes another way, by their model type.
_WITHOUT_CACHE = frozenset((
    "albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "ernie", "longformer", "modernbert", "mpnet",
    "roberta", "xlm-roberta",
))  # fmt: skip
_HEADED = {
    "SEQ_CLS": "PeftModelForSequenceClassification",
    "TOKEN_CLS": "PeftModelForTokenClassification",
    "QUESTION_ANS": "PeftModelForQuestionAnswering",
}


_WORDLESS = Path(__file__).with_name("wordless.json")


def without_words(tree: ModuleTree) -> Raised | None:
    """What PEFT raises where it looks for the word embeddings of a model that reads no words, such as a ViT."""
    named = any(module.name == "embeddings.word_embeddings" for module in tree.modules)
    if named or "vocab_size" in tree.config:
        return None
    line = _wordless().get(tree.model_type, "")
    kind, _, said = line.partition(": ")
    return Raised(kind, said, stage="inject") if line else None


@lru_cache(maxsize=1)
def _wordless() -> Mapping[str, str]:
    loaded: Mapping[str, str] = json.loads(_WORDLESS.read_bytes())["raises"]
    return loaded


def prompt_raises(config: Mapping[str, Any], tree: ModuleTree) -> Raised | None:
    """What an older loader raises about a prompt of this kind on this base; None for the newest."""
    task, kind = str(config.get("task_type")), str(config.get("peft_type"))
    if task in _HEADED and rule(config, "prompt-of-classifier") == "raises":
        line = f"{_HEADED[task]}.add_adapter() got an unexpected keyword argument 'low_cpu_mem_usage'"
        return Raised("TypeError", line, stage="inject")
    if rule(config, "prompt-config") == "raises":
        return Raised("TypeError", f"argument of type '{_config_class(tree)}' is not iterable", stage="inject")
    encoder_only = tree.model_type in _WITHOUT_CACHE
    names = []
    if kind == "PREFIX_TUNING":
        names = ["prefix-encoder" if encoder_only else "prefix-seq2seq" if task == "SEQ_2_SEQ_LM" else "prefix-decoder"]
    elif task == "SEQ_2_SEQ_LM":
        names = ["prompt-seq2seq"]
    line = next((str(rule(config, name)) for name in names if rule(config, name)), "")
    if names == ["prefix-decoder"]:
        line = _of_tuple(config, tree.model_type, line)
    error, _, said = line.partition(": ")
    return Raised(error, said, stage="forward") if line else None


def grouped_heads(found: Expectation) -> Expectation:
    """What adaption prompts of older PEFT raise on a base with fewer key/value heads, once it runs."""
    line = rule(found.config, "adaption-prompt-heads")
    if line is None or found.raised is not None or found.config.get("peft_type") != "ADAPTION_PROMPT":
        return found
    base, length = found.tree.config, found.config.get("adapter_len")
    heads, held, width = (base.get(name) for name in ("num_attention_heads", "num_key_value_heads", "hidden_size"))
    if not (isinstance(heads, int) and isinstance(held, int) and isinstance(width, int) and isinstance(length, int)):
        return found
    if heads < 1 or held == heads:
        return found
    size = width // heads
    said = str(line).format(length=length, heads=heads, size=size, held=length * held * size)
    kind, _, said = said.partition(": ")
    return dataclasses.replace(found, raised=Raised(kind, said, stage="forward"))


def _of_tuple(config: Mapping[str, Any], kind: str, line: str) -> str:
    """What a model of this type says about keys and values in a tuple, where most raise `line`; nothing where it takes them."""
    if kind in rule(config, "tuple-caches", ()):
        return ""
    if line and kind in rule(config, "tuple-caches-open", ()):
        raise Undecided(
            f"whether prefixes run on {kind} with this transformers is not known: it takes a tuple before 4.54 only"
        )
    unchecked = rule(config, "cache-checked") is not None and kind not in rule(config, "cache-checked")
    return "AttributeError: 'tuple' object has no attribute 'get_seq_length'" if line and unchecked else line


def _config_class(tree: ModuleTree) -> str:
    """`LlamaForCausalLM` → `LlamaConfig`."""
    return tree.class_name.partition("For")[0].removesuffix("Model").removesuffix("LMHead") + "Config"
