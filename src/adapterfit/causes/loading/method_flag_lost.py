"""The file holds tensors of a variant that the config does not switch on.

What this means: DoRA's magnitudes, a LoRA bias, KaSA's diagonal or single token rows are in the file, but the flag that makes
PEFT create their place is missing. They are dropped without a word; the rest loads, and the model computes something else.

Why it happens: the config was written by hand, by another program, or by an older PEFT that dropped the field.

Detection: the names end in what only that variant saves, and every targeted module has one.

Fix: switch the variant on in adapter_config.json. adapterfit offers it where all such tensors then land.

Workaround: none: without the flag there is no place for them.

Prevention: keep the config that PEFT wrote; load with a PEFT at least as new as the one that saved.

Setup:
    trained = train(AutoModelForCausalLM.from_pretrained("base"), LoraConfig(**OPTIONS, use_dora=True))
    change_config(use_dora=False)  # a tool that does not know the field dropped it

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing; lora_magnitude_vector is dropped
    as_trained(model)  # -> False
    found()  # -> ['method-flag-lost']

Fixed:
    change_config(use_dora=True)
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes import evidence
from adapterfit.causes.cause import Cause, finding
from adapterfit.edits import SetConfig
from adapterfit.records import Case, Diff, Finding, Fix, TensorInfo

CAUSE = Cause(
    level="intermediate",
    minutes=2,
    messages=("(none: the load reports nothing)",),
    needs=("config", "diff"),
)
#: What a name ends with → the field that makes a place for it, its value, and what it is called.
_FLAGS = {
    "lora_magnitude_vector": ("use_dora", True, "DoRA's magnitudes"),
    "lora_magnitude_vector.weight": ("use_dora", True, "DoRA's magnitudes"),
    "lora_B.bias": ("lora_bias", True, "LoRA's biases"),
    "lora_diag": ("kasa_config", {}, "KaSA's diagonals"),
}
_ROWS = ".token_adapter.trainable_tokens_delta"


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding per variant whose tensors are dropped because its flag is off."""
    if case.adapter.config is None or case.adapter.config.peft_type != "LORA" or diff.raised is not None:
        return
    dropped: dict[str, list[TensorInfo]] = {}
    for tensor in diff.extra:
        leaf = evidence.parts(tensor.name).leaf
        if leaf in _FLAGS and not diff.expectation.config.get(_FLAGS[leaf][0]):
            dropped.setdefault(_FLAGS[leaf][0], []).append(tensor)
    for field, tensors in dropped.items():
        yield _flag(field, tensors, diff)
    rows = [tensor for tensor in diff.extra if tensor.name.endswith(_ROWS)]
    if rows and diff.expectation.config.get("trainable_token_indices") is None:
        yield _rows(rows)


def _flag(field: str, tensors: list[TensorInfo], diff: Diff) -> Finding:
    _, value, what = _FLAGS[evidence.parts(tensors[0].name).leaf]
    modules = {evidence.parts(tensor.name).module for tensor in tensors}
    complete = modules == set(diff.expectation.targets)
    edits = (SetConfig(field, value),) if complete else ()
    return finding(
        f"{evidence.count(len(tensors), 'tensor')} are {what}, but {field} is not set: they are dropped",
        at=tensors,
        predicted="silent",
        expected=f"{field}: {value}",
        found=f"{field}: {diff.expectation.config.get(field)}",
        fix=Fix("safe" if complete else "unsafe", f"set {field} to {str(value).lower()}", edits),
    )


def _rows(rows: list[TensorInfo]) -> Finding:
    count = rows[0].shape[0] if rows[0].shape else 0
    return finding(
        f"the file has {count} trained token rows, but trainable_token_indices is not set: they are dropped",
        at=rows,
        predicted="silent",
        expected=f"trainable_token_indices: {count} token numbers",
        found="trainable_token_indices: null",
        fix=Fix("unsafe", f"set trainable_token_indices to the {count} tokens of the training, in its order"),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Each flag lost; the flags kept; a file of another method is another cause."""
    dora = make.lora("llama", use_dora=True)
    bias = make.lora("gpt2", target_modules=["c_attn"], lora_bias=True)
    rows = make.lora("llama", trainable_token_indices=[3, 5])
    return {
        "fires": [
            dora.without_config("use_dora"),
            bias.with_config(lora_bias=False),
            make.lora("llama", kasa_config={}).without_config("kasa_config"),
            rows.without_config("trainable_token_indices"),
        ],
        "silent": [
            dora,
            bias,
            rows,
            make.lora("llama"),
            make.lora("llama").added({"base_model.model.x.lora_diagonal": (4,)}),
        ],
    }
