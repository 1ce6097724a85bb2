"""The base was resized by whoever loaded it; the adapter and the base's files agree.

What this means: the file's rows are those of the base as it is published, but the model in memory has another number,
usually that of the tokenizer. The load raises a size mismatch although the files are right.

Why it happens: `AutoPeftModelForCausalLM` before PEFT 0.15, evaluation harnesses and scripts call
`resize_token_embeddings(len(tokenizer))` on every base, which shrinks a padded vocabulary.

Detection: the base has exactly as many rows as the tokenizer beside the adapter has tokens, and the adapter has another, padded
number (or a smaller one): so the training, which had that tokenizer, did not resize, and the loader did. Where only the base's
own tokenizer is known, added and padded tokens look the same: then `vocabulary-grown` names both readings.

Fix: load the base with its own class and the adapter with `PeftModel.from_pretrained`, without resizing.

Workaround: `base.resize_token_embeddings(<rows of the adapter>)`: the rows that come back are random, and belong to no
token.

Prevention: PEFT 0.15 or later; resize upwards only.

Setup:
    base = AutoModelForCausalLM.from_pretrained("base")
    trained = train(base, LoraConfig(**OPTIONS, modules_to_save=["embed_tokens", "lm_head"]))
    tokenizer(60).save_pretrained("adapter")  # 60 tokens, on a base with 64 rows

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    base.resize_token_embeddings(len(AutoTokenizer.from_pretrained("adapter")))  # so does AutoPeftModel of PEFT < 0.15
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch for base_model.model.model.embed_tokens.modules_to_save.default.weight: copying a param with shape torch.Size([64, 32]) from checkpoint, the shape in current model is torch.Size([60, 32]).

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
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
    level="intermediate",
    minutes=5,
    messages=(
        (
            "size mismatch for base_model.model.lm_head.modules_to_save.default.weight: copying a param with shape "
            "torch.Size([151936, 896]) from checkpoint, the shape in current model is torch.Size([151665, 896])."
        ),
    ),
    versions="AutoPeftModelFor... of peft < 0.15.0",
    needs=("diff",),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding where the base's rows are exactly the training's tokens and the file's are not."""
    found = rows(case, diff)
    if found is None or not found.base_was_resized:
        return
    done = "shrunk to it" if found.base < found.adapter else "grown to it"
    yield finding(
        f"the base has {found.base:,} rows, exactly the tokens of the tokenizer beside the adapter; the adapter itself "
        f"({found.modules}) has {found.adapter:,}: the base was {done} by whoever loaded or saved it, the training was not",
        at=[entry.tensor for entry in found.entries],
        predicted="raises",
        confidence="high" if found.base < found.adapter else "medium",
        expected=f"{found.adapter:,} rows, as in training",
        found=f"{found.base:,} rows",
        fix=Fix("unsafe", f"load the base with its own class, without resizing; or {resize(found.adapter)}"),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """A base of 250 rows for 250 tokens, an adapter of 256; the other way; without the tokenizer nothing says so."""
    saved = make.lora("llama", modules_to_save=["lm_head"])
    return {
        "fires": [
            saved.on("llama", vocab_size=250).with_tokenizer(250),
            make.lora("llama", target_modules=["lm_head"]).on("llama", vocab_size=250).with_tokenizer(250),
            saved.on("llama", vocab_size=260).with_tokenizer(260),
        ],
        "silent": [
            saved,
            saved.on("llama", vocab_size=250, hidden_size=96).with_tokenizer(250),
            saved.on("llama", vocab_size=250),
            saved.on("llama", vocab_size=250).with_tokenizer(256),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "autopeftmodel", "resizes the embedding", "resized to len(tokenizer)", "resize_model_vocab",
)  # fmt: skip


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: the file has the published, padded number of rows, the model the tokenizer's."""
    found = sizes_of(symptoms, "base-resized-by-loader")
    if found is not None and found.file:
        now = f"{found.model:,}" if found.model else "another number"
        yield suspect(
            symptoms,
            f"the adapter has the base's own {found.file:,} rows; whoever loaded the base resized it to {now}",
            found.likelihood,
            found.lines,
            fix="load the base without resizing it: PeftModel.from_pretrained(base, adapter) instead of AutoPeftModel, or peft >= 0.15",
            apart=f"vocab_size in the base's config.json: {found.file} if the loader resized it",
        )


def logs() -> dict[str, list[str]]:
    """Padded rows in the file, the tokenizer's number in the model; grown by a few tokens."""
    line = "size mismatch for base_model.model.{}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [line.format("lm_head.modules_to_save.default.weight", "152064, 3584", "151669, 3584")],
        "silent": [line.format("lm_head.modules_to_save.default.weight", "32001, 3584", "32000, 3584")],
    }
