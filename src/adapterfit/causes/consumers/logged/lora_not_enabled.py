"""The server was started without LoRA, or does not take adapters while it runs.

What this means: engines reserve memory for adapters when they start, so a request for one is refused unless they were told.
Loading over HTTP is a second switch: vLLM has no `/v1/load_lora_adapter` without it and answers 404. The adapter is not read.

Why it happens: `enable_lora` was left out, or an option beside it switched LoRA off; or only the first of the two switches was set.

Detection: "LoRA is not enabled", "enable_lora" asked for by the message, or 404 from `load_lora_adapter`.

Fix: `vllm serve BASE --enable-lora --lora-modules NAME=FOLDER`; for adapters that come later also the environment variable
`VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`. SGLang: `--enable-lora`, or `--lora-paths` at the start.

Workaround: merge the adapter and serve the merged model.

Prevention: ask `/v1/models` after the start: it lists the adapters by name.

Not run: it needs a server such as vLLM, which reads its options when it starts.

Broken:
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    llm = LLM("base")
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))

Fixed:
    llm = LLM("base", enable_lora=True)
    llm.generate("...", lora_request=LoRARequest("mine", 1, "adapter"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=("RuntimeError: LoRA is not enabled", "POST /v1/load_lora_adapter HTTP/1.1 404 Not Found"),
    versions="every engine that serves adapters",
)
_OFF = (
    "lora is not enabled",
    "lora support is not enabled",
    "lora is disabled",
    "but lora is not enabled",
    "enable_lora=true to use lora",
)
#: The address and its status; in a log the request stands before it, and people write both in one sentence.
_GONE = re.compile(
    r"/(?:un)?load_lora_adapter\b[^\n]{0,60}\b404\b|\b404\b[^\n]{0,60}/(?:un)?load_lora_adapter\b", re.IGNORECASE
)
#: What a web framework answers where it has no such address; an engine's own answer says what it did not find.
_UNROUTED = ('"detail":"not found"', '"detail": "not found"', "'detail': 'not found'")
_ANSWERED = (
    "no adapter found for",
    "cannot be found",
    "could not be found",
    "notfounderror",
    "does not exist",
    "not a directory",
    "no such file",
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the engine says that it has no LoRA, or has no such address."""
    told = said(symptoms, *_OFF)
    if told:
        yield suspect(
            symptoms, "the engine runs without LoRA", 0.93, told,
            fix="start it with --enable-lora (in Python enable_lora=True)",
            apart="the options it prints at its start: one of them may have switched LoRA off",
        )  # fmt: skip
        return
    gone = _GONE.search(symptoms.text) if "load_lora_adapter" in symptoms.folded else None
    if gone is None or said(symptoms, *_ANSWERED, most=1):
        return
    served = said(symptoms, "--enable-lora", "--enable_lora", "enable_lora=true", most=1)
    unrouted = said(symptoms, *_UNROUTED, most=1)
    what = (
        "the server has no address for loading adapters while it runs"
        if unrouted
        else "the server answers 404 where adapters are loaded while it runs"
    )
    yield suspect(
        symptoms, what, 0.91 if unrouted else 0.72, [line_of(symptoms, gone.start()), *unrouted, *served],
        fix=f"set VLLM_ALLOW_RUNTIME_LORA_UPDATING=True{'' if served else ' beside --enable-lora'} where the server starts, or name the adapter in --lora-modules",
        apart='the body of the answer: {"detail": "Not Found"} means that there is no such address; an answer that names the adapter or its path means that one',
    )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """An engine without LoRA, a server without the address; a refusal for another reason, and a model without LoRA."""
    return {
        "fires": [
            "ERROR worker.py:240] RuntimeError: LoRA is not enabled",
            'INFO: 10.0.0.7:5124 - "POST /v1/load_lora_adapter HTTP/1.1" 404 Not Found',
        ],
        "silent": [
            '"POST /v1/load_lora_adapter HTTP/1.1" 404 Not Found\n{"message": "Loading lora sql failed: No adapter found for /data/sql"}',
            '"POST /v1/unload_lora_adapter HTTP/1.1" 404 Not Found\n{"message": "The lora adapter \'sql\' cannot be found."}',
            "ValueError: Model GemmaForCausalLM does not support LoRA, but LoRA is enabled. Support for this model may be added in the future.",
            'INFO: 10.0.0.7:5124 - "POST /v1/load_lora_adapter HTTP/1.1" 400 Bad Request',
            'INFO: 10.0.0.7:5124 - "GET /v1/models HTTP/1.1" 404 Not Found',
        ],
    }
