"""The adapter's method is unknown to this PEFT.

What this means: `peft_type` in adapter_config.json is looked up in a fixed list; a name that is not in it stops the load
with a bare KeyError. There is no peft_type for DoRA, PiSSA or OLoRA: they are LORA.

Why it happens: the adapter was trained with a newer PEFT, with a fork or an unmerged pull request, or with a method that
was removed (BONE, in 0.19); or the name was written by hand, in small letters.

Detection: the name is compared with the methods of every release.

Fix: use a PEFT that has the method. BONE became MISS, which computes the same: rename `bone_block` to `miss_block` in the tensor
names, and the peft_type. A name in small letters is written in capitals.

Workaround: ask the author for the fork it was trained with.

Prevention: state the needed PEFT version beside the adapter.

Setup:
    change_config(peft_type="lora")  # written by hand

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises KeyError: 'lora'

Fixed:
    change_config(peft_type="LORA")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import line_of, suspect
from adapterfit.edits import Rename, SetConfig
from adapterfit.records import Case, Fix, Flaw, Suspicion
from adapterfit.text import show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    messages=("KeyError: 'BONE'", "KeyError: 'lora'", "KeyError: 'VERA'"),
    needs=("config",),
    codes=("unknown-peft-type", "method-newer-than-peft"),
)
#: The release that brought a method; those of PEFT 0.2 are left out.
SINCE = {
    method: version
    for version, methods in {
        "0.3.0": "ADALORA ADAPTION_PROMPT",
        "0.4.0": "IA3",
        "0.6.0": "MULTITASK_PROMPT_TUNING LOHA LOKR",
        "0.7.0": "OFT",
        "0.8.0": "POLY",
        "0.11.0": "BOFT LN_TUNING VERA",
        "0.12.0": "FOURIERFT HRA XLORA",
        "0.13.0": "VBLORA",
        "0.14.0": "CPT",
        "0.15.0": "TRAINABLE_TOKENS",
        "0.16.0": "C3A RANDLORA",
        "0.17.0": "MISS SHIRA",
        "0.18.0": "DELORA OSF ROAD WAVEFT",
        "0.19.0": "ADAMSS CARTRIDGE GRALORA LILY PEANUT PSOFT PVERA TINYLORA",
        "0.20.0": "BEFT DEFT FROD GLORA HIRA UNILORA",
        "0.21.0": "SHADOW SUPERTUNING",
    }.items()
    for method in methods.split()
}
_OLDEST = ("LORA", "PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")
_BONE, _MISS = ".bone_block", ".miss_block"


def cure(case: Case, flaw: Flaw) -> Fix | None:
    """BONE is MISS under another name; and a method spelled in small letters is the one in capitals."""
    config = case.adapter.config
    given = config.raw.get("peft_type") if config is not None else None
    if flaw.code != "unknown-peft-type" or not isinstance(given, str):
        return None
    if given == "BONE":
        return _miss(case)
    if given.upper() in SINCE or given.upper() in _OLDEST:
        return Fix("safe", flaw.remedy, (SetConfig("peft_type", given.upper()),))
    return None


def _miss(case: Case) -> Fix | None:
    """MISS computes what BONE did, for both of its kinds; every tensor must be one of a BONE layer, or no tuner's at all."""
    config, tensors = case.adapter.config, case.adapter.tensors
    known = config is not None and config.raw.get("init_weights", True) in (True, False, "bat")
    renames = tuple(Rename(t.name, t.name[: -len(_BONE)] + _MISS) for t in tensors if t.name.endswith(_BONE))
    strange = any("bone_" in t.name and not t.name.endswith(_BONE) for t in tensors)
    if not known or not renames or strange:
        return None
    said = f'write "MISS" as peft_type and rename {len(renames)} tensors from bone_block to miss_block: it is the same method'
    return Fix("safe", said, (SetConfig("peft_type", "MISS"), *renames))


def examples(make: Any) -> dict[str, list[Any]]:
    """Known methods are silent."""
    plain = make.lora("llama")
    fires = [plain.with_config(peft_type=each) for each in ("lora", "BONE", "FINEGATES", "../lora", None)]
    miss = make.adapter("llama", peft_type="MISS", r=4, target_modules=["q_proj", "v_proj"])
    fires.append(miss.renamed(lambda name: name.replace("miss_block", "bone_block")).with_config(peft_type="BONE"))
    return {"silent": [plain, make.adapter("llama", peft_type="IA3")], "fires": fires}


_SAID = r"(?:unknown peft type passed: ['\"]?|['\"](?=\w{2,40}['\"] is not a valid PeftType))(?P<name>\w{2,40})"


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: a KeyError with the name of a method, or words on it."""
    told = re.search(_SAID, symptoms.text, re.IGNORECASE)
    if told is not None:
        since = SINCE.get(told["name"].upper(), "")
        yield suspect(
            symptoms, f"the method {show(told['name'], 40)} is unknown to this PEFT" + (f": it came with {since}" if since else ""), 0.88,
            [line_of(symptoms, told.start())], fix=f"pip install 'peft>={since}'" if since else "use the PEFT, or the fork, that the adapter was trained with",
        )  # fmt: skip
    for error in symptoms.errors:
        name = error.message.strip("'\" .")
        method = (
            name in SINCE
            or name == "BONE"
            or (
                error.library == "peft" and (name.upper() in SINCE or name in ("lora", "Lora", "LoRA"))
            )  # written by hand
            or (error.library == "peft" and name.isupper() and name.replace("_", "").isalnum())
        )
        if error.kind == "KeyError" and method:
            since = SINCE.get(name, "")
            yield suspect(
                symptoms,
                f"the method {show(name, 40)} is unknown to this PEFT" + (f": it came with {since}" if since else ""),
                0.88,
                [error.line],
                fix=f"pip install 'peft>={since}'"
                if since
                else "use the PEFT, or the fork, that the adapter was trained with",
            )


def logs() -> dict[str, list[str]]:
    """A method's name; a tensor's name."""
    return {
        "fires": ["KeyError: 'VERA'", "KeyError: 'BONE'"],
        "silent": ["KeyError: 'peft_type'", "KeyError: 'base_model.model.x.lora_A.weight'"],
    }
