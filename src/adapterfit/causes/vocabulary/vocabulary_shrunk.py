"""The adapter was trained with fewer rows than the base has.

What this means: the embedding, the head, or a LoRA on one of them has fewer rows in the file than the base. Nothing else
differs. The load raises a size mismatch.

Why it happens: many bases are padded beyond their tokenizer (151,936 rows for 151,665 tokens). A trainer that calls
`resize_token_embeddings(len(tokenizer))` shrinks them, and the adapter is saved at that size.

Detection: every mismatch is one of rows, and the file has fewer. Where a tokenizer is known, its size is the file's rows.

Fix: resize the base down to the adapter's rows before the adapter is loaded. No version of a library helps.

Workaround: pad the file's rows with the base's own last rows; they belong to no token.

Prevention: resize only when tokens were added, and only upwards.

Setup:
    model = AutoModelForCausalLM.from_pretrained("base")
    model.resize_token_embeddings(60)  # to len(tokenizer): the base's last rows belong to no token
    trained = train(model, LoraConfig(**OPTIONS, modules_to_save=["embed_tokens", "lm_head"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch for base_model.model.model.embed_tokens.modules_to_save.default.weight: copying a param with shape torch.Size([60, 32]) from checkpoint, the shape in current model is torch.Size([64, 32]).

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    base.resize_token_embeddings(60)
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import suspect
from adapterfit.causes.sizes import sizes_of
from adapterfit.causes.vocabulary._rows import resize, rows
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        (
            "size mismatch for base_model.model.model.embed_tokens.weight: copying a param with shape "
            "torch.Size([151665, 896]) from checkpoint, the shape in current model is torch.Size([151936, 896])."
        ),
    ),
    needs=("diff",),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding, unless the base itself was given the tokenizer's rows by whoever loaded it."""
    found = rows(case, diff)
    if found is None or found.adapter >= found.base or found.base_was_resized:
        return
    yield finding(
        f"the adapter has {found.adapter:,} vocabulary rows ({found.modules}), the base has {found.base:,}{found.said}: the "
        "base was shrunk in training" + (" to its tokenizer" if found.tokens == found.adapter else ""),
        at=[entry.tensor for entry in found.entries],
        predicted="raises",
        confidence="high" if found.tokens == found.adapter else "medium",
        expected=f"{found.base:,} rows",
        found=f"{found.adapter:,} rows",
        fix=Fix("unsafe", resize(found.adapter)),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """A saved head and a LoRA on the embedding, on a padded base; the same rows are fine."""
    shrunk = make.base("llama", vocab_size=250)
    saved = make.lora("llama", base=shrunk, modules_to_save=["lm_head"])
    target = make.lora("llama", base=shrunk, target_modules=["q_proj", "embed_tokens"])
    return {
        "fires": [saved.on("llama"), saved.on("llama").with_tokenizer(250), target.on("llama")],
        "silent": [
            saved,
            target,
            saved.on("llama").with_tokenizer(256),
            saved.on("llama", vocab_size=200),
            saved.on("llama", hidden_size=96),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "padded vocab", "padding rows", "smaller vocabulary",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: rows of the embedding or the head, fewer in the file than in the model."""
    found = sizes_of(symptoms, "vocabulary-shrunk")
    if found is not None:
        base = f"{found.model:,}" if found.model else "another number"
        yield suspect(
            symptoms,
            f"the adapter was saved with {found.file:,} rows, the base that is loaded has {base}"
            if found.file
            else "the adapter may have been saved with fewer rows than the base has",
            found.likelihood,
            found.lines,
            fix=resize(found.file)
            if found.file
            else "base.resize_token_embeddings(ROWS), ROWS being the adapter's number",
            apart="len(tokenizer): equal to the adapter's rows if the trainer cut the base down to it",
        )


def logs() -> dict[str, list[str]]:
    """A trainer that cut the padding; the opposite; a LoRA on the head."""
    line = "size mismatch for base_model.model.{}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("model.embed_tokens.weight", "151646, 2048", "151936, 2048"),
            line.format("lm_head.lora_B.default.weight", "50304, 16", "51200, 16"),
        ],
        "silent": [line.format("model.embed_tokens.weight", "32016, 4096", "32000, 4096")],
    }
