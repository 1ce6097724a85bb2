"""llama.cpp's converter cannot turn this adapter into GGUF.

What this means: the converter takes `lora_A` and `lora_B` of layers it has names for. Full embeddings and heads, DoRA, and names of the
running model that its checkpoint does not have are refused, and nothing is written.

Why it happens: tokens were added or modules_to_save was used; the architecture is too new for the converter; or its arguments were
given wrongly (older scripts take the folder by position).

Detection: the converter's own lines.

Fix: merge the adapter into the base and convert the merged model; or upgrade llama.cpp; or drop `*.base_layer.weight`.

Workaround: rename the keys to the names of the base's checkpoint before converting.

Prevention: train without modules_to_save and without lm_head as a target, if GGUF is the goal.

Not run: it needs llama.cpp's sources and a base with a tokenizer; `make oracles` runs that converter on such adapters, and it refuses them.

Broken:
    # saved with modules_to_save=["lm_head"]: a whole head, which is neither lora_A nor lora_B
    subprocess.run([sys.executable, "llama.cpp/convert_lora_to_gguf.py", "adapter", "--base", "base"], check=True)

Fixed:
    PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("merged")
    subprocess.run([sys.executable, "llama.cpp/convert_hf_to_gguf.py", "merged"], check=True)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=(
        "ERROR:lora-to-gguf:Unexpected name 'base_model.model.lm_head.weight': Not a lora_A or lora_B tensor",
        "ValueError: Can not map tensor 'model.layers.12.mixer.k_proj.weight'",
    ),
)
_WORDS = (
    ("not a lora_a or lora_b tensor", 0.94), ("embeddings is present in the adapter", 0.9), ("can not map tensor", 0.92), ("lora-to-gguf", 0.85),
    ("lm_head is present in adapter, but is ignored in base model", 0.87),
    ("convert_lora_to_gguf", 0.85),
    ("loratorchtensor", 0.85),
    ("lora_to_gguf", 0.8), ("convert-lora-to-ggml", 0.85), ("unrecognized tensor", 0.8), ("has unexpected suffix", 0.88), ("is missing one component", 0.88),
    ("lora_a tensor is not transposed", 0.9), ("expect adapter.type to be 'lora'", 0.9), ("expect general.type to be 'adapter'", 0.9), ("unprocessed experts", 0.5),
    ("lora_permute", 0.7), ("cannot permute", 0.6),
)  # fmt: skip

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "gguf", "llama.cpp", "convert_lora", "convert-lora", "ggml",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the converter's lines, or an option that was taken for a folder."""
    for phrase, likelihood in _WORDS:
        told = said(symptoms, phrase)
        if told:
            named = next((key.name for key in symptoms.unexpected if key.wording == "llama.cpp"), "")
            # It reads PEFT's own names: another one makes the adapter another program's, which merging does not cure.
            foreign = phrase == "not a lora_a or lora_b tensor" and named and not named.startswith("base_model.")
            yield suspect(
                symptoms, f"llama.cpp's converter cannot take {quote(named) if named else 'a tensor of the adapter'}", 0.6 if foreign else likelihood, told,
                fix="merge the adapter into the base (merge_and_unload) and convert the merged model, or upgrade llama.cpp",
            )  # fmt: skip
            break
    option = [
        error
        for error in symptoms.errors
        if error.kind == "FileNotFoundError" and ("'--" in error.message or "'-m" in error.message)
    ]
    if option:
        yield suspect(
            symptoms, "an option was taken for the folder: converters of adapters take it by position", 0.85, [option[0].line],
            fix="python convert_lora_to_gguf.py FOLDER --base BASE",
        )  # fmt: skip
    arch = [
        e
        for e in symptoms.errors
        if e.kind == "NotImplementedError" and said(symptoms, "gguf", "llama.cpp", "convert_hf", "convert-hf", most=1)
    ]
    if arch:
        yield suspect(
            symptoms,
            "the converter does not know how to turn this architecture's weights",
            0.7,
            [arch[0].line],
            fix="upgrade llama.cpp, or merge and convert the merged model",
        )


def logs() -> dict[str, list[str]]:
    """A head, a name without a place, an option; a whole model with an adapter inside."""
    return {
        "fires": [
            "ERROR:lora-to-gguf:Unexpected name 'base_model.model.model.embed_tokens.weight': Not a lora_A or lora_B tensor",
            "ValueError: Can not map tensor 'model.layers.0.mixer.in_proj.weight'",
            "FileNotFoundError: [Errno 2] No such file or directory: '--outfile/adapter_config.json'",
        ],
        "silent": ["Exception: Unexpected tensor name: model.layers.0.self_attn.q_proj.lora_A.default.weight"],
    }
