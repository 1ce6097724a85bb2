"""The installed libraries do not go together; the adapter was not even looked at.

What this means: the failure comes at import, or when a layer is chosen, before any key is read. peft, transformers, diffusers,
torchao or a quantiser expect something of each other that is not there.

Why it happens: one of them was upgraded alone, or pinned while another floats. peft 0.14 needs transformers with EncoderDecoderCache
(4.43); peft before 0.18 needs HybridCache, which transformers 5 no longer has; diffusers wants a recent peft.

Detection: "cannot import name", "requires", "backend is required", with no tensor's name anywhere.

Fix: install versions that belong together, newest of all or those of the training: `pip install -U peft transformers accelerate`.

Workaround: a fresh environment with the adapter's own requirements.

Prevention: pin peft and transformers together.

Broken:
    from transformers import HybridCache  # what PEFT before 0.18 does when it is imported; transformers 5 has none
    # raises ImportError: cannot import name 'HybridCache' from 'transformers'

Fixed:
    peft.__version__ >= "0.18"  # -> True
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import between, line_of, said, suspect
from adapterfit.records import Suspicion
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    minutes=10,
    messages=(
        "ImportError: cannot import name 'EncoderDecoderCache' from 'transformers'",
        "RuntimeError: Failed to import diffusers.loaders.lora_pipeline because of the following error: cannot import name 'HybridCache' from 'transformers'",
        "ValueError: PEFT backend is required for this method.",
        "ImportError: Found an incompatible version of torchao.",
    ),
    codes=("libraries-clash",),
)
#: What is imported → what its lack means.
_NAMES = {
    "EncoderDecoderCache": "pip install 'transformers>=4.43', or 'peft<0.14': this peft needs it",
    "HybridCache": "pip install 'peft>=0.18' for transformers 5, or 'transformers>=4.42,<5' for an older peft",
}
#: Words → how sure they are.
_WORDS = (
    ("cannot import name", 0.89),
    ("peft backend is required", 0.9),
    ("found an incompatible version of", 0.92),
    ("requires the peft library", 0.85),
    ("no module named 'peft", 0.85),
    ("requires peft", 0.6),
    ("failed to import diffusers", 0.8),
    ("failed to import peft", 0.85),
    ("failed to import transformers", 0.7),
    ("module 'bitsandbytes' has no attribute", 0.8),
    ("module 'torch' has no attribute", 0.6),
    ("name 'bnb' is not defined", 0.9),
    ("bitsandbytes is not available", 0.6),
    ("no attribute 'lora_extra_vocab_size'", 0.89),
    ("object has no attribute 'memory_efficient_backward'", 0.89),
    ("undefined symbol", 0.7),
    ("did not match any variant of untagged enum", 0.45),  # a tokenizer.json of newer tokenizers
    ("has no attribute 'quant_state'", 0.6),
    ("has no attribute 'scb'", 0.6),
    ("has no attribute 'compress_statistics'", 0.75),
    ("is required but found", 0.8),
    ("is required for a normal functioning", 0.85),
    ("module 'peft' has no attribute", 0.88),
    ("module transformers has no attribute", 0.86),
    ("'dynamiccache' object has no attribute", 0.85),
    ("module 'transformers' has no attribute", 0.85),
    ("module 'diffusers' has no attribute", 0.85),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "importerror", "cannot import", "incompatible version", "version mismatch", "downgrade", "upgrade peft", "upgrade transformers", "pip install -u",
)  # fmt: skip


#: Libraries that call each other, so that a call short of an argument is no fault of the user's.
_LIBRARIES = frozenset(
    {
        "peft",
        "transformers",
        "diffusers",
        "vllm",
        "sglang",
        "accelerate",
        "lmdeploy",
        "unsloth",
        "unsloth_zoo",
        "swift",
        "trl",
    }
)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: an import or a backend that fails, or an attribute that a library no longer has."""
    for phrase, likelihood in _WORDS:
        told = said(symptoms, phrase)
        if told:
            yield _imported(symptoms, likelihood, told)
            return
    yield from _importing(symptoms)
    yield from _needed(symptoms)
    yield from _gone(symptoms)
    yield from _cut_off(symptoms)
    yield from _cache(symptoms)
    attributes = [
        e
        for e in symptoms.errors
        if e.kind == "AttributeError" and "Config" in e.message and e.library in {"vllm", "peft", "transformers"}
    ]
    if attributes:
        yield suspect(
            symptoms,
            "one library misses an attribute in another's config",
            0.6,
            [e.line for e in attributes],
            fix="align their versions",
        )
    ranked = said(symptoms, "must be less or equal than")
    if ranked and said(symptoms, "lora rank", most=1):
        yield suspect(
            symptoms, "an older diffusers refuses a rank above the width of a layer, which is allowed today", 0.75, ranked,
            fix="pip install -U diffusers peft",
        )  # fmt: skip
    short = [e for e in symptoms.errors if e.kind == "TypeError" and "required positional argument" in e.message]
    if short and (short[0].library or said(symptoms, "lora", "peft", "adapter", most=1)):
        own = short[0].library in _LIBRARIES or any(
            word in short[0].message.lower() for word in ("lora", "peft", "adapter")
        )
        yield suspect(
            symptoms, f"{show(short[0].message, 80)}: caller and library differ in version", 0.55 if own else 0.35, [short[0].line],
            fix="align their versions", apart="whether the code that calls it is your own: then its documentation tells",
        )  # fmt: skip
    calls = [a for a in symptoms.arguments if not a.called.endswith("Config") and a.called not in {"", "__init__"}]
    if calls and not symptoms.misshapen:
        spoken = said(symptoms, "lora", "peft", "adapter", most=1)
        yield suspect(
            symptoms,
            f"{quote(calls[0].called)} does not know {quote(calls[0].name)}: caller and library differ in version",
            0.5 if spoken else 0.35,
            [a.line for a in calls],
            fix="align their versions",
        )


