"""The adapter was trained with more tokens than the base has.

What this means: the embedding, the head, or a LoRA on one of them has more rows in the file than in the base. The rest of
the adapter fits. The load raises a size mismatch.

Why it happens: the training added tokens (`add_special_tokens`, `setup_chat_format`, a pad token, `pad_to_multiple_of=64`)
and resized the base; the base that is loaded now was not resized.

Detection: every mismatch is one of rows of the embedding or the head, the file has more of them, and nothing else differs.
If the tokenizer beside the adapter has exactly the base's rows, the base was shrunk instead: that is another cause.

Fix: resize the base to the adapter's rows before the adapter is loaded. Editing `vocab_size` in config.json does not help.

Workaround: none that keeps the new tokens: `ignore_mismatched_sizes=True` loads and leaves the embedding untrained.

Prevention: save the tokenizer beside the adapter, and resize to `len(tokenizer)` wherever the base is loaded.

Setup:
    model = AutoModelForCausalLM.from_pretrained("base")
    model.resize_token_embeddings(66)  # two tokens were added for the training
    trained = train(model, LoraConfig(**OPTIONS, modules_to_save=["embed_tokens", "lm_head"]))

Broken:
    base = AutoModelForCausalLM.from_pretrained("base")
    model = PeftModel.from_pretrained(base, "adapter")
    # raises RuntimeError: size mismatch for base_model.model.model.embed_tokens.modules_to_save.default.weight: copying a param with shape torch.Size([66, 32]) from checkpoint, the shape in current model is torch.Size([64, 32]).

Fixed:
    base = AutoModelForCausalLM.from_pretrained("base")
    base.resize_token_embeddings(66)  # the rows of the adapter, before it is loaded
    model = PeftModel.from_pretrained(base, "adapter")
    as_trained(model)  # -> True
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapterfit.causes.cause import Cause, finding
from adapterfit.causes.heard import line_of, said, suspect
from adapterfit.causes.sizes import sizes_of, tokenizer_length
from adapterfit.causes.vocabulary._rows import resize, rows
from adapterfit.records import Case, Diff, Finding, Fix, Suspicion

if TYPE_CHECKING:
    from adapterfit.symptoms import Symptoms

CAUSE = Cause(
    minutes=2,
    messages=(
        (
            "size mismatch for base_model.model.lm_head.modules_to_save.default.weight: copying a param with shape "
            "torch.Size([128258, 4096]) from checkpoint, the shape in current model is torch.Size([128256, 4096])."
        ),
    ),
    needs=("diff",),
)


def check(case: Case, diff: Diff) -> Iterator[Finding]:
    """One finding for all tensors with more rows than the base."""
    found = rows(case, diff)
    if found is None or found.adapter <= found.base or found.base_was_resized:
        return
    message = (
        f"the adapter has {found.adapter:,} vocabulary rows ({found.modules}), the base has {found.base:,}{found.said}"
    )
    cure = resize(found.adapter)
    if found.either:
        message += (
            f". Either tokens were added in training and the rows padded to {found.adapter:,}, or the base was shrunk to "
            "its tokenizer by whoever loaded or saved it"
        )
        cure = f"if tokens were added: {cure}; if not, load the base as it was published, without resizing"
    yield finding(
        message,
        at=[entry.tensor for entry in found.entries],
        predicted="raises",
        confidence="medium" if found.either else "high",
        expected=f"{found.base:,} rows",
        found=f"{found.adapter:,} rows",
        fix=Fix("unsafe", cure),
    )


def examples(make: Any) -> dict[str, list[Any]]:
    """Saved embeddings and heads, a LoRA on the embedding, on a smaller vocabulary; a wider base is another base."""
    grown = make.base("llama", vocab_size=258)
    saved = make.lora("llama", base=grown, modules_to_save=["embed_tokens", "lm_head"])
    target = make.lora("llama", base=grown, target_modules=["q_proj", "embed_tokens"])
    return {
        "fires": [
            saved.on("llama"),
            target.on("llama"),
            saved.on("llama").with_tokenizer(258),
            saved.on("llama").with_tokenizer(257),
            saved.with_config(r=8).on("llama"),
            make.lora("llama", base=grown, target_modules=["q_proj", "lm_head"]).on("llama"),
            make.lora("t5", target_modules=["q"], modules_to_save=["shared"], task_type="SEQ_2_SEQ_LM").on(
                "t5", vocab_size=250
            ),
        ],
        "silent": [
            make.lora("llama", modules_to_save=["lm_head"]),
            saved.on("llama", hidden_size=96),
            make.lora("llama", modules_to_save=["lm_head"]).on("llama", vocab_size=300),
            make.lora("llama", modules_to_save=["lm_head"]).on("llama", vocab_size=250).with_tokenizer(250),
            make.lora("bert", target_modules=["query"], task_type="SEQ_CLS").on(
                "bert", id2label={"0": "A", "1": "B"}, label2id={"A": 0, "B": 1}
            ),
        ],
    }


#: Words that speak of this cause where no symptom decides.
HINTS = (
    "resize_token_embeddings", "added tokens", "add_tokens", "new tokens", "resize_vocab", "vocab_size", "special tokens", "pad token", "setup_chat_format", "pad_to_multiple_of", "扩充词表", "扩展词表", "词表",
)  # fmt: skip


#: Words of a changed vocabulary.
_GREW = (
    "add_tokens",
    "added tokens",
    "new tokens",
    "special tokens",
    "resize_token_embeddings",
    "extended vocabulary",
    "expanded vocab",
    "词表",
    "vocab size",
    "vocabulary size",
)
#: Functions in which a traceback that is cut off points here: library and name → how likely it is.
STOPS = {("peft", "set_peft_model_state_dict"): 0.45, ("transformers", "_load_state_dict_into_meta_model"): 0.4}

#: torch, where rows are added; the least vocabulary, and how many tokens are added to one at most.
_ADDED = re.compile(
    r"size of tensor a \((\d{1,7})\) must match the size of tensor b \((\d{1,7})\) at non-singleton dimension 0",
    re.IGNORECASE,
)
_LEAST, _TOKENS = 20_000, 1_024


def recognise(symptoms: Symptoms) -> Iterator[Suspicion]:
    """From a log: rows of the embedding or the head, more in the file than in the model."""
    found = sizes_of(symptoms, "vocabulary-grown")
    if found is not None:
        base = f"{found.model:,}" if found.model else "fewer"
        yield suspect(
            symptoms,
            f"the adapter was saved with {found.file:,} rows, the base that is loaded has {base}"
            if found.file
            else "the adapter was saved with another number of rows than the base has",
            found.likelihood,
            found.lines,
            fix=resize(found.file)
            if found.file
            else "base.resize_token_embeddings(ROWS), ROWS being the larger number",
            apart="len(tokenizer) of the tokenizer saved with the adapter: the adapter's rows, or padded to them, if tokens were added",
        )
    elif not symptoms.misshapen and said(symptoms, "size mismatch", most=1) and (words := said(symptoms, *_GREW)):
        yield suspect(
            symptoms, "sizes do not fit, and the vocabulary was changed", 0.6, words, fix="base.resize_token_embeddings(ROWS), ROWS being those in the adapter",
            apart="the line `size mismatch for …`: rows of embed_tokens and lm_head mean this cause",
        )  # fmt: skip
    elif symptoms.folded.count("embed_tokens") and "assert" in symptoms.folded and ".shape" in symptoms.folded:
        yield suspect(
            symptoms,
            "a script asserts that the embeddings of base and adapter have the same shape, and they have not",
            0.65,
            said(symptoms, "assert"),
            fix=f"base.resize_token_embeddings({tokenizer_length(symptoms) or 'len(tokenizer)'}) before the adapter is loaded",
            apart="the rows of embed_tokens in the adapter's file: adapterfit check ADAPTER --base BASE",
        )
    yield from _added(symptoms)


def _added(symptoms: Symptoms) -> Iterator[Suspicion]:
    """A script adds two matrices of embeddings: no other size of a model is as large as its vocabulary, and nearly the same."""
    sizes = _ADDED.search(symptoms.text)
    if sizes is None:
        return
    one, other = int(sizes[1]), int(sizes[2])
    if min(one, other) >= _LEAST and 0 < abs(one - other) <= _TOKENS:
        yield suspect(
            symptoms, f"one of the two has a vocabulary of {one:,}, the other of {other:,}", 0.6, [line_of(symptoms, sizes.start())],
            fix=f"base.resize_token_embeddings({max(one, other)}) before the two meet, or merge before tokens are added",
            apart="the rows of embed_tokens in both: adapterfit check ADAPTER --base BASE",
        )  # fmt: skip


def logs() -> dict[str, list[str]]:
    """Rows that grew by two, and by padding; the opposite; another width, too; an empty tensor."""
    line = "size mismatch for base_model.model.{}: copying a param with shape torch.Size([{}]) from checkpoint, the shape in current model is torch.Size([{}])."
    return {
        "fires": [
            line.format("lm_head.modules_to_save.default.weight", "32002, 4096", "32000, 4096"),
            line.format("model.embed_tokens.base_layer.weight", "50304, 768", "50257, 768"),
            "RuntimeError: The size of tensor a (32000) must match the size of tensor b (32002) at non-singleton dimension 0",
            'ValueError: Trying to set a tensor of shape torch.Size([128258, 2048]) in "weight" (which has shape torch.Size([128256, 2048])), this looks incorrect.',
        ],
        "silent": [
            "RuntimeError: The size of tensor a (32000) must match the size of tensor b (64000) at non-singleton dimension 0",
            "RuntimeError: The size of tensor a (32000) must match the size of tensor b (32002) at non-singleton dimension 1",
            line.format("lm_head.modules_to_save.default.weight", "32000, 4096", "32002, 4096"),
            line.format("model.embed_tokens.weight", "0", "32002, 4096"),
            "\n".join(
                (
                    line.format("model.embed_tokens.weight", "128258, 4096", "32000, 5120"),
                    line.format("model.layers.0.self_attn.q_proj.lora_A.default.weight", "8, 4096", "8, 5120"),
                )
            ),
        ],
    }
