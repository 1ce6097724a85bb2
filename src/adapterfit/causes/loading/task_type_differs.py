"""The task type and the base's class do not go together, or a prompt has none.

What this means: `task_type` decides which PeftModel class PEFT builds. `CAUSAL_LM` and `SEQ_2_SEQ_LM` need a base that can
generate: on any other class the load raises an AttributeError. A prompt, prefix or p-tuning adapter without a task type
loads, and its prompt is never put before the input: the model answers as if there were no adapter.

Why it happens: the base was loaded with another Auto class than in training; or the config was written without a task.

Detection: the class of the base is known from its config, and whether it can generate.

Fix: load the base with the class of the training (AutoModelForCausalLM, AutoModelForSeq2SeqLM), or set `task_type`.

Workaround: for a LoRA, `task_type: null` builds a plain PeftModel, which needs nothing of the base.

Prevention: always set `task_type` in the config.

Broken:
    base = AutoModel.from_pretrained("base")  # no head: it cannot generate, and the adapter's task_type is CAUSAL_LM
    model = PeftModel.from_pretrained(base, "adapter")
    # raises AttributeError: 'LlamaModel' object has no attribute 'prepare_inputs_for_generation'

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import said, suspect
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion
from adapterfit.text import quote

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=("AttributeError: '...' object has no attribute 'prepare_inputs_for_generation'",),
    needs=("config", "diff"),
)


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding: the class cannot generate, or a prompt has no task."""
    config = diff.expectation.config
    task = config.get("task_type")
    if evidence.cannot_generate(diff):
        name = diff.expectation.tree.class_name
        wanted = "AutoModelForSeq2SeqLM" if task == "SEQ_2_SEQ_LM" else "AutoModelForCausalLM"
        yield finding(
            f"task_type is {quote(task)}, and {quote(name)} cannot generate",
            at=[tensor.name for tensor in diff.extra],
            predicted="raises",
            expected="a base class with prepare_inputs_for_generation",
            found=name,
            fix=Fix("unsafe", f"load the base with {wanted}"),
        )
    prompt = any(slot.role == "prompt" for slot in diff.expectation.slots)
    if prompt and task is None and diff.raised is None:
        yield finding(
            "task_type is not set: PEFT builds a plain PeftModel, whose forward never puts the prompt before the input",
            predicted="silent",
            expected="task_type: CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS or FEATURE_EXTRACTION",
            found="task_type: null",
            fix=Fix("unsafe", "set task_type to the task of the training"),
            differs=True,
        )


def examples(make: Any) -> dict[str, list[Any]]:
    """A sequence-to-sequence adapter on a classifier; a prompt without a task; both with the right one."""
    plain = make.adapter("bert", peft_type="LORA", r=4, target_modules=["query"], task_type=None)
    prompt = make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=3)
    return {
        "fires": [plain.with_config(task_type="SEQ_2_SEQ_LM"), prompt.with_config(task_type=None)],
        "silent": [plain, prompt, make.lora("llama"), make.lora("llama").with_config(task_type=None)],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "task_type", "feature_extraction", "prepare_inputs_for_generation",
)  # fmt: skip

#: Functions in which a traceback points here: library and name → how likely it is.
STOPS = {("transformers", "prepare_inputs_for_generation"): 0.45}


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: PEFT asks a base to generate that cannot."""
    told = said(
        symptoms,
        "no attribute 'prepare_inputs_for_generation'",
        "no attribute '_prepare_encoder_decoder_kwargs_for_generation'",
    )
    remote = any(frame.library == "transformers_modules" for frame in symptoms.frames)
    if told:
        yield suspect(
            symptoms, "task_type is CAUSAL_LM or SEQ_2_SEQ_LM, and the base's class cannot generate", 0.6 if remote else 0.89, told,
            fix="load the base with AutoModelForCausalLM or AutoModelForSeq2SeqLM; for a model without generation set task_type to null or FEATURE_EXTRACTION",
            apart="the base's class: AutoModel has no head; with remote code, transformers >= 4.50 took generate out of it",
        )  # fmt: skip
    other = said(symptoms, "expected target peft class:", "cannot use `autopeftmodel` with a task type")
    if other:
        yield suspect(
            symptoms, "the AutoPeftModel class that was called is not that of the config's task_type", 0.88, other,
            fix="call the class that the line expects, or correct task_type in adapter_config.json",
        )  # fmt: skip
    unnamed = said(symptoms, "cannot infer the auto class from the config")
    if unnamed:
        yield suspect(
            symptoms, "AutoPeftModel cannot tell the base's class: the config has no auto_mapping, and no task_type that fits the class called", 0.86, unnamed,
            fix="load the base with its own class, then PeftModel.from_pretrained(base, adapter)",
        )  # fmt: skip
    invalid = said(symptoms, "invalid task type")
    if invalid:
        yield suspect(
            symptoms,
            "task_type is none of PEFT's",
            0.85,
            invalid,
            fix="one of CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS, QUESTION_ANS, FEATURE_EXTRACTION",
        )


def logs() -> dict[str, list[str]]:
    """A base without generation; a missing adapter method."""
    return {
        "fires": ["AttributeError: 'BertModel' object has no attribute 'prepare_inputs_for_generation'"],
        "silent": ["AttributeError: 'LlamaForCausalLM' object has no attribute 'disable_adapter'"],
    }