#: What transformers' models have since 4.33, where peft is installed.
_MIXIN = frozenset(
    {
        "add_adapter",
        "load_adapter",
        "set_adapter",
        "enable_adapters",
        "disable_adapters",
        "active_adapters",
        "active_adapter",
        "get_adapter_state_dict",
    }
)
#: What Unsloth adds to a model, some of it only where it generates with vLLM.
_TRAINERS = frozenset({"load_lora", "save_lora", "fast_generate", "save_pretrained_merged", "save_pretrained_gguf"})
#: A submodule that an installed library does not have, or an attribute that an object of it lacks.
_SUBMODULE = re.compile(
    r"No module named ['\"](?P<name>(?:peft|transformers|diffusers|accelerate|vllm|huggingface_hub|torch)\.[\w.]{1,80})['\"]"
)
_ATTRIBUTE = re.compile(r"(?:'?(?P<owner>[A-Za-z_]\w{0,80})'? )?(?:object )?has no attribute '?(?P<name>\w{1,60})'?")
#: A statement at a prompt or in a cell, and the traceback right below it; lines of a text that are searched for one.
_IMPORTED = re.compile(
    r"(?:^|\n)(?:>>> |In \[\d{1,4}\]: |-+> *\d+ )(?:from|import) (?P<name>peft|transformers|diffusers|accelerate)\b[^\n]{0,200}\n\s*Traceback"
)
_HEAD = 400
_FIX = "pip install -U peft transformers accelerate, or the versions of the training"


#: `X requires transformers >= 5.1`, `only works on transformers >= 4.50`, `your transformers version is too old`.
_NEEDED = re.compile(
    r"(?:requires?(?! grad)|only works on|needs?|supported for|at least|does not support|please (?:upgrade|update|install|use))[^.\n]{0,80}?\b"
    r"(?P<name>peft|transformers|diffusers|accelerate|bitsandbytes|torchao|optimum|gptqmodel|auto-gptq|unsloth_zoo|huggingface[_-]hub)"
    r"`?(?: version)? {0,2}(?:>=|>|==|<|at least|v?\d)",
    re.IGNORECASE,
)
_OLD = (
    "transformers version is too old",
    "version of peft you are using is not compatible",
    "is not supported yet in `transformers",
    "with your peft version",
    "you have a peft version that",
)


