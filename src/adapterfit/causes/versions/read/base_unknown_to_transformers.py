"""The transformers that will load the base does not know its model type.

What this means: `AutoConfig` looks the `model_type` of config.json up in a table; a type that is not in it stops the load before
the adapter is touched, with a bare KeyError until transformers 4.35 and a sentence from then on.

Why it happens: the model is younger than the installed transformers, or so old that a later one dropped it (22 types went
with 5.0).

Detection: with `--for`, the model type is looked up among those of that release.

Fix: a transformers that has it; the finding says from which one on.

Workaround: where the repository of the base brings its own code, `trust_remote_code=True`, after reading that code.

Prevention: pin the transformers that the base was trained with, beside peft.

With:
    peft==0.3.0
    transformers==4.28.1
    tokenizers==0.13.3
    huggingface_hub==0.36.2

Setup:
    sizes = {**llama().to_dict(), "num_local_experts": 2, "model_type": "mixtral", "architectures": None}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**sizes)).save_pretrained("mixtral")
    trained = train(AutoModelForCausalLM.from_pretrained("mixtral"), LoraConfig(**OPTIONS))

Broken:
    # with transformers 4.28
    base = AutoModelForCausalLM.from_pretrained("mixtral")  # raises KeyError: 'mixtral'

Fixed:
    base = AutoModelForCausalLM.from_pretrained("mixtral")  # after pip install 'transformers>=4.36.2'
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import after, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=5,
    messages=(
        "KeyError: 'mixtral'",
        (
            "ValueError: The checkpoint you are trying to load has model type `gpt_oss` but Transformers does not recognize this "
            "architecture."
        ),
    ),
    versions="every version",
    codes=("base-unknown-to-transformers",),
)

#: The module whose table of model types is asked.
_TABLE = "configuration_auto.py"


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: transformers' sentence, or a KeyError out of its table of model types."""
    told = said(symptoms, "transformers does not recognize this architecture")
    named = after(symptoms, "has model type ").strip().partition(" ")[0].strip("`'\"") if told else ""
    inside = any(frame.library == "transformers" and frame.file.endswith(_TABLE) for frame in symptoms.frames)
    for error in symptoms.errors:
        if error.kind == "KeyError" and inside and "." not in error.message and error.line >= symptoms.frames[-1].line:
            told, named = (error.line,), error.message.strip("'\" ")
    if not told and not symptoms.frames:
        yield from _bare(symptoms)
    if told:
        yield suspect(
            symptoms, f"the installed transformers has no model type {quote(named) if named else 'of this name'}", 0.89, told,
            fix="pip install -U transformers (or the version of the training, for a type that was dropped), with a peft of the same time",
            apart="whether the base alone loads: if it does, another transformers runs here than you think",
        )  # fmt: skip


#: How model types begin: the families of architectures, as transformers spells them in small letters.
_FAMILY = re.compile(
    r"(?:llama|mistral|mixtral|ministral|qwen|gemma|phi|gpt|bert|roberta|deberta|t5|falcon|mpt|bloom|opt|deepseek|kimi|internlm|internvl|baichuan|chatglm|glm|"
    r"cohere|olmo|granite|starcoder|stablelm|mamba|jamba|zamba|bamba|dbrx|persimmon|smol|minicpm|minimax|nemotron|llava|idefics|paligemma|whisper|exaone|ernie|"
    r"hunyuan|arctic|rwkv|jetmoe|solar|apertus|seed_oss|recurrent_gemma)[a-z0-9_.-]{0,30}"
)


def _bare(symptoms: Symptoms) -> Iterator[Suspicion]:
    """The last line alone: a KeyError whose key is a model type."""
    for error in symptoms.errors:
        named = error.message.strip("'\" ")
        if error.kind == "KeyError" and _FAMILY.fullmatch(named):
            yield suspect(
                symptoms, f"the installed transformers, or the server, has no model type {quote(named)}", 0.6, [error.line],
                fix="pip install -U transformers, with a peft of the same time; of a server its newest version",
                apart="the line above it in the traceback: configuration_auto.py means this cause",
            )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Both wordings; a KeyError of somebody else's table."""
    frame = 'File "/x/site-packages/transformers/models/auto/{}", line 1055, in __getitem__\n    raise KeyError(key)\n'
    return {
        "fires": [
            "ValueError: The checkpoint you are trying to load has model type `gemma9` but Transformers does not recognize this architecture.",
            frame.format(_TABLE) + "KeyError: 'qwen9_moe'",
            "KeyError: 'qwen9_moe'",
        ],
        "silent": ["KeyError: 'name'", frame.format("tokenization_auto.py") + "KeyError: 'qwen9_moe'"],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """The same adapter on both sides of the version."""
    return {
        "fires": [make.lora("mixtral").loaded_by("peft==0.6.2,transformers==4.35.2")],
        "silent": [make.lora("mixtral").loaded_by("peft==0.14.0,transformers==4.47.1"), make.lora("mixtral")],
    }
