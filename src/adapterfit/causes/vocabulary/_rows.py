"""The three numbers of a vocabulary problem: rows in the adapter, rows of the base, tokens of the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from adapterfit.causes import evidence
from adapterfit.records import Case, Diff, Misshape


@dataclass(frozen=True)
class Rows:
    """`adapter` and `base` rows of the tensors concerned, `tokens` where a tokenizer lies beside either of them."""

    entries: tuple[Misshape, ...]
    adapter: int
    base: int
    tokens: int | None
    tokens_from: str


def rows(case: Case, diff: Diff) -> Rows | None:
    """The numbers, where every mismatch of the load is one of vocabulary rows alone; else None.

    A mismatch in another dimension, or in another module, means another base: the vocabulary is only a symptom then.
    """
    entries = tuple(diff.misshapen)
    pairs = {pair for entry in entries for pair in [_vocabulary(entry, diff)]}
    if not entries or len(pairs) != 1 or None in pairs:
        return None
    ((adapter, base),) = (pair for pair in pairs if pair is not None)
    beside = case.adapter.tokenizer_rows
    tokens = beside if beside is not None else case.base.tokenizer_rows if case.base is not None else None
    return Rows(entries, adapter, base, tokens, "the adapter" if beside is not None else "the base")


def _vocabulary(entry: Misshape, diff: Diff) -> tuple[int, int] | None:
    """Rows in the file and rows wanted, where they are all that differs and the module is an embedding or the head."""
    tree = diff.expectation.tree
    leaf = evidence.parts(entry.key).leaf
    module = entry.module or evidence.parts(entry.key).module.rpartition(".")[0].removesuffix(".base_layer")
    if module not in {tree.input_embeddings, tree.output_embeddings} or len(entry.found) != len(entry.wanted):
        return None
    unequal = [at for at, (one, other) in enumerate(zip(entry.found, entry.wanted)) if one != other]
    axis = 1 if leaf.startswith("lora_embedding_A") else 0
    return (entry.found[axis], entry.wanted[axis]) if unequal == [axis] else None


def resize(rows_wanted: int) -> str:
    """The line of code that gives the base so many rows."""
    return f"base.resize_token_embeddings({rows_wanted}) before PeftModel.from_pretrained"
