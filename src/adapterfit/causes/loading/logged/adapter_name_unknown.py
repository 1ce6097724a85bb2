"""The adapter that is asked for by name is not loaded under that name.

What this means: adapters carry a name in the model (`default`, unless another is given) or on the server. A call that activates,
deletes or requests one by a name that nobody loaded is refused. The adapter's files are not looked at.

Why it happens: `adapter_name` was left out at loading, so that the adapter is called `default` or `default_0`; the name was typed
in another way; the adapter was unloaded, or loaded into another object; or the loading above failed with nothing but a warning.

Detection: the loader's words "not found", "not in the list of present adapters", "does not exist", beside the names it has.

Fix: load it under the name that is used later, `load_adapter(path, adapter_name="x")`, or use one of the names the message lists.

Workaround: `model.peft_config.keys()` lists the names in a PeftModel, `pipe.get_list_adapters()` those of a pipeline,
`/v1/models` those of a server.

Prevention: give every adapter its name where it is loaded.

Broken:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter")
    model.set_adapter("style")  # raises ValueError: Adapter style not found.

Fixed:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), "adapter", adapter_name="style")
    model.set_adapter("style")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, suspect
from adapterfit.causes.told import in_words
from adapterfit.records import Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        "ValueError: Adapter with name style not found. Please pass the correct adapter name among ['default']",
        "ValueError: Adapter name(s) {'style'} not in the list of present adapters: {'default_0'}.",
        "ValueError: Adapter style not found.",
    ),
)
_NAME = r"['\"`{(\[]{0,3}(?P<name>[^\s'\"`{}()\[\]]{1,120})['\"`)}\]]{0,3}"
#: A server's sentence, which is about an adapter only where the text speaks of one.
_SERVED = re.compile(rf"\bmodel (?:with name |named )?{_NAME} does not exist", re.IGNORECASE)
#: The loaders' sentences; the last are those of servers.
_SENTENCES = (
    *(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"adapter(?:\(s\)|s)?(?: with name| name(?:\(s\))?)? {_NAME} (?:not found|does not exist|is not found|(?:can|could ?)not be found)",
            rf"adapter name\(s\) {_NAME}.{{0,80}}? not in the list of present adapters: (?!set\(\))",
            rf"following adapter\(s\) (?:could not be found|are not present and cannot be deleted): {_NAME}",
            r"adapter not found in odict_keys",
            rf"non-existing adapter\(s\): {_NAME}",
            rf"adapter matching the names in {_NAME}",
            rf"lora adapter {_NAME} but there is no existing adapter by that name",
            rf"lora with name {_NAME} does not exist",
            rf"requested lora adapters are not loaded: {_NAME}",
            rf"lora task {_NAME} not found in cache",
            r"no adapter loaded\. please load an adapter first",
            rf"(?:supported|available|present|existing|loaded) (?:adapter|lora)s?(?: names?)?(?: are| is|:)? ?[\[{{(][^\]}})]{{0,300}}[\]}})][^\[\n]{{0,40}}?(?:got|but|received|requested|given):? {_NAME}",
        )
    ),
    _SERVED,
)
#: Words that speak of this cause where no symptom decides.
HINTS = ("set_adapter", "adapter_name=")

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("diffusers", "set_adapters"): 0.5, ("peft", "set_adapter"): 0.45}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a loader that knows no adapter of that name."""
    yield from in_words(
        symptoms,
        "adapter-name-unknown",
        fix="ask for a name that is there (list(model.peft_config), /v1/models), and treat an unknown one as an error",
    )
    asked = {error.message.strip("'\" ."): error for error in symptoms.errors if error.kind == "KeyError"}
    given = _given(symptoms) if asked else set()
    for name, error in asked.items():
        if name in given:
            yield suspect(
                symptoms, f"a layer has no adapter {quote(name)}, although that name was given", 0.6, [error.line],
                fix="load it under that name on every part of the model that the other adapters are on, or ask for the adapters one by one",
                apart="the layers that list the name: {n for n, m in model.named_modules() if name in getattr(m, 'lora_A', ())}",
            )  # fmt: skip
    if not any(
        word in symptoms.folded
        for word in (
            "not found",
            "not in the list",
            "not exist",
            "not be found",
            "non-existing",
            "not present",
            "no existing",
            "no adapter",
            "not loaded",
            "supported adapter",
            "available adapter",
        )
    ):
        return  # fmt: skip
    for sentence in _SENTENCES:
        found = sentence.search(symptoms.text)
        name = (found.groupdict().get("name") or "") if found is not None else ""
        served = sentence is _SERVED and not any(word in symptoms.folded for word in ("lora", "adapter"))
        if found is None or served or "/" in name or "\\" in name or name.endswith((".json", ".bin", ".safetensors")):
            continue
        yield suspect(
            symptoms, f"no adapter is loaded under the name {quote(name)}" if name else "no adapter is loaded", 0.88, [line_of(symptoms, found.start())],
            fix=f"load_adapter(path, adapter_name={name!r}), or one of the names that are there (list(model.peft_config))",
            apart="the lines above: a loading that warned that it found no keys left nothing to activate",
        )  # fmt: skip
        return


def _given(symptoms: Symptoms) -> set[str]:
    """The names that the text gives to adapters."""
    given = re.findall(r"adapter_names?\s?=\s?\[?['\"](\w{1,60})|set_adapters?\(([^()\n]{1,200})", symptoms.text)
    return {name for one, several in given for name in re.findall(r"\w+", f"{one} {several}")}


def logs() -> dict[str, list[str]]:
    """Three loaders; a pipeline into which nothing was loaded; a path."""
    return {
        "fires": [
            '{"message": "The lora adapter \'sql\' cannot be found.", "code": 404}',
            'the lora is loaded, and then: {"error": "Model with name sql does not exist."}',
            "[TensorRT-LLM][ERROR] Assertion failed: LoRA task 7 not found in cache. Please send LoRA weights with request",
            "ValueError: Adapter with name sketch not found. Please pass the correct adapter name among ['default']",
            "ValueError: Adapter name(s) {'toon'} not in the list of present adapters: {'default_0'}.",
            "ValueError: LoRA with name en-sql does not exist. Loaded LoRAs: dict_keys(['fr-sql'])",
            "ValueError: Adapter(s) ['b'] not found, available adapters: ['a']",
            "ValueError: supported adapter names are ['a'] - got ['default']",
            "pipe.load_lora_weights('x', adapter_name='ink')\npipe.set_adapters(['ink', 'pen'])\nKeyError: 'pen'",
        ],
        "silent": [
            "ValueError: Adapter name(s) {'toon'} not in the list of present adapters: set().",
            "ValueError: Loading lora x failed: No adapter found for /data/out/lora",
        ],
    }
