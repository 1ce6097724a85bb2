"""The server accepts the adapter and answers as the base does.

What this means: the names of the layers end as they should, so the adapter passes the check; but their whole paths are not those
of the model as the server builds it, so no layer gets any weights. Every request succeeds.

Why it happens: the adapter was trained on the text model (`model.layers…`) and is served in a multimodal wrapper
(`language_model.model.layers…`), or the other way round; or its names carry a wrapper's prefix.

Detection: a debug line "No LoRA weights …", or the two kinds of path beside each other.

Fix: rename the keys to the server's paths, or upgrade the server: newer ones map the text model's names.

Workaround: merge the adapter and serve the merged model.

Prevention: compare the answers with and without the adapter at temperature 0, once, after each deployment.

Not run: it needs a server such as vLLM and a multimodal base, whose paths differ from those of the text model.

Broken:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    # trained on the text model: model.layers.0…, and served in a wrapper: language_model.model.layers.0…
    llm = LLM("a-multimodal-base", enable_lora=True)
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter-of-the-text-model"))

Fixed:
    tensors = load_file("adapter-of-the-text-model/adapter_model.safetensors")
    tensors = {name.replace("model.model.", "model.language_model.model.", 1): tensor for name, tensor in tensors.items()}
    save_file(tensors, "adapter-of-the-text-model/adapter_model.safetensors")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.lost import root
from adapterfit.causes.told import in_words
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=15,
    messages=("No LoRA weights found in adapter x, skipping", "No LoRA weights were applied for adapter x"),
)
_SERVERS = (
    "vllm",
    "sglang",
    "tgi",
    "lorax",
    "text-generation-inference",
    "served",
    "server",
    "engine",
    "internal module path",
    "200 ok",
)

#: Words that speak of this cause where no symptom decides.
HINTS = ("fails silently", "matches nothing", "vl wrapper", "没有生效", "没有效果", "未生效", "ignored at request")


#: `adapter 7 applies to no layer`, `LoRA x did not match any module`.
_NOWHERE = re.compile(
    r"\b(?:lora|adapter)\b[^.!?]{0,60}? (?:(?:appl|match)\w* (?:to )?no|(?:not|n't) (?:apply|match)\w*(?: to)? any|(?:appl|match)\w* zero|(?:appl|match)\w*(?: to)? 0) (?:\w+ )?(?:layer|module|tensor|weight|parameter)s?\b"
)


#: A server that says it has loaded an adapter.
_TAKEN = re.compile(
    r"/(?:v1/)?load_lora_adapter\b[^\n]{0,40}\b200\b|\bloaded new lora adapter\b|\blora adapter \S{1,80} added successfully"
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the server's own words, or paths that differ by the wrapper's level beside words about a server."""
    yield from in_words(
        symptoms,
        "served-without-effect",
        fix="rename the keys to the paths of the model as the server builds it, or serve the merged model; first see whether the request names the adapter",
    )
    fix = "rename the keys to the paths of the model as the server builds it, upgrade the server, or serve the merged model"
    nowhere = _NOWHERE.search(symptoms.folded)
    told = (
        (line_of(symptoms, nowhere.start()),)
        if nowhere is not None
        else said(
            symptoms,
            "no lora weights found",
            "no lora weights were applied",
            "no lora layers",
            "zero effective modules",
            "zero active modules",
            "silently no-op",
        )
    )
    if told:
        sure = 0.92 if said(symptoms, *_SERVERS, most=1) else 0.6
        yield suspect(symptoms, "no layer of the served model got the adapter's weights", sure, told, fix=fix)
        return
    roots = {root(key.name): key for key in symptoms.keys if ".layers." in key.name}
    wrapped = [
        key
        for path, key in roots.items()
        if path.split(".")[0] in {"language_model", "model"} and "language_model" in path
    ]
    taken = _TAKEN.search(symptoms.folded)
    refused = said(symptoms, "not exist", "not found", "not be found", most=1)
    if taken is not None and not (
        refused or symptoms.errors or symptoms.missing or symptoms.unexpected or symptoms.warnings
    ):
        yield suspect(
            symptoms, "the server took the adapter and nothing in the text failed: whether a layer got it, the server does not say", 0.4,
            [line_of(symptoms, taken.start())], fix=fix, apart="the same prompt at temperature 0 with and without the adapter; and whether the path exists where the server runs",
        )  # fmt: skip
    if len(roots) > 1 and wrapped and not (symptoms.errors or symptoms.missing or symptoms.unexpected):
        served = bool(said(symptoms, *_SERVERS))
        yield suspect(
            symptoms, "the adapter's paths and the model's differ by the multimodal wrapper: every layer is passed over without a word",
            0.8 if served else 0.55, [key.line for key in roots.values()], fix=fix, apart="the answers with and without the adapter",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """The server's line; two kinds of path; a warning of PEFT is another matter."""
    return {
        "fires": [
            'the LoRA makes no difference\nINFO: 10.0.0.7:5124 - "POST /v1/load_lora_adapter HTTP/1.1" 200 OK',
            "curl load_lora_adapter answers: Success: LoRA adapter 'sql' added successfully.",
            "DEBUG No LoRA weights were applied for adapter my-lora",
            "RuntimeError: LoRA adapter 7 applies to no layer",
            "vLLM serves it, adapter keys: base_model.model.model.layers.0.mlp.up_proj.lora_A.weight\nmodel: language_model.model.layers.0.mlp.up_proj",
        ],
        "silent": [
            "Found missing adapter keys while loading the checkpoint: ['base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight']"
        ],
    }
