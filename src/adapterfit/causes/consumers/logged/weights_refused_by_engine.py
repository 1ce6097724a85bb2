"""The server refuses a kind of tensor that the adapter holds.

What this means: servers take `lora_A` and `lora_B` and little else. Full copies from modules_to_save, the embeddings that PEFT saves
beside an adapted head (`lm_head.base_layer.weight`), DoRA's magnitudes, biases: each is refused by some server, and ignored
without a word by another.

Why it happens: tokens were added (modules_to_save), lm_head was a target, or DoRA or bias was switched on in training.

Detection: the name in the message: `.base_layer.weight`, `lm_head.weight`, `lora_magnitude_vector`, `.bias`; or the option it names.

Fix: drop `*.base_layer.weight` from the file if the vocabulary did not change; for everything else merge the adapter and serve the
merged model.

Workaround: a newer server may take it: vLLM accepts a classifier's head since 0.11.

Prevention: train for the server: no modules_to_save, no lm_head target, no DoRA, `save_embedding_layers=False`.

Not run: it needs vLLM, which looks at the kinds of tensors when an adapter is loaded.

Broken:
    options = LoraConfig(r=16, target_modules=["q_proj", "lm_head"])  # saves lm_head.base_layer.weight too
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))

Fixed:
    model.save_pretrained("adapter", save_embedding_layers=False)  # if no tokens were added
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=(
        "ValueError: base_model.model.lm_head.base_layer.weight is unsupported LoRA weight",
        "ValueError: vLLM only supports modules_to_save being None.",
        "ValueError: vLLM does not yet support DoRA.",
    ),
)
#: Words → what is refused.
_WORDS = (
    ("only supports modules_to_save being", "full modules from modules_to_save"),
    ("is unsupported lora weight", "a tensor that is neither lora_A nor lora_B"),
    ("vllm does not yet support dora", "DoRA"),
    ("serving currently doesn't support dora", "DoRA"),
    ("doesn't support adapters that add tokens", "tokens that were added"),
    ("did not support tuned lora with extra/added tokens", "tokens that were added"),
    ("dora adapter loading is not implemented", "DoRA"),
    ("dora magnitude vector parsing is recognized", "DoRA"),
    ("vllm does not support lora bias", "biases"),
    ("adapter bias is not supported", "biases"),
    ("adapter bias cannot be used without bias_enabled", "biases"),
    ("vllm does not support init_lora_weights", "an initialisation that changed the base"),
    ("vllm does not support", "an option of the adapter"),
    ("failed to load lm_head lora weight", "a copy of the base's head"),
    ("failed to load embed_tokens lora weight", "a copy of the base's embedding"),
    ("missing required configuration fields", "a config without r, lora_alpha or target_modules"),
    ("only one full classification module is supported", "a second head"),
    ("from hf lora weights", "a tensor that is neither lora_A nor lora_B"),
    ("unsupported key:", "a tensor that is neither lora_A nor lora_B"),
    ("is not supported by this lora", "an option of the adapter"),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "unsupported lora weight", "modules_to_save", "lm_head", "base_layer.weight", "dora",
)  # fmt: skip


#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {
    ("vllm", "parse_fine_tuned_lora_name"): 0.8,
    ("vllm", "_validate_features"): 0.8,
    ("vllm", "from_local_checkpoint"): 0.45,
    ("vllm", "from_lora_tensors"): 0.45,
}

#: A tensor that engines do not take, in anybody's words.
_OTHER = re.compile(
    r"(?i)(?:weights?|layers?|tensors?|modules?)[^.\n]{0,40}? (?P<name>[\w.]{0,120}(?:embed_tokens|lm_head|modules_to_save|magnitude_vector|layernorm|norm)[\w.]{0,40})[^.\n]{0,40}? (?:is|are) not (?:yet |currently )?supported"
)
_FAILED = re.compile(r"(?i)loading lora \S{1,300} failed")


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the server's words, or an assertion on a head's copy."""
    for phrase, what in _WORDS:
        told = said(symptoms, phrase)
        if told:
            copies = any(".base_layer." in key.name for key in (*symptoms.unexpected, *symptoms.keys))
            mismatch = any(set(shape.key.split(".")) & {"embed_tokens", "lm_head"} for shape in symptoms.misshapen)
            yield suspect(
                symptoms, f"the server refuses {what}", 0.8 if mismatch else 0.93, told,
                fix="drop *.base_layer.weight from the file (model.save_pretrained(path, save_embedding_layers=False)), if no token was added"
                if copies else "merge the adapter into the base (merge_and_unload) and serve the merged model",
            )  # fmt: skip
            return
    named = _OTHER.search(symptoms.text)
    if named is not None:
        yield suspect(
            symptoms, f"the server refuses {show(named['name'], 80)}, which is neither lora_A nor lora_B of a linear layer", 0.75,
            [line_of(symptoms, named.start())], fix="merge the adapter into the base (merge_and_unload) and serve the merged model",
        )  # fmt: skip
    failed = _FAILED.search(symptoms.text)
    if failed is not None and not symptoms.errors[1:]:
        yield suspect(
            symptoms, "the server does not say why: mostly a tensor or a target that it does not take", 0.4, [line_of(symptoms, failed.start())],
            fix="read the exception above this line in the server's own log", apart="the first exception of the server's log, not the client's",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Copies, full modules, DoRA; a rank over the limit."""
    return {
        "fires": [
            "ValueError: base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector is unsupported LoRA weight",
            'ValueError: vLLM only supports modules_to_save being either None or ["classifier", "score"] for classification models.',
            "Failed to load x because LoRA serving currently doesn't support DoRA adapters",
        ],
        "silent": ["ValueError: LoRA rank 64 is greater than max_lora_rank 16."],
    }