def _imported(symptoms: Symptoms, likelihood: float, told: tuple[int, ...]) -> Suspicion:
    """The name that is not there, the library that does not have it, and the one that wants it."""
    name = between(symptoms, "cannot import name ")
    owner = between(symptoms, "cannot import name " + repr(name).lower() + " from ").partition(".")[0] if name else ""
    asking = next((f.library for f in reversed(symptoms.frames) if f.library in _LIBRARIES and f.library != owner), "")
    usual = "pip install -U peft transformers accelerate diffusers in the Python that runs this, or the versions of the training"
    if owner:
        who = f", which {show(asking)} wants" if asking else ""
        usual = f"pip install -U {show(owner)}{f' {show(asking)}' if asking else ''} in the Python that runs this; or pin both to the versions of the training"
        what = f"the installed {show(owner)} has no {quote(name)}{who}: one of the two is newer than the other knows"
    else:
        what = f"the libraries do not go together{f': {quote(name)} is not there' if name else ''}"
    return suspect(
        symptoms,
        what,
        likelihood,
        told,
        fix=_NAMES.get(name, usual),
        apart="pip show of both: which of them is the older one",
    )


def _importing(symptoms: Symptoms) -> Iterator[Suspicion]:
    """A library's own import that breaks off or fails, for another reason than that a package is not installed."""
    last = symptoms.frames[-1] if symptoms.frames else None
    if last is None or last.function != "<module>" or last.library not in _LIBRARIES:
        return
    after = [error for error in symptoms.errors if error.line >= last.line]
    absent = any(
        error.kind in {"ModuleNotFoundError", "ImportError"} and "cannot import name" not in error.message
        for error in after
    )
    if not absent:
        lines = [last.line, *(error.line for error in after[:1])]
        yield suspect(
            symptoms, f"the import of {show(last.library)} itself fails: the libraries installed do not go together", 0.6, lines, fix=_FIX,
            apart=f"python -c 'import {show(last.library)}' in a fresh interpreter: the last line names what is missing",
        )  # fmt: skip


def _cut_off(symptoms: Symptoms) -> Iterator[Suspicion]:
    """A traceback of which only the statement is left that began it, and that is an import."""
    if symptoms.errors or symptoms.frames:
        return
    found = _IMPORTED.search("\n".join(symptoms.lines[:_HEAD]))
    if found is not None:
        yield suspect(
            symptoms, f"the import of {show(found['name'])} itself fails", 0.5, [found.string.count("\n", 0, found.start("name"))], fix=_FIX,
            apart=f"python -c 'import {show(found['name'])}' in a fresh interpreter: the last line names what is missing",
        )  # fmt: skip


def _cache(symptoms: Symptoms) -> Iterator[Suspicion]:
    """Prompts are handed to the model as its cache, which transformers has rebuilt more than once."""
    generates = [
        f for f in symptoms.frames if f.library == "peft" and f.function in {"generate", "forward", "get_prompt"}
    ]
    spoken = said(symptoms, "past_key_values", "dynamiccache", "cache layer", most=2)
    prompts = said(symptoms, "prompt-tun", "prompt tun", "prefix-tun", "prefix tun", "p-tuning", "prefixtuning", "prompttuning", "prompt_tun", most=1)  # fmt: skip
    if generates and spoken and prompts:
        yield suspect(
            symptoms, "the prompts go into the model's cache, whose form differs between releases of transformers", 0.45,
            [generates[-1].line, *spoken], fix="pip install -U peft, or the transformers of the training", apart="the last line of the traceback, and pip show peft transformers",
        )  # fmt: skip


