"""The config names one method, the tensors belong to another.

What this means: every method has its own tensor names (`lora_A`, `ia3_l`, `hada_w1_a` …). PEFT builds the method of the
config, finds none of its tensors in the file, warns about missing keys (silently before 0.14) and the adapter does nothing.

Why it happens: the config of another adapter was copied beside the weights, or was written by hand.

Detection: the marks of the methods in the tensor names, compared with `peft_type`.

Fix: take the config that belongs to the weights.

Workaround: write the config anew for the method of the tensors.

Prevention: copy the whole folder of an adapter.

Setup:
    peft.LoHaConfig(r=4, target_modules=["q_proj", "v_proj"]).save_pretrained("adapter")  # the config of another adapter

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # warns: Found missing adapter keys while loading the checkpoint: ... hada_w1_a
    as_base(model)  # -> True

Fixed:
    LoraConfig(**OPTIONS).save_pretrained("adapter")  # the options of the training
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.causes.lost import names_of
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote, show

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="intermediate",
    messages=("UserWarning: Found missing adapter keys while loading the checkpoint:",),
    needs=("config", "weights"),
)
#: Marks that only one method writes. `lora_` is shared by several and stands apart.
MARKS = {
    "ia3_l": "IA3",
    "hada_w1_a": "LOHA",
    "lokr_w1": "LOKR",
    "lokr_w1_a": "LOKR",
    "oft_r": "OFT",
    "oft_R": "OFT",
    "boft_R": "BOFT",
    "vera_lambda_b": "VERA",
    "fourierft_spectrum": "FOURIERFT",
    "hra_u": "HRA",
    "vblora_logits_A": "VBLORA",
    "lora_E": "ADALORA",
    "prompt_embeddings": "a prompt method",
}
_LORA = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")
_PROMPTS = ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE")


def check(case: Case, diff: Diff | None) -> Iterator[Finding]:
    """Fires where all marked tensors are another method's."""
    config = case.adapter.config
    found = method_of(case)
    if config is None or not config.known or not found or found == config.peft_type:
        return
    if found == "a prompt method" and config.peft_type in _PROMPTS:
        return
    if found == "LORA" and config.peft_type not in MARKS.values() and config.peft_type not in _PROMPTS:
        return
    names = [tensor.name for tensor in case.adapter.tensors]
    missing = [slot.key for slot in diff.missing] if diff is not None else []
    yield finding(
        f"{show(config.file)} says peft_type = {show(config.peft_type)}, but the tensors are those of {found}",
        at=names,
        explains=[*names, *missing],
        predicted="warns",
        expected=config.peft_type,
        found=found,
        fix=Fix("unsafe", f"take the adapter_config.json that belongs to these weights (a config of {found})"),
    )


def method_of(case: Case) -> str:
    """The one method whose marks the tensor names carry; empty where there is none, or several."""
    parts = {part for tensor in case.adapter.tensors for part in tensor.name.split(".")[-3:]}
    marked = {MARKS[part] for part in parts if part in MARKS}
    if not marked and not parts.isdisjoint(_LORA):
        return "LORA"
    return marked.pop() if len(marked) == 1 else ""


def examples(make: Any) -> dict[str, list[Any]]:
    """Each method with its own config is silent; a LoRA's weights beside another's config fire."""
    plain = make.lora("llama")
    return {
        "silent": [plain, *(make.adapter("llama", peft_type=each) for each in ("IA3", "LOHA", "LOKR"))],
        "fires": [
            plain.with_config(peft_type="LOHA"),
            make.adapter("llama", peft_type="LOHA").with_config(peft_type="LORA"),
        ],
    }


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT's word on two methods in one model, or a prompt that is missed."""
    told = said(symptoms, "cannot combine adapters with different peft types")
    if told:
        yield suspect(
            symptoms,
            "the model carries an adapter of another method",
            0.9,
            told,
            fix="load the base anew for this adapter",
        )
    lost = names_of(symptoms, "method-differs")
    if lost is not None:
        yield suspect(
            symptoms, f"the config asks for the method of {quote(lost.keys[0].name)}, and nothing of it is in the file", lost.likelihood, lost.lines,
            fix="take the adapter_config.json that belongs to the weights", apart="the names in the file: lora_, hada_, lokr_, ia3_ or oft_",
        )  # fmt: skip
    prompt = [
        e.line for e in symptoms.errors if e.kind == "KeyError" and e.message.strip("'\" .") == "prompt_embeddings"
    ]
    if prompt:
        yield suspect(
            symptoms, "the config is that of a prompt, and the file holds none", 0.85, prompt, fix="take the adapter_config.json that belongs to the weights",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Two methods; a prompt that is missed; a method that is unknown."""
    return {
        "fires": [
            "ValueError: Cannot combine adapters with different peft types. Found PeftType.LORA and PeftType.IA3.",
            "KeyError: 'prompt_embeddings'",
        ],
        "silent": ["KeyError: 'VERA'"],
    }
