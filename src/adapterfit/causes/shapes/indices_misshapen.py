"""SHiRA's indices do not go with its weights.

What this means: `shira_indices` says where each entry of `shira_weight` lies, one row and one column per entry. PEFT takes the
indices out of the file without looking at their shape, so the load succeeds, and the first forward pass raises.

Why it happens: one of the two comes from another rank or another base, or was transposed or cut on the way.

Detection: the shape of the indices beside the number of weights the config asks for.

Fix: take weights and indices of one training.

Workaround: none; where the entries lie cannot be guessed.

Prevention: keep the adapter's files of one run together.

Setup:
    options = peft.ShiraConfig(r=1, target_modules=["q_proj", "v_proj"])
    trained = train(AutoModelForCausalLM.from_pretrained("base"), options)
    tensors = load_file(WEIGHTS)
    turned = {name: tensor.T.contiguous() if "indices" in name else tensor for name, tensor in tensors.items()}
    save_file(turned, WEIGHTS, {"format": "pt"})

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")  # says nothing
    logits(model)
    # raises RuntimeError: 'len(size) == sparse_dim + dense_dim' is not satisfied

Fixed:
    tensors = load_file("adapter/adapter_model.safetensors")
    turned = {name: tensor.T.contiguous() if "indices" in name else tensor for name, tensor in tensors.items()}
    save_file(turned, "adapter/adapter_model.safetensors")
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.records import Case, Diff, Finding, Fix
from adapterfit.text import show

CAUSE = Cause(
    level="advanced",
    minutes=10,
    messages=(
        "RuntimeError: indices and values must have same nnz, but got nnz from indices: 255, nnz from values: 256",
        "RuntimeError: 'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = 2, sparse_dim = 256, dense_dim = 0",
    ),
    versions="peft >= 0.17",
    needs=("config", "diff"),
)


def check(_case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all indices of another shape than their weights ask for."""
    if diff.expectation.config.get("peft_type") != "SHIRA" or diff.raised is not None:
        return
    wrong = [match for match in diff.matched if match.tensor.shape != match.slot.shape]
    if not wrong:
        return
    first = wrong[0]
    yield finding(
        f"{show(first.tensor.name)} has the shape {first.tensor.shape}, its weights need {first.slot.shape}: PEFT loads it without "
        "a word, and the first forward pass raises",
        at=[match.tensor for match in wrong],
        predicted="silent",
        found=str(first.tensor.shape),
        expected=str(first.slot.shape),
        fix=Fix("unsafe", "take weights and indices of one training"),
        differs=True,
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Indices transposed, and too few; whole adapters."""
    plain = make.adapter("llama", peft_type="SHIRA", r=2, target_modules=["q_proj", "v_proj"])
    return {
        "fires": [
            plain.reshaped(lambda name: "indices" in name, lambda shape: shape[::-1]),
            plain.reshaped(lambda name: "0.self_attn.q_proj.shira_indices" in name, lambda shape: (2, shape[1] - 1)),
        ],
        "silent": [plain, make.lora("llama"), plain.with_config(r=3), plain.dropped(lambda name: "indices" in name)],
    }
