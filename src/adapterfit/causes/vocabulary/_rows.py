"""The three numbers of a vocabulary problem: rows in the adapter, rows of the base, tokens of the tokenizer.

Which of them agree says who changed the vocabulary, and so which of two opposite cures is the right one.
"""

from __future__ import annotations

from adapterfit.causes import evidence
from adapterfit.causes.shapes.rank_mismatch import differs
from adapterfit.record import dataclass
from adapterfit.records import Case, Diff, Misshape
from adapterfit.text import show

#: Vocabularies are padded to a multiple of this at least.
PADDING = 64


@dataclass(frozen=True)
class Rows:
    """Rows of the tensors concerned, in the `adapter` and in the `base`; tokens of the tokenizer beside either of them."""

    entries: tuple[Misshape, ...]
    adapter: int
    base: int
    adapter_tokens: int | None
    base_tokens: int | None

    @property
    def tokens(self) -> int | None:
        """The adapter's tokenizer's, which is the training's; else the base's."""
        return self.adapter_tokens if self.adapter_tokens is not None else self.base_tokens

    @property
    def said(self) -> str:
        """`; the tokenizer beside the adapter has 32,001 tokens`, or nothing."""
        beside = "adapter" if self.adapter_tokens is not None else "base"
        return f"; the tokenizer beside the {beside} has {self.tokens:,} tokens" if self.tokens is not None else ""

    @property
    def modules(self) -> str:
        """The modules concerned, by their last names."""
        names = (_module(entry) for entry in self.entries)
        return " and ".join(show(name) for name in dict.fromkeys(name.rpartition(".")[2] for name in names))

    @property
    def base_was_resized(self) -> bool:
        """The training's tokenizer has exactly the base's rows, and the file another, padded or smaller, number."""
        unlike = self.adapter < self.base or self.adapter % PADDING == 0
        return self.adapter_tokens == self.base and unlike

    @property
    def either(self) -> bool:
        """Nothing tells tokens that were added and padded from a base that was shrunk to its tokenizer."""
        shrunk = self.adapter_tokens is None and self.base_tokens == self.base and self.base % PADDING != 0
        return shrunk and self.adapter > self.base and self.adapter % PADDING == 0


def rows(case: Case, diff: Diff) -> Rows | None:
    """The numbers, where every mismatch of the load is one of vocabulary rows, or of the rank; else None.

    A mismatch in another dimension, or in another module, means another base: the vocabulary is only a symptom then.
    """
    ends = _ends(diff)
    found = {entry: _vocabulary(entry, ends) for entry in diff.misshapen}
    pairs = {pair for pair in found.values() if pair is not None}
    if len(pairs) != 1 or any(pair is None and differs(entry) != "rank" for entry, pair in found.items()):
        return None
    ((adapter, base),) = pairs
    entries = tuple(entry for entry, pair in found.items() if pair is not None)
    base_tokens = case.base.tokenizer_rows if case.base is not None else None
    return Rows(entries, adapter, base, case.adapter.tokenizer_rows, base_tokens)


def _ends(diff: Diff) -> set[str]:
    """The modules with a row per token: both embeddings and what is tied to them."""
    tree = diff.expectation.tree
    ends = {name for name in (tree.input_embeddings, tree.output_embeddings) if name}
    for group in tree.tied:
        modules = {name.rpartition(".")[0] for name in group}
        ends |= modules if modules & ends else set()
    if ends:
        return ends
    rows = tree.config.get("vocab_size")
    return {m.name for m in tree.modules if m.kind == "Embedding" and m.params.get("weight", (None,))[0] == rows}


def _module(entry: Misshape) -> str:
    """The module a tensor lands in; a parameter of the base itself has its name only."""
    plain = evidence.parts(entry.key).module.rpartition(".")[0]
    return entry.module or (plain[: -len(".base_layer")] if plain.endswith(".base_layer") else plain)


def _vocabulary(entry: Misshape, ends: set[str]) -> tuple[int, int] | None:
    """Rows in the file and rows wanted, where they are all that differs and the module is an embedding or the head."""
    if _module(entry) not in ends or len(entry.found) != len(entry.wanted):
        return None
    unequal = [at for at, (one, other) in enumerate(zip(entry.found, entry.wanted)) if one != other]
    axis = 1 if evidence.parts(entry.key).leaf.startswith("lora_embedding_A") else 0
    return (entry.found[axis], entry.wanted[axis]) if unequal == [axis] else None


def resize(rows_wanted: int) -> str:
    """The line of code that gives the base so many rows."""
    return f"base.resize_token_embeddings({rows_wanted}) before PeftModel.from_pretrained"