def _needed(symptoms: Symptoms) -> Iterator[Suspicion]:
    """A library that says which version of another it wants."""
    found = _NEEDED.search(symptoms.text)
    lines = said(symptoms, *_OLD) or ((line_of(symptoms, found.start()),) if found is not None else ())
    if lines and (symptoms.errors or not symptoms.frames):
        name = f" of {found['name']}" if found is not None else ""
        yield suspect(
            symptoms, f"a library wants another version{name}", 0.86 if symptoms.errors else 0.6, lines, fix=_FIX
        )


def _gone(symptoms: Symptoms) -> Iterator[Suspicion]:
    """A part of a library that the installed version does not have."""
    module = _SUBMODULE.search(symptoms.text)
    if module is not None:
        yield suspect(
            symptoms, f"the installed library has no {quote(module['name'])}: another library wants a newer or older one", 0.87,
            [line_of(symptoms, module.start())], fix=_FIX,
        )  # fmt: skip
    for line in said(symptoms, "has no attribute", most=5):
        found = _ATTRIBUTE.search(symptoms.lines[line])
        if found is None or (found["owner"] or "").startswith("Flash") or (found["owner"] or "").endswith("Sharded"):
            continue  # an engine's own classes, which no version of ours has anything to do with
        if found["name"] in _TRAINERS:
            continue  # a trainer puts these on the model itself, and no release of PEFT has them
        wrapped = (found["owner"] or "").startswith("Peft") or (
            found["name"] in {"merge_and_unload", "add_weighted_adapter", "unload"} and any(f.library == "peft" for f in symptoms.frames)
        )  # fmt: skip
        mixin = found["name"] in _MIXIN and bool(found["owner"])
        own = any(
            word in found["name"] for word in ("adapter", "peft", "lora")
        )  # a tuner hands on all others to the base
        tuner = own and any(word in (found["owner"] or "") for word in ("Lora", "Adapter"))
        wrapped = wrapped or mixin or tuner
        private = found["name"].startswith("_") and said(symptoms, "peft", "lora", "adapter")
        if wrapped or private:
            yield suspect(
                symptoms, f"the installed version lacks {quote(found['name'])}", 0.75 if wrapped else 0.5, [line], fix=_FIX,
                apart="pip show peft transformers: which of the two is older than the code that calls it",
            )  # fmt: skip
            return


def logs() -> dict[str, list[str]]:
    """Imports, a backend; a config's unknown field is another cause."""
    return {
        "fires": [
            "peft==0.17.1\n>>> from peft import get_peft_model\nTraceback (most recent call last):\n",
            (
                "The prompt tuning model fails in generate, past_key_values is in the traceback\nTraceback (most recent call last):\n"
                '  File "/x/site-packages/peft/peft_model.py", line 1140, in generate\n    outputs = self.base_model.generate(*args, **kwargs)'
            ),
            "ImportError: cannot import name 'HybridCache' from 'transformers' (/x/site-packages/transformers/__init__.py)",
            "ValueError: PEFT backend is required for this method.",
            "ValueError: LoRA rank 512 must be less or equal than 320",
            "TypeError: add_lora_adapter() missing 1 required positional argument: 'slot'",
            "ModuleNotFoundError: No module named 'transformers.masking_helpers'",
            "AttributeError: 'PeftModelForCausalLM' object has no attribute 'add_weighted_adapter'",
            "ImportError: Found an incompatible version of torchao. Found version 0.10.0, but only versions above 0.16.0 are supported",
        ],
        "silent": [
            "TypeError: fit() missing 1 required positional argument: 'data'",
            "AttributeError: 'PeftModelForCausalLM' object has no attribute 'load_lora'",
            "TypeError: LoraConfig.__init__() got an unexpected keyword argument 'eva_config'",
        ],
    }


def examples(make: Any) -> dict[str, list[Any]]:
    """Two libraries that cannot be imported together; two that can."""
    plain = make.lora("llama")
    return {
        "fires": [plain.loaded_by("peft==0.16.0,transformers==5.0.0")],
        "silent": [plain.loaded_by("peft==0.18.1,transformers==5.0.0"), plain],
    }
