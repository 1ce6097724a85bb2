"""The base's vocabulary is larger than the server's LoRA kernels can take.

What this means: with LoRA on, vLLM wraps the head too, and its kernels were written for vocabularies within a range. Outside of
it the server does not start, or finds no kernel, whatever the adapter holds.

Why it happens: an older vLLM (its range was 32,000 to 128,512, later 257,024) and a model with a larger or smaller vocabulary.

An adapter that adds more tokens than the server keeps room for (`lora_extra_vocab_size`, 256) is refused in the same place.

Detection: the range in the message, or a kernel that is missing for an odd width.

Fix: upgrade vLLM; newer ones wrap the head only where an adapter needs it.

Workaround: merge the adapter and serve without LoRA.

Prevention: none needed with a current server.

Not run: it needs an older vLLM and a GPU, for which its LoRA kernels were compiled.

Broken:
    llm = LLM("a-base-with-152064-rows", enable_lora=True)  # vllm 0.5: its kernels end at 128512

Fixed:
    PeftModel.from_pretrained(base, "adapter").merge_and_unload().save_pretrained("merged")
    llm = LLM("merged")  # or pip install -U vllm
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapterfit.causes.cause import Cause
from adapterfit.causes.heard import after, line_of, said, suspect
from adapterfit.records import Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    level="advanced",
    minutes=10,
    messages=(
        "ValueError: When using LoRA, vocab size must be 32000 >= vocab_size <= 128512",
        "RuntimeError: No suitable kernel. h_in=16 h_out=3424 dtype=Float out_dtype=BFloat16",
        "ValueError: LoRA added vocab size 300 is greater than lora_extra_vocab_size 256.",
    ),
)

#: Words that speak of this cause where no symptom decides.
HINTS = (
    "vocab size must be", "vocabulary size", "large vocabulary", "lora-extra-vocab-size", "lora_extra_vocab_size", "bgmv", "punica",
)  # fmt: skip

#: Two numbers of rows.
_ROWS = re.compile(r"size of tensor a \((\d{5,6})\) must match the size of tensor b \((\d{5,6})\)")
#: The values that vLLM takes for lora_extra_vocab_size.
_ROOM = (256, 512)


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the server's words."""
    told = said(symptoms, "when using lora, vocab size must be", "vocab size must be 32000", "no suitable kernel")
    added = said(symptoms, "is greater than lora_extra_vocab_size")
    if added:
        number = after(symptoms, "added vocab size ", 12).partition(" ")[0]
        size = int(number) if number.isascii() and number.isdigit() else 0
        room = next((value for value in _ROOM if size and value >= size), 0)
        yield suspect(
            symptoms, f"the adapter adds {size or 'more'} tokens{'' if size else ' than the server keeps room for'}, and the server was started for fewer", 0.93, added,
            fix=f"start the server with --lora-extra-vocab-size {room}, or merge the adapter" if room
            else "newer servers take no adapter that adds tokens, older ones at most 512: merge the adapter and serve the merged model",
        )  # fmt: skip
    rows = _ROWS.search(symptoms.text) if said(symptoms, "extra_vocab_size", "extra-vocab-size", most=1) else None
    if rows is not None and abs(int(rows[1]) - int(rows[2])) < int(rows[1]) // 10:
        yield suspect(
            symptoms, f"the server's rows of the vocabulary, {rows[1]}, are not those of the model, {rows[2]}", 0.7, [line_of(symptoms, rows.start())],
            fix="resize and save the base with the adapter's tokens, or merge the adapter and serve the merged model",
            apart="the rows of embed_tokens in the base and in the adapter",
        )  # fmt: skip
    if told:
        yield suspect(
            symptoms, "the server's LoRA kernels do not take this base's vocabulary, or a width of it", 0.93, told,
            fix="upgrade vLLM, or merge the adapter and serve without --enable-lora",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """A range, a kernel; rows that differ are another cause."""
    return {
        "fires": [
            "LLM(base, enable_lora=True, lora_extra_vocab_size=512)\nRuntimeError: The size of tensor a (32768) must match the size of tensor b (32004) at non-singleton dimension 0",
            "ValueError: When using LoRA, vocab size must be 32000 >= vocab_size <= 257024",
            "RuntimeError: No suitable kernel. h_in=64 h_out=152064 dtype=Float",
            "ValueError: LoRA added vocab size 700 is greater than lora_extra_vocab_size 256.",
        ],
        "silent": [
            "size mismatch for base_model.model.lm_head.weight: copying a param with shape torch.Size([32001, 64]) from checkpoint, the shape in current model is torch.Size([32000, 64])."
        ],
    }
